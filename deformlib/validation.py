"""Checks at public doors: errors that name an argument, its value and what it may be."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the command line checks its arguments without waiting for torch
    from torch import Tensor


def unwrap(fields: Any) -> None:
    """Convert NumPy and torch scalars in a frozen dataclass to Python numbers, for JSON."""
    for name, value in list(vars(fields).items()):
        if hasattr(value, "item"):
            object.__setattr__(fields, name, value.item())


def require(valid: bool, name: str, rule: str, value: Any) -> None:
    """ValueError that names an argument, what it may be and what it is, unless it is valid."""
    if not valid:
        raise ValueError(f"{name} must be {rule}, got {value}")


def is_whole(value: Any, least: int) -> bool:
    """Whether it is an integer (and not True or False) of at least `least`."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def is_real(value: Any) -> bool:
    """Whether it is a number (and not True or False), maybe not a finite one."""
    return isinstance(value, Real) and not isinstance(value, bool)


def check_known(name: str, value: Any, table: Iterable[Any]) -> None:
    """ValueError unless `value` is one of `table`; works for unhashable values."""
    if value not in list(table):
        raise ValueError(f"{name} must be one of {', '.join(map(str, table))}, got {value!r}")


def check_batch_size(batch_size: Any) -> None:
    """ValueError unless it is an integer of at least 1, or None."""
    valid = batch_size is None or is_whole(batch_size, 1)
    require(valid, "batch_size", "an integer >= 1, or None for one batch", batch_size)


def check_floating(name: str, x: Any) -> None:
    """ValueError unless `x` is a floating-point tensor."""
    tensor = hasattr(x, "is_meta")  # no other arrays have that
    rule = "a floating-point tensor (divide uint8 images by 255)"
    got = x.dtype if tensor else type(x).__name__
    require(tensor and x.is_floating_point(), name, rule, got)


def check_finite(name: str, x: Tensor) -> None:
    """ValueError if `x` holds NaN or infinite values."""
    # A finite sum has finite terms and costs no copy; only if it overflows must each be looked at.
    if not x.detach().sum().isfinite():
        bad = int((~x.isfinite()).sum())
        require(not bad, name, "finite", f"{bad} NaN or infinite values")


def check_vectors(name: str, x: Any, least: int = 1) -> None:
    """ValueError unless `x` is (N, ...), floating point, finite, not empty, N at least `least`."""
    check_floating(name, x)
    valid = x.ndim >= 2 and len(x) >= least and x.numel() > 0
    require(valid, name, f"(N, ...), N at least {least} and none of it empty", tuple(x.shape))
    check_finite(name, x)


def check_pair(one: tuple[str, Any], two: tuple[str, Any], least: int = 1) -> None:
    """ValueError unless both are as `check_vectors` demands, of one shape, dtype and device."""
    (name, x), (other, y) = one, two
    check_vectors(name, x, least)
    check_floating(other, y)
    kinds = [f"{tuple(z.shape)}, {z.dtype}, {z.device}" for z in (x, y)]
    rule = f"of the shape, dtype and device of {name}, {kinds[0]}"
    require(kinds[0] == kinds[1], other, rule, kinds[1])
    check_finite(other, y)
