"""dagu: whole runs by its command line (`dagu start`), and its server at rest."""

import json
import os
import subprocess

from common import HOME, SCRATCH, figure, free_port, measured, timed

PACKAGE = HOME / "node_modules" / "@dagu-org" / "dagu-linux-x64"
VERSION = json.loads((PACKAGE / "package.json").read_text())["version"]
BINARY = next(path for path in PACKAGE.rglob("dagu") if path.is_file() and os.access(path, os.X_OK))
ENV = os.environ | {"DAGU_HOME": str(SCRATCH / "home"), "DAGU_AUTH_MODE": "none"}
KINDS = {"one": ("chain", 1), "chain100": ("chain", 100), "par100": ("graph", 100)}

dags = SCRATCH / "dags"
dags.mkdir()
for name, (kind, count) in KINDS.items():
    steps = "".join(f'  - name: s{i}\n    command: "true"\n' for i in range(count))
    (dags / f"{name}.yaml").write_text(f"type: {kind}\nsteps:\n{steps}")


def start(name: str) -> None:
    """One run, to its end; dagu gives its outcome as the exit status."""
    subprocess.run([BINARY, "start", "-q", dags / f"{name}.yaml"], env=ENV, check=True, capture_output=True)


start("one")
for name, (kind, count) in KINDS.items():
    took = timed(lambda: start(name))
    status = subprocess.run([BINARY, "status", dags / f"{name}.yaml"], env=ENV, capture_output=True, text=True).stdout
    assert "ucceeded" in status or "uccess" in status, status[-300:]
    figure(f"q11_{name}", took, "s", "dagu start, process start to its end", VERSION)

figure("q5_binary", BINARY.stat().st_size / 2**20, "MB", "the one binary", VERSION)
port = free_port()
command = [str(BINARY), "start-all", "--host", "127.0.0.1", "--port", str(port), "--dags", str(dags)]
env = {"DAGU_HOME": str(SCRATCH / "served"), "DAGU_AUTH_MODE": "none"}
with measured(command, f"http://127.0.0.1:{port}/api/v2/health", env, VERSION):
    pass
