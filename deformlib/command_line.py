"""What both command lines share: errors in one line, options that take several values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup


def at_least(low: int, high: int = 2**63 - 1) -> Callable[[Any], Any]:
    """Check one integer, or several, as Typer's own `min` does, which does not say what it was given."""

    def check(value: int | list[int] | None) -> int | list[int] | None:
        for given in value if isinstance(value, list) else [value]:
            if given is not None and not low <= given <= high:
                raise typer.BadParameter(
                    f"must be {low} or more, got {given}"
                    if given < low
                    else f"must be at most {high}, got {given}"
                )
        return value

    return check


class Group(TyperGroup):
    """Commands whose bad input is one line on stderr and exit code 2; options that cannot be read, click's own few lines."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (
            ValueError,
            FileNotFoundError,
            FileExistsError,
            NotADirectoryError,
            IsADirectoryError,
            PermissionError,
        ) as error:
            typer.echo(f"Error: {' '.join(str(error).split())}", err=True)
            raise typer.Exit(2) from error
        except RuntimeError as error:
            if "allocate memory" not in str(error) and "out of memory" not in str(
                error
            ):  # PyTorch has no class for it on the CPU
                raise
            typer.echo(
                "Error: not enough memory for so large a grid, so many or so large images; see --help (measure has --batch-size)",
                err=True,
            )
            raise typer.Exit(2) from error


class Command(TyperCommand):
    """A command whose repeatable options take several values at once: `--seeds 0 1` is `--seeds 0 --seeds 1`.

    An argument comes before them, for nothing would tell it from one more value.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        several = {
            name
            for param in self.params
            if param.param_type_name == "option" and param.multiple
            for name in param.opts
        }
        used = [arg for arg in args if arg in several]
        for param in self.params:
            if param.required and used and args[0].startswith("-"):
                raise ValueError(
                    f"put {param.name.upper()} first: {used[0]} takes every word up to the next option"
                )
        return super().parse_args(ctx, repeat_options(args, several))

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        options, *arguments = super().collect_usage_pieces(ctx)
        return [*arguments, options]


def repeat_options(args: Sequence[str], several: set[str]) -> list[str]:
    """`args` with each option of `several` before every one of its values: all words up to the next option."""
    result: list[str] = []
    option = None
    for arg in args:
        if arg.startswith("-"):
            option = arg if arg in several else None
        elif option and result[-1] != option:
            result.append(option)
        result.append(arg)
    return result
