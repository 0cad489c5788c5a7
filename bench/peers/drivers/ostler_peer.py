"""Ostler as a user has it: `ostler run` for whole runs; `ostler serve` at rest, and with a thousand runs at once."""

import json
import os
import statistics
import subprocess
import time
from pathlib import Path

from common import PROGRAMS, SCRATCH, call, figure, free_port, measured, size, timed

PROGRAM = PROGRAMS / "ostler"
# Nothing that a shell may have set for an Ostler of its own.
for name in [name for name in os.environ if name.startswith("OSTLER_") and not name.startswith("OSTLER_BENCH_")]:
    del os.environ[name]
VERSION = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]
STORE = SCRATCH / "ostler.db"
TIMES = 5
LIMIT = 30
"""Seconds that a single `ostler run` may take."""


def steps(count: int, alone: str) -> str:
    return "".join(f'      - {{ id: s{i}, {alone}run: "true" }}\n' for i in range(count))


def timetable(namespace: str, tasks: str) -> str:
    return f"meta: {{ type: ostler-timetable, version: 1, namespace: {namespace} }}\ntasks:\n{tasks}"


def run(*args: str) -> None:
    """One `ostler run`: its exit status is the outcome."""
    command = [PROGRAM, "run", *args, "--store", STORE]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT)
    except subprocess.TimeoutExpired as late:
        raise SystemExit(f"{Path(args[-1]).name}: ostler run did not end within {LIMIT} s") from late
    if done.returncode:
        raise SystemExit(f"ostler run {args}: {(done.stderr.strip().splitlines() or ['no word'])[-1]}")


def recorded(store: str, namespace: str = "") -> list[dict]:
    """The runs that a store has as succeeded."""
    command = [PROGRAM, "runs", "list", "--state", "succeeded", "--output", "json", "--store", store]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    items = json.loads(done.stdout)
    items = items["items"] if isinstance(items, dict) else items
    return [item for item in items if not namespace or item["namespace"] == namespace]


def whole() -> None:
    """One task, a chain and a fan of steps: from the start of the process to its end, after the recorded end."""
    kinds = {"one": ["--command", "true"]}
    # Steps follow each other where none has `needs`; with an empty one they stand side by side.
    for name, alone in (("chain100", ""), ("par100", "needs: [], ")):
        path = SCRATCH / f"{name}.yaml"
        path.write_text(timetable(name, f"  - meta: {{ id: {name} }}\n    steps:\n{steps(100, alone)}"))
        kinds[name] = [str(path)]
    run(*kinds["one"])
    for name, args in kinds.items():
        times = TIMES if name == "one" else 1
        took = statistics.median(timed(lambda: run(*args)) for _ in range(times))
        what = "--command true" if name == "one" else "FILE"
        note = f"ostler run {what}, process start to its end, after the recorded end"
        figure(f"q11_{name}", took, "s", note + (f", median of {times}" if times > 1 else ""), VERSION)
    for name in kinds:
        if name != "one" and not recorded(str(STORE), name):
            raise SystemExit(f"{name} is not on record as succeeded")


def queued(base: str, count: int) -> float:
    """So many runs, queued in one request, until the server has nothing to do any more."""
    body = {"runs": [{"namespace": "bench", "task": "shell"}] * count}
    start = time.monotonic()
    call("POST", f"{base}/runs/batch", body)
    while True:
        stats = call("GET", f"{base}/stats")
        if not stats["ready"] + stats["claimed"]:
            break
        time.sleep(0.01)
    took = time.monotonic() - start
    ended, after = 0, ""
    while after is not None:
        page = call("GET", f"{base}/runs?state=succeeded&namespace=bench&limit=200{after}")
        ended += len(page["items"])
        after = f"&after={page['next']}" if page.get("next") else None
    if ended != count:
        raise SystemExit(f"{ended} of {count} runs have succeeded")
    return took


figure("q5_binary", PROGRAM.stat().st_size / 2**20, "MB", "the one binary, stripped", VERSION)
served = SCRATCH / "served.yaml"
served.write_text(timetable("bench", '  - meta: { id: shell }\n    run: "true"\n'))
port = free_port()
command = [str(PROGRAM), "serve", str(served), "--listen", str(port), "--store", str(SCRATCH / "served.db")]
with measured(command, f"http://127.0.0.1:{port}/readyz", version=VERSION):
    count = size(1000)
    took = queued(f"http://127.0.0.1:{port}/api/v1", count)
    figure("q11_queued1000", took, "s", f"{count} runs in one request to ostler serve, until all have ended", VERSION)
# Last: a run that does not end costs no other figure.
whole()
