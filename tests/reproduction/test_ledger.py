"""The ledger on a page shows what `claims` found, no less and nothing else."""

import math
import re
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest

from reproduction.analysis import claims
from reproduction.analysis.claims import CLAIMS, Finding, Part
from reproduction.pages import ledger
from reproduction.pages.ledger import (
    QUICK,
    counts,
    in_detail,
    in_full,
    in_short,
    interval,
    labels,
    number,
    wanted,
)

NAN, INF = math.nan, math.inf
ROWS = [  # value, low, high, published, held, verdict
    (-0.3291, -0.4, -0.25, -0.4636, "7 of 7", "Held"),
    (3.9, NAN, NAN, NAN, "2 of 7", "In part"),
    (0.0, -1.0, INF, 0.5, "0 of 3", "Did not hold"),
    (NAN, NAN, NAN, 1.87, "0 of 1", "Not tested"),
    (NAN, NAN, NAN, NAN, "0 of 2", "Not tested"),
]


@pytest.fixture
def table() -> pd.DataFrame:
    columns = ["value", "low", "high", "published", "held", "verdict"]
    rows = pd.DataFrame(ROWS, columns=columns, index=pd.Index([1, 2, 3, 4, 17], name="number"))
    return rows.assign(
        claim=[f"x < {k} & so" for k in rows.index],
        section="3.1",
        statistic="a & b",
        threshold="within 1 <point>",
        figure=["3c", "3", "5", "footnote 1", "none"],
        part="cifar10: max-pool - strided",
    )


def cells(html: str) -> list[list[tuple[str, list[str], str]]]:
    """Per row and cell: its own text, its small lines, its link."""
    rows = ElementTree.fromstring(html[html.index("<table") :].replace("&nbsp;", " ")).find("tbody")

    def text(element: ElementTree.Element) -> str:
        return (element.text or "") + "".join(
            ("" if each.tag == "small" else text(each)) + (each.tail or "") for each in element
        )

    return [
        [
            (
                text(cell).strip(),
                [small.text for small in cell.iter("small")],
                next((a.get("href") for a in cell.iter("a")), ""),
            )
            for cell in row
        ]
        for row in rows
    ]


def test_in_full(table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        ledger,
        "_pages",
        lambda: {"fig-3c": "03_a.html", "fig-3c-calibrated": "03_a.html", "fig-3d": "04_b.html"},
    )
    rows, html = cells(in_full(table)), in_full(table)
    assert [
        re.sub("<[^>]+>", "", line) for line in re.findall("<small>(Section.*?)</small>", html)
    ] == [
        "Section 3.1, Figure 3c",
        "Section 3.1, Figures 3c, 3d",
        "Section 3.1, Figure 5",
        "Section 3.1, footnote 1",
        "Section 3.1, no figure",
    ]
    assert re.findall('<a href="([^#]*#fig[^"]*)">(.*?)</a>', html) == [
        ("03_a.html#fig-3c", "3c"),
        ("03_a.html#fig-3c", "3c"),
        ("04_b.html#fig-3d", "3d"),
    ]
    assert [row[0][0] for row in rows] == ["1", "2", "3", "4", "17"]
    assert [(text, small[1:], link) for text, small, link in (row[1] for row in rows)] == [
        (f"x < {k} & so", ["Statistic: a & b", "Threshold: within 1 <point>"], f"#claim-{k}")
        for k in table.index
    ]
    assert [row[2][0] for row in rows] == [
        "● Held",
        "◐ In part",
        "○ Did not hold",
        "– Not tested",
        "– Not tested",
    ]
    assert [row[2][1] for row in rows] == [[f"{held} parts held"] for held in table["held"]]
    assert [row[3][0] for row in rows] == ["−0.329", "3.9", "0", "–", "–"]
    part = "cifar10: max-pool − strided"
    assert [row[3][1] for row in rows] == [
        ["−0.4 to −0.25", "published: −0.464", part],
        ["no interval", part],
        ["−1 to ∞", "published: 0.5", part],
        ["published: 1.87", part],
        [part],
    ]


def test_tables_are_added_to_other_html_as_they_are(table: pd.DataFrame) -> None:
    assert (QUICK + in_full(table)).startswith(QUICK + '<table class="ledger">')
    assert (QUICK + in_short(table, "")).startswith(QUICK + "<p>Of 5 claims: ")


def test_in_short_counts_and_links_to_the_details(table: pd.DataFrame) -> None:
    html = in_short(table, "verdict.html")
    assert html.startswith("<p>Of 5 claims: 1 held, 1 in part, 1 did not hold, 2 not tested.</p>")
    assert counts(table[1:]) == "1 in part, 1 did not hold, 2 not tested"
    rows = cells(html)
    assert rows[4] == [
        ("17", [], ""),
        ("x < 17 & so", [], "verdict.html#claim-17"),
        ("– Not tested", [], ""),
    ]
    assert len(rows) == 5 and {
        f'class="{name}"' for name in ("held", "in-part", "did-not-hold", "not-tested")
    } <= set(re.findall(r'class="[^"]*"', html))


def test_every_class_of_a_verdict_has_its_style() -> None:
    style = (ledger.ROOT / "book" / "_static" / "book.css").read_text()
    assert all(
        f".ledger .{verdict.lower().replace(' ', '-')} " in style for verdict in ledger.MARKS
    )
    assert (
        set(ledger.MARKS) == {"Held", "In part", "Did not hold", "Not tested"}
        and len(set(ledger.MARKS.values())) == 4
    )


def test_in_detail_shows_every_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "_pages", lambda: {"fig-3c": "03_a.html", "fig-3d": "03_a.html"})
    parts = [
        Part("cifar10", "max-pool - strided", -0.33, -0.5, -0.2, (-INF, -0.2231)),
        Part("imagenet", "p", 0.04, NAN, NAN, (-INF, 0.05), role="condition", note="of 120"),
        Part("imagenet", "deviation", 0.5, NAN, NAN, (-INF, INF), role="listed"),
        Part("x", "y", NAN, NAN, NAN, (0.5, 1.0)),
    ]
    detail = pd.DataFrame(parts, columns=Part._fields).assign(
        outcome=["held", "right sign", "listed", "not tested"], published=[-0.4636, NAN, NAN, NAN]
    )
    text = in_detail(
        {
            1: Finding("", 0, 0, 0, 0, "In part", detail),
            17: Finding("", 0, 0, 0, 0, "Held", detail[:0]),
        }
    )
    first, second = text.split("\n\n:::{dropdown}")
    lines = first.splitlines()
    assert (
        lines[:2] == [f":::{{dropdown}} 1. {CLAIMS[1].claim}: ◐ in part", ":name: claim-1"]
        and lines[-1] == ":::"
    )
    assert (
        f"- Statistic: {CLAIMS[1].measured}" in lines
        and f"- Threshold: {CLAIMS[1].threshold}" in lines
    )
    assert (
        f"- In the paper: Section {CLAIMS[1].section}, Figures 3a, 3c; here: {{numref}}`fig-3c`"
        in lines
    )
    assert [line for line in lines if line.startswith("|")][2:] == [
        "| cifar10: max-pool − strided | −0.33 | −0.5 to −0.2 | at most −0.223 | −0.464 | held |",
        "| imagenet: p (control) (of 120) | 0.04 | no interval | at most 0.05 | – | right sign |",
        "| imagenet: deviation | 0.5 | no interval | – | – | listed |",
        "| x: y | – | – | 0.5 to 1 | – | not tested |",
    ]
    assert (
        second.startswith(f" 17. {CLAIMS[17].claim}: ● held\n:name: claim-17")
        and f"Section {CLAIMS[17].section}, no figure\n" in second
    )


def test_in_detail_takes_what_claims_finds() -> None:
    findings = claims.findings({})
    text = in_detail(findings)
    assert re.findall(r":name: claim-(\d+)", text) == [str(k) for k in CLAIMS]
    assert (
        text.count("| not tested |") == sum(len(found.detail) for found in findings.values())
        and "footnote 1" in text
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (-0.3291, "−0.329"),
        (3.9, "3.9"),
        (1.0, "1"),
        (100.0, "100"),
        (0.0, "0"),
        (-0.0, "0"),
        (NAN, "–"),
        (INF, "∞"),
        (-INF, "−∞"),
        (0.0001, "0.0001"),
        (-0.00012345, "−0.00012"),
        (1.8702, "1.87"),
        (0.001, "0.001"),
        (0.9996, "1"),
    ],
)
def test_number(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("goal", "text"),
    [
        ((-INF, -0.2231), "at most −0.223"),
        ((4, INF), "at least 4"),
        ((1.865, 1.875), "1.865 to 1.875"),
        ((1, 1), "1"),
        ((-INF, INF), "–"),
        ((-INF, 1e-4), "at most 0.0001"),
    ],
)
def test_wanted(goal: tuple[float, float], text: str) -> None:
    assert wanted(goal) == text


def test_interval() -> None:
    assert interval(-0.5, 0.25) == "−0.5 to 0.25" and interval(NAN, NAN) == "no interval"


@pytest.mark.parametrize(
    ("figure", "found"),
    [
        ("3a, 3c", ["fig-3c", "fig-3c-calibrated"]),
        ("3", ["fig-3c", "fig-3c-calibrated", "fig-3d"]),
        ("4", ["fig-4"]),
        ("6, 7", ["fig-6b"]),
        ("6c", []),
        ("footnote 1", []),
        ("none", []),
    ],
)
def test_figures_are_found_in_the_chapters(
    figure: str, found: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "ROOT", tmp_path)
    (tmp_path / "book").mkdir()
    for chapter, names in {
        "04_b.py": ("4", "40", "6b", "7-by-seed"),
        "03_a.py": ("3c", "3c-calibrated", "3d", "1"),
    }.items():
        cell = '# %% mystnb={{"figure": {{"name": "fig-{}", "caption": "A name."}}}}\n1\n'
        (tmp_path / "book" / chapter).write_text("".join(map(cell.format, names)))
    assert labels(figure) == found
