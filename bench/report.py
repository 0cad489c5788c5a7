#!/usr/bin/env python3
"""Writes bench/RESULTS.md from what `bench/peers/run.py` measured; `bench/run` does both.

    python3 bench/report.py                              bench/out/peers.json to bench/RESULTS.md
    python3 bench/report.py FILE --output OTHER.md

Everything in the text is computed from the file, so it can be written again from the same file. A quick run (a tenth of
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
OURS, LIMIT = "ostler", "bare"
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
            name = {OURS: "**Ostler**", LIMIT: "*bare limit*"}.get(row["peer"], row["peer"])
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


def targets_text(report: dict) -> str:
    rows = [verdict(report, target) for target in TARGETS]
    met = sum(row[4].startswith("yes") for row in rows)
    head = ("Table", "What", "Wanted", "Median [least .. most]", "Met")
    return (
        f"## Targets\n\n{met} of {len(rows)} met, by the median of the rounds. Q3, Q5, Q8 and the CPU and lateness of"
        f" C11 have no number to meet.\n\n{table(head, rows)}\n"
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


def other_figures(report: dict) -> list[str]:
    """Figures that no table knows."""
    known = {figure.name for section in SECTIONS for figure in section.figures}
    return sorted({row["figure"] for row in report["figures"]} - known)


def text(report: dict) -> str:
    """The whole of RESULTS.md."""
    rounds = report["rounds"]
    size = "A QUICK RUN, a tenth of the sizes: no result. " if report["quick"] else ""
    intro = (
        "# Results\n\nWritten by `bench/run` from what it measured; do not edit.\n\n"
        f"{size}Taken {report['taken']}, in {rounds} round{'s' if rounds != 1 else ''} in turn. What each figure is,"
        " and what each peer was given, is in [peers/README.md](peers/README.md). \"To Ostler\" and \"To bare\" say how"
        " many times Ostler's median, or the bare limit's, a median is. The bare limit is a program that does the least"
        " for the same work: SQLite written by hand, `sh -c true` begun and waited for. \"Others' CPU\" is the largest"
        " share of the processors that something else used before a round.\n"
    )
    parts = [intro, machine_text(report), targets_text(report)]
    parts += [section_text(report, section) for section in SECTIONS]
    if unknown := other_figures(report):
        parts.append(f"## Others\n\nIn no table: {', '.join(unknown)}.\n")
    return "\n".join([*parts, versions_text(report), skipped_text(report)])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path, default=HERE / "out" / "peers.json")
    parser.add_argument("--output", type=Path, help="where to; bench/RESULTS.md")
    options = parser.parse_args(arguments)
    report = json.loads(options.file.read_text())
    output = options.output or (HERE / "out" if report["quick"] else HERE) / "RESULTS.md"
    output.write_text(text(report))
    print(f"written: {output}")
    for target in TARGETS:
        print("  ".join(re.sub(r"\*", "", part) for part in verdict(report, target)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
