# /// task
# cron = '@daily'

def run():
    pass
