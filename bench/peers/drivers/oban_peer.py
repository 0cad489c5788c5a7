"""Oban's port to Python with enqueue_many of 1000 and two hundred jobs at once, woken by NOTIFY; it keeps its jobs."""

import asyncio
import time

import psycopg
from common import IS_WORKER, POSTGRES, drain, latency, make_database, rates, size, sizes, wait_for_word
from oban import Oban, worker
from oban.schema import install

SCHEMA = "ostler_bench_oban"
LIMIT = 200
done = 0
begun: asyncio.Queue = asyncio.Queue()


@worker(queue="noop")
class Noop:
    async def process(self, job) -> None:
        global done
        done += 1


@worker(queue="late")
class Late:
    async def process(self, job) -> None:
        begun.put_nowait(time.monotonic())


async def work() -> None:
    pool = await Oban.create_pool(POSTGRES, min_size=2, max_size=10)
    oban = Oban(pool=pool, prefix=SCHEMA, queues={"noop": LIMIT})
    wait_for_word(lambda: done)
    async with oban:
        await asyncio.Event().wait()


async def measure() -> None:
    make_database()
    pool = await Oban.create_pool(POSTGRES, min_size=2, max_size=10)
    with psycopg.connect(POSTGRES, autocommit=True) as connection:
        loop = asyncio.get_running_loop()
        on_loop = lambda work: asyncio.run_coroutine_threadsafe(work, loop).result(100)

        async def empty() -> None:
            connection.execute(f"drop schema if exists {SCHEMA} cascade")
            connection.execute(f"create schema {SCHEMA}")
            await install(pool, SCHEMA)

        await empty()
        oban = await Oban(pool=pool, prefix=SCHEMA).start()

        async def enqueue(jobs: int) -> None:
            for i in range(0, jobs, 1000):
                await oban.enqueue_many([Noop.new() for _ in range(min(1000, jobs - i))])

        given = lambda jobs: on_loop(enqueue(jobs))
        sql = f"select 1 from {SCHEMA}.oban_jobs where state in ('available', 'executing') limit 1"
        drained = lambda workers, jobs: drain(workers, jobs, lambda: connection.execute(sql).fetchone())
        how = f"{LIMIT} at once; finished jobs are kept"
        await asyncio.to_thread(sizes, given, drained, how)
        connection.execute(f"truncate {SCHEMA}.oban_jobs")
        await asyncio.to_thread(rates, size(20_000), given, drained, "enqueue_many of 1000", how)
        await oban.stop()

        async with Oban(pool=pool, prefix=SCHEMA, queues={"late": LIMIT}) as both:
            await asyncio.to_thread(
                latency, lambda: on_loop(both.enqueue(Late.new())), lambda: on_loop(begun.get()), "LISTEN/NOTIFY"
            )
        connection.execute(f"drop schema {SCHEMA} cascade")
    await pool.close()


asyncio.run(work() if IS_WORKER else measure())
