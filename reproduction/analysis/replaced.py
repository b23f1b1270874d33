"""How much of what training changes in a network's sensitivity do its weights' statistics carry?

A change is that of log sensitivity since before training, both with batch norm calibrated. The
fraction that a replacement carries is its change over that of training, each summed over layers
first: where training's change goes through zero, a layer's own fraction means nothing. Such a layer
can still spoil a plain sum, to which it gives nothing below the line and much above it; so a layer
counts by training's change there, in the mean over seeds. The plain sums are here as well.
"""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from reproduction.analysis.evidence import Evidence, label_of
from reproduction.analysis.intervals import Interval, t_interval

# With what weights layers are summed: those of a variant's changes by training, means over seeds,
# (L,) -> (L,). Layer 0 is the image, which nothing changes.
SCOPES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "rise": lambda trained: trained.clip(min=0),
    "fall": lambda trained: -trained.clip(max=0),
    "last layer": lambda trained: _only(-1, trained),
    # What the layers above do to what the first ones have done.
    "highest to last": lambda trained: _only(-1, trained) - _only(int(trained.argmax()), trained),
    "rise, plain sum": lambda trained: (trained > 0).astype(float),
    "fall, plain sum": lambda trained: (trained < 0).astype(float),
}
# The least change of log sensitivity by training, in the weighted mean over layers, of which a
# fraction means something.
LEAST = 0.25


def changes(evidence: Evidence) -> pd.DataFrame:
    """Columns variant, seed, layer, name, network, value: the change of log sensitivity since
    before training, of the networks of a `MatchingRecord`."""
    rows = []
    for record in evidence.records:
        found, variant = record.measurements, evidence.variant(record.spec)
        before = np.log(found.sensitivity["before"])
        for network, values in found.sensitivity.items():
            table = pd.DataFrame({"name": found.layers, "value": np.log(values) - before})
            table = table.rename_axis("layer").reset_index()
            rows.append(table.assign(network=network, variant=variant, seed=record.spec.seed))
    return pd.concat(rows, ignore_index=True)


def fractions(table: pd.DataFrame, scope: str) -> pd.DataFrame:
    """Columns network, seed, value, variant: what part of training's change, summed over the layers
    of one of SCOPES, each network has. Layers and weights are the same for all seeds of a variant;
    a variant whose layers change by less than LEAST is left out."""
    rows = [pd.DataFrame(columns=["network", "seed", "value", "variant"])]
    for variant, of_variant in table.groupby("variant", sort=False):
        array = of_variant.pivot(index=["network", "seed"], columns="layer", values="value")
        trained = array.loc["after"].to_numpy().mean(0)
        weights = SCOPES[scope](trained)
        if abs(trained @ weights) < LEAST * weights.clip(0).sum() or not weights.any():
            continue
        sums = (array @ weights).unstack("seed")  # (network, seed)
        parts = sums / sums.loc["after"]
        rows.append(parts.melt(ignore_index=False).reset_index().assign(variant=variant))
    return pd.concat(rows[1:] or rows, ignore_index=True)


def carried(table: pd.DataFrame, scope: str) -> dict[tuple[str, str], Interval]:
    """{(variant, network): mean of `fractions` over seeds, with Student's interval}."""
    groups = fractions(table, scope).groupby(["variant", "network"], sort=False)["value"]
    return {key: t_interval(values) for key, values in groups}  # type: ignore[misc]


def as_table(found: dict[tuple[str, str], Interval], networks: Mapping[str, str]) -> pd.DataFrame:
    """Of `carried`: a row for each of `networks`, {name: label}, a column for each variant."""
    variants = dict.fromkeys(variant for variant, _ in found)
    columns = {
        label_of(variant): [_cell(found[variant, network]) for network in networks]
        for variant in variants
    }
    return pd.DataFrame(columns, index=list(networks.values()))


def _cell(interval: Interval) -> str:
    value, low, high = interval
    return f"{value:.2f}" + ("" if np.isnan(low) else f" ({low:.2f} to {high:.2f})")


def _only(layer: int, trained: np.ndarray) -> np.ndarray:
    return np.eye(len(trained))[layer]


def in_words(found: dict[tuple[str, str], Interval], network: str) -> str:
    """For a sentence: how much of a change a network has, with each variant that has it."""
    parts = [
        f"{_extent(interval.value)} with {label_of(variant)} ({interval.value:.2f})"
        for (variant, name), interval in found.items()
        if name == network
    ]
    return ", ".join(parts) or "(training changes too little for a fraction)"


def _extent(fraction: float) -> str:
    if fraction > 1.25:
        return "more than all"
    if fraction > 0.75:
        return "most"
    if fraction > 0.25:
        return "part"
    return "little" if fraction > -0.25 else "the opposite"


def smoothings(evidence: Evidence, quantity: str) -> dict[str, pd.DataFrame]:
    """{"smoothed", "random": columns variant, seed, layer, value}, with sigma in pixels as `layer`,
    0 the trained network. `quantity` is "sensitivity" (of the last layer), "smoothness" (mean over
    layers), "turned" (likewise) or "accuracy"."""
    rows: dict[str, list] = {"smoothed": [], "random": []}
    for record in evidence.records:
        found, spec = record.measurements, record.spec
        sigmas = (0.0, *spec.sigmas)  # type: ignore[union-attr]
        for how, of_kind in rows.items():
            networks = [found.trained, *getattr(found, how)]
            for sigma, network in zip(sigmas, networks, strict=True):
                value = _number(getattr(network, quantity), quantity)
                of_kind.append((evidence.variant(spec), spec.seed, sigma, value))
    columns = ["variant", "seed", "layer", "value"]
    return {how: pd.DataFrame(of_kind, columns=columns) for how, of_kind in rows.items()}


def _number(values: list[float] | float, quantity: str) -> float:
    if isinstance(values, float):
        return values
    return values[-1] if quantity == "sensitivity" else float(np.mean(values))


def findings(real: pd.DataFrame, random: pd.DataFrame, smoothing: Evidence) -> list[str]:
    """Three sentences, from two tables of `changes` and the records of `Smoothing`."""
    last, down = carried(real, "last layer"), carried(real, "highest to last")
    others = carried(random, "last layer")
    return [
        f"*Sufficient?* At the last layer, random weights with the trained second moments have "
        f"{in_words(last, 'moments')} of the change that training makes, and of the fall from the "
        f"most sensitive layer to the last {in_words(down, 'moments')}; after training on random "
        f"labels, at the last layer, {in_words(others, 'moments')}.",
        f"*Necessary?* Without them, trained weights keep {in_words(last, 'without')} of it at the "
        f"last layer, and {in_words(down, 'without')} of the fall.",
        f"*Does it help to smooth?* {_of_smoothing(smoothing)}",
    ]


def _of_smoothing(evidence: Evidence) -> str:
    """Smoothing against its control, at the Gaussian of half a pixel or the nearest there is."""
    sensitivity, accuracy = (smoothings(evidence, name) for name in ("sensitivity", "accuracy"))
    sigmas = sensitivity["smoothed"]["layer"].unique()
    sigma = sigmas[np.abs(sigmas - 0.5).argmin()]
    parts = []
    for how, what in (("smoothed", "smoothing by"), ("random", "a random change as large as by")):
        ratio = _at(sensitivity[how], sigma) / _at(sensitivity[how], 0)
        lost = 100 * (_at(accuracy[how], 0) - _at(accuracy[how], sigma))
        names = map(label_of, map(str, ratio.index))
        ratios = [f"{value - 1:+.0%} with {name}" for name, value in zip(names, ratio)]
        parts.append(
            f"{what} {sigma:g} px changes the last layer's sensitivity by {', '.join(ratios)}, "
            f"and takes {lost.min():.0f} to {lost.max():.0f} points of accuracy"
        )
    return _capital("; ".join(parts)) + "."


def _at(values: pd.DataFrame, sigma: float) -> pd.Series:
    return values[values["layer"] == sigma].groupby("variant", sort=False)["value"].mean()


def _capital(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]
