"""What can go wrong, by kind; every message names the culprit, the value and the way out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class StitchlibError(Exception):
    """Base of all errors raised on purpose."""


class InputError(StitchlibError, ValueError):
    """A tile, sheet, configuration or argument that cannot be used as it is."""


class NoOverlapError(InputError):
    """Two images that do not overlap at any of the allowed displacements."""


class DisconnectedError(InputError):
    """Tiles that no accepted link connects to the others."""


class Problems:
    """What is wrong with an input: raised at once, or gathered to be told together."""

    def __init__(self, *, gather: bool = False) -> None:
        self._gather = gather
        self.found: list[InputError] = []

    @contextmanager
    def each(self) -> Iterator[None]:
        """Check one thing of several: where errors are gathered, the next is checked too."""
        try:
            yield
        except _GatheredError:
            if not self._gather:
                raise
        except InputError as error:
            if not self._gather:
                raise
            if str(error) not in map(str, self.found):
                self.found.append(error)

    def stop_if_any(self) -> None:
        """Leave the innermost `each` where what comes next needs what failed."""
        if self.found:
            raise _GatheredError


class _GatheredError(InputError):
    """Has been told."""
