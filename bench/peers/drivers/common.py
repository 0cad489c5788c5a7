"""What every Python driver shares: sizes, figures on standard output, worker processes, servers and what they weigh."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import math
import os
import random
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any, Callable, Iterator

SCALE = float(os.environ.get("OSTLER_BENCH_SCALE", "1"))
POSTGRES = os.environ.get("OSTLER_BENCH_POSTGRES", "")
REDIS = os.environ.get("OSTLER_BENCH_REDIS", "")
SCRATCH = Path(os.environ.get("OSTLER_BENCH_SCRATCH", "."))
HOME = Path(os.environ.get("OSTLER_BENCH_PEER_HOME", "."))
PROGRAMS = Path(os.environ.get("OSTLER_BENCH_PROGRAMS", "."))
TABLE = os.environ.get("OSTLER_BENCH_TABLE", "q1")
"""What is measured: `q1` by one worker process, `q2` by one and by three."""
PEER = os.environ.get("OSTLER_BENCH_PEER", "")
IDLE = 5


def size(full: int) -> int:
    """So many, or a tenth of it in a quick run."""
    return max(10, round(full * SCALE))


def figure(name: str, value: float, unit: str, note: str = "", version: str = "") -> None:
    """One figure, as a line of JSON."""
    version = version or importlib.metadata.version(HOME.name)
    line = {"peer": PEER, "version": version, "figure": name, "value": value, "unit": unit, "note": note}
    print(json.dumps(line), flush=True)


def until(done: Callable[[], bool], every: float = 0.002, limit: float = 100) -> None:
    """Waits for something, looking often enough not to matter."""
    deadline = time.monotonic() + limit
    while not done():
        if time.monotonic() > deadline:
            raise SystemExit("waited in vain")
        time.sleep(every)


class Counter:
    """Counts what handlers of several threads did."""

    def __init__(self) -> None:
        self.count = 0
        self.lock = threading.Lock()

    def add(self) -> None:
        with self.lock:
            self.count += 1


IS_WORKER = "worker" in sys.argv
"""This is the driver once more, as a worker process."""


def wait_for_word(count: Callable[[], int]) -> None:
    """In a worker: waits until it is to begin, with everything loaded. From then on it tells how many jobs it has done,
    and it ends when its standard input does."""

    def tell() -> None:
        told = 0
        while True:
            if (now := count()) != told:
                print(told := now, flush=True)
            time.sleep(0.005)

    def end() -> None:
        sys.stdin.readline()
        os._exit(0)

    print(0, flush=True)
    sys.stdin.readline()
    for work in (tell, end):
        threading.Thread(target=work, daemon=True).start()


def drain(workers: int, jobs: int, is_open: Callable[[], bool]) -> float:
    """Seconds that so many workers take for so many jobs: from the word that lets them begin until nothing is open."""
    counts: dict[int, int] = {}
    children = [
        subprocess.Popen(
            [sys.executable, sys.argv[0], "worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(workers)
    ]

    def read(which: int) -> None:
        for line in children[which].stdout:
            counts[which] = int(line)

    def done(wanted: bool) -> bool:
        if ended := next((child for child in children if child.poll() is not None), None):
            raise SystemExit(f"a worker ended with {ended.returncode}")
        return wanted

    for which in range(workers):
        threading.Thread(target=read, args=(which,), daemon=True).start()
    until(lambda: done(len(counts) == workers))
    start = time.monotonic()
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    until(lambda: done(sum(counts.values()) >= jobs))
    until(lambda: not is_open())
    took = time.monotonic() - start
    for child in children:
        child.stdin.close()
        child.wait(10)
    return took


def rates(
    jobs: int, enqueue: Callable[[int], Any], drained: Callable[[int, int], float], given: str, how: str
) -> None:
    """Q1 or Q2: so many jobs given to the queue, and drained by worker processes; `drained` gives its seconds."""
    for workers in (1, 3) if TABLE == "q2" else (1,):
        took = timed(lambda: enqueue(jobs))
        if workers == 1:
            figure(f"{TABLE}_enqueue", jobs / took, "jobs/s", f"{jobs}, {given}")
        note = f"{jobs}, {workers} process{'' if workers == 1 else 'es'}, {how}"
        name = f"{TABLE}_drain{'' if workers == 1 else workers}"
        figure(name, jobs / drained(workers, jobs), "jobs/s", note)


def sizes(enqueue: Callable[[int], Any], drained: Callable[[int, int], float], how: str) -> None:
    """Q8 of a peer that keeps finished jobs: what a job of some more costs beside so many, in a store that has none."""
    if TABLE != "q2":
        return
    finished = 0

    def run(jobs: int) -> float:
        nonlocal finished
        enqueue(jobs)
        finished += jobs
        return drained(1, jobs) / jobs

    for beside in (size for size in (1000, 10_000, 100_000) if size <= 100_000 * SCALE):
        while finished < beside:
            run(min(beside - finished, 50_000))
        cost = statistics.median(run(5000) for _ in range(3)) * 1e6
        figure(f"q8_run_{beside}", cost, "us", f"a job of 5000, beside {beside} finished, median of 3, {how}")


def latency(start: Callable[[], Any], begun: Callable[[], float], note: str, poll: float = 0) -> None:
    """Q3: one job on an idle queue, up to 200 times in 20 s; `begun` waits for the handler and gives its moment.

    A peer that polls gets pauses that reach over its whole interval: pauses of 10 ms would always begin at one point of
    it, and show its worst case alone.
    """
    took = []
    deadline = time.monotonic() + max(2, 20 * SCALE)
    for i in range(-3, max(20, round(200 * SCALE))):
        at = time.monotonic()
        start()
        if i >= 0:
            took.append((begun() - at) * 1000)
        else:
            begun()
        time.sleep(0.01 + random.uniform(0, poll))
        if time.monotonic() > deadline and len(took) >= 5:
            note += f"; {len(took)} samples"
            break
    took.sort()
    for name, part in (("q3_p50", 0.5), ("q3_p99", 0.99)):
        figure(name, took[math.ceil(part * len(took)) - 1], "ms", note)


def make_database() -> None:
    """Makes the database of PostgreSQL if it is not there."""
    import psycopg

    base, name = POSTGRES.rsplit("/", 1)
    with psycopg.connect(f"{base}/postgres", autocommit=True) as connection:
        if not connection.execute("select 1 from pg_database where datname = %s", (name,)).fetchone():
            connection.execute(f'create database "{name}"')


def redis_note(client: Any) -> str:
    """Whether Redis keeps what it was given."""
    kept = client.config_get("appendonly").get("appendonly") == "yes"
    return "Redis with AOF" if kept else "Redis without AOF: not durable"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def call(method: str, url: str, body: Any = None) -> Any:
    """One request of a JSON API."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"} if data else {}
    with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method), timeout=30) as answer:
        text = answer.read()
    try:
        return json.loads(text)
    except ValueError:
        return text.decode(errors="replace")


def answers(url: str) -> bool:
    try:
        call("GET", url)
    except OSError:
        return False
    return True


class Server:
    """A server for as long as a `with` lasts."""

    def __init__(self, command: list[str], ready: str, env: dict[str, str] | None = None) -> None:
        self.command, self.ready, self.env = command, ready, os.environ | (env or {})

    def __enter__(self) -> "Server":
        self.log = (SCRATCH / "server.log").open("w")
        start = time.monotonic()
        self.process = subprocess.Popen(self.command, env=self.env, stdout=self.log, stderr=self.log, cwd=SCRATCH)
        while not answers(self.ready):
            if self.process.poll() is not None or time.monotonic() - start > 90:
                self.__exit__()
                words = (SCRATCH / "server.log").read_text(errors="replace").strip().splitlines() or ["no word"]
                raise SystemExit(f"the server did not get ready: {words[-1]}")
            time.sleep(0.005)
        self.took = time.monotonic() - start
        return self

    def __exit__(self, *_: Any) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


@contextlib.contextmanager
def measured(command: list[str], ready: str, env: dict[str, str] | None = None, version: str = "") -> Iterator[Server]:
    """Q5: the first start, with a store to make; the second, with the store there; and memory and CPU at rest."""
    note = "process start to the first answer of its health page"
    with Server(command, ready, env) as server:
        figure("q5_start", server.took * 1000, "ms", f"{note}, new store", version)
    with Server(command, ready, env) as server:
        figure("q5_restart", server.took * 1000, "ms", f"{note}, store of the first start", version)
        time.sleep(3)
        family = tree(server.process.pid)
        figure("q5_rss", sum(map(rss, family)), "MB", f"{len(family)} process(es), 3 s after ready", version)
        before = sum(map(cpu, family))
        time.sleep(IDLE)
        share = 100 * (sum(map(cpu, tree(server.process.pid))) - before) / IDLE
        figure("q5_idle_cpu", max(0, share), "%", f"of one core, over {IDLE} s with nothing to do", version)
        yield server


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            found += tree(int(child))
    return found


def rss(pid: int) -> float:
    """Resident memory in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0


def cpu(pid: int) -> float:
    """Processor time so far in seconds, with that of children it has waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def timed(work: Callable[[], Any]) -> float:
    start = time.monotonic()
    work()
    return time.monotonic() - start


def whole(name: str, command: list[str], note: str, env: dict[str, str] | None = None) -> None:
    """Q11 of a library: its application as a command, which ends with a line of its two moments (see `moments`)."""
    start = time.monotonic()
    done = subprocess.run(command, env=os.environ | (env or {}), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{name}: {(done.stderr.strip().splitlines() or ['no word'])[-1]}")
    told = json.loads(done.stdout.strip().splitlines()[-1])
    figure(f"q11_{name}", told["end"] - start, "s", f"start of python to recorded end, {note}")
    figure(f"q11_{name}_warm", told["again"], "s", f"once more in the same process, {note}")


def moments(work: Callable[[], Any]) -> None:
    """In an application: does the work, says when it had ended, and how long it takes once more."""
    work()
    end = time.monotonic()
    print(json.dumps({"end": end, "again": timed(work)}), flush=True)
