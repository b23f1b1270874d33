"""The ledger on a page: what `claims` found, as HTML for the tables and as MyST Markdown for what links to figures.

A verdict is a mark that shape alone tells apart, then the word. Numbers are as in `claims`: differences of
sensitivity are differences of its logarithm.
"""

import math
import re
from collections.abc import Mapping
from html import escape

import pandas as pd

from reproduction.analysis.claims import CLAIMS, Finding
from reproduction.experiments.store import ROOT

MARKS = {"Held": "●", "In part": "◐", "Did not hold": "○", "Not tested": "–"}

QUICK = """<p><b>This is quick mode:</b> small networks, trained on a few photographs while the book was made. They put
the rules through their paces and say nothing for or against the paper; the published values are those of other
networks on other images.</p>
"""


def number(value: float) -> str:
    """Three decimals without zeros at the end, two digits of what is smaller than that; a real minus sign."""
    if math.isnan(value):
        return "–"
    text = (
        f"{value:.2g}" if 0 < abs(value) < 0.001 else f"{value + 0.0:.3f}".rstrip("0").rstrip(".")
    )
    return text.replace("inf", "∞").replace("-", "−")


def interval(low: float, high: float) -> str:
    """ "0.1 to 0.3"; in words if there is none."""
    return "no interval" if math.isnan(low) else f"{number(low)} to {number(high)}"


def wanted(goal: tuple[float, float]) -> str:
    """A goal in words: "at most −0.223"."""
    low, high = goal
    if math.isfinite(low) and math.isfinite(high):
        return number(low) if low == high else f"{number(low)} to {number(high)}"
    if math.isfinite(low):
        return f"at least {number(low)}"
    return f"at most {number(high)}" if math.isfinite(high) else "–"


def counts(ledger: pd.DataFrame) -> str:
    """ "3 held, 9 in part, 1 did not hold, 4 not tested", those that occur."""
    found = ledger["verdict"].value_counts()
    return ", ".join(f"{found[verdict]} {verdict.lower()}" for verdict in MARKS if verdict in found)


def in_short(ledger: pd.DataFrame, page: str) -> str:
    """How often each verdict occurs in `claims.ledger`, and number, claim and verdict, as HTML; a claim links to its
    details on `page`."""
    rows = [
        [str(k), _link(row["claim"], page, k), _marked(row["verdict"])]
        for k, row in ledger.iterrows()
    ]
    return f"<p>Of {len(ledger)} claims: {counts(ledger)}.</p>\n" + _table(
        ["", "claim", "verdict"], rows
    )


def in_full(ledger: pd.DataFrame) -> str:
    """`claims.ledger` as HTML: section, figures, statistic and threshold under the claim, parts held under the verdict, and
    under the value of the least favourable part its interval, the published value, and which part it is."""
    rows = []
    for k, row in ledger.iterrows():
        value = [] if math.isnan(row["value"]) else [interval(row["low"], row["high"])]
        value += [] if math.isnan(row["published"]) else [f"published: {number(row['published'])}"]
        rows.append(
            [
                str(k),
                _link(row["claim"], "", k)
                + f"<small>Section {row['section']}, {_linked(row['figure'])}</small>"
                + _small("Statistic: " + row["statistic"], "Threshold: " + row["threshold"]),
                _marked(row["verdict"]) + _small(f"{row['held']} parts held"),
                number(row["value"]) + _small(*value, _minus(row["part"])),
            ]
        )
    return _table(["", "claim", "verdict", "value"], rows)


def in_detail(findings: Mapping[int, Finding]) -> str:
    """Every claim with all its parts, as MyST: a dropdown each, with links to the figures that this book has."""
    return "\n\n".join(_dropdown(k, found) for k, found in findings.items())


def _dropdown(k: int, found: Finding) -> str:
    claim, here = CLAIMS[k], [f"{{numref}}`{label}`" for label in labels(CLAIMS[k].figure)]
    rows = [
        "| part | ours | 95% interval | wanted | published | outcome |",
        "|---|---|---|---|---|---|",
    ]
    for part in found.detail.itertuples():
        what = (
            _minus(f"{part.study}: {part.what}")
            + (" (control)" if part.role == "condition" else "")
            + (f" ({part.note})" if part.note else "")
        )
        cells = (
            number(part.value),
            interval(part.low, part.high) if not math.isnan(part.value) else "–",
            wanted(part.goal),
            number(part.published),
        )
        rows.append(f"| {what} | {' | '.join(cells)} | {part.outcome} |")
    return "\n".join(
        [
            f":::{{dropdown}} {k}. {claim.claim}: {MARKS[found.verdict]} {found.verdict.lower()}",
            f":name: claim-{k}",
            f"- Statistic: {claim.measured}",
            f"- Threshold: {claim.threshold}",
            f"- In the paper: Section {claim.section}, {_figures(claim.figure)}"
            + (f"; here: {', '.join(here)}" if here else ""),
            "",
            *rows,
            ":::",
        ]
    )


def labels(figure: str) -> list[str]:
    """The labels of the chapters' figures that stand for a claim's `figure`: for "3c" fig-3c and variants of it such as
    fig-3c-calibrated; for "3" all its panels. Not fig-4-kernels for "4": it need not be the paper's."""
    shown = "|".join(
        rf"{name}(-.*)?" if name[-1].isalpha() else rf"{name}([a-z](-.*)?)?"
        for name in figure.split(", ")
    )
    return [label for label in _pages() if re.fullmatch(f"fig-({shown})", label)]


def _pages() -> dict[str, str]:
    """{label of a figure: the page of the book that has it}."""
    chapters = sorted((ROOT / "book").glob("[0-9][0-9]_*.py"))
    return {
        label: f"{chapter.stem}.html"
        for chapter in chapters
        for label in re.findall(r'"name": "(fig-[^"]+)"', chapter.read_text())
    }


def _figures(figure: str) -> str:
    if figure == "none":
        return "no figure"
    return figure if not figure[0].isdigit() else f"Figure{'s' if ',' in figure else ''} {figure}"


def _linked(figure: str) -> str:
    """A claim's figures as HTML, linked to ours: every panel that this book has, if there is one."""
    pages = _pages()
    panels = {
        label.removeprefix("fig-"): label
        for label in sorted(labels(figure))
        if "-" not in label.removeprefix("fig-")
    }
    links = [f'<a href="{pages[label]}#{label}">{panel}</a>' for panel, label in panels.items()]
    return (
        f"Figure{'s' if len(links) > 1 else ''} {', '.join(links)}"
        if links
        else escape(_figures(figure))
    )


def _minus(part: str) -> str:
    return part.replace(" - ", " − ")


def _link(claim: str, page: str, number: object) -> str:
    return f'<a href="{page}#claim-{number}">{escape(claim)}</a>'


def _marked(verdict: str) -> str:
    return f'<span class="{verdict.lower().replace(" ", "-")}" aria-hidden="true">{MARKS[verdict]}</span>&nbsp;{verdict}'


def _small(*lines: str) -> str:
    return "".join(f"<small>{escape(line)}</small>" for line in lines)


def _table(titles: list[str], rows: list[list[str]]) -> str:
    head = "".join(f"<th>{title}</th>" for title in titles)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>\n" for row in rows)
    return (
        f'<table class="ledger">\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>'
    )
