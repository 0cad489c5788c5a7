"""SqliteHuey with fsync, a consumer of four threads in the same process, polling each 10 ms."""

import queue
import time

from common import SCRATCH, Counter, figure, latency, size, until
from huey import SqliteHuey

N = size(5000)
POLL = 0.01
huey = SqliteHuey("bench", filename=str(SCRATCH / "huey.db"), fsync=True, results=False)
done, moments = Counter(), queue.Queue()


@huey.task()
def noop() -> None:
    done.add()


@huey.task()
def moment() -> None:
    moments.put(time.monotonic())


start = time.monotonic()
for _ in range(N):
    noop()
figure("q1_enqueue", N / (time.monotonic() - start), "jobs/s", f"{N}, one by one, WAL with synchronous=FULL")

consumer = huey.create_consumer(workers=4, periodic=False, initial_delay=POLL, backoff=1, max_delay=POLL)
start = time.monotonic()
consumer.start()
until(lambda: done.count >= N)
figure("q1_drain", N / (time.monotonic() - start), "jobs/s", f"{N}, 4 threads, synchronous=FULL")
latency(moment, lambda: moments.get(timeout=30), "polls each 10 ms", POLL)
consumer.stop()
