# /// script
# requires-python = ">=3.10"
# dependencies = ["greeting"]
#
# [tool.uv]
# find-links = ["wheels"]
# no-index = true
# ///
"""A script whose dependency is installed for it alone."""

import greeting


def run(**options):
    print(greeting.greet("tour"))
    return {"version": greeting.__version__}
