#!/usr/bin/env python3
"""Cancel jobs: cancel.py JOB ...

The next run asks how they ended, so that is written down, as they can't do it themselves.
"""

import sys

from scheduler import FOLDER, run, words

jobs = [job.partition(":") for job in sys.argv[1:]]
for _, _, name in jobs:
    (FOLDER / f"{name}.exit").write_text("130 (cancelled)\n", encoding="utf-8")
code, text, errors = run([*words("cancel"), *(number for number, _, _ in jobs)])
print(text + errors, end="", file=sys.stderr)
sys.exit(code)
