"""The documented API as data: ``python -m tests.documented DOCUMENT`` prints it as JSON."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data" / "documented_api.json"
_CLASS = re.compile(r"class (\w+)\((.*)\)\[source\]#")
_CALL = re.compile(r"(\w+)\((.*)\)\[source\]#")
_VALUE = re.compile(r"(?:property )?(\w+)(?: = .*)?#")


def parse(text: str) -> dict[str, Any]:
    """Return classes (constructor, methods, values) and functions, each with its parameters.

    In the document a class lists its methods first and then its values, so that a call after a
    value is a function of the module.
    """
    found: dict[str, Any] = {"classes": {}, "functions": {}}
    current: dict[str, Any] | None = None
    for line in map(str.strip, text.splitlines()):
        if match := _CLASS.fullmatch(line):
            current = {"parameters": _parameters(match[2]), "methods": {}, "values": []}
            found["classes"][match[1]] = current
        elif match := _CALL.fullmatch(line):
            if current is not None and current["values"] and match[1] not in current["methods"]:
                current = None
            group = found["functions"] if current is None else current["methods"]
            group[match[1]] = _parameters(match[2])
        elif (match := _VALUE.fullmatch(line)) and current is not None:
            current["values"].append(match[1])
    return found


def _parameters(text: str) -> list[list[str | None]]:
    """Return [name, default] pairs; the default as it is written, None where there is none."""
    parts, depth, start = [], 0, 0
    for i, character in enumerate(text):
        depth += (character in "([<") - (character in ")]>")
        if character == "," and not depth:
            parts.append(text[start:i])
            start = i + 1
    parts.append(text[start:])
    pairs = (part.strip().partition("=") for part in parts if part.strip())
    return [[name, default if equals else None] for name, equals, default in pairs]


if __name__ == "__main__":
    print(json.dumps(parse(Path(sys.argv[1]).read_text(encoding="utf-8")), indent=1))
