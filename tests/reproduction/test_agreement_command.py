"""`python -m reproduction agreement`: how its table is printed."""

import io

import pandas as pd
from rich.console import Console

from reproduction.__main__ import as_printed
from reproduction.analysis.curves import PUBLISHED, read


def test_text_in_brackets_is_no_markup():
    table = pd.DataFrame({"figure": ["3c"], "variant": ["lp[/2]"], "skill": ["0.50"]})
    console = Console(file=io.StringIO(), width=80)
    console.print(as_printed(table))
    head, _, row = console.file.getvalue().strip().splitlines()
    assert head.split() == ["figure", "variant", "skill"]
    assert row.split() == ["3c", "lp[/2]", "0.50"]


def test_the_arm_of_a_file_is_a_variant():
    assert "arm" in PUBLISHED.read_text().splitlines()[0].split(",")
    assert "variant" in read(PUBLISHED) and "arm" not in read(PUBLISHED)
