#!/usr/bin/env python3
"""Writes bench/RESULTS.md from what `bench/peers/run.py` measured; `bench/run` does both.

    python3 bench/report.py                              bench/out/peers.json and postgres.json to bench/RESULTS.md
    python3 bench/report.py FILES --output OTHER.md

Everything in the text is computed from the files, so it can be written again from the same ones. A quick run (a tenth of
the sizes) goes to bench/out/RESULTS.md, for it is not a result.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
OURS, LIMIT, LEAST = "ostler", "bare", "bare-least"
NAMES = {OURS: "**Ostler**", LIMIT: "*bare limit*", LEAST: "*bare, keeps nothing*"}
AT_REST = 10
"""Percent of the processors that others may use before a measurement."""


@dataclass(frozen=True)
class Figure:
    """What a figure is called, and whether more of it is better."""

    name: str
    label: str
    more: bool = False


@dataclass(frozen=True)
class Section:
    """One table."""

    key: str
    title: str
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Target:
    """What Ostler shall reach in one of its own figures."""

    section: str
    what: str
    figure: str
    wanted: float
    unit: str
    at_least: bool = False

    def met(self, value: float) -> bool:
        return value >= self.wanted if self.at_least else value < self.wanted

    @property
    def text(self) -> str:
        return f"{'at least' if self.at_least else 'below'} {shown(self.wanted, self.unit)}"


SIZES = (1_000, 10_000, 100_000, 1_000_000)


def number(value: float) -> str:
    """Three figures that matter, and no power of ten."""
    if abs(value) >= 999.5:
        return f"{value:,.0f}".replace(",", " ")
    text = f"{value:.3g}"
    return f"{value:.6f}".rstrip("0").rstrip(".") if "e" in text else text


def percentiles(name: str, label: str) -> tuple[Figure, ...]:
    return tuple(Figure(f"{name}_{part}", f"{label}, {part}") for part in ("p50", "p99", "most"))


def shares(rates: tuple[tuple[str, str], ...]) -> tuple[Figure, ...]:
    """How rates of Ostler stand to those of others, in one round."""
    against = (
        ("ratio", "Ostler's share of the bare rate"),
        ("least", "Ostler's share of the rate of the bare program that keeps nothing"),
        ("ahead", "Ostler's rate through that of the fastest peer on this server"),
    )
    return tuple(
        Figure(f"{name}_{part}", f"{label}: {words}", more=True) for part, words in against for name, label in rates
    )


SECTIONS = (
    Section(
        "Q1",
        "Durable no-op jobs",
        (
            Figure("q1_enqueue", "enqueue", more=True),
            Figure("q1_drain", "drain", more=True),
            Figure("q1_enqueue_ratio", "enqueue, Ostler's share of the bare rate", more=True),
            Figure("q1_drain_ratio", "drain, Ostler's share of the bare rate", more=True),
        ),
    ),
    Section(
        "Q3",
        "Start latency on an idle queue",
        (
            Figure("q3_p50", "call to handler, p50"),
            Figure("q3_p99", "call to handler, p99"),
            Figure("q3_flush_p50", "one flush, p50"),
            Figure("q3_flush_p99", "one flush, p99"),
        ),
    ),
    Section(
        "Q5",
        "A server: start, rest, size",
        (
            Figure("q5_start", "cold start to ready, new store"),
            Figure("q5_restart", "cold start to ready, old store"),
            Figure("q5_rss", "memory at rest"),
            Figure("q5_idle_cpu", "CPU at rest"),
            Figure("q5_binary", "size of the binary"),
        ),
    ),
    Section(
        "Q8",
        "Cost against size",
        tuple(Figure(f"q8_run_{size}", f"a run beside {number(size)} finished") for size in SIZES)
        + tuple(Figure(f"q8_page_{size}", f"a page of 50 beside {number(size)} finished") for size in SIZES),
    ),
    Section(
        "Q9",
        "One shell task",
        (
            Figure("q9_shell", "in a row, each"),
            Figure("q9_ratio", "Ostler's time through the bare time"),
            Figure("q9_cold", "a process of its own for it"),
        ),
    ),
    Section(
        "Q11",
        "Shell tasks, whole systems",
        tuple(
            Figure(f"q11_{name}{warm}", label + (", once more in the same process" if warm else ""))
            for name, label in (
                ("one", "one task"),
                ("chain100", "100 in a row"),
                ("par100", "100 side by side"),
                ("queued1000", "1 000 queued"),
            )
            for warm in ("", "_warm")
        ),
    ),
    Section(
        "C2",
        "Lateness of firings",
        percentiles("c2_often_recorded", "one schedule, every 50 ms: on record")
        + percentiles("c2_often", "one schedule, every 50 ms: at the handler")
        + percentiles("c2_thousand_recorded", "1 000 schedules, each full second: on record")
        + percentiles("c2_thousand", "1 000 schedules, each full second: at the handler"),
    ),
    Section(
        "C11",
        "100 000 schedules",
        (
            Figure("c11_push", "push them"),
            Figure("c11_look", "look at each for the first time"),
            Figure("c11_start", "start beside them"),
            Figure("c11_idle_cpu", "CPU while none is due"),
        )
        + percentiles("c11_late", "lateness of one more, every 50 ms"),
    ),
)
TARGETS = (
    Target("Q1", "enqueue, of the bare batched SQLite program", "q1_enqueue_ratio", 0.5, "x", at_least=True),
    Target("Q1", "drain, of the bare batched SQLite program", "q1_drain_ratio", 0.5, "x", at_least=True),
    Target("Q9", "a shell task, of bare fork, exec and wait", "q9_ratio", 2, "x"),
    Target("Q11", "one task, cold", "q11_one", 0.01, "s"),
    Target("Q11", "a chain of 100", "q11_chain100", 0.3, "s"),
    Target("Q11", "100 side by side", "q11_par100", 0.15, "s"),
    Target("Q11", "1 000 queued", "q11_queued1000", 2.5, "s"),
    Target("C11", "start beside 100 000 schedules", "c11_start", 2000, "ms"),
)


RATES = (
    ("q2_enqueue", "enqueue"),
    ("q2_drain", "drain, one process"),
    ("q2_drain3", "drain, three processes"),
)
COSTS = (
    ("q8_run", "a run"),
    ("q8_claim_p99", "a claim of a hundred, p99"),
    ("q8_commit_p99", "a commit of a hundred, p99"),
    ("q8_page", "a page of 50"),
)
BACKLOGS = (1_000, 1_000_000)
POSTGRES_SECTIONS = (
    Section(
        "Q2",
        "Durable no-op jobs on PostgreSQL",
        tuple(Figure(name, label, more=True) for name, label in RATES) + shares(RATES),
    ),
    Section(
        "Q3",
        "Start latency on an idle queue on PostgreSQL",
        tuple(
            Figure(f"{name}_{part}", f"{label}, {part}")
            for name, label in (("q3", "call to handler"), ("q3_apart", "call to handler in another process"))
            for part in ("p50", "p99")
        ),
    ),
    Section(
        "Q8",
        "Cost against size on PostgreSQL",
        tuple(
            Figure(f"{name}_{size}", f"{label} beside {number(size)} finished") for name, label in COSTS for size in SIZES
        )
        + tuple(
            Figure(f"{name}_growth", f"{label}, beside {number(SIZES[-1])} through beside {number(SIZES[0])}")
            for name, label in COSTS
        ),
    ),
    Section(
        "Size",
        "Many at once on PostgreSQL",
        tuple(
            Figure(f"s_{what}_{part}_{size}", f"a {what} of a hundred beside {number(size)} ready, {part}")
            for what in ("claim", "commit")
            for part in ("p50", "p99")
            for size in BACKLOGS
        )
        + (
            Figure("s_start", "100 000 starts, one call of the library"),
            Figure("s_start_http", "100 000 starts, one request over HTTP"),
            Figure("s_drain", "a million ready runs drained by one node", more=True),
            Figure("s_rss", "the most memory of that node"),
            Figure("s_cpu", "its processor time for a run"),
            Figure("s_page_1000000", "a page of 50 of a million runs"),
            Figure("s_page_10000000", "a page of 50 of ten million runs"),
        ),
    ),
)
POSTGRES_TARGETS = (
    *(
        Target("Q2", f"{label}, of the bare program that writes as many rows", f"{name}_ratio", 0.6, "x", at_least=True)
        for name, label in RATES
    ),
    *(
        Target("Q2", f"{label}, of the fastest peer on this server", f"{name}_ahead", 1, "x", at_least=True)
        for name, label in RATES
    ),
    Target("Q3", "call to handler, p50", "q3_p50", 3, "ms"),
    Target("Q3", "call to handler in another process, p50", "q3_apart_p50", 3, "ms"),
    *(
        Target("Q8", f"{label}: growth from {number(SIZES[0])} to {number(SIZES[-1])} finished", f"{name}_growth", 1.5, "x")
        for name, label in COSTS[:3]
    ),
)


def shown(value: float, unit: str) -> str:
    """A value with its unit; small seconds in milliseconds, ratios with a times sign."""
    if unit == "s" and 0 < abs(value) < 1:
        return f"{number(value * 1000)} ms"
    return f"{number(value)}x" if unit == "x" else f"{number(value)} {unit}"


def cell(text: str) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")


def table(head: tuple[str, ...], rows: list[tuple[str, ...]], right: tuple[int, ...] = ()) -> str:
    """A table of Markdown; the columns in `right` hold numbers."""
    line = lambda cells: "| " + " | ".join(map(cell, cells)) + " |"
    rule = "|" + "|".join("---:" if i in right else "---" for i in range(len(head))) + "|"
    return "\n".join([line(head), rule, *map(line, rows)])


def spread(row: dict) -> str:
    return f"{number(row['least'])} .. {number(row['most'])}"


def find(report: dict, figure: str, peer: str) -> dict | None:
    return next((row for row in report["figures"] if row["figure"] == figure and row["peer"] == peer), None)


def against(row: dict, other: dict | None) -> str:
    """How many times the other's median this one is."""
    if other is None or row["unit"] == "x" or other["unit"] != row["unit"] or not other["median"]:
        return "–"
    return f"{number(row['median'] / other['median'])}x"


def section_rows(report: dict, section: Section) -> list[tuple[str, ...]]:
    """The rows of one table: figure by figure, the best first."""
    rows = []
    for figure in section.figures:
        found = [row for row in report["figures"] if row["figure"] == figure.name]
        found.sort(key=lambda row: row["median"], reverse=figure.more)
        ours, limit = find(report, figure.name, OURS), find(report, figure.name, LIMIT)
        for row in found:
            name = NAMES.get(row["peer"], row["peer"])
            busy = f"{max(row['busy'], default=0)} %"
            better = "more is better" if figure.more else "less is better"
            rows.append(
                (
                    f"{figure.label} ({better})" if row is found[0] else "",
                    name,
                    f"{number(row['median'])} {row['unit']}",
                    spread(row),
                    against(row, ours),
                    against(row, limit),
                    busy,
                    row.get("note", ""),
                )
            )
    return rows


def ratio(name: str, upper: dict, lower: dict, note: str) -> dict:
    """A figure of Ostler's that is one row through another, round by round."""
    values = [a / b for a, b in zip(upper["values"], lower["values"])]
    return {
        "peer": OURS,
        "version": upper["version"],
        "figure": name,
        "unit": "x",
        "median": statistics.median(values),
        "least": min(values),
        "most": max(values),
        "values": values,
        "busy": upper["busy"],
        "note": note,
    }


def with_ratios(report: dict) -> dict:
    """The report with what is found by comparing rows: how far ahead of the fastest peer, how much more beside much."""
    more = []
    for name, _ in RATES:
        ours = find(report, name, OURS)
        peers = [
            row
            for row in report["figures"]
            if row["figure"] == name and row["peer"] not in NAMES and row.get("store") == "postgres"
        ]
        if ours and peers:
            best = max(peers, key=lambda row: row["median"])
            more.append(ratio(f"{name}_ahead", ours, best, f"through the rate of {best['peer']}"))
    for name, _ in COSTS:
        few, many = (find(report, f"{name}_{size}", OURS) for size in (SIZES[0], SIZES[-1]))
        if few and many:
            more.append(ratio(f"{name}_growth", many, few, "in one round"))
    return report | {"figures": report["figures"] + more}


HEAD = ("Figure", "Who", "Median", "Least .. most", "To Ostler", "To bare", "Others' CPU", "Note")


def section_text(report: dict, section: Section) -> str:
    rows = section_rows(report, section)
    body = table(HEAD, rows, right=(2, 3, 4, 5, 6)) if rows else "Not measured in this run."
    return f"## {section.key} {section.title}\n\n{body}\n" + (growth(report) if section.key == "Q8" else "")


def growth(report: dict) -> str:
    """How much more a run costs beside the most finished ones than beside the fewest."""
    rows = [(size, row) for size in SIZES if (row := find(report, f"q8_run_{size}", OURS))]
    if len(rows) < 2:
        return ""
    (few, first), (many, last) = rows[0], rows[-1]
    times = number(last["median"] / first["median"])
    return f"\nBeside {number(many)} finished runs one more costs {times}x of what it costs beside {number(few)}.\n"


def verdict(report: dict, target: Target) -> tuple[str, str, str, str, str]:
    """One row of the targets."""
    row = find(report, target.figure, OURS)
    if row is None:
        return target.section, target.what, target.text, "–", "not measured"
    met = [target.met(value) for value in row["values"]]
    if not target.met(row["median"]):
        word = "**no**" + (f" ({sum(met)} of {len(met)} rounds)" if any(met) else "")
    else:
        word = "yes" if all(met) else f"yes, but in {sum(met)} of {len(met)} rounds"
    median, least, most = (shown(row[key], row["unit"]) for key in ("median", "least", "most"))
    value = f"{median} [{least} .. {most}]"
    return target.section, target.what, target.text, value, word + (" (quick run)" if report["quick"] else "")


def targets_text(report: dict, targets: tuple[Target, ...], others: str) -> str:
    rows = [verdict(report, target) for target in targets]
    met = sum(row[4].startswith("yes") for row in rows)
    head = ("Table", "What", "Wanted", "Median [least .. most]", "Met")
    return (
        f"## Targets\n\n{met} of {len(rows)} met, by the median of the rounds. {others} no number to meet."
        f"\n\n{table(head, rows)}\n"
    )


def machine_text(report: dict) -> str:
    """The machine, how fast it flushes, and how much others used it."""
    machine = report["machine"]
    rows = [
        ("Processor", f"{machine['cores']} cores, {machine.get('cpu') or 'of unknown kind'}"),
        ("Memory", f"{machine.get('memory_gb', 0)} GB"),
        ("Disk", machine.get("disk") or "unknown"),
        ("System", f"{machine['system']} {machine['kernel']}"),
    ]
    flush = [find(report, f"q3_flush_{part}", LIMIT) for part in ("p50", "p99")]
    if settings := report.get("settings"):
        rows.append(("PostgreSQL", ", ".join(f"{name} {value}" for name, value in settings.items())))
    if all(flush):
        p50, p99 = (f"{shown(row['median'], 'ms')} [{spread(row)}]" for row in flush)
        rows.append(("One flush of 4 KiB", f"p50 {p50}, p99 {p99}"))
    return f"## Machine\n\n{table(('', ''), rows)}\n\n{rest_text(report)}\n"


def rest_text(report: dict) -> str:
    """Whether the machine was left to the measurements."""
    shares = [share for row in report["figures"] for share in row["busy"]]
    if not shares:
        return "Nothing was measured."
    middle = f"{statistics.median(shares):.0f} %"
    words = f"Before the measurements others used {middle} of the processors, {max(shares)} % at most."
    if max(shares) <= AT_REST:
        return words
    disturbed = sorted({row["peer"] for row in report["figures"] if max(row["busy"]) > AT_REST})
    return f"{words} **The machine was not at rest**: more than {AT_REST} % before {', '.join(disturbed)}."


def versions_text(report: dict) -> str:
    """Who was measured, in which version."""
    versions: dict[str, str] = {}
    for row in report["figures"]:
        versions[row["peer"]] = row["version"] or versions.get(row["peer"], "")
    if OURS in versions and report.get("commit"):
        versions[OURS] += f" ({report['commit']})"
    rows = [*versions.items(), *report.get("services", {}).items(), ("Python", report["machine"].get("python", "?"))]
    return f"## Versions\n\n{table(('What', 'Version'), rows)}\n"


def skipped_text(report: dict) -> str:
    """Who gave no figures, and why."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for line in report["skipped"]:
        reasons.setdefault((line["peer"], line["skipped"]), []).append(str(line["round"]))
    rows = [
        (peer, "all" if rounds == ["0"] else ", ".join(rounds), reason) for (peer, reason), rounds in reasons.items()
    ]
    body = table(("Who", "Rounds", "Why"), rows) if rows else "Nobody."
    asked = report.get("asked")
    left = f"\n\nOnly these were asked for: {', '.join(asked)}." if asked else ""
    return f"## Skipped\n\n{body}{left}\n"


def other_figures(report: dict, sections: tuple[Section, ...]) -> list[str]:
    """Figures that no table knows."""
    known = {figure.name for section in sections for figure in section.figures}
    return sorted({row["figure"] for row in report["figures"]} - known)


def tables(report: dict, sections: tuple[Section, ...]) -> list[str]:
    parts = [section_text(report, section) for section in sections]
    if unknown := other_figures(report, sections):
        parts.append(f"## Others\n\nIn no table: {', '.join(unknown)}.\n")
    return [*parts, versions_text(report), skipped_text(report)]


def taken(report: dict) -> str:
    rounds = report["rounds"]
    size = "A QUICK RUN, a tenth of the sizes: no result. " if report["quick"] else ""
    return f"{size}Taken {report['taken']}, in {rounds} round{'s' if rounds != 1 else ''} in turn."


def text(report: dict) -> str:
    """Embedded and whole systems."""
    intro = (
        f"{taken(report)} What each figure is,"
        " and what each peer was given, is in [peers/README.md](peers/README.md). \"To Ostler\" and \"To bare\" say how"
        " many times Ostler's median, or the bare limit's, a median is. The bare limit is a program that does the least"
        " for the same work: SQLite written by hand, `sh -c true` begun and waited for. \"Others' CPU\" is the largest"
        " share of the processors that something else used before a round.\n"
    )
    targets = targets_text(report, TARGETS, "Q3, Q5, Q8 and the CPU and lateness of C11 have")
    return "\n".join([intro, machine_text(report), targets, *tables(report, SECTIONS)])


def postgres_text(report: dict) -> str:
    """Queues on PostgreSQL."""
    report = with_ratios(report)
    intro = (
        f"# On PostgreSQL\n\n{taken(report)} All on one server, in turn, over loopback, the workers as processes of"
        " their own. The bare limit claims with SKIP LOCKED and ends its jobs in batches of a thousand, over one"
        " connection a process, and writes as many rows and index entries for a job as Ostler does. The bare program that"
        " keeps nothing writes one row for a job and deletes it: less than any queue with a history can. A peer that deletes"
        " its jobs writes less than Ostler, too; its note says so. Redis peers stand beside them, and are no part of"
        " \"the fastest peer on this server\".\n"
    )
    targets = targets_text(report, POSTGRES_TARGETS, "Pages, and what is many at once, have")
    return "\n".join([intro, machine_text(report), targets, *tables(report, POSTGRES_SECTIONS)])


HEADING = "# Results\n\nWritten by `bench/run` from what it measured; do not edit.\n\n"
PARTS = {"q1": (text, TARGETS), "q2": (postgres_text, POSTGRES_TARGETS)}


def table_of(report: dict) -> str:
    return report.get("table", "q1")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, help="what was measured; those of bench/out that are there")
    parser.add_argument("--output", type=Path, help="where to; bench/RESULTS.md")
    options = parser.parse_args(arguments)
    usual = [HERE / "out" / f"{suite}.json" for suite in ("peers", "postgres")]
    files = options.files or [path for path in usual if path.exists()]
    if not files:
        parser.error(f"nothing was measured: {usual[0]} is not there (bench/run)")
    reports = [json.loads(path.read_text()) for path in files]
    output = options.output or (HERE / "out" if any(r["quick"] for r in reports) else HERE) / "RESULTS.md"
    output.write_text(HEADING + "\n".join(PARTS[table_of(report)][0](report) for report in reports))
    print(f"written: {output}")
    for report in reports:
        for target in PARTS[table_of(report)][1]:
            print("  ".join(re.sub(r"\*", "", part) for part in verdict(with_ratios(report), target)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
