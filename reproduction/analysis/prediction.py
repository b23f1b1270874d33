"""How much of sensitivity is predicted from clean images and filters: records of `Theory` in,
tables out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from reproduction.analysis.evidence import Evidence
from reproduction.experiments.records import PredictedLayer, TheoryRecord
from reproduction.experiments.spectra import MOVED

# What a prediction is made from, in the order in which each adds something to the one before.
SOURCES = {
    "filtered": "the layer's input and its filters",
    "own": "the layer's own spectrum",
    "dense": "its spectrum at every pixel",
}
APART = 3  # the first downsampling layer: below it, untrained variants of a seed are one network


@dataclass(frozen=True)
class Network:
    """The layers of one network: `kind` is its training, "initial", "smoothed-SIGMA", ..."""

    kind: str
    variant: str
    seed: int
    layers: list[PredictedLayer]
    smoothness: Mapping[str, float]


Measurements = Mapping[tuple[str, str], TheoryRecord]  # by (study of the training, variant)


def measurements(theory: Mapping[str, Evidence]) -> Measurements:
    """Records of `Theory`, seed 0; `theory` is {study of the trainings: study of their theory}."""
    return {
        (study, str(evidence.variant(record.spec))): record.measurements
        for study, evidence in theory.items()
        for record in evidence.only(seed=0).records
    }


def networks_of(measurements: Measurements) -> list[Network]:
    """All networks, one untrained network of each variant: of the first study that has it."""
    found: dict[tuple[str, str], Network] = {}
    for (study, variant), record in measurements.items():
        for name, layers in record.networks.items():
            kind = study if name == "after" else name
            network = Network(kind, variant, 0, layers, record.smoothness[name])
            found.setdefault((kind, variant), network)
    return list(found.values())


def first_layers(networks: Iterable[Network]) -> pd.DataFrame:
    """The image and each network's first convolution before its ReLU: linear layers both.

    Rows by network; columns by distance: what is measured (means over means) and predicted.
    """
    rows: dict[tuple[str, str], dict[tuple[str, str], float]] = {}
    for network in networks:
        image, first = network.layers[:2]
        rows.setdefault(("image", ""), _linear(image))
        rows[network.kind, network.variant] = _linear(first)
    return pd.DataFrame(rows).T


def _linear(layer: PredictedLayer) -> dict[tuple[str, str], float]:
    found = {}
    for distance in layer.measured:
        found[distance, "measured"] = layer.measured[distance]
        for moved in MOVED:
            found[distance, moved] = layer.filtered[distance][moved]
    found["cosine", "over median"] = layer.paper
    return found


def bounds_table(measurements: Measurements) -> pd.DataFrame:
    """All trials of the bounds: a row for filters, strength and bound, of each first layer once."""
    rows = []
    seen = set()
    for (study, variant), record in measurements.items():
        for trial in record.bounds:
            filters = f"{study}, {variant}" if trial.filters == "after" else trial.filters
            if (filters, trial.strength) in seen:
                continue
            seen.add((filters, trial.strength))
            for bound, value in trial.tightness.items():
                rows.append(
                    {
                        "filters": filters,
                        "strength": trial.strength,
                        "gradient": trial.gradient,
                        "may fold": trial.folding,
                        "bound": bound,
                        "tightness": value,
                        "largest": trial.largest[bound],
                    }
                )
    return pd.DataFrame(rows)


def table(networks: Iterable[Network]) -> pd.DataFrame:
    """A row for each layer, and for what its ReLU receives ("NAME.norm"), of each network.

    Columns kind, variant, seed, name, layer (its number, 0 the image), before_relu, paper, shifted,
    and "SOURCE MOVED" for the predictions of `paper`.
    """
    rows = []
    for network in networks:
        numbers: dict[str, int] = {}
        for layer in network.layers:
            owner = layer.name.removesuffix(".norm")
            number = numbers.setdefault(owner, len(numbers))
            rows.append(
                {
                    "kind": network.kind,
                    "variant": network.variant,
                    "seed": network.seed,
                    "name": owner,
                    "layer": number,
                    "before_relu": layer.name != owner,
                    "paper": layer.paper,
                    "shifted": layer.shifted,
                    **_predicted(layer),
                }
            )
    return pd.DataFrame(rows)


def explained(values: pd.DataFrame, predictors: Iterable[str], of: str = "paper") -> pd.DataFrame:
    """How well each predictor does, one row each, on the rows of `table` given.

    ratio        geometric mean of prediction over measurement
    off by       the factor within which two thirds of the predictions are, exp of the standard
                 deviation of the logarithm of that ratio
    R2           of the logarithms with nothing fitted: 1 less the mean squared difference over the
                 variance. Below 0 it is worse than the mean of what is measured
    R2, fitted   squared correlation of the logarithms
    rank         Spearman's correlation
    layers       the same within a network, the mean over networks
    networks     the same within a layer, the mean over layers from the first downsampling on
    """
    rows, above = {}, values[values["layer"] >= APART]
    for name in predictors:
        found, log = np.log(values[name]), np.log(values[of])
        error = found - log
        rows[name] = {
            "ratio": np.exp(error.mean()),
            "off by": np.exp(error.std()),
            "R2": 1 - (error**2).mean() / log.var(ddof=0),
            "R2, fitted": found.corr(log) ** 2,
            "rank": found.corr(log, "spearman"),
            "layers": _within(values, name, of, ["kind", "variant", "seed"]),
            "networks": _within(above, name, of, ["layer", "before_relu"]),
        }
    return pd.DataFrame(rows).T


def smoothing_and_change(networks: Iterable[Network]) -> pd.DataFrame:
    """What each convolution's filters do to the predicted sensitivity, and how smooth they are.

    Columns kind, variant, seed, name, smoothness (normalized total variation) and change: the
    prediction with the filters over that without them, from one and the same input.
    """
    rows = []
    for network in networks:
        by_name = {layer.name: layer for layer in network.layers}
        for name, roughness in network.smoothness.items():
            layer = by_name[name.replace(".conv", ".norm")]
            rows.append(
                {
                    "kind": network.kind,
                    "variant": network.variant,
                    "seed": network.seed,
                    "name": name.removesuffix(".conv"),
                    "smoothness": roughness,
                    "change": layer.filtered["cosine"]["any"] / layer.unfiltered["any"],
                }
            )
    return pd.DataFrame(rows)


def _predicted(layer: PredictedLayer) -> dict[str, float]:
    sources = {"filtered": layer.filtered["cosine"], "own": layer.own, "dense": layer.dense}
    return {
        f"{source} {moved}": value * layer.to_median
        for source, fractions in sources.items()
        for moved, value in fractions.items()
    }


def _within(values: pd.DataFrame, one: str, other: str, by: list[str]) -> float:
    """Mean of the rank correlations of groups; NaN if no group has one."""
    found = [group[one].corr(group[other], "spearman") for _, group in values.groupby(by)]
    return pd.Series(found, dtype=float).mean()
