"""Run a Python module, and print last its own CPU seconds and kilobytes, without its children's.

Usage: python own_costs.py MODULE ARGUMENT ...
"""

from __future__ import annotations

import resource
import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.argv = sys.argv[1:]
    try:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    finally:
        spent = resource.getrusage(resource.RUSAGE_SELF)
        # Its own ru_maxrss would begin with that of the process that started this one.
        status = Path("/proc/self/status").read_text(encoding="ascii")
        peak = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
        print(spent.ru_utime + spent.ru_stime, peak, file=sys.stderr)
