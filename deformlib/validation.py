"""Errors that name an argument, its value and what it may be."""

from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any


def unwrap(fields: Any) -> None:
    """NumPy's and PyTorch's single numbers in a frozen dataclass as Python's, which is what JSON has."""
    for name, value in list(vars(fields).items()):
        if hasattr(value, "item"):
            object.__setattr__(fields, name, value.item())


def require(valid: bool, name: str, rule: str, value: Any) -> None:
    """ValueError that names an argument, what it may be and what it is, unless it is valid."""
    if not valid:
        raise ValueError(f"{name} must be {rule}, got {value}")


def is_whole(value: Any, least: int) -> bool:
    """Whether it is an integer (and not True or False) of at least `least`."""
    return isinstance(value, Integral) and not isinstance(value, bool) and value >= least


def is_real(value: Any) -> bool:
    """Whether it is a number (and not True or False), maybe not a finite one."""
    return isinstance(value, Real) and not isinstance(value, bool)


def check_batch_size(batch_size: Any) -> None:
    """ValueError unless it is an integer of at least 1, or None."""
    require(
        batch_size is None or is_whole(batch_size, 1),
        "batch_size",
        "an integer >= 1, or None for one batch",
        batch_size,
    )


def check_known(name: str, value: Any, table: Iterable[Any]) -> None:
    """ValueError that names an argument, lists the names it may be and says what it is, unless it is one of them."""
    if value not in list(table):  # which asks for no hash
        raise ValueError(f"{name} must be one of {', '.join(map(str, table))}, got {value!r}")
