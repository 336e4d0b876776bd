"""Run a Python module, and print last its own CPU seconds and kilobytes, without its children's.

Usage: python own_costs.py MODULE ARGUMENT ...
"""

from __future__ import annotations

import resource
import runpy
import sys

if __name__ == "__main__":
    sys.argv = sys.argv[1:]
    try:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    finally:
        spent = resource.getrusage(resource.RUSAGE_SELF)
        print(spent.ru_utime + spent.ru_stime, spent.ru_maxrss, file=sys.stderr)
