#!/usr/bin/env python

# /// task
# cron = '* * * * *
# ///
def run(): pass
