# /// script
# requires-python = ">=3.9"
# dependencies = ["tqdm"]
# ///
##
# /// task
# cron = "*/5 * * * * * *"
# [env]
# DATABASE_URL = "crate://crate@localhost:4200/"
# [options]
# schemas = ["foo", "bar"]
# text = """
# two
#   lines
# """
# ///
"""A script of the older scheduler."""


def run(**options):
    return options
