"""The only pool: the same function for many items, on several cores or in series.

Threads, not processes: transforms, reductions and decoders release the interpreter, pixels need
not be copied, any function can be called, and the objects of the caller stay the same objects.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

from stitchlib.core.shifts import whole_number
from stitchlib.errors import InputError

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return max(1, os.cpu_count() or 1)


def workers(processes: Any) -> int:
    """Parse ``processes``: None = all cores, an int, or 'serial' (0 here).

    Raises
    ------
    InputError
        For anything else, or an int below 1.
    """
    if processes is None:
        return cores()
    if isinstance(processes, str):
        if processes == "serial":
            return 0
        raise InputError(f"processes = {processes!r}: must be None, a whole number or 'serial'")
    n = whole_number(processes, "processes")
    if n < 1:
        raise InputError(f"processes = {processes!r}: must be at least 1, or 'serial'")
    return n


def run(
    function: Callable[[_Item], _Result],
    items: Sequence[_Item],
    *,
    processes: Any = "serial",
    verbose: bool = False,
    title: str = "",
) -> list[_Result]:
    """Call ``function`` for every item, and return the results in the order of the items.

    Parameters
    ----------
    function : callable
        Called with one item; its result must not depend on the other calls.
    items : sequence
    processes : int, 'serial' or None
        Items that are worked on at one time; None = as many as there are cores.
    verbose : bool
        Show a progress bar.
    title : str
        What the progress bar says.

    Raises
    ------
    Exception
        The one of the first item that failed; the items that have not begun are dropped.
    """
    n = min(workers(processes), len(items))
    if n <= 1:
        return list(_progress(map(function, items), len(items), title, verbose))
    pool = ThreadPoolExecutor(n, thread_name_prefix="stitchlib")
    try:
        return list(_progress(pool.map(function, items), len(items), title, verbose))
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def mapping(threads: int) -> Iterator[Callable[..., Iterable[Any]]]:
    """Give what calls a function for many items like `map`, on some threads.

    The results come in order; no more than two items a thread are ahead of who takes them.
    """
    if threads <= 1:
        yield map
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="stitchlib") as pool:

        def mapped(function: Callable[[_Item], _Result], items: Iterable[_Item]) -> Any:
            left = iter(items)
            ahead = deque(pool.submit(function, item) for item in islice(left, 2 * threads))
            while ahead:
                yield ahead.popleft().result()
                ahead.extend(pool.submit(function, item) for item in islice(left, 1))

        yield mapped


def _progress(
    results: Iterable[_Result], total: int, title: str, verbose: bool
) -> Iterator[_Result]:
    if not verbose:
        yield from results
        return
    from tqdm import tqdm  # noqa: PLC0415 - only who wants to see a bar pays for it

    yield from tqdm(results, total=total, desc=title or None)
