"""Calls with more rows than a request takes."""

from __future__ import annotations

import re
from typing import Any, Callable, Iterator, Sequence

from ._errors import FreshetError

#: A row, as errors name it.
ROW = re.compile(r"\b(rows|entities)\[(\d+)\]")


def in_parts(rows: Sequence[Any], size: int, call: Callable[[list[Any]], Any]) -> Iterator[tuple[int, Any]]:
    """Calls with `size` rows at most; what is too large for one request goes in two. Gives the first row's place, and the answer.

    :raises FreshetError: whose words name rows by their places in `rows`
    """
    for start in range(0, len(rows), size):
        yield from _halves(list(rows[start : start + size]), start, call)


def _halves(part: list[Any], start: int, call: Callable[[list[Any]], Any]) -> Iterator[tuple[int, Any]]:
    try:
        answer = call(part)
    except FreshetError as error:
        if error.status != 413 or len(part) < 2:
            raise _placed(error, start) from error.__cause__
        half = len(part) // 2
        yield from _halves(part[:half], start, call)
        yield from _halves(part[half:], start + half, call)
    else:
        yield start, answer


def _placed(error: FreshetError, start: int) -> FreshetError:
    if start == 0:
        return error

    def moved(text: Any) -> Any:
        return ROW.sub(lambda found: f"{found[1]}[{int(found[2]) + start}]", text) if isinstance(text, str) else text

    return FreshetError(error.status, {name: moved(value) for name, value in error.problem.items()})
