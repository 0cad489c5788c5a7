"""What croniter and APScheduler 3 say about cron expressions, for tests/croniter.rs.

Reads lines `oracle<TAB>expression<TAB>start as seconds since 1970` and answers each with the next 50 moments (UTC, as
seconds, separated by spaces), `error` when the oracle refuses it, or `slow`. Run it through the test:

    python -m venv v && v/bin/pip install croniter 'apscheduler<4'
    OSTLER_TEST_CRONITER=1 OSTLER_TEST_PYTHON=v/bin/python cargo nextest run -p ostler-calendar --test croniter
"""

import signal
import sys
from datetime import datetime, timedelta, timezone

from apscheduler.triggers.cron import CronTrigger
from croniter import croniter

COUNT = 50


def by_croniter(expression, start):
    fields = expression.split()
    seconds_first = len(fields) == 6
    moments = croniter(expression, start, ret_type=float, second_at_beginning=seconds_first, max_years_between_matches=50)
    return [int(moments.get_next()) for _ in range(COUNT)]


def by_apscheduler(expression, start):
    fields = expression.split()
    names = ["second", "minute", "hour", "day", "month", "day_of_week", "year"]
    if len(fields) == 5:
        fields = ["0", *fields]
    trigger = CronTrigger(timezone=timezone.utc, **dict(zip(names, fields)))
    moments, now = [], datetime.fromtimestamp(start, timezone.utc) + timedelta(microseconds=1)
    while len(moments) < COUNT:
        at = trigger.get_next_fire_time(None, now)
        if at is None:
            break
        moments.append(int(at.timestamp()))
        now = at + timedelta(microseconds=1)
    return moments


ORACLES = {"croniter": by_croniter, "apscheduler": by_apscheduler}


class Slow(Exception):
    pass


def too_long(*_):
    raise Slow


def main():
    signal.signal(signal.SIGALRM, too_long)
    for line in sys.stdin:
        oracle, expression, start = line.rstrip("\n").split("\t")
        signal.setitimer(signal.ITIMER_REAL, 2)
        try:
            print(" ".join(str(at) for at in ORACLES[oracle](expression, int(start))))
        except Slow:
            print("slow")
        except Exception:
            print("error")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


main()
