"""APScheduler 3 with SQLAlchemyJobStore on SQLite (WAL, synchronous=FULL): date jobs, ten threads."""

import queue
import time
from datetime import datetime, timezone

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.background import BackgroundScheduler
from common import SCRATCH, Counter, figure, latency, size, until
from sqlalchemy import create_engine, event

N = size(2000)
done, moments = Counter(), queue.Queue()


def noop() -> None:
    done.add()


def moment() -> None:
    moments.put(time.monotonic())


engine = create_engine(f"sqlite:///{SCRATCH / 'jobs.db'}")


@event.listens_for(engine, "connect")
def durable(connection, _record) -> None:
    connection.execute("pragma journal_mode=wal")
    connection.execute("pragma synchronous=full")


store = SQLAlchemyJobStore(engine=engine)
scheduler = BackgroundScheduler(
    jobstores={"default": store},
    executors={"default": ThreadPoolExecutor(10)},
    job_defaults={"misfire_grace_time": None},
    timezone=timezone.utc,
)
scheduler.start(paused=True)
start = time.monotonic()
for _ in range(N):
    scheduler.add_job(noop, "date", run_date=datetime.now(timezone.utc))
figure("q1_enqueue", N / (time.monotonic() - start), "jobs/s", f"{N}, add_job one by one, WAL with synchronous=FULL")

start = time.monotonic()
scheduler.resume()
until(lambda: done.count >= N)
until(lambda: not store.get_all_jobs())
figure("q1_drain", N / (time.monotonic() - start), "jobs/s", f"{N}, 10 threads, synchronous=FULL")
latency(
    lambda: scheduler.add_job(moment, "date", run_date=datetime.now(timezone.utc)),
    lambda: moments.get(timeout=30),
    "woken in the same process",
)
scheduler.shutdown()
