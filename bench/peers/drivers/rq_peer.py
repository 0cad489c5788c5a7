"""RQ with enqueue_many and one SimpleWorker in a process of its own: no fork per job, as its documentation offers."""

import subprocess
import sys
import time

import redis
import rq
from common import REDIS, figure, latency, redis_note, size

N = size(3000)
MOMENT = "ostler-bench-moment"


def noop() -> None:
    pass


def moment() -> None:
    rq.get_current_job().connection.rpush(MOMENT, str(time.monotonic()))


def work(name: str, burst: bool) -> None:
    """The worker process: says how long it worked when it has emptied the queue."""
    connection = redis.Redis.from_url(REDIS)
    worker = rq.SimpleWorker([rq.Queue(name, connection=connection)], connection=connection)
    start = time.monotonic()
    worker.work(burst=burst, logging_level="ERROR")
    print(time.monotonic() - start)


def main() -> None:
    connection = redis.Redis.from_url(REDIS)
    note = redis_note(connection)
    queue = rq.Queue("ostler-bench-noop", connection=connection)
    queue.delete(delete_jobs=True)
    start = time.monotonic()
    for i in range(0, N, 500):
        batch = [rq.Queue.prepare_data("rq_peer.noop", result_ttl=0) for _ in range(min(500, N - i))]
        queue.enqueue_many(batch)
    figure("q1_enqueue", N / (time.monotonic() - start), "jobs/s", f"{N}, enqueue_many of 500; {note}")
    done = subprocess.run([sys.executable, __file__, queue.name, "burst"], capture_output=True, text=True, check=True)
    assert queue.count == 0, f"{queue.count} jobs left"
    rate = N / float(done.stdout.splitlines()[-1])
    figure("q1_drain", rate, "jobs/s", f"{N}, 1 SimpleWorker process; {note}")

    late = rq.Queue("ostler-bench-late", connection=connection)
    late.delete(delete_jobs=True)
    connection.delete(MOMENT)
    worker = subprocess.Popen([sys.executable, __file__, late.name, "stay"], stdout=subprocess.DEVNULL)
    try:
        latency(
            lambda: late.enqueue("rq_peer.moment", result_ttl=0),
            lambda: float(connection.blpop([MOMENT], timeout=30)[1]),
            f"1 SimpleWorker process; {note}",
        )
    finally:
        worker.terminate()
        worker.wait(20)
        late.delete(delete_jobs=True)
        queue.delete(delete_jobs=True)


if __name__ == "__main__":
    work(sys.argv[1], sys.argv[2] == "burst") if len(sys.argv) > 1 else main()
