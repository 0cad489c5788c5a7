"""Procrastinate with batch_defer and workers of ten asynchronous jobs at once, woken by NOTIFY."""

import asyncio
import time

import procrastinate
import psycopg
from common import IS_WORKER, POSTGRES, drain, latency, make_database, rates, size, wait_for_word

SCHEMA = "ostler_bench_procrastinate"
app = procrastinate.App(
    connector=procrastinate.PsycopgConnector(
        conninfo=POSTGRES, kwargs={"options": f"-c search_path={SCHEMA}"}, max_size=12
    )
)
done = 0
begun: asyncio.Queue = asyncio.Queue()


@app.task(name="noop", queue="noop")
async def noop() -> None:
    global done
    done += 1


@app.task(name="moment", queue="late")
async def moment() -> None:
    begun.put_nowait(time.monotonic())


def work(queue: str):
    """The coroutine of a worker."""
    return app.run_worker_async(
        queues=[queue], concurrency=10, install_signal_handlers=False, delete_jobs="always"
    )


async def worker() -> None:
    async with app.open_async():
        wait_for_word(lambda: done)
        await work("noop")


async def defer(jobs: int) -> None:
    for i in range(0, jobs, 1000):
        await noop.batch_defer_async(*({} for _ in range(min(1000, jobs - i))))


async def measure() -> None:
    make_database()
    with psycopg.connect(POSTGRES, autocommit=True) as connection:
        connection.execute(f"drop schema if exists {SCHEMA} cascade")
        connection.execute(f"create schema {SCHEMA}")
        loop = asyncio.get_running_loop()
        on_loop = lambda work: asyncio.run_coroutine_threadsafe(work, loop).result(60)
        is_open = lambda: connection.execute(f"select 1 from {SCHEMA}.procrastinate_jobs limit 1").fetchone()
        async with app.open_async():
            await app.schema_manager.apply_schema_async()
            await asyncio.to_thread(
                rates,
                size(5000),
                lambda jobs: on_loop(defer(jobs)),
                lambda workers, jobs: drain(workers, jobs, is_open),
                "batch_defer of 1000",
                "10 at once, LISTEN/NOTIFY, finished jobs deleted",
            )
            late = asyncio.create_task(work("late"))
            await asyncio.sleep(1)
            await asyncio.to_thread(
                latency, lambda: on_loop(moment.defer_async()), lambda: on_loop(begun.get()), "LISTEN/NOTIFY"
            )
            late.cancel()
            await asyncio.gather(late, return_exceptions=True)
        connection.execute(f"drop schema {SCHEMA} cascade")


asyncio.run(worker() if IS_WORKER else measure())
