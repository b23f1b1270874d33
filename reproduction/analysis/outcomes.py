"""What comes out under each combination of choices: how near the published curves, and which claims survive.

`Evidence` of a study of `Variation` specs in (for `of_recipes`, of trainings), tables out. The combinations are those of `reproduction.experiments.multiverse`; claims
are judged by the rules of `reproduction.analysis.claims`, on records as if all had been measured under the combination at hand.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from reproduction.analysis import claims, quantities
from reproduction.analysis.curves import published
from reproduction.analysis.evidence import last
from reproduction.experiments.multiverse import CHOICES, MULTIVERSES, Multiverse
from reproduction.experiments.store import Record

BOOK = ("none", "the book's")  # where nothing is chosen otherwise
INITIAL = (1,)  # claims on networks before training
JUDGED = (1, 2, 3, 4, 5)  # claims on sensitivity, by number
TRAINED = (2, 3, 4, 5, 8, 16, 17)  # claims on what training does
Measured = Mapping[str, list[float]]  # when -> sensitivities


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
    """The `count` combinations, one level of the index a choice, whose value is nearest `to`; choices and options in
    words."""
    near = values.iloc[(values - to).abs().to_numpy().argsort(kind="stable")[:count]]
    options = near.index.to_frame().apply(
        lambda of_choice: of_choice.map(lambda option: in_words(of_choice.name, option)[1])
    )
    return near.set_axis(
        pd.MultiIndex.from_frame(options.rename(columns=lambda name: CHOICES[name].label))
    )


def options(*evidence: Any) -> pd.DataFrame:
    """What was varied in these studies: one row a choice, its options in words, the book's first."""
    tables = [
        MULTIVERSES[record.spec.choices].alone for each in evidence for record in each.records
    ]
    found: dict[str, dict[str, None]] = {}
    for table in tables:
        for name, taken in table.items():
            found.setdefault(name, {}).update(dict.fromkeys(taken))
    rows = {
        CHOICES[name].label: "; ".join(CHOICES[name].options[option] for option in taken)
        for name, taken in found.items()
    }
    return pd.Series(rows, name="options, the book's first").to_frame()


def alone(record: Record) -> Iterator[tuple[tuple[str, str], Measured]]:
    """(choice, option), as in CHOICES, and what was measured; the book's first, then every other option by itself."""
    yield BOOK, record.measurements["book"]
    for choice, options in record.measurements["alone"].items():
        for option, measured in options.items():
            yield (choice, option), measured


def crossed(record: Record) -> Iterator[tuple[dict[str, str], Measured]]:
    """Every combination of the crossed choices, {choice: option}, and what was measured under it. With a trained
    network also "calibrated", the combination that differs in batch norm statistics alone."""
    multiverse, found = MULTIVERSES[record.spec.choices], record.measurements["crossed"]
    rows = {
        when: dict(zip(_keys(multiverse, when == "after"), found[when], strict=True))
        for when in found
    }
    for key in rows["before"]:
        options = dict(zip(multiverse.crossed, key, strict=True))
        measured = {when: of[key] for when, of in rows.items() if key in of}
        if "after" in measured and "statistics" in options:
            measured["calibrated"] = rows["before"][
                tuple({**options, "statistics": "calibrated"}.values())
            ]
        yield options, measured


def _keys(multiverse: Multiverse, trained: bool) -> list[tuple[str, ...]]:
    return [
        tuple(choice[name] for name in multiverse.crossed)
        for choice in multiverse.combinations(trained)
    ]


def values(evidence: Any, combinations: str = "alone") -> pd.DataFrame:
    """Columns variant, seed, when, layer (0 the input), value, and those of the choices: "choice" and "option" for
    "alone", one column a choice for "crossed"."""
    rows = []
    for record in evidence.records:
        for options, measured in (alone if combinations == "alone" else crossed)(record):
            named = (
                dict(zip(("choice", "option"), options, strict=True))
                if combinations == "alone"
                else options
            )
            rows += [
                {
                    **named,
                    "variant": evidence.variant(record.spec),
                    "seed": record.spec.seed,
                    "when": when,
                    "layer": layer,
                    "value": value,
                }
                for when, of_layers in measured.items()
                for layer, value in enumerate(of_layers)
            ]
    return pd.DataFrame(rows)


def difference(table: pd.DataFrame, figure: str, by: Sequence[str]) -> pd.Series:
    """Mean over variants and layers of |ours - published|, as in `reproduction.analysis.agreement`, ours the mean over seeds: one number for
    each value of the columns `by` of a table of `values`."""
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


def changes(evidence: Any, figure: str) -> pd.DataFrame:
    """One row an option, varied alone: mean factor by which it changes the sensitivity of layers before training and
    after, and the difference to a published figure of untrained networks, smallest first."""
    table = values(evidence)
    of = table.pivot_table(
        index=["variant", "seed", "when", "layer"],
        columns=["choice", "option"],
        values="value",
        sort=False,
    )
    ratio = np.exp(np.log(of.div(of[BOOK], axis=0)).groupby("when").mean().T)
    found = difference(table[table["when"] == "before"], figure, ["choice", "option"])
    columns = {f"factor, {when}": ratio[when] for when in ("before", "after") if when in ratio}
    return pd.DataFrame({**columns, f"off {figure}": found}).sort_values(
        f"off {figure}", kind="stable"
    )


def findings(evidence: Any, pick: Callable[[Record], Measured | None]) -> dict[int, claims.Finding]:
    """Findings on claims 1 to 5, as far as they can be judged, on what `pick` takes from each record."""
    taken = [(record, measured) for record in evidence.records if (measured := pick(record))]
    records = [
        SimpleNamespace(
            spec=record.spec.network,
            measurements={
                "layers": record.measurements["layers"],
                "checkpoints": _checkpoints(measured),
            },
        )
        for record, measured in taken
    ]
    numbers = JUDGED if all("after" in measured for _, measured in taken) else INITIAL
    look = partial(quantities.observed, {"cifar10": SimpleNamespace(records=records)})
    return {number: claims.judge(number, look) for number in numbers} if taken else {}


def _checkpoints(measured: Measured) -> list[dict[str, Any]]:
    first = {
        "sensitivity": measured["before"],
        "calibrated": measured.get("calibrated", measured["before"]),
    }
    found = [first, {"sensitivity": measured["after"]}] if "after" in measured else [first]
    return [
        {name: {"cosine": {"normalized": of_layers}} for name, of_layers in each.items()}
        for each in found
    ]


def reached(finding: claims.Finding) -> tuple[int, int]:
    """How many parts of a claim have an estimate that reaches their threshold, of how many that were tested and count."""
    parts = finding.detail[
        (finding.detail["role"] == "decides") & (finding.detail["outcome"] != "not tested")
    ]
    return sum(
        low <= value <= high
        for value, (low, high) in zip(parts["value"], parts["goal"], strict=True)
    ), len(parts)


def survival(evidence: Any) -> pd.DataFrame:
    """One row an option, varied alone; one column a claim: how many of its parts reach their threshold, and the value of
    the least favourable one."""
    options = dict.fromkeys(key for record in evidence.records for key, _ in alone(record))
    rows = {}
    for key in options:
        found = findings(evidence, lambda record, key=key: dict(alone(record)).get(key))
        rows[in_words(*key)] = {
            f"claim {n}": _said(found[n]) if n in found else "-" for n in JUDGED
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["choice", "option"])


def by_combination(evidence: Any) -> pd.DataFrame:
    """One row a crossed combination that a trained network leaves open, a MultiIndex of options; one column a claim: the
    share of its parts that reach their threshold."""
    measured_by = [
        {tuple(options.items()): measured for options, measured in crossed(record)}
        for record in evidence.records
    ]
    of = dict(zip(map(id, evidence.records), measured_by, strict=True))
    rows = {}
    for key in dict.fromkeys(
        key for each in measured_by for key, measured in each.items() if "after" in measured
    ):
        found = findings(evidence, lambda record, key=key: of[id(record)].get(key))
        hits = {n: reached(finding) for n, finding in found.items()}
        rows[tuple(dict(key).values())] = {
            f"claim {n}": right / parts for n, (right, parts) in hits.items() if parts
        }
    names = MULTIVERSES[evidence.records[0].spec.choices].crossed
    return pd.DataFrame(list(rows.values()), pd.MultiIndex.from_tuples(rows, names=names))


def robustness(fractions: pd.DataFrame) -> pd.DataFrame:
    """`by_combination` by option: one row an option, the mean over all combinations that have it; first over all of them."""
    rows = {("all", f"{len(shares)} combinations"): fractions.mean()}
    for name in fractions.index.names:
        for option, part in fractions.groupby(level=name, sort=False):
            if len(part) < len(fractions):
                rows[in_words(name, option)] = part.mean()
    return pd.DataFrame(rows).T.rename_axis(["choice", "option"])


def of_recipes(evidence: Any) -> pd.DataFrame:
    """One row a way of training that there are records of, on the variants that the first, the book's own, has too, and
    named by its difference to that: variants with a record, their mean accuracies in percent, factor by which the trained
    networks' sensitivity (layers 1 to 4, and the last) and change by which their total variation differ from the book's;
    and a column a claim, as in `survival`."""
    book, rows = evidence.records[0].spec.recipe, {}
    has = evidence.only(recipe=book).seed_counts
    for recipe in dict.fromkeys(record.spec.recipe for record in evidence.records):
        part = evidence.only(recipe=recipe)
        part = replace(
            part,
            records=[record for record in part.records if evidence.variant(record.spec) in has],
        )
        name = (
            ", ".join(f"{k} {v}" for k, v in asdict(recipe).items() if v != getattr(book, k))
            or BOOK[1]
        )
        probes, findings = (
            part.probes(),
            {n: claims.judge(n, partial(quantities.observed, {"cifar10": part})) for n in TRAINED},
        )
        if recipe == book:
            first_layers, first_banks = part.layers(), part.banks()
        layers, banks = (
            now.merge(first, on=["variant", "seed", "layer"])
            for now, first in ((part.layers(), first_layers), (part.banks(), first_banks))
        )
        factor = np.log(layers["value_x"] / layers["value_y"])
        early, last = layers["layer"].between(1, 4), layers["layer"] == layers["layer"].max()
        rows[name.replace("_", " ")] = {
            "variants": len(part.seed_counts),
            "training %": 100 * probes["train_accuracy"].mean(),
            "test %": 100 * probes["test_accuracy"].mean(),
            "factor, early": np.exp(factor[early].mean()),
            "factor, last": np.exp(factor[last].mean()),
            "smoothness": (banks["value_x"] - banks["value_y"]).mean(),
        } | {f"claim {n}": _said(found) for n, found in findings.items()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("recipe")


def _said(finding: claims.Finding) -> str:
    return (
        "-"
        if finding.verdict == "Not tested"
        else f"{'/'.join(map(str, reached(finding)))} ({finding.value:.2f})"
    )


def order_of_variants(evidence: Any) -> pd.Series:
    """Claim 1 by crossed combination: how sensitive the last layer of the least favourable unpooled variant is at most,
    as a factor of the pooled one's: the largest of pooled over unpooled, mean over seeds; below 0.8 the claim holds."""
    table = values(evidence, "crossed")
    untrained = last(table).query("when == 'before'")
    by = list(MULTIVERSES[evidence.records[0].spec.choices].crossed)
    means = (
        untrained.assign(value=np.log(untrained["value"]))
        .groupby([*by, "variant"], sort=False)["value"]
        .mean()
        .unstack("variant")
    )
    pooled, unpooled = (
        [variant for variant in means if variant in variants]
        for variants in (quantities.POOLED, quantities.UNPOOLED)
    )
    return np.exp(means[pooled].max(axis=1) - means[unpooled].min(axis=1))
