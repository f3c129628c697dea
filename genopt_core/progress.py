"""One way to follow a long computation, for every function that takes ``progress``.

``progress=True`` draws a bar on the error stream, if tqdm is installed.  A function is called after
every step with one record, which has ``done`` and ``total`` (0: not known beforehand) and whatever
else there is to say about the step.
"""

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol


class Record(Protocol):
    """What a progress function is called with.

    >>> class Step:
    ...     done, total = 1, 3
    >>> with reporting(lambda record: print(record.done, "of", record.total), 3, "steps") as report:
    ...     report(Step())
    1 of 3
    """

    @property
    def done(self) -> int:
        """Steps or bytes done so far."""

    @property
    def total(self) -> int:
        """All of them; 0 where nobody knows."""


@contextmanager
def reporting(
    progress: bool | Callable[[Any], object] | None, total: int, what: str, unit: str = "steps"
) -> Iterator[Callable[[Record], object]]:
    """What to call with the record of each step: the caller's function, a bar, or nothing.

    >>> with reporting(None, 3, "training") as report:
    ...     report(None)
    """
    if progress is True and importlib.util.find_spec("tqdm"):
        from tqdm import tqdm

        with tqdm(total=total or None, unit=unit, unit_scale=unit == "B", desc=what) as bar:
            yield lambda record: bar.update(record.done - bar.n)
    elif callable(progress):
        yield progress
    elif progress is None or isinstance(progress, bool):
        yield lambda record: None
    else:
        raise TypeError(f"progress must be a bool or a function, got {type(progress).__name__}")
