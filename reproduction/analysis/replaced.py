"""How much of what training changes in a network's sensitivity do its weights' statistics carry?

A change is that of log sensitivity since before training, both with batch norm calibrated. The
fraction that a replacement carries is its change over that of training, each summed over layers
first: where a change goes through zero, a layer's own fraction means nothing.
"""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from reproduction.analysis.evidence import Evidence, label_of
from reproduction.analysis.intervals import Interval, t_interval

# Which layers are summed, with what weights: those of a variant's changes by training, means over
# seeds, (L,) -> (L,). Layer 0 is the image, which nothing changes.
SCOPES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "rise": lambda trained: trained > 0,
    "fall": lambda trained: trained < 0,
    "last layer": lambda trained: _unit(trained, -1),
    # What the layers above do to what the first ones have done.
    "from the highest to the last": lambda trained: (
        _unit(trained, -1) - _unit(trained, _top(trained))
    ),
}


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
    """Columns variant, network, seed, value: what part of training's change, summed over the layers
    of one of SCOPES, each network has. All seeds of a variant have the same layers, by their mean;
    a variant without such layers is left out."""
    rows = []
    for variant, of_variant in table.groupby("variant", sort=False):
        array = of_variant.pivot(index=["network", "seed"], columns="layer", values="value")
        weights = SCOPES[scope](array.loc["after"].to_numpy().mean(0))
        if not weights.any():
            continue
        sums = (array @ weights).unstack("seed")  # (network, seed)
        parts = sums / sums.loc["after"]
        rows.append(parts.melt(ignore_index=False).reset_index().assign(variant=variant))
    return pd.concat(rows, ignore_index=True)


def carried(table: pd.DataFrame, scope: str) -> dict[tuple[str, str], Interval]:
    """{(variant, network): mean of `fractions` over seeds, with Student's interval}."""
    groups = fractions(table, scope).groupby(["variant", "network"], sort=False)["value"]
    return {key: t_interval(values) for key, values in groups}  # type: ignore[misc]


def as_table(found: dict[tuple[str, str], Interval], networks: Mapping[str, str]) -> pd.DataFrame:
    """Of `carried`: a row for each of `networks`, {name: label}, a column for each variant."""
    cells = {key: _cell(interval) for key, interval in found.items() if key[1] in networks}
    rows = pd.Series(cells).unstack(0).loc[list(networks)]
    variants = list(dict.fromkeys(variant for variant, _ in found))
    return rows[variants].rename(index=networks).rename_axis(index=None, columns=None)


def _cell(interval: Interval) -> str:
    value, low, high = interval
    return f"{value:.2f}" + ("" if np.isnan(low) else f" ({low:.2f} to {high:.2f})")


def _top(trained: np.ndarray) -> int:
    return int(trained.argmax())


def _unit(trained: np.ndarray, layer: int) -> np.ndarray:
    return np.eye(len(trained))[layer]


def in_words(found: dict[tuple[str, str], Interval], network: str) -> str:
    """For a sentence: how much of a change a network has, with each variant that has it."""
    parts = [
        f"{_extent(interval.value)} with {label_of(variant)} ({interval.value:.2f})"
        for (variant, name), interval in found.items()
        if name == network
    ]
    return ", ".join(parts)


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
