# /// task
# corn = '* * * * *'
# cron = '* * * *'
# timeout = 5
#
# env.A = ['x']
# ///
print()
