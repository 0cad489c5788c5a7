"""Celery on Redis, without results, prefork processes, prefetching 128, as its guide on optimising advises."""

import subprocess
import sys
import time

import redis
from celery import Celery
from common import REDIS, latency, rates, redis_note, size, until

COUNT, MOMENT = "ostler-bench-celery-count", "ostler-bench-celery-moment"
app = Celery("celery_peer", broker=REDIS)
app.conf.update(
    task_ignore_result=True,
    task_default_queue="ostler-bench-celery",
    worker_prefetch_multiplier=128,
    task_acks_late=True,
    broker_connection_retry_on_startup=True,
    worker_send_task_events=False,
)
client = redis.Redis.from_url(REDIS)


@app.task
def noop() -> None:
    client.incr(COUNT)


@app.task
def moment() -> None:
    client.rpush(MOMENT, str(time.monotonic()))


def start_worker(processes: int) -> subprocess.Popen:
    command = f"worker --concurrency {processes} --without-gossip --without-mingle --without-heartbeat --loglevel ERROR"
    return subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "celery_peer", *command.split()], stdout=subprocess.DEVNULL
    )


def stop(worker: subprocess.Popen) -> None:
    worker.terminate()
    worker.wait(20)


def enqueue(jobs: int) -> None:
    client.delete(COUNT)
    with app.producer_pool.acquire(block=True) as producer:
        for _ in range(jobs):
            noop.apply_async(producer=producer)


def drained(processes: int, jobs: int) -> float:
    """From the first job that was counted, since the workers cannot be told when to begin."""
    worker = start_worker(processes)
    try:
        until(lambda: int(client.get(COUNT) or 0) > 0, limit=30)
        begun, first = time.monotonic(), int(client.get(COUNT))
        until(lambda: int(client.get(COUNT)) >= jobs, every=0.01)
        return (time.monotonic() - begun) * jobs / (jobs - first)
    finally:
        stop(worker)


def main() -> None:
    note = redis_note(client)
    app.control.purge()
    client.delete(COUNT, MOMENT)
    try:
        rates(size(5000), enqueue, drained, f"one by one over one producer; {note}", f"prefork, from the first job; {note}")
        worker = start_worker(1)
        try:
            latency(moment.delay, lambda: float(client.blpop([MOMENT], timeout=30)[1]), f"1 prefork process; {note}")
        finally:
            stop(worker)
    finally:
        app.control.purge()
        client.delete(COUNT, MOMENT)


if __name__ == "__main__":
    main()
