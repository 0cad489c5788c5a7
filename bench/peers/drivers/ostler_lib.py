"""Ostler's own measurements of its library, with the bare limit beside them: `ostler-bench --json`."""

import os
import sys

from common import POSTGRES, PROGRAMS, SCALE, SCRATCH

# The stores stand where those of the peers stand, not in a folder for temporary files that may be kept in memory.
os.environ["TMPDIR"] = str(SCRATCH)
# The same server as the peers', in schemas of its own.
os.environ["OSTLER_TEST_POSTGRES"] = POSTGRES.rsplit("/", 1)[0] + "/postgres"
program = PROGRAMS / "ostler-bench"
os.execv(program, [program, "--json", *(["--tenth"] if SCALE < 1 else []), *sys.argv[1:]])
