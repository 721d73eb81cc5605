"""Whether the first record of a text table names its columns."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

#: The number that a field stands for, or None; whether a field stands for a missing value.
Number = Callable[[str], float | None]
IsMissing = Callable[[str], bool]


def unique_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return names without blanks around them, none empty, none twice (``a``, ``a.1``, as pandas does)."""
    result: dict[str, None] = {}
    copies: dict[str, int] = {}
    for number, name in enumerate(names, start=1):
        base = unique = name.strip() or f"column_{number}"
        while unique in result:
            copies[base] = copies.get(base, 0) + 1
            unique = f"{base}.{copies[base]}"
        result[unique] = None
    return tuple(result)


def is_header(first: Sequence[str], rest: Sequence[Sequence[str]], number_of: Number, is_missing: IsMissing) -> bool:
    """Return whether the first record names the columns.

    It does if a column has text there and numbers below; if its numbers go up in equal steps, as programs number
    columns and as wavelengths and years do, unlike those of the other records; or if it is text that does not come
    again in its column.
    """
    first = [field.strip() for field in first]
    numbers = [number_of(field) for field in first]
    if all(number is None for number in numbers) and not rest:
        return True
    columns = [[record[c].strip() for record in rest if c < len(record)] for c in range(len(first))]
    below = [[text for text in column if not is_missing(text)] for column in columns]
    numeric = [bool(column) and all(number_of(text) is not None for text in column) for column in below]
    if any(numbers[c] is None and not is_missing(first[c]) and numeric[c] for c in range(len(first))):
        return True
    words = [c for c in range(len(first)) if numbers[c] is None and not is_missing(first[c])]
    again = [c for c in words if first[c] in below[c]]
    known = [number for number in numbers if number is not None]
    if not known:
        return bool(words) and 2 * len(again) < len(words)
    if again or not _equal_steps(known):
        return False
    alike = sum(
        _equal_steps([v for c, text in enumerate(record) if c < len(numbers) and numbers[c] is not None
                      and (v := number_of(text)) is not None])
        for record in rest
    )  # fmt: skip
    return 2 * alike < max(len(rest), 1) or _far_off(numbers, below, number_of)


def _far_off(first: Sequence[float | None], below: Sequence[Sequence[str]], number_of: Number) -> bool:
    """Return whether each number of the first record lies far outside the range of its column."""
    for number, column in zip(first, below, strict=True):
        known = [v for text in column if (v := number_of(text)) is not None]
        if number is None or not known:
            continue
        low, high = min(known), max(known)
        if low - 3 * (high - low) <= number <= high + 3 * (high - low):
            return False
    return True


def _equal_steps(numbers: Sequence[float]) -> bool:
    """Return whether at least three numbers go up or down in equal steps."""
    if len(numbers) < 3 or not all(math.isfinite(number) for number in numbers):
        return False
    step = numbers[1] - numbers[0]
    near = 1e-6 * max(abs(number) for number in numbers)
    return step != 0 and all(abs(b - a - step) <= near for a, b in zip(numbers, numbers[1:], strict=False))
