"""Prefect: flows of shell tasks run by `python`, against a server that runs already, or each with one of its own.

`prefect_peer.py MODE FLOW` is the flow itself.
"""

import subprocess
import sys

from common import HOME, SCRATCH, free_port, measured, moments, whole

MODE = sys.argv[1]
QUIET = {
    "PREFECT_HOME": str(SCRATCH / "prefect"),
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_LEVEL": "ERROR",
    "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
}


def application(name: str) -> None:
    """The flow, in a Python of its own."""
    from prefect import flow, task

    @task
    def shell() -> int:
        return subprocess.run(["sh", "-c", "true"], check=True).returncode

    @flow
    def chain(length: int) -> int:
        return sum(shell() == 0 for _ in range(length))

    @flow
    def par(width: int) -> int:
        return sum(future.result() == 0 for future in [shell.submit() for _ in range(width)])

    count = 1 if name == "one" else 100
    moments(lambda: check((par if name == "par100" else chain)(count), count))


def check(got: int, wanted: int) -> None:
    assert got == wanted, f"{got} of {wanted}"


def measure(env: dict[str, str], note: str) -> None:
    for name in ("one", "chain100", "par100"):
        whole(name, [sys.executable, __file__, MODE, name], note, QUIET | env)


def main() -> None:
    if MODE == "ephemeral":
        measure({"PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true"}, "a server of its own for each")
        return
    port = free_port()
    command = [str(HOME / "bin" / "prefect"), "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with measured(command, f"http://127.0.0.1:{port}/api/health", QUIET):
        measure({"PREFECT_API_URL": f"http://127.0.0.1:{port}/api"}, "a server that runs already")


if __name__ == "__main__":
    application(sys.argv[2]) if len(sys.argv) > 2 else main()
