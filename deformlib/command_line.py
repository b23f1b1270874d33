"""What both command lines share: errors in one line, progress, options of several values."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

T = TypeVar("T")


def at_least(low: int, high: int = 2**63 - 1) -> Callable[[Any], Any]:
    """Check one integer or several. Typer's own `min` and `max` do not say what they were given."""

    def check(value: int | list[int] | None) -> int | list[int] | None:
        values = value if isinstance(value, list) else [value]
        for given in values:
            if given is not None and not low <= given <= high:
                rule = f"{low} or more" if given < low else f"at most {high}"
                raise typer.BadParameter(f"must be {rule}, got {given}")
        return value

    return check


def check_writable(path: Path) -> None:
    """ValueError unless a file can be written here, as far as its folder tells."""
    if path.is_dir():
        raise ValueError(f"{path} cannot be written: it is a folder")
    if not os.access(path.parent, os.W_OK):
        raise ValueError(f"{path} cannot be written: there is no such folder, or it is read-only")


def progress(things: Iterable[T], label: str) -> Iterator[T]:
    """Yield things, with the time left where someone watches."""
    if not sys.stderr.isatty():
        yield from things
        return
    with typer.progressbar(list(things), label=label, file=sys.stderr) as bar:
        yield from bar


class Group(TyperGroup):
    """Commands that answer bad input with one line on stderr and exit code 2."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # of `| head`, which Typer ends quietly
            raise
        except (ValueError, OSError) as error:
            line = str(error)
        except (MemoryError, RuntimeError) as error:
            if not isinstance(error, MemoryError) and "allocate" not in str(error):  # PyTorch's
                raise
            line = "not enough memory for images so large, so many, or a grid so fine; see --help"
        typer.echo(f"Error: {' '.join(line.split())}", err=True)
        raise typer.Exit(2)


class Command(TyperCommand):
    """A command whose repeatable options take several values at once: `--seeds 0 1`. Arguments
    stand first, in the usage line too: after such an option they would be its values."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        options = [param for param in self.params if param.param_type_name == "option"]
        several = {name for option in options if option.multiple for name in option.opts}
        return super().parse_args(ctx, repeat_options(args, several))

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        options, *arguments = super().collect_usage_pieces(ctx)
        return [*arguments, options]


def repeat_options(args: Sequence[str], several: set[str]) -> list[str]:
    """`args` with each option of `several` repeated before each of its values."""
    result: list[str] = []
    option = None
    for arg in args:
        if arg.startswith("-"):
            option = arg if arg in several else None
        elif option and result[-1] != option:
            result.append(option)
        result.append(arg)
    return result
