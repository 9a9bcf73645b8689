"""Many small cases in one test: as many tests of a millisecond cost seconds beside themselves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def case(name: object) -> Iterator[None]:
    """Names the case in what fails within."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"in the case {name}")
        raise
