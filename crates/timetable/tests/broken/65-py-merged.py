# /// script
# dependencies = []
# ///
# /// task
# cron = '* * * * *'
# ///
def run(): pass
