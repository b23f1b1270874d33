"""What comes out under each combination of choices: how near the published curves, and which claims
survive.

`Evidence` of a study of `Variation` specs in (for `of_recipes`, of trainings), tables out. The
combinations are those of `reproduction.experiments.multiverse`. Claims are judged by the rules of
`reproduction.analysis.claims`: a combination is a judged study with its sensitivities."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import cast

import numpy as np
import pandas as pd
import xarray as xr

from reproduction.analysis import claims, quantities
from reproduction.analysis.curves import published
from reproduction.analysis.evidence import Evidence
from reproduction.analysis.study_arrays import by_variant_and_seed
from reproduction.experiments.multiverse import CHOICES, MULTIVERSES, Multiverse
from reproduction.experiments.records import VariationRecord
from reproduction.experiments.specs import Recipe, Training, Variation
from reproduction.experiments.store import Record

BOOK = ("none", "the book's")  # where nothing is chosen otherwise
INITIAL = (1,)  # claims on networks before training
JUDGED = (1, 2, 3, 4, 5)  # claims on sensitivity, by number
TRAINED = (2, 3, 4, 5, 8, 16, 17)  # claims on what training does
WHEN = ["before", "after", "calibrated"]
Measured = Mapping[str, Sequence[float]]  # when -> sensitivity of every layer
Read = Callable[[Record], xr.DataArray]  # `alone` or `crossed`


def in_words(choice: str, option: str) -> tuple[str, str]:
    """A choice and an option, in the words of CHOICES."""
    return (
        (choice, option)
        if (choice, option) == BOOK
        else (CHOICES[choice].label, CHOICES[choice].options[option])
    )


def worded(table: pd.DataFrame | pd.Series) -> pd.DataFrame | pd.Series:
    """The same with (choice, option) of its index in words."""
    return table.set_axis(
        pd.MultiIndex.from_tuples(
            [in_words(*key) for key in table.index], names=["choice", "option"]
        )
    )


def nearest(values: pd.Series, count: int, to: float = 0.0) -> pd.Series:
    """The `count` combinations, one level of the index a choice, whose value is nearest `to`;
    choices and options in words."""
    near = values.iloc[(values - to).abs().to_numpy().argsort(kind="stable")[:count]]
    options = near.index.to_frame().apply(
        lambda of_choice: of_choice.map(lambda option: in_words(of_choice.name, option)[1])
    )
    return near.set_axis(
        pd.MultiIndex.from_frame(options.rename(columns=lambda name: CHOICES[name].label))
    )


def options(*evidence: Evidence) -> pd.DataFrame:
    """What was varied in these studies: one row a choice, its options in words, the book's
    first."""
    found: dict[str, dict[str, None]] = {}
    for record in (record for each in evidence for record in each.records):
        for choice, options in _multiverse(record).alone.items():
            found.setdefault(choice, {}).update(dict.fromkeys(options))
    rows = {
        CHOICES[choice].label: "; ".join(CHOICES[choice].options[option] for option in options)
        for choice, options in found.items()
    }
    return pd.Series(rows, name="options, the book's first").to_frame()


def _multiverse(record: Record) -> Multiverse:
    return MULTIVERSES[cast(Variation, record.spec).choices]


def alone(record: Record) -> xr.DataArray:
    """Sensitivity (combination, when, layer), with the coordinates choice and option: the book's
    choices first, then every other option by itself."""
    found: VariationRecord = record.measurements
    measured = {BOOK: found.book}
    for choice, of_choice in found.alone.items():
        measured |= {(choice, option): each for option, each in of_choice.items()}
    return _combinations(measured, ["choice", "option"], found.layers)


def crossed(record: Record) -> xr.DataArray:
    """Sensitivity (combination, when, layer) under every combination of the crossed choices, which
    are its coordinates.

    With a trained network "calibrated" is the combination that differs in batch norm statistics
    alone."""
    multiverse, found = _multiverse(record), record.measurements
    choices = list(multiverse.crossed)
    by_moment = {}
    for when, values in found.crossed.items():
        combinations = multiverse.combinations(trained=when == "after")
        keys = [tuple(combination[choice] for choice in choices) for combination in combinations]
        by_moment[when] = dict(zip(keys, values, strict=True))
    before, after = by_moment["before"], by_moment.get("after", {})
    measured = {}
    for key, values in before.items():
        measured[key] = {"before": values}
        if key in after:
            measured[key]["after"] = after[key]
        if key in after and "statistics" in choices:
            options = dict(zip(choices, key)) | {"statistics": "calibrated"}
            measured[key]["calibrated"] = before[tuple(options.values())]
    return _combinations(measured, choices, found.layers)


def _combinations(
    measured: Mapping[tuple, Measured], choices: list[str], layers: list[str]
) -> xr.DataArray:
    nothing = [np.nan] * len(layers)
    values = [[each.get(when, nothing) for when in WHEN] for each in measured.values()]
    keys = pd.MultiIndex.from_tuples(measured, names=choices)
    coordinates = xr.Coordinates.from_pandas_multiindex(keys, "combination")
    array = xr.DataArray(values, dims=("combination", "when", "layer"), coords=coordinates)
    return array.assign_coords(when=WHEN, layer=layers)


def values(evidence: Evidence, combinations: str = "alone") -> pd.DataFrame:
    """Columns variant, seed, when, layer (0 the input), value, and those of the choices: "choice"
    and "option" for "alone", one column a choice for "crossed"."""
    read = {"alone": alone, "crossed": crossed}[combinations]
    tables = []
    for record in evidence.records:
        array = read(record)
        choices = list(array.indexes["combination"].names)
        numbered = array.assign_coords(layer=range(array.sizes["layer"]))
        table = numbered.to_series().dropna().rename("value").reset_index()
        table = table.assign(variant=evidence.variant(record.spec), seed=record.spec.seed)
        tables.append(table[[*choices, "variant", "seed", "when", "layer", "value"]])
    return pd.concat(tables, ignore_index=True)


def difference(table: pd.DataFrame, figure: str, by: Sequence[str]) -> pd.Series:
    """Mean over variants and layers of |ours - published|, as in `reproduction.analysis.agreement`,
    ours the mean over seeds: one number for each value of the columns `by` of a table of
    `values`."""
    ours = (
        table.groupby([*by, "variant", "layer"], sort=False)["value"]
        .mean()
        .rename("ours")
        .reset_index()
    )
    both = ours.merge(published(figure), on=["variant", "layer"])
    return (
        (both["ours"] - both["value"]).abs().groupby([both[name] for name in by], sort=False).mean()
    )


def changes(evidence: Evidence, figure: str) -> pd.DataFrame:
    """One row an option, varied alone: mean factor by which it changes the sensitivity of layers
    before training and after, and the difference to a published figure of untrained networks,
    smallest first."""
    table = values(evidence)
    logs = table.assign(value=np.log(table["value"]))
    index, choice = ["variant", "seed", "when", "layer"], ["choice", "option"]
    wide = logs.pivot_table(index=index, columns=choice, values="value", sort=False)
    means = wide.sub(wide[BOOK], axis=0).groupby("when").mean()
    moments = [when for when in ("before", "after") if when in means.index]
    columns = {f"factor, {when}": np.exp(means.loc[when]) for when in moments}
    off = difference(table[table["when"] == "before"], figure, choice)
    whole = pd.DataFrame({**columns, f"off {figure}": off})
    return whole.sort_values(f"off {figure}", kind="stable")


def findings(measured: xr.DataArray) -> dict[int, claims.Finding]:
    """Findings on claims 1 to 5, as far as they can be judged, on sensitivity (variant, seed, when,
    layer)."""
    if not measured.notnull().any():
        return {}
    trained = bool(measured.sel(when="after").notnull().any())
    studies = {"cifar10": _as_judged(measured)}
    return {number: claims.judge(number, studies) for number in (JUDGED if trained else INITIAL)}


def _as_judged(measured: xr.DataArray) -> xr.Dataset:
    """A judged study with these sensitivities; without calibrated ones, the plain ones stand for
    them."""
    before, after, calibrated = (measured.sel(when=when, drop=True) for when in WHEN)
    moments = pd.Index([0, 1], name="checkpoint")
    variables = {
        "sensitivity": xr.concat([before, after], moments),
        "calibrated": xr.concat([calibrated.fillna(before), after], moments),
    }
    of_paper = [v for v in measured["variant"].values if v in quantities.FIVE]
    return quantities.judged_study(quantities.FIVE, xr.Dataset(variables).sel(variant=of_paper))


def _of_study(evidence: Evidence, read: Read) -> xr.DataArray:
    """Sensitivity of all records (variant, seed, combination, when, layer)."""
    runs = xr.concat([read(record) for record in evidence.records], "run")
    specs = [record.spec for record in evidence.records]
    variants = ("run", [evidence.variant(spec) for spec in specs])
    seeds = ("run", [spec.seed for spec in specs])
    return by_variant_and_seed(runs.assign_coords(variant=variants, seed=seeds))


def reached(finding: claims.Finding) -> tuple[int, int]:
    """How many parts of a claim have an estimate that reaches their threshold, of how many that
    were tested and count."""
    detail = finding.detail
    parts = detail[(detail["role"] == "decides") & (detail["outcome"] != "not tested")]
    pairs = zip(parts["value"], parts["goal"], strict=True)
    return sum(low <= value <= high for value, (low, high) in pairs), len(parts)


def survival(evidence: Evidence) -> pd.DataFrame:
    """One row an option, varied alone; one column a claim: how many of its parts reach their
    threshold, and the value of the least favourable one."""
    sensitivity, rows = _of_study(evidence, alone), {}
    for k, key in enumerate(sensitivity.indexes["combination"]):
        found = findings(sensitivity.isel(combination=k, drop=True))
        rows[in_words(*key)] = {f"claim {n}": _said(found.get(n)) for n in JUDGED}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["choice", "option"])


def by_combination(evidence: Evidence) -> pd.DataFrame:
    """One row a crossed combination that a trained network leaves open, a MultiIndex of options;
    one column a claim: the fraction of its parts that reach their threshold."""
    sensitivity = _of_study(evidence, crossed)
    over = [dimension for dimension in sensitivity.dims if dimension != "combination"]
    open_ones = sensitivity.sel(when="after").notnull().any([d for d in over if d != "when"])
    sensitivity = sensitivity.isel(combination=open_ones.values)
    rows = []
    for k in range(sensitivity.sizes["combination"]):
        found = findings(sensitivity.isel(combination=k, drop=True))
        counts = {f"claim {n}": reached(finding) for n, finding in found.items()}
        rows.append({claim: right / parts for claim, (right, parts) in counts.items() if parts})
    return pd.DataFrame(rows, sensitivity.indexes["combination"])


def robustness(fractions: pd.DataFrame) -> pd.DataFrame:
    """`by_combination` by option: one row an option, the mean over all combinations that have it;
    first over all of them."""
    rows = {("all", f"{len(fractions)} combinations"): fractions.mean()}
    for name in fractions.index.names:
        for option, part in fractions.groupby(level=name, sort=False):
            if len(part) < len(fractions):
                rows[in_words(str(name), str(option))] = part.mean()
    return pd.DataFrame(rows).T.rename_axis(["choice", "option"])


def of_recipes(evidence: Evidence) -> pd.DataFrame:
    """One row a way of training that there are records of, on the variants that the first, the
    book's own, has too, and named by its difference to that: variants with a record, their mean
    accuracies in percent, factor by which the trained networks' sensitivity (layers 1 to 4, and the
    last) and change by which their total variation differ from the book's; and a column a claim, as
    in `survival`."""
    specs = [cast(Training, record.spec) for record in evidence.records]
    recipes = list(dict.fromkeys(spec.recipe for spec in specs))
    book = evidence.only(recipe=recipes[0])
    rows = {}
    for recipe in recipes:
        part = evidence.only(recipe=recipe)
        has = [r for r in part.records if evidence.variant(r.spec) in book.seed_counts]
        rows[_difference_of(recipe, recipes[0])] = _row_of_recipe(replace(part, records=has), book)
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("recipe")


def _difference_of(recipe: Recipe, book: Recipe) -> str:
    theirs = asdict(book)
    other = [f"{name} {value}" for name, value in asdict(recipe).items() if value != theirs[name]]
    return ", ".join(other).replace("_", " ") or BOOK[1]


def _row_of_recipe(part: Evidence, book: Evidence) -> dict[str, object]:
    keys = ["variant", "seed", "layer"]
    layers, filters = (
        now.merge(first, on=keys, suffixes=("", "_book"))
        for now, first in ((part.layers(), book.layers()), (part.banks(), book.banks()))
    )
    factor = np.log(layers["value"] / layers["value_book"])
    early, late = layers["layer"].between(1, 4), layers["layer"] == layers["layer"].max()
    probes, studies = part.probes(), {"cifar10": part.judged(quantities.FIVE)}
    found = {n: claims.judge(n, studies) for n in TRAINED}
    return {
        "variants": len(part.seed_counts),
        "training %": 100 * probes["train_accuracy"].mean(),
        "test %": 100 * probes["test_accuracy"].mean(),
        "factor, early": np.exp(factor[early].mean()),
        "factor, last": np.exp(factor[late].mean()),
        "smoothness": (filters["value"] - filters["value_book"]).mean(),
        **{f"claim {n}": _said(finding) for n, finding in found.items()},
    }


def _said(finding: claims.Finding | None) -> str:
    if finding is None or finding.verdict == "Not tested":
        return "-"
    right, parts = reached(finding)
    return f"{right}/{parts} ({finding.value:.2f})"


def order_of_variants(evidence: Evidence) -> pd.Series:
    """Claim 1 by crossed combination: how sensitive the last layer of the least favourable unpooled
    variant is at most, as a factor of the pooled one's: the largest of pooled over unpooled, mean
    over seeds; below 0.8 the claim holds."""
    untrained = _of_study(evidence, crossed).sel(when="before").isel(layer=-1)
    means = quantities.log(untrained).mean("seed")  # (variant, combination)
    pooled, unpooled = (
        means.sel(variant=[variant for variant in variants if variant in means["variant"]])
        for variants in (quantities.POOLED, quantities.UNPOOLED)
    )
    worst = pooled.max("variant") - unpooled.min("variant")
    return np.exp(worst.to_series())
