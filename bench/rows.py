"""A row of the table of `make bench`: our work against another's, and the goal."""

import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

REPETITIONS = 15
DEVICE = "cuda" if sys.argv[1:] == ["--cuda"] else "cpu"


class Row(NamedTuple):
    """Values of a ratio, one of each repetition; `goal` is a bound: ">= 60" or "<= 1.3"."""

    work: str
    against: str
    values: list[float]
    goal: str

    def cells(self) -> dict[str, str]:
        low, middle, high = np.percentile(self.values, [25, 50, 75])
        sign, bound = self.goal.split()
        reached = middle >= float(bound) if sign == ">=" else middle <= float(bound)
        return {
            "work": self.work,
            "against": self.against,
            "ratio": f"{middle:.2f}",
            "quartiles": f"{low:.2f} to {high:.2f}",
            "goal": self.goal,
            "reached": "yes" if reached else "no",
        }


def line(*cells: str) -> str:
    return "{:52} {:46} {:>8} {:>18} {:>8} {:>8}".format(*cells)


def now() -> float:
    """The time once the device is idle: a GPU works on while the CPU asks for more."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def seconds(work: Callable[[], object]) -> float:
    start = now()
    work()
    return now() - start


def times_of(
    ours: Callable[[], object], theirs: Callable[[], object], repetitions: int = REPETITIONS
) -> list[float]:
    """Our time over theirs, one right after the other, after a warm-up of both."""
    seconds(ours), seconds(theirs)
    return [seconds(ours) / seconds(theirs) for _ in range(repetitions)]


def exponents(works: dict[float, Callable[[], object]], repetitions: int = 5) -> list[float]:
    """The power of its size that the time of a work grows by, in each repetition.

    It is the slope in logarithms over all sizes.
    """
    for work in works.values():
        work()
    sizes = np.log(list(works))
    return [
        np.polyfit(sizes, np.log([seconds(work) for work in works.values()]), 1)[0]
        for _ in range(repetitions)
    ]
