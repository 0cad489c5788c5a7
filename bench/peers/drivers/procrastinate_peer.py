"""Procrastinate with batch_defer and one worker of ten asynchronous jobs woken by NOTIFY."""

import asyncio
import time

import procrastinate
import psycopg
from common import POSTGRES, figure, make_database, size
from common import latency as measure

N = size(5000)
SCHEMA = "ostler_bench_procrastinate"


async def main() -> None:
    make_database()
    with psycopg.connect(POSTGRES, autocommit=True) as connection:
        connection.execute(f"drop schema if exists {SCHEMA} cascade")
        connection.execute(f"create schema {SCHEMA}")
    app = procrastinate.App(
        connector=procrastinate.PsycopgConnector(
            conninfo=POSTGRES, kwargs={"options": f"-c search_path={SCHEMA}"}, max_size=12
        )
    )
    done, begun = 0, asyncio.Queue()

    @app.task(name="noop", queue="noop")
    async def noop() -> None:
        nonlocal done
        done += 1

    @app.task(name="moment", queue="late")
    async def moment() -> None:
        begun.put_nowait(time.monotonic())

    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        start = time.monotonic()
        for i in range(0, N, 1000):
            await noop.batch_defer_async(*({} for _ in range(min(1000, N - i))))
        figure("q1_enqueue", N / (time.monotonic() - start), "jobs/s", f"{N}, batch_defer of 1000")
        start = time.monotonic()
        await app.run_worker_async(
            queues=["noop"], concurrency=10, wait=False, install_signal_handlers=False, delete_jobs="always"
        )
        assert done == N, f"{done} of {N} done"
        figure("q1_drain", N / (time.monotonic() - start), "jobs/s", f"{N}, 10 at once, finished jobs deleted")

        worker = asyncio.create_task(
            app.run_worker_async(
                queues=["late"], concurrency=10, install_signal_handlers=False, delete_jobs="always"
            )
        )
        await asyncio.sleep(1)
        loop = asyncio.get_running_loop()
        on_loop = lambda work: asyncio.run_coroutine_threadsafe(work, loop).result(30)
        await asyncio.to_thread(
            measure, lambda: on_loop(moment.defer_async()), lambda: on_loop(begun.get()), "LISTEN/NOTIFY"
        )
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
    with psycopg.connect(POSTGRES, autocommit=True) as connection:
        connection.execute(f"drop schema {SCHEMA} cascade")


asyncio.run(main())
