"""From the parts of a claim to its verdict.

A claim is a list of parts (a comparison, a variant, a data set), each an interval and a goal. The
outcome of a part is

- "held": the interval lies in the goal.
- "excluded": the interval lies outside the goal, whatever the sign.
- "right sign" or "wrong sign": the interval contains the goal's edge, or cannot be computed (one
  seed). Then the estimate decides: it is on the goal's side of no effect, or not. A goal with two
  ends must contain the estimate.
- "not tested": there are no records, or too few seeds for any value.
- "listed": the part is only shown.

The verdict of a claim is

- Held: every part held. All must hold, so no multiplicity is to pay for (Berger 1982,
  Technometrics 24:295).
- Not tested: no part was tested.
- In part: some part held, or at least half of the parts tested have the right sign.
- Did not hold: otherwise, which includes an undecided interval around an estimate of the wrong
  sign.

So a missing variant, a missing data set or a single seed leave at most "In part". A part that is a
"condition" (a control) can keep a claim from being held, but cannot hold it up.
"""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from reproduction.analysis.intervals import Interval

INF = math.inf
Goal = tuple[float, float]


class Part(NamedTuple):
    """What was found of one comparison, variant or data set, and the goal of its interval.

    null      value where there is no effect
    role      "decides", "condition" or "listed"
    possible  range of the value: an end of the goal that is also an end of this range cannot be
              missed"""

    study: str
    what: str
    value: float
    low: float
    high: float
    goal: Goal
    null: float = 0.0
    role: str = "decides"
    note: str = ""
    possible: Goal = (-INF, INF)

    @property
    def margin(self) -> float:
        """Distance of the value from the nearest end of its goal that can be missed; negative
        outside the goal."""
        above = INF if self.goal[0] == self.possible[0] else self.value - self.goal[0]
        below = INF if self.goal[1] == self.possible[1] else self.goal[1] - self.value
        return min(above, below)

    @property
    def outcome(self) -> str:
        start, end = self.goal
        if math.isnan(self.value):
            return "not tested"
        if self.role == "listed":
            return "listed"
        if start <= self.low and self.high <= end:
            return "held"
        if self.high < start or self.low > end:
            return "excluded"
        return "right sign" if self._has_right_sign else "wrong sign"

    @property
    def _has_right_sign(self) -> bool:
        start, end = self.goal
        if start == -INF:
            return self.value < self.null
        if end == INF:
            return self.value > self.null
        return start <= self.value <= end


def part(study: str, what: str, found: Interval, goal: Goal, **more: Any) -> Part:
    """A part of a claim from the interval that was found."""
    value, low, high = map(float, found)
    return Part(study, what, value, low, high, goal, **more)


def untested(study: str, what: str, goal: Goal, **more: Any) -> Part:
    """A part that lacks records."""
    return Part(study, what, math.nan, math.nan, math.nan, goal, **more)


def verdict(parts: Iterable[Part]) -> str:
    """Held, In part, Did not hold or Not tested, by the rule at the head of this file."""
    counting = [part for part in parts if part.role != "listed"]
    deciding = [part.outcome for part in counting if part.role == "decides"]
    tested = [outcome for outcome in deciding if outcome != "not tested"]
    if not tested:
        return "Not tested"
    if all(part.outcome == "held" for part in counting):
        return "Held"
    right = tested.count("held") + tested.count("right sign")
    return "In part" if "held" in tested or 2 * right >= len(tested) else "Did not hold"
