"""Writes tests/golden/rrule.txt: rule | DTSTART | the first local times, as python-dateutil sees them.

    python -m venv v && v/bin/pip install python-dateutil && v/bin/python rrule_golden.py > ../golden/rrule.txt

The first rules are the examples of RFC 5545 section 3.8.5.3; the others are random, from a fixed seed.
"""

import itertools
import random
import signal
from datetime import datetime, timedelta

from dateutil.rrule import rrulestr

EXAMPLES = """\
19970902T090000 FREQ=DAILY;COUNT=10
19970902T090000 FREQ=DAILY;UNTIL=19971224T000000
19970902T090000 FREQ=DAILY;INTERVAL=2
19970902T090000 FREQ=DAILY;INTERVAL=10;COUNT=5
19980101T090000 FREQ=YEARLY;UNTIL=20000131T140000;BYMONTH=1;BYDAY=SU,MO,TU,WE,TH,FR,SA
19980101T090000 FREQ=DAILY;UNTIL=20000131T140000;BYMONTH=1
19970902T090000 FREQ=WEEKLY;COUNT=10
19970902T090000 FREQ=WEEKLY;UNTIL=19971224T000000
19970902T090000 FREQ=WEEKLY;INTERVAL=2;WKST=SU
19970902T090000 FREQ=WEEKLY;COUNT=10;WKST=SU;BYDAY=TU,TH
19970901T090000 FREQ=WEEKLY;INTERVAL=2;UNTIL=19971224T000000;WKST=SU;BYDAY=MO,WE,FR
19970902T090000 FREQ=WEEKLY;INTERVAL=2;COUNT=8;WKST=SU;BYDAY=TU,TH
19970905T090000 FREQ=MONTHLY;COUNT=10;BYDAY=1FR
19970905T090000 FREQ=MONTHLY;UNTIL=19971224T000000;BYDAY=1FR
19970907T090000 FREQ=MONTHLY;INTERVAL=2;COUNT=10;BYDAY=1SU,-1SU
19970922T090000 FREQ=MONTHLY;COUNT=6;BYDAY=-2MO
19970928T090000 FREQ=MONTHLY;BYMONTHDAY=-3
19970902T090000 FREQ=MONTHLY;COUNT=10;BYMONTHDAY=2,15
19970930T090000 FREQ=MONTHLY;COUNT=10;BYMONTHDAY=1,-1
19970910T090000 FREQ=MONTHLY;INTERVAL=18;COUNT=10;BYMONTHDAY=10,11,12,13,14,15
19970902T090000 FREQ=MONTHLY;INTERVAL=2;BYDAY=TU
19970610T090000 FREQ=YEARLY;COUNT=10;BYMONTH=6,7
19970310T090000 FREQ=YEARLY;INTERVAL=2;COUNT=10;BYMONTH=1,2,3
19970101T090000 FREQ=YEARLY;INTERVAL=3;COUNT=10;BYYEARDAY=1,100,200
19970519T090000 FREQ=YEARLY;BYDAY=20MO
19970512T090000 FREQ=YEARLY;BYWEEKNO=20;BYDAY=MO
19970313T090000 FREQ=YEARLY;BYMONTH=3;BYDAY=TH
19970605T090000 FREQ=YEARLY;BYDAY=TH;BYMONTH=6,7,8
19970902T090000 FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13
19970913T090000 FREQ=MONTHLY;BYDAY=SA;BYMONTHDAY=7,8,9,10,11,12,13
19961105T090000 FREQ=YEARLY;INTERVAL=4;BYMONTH=11;BYDAY=TU;BYMONTHDAY=2,3,4,5,6,7,8
19970904T090000 FREQ=MONTHLY;COUNT=3;BYDAY=TU,WE,TH;BYSETPOS=3
19970929T090000 FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-2
19970902T090000 FREQ=HOURLY;INTERVAL=3;UNTIL=19970902T170000
19970902T090000 FREQ=MINUTELY;INTERVAL=15;COUNT=6
19970902T090000 FREQ=MINUTELY;INTERVAL=90;COUNT=4
19970902T090000 FREQ=DAILY;BYHOUR=9,10,11,12,13,14,15,16;BYMINUTE=0,20,40
19970902T090000 FREQ=MINUTELY;INTERVAL=20;BYHOUR=9,10,11,12,13,14,15,16
19970805T090000 FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=MO
19970805T090000 FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=SU
20070115T090000 FREQ=MONTHLY;BYMONTHDAY=15,30;COUNT=5
""".splitlines()

DAYS = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"]


def some(r, low, high, signed=False, most=3):
    values = {r.randint(low, high) * (r.choice([1, 1, -1]) if signed else 1) for _ in range(r.randint(1, most))}
    return ",".join(str(v) for v in sorted(values))


def random_rule(r):
    freq = r.choice(["YEARLY", "MONTHLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY", "MINUTELY", "SECONDLY"])
    parts = [f"FREQ={freq}"]
    if r.random() < 0.5:
        parts.append(f"INTERVAL={r.randint(2, 7)}")
    if r.random() < 0.3:
        parts.append("BYMONTH=" + some(r, 1, 12))
    if freq == "YEARLY" and r.random() < 0.2:
        parts.append("BYWEEKNO=" + some(r, 1, 52, True))
    if freq in ("YEARLY", "DAILY", "HOURLY") and r.random() < 0.1:
        parts.append("BYYEARDAY=" + some(r, 1, 365, True))
    if freq != "WEEKLY" and r.random() < 0.25:
        parts.append("BYMONTHDAY=" + some(r, 1, 28, True, 5))
    if r.random() < 0.4:
        days = r.sample(DAYS, r.randint(1, 4))
        if freq in ("YEARLY", "MONTHLY") and "BYWEEKNO" not in ";".join(parts):
            # dateutil wants plain and numbered weekdays at once where both are given; the RFC wants either.
            if r.random() < 0.6:
                days = [r.choice(["1", "2", "-1", "4"]) + d for d in days]
        parts.append("BYDAY=" + ",".join(days))
    if r.random() < 0.25:
        parts.append("BYHOUR=" + some(r, 0, 23))
    if r.random() < 0.2:
        parts.append("BYMINUTE=" + some(r, 0, 59))
    if r.random() < 0.1:
        parts.append("BYSECOND=" + some(r, 0, 59))
    # In a week that the start cuts, dateutil counts positions from the start; the RFC counts them in the whole week.
    if len(parts) > 2 and any(p.startswith("BY") for p in parts) and freq not in ("SECONDLY", "WEEKLY") and r.random() < 0.25:
        parts.append("BYSETPOS=" + some(r, 1, 3, True, 2))
    if r.random() < 0.2:
        parts.append("WKST=" + r.choice(DAYS))
    if r.random() < 0.2:
        parts.append(f"COUNT={r.randint(1, 20)}")
    start = datetime(2024, 1, 1) + timedelta(seconds=r.randint(0, 5 * 365 * 86400))
    return start.strftime("%Y%m%dT%H%M%S"), ";".join(parts)


def main():
    r = random.Random(5545)
    cases = [tuple(line.split(" ")) for line in EXAMPLES] + [random_rule(r) for _ in range(600)]
    for start, rule in cases:
        times = first(rule, datetime.strptime(start, "%Y%m%dT%H%M%S"))
        if times is not None:
            print(rule, start, " ".join(times), sep=" | ")


def first(rule, start):
    """The first local times; None for rules that take dateutil too long (it walks every second)."""
    signal.setitimer(signal.ITIMER_REAL, 0.25)
    try:
        times = []
        for at in itertools.islice(rrulestr(rule, dtstart=start), 12):
            if at.year > 2150:
                break
            times.append(at.strftime("%Y%m%dT%H%M%S"))
        return times
    except ValueError:  # an interval that never meets its BY... parts
        return []
    except TimeoutError:
        return None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def too_long(*_):
    raise TimeoutError


signal.signal(signal.SIGALRM, too_long)

main()
