"""DBOS on PostgreSQL or on SQLite: enqueues of 500 in one transaction, and a queue that is polled each 10 ms.

Q11 is this file as an application: `dbos_peer.py WHERE APP`, from the start of Python to its end.
"""

import asyncio
import queue
import subprocess
import sys
import time

from common import POSTGRES, SCRATCH, Counter, figure, latency, make_database, moments, size, until, whole
from dbos import DBOS, DBOSClient

WHERE = sys.argv[1]
URL = POSTGRES if WHERE == "postgres" else f"sqlite:///{SCRATCH / 'dbos.sqlite'}"
CONFIG = {
    "name": "ostler-bench",
    "system_database_url": URL,
    "run_admin_server": False,
    "log_level": "ERROR",
    "application_version": "1",
    "executor_id": "bench",
}
N = size(3000 if WHERE == "postgres" else 1000)
POLL = 0.01
done, begun = Counter(), queue.Queue()


@DBOS.workflow()
def noop() -> None:
    done.add()


@DBOS.workflow()
def moment() -> None:
    begun.put(time.monotonic())


@DBOS.step()
def shell() -> int:
    return subprocess.run(["sh", "-c", "true"], check=True).returncode


@DBOS.step()
async def shell_async() -> int:
    return await (await asyncio.create_subprocess_exec("sh", "-c", "true")).wait()


@DBOS.workflow()
def chain(length: int) -> int:
    return sum(shell() == 0 for _ in range(length))


@DBOS.workflow()
async def par(width: int) -> int:
    return sum(code == 0 for code in await asyncio.gather(*(shell_async() for _ in range(width))))


def check(got: int, wanted: int) -> None:
    assert got == wanted, f"{got} of {wanted}"


def application(name: str) -> None:
    """The whole of an application that runs one workflow."""
    DBOS(config=CONFIG)
    DBOS.launch()
    if name == "par100":
        loop = asyncio.new_event_loop()
        moments(lambda: check(loop.run_until_complete(par(100)), 100))
    else:
        length = 100 if name == "chain100" else 1
        moments(lambda: check(chain(length), length))
    DBOS.destroy()


def main() -> None:
    if WHERE == "postgres":
        import psycopg

        make_database()
        with psycopg.connect(POSTGRES, autocommit=True) as connection:
            connection.execute("drop schema if exists dbos cascade")
    DBOS(config=CONFIG)
    DBOS.listen_queues(["late"])
    DBOS.launch()
    DBOS.register_queue("noop", polling_interval_sec=POLL)
    late = DBOS.register_queue("late", polling_interval_sec=POLL)
    client = DBOSClient(system_database_url=URL)
    options = {"workflow_name": "noop", "queue_name": "noop", "app_version": "1"}
    start = time.monotonic()
    for i in range(0, N, 500):
        with client._sys_db.engine.begin() as transaction:
            for _ in range(min(500, N - i)):
                client.enqueue_in_transaction(transaction, options)
    note = f"{N}, enqueue_in_transaction, 500 to each"
    figure("q1_enqueue", N / (time.monotonic() - start), "jobs/s", note)
    client.destroy()
    time.sleep(2)
    latency(lambda: late.enqueue(moment), lambda: begun.get(timeout=30), "a queue polled each 10 ms", POLL)
    DBOS.destroy(destroy_registry=False)

    DBOS(config=CONFIG)
    DBOS.listen_queues(["noop"])
    DBOS.launch()
    start = time.monotonic()
    before = done.count
    until(lambda: done.count >= N)
    until(lambda: not DBOS.list_workflows(status=["ENQUEUED", "PENDING"], limit=1))
    note = f"{N}, a queue without a limit, polled each 10 ms"
    figure("q1_drain", (N - before) / (time.monotonic() - start), "jobs/s", note)
    DBOS.destroy(destroy_registry=False)

    for name in ("one", "chain100", "par100"):
        whole(name, [sys.executable, __file__, WHERE, name], "steps of sh -c true")


if __name__ == "__main__":
    application(sys.argv[2]) if len(sys.argv) > 2 else main()
