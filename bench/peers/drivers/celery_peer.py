"""Celery on Redis, without results, one prefork process, prefetching 128, as its guide on optimising advises."""

import subprocess
import sys
import time

import redis
from celery import Celery
from common import REDIS, figure, latency, redis_note, size, until

N = size(5000)
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


def main() -> None:
    note = redis_note(client)
    app.control.purge()
    client.delete(COUNT, MOMENT)
    start = time.monotonic()
    with app.producer_pool.acquire(block=True) as producer:
        for _ in range(N):
            noop.apply_async(producer=producer)
    figure("q1_enqueue", N / (time.monotonic() - start), "jobs/s", f"{N}, one by one over one producer; {note}")
    command = "worker --concurrency 1 --without-gossip --without-mingle --without-heartbeat --loglevel ERROR"
    worker = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "celery_peer", *command.split()], stdout=subprocess.DEVNULL
    )
    try:
        until(lambda: int(client.get(COUNT) or 0) > 0, limit=30)
        begun, first = time.monotonic(), int(client.get(COUNT))
        until(lambda: int(client.get(COUNT)) >= N, every=0.01)
        rate = (N - first) / (time.monotonic() - begun)
        figure("q1_drain", rate, "jobs/s", f"{N}, 1 prefork process, from its first job; {note}")
        latency(moment.delay, lambda: float(client.blpop([MOMENT], timeout=30)[1]), f"1 prefork process; {note}")
    finally:
        worker.terminate()
        worker.wait(20)
        app.control.purge()
        client.delete(COUNT, MOMENT)


if __name__ == "__main__":
    main()
