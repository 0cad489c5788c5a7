"""cronstable: its server at rest, and whole workflows, triggered and watched over its API, for it has no other way."""

import time

from common import HOME, SCRATCH, call, figure, free_port, measured

KINDS = {"one": (1, False), "chain100": (100, True), "par100": (100, False)}


def tasks(count: int, chained: bool) -> str:
    after = lambda i: f"        dependsOn:\n          - s{i - 1}\n" if chained and i else ""
    return "".join(f'      - id: s{i}\n        command: "true"\n{after(i)}' for i in range(count))


port = free_port()
base = f"http://127.0.0.1:{port}"
config = SCRATCH / "cronstable.yaml"
config.write_text(
    f"web:\n  listen:\n    - {base}\nstate:\n  path: {SCRATCH / 'state'}\n  jobApi:\n    enabled: true\ndags:\n"
    + "".join(f"  - name: {name}\n    tasks:\n{tasks(*kind)}" for name, kind in KINDS.items())
)


def run(name: str) -> float:
    """Looks ever more rarely, for a server of one thread is slowed by each look."""
    start = time.monotonic()
    key = call("POST", f"{base}/dags/{name}/trigger")["runKey"]
    while True:
        state = call("GET", f"{base}/dags/{name}/runs/{key}")["state"]
        if state == "success":
            return time.monotonic() - start
        if state not in ("running", "pending", "queued"):
            raise SystemExit(f"{name} ended as {state}")
        time.sleep(max(0.002, (time.monotonic() - start) / 20))


command = [str(HOME / "bin" / "cronstable"), "-c", str(config), "-l", "WARNING"]
with measured(command, f"{base}/version"):
    run("one")
    for name in KINDS:
        figure(f"q11_{name}", run(name), "s", "over the API of a server that runs already, trigger to recorded end")
