"""What the fields of a spec may be: small checks for the `__post_init__` of frozen dataclasses.

A field whose default is None may be None.
"""

import math
from collections.abc import Iterable
from typing import Any

from deformlib.validation import check_known, is_real, is_whole, require


def check_integers(spec: Any, **minimum: int) -> None:
    """ValueError unless each named field is an integer of at least its minimum."""
    for name, least in minimum.items():
        value = getattr(spec, name)
        valid = _may_be_none(spec, name) or is_whole(value, least)
        require(valid, name, f"an integer >= {least}", repr(value))


def check_positive(spec: Any, *names: str) -> None:
    """ValueError unless each named field is a finite number above 0."""
    for name in names:
        value = getattr(spec, name)
        valid = _may_be_none(spec, name) or (_is_finite(value) and value > 0)
        require(valid, name, "a finite number > 0", repr(value))


def check_each_positive(spec: Any, name: str) -> None:
    """ValueError unless the field is a tuple of finite numbers above 0."""
    values = getattr(spec, name)
    valid = isinstance(values, tuple) and all(_is_finite(value) and value > 0 for value in values)
    require(valid, name, "a tuple of finite numbers > 0", repr(values))


def check_not_negative(spec: Any, *names: str, unit: str = "") -> None:
    """ValueError unless each named field is a finite number of at least 0."""
    for name in names:
        value = getattr(spec, name)
        valid = _may_be_none(spec, name) or (_is_finite(value) and value >= 0)
        require(valid, name, f"a finite number >= 0{unit}", repr(value))


def check_fractions(spec: Any, *names: str) -> None:
    """ValueError unless each named field is a number in [0, 1]."""
    for name in names:
        value = getattr(spec, name)
        require(is_real(value) and 0 <= value <= 1, name, "a number in [0, 1]", repr(value))


def check_one_of(spec: Any, name: str, known: Iterable[Any]) -> None:
    """ValueError that lists `known` unless the field is one of them."""
    if not _may_be_none(spec, name):
        check_known(name, getattr(spec, name), known)


def _may_be_none(spec: Any, name: str) -> bool:
    """Whether the field is None, as it is by default."""
    return getattr(spec, name) is None and getattr(type(spec), name, ...) is None


def _is_finite(value: Any) -> bool:
    return is_real(value) and math.isfinite(value)
