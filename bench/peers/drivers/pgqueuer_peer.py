"""PgQueuer with batches of 100, as its own benchmark takes them, woken by NOTIFY; it keeps a log of finished jobs."""

import asyncio
import time

import asyncpg
from common import IS_WORKER, POSTGRES, drain, latency, rates, size, sizes, wait_for_word
from pgqueuer import AsyncpgDriver, Job, Queries, QueueManager

SCHEMA = "ostler_bench_pgqueuer"
BATCH = 100
done = 0
begun: asyncio.Queue = asyncio.Queue()


async def connect() -> asyncpg.Connection:
    return await asyncpg.connect(POSTGRES, server_settings={"search_path": SCHEMA})


async def manager(connection: asyncpg.Connection) -> QueueManager:
    manager = QueueManager(Queries(AsyncpgDriver(connection)))

    @manager.entrypoint("noop")
    async def noop(job: Job) -> None:
        global done
        done += 1

    @manager.entrypoint("late")
    async def late(job: Job) -> None:
        begun.put_nowait(time.monotonic())

    return manager


async def worker() -> None:
    working = await manager(await connect())
    wait_for_word(lambda: done)
    await working.run(batch_size=BATCH)


async def make_database() -> None:
    base, name = POSTGRES.rsplit("/", 1)
    connection = await asyncpg.connect(f"{base}/postgres")
    if not await connection.fetchval("select 1 from pg_database where datname = $1", name):
        await connection.execute(f'create database "{name}"')
    await connection.close()


async def empty(connection: asyncpg.Connection) -> None:
    await connection.execute(f"drop schema if exists {SCHEMA} cascade; create schema {SCHEMA}")
    await Queries(AsyncpgDriver(connection)).install()


async def measure() -> None:
    await make_database()
    connection = await connect()
    await empty(connection)
    queries = Queries(AsyncpgDriver(connection))
    loop = asyncio.get_running_loop()
    on_loop = lambda work: asyncio.run_coroutine_threadsafe(work, loop).result(100)

    async def enqueue(jobs: int) -> None:
        for i in range(0, jobs, 1000):
            count = min(1000, jobs - i)
            await queries.enqueue(["noop"] * count, [None] * count, [0] * count)

    given = lambda jobs: on_loop(enqueue(jobs))
    is_open = lambda: on_loop(connection.fetchval("select 1 from pgqueuer limit 1"))
    drained = lambda workers, jobs: drain(workers, jobs, is_open)
    how = f"batches of {BATCH}; a log of finished jobs is kept"
    await asyncio.to_thread(sizes, given, drained, how)
    await empty(connection)
    await asyncio.to_thread(rates, size(50_000), given, drained, "enqueue of 1000", how)

    own = await connect()
    working = asyncio.create_task((await manager(own)).run(batch_size=BATCH))
    await asyncio.sleep(1)
    await asyncio.to_thread(
        latency,
        lambda: on_loop(queries.enqueue("late", None)),
        lambda: on_loop(begun.get()),
        "LISTEN/NOTIFY",
    )
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    await connection.execute(f"drop schema {SCHEMA} cascade")


asyncio.run(worker() if IS_WORKER else measure())
