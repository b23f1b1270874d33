"""The worst deformations as tables: how far they move, where they carry over, what they flip."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from deformlib.models import DOWNSAMPLINGS
from reproduction.experiments.records import Carried, OfNetwork, WorstRecord
from reproduction.experiments.store import Record
from reproduction.experiments.worst import CLASS

Records = Sequence[Record]  # of `Worst` or `WorstPretrained`
WHEN = {"before": "before training", "calibrated": "before, recalibrated", "after": "after"}


def parts(records: Records, network: str) -> list[tuple[Any, WorstRecord, OfNetwork]]:
    """(spec, measurements, those of this network) of every record that has it."""
    found = [(record.spec, record.measurements) for record in records]
    return [
        (spec, measured, measured.networks[network])
        for spec, measured in found
        if network in measured.networks
    ]


def by_layer(records: Records, network: str, field: str) -> pd.DataFrame:
    """Columns variant, seed, layer, name, value: a field of `records.Maxima`."""
    rows = []
    for spec, measured, part in parts(records, network):
        values = getattr(part.maxima, field)
        for number, name, value in zip(measured.numbers, measured.layers, values, strict=True):
            rows.append((spec.downsampling, spec.seed, number, name, value))
    return pd.DataFrame(rows, columns=["variant", "seed", "layer", "name", "value"])


def ratio(records: Records, network: str, field: str, to: str) -> pd.DataFrame:
    """The same of one field over another."""
    values = by_layer(records, network, field)
    return values.assign(value=values["value"] / by_layer(records, network, to)["value"])


def search(records: Records, network: str) -> pd.DataFrame:
    """Layer by layer, means over records: how far the search came, and by how much it still rises.

    steps, restarts   what the ascents alone gained by the second half of each, a fraction
    beaten            fraction of images on which they are above the best of as many random draws
    at bound          fraction of displacements that are as large as they may be
    """
    columns = {
        "over random": ratio(records, network, "worst", "random"),
        "over best random": ratio(records, network, "worst", "random_best"),
        "steps": ratio(records, network, "ascent", "half_steps"),
        "restarts": ratio(records, network, "ascent", "half_restarts"),
        "beaten": by_layer(records, network, "beaten"),
        "at bound": by_layer(records, network, "at_bound"),
    }
    found = pd.DataFrame(
        {
            name: values.groupby(["layer", "name"])["value"].mean()
            for name, values in columns.items()
        }
    )
    return found.assign(steps=found["steps"] - 1, restarts=found["restarts"] - 1)


def carried(records: Records, network: str, on: str | None = None) -> pd.DataFrame:
    """Rows: the layer (or the class) that a deformation was found for; columns: where it is tried.

    Distances relative to those of random deformations at the same layer, means over records. On the
    network itself, or on another of the record: "before", "after", "VARIANT-SEED".
    """
    tables = []
    for _, measured, part in parts(records, network):
        values = part.carried[on or network].distances
        tables.append(pd.DataFrame(values, index=part.targets, columns=measured.layers))
    return sum(tables[1:], tables[0]) / len(tables)


def across(records: Records, target: str) -> pd.DataFrame:
    """Rows: the trained network that deformations were found for; columns: where they are tried.

    At a layer, relative to random ones there; for the class, the fraction of changed predictions.
    """
    rows = {}
    for spec, _, part in parts(records, "after"):
        own = f"{spec.downsampling}-{spec.seed}"
        k = part.targets.index(target)
        row = {}
        for name, tried in part.carried.items():
            if name not in WHEN or name == "after":
                row[own if name == "after" else name] = _at(tried, k, target)
        rows[own] = row
    return pd.DataFrame(rows).T.reindex(columns=list(rows))


def _at(tried: Carried, k: int, target: str) -> float:
    return tried.flips[k] if target == CLASS and tried.flips else tried.distances[k][k]


def classes(records: Records) -> pd.DataFrame:
    """Accuracy and flips of the trained networks, a row for each, by the kind of deformation."""
    rows = {}
    for spec, _, part in parts(records, "after"):
        found, k = part.predictions, part.targets.index(CLASS)
        assert found is not None  # who is attacked in the class has predictions
        rows[DOWNSAMPLINGS[spec.downsampling].label, spec.seed] = {
            ("accuracy", "clean"): found.clean_accuracy,
            ("accuracy", "random"): found.random_accuracy,
            ("accuracy", "worst of random"): found.random_best_accuracy,
            ("accuracy", "against the class"): found.accuracy[k],
            ("flips", "random"): found.random_flips,
            ("flips", "worst of random"): found.random_best_flips,
            ("flips", "worst, image"): found.flips[0],
            ("flips", "worst, last layer"): found.flips[k - 1],
            ("flips", "against the class"): found.flips[k],
        }
    return pd.DataFrame(rows).T


def spread(values: pd.DataFrame) -> pd.Series:
    """Standard deviation between variants of the logarithm, of their means over seeds, by layer."""
    logs = values.assign(value=np.log(values["value"]))
    means = logs.groupby(["layer", "variant"])["value"].mean()
    return means.groupby("layer").std()


def convergence(records: Records) -> pd.DataFrame:
    """Spread between variants by layer, for random and for worst deformations."""
    columns = {}
    for network in WHEN:
        if parts(records, network):
            for field in ("random", "worst"):
                columns[field, WHEN[network]] = spread(by_layer(records, network, field))
    return pd.DataFrame(columns)


def findings(records: Records) -> list[str]:
    """What was found, in three sentences."""
    return [_how_far(records), _alike(records), _class(records)]


def _how_far(records: Records) -> str:
    over = ratio(records, "after", "worst", "random").groupby("layer")["value"].mean()
    return (
        f"Within the paper's bound, the worst deformation that was found moves the image itself "
        f"{over.iloc[0]:.1f} times as far as a random one does on average, and the last layer of "
        f"a trained network {over.iloc[-1]:.1f} times ({over.min():.1f} to {over.max():.1f} over "
        f"all layers)."
    )


def remaining_spread(records: Records, field: str, since: str = "before") -> float:
    """Spread between variants after training over that before, in the upper half of the layers."""
    before, after = (spread(by_layer(records, when, field)) for when in (since, "after"))
    upper = before.index > before.index.max() / 2
    return float(after[upper].mean() / before[upper].mean())


def _alike(records: Records) -> str:
    worst, random = (remaining_spread(records, field) for field in ("worst", "random"))
    verdict = "converge under them as well" if worst < 1 else "do not converge under them"
    return (
        f"The variants {verdict}: in the upper half of the network training leaves {worst:.2f} of "
        f"the spread between them (standard deviation of logarithms) under the worst "
        f"deformations, and {random:.2f} under random ones."
    )


def _class(records: Records) -> str:
    accuracy, flips = (classes(records).mean()[kind] for kind in ("accuracy", "flips"))
    chosen = "against the class"
    return (
        f"A random deformation changes {flips['random']:.0%} of the predictions, the one that is "
        f"worst for the image itself {flips['worst, image']:.0%}, and one that is chosen {chosen} "
        f"{flips[chosen]:.0%}, which leaves {accuracy[chosen]:.0%} accuracy of "
        f"{accuracy['clean']:.0%}."
    )
