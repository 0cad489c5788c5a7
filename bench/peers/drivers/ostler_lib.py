"""Ostler's own measurements of its library, with the bare limit beside them: `ostler-bench --json`."""

import os
import sys

from common import PROGRAMS, SCALE, SCRATCH

# The stores stand where those of the peers stand, not in a folder for temporary files that may be kept in memory.
os.environ["TMPDIR"] = str(SCRATCH)
program = PROGRAMS / "ostler-bench"
os.execv(program, [program, "--json", *(["--tenth"] if SCALE < 1 else []), *sys.argv[1:]])
