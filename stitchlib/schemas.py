"""The JSON schemas of configuration, tile sheet and corrections, wherever the package lives."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

_PACKAGE = Path(__file__).parent


@cache
def schema(name: str) -> dict[str, Any]:
    """Return the schema ``name`` ('config', 'tiles' or 'corrections')."""
    import yaml  # noqa: PLC0415 - jobs that read no table from people do without

    file = f"{name}.schema.yaml"
    folder = _PACKAGE / "schemas"  # in a wheel; in a checkout they stand with the workflow
    if not folder.is_dir():
        folder = _PACKAGE.parent / "workflow" / "schemas"
    # Where PyYAML has it, libyaml's parser takes a tenth of the time.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    text = (folder / file).read_text(encoding="utf-8")
    loaded: dict[str, Any] = yaml.load(text, loader)  # noqa: S506 - both are safe
    return loaded
