"""The pilot's table against the records' own JSON, and its rule on tables made for it."""

import json

import numpy as np
import pandas as pd
import pytest

from reproduction.analysis import pilot
from reproduction.analysis.curves import published
from reproduction.analysis.evidence import existing
from reproduction.experiments.store import RESULTS
from reproduction.experiments.studies import ORIGINAL, PILOTED


def _by_hand(recipe_name: str) -> float:
    """The score from the JSON files of both variants, by the rule of the methods chapter."""
    recipe, scores = PILOTED[recipe_name], []
    for file in RESULTS.glob("cifar10-*.json"):
        record = json.loads(file.read_text())
        spec = record["spec"]
        wanted = (
            spec.get("recipe", {}).items()
            >= {
                "epochs": recipe.epochs,
                "learning_rate": recipe.learning_rate,
            }.items()
        )
        if spec["kind"] != "training" or spec.get("data_id") != ORIGINAL or not wanted:
            continue
        last = record["measurements"]["checkpoints"][-1]
        ours = {
            "3d": last["sensitivity"]["cosine"]["normalized"],
            "6b": last["smoothness"]["kernel"],
        }
        off = 0.0
        for figure, values in ours.items():
            theirs = published(figure).query("variant == @spec['downsampling']")
            off += np.mean([abs(values[k] - v) for k, v in zip(theirs["layer"], theirs["value"])])
        scores.append(off)
    assert len(scores) == 2
    return float(np.mean(scores))


@pytest.mark.parametrize("recipe", ["plain", "rate 0.2"])
def test_scores_are_those_of_the_json(recipe: str) -> None:
    table = pilot.scores(existing("recipe-pilot", "full"))
    assert table.loc[recipe, "score"] == pytest.approx(_by_hand(recipe), rel=1e-9)
    assert list(table["score"]) == sorted(table["score"])


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        # Within the margin of the best the cheapest is taken, though its score is higher.
        ({"16 epochs": (0.100, True), "plain": (0.109, True)}, "plain"),
        ({"16 epochs": (0.100, True), "plain": (0.110, True)}, "16 epochs"),
        # As many epochs: the fewest changes; as many changes: the lower score.
        ({"constant rate": (0.100, True), "plain": (0.105, True)}, "plain"),
        ({"constant rate": (0.101, True), "rate 0.2": (0.100, True)}, "rate 0.2"),
        # What has not learned its images is out of the question.
        ({"rate 0.2": (0.050, False), "32 epochs": (0.100, True)}, "32 epochs"),
    ],
)
def test_the_rule(rows: dict[str, tuple[float, bool]], expected: str) -> None:
    table = pd.DataFrame(list(rows.values()), list(rows), ["score", "learned"])
    assert pilot.chosen(table) == expected


def test_without_a_recipe_that_learns_there_is_no_choice() -> None:
    table = pd.DataFrame([(0.1, False)], ["plain"], ["score", "learned"])
    with pytest.raises(ValueError, match="no recipe reaches a training accuracy of 0.999"):
        pilot.chosen(table)
