"""The ledger on a page: what `claims` found, in HTML tables and in MyST that links to figures.

A verdict is a mark that shape alone tells apart, then the word. Numbers are as in `claims`:
differences of sensitivity are differences of its logarithm. The pages' text is in `templates/`.
"""

import math
import re
from collections.abc import Mapping

import pandas as pd
from jinja2 import Environment, PackageLoader, Template, select_autoescape

from reproduction.analysis.claims import CLAIMS, Finding
from reproduction.experiments.store import ROOT

MARKS = {"Held": "●", "In part": "◐", "Did not hold": "○", "Not tested": "–"}

QUICK = """\
<p><b>This is quick mode:</b> small networks, trained on a few photographs while the book was made.
They put the rules through their paces and say nothing for or against the paper; the published
values are those of other networks on other images.</p>
"""


def in_short(ledger: pd.DataFrame, page: str) -> str:
    """Counts of the verdicts in `claims.ledger`, then number, claim and verdict, as HTML.

    A claim links to its details on `page`.
    """
    return _html("in_short", ledger, counts(ledger), page)


def in_full(ledger: pd.DataFrame) -> str:
    """`claims.ledger` as HTML.

    Under a claim stand section, figures, statistic and threshold; under the verdict the parts that
    held; under the value of the least favourable part its interval, the published value, and which
    part it is.
    """
    return _html("in_full", ledger)


def in_detail(findings: Mapping[int, Finding]) -> str:
    """Every claim with all its parts, as MyST: dropdowns with links to the book's figures."""
    template = _template("claim.md")
    dropdowns = [
        template.render(
            number=number,
            claim=CLAIMS[number],
            verdict=found.verdict,
            labels=labels(CLAIMS[number].figure),
            parts=found.detail.to_dict("records"),
        )
        for number, found in findings.items()
    ]
    return "\n\n".join(dropdowns)


def counts(ledger: pd.DataFrame) -> str:
    """ "3 held, 9 in part, 1 did not hold, 4 not tested", those that occur."""
    found = ledger["verdict"].value_counts()
    return ", ".join(f"{found[verdict]} {verdict.lower()}" for verdict in MARKS if verdict in found)


def number(value: float) -> str:
    """Three decimals without zeros at the end, two digits of smaller numbers; a real minus sign."""
    if math.isnan(value):
        return "–"
    if 0 < abs(value) < 0.001:
        text = f"{value:.2g}"
    else:
        text = f"{value + 0.0:.3f}".rstrip("0").rstrip(".")
    return text.replace("inf", "∞").replace("-", "−")


def interval(low: float, high: float) -> str:
    """ "0.1 to 0.3"; in words if there is none."""
    return "no interval" if math.isnan(low) else f"{number(low)} to {number(high)}"


def wanted(goal: tuple[float, float]) -> str:
    """A goal in words: "at most −0.223"."""
    low, high = goal
    if low == high:
        return number(low)
    if math.isfinite(low) and math.isfinite(high):
        return f"{number(low)} to {number(high)}"
    if math.isfinite(low):
        return f"at least {number(low)}"
    return f"at most {number(high)}" if math.isfinite(high) else "–"


def labels(figure: str) -> list[str]:
    """The labels of the chapters' figures that stand for a claim's `figure`.

    For "3c" fig-3c and variants of it such as fig-3c-calibrated; for "3" all its panels. Not
    fig-4-kernels for "4": it need not be the paper's.
    """
    patterns = [
        f"{name}(-.*)?" if name[-1].isalpha() else f"{name}([a-z](-.*)?)?"
        for name in figure.split(", ")
    ]
    shown = re.compile(f"fig-({'|'.join(patterns)})")
    return [label for label in _pages() if shown.fullmatch(label)]


def _html(macro: str, ledger: pd.DataFrame, *args: str) -> str:
    """A table of the ledger; a plain string, since Markup would escape what is added to it."""
    table = getattr(_template("ledger.html").module, macro)
    return str(table(ledger.to_dict("index"), *args))


def _template(name: str) -> Template:
    """A template, in which HTML is escaped and Markdown is not."""
    environment = Environment(
        loader=PackageLoader("reproduction.pages"),
        autoescape=select_autoescape(["html"]),
        trim_blocks=True,
    )
    environment.filters |= {
        "figures_in_words": _in_words,
        "is_known": _known,
        "minus": _minus,
        "number": number,
    }
    environment.globals |= {
        "interval": interval,
        "marks": MARKS,
        "panels_of": _panels,
        "wanted": wanted,
    }
    return environment.get_template(name)


def _pages() -> dict[str, str]:
    """{label of a figure: the page of the book that has it}."""
    pages = {}
    for chapter in sorted((ROOT / "book").glob("[0-9][0-9]_*.py")):
        for label in re.findall(r'"name": "(fig-[^"]+)"', chapter.read_text()):
            pages[label] = f"{chapter.stem}.html"
    return pages


def _panels(figure: str) -> dict[str, str]:
    """The book's panels of a claim's figures, {"3c": address}, without their variants."""
    pages = _pages()
    panels = {label.removeprefix("fig-"): label for label in sorted(labels(figure))}
    return {panel: f"{pages[label]}#{label}" for panel, label in panels.items() if "-" not in panel}


def _known(value: float) -> bool:
    return not math.isnan(value)


def _minus(part: str) -> str:
    return part.replace(" - ", " − ")


def _in_words(figure: str) -> str:
    """A claim's figures in the paper: "Figures 3a, 3c", "footnote 1", "no figure"."""
    if figure == "none":
        return "no figure"
    if not figure[0].isdigit():
        return figure
    return f"Figures {figure}" if "," in figure else f"Figure {figure}"
