"""What APScheduler 3 says about jobs, for tests/apscheduler.rs.

Reads a map with `jobs` (arguments of triggers), `after` (seconds since 1970) and `count`, and answers with a list: the
next moments of each in UTC, or null where APScheduler refuses it. Run it through the test:

    python -m venv v && v/bin/pip install croniter 'apscheduler<4'
    OSTLER_TEST_CRONITER=1 OSTLER_TEST_PYTHON=v/bin/python cargo nextest run -p ostler-import --test apscheduler
"""

import json
import sys
from datetime import datetime, timedelta, timezone

from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger

TRIGGERS = {"cron": CronTrigger, "interval": IntervalTrigger, "date": DateTrigger}
question = json.load(sys.stdin)


def moments(job):
    made = TRIGGERS[job.pop("trigger")](timezone=timezone.utc, **job)
    found, before = [], None
    now = datetime.fromtimestamp(question["after"], timezone.utc) + timedelta(microseconds=1)
    while len(found) < question["count"]:
        at = made.get_next_fire_time(before, now)
        if at is None or at < now:
            break
        found.append(int(at.timestamp()))
        before, now = at, at + timedelta(microseconds=1)
    return found


def answer(job):
    try:
        return moments(job)
    except (TypeError, ValueError):
        return None


json.dump([answer(job) for job in question["jobs"]], sys.stdout)
