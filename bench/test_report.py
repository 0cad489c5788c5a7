"""Tests of the report: `python3 -m unittest discover bench`."""

import contextlib
import io
import json
import tempfile
import unittest
from pathlib import Path

import report


def row(peer: str, figure: str, unit: str, *values: float, busy: int = 1, note: str = "") -> dict:
    ordered = sorted(values)
    return {
        "peer": peer,
        "version": "0.1.0" if peer == "ostler" else "7",
        "figure": figure,
        "unit": unit,
        "median": ordered[len(ordered) // 2],
        "least": ordered[0],
        "most": ordered[-1],
        "values": list(values),
        "busy": [busy] * len(values),
        "note": note,
    }


def made_up(**changes) -> dict:
    return {
        "taken": "2026-01-01T00:00:00+00:00",
        "rounds": 3,
        "quick": False,
        "asked": [],
        "commit": "abc1234",
        "machine": {"cores": 2, "cpu": "a processor", "memory_gb": 8, "disk": "ext4", "system": "Linux", "kernel": "6"},
        "services": {"redis": "7.0.1"},
        "figures": [
            row("ostler", "q1_enqueue", "jobs/s", 50_000, 60_000, 40_000),
            row("bare", "q1_enqueue", "jobs/s", 100_000, 100_000, 100_000),
            row("huey", "q1_enqueue", "jobs/s", 5_000, 5_000, 5_000, note="one | by one"),
            row("ostler", "q1_enqueue_ratio", "x", 0.5, 0.6, 0.4),
            row("ostler", "q9_ratio", "x", 2.5, 2.4, 2.6),
            row("ostler", "q11_one", "s", 0.008, 0.007, 0.009),
            row("dagu", "q11_one", "s", 0.8, 0.7, 0.9, busy=40),
            row("bare", "q3_flush_p50", "ms", 0.1, 0.1, 0.1),
            row("bare", "q3_flush_p99", "ms", 0.4, 0.4, 0.4),
            row("ostler", "q8_run_1000", "us", 20, 20, 20),
            row("ostler", "q8_run_1000000", "us", 30, 30, 30),
        ],
        "skipped": [
            {"peer": "rq", "round": 0, "skipped": "no redis answers"},
            {"peer": "dbos", "round": 1, "skipped": "failed: x"},
            {"peer": "dbos", "round": 2, "skipped": "failed: x"},
        ],
    } | changes


def on_postgres(**changes) -> dict:
    """What was measured on PostgreSQL, with a peer on Redis that is faster than all."""
    rates = {"ostler": (40_000, 30_000), "bare": (50_000, 60_000), "pg-boss": (30_000, 40_000), "bullmq": (90_000, 90_000)}
    stores = {"pg-boss": "postgres", "bullmq": "redis"}
    figures = [row(peer, "q2_drain", "jobs/s", *values) for peer, values in rates.items()]
    for line in figures:
        line["store"] = stores.get(line["peer"], "")
    figures += [row("ostler", "q8_run_1000", "us", 20, 30), row("ostler", "q8_run_1000000", "us", 30, 60)]
    settings = {"synchronous_commit": "on", "shared_buffers": "1GB"}
    return made_up(table="q2", rounds=2, figures=figures, skipped=[], settings=settings) | changes


class Verdicts(unittest.TestCase):
    def verdict(self, figure: str, **changes) -> str:
        target = next(target for target in report.TARGETS if target.figure == figure)
        return report.verdict(made_up(**changes), target)[4]

    def on_postgres(self, figure: str, **changes) -> tuple[str, str]:
        target = next(target for target in report.POSTGRES_TARGETS if target.figure == figure)
        return report.verdict(report.with_ratios(on_postgres(**changes)), target)[3:]

    def test_the_fastest_peer_is_one_on_the_same_server_round_by_round(self) -> None:
        value, met = self.on_postgres("q2_drain_ahead")
        self.assertEqual(value, "1.04x [0.75x .. 1.33x]")
        self.assertEqual(met, "yes, but in 1 of 2 rounds")
        alone = [line for line in on_postgres()["figures"] if line["peer"] != "pg-boss"]
        self.assertEqual(self.on_postgres("q2_drain_ahead", figures=alone)[1], "not measured")

    def test_growth_is_told_round_by_round(self) -> None:
        self.assertEqual(self.on_postgres("q8_run_growth"), ("1.75x [1.5x .. 2x]", "**no**"))

    def test_the_median_decides_and_the_rounds_are_told(self) -> None:
        self.assertEqual(self.verdict("q11_one"), "yes")
        self.assertEqual(self.verdict("q1_enqueue_ratio"), "yes, but in 2 of 3 rounds")
        self.assertEqual(self.verdict("q9_ratio"), "**no**")
        once = [row("ostler", "q9_ratio", "x", 1.9, 2.1, 2.2)]
        self.assertEqual(self.verdict("q9_ratio", figures=once), "**no** (1 of 3 rounds)")
        self.assertEqual(self.verdict("q1_drain_ratio"), "not measured")
        self.assertEqual(report.verdict(made_up(), report.TARGETS[3])[3], "8 ms [7 ms .. 9 ms]")
        self.assertEqual(self.verdict("q11_one", quick=True), "yes (quick run)")

    def test_at_the_number_itself(self) -> None:
        by_figure = {target.figure: target for target in report.TARGETS}
        self.assertTrue(by_figure["q1_drain_ratio"].met(0.5))
        self.assertFalse(by_figure["q9_ratio"].met(2))

    def test_every_target_has_a_row_in_its_table(self) -> None:
        tables = {section.key: {figure.name for figure in section.figures} for section in report.SECTIONS}
        for target in report.TARGETS:
            self.assertIn(target.figure, tables[target.section])


class Text(unittest.TestCase):
    def test_the_best_comes_first_and_is_compared(self) -> None:
        rows = report.section_rows(made_up(), report.SECTIONS[0])
        names = [(row[1], row[4], row[5]) for row in rows[:3]]
        self.assertEqual(
            names, [("*bare limit*", "2x", "1x"), ("**Ostler**", "1x", "0.5x"), ("huey", "0.1x", "0.05x")]
        )
        self.assertEqual(rows[1][3], "40 000 .. 60 000")
        shell = next(section for section in report.SECTIONS if section.key == "Q11")
        self.assertEqual([row[1] for row in report.section_rows(made_up(), shell)], ["**Ostler**", "dagu"])

    def test_all_of_it(self) -> None:
        text = report.text(made_up())
        for words in (
            "2 cores, a processor",
            "p50 0.1 ms [0.1 .. 0.1], p99 0.4 ms",
            "2 of 8 met",
            "one \\| by one",
            "## Q5 A server: start, rest, size\n\nNot measured in this run.",
            "Beside 1 000 000 finished runs one more costs 1.5x",
            "**The machine was not at rest**: more than 10 % before dagu.",
            "| ostler | 0.1.0 (abc1234) |",
            "| redis | 7.0.1 |",
            "| rq | all | no redis answers |",
            "| dbos | 1, 2 | failed: x |",
        ):
            self.assertIn(words, text)
        self.assertNotIn("QUICK", text)
        self.assertNotIn("In no table", text)

    def test_postgresql_stands_behind_the_others(self) -> None:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            paths = [Path(folder) / name for name in ("peers.json", "postgres.json", "RESULTS.md")]
            paths[0].write_text(json.dumps(made_up()))
            paths[1].write_text(json.dumps(on_postgres()))
            self.assertEqual(report.main([*map(str, paths[:2]), "--output", str(paths[2])]), 0)
            text = paths[2].read_text()
        for words in (
            "# Results\n\nWritten by `bench/run`",
            "# On PostgreSQL\n\nTaken ",
            "| PostgreSQL | synchronous_commit on, shared_buffers 1GB |",
            "| drain, one process (more is better) | bullmq | 90 000 jobs/s |",
            "through the rate of pg-boss",
        ):
            self.assertIn(words, text)
        self.assertLess(text.index("## Q1 "), text.index("# On PostgreSQL"))
        self.assertNotIn("In no table", text)

    def test_a_quick_run_of_some_says_so(self) -> None:
        text = report.text(made_up(quick=True, asked=["huey"], skipped=[], figures=[row("huey", "q99_x", "s", 1)]))
        for words in ("A QUICK RUN", "Only these were asked for: huey.", "Nobody.", "In no table: q99_x."):
            self.assertIn(words, text)

    def test_nothing_at_all(self) -> None:
        self.assertIn("Nothing was measured.", report.text(made_up(figures=[])))

    def test_numbers(self) -> None:
        for value, unit, wanted in (
            (0.0087, "s", "8.7 ms"),
            (2.5, "s", "2.5 s"),
            (123_456, "jobs/s", "123 456 jobs/s"),
            (999.9, "ms", "1 000 ms"),
            (0.00001, "ms", "0.00001 ms"),
            (0.5, "x", "0.5x"),
            (0, "%", "0 %"),
        ):
            self.assertEqual(report.shown(value, unit), wanted)

    def test_written_again_it_is_the_same(self) -> None:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            source, output = Path(folder) / "peers.json", Path(folder) / "RESULTS.md"
            source.write_text(json.dumps(made_up()))
            written = []
            for _ in range(2):
                self.assertEqual(report.main([str(source), "--output", str(output)]), 0)
                written.append(output.read_text())
        self.assertEqual(*written)


if __name__ == "__main__":
    unittest.main()
