"""Published curves as numbers, to be laid over ours."""

from pathlib import Path

import pandas as pd

from .store import ROOT

PUBLISHED = ROOT / "book" / "published" / "curves.csv"


def published(figure: str, file: Path = PUBLISHED) -> pd.DataFrame:
    """The curves read off one of the paper's figures, "3c": columns arm, layer, value.

    Good to about 0.01 (0.02 where a curve was hidden). ValueError, listing the known ones, for another figure.
    """
    curves = pd.read_csv(file, dtype={"figure": str})
    if figure not in set(curves.figure):
        raise ValueError(f"figure must be one of {', '.join(sorted(set(curves.figure)))}, got {figure!r}")
    return curves.loc[curves.figure == figure, ["arm", "layer", "value"]].reset_index(drop=True)
