#!/usr/bin/env python3
"""Writes the first corpora from what the tests of the crates hold: definition files, golden files, tables.

`fuzz/run` starts from what is kept in `corpus/`; this is for beginning anew or after the tests have grown:
`fuzz/seeds.py FOLDER` writes `FOLDER/TARGET/...`, which `fuzz/merge FOLDER` then brings in.
"""

import json
import re
import struct
import sys
from pathlib import Path

CRATES = Path(__file__).resolve().parent.parent / "crates"
STRING = r'"((?:[^"\\]|\\.)*)"'
MOMENTS = [1774659600, 1792890000, 0, -62135596800, 253402300000]


def unescaped(text):
    return json.loads('"' + re.sub(r"\\'", "'", text).replace("\\0", "\\u0000") + '"')


def definitions():
    letters = {".yaml": b"y", ".json": b"j", ".toml": b"t", ".py": b"p"}
    for folder in ("good", "broken"):
        for file in sorted((CRATES / "timetable/tests" / folder).iterdir()):
            if file.suffix in letters and not file.name.endswith(".lowered.json"):
                yield letters[file.suffix] + file.read_bytes()
    yield b"y" + (CRATES / "timetable/tests/good/everything.exported.txt").read_bytes()


def cron():
    tests = CRATES / "calendar/tests"

    def seed(kind, number, text, flags=b"0", moment=None):
        # The target takes the moment modulo the years that there are, counted from the first.
        at = (MOMENTS[number % len(MOMENTS)] if moment is None else moment) + 377705116800
        return kind + str(number % 8).encode() + flags + b"0" + struct.pack("<q", at) + text.encode()

    kinds = {"supertask": b"s", "calendar": b"d", "rrule": b"r"}
    for number, line in enumerate((tests / "golden/words.txt").read_text().splitlines()):
        kind, _, rest = line.split(" | ")[0].partition(": ")
        if kind in kinds:
            yield seed(kinds[kind], number, rest.replace("\\n", "\n"))
        elif not rest:
            yield seed(b"c", number, kind)
    for number, line in enumerate((tests / "golden/rrule.txt").read_text().splitlines()[:60]):
        rule, start = line.split(" | ")[:2]
        yield seed(b"r", number, f"DTSTART:{start}\nRRULE:{rule}", moment=873190800)
    for number, line in enumerate((tests / "golden/dst.txt").read_text().splitlines()):
        found = re.match(r"  (?:gap|fold|elapsed)(?:: (\w+))? +(\S+ \S+ \S+ \S+ \S+) ", line)
        if found and number < 60:
            flags = {"skip": b"1", "last": b"2", "both": b"4"}.get(found[1], b"0")
            yield seed(b"c", number, found[2], flags)
    for number, text in enumerate(["Mon..Fri 09:00", "*-*~01", "Sat,Sun 12-05 08:05:40", "*:0/15 Europe/Berlin",
                                   "2027-*-31 UTC", "quarterly", "*-*-* *:*:0.5", "Mon *-*-1..7 10:00"]):
        yield seed(b"d", number, text)
    yield seed(b"a", 1, "2027-03-28T02:30\n2027-03-01T09:00:00Z\n2027-10-31 02:30:00.5")
    yield seed(b"a", 2, "2027-03-28T02:30[Europe/Berlin]\n2026-11-01T01:30")
    for flags in (b"0", b"8"):
        yield seed(b"k", 1, "*/5 9-17 * * *\nmon-fri\n12-25\n2026-04-03\n22:00-06:00", flags)
        yield seed(b"k", 2, "0 12 * * *\nDTSTART:20260101|RRULE:FREQ=MONTHLY;BYDAY=-1FR\n2026-12-24T18:00/2026-12-27", flags)
    for kind, text in ((b"c", "@every 5m"), (b"c", "@reboot"), (b"c", "0 0 LW * 5#2"), (b"s", "0 0 last * 1st mon")):
        yield seed(kind, 3, text)
    for test, kind in (("dialects.rs", b"s"), ("triggers.rs", b"c")):
        for text in re.findall(r'"((?:[-*/,#?\w]+ ){4,6}[-*/,#?\w]+)"', (tests / test).read_text()):
            yield seed(kind, len(text), text)


def expressions():
    for test in ("language.rs", "limits.rs"):
        source = (CRATES / "expr/tests" / test).read_text()
        for raw in re.findall(r'\(\s*r#"(.*?)"#,', source):
            yield raw.encode()
        for text in re.findall(r"[(\[]\s*" + STRING + r",", source):
            try:
                yield unescaped(text).encode()
            except ValueError:
                continue
    yield b"a ${{ inputs.n }} b $${{ c }} ${{ '}}' + {a: {b: 1}}.a.b }}"
    yield b"${{ secrets.TOKEN }} ${{ env.TOKEN }} ${{ event.body.json }}"


def bodies():
    uid = "0190a0b0-c0d0-7000-8000-000000000000"
    policy = {"retry": {"attempts": 3, "backoff": "exponential", "initial": "1s", "max": "5m", "jitter": True, "on": ["5xx"]},
              "timeout": {"queue": "1h", "attempt": "PT10M", "total": "1d"}, "deadline": "2h", "grace": "250ms",
              "priority": "high", "concurrency": {"key": "k", "limit": 2, "on_conflict": "skip"},
              "rate_limit": {"limit": 2, "per": "1m", "burst": 3}, "unique": "x", "idempotent": True, "lost": "rerun"}
    start = {"namespace": "demo", "task": "pull", "preset": "p", "inputs": {"n": 1.5, "t": "ü", "l": [None, True]},
             "policy": policy, "due": "2026-01-01T00:00:00Z", "idempotency_key": "k"}
    query = {"namespace": "demo", "task": "pull", "states": ["failed", "timed_out"], "since": "2026-01-01T00:00:00+01:00",
             "until": "2026-01-02T00:00:00.5Z", "parent": uid}
    bulk = {"ids": [uid], "query": query, "reason": "why", "dry_run": True}
    rerun = {"from_failed": True, "inputs": {"a": {"b": 1e300}}, "current": True}
    lowered = json.loads((CRATES / "timetable/tests/good/everything.yaml.lowered.json").read_text())
    texts = [
        (b"a", start), (b"b", {"runs": [start, {"namespace": "a", "task": "b"}]}), (b"c", bulk),
        (b"d", {"which": bulk, "how": rerun}), (b"e", rerun), (b"f", {"age": "90d", "count": 1000000, "bytes": 10737418240}),
        (b"g", {"name": "ci", "scopes": ["view", "run:demo", "admin"], "expires_in": "1h30m"}),
        (b"h", {"name": "go", "data": {"x": [1, -2, 18446744073709551615]}, "comment": "c"}),
        (b"i", {"approve": True, "step": "s", "data": 0.1, "comment": "c"}), (b"j", {"body": "x", "delivery": "d"}),
        (b"k", policy), (b"l", query), (b"n", ["view", "change:demo"]), (b"o", {"a": [1e-7, -0.0, "\U0001f600"]}),
    ]
    timetables = lowered if isinstance(lowered, list) else lowered.get("timetables", [lowered])
    texts += [(b"m", task) for one in timetables for task in one.get("tasks", [])]
    for letter, value in texts:
        yield letter + json.dumps(value, ensure_ascii=False).encode()
    page = "after=abc&limit=10"
    for letter, text in (
        (b"A", page), (b"B", "namespace=demo&" + page), (b"C", "task=demo%3Apull&" + page),
        (b"D", "namespace=a&task=b+c&state=failed,timed_out&since=2026-01-01T00:00:00Z&until=2027-01-01T00:00:00Z&parent="
         + uid + "&sort=created&" + page),
        (b"E", page + "&wait=60"), (b"F", "limit=10000"), (b"K", "sort=-last&" + page), (b"L", "sort=name"),
        (b"G", "stream=stdout&attempt=1&grep=%C3%BC&tail=5&wait=0&" + page), (b"H", "namespace=d&task=d:p"),
        (b"I", "schedule=s1"), (b"J", "origin=%2Fa.yaml&ephemeral=true&complete=false"), (b"Z", "a=b&a=%ff&=+"),
    ):
        yield letter + text.encode()


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: seeds.py FOLDER")
    for target in (definitions, cron, expressions, bodies):
        folder = Path(sys.argv[1]) / target.__name__
        folder.mkdir(parents=True, exist_ok=True)
        count = 0
        for count, seed in enumerate(target(), 1):
            (folder / f"seed-{count:03}").write_bytes(seed)
        print(f"{target.__name__}: {count} seeds")


main()
