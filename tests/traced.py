"""What a call allocates."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any


def traced(call: Callable[..., Any], *args: Any, **keys: Any) -> tuple[Any, int]:
    """Return what a call returns, and the peak of the bytes that it allocated."""
    tracemalloc.start()
    try:
        found = call(*args, **keys)
        return found, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
