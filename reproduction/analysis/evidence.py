"""The records behind a chapter: those of a study in a mode, wherever they come from, as tables of numbers.

Full mode reads committed records; a missing seed is counted and said, a variant without any is an error. Quick mode
makes what is missing there and then, in a store of its own. Never one in place of the other.
"""

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from deformlib import models
from deformlib.filters import AVERAGES
from deformlib.models import DOWNSAMPLINGS
from deformlib.validation import check_known, is_whole, require
from reproduction.analysis import quantities
from reproduction.experiments import networks, studies, sweeps
from reproduction.experiments.protocol import banks_of
from reproduction.experiments.specs import Resampling, Spec, Training, network_of
from reproduction.experiments.store import RESULTS, Record, Store, cache_root, load_tensors

# The records of Tiny ImageNet's first seed name the images of all hundred classes at hand, of which they train on the first
# fifty, all later ones those fifty alone: the same images (`reproduction.experiments.data.identity` of both is that of the second).
SAME_IMAGES = {"5b64deb038c8": "c50f1cbac79f"}


def store_for(mode: str) -> Store:
    """Where a mode's records are: `book/results`, or for quick mode $DEFORMLIB_STORE or a folder in the cache."""
    check_known("mode", mode, studies.MODES)
    return Store(
        RESULTS
        if mode == "full"
        else Path(os.environ.get("DEFORMLIB_STORE") or cache_root() / "quick").expanduser()
    )


@dataclass(frozen=True)
class Evidence:
    """Records of a study, and the specs of those still missing. A table has one row per variant, seed and layer."""

    study: str
    mode: str
    records: list[Record]
    missing: list[Spec]
    variant_field: str = "downsampling"

    def variant(self, spec: Spec) -> str | float:
        """Which of the study's variants a spec belongs to."""
        return getattr(spec, self.variant_field)

    @property
    def seed_counts(self) -> dict[str, int]:
        """{variant: number of seeds with a record}."""
        pairs = dict.fromkeys(
            (self.variant(record.spec), record.spec.seed) for record in self.records
        )  # a variant may have variants
        return dict(Counter(variant for variant, _ in pairs))

    def only(self, **fields: object) -> "Evidence":
        """What of it has these values in its specs, as in `only(classes=100)`: a study may have variants of its variants."""

        def has(spec: Spec) -> bool:
            return all(getattr(spec, name) == value for name, value in fields.items())

        records = [record for record in self.records if has(record.spec)]
        return replace(self, records=records, missing=[spec for spec in self.missing if has(spec)])

    @property
    def _command(self) -> str:
        return f"python -m reproduction run {self.study}" + (
            "" if self.mode == "full" else f" --mode {self.mode}"
        )

    @property
    def note(self) -> str:
        """One line for a caption: on what, how many seeds, how many epochs (draws, if of nothing else); and what is
        missing."""
        if not self.records:
            return f"no records: {self._command}"
        spec, counts = network_of(self.records[0].spec), list(self.seed_counts.values())
        usual = max(
            counts, key=lambda n: (counts.count(n), n)
        )  # the commonest, the larger of equals
        others = [f"{n} of {label_of(variant)}" for variant, n in self.seed_counts.items() if n != usual]
        seeds = f"{usual} seed{'s' * (usual > 1)} per variant" + (
            f" (but {', '.join(others)})" if others else ""
        )
        if isinstance(spec, Resampling):
            text = f"{spec.draws:,} draws"
        else:
            specs = [network_of(record.spec) for record in self.records]
            epochs = sorted({each.recipe.epochs for each in specs if isinstance(each, Training)})
            text = f"{spec.data}, {seeds}" + (
                f", {' or '.join(map(str, epochs))} epoch{'s' * (epochs != [1])}"
                if epochs
                else ", untrained"
            )
        if (
            len(
                versions := {
                    SAME_IMAGES.get(name := record.provenance.get("data"), name)
                    for record in self.records
                }
            )
            > 1
        ):
            text += f"; of {len(versions)} different versions of these images (provenance.data of the records), which are not comparable"
        if missing := sum(self.variant(spec) in self.seed_counts for spec in self.missing):
            text += f"; {missing} planned run{'s' * (missing > 1)} of these variants missing: {self._command}"
        return text

    def banks(self, average: str = "kernel", *, checkpoint: int = -1) -> pd.DataFrame:
        """Columns variant, seed, layer (a number, 1 the first filter bank), name, value: smoothness of filter banks.

        average  a name in a record's smoothness: "kernel" or "bank" of the normalized total variation; "zero_extended",
                 "change_kernel" and "change_bank" (of the change since initialization), "change_norm", "norm"
        """

        def named(record: Record) -> Iterable[tuple[str, float]]:
            smoothness = record.measurements["checkpoints"][checkpoint]["smoothness"]
            check_known("average", average, smoothness)
            return zip(record.measurements["banks"], smoothness[average], strict=True)

        return self._numbered(named, first=1)

    def changed(
        self, intervention: str, scope: str = "alone", *, statistics: str = "running"
    ) -> pd.DataFrame:
        """Columns variant, seed, layer, name, value: share of right answers with one filter bank changed, its number as in
        `banks`; 0 is the network as it was. `scope` and `statistics` as in `interventions.measure`."""
        return self._numbered(
            lambda record: zip(
                ["none", *record.measurements["banks"]],
                [
                    record.measurements["accuracy"][statistics],
                    *record.measurements[intervention][statistics][scope],
                ],
                strict=True,
            )
        )

    def resampled(self) -> pd.DataFrame:
        """Footnote 1: mean and standard deviation over draws of each distinct bank's smoothness, by both averages."""
        columns = pd.MultiIndex.from_product([AVERAGES, ("mean", "deviation")])
        rows = {
            (self.variant(record.spec), bank): [
                record.measurements[average][what][k] for average, what in columns
            ]
            for record in self.records
            for k, bank in enumerate(record.measurements["banks"])
        }
        index = pd.MultiIndex.from_tuples(rows, names=["architecture", "bank"])
        return pd.DataFrame(list(rows.values()), index, columns).round(4)

    def layers(
        self,
        measure: str = "sensitivity",
        *,
        checkpoint: int = -1,
        distance: str = "cosine",
        statistic: str = "normalized",
        condition: str | None = None,
    ) -> pd.DataFrame:
        """Columns variant, seed, layer (a number, 0 the input), name, value: one statistic of one checkpoint.

        measure     "sensitivity", "calibrated" (batch norm statistics computed anew) or "before_relu"
        checkpoint  index into the record's checkpoints: 0 is the initialization, -1 the end
        condition   sensitivity to other images or deformations, "strength-0.5" or "noise": one of the protocol's, at a
                    full checkpoint, as the first and the last are
        """
        require(
            condition is None or measure == "sensitivity",
            "measure",
            "sensitivity where a condition is given",
            repr(measure),
        )

        def values(record: Record) -> list[float]:
            entry = record.measurements["checkpoints"][checkpoint]
            require(
                condition is None or "full" in entry,
                "checkpoint",
                "a full one where a condition is given",
                checkpoint,
            )
            of = entry if condition is None else entry["full"]["conditions"]
            check_known(
                "measure" if condition is None else "condition", name := condition or measure, of
            )
            return of[name][distance][statistic]

        return self._of_layers("before_relu" if measure == "before_relu" else "layers", values)

    def relative_stability(self, factor: str = "ratio", when: str = "after") -> pd.DataFrame:
        """Columns as of `layers`: a field of `peers.RelativeStability`, "before" training or "after"."""
        return self._of_layers(
            "layers", lambda record: record.measurements["relative_stability"][when][factor]
        )

    def _of_layers(self, names: str, values: Callable[[Record], list[float]]) -> pd.DataFrame:
        return self._numbered(
            lambda record: [
                pair
                for pair in zip(record.measurements[names], values(record), strict=True)
                if pair[0] not in models.READOUT
            ]
        )

    def _numbered(
        self, named: Callable[[Record], Iterable[tuple[str, float]]], first: int = 0
    ) -> pd.DataFrame:
        """Columns variant, seed, layer (a number, from `first` on), name, value: what `named` gives of each record."""
        return pd.DataFrame(
            [
                (self.variant(record.spec), record.spec.seed, number, name, value)
                for record in self.records
                for number, (name, value) in enumerate(named(record), first)
            ],
            columns=["variant", "seed", "layer", "name", "value"],
        ).astype({"value": float})  # None is no number: of a change that is none

    def probes(self, checkpoint: int = -1) -> pd.DataFrame:
        """Columns variant, seed and every accuracy, loss and rate of one checkpoint, on the most images it was taken on."""
        rows = []
        for record in self.records:
            probe = quantities.probe(record.measurements["checkpoints"][checkpoint])
            rows.append({"variant": self.variant(record.spec), "seed": record.spec.seed, **probe})
        return pd.DataFrame(rows)

    def accuracies(self) -> pd.DataFrame:
        """Per variant, at the end of training: accuracies and flips in percent, means over seeds; how many of what."""
        probes = (
            self.probes()
            .groupby("variant", sort=False)
            .agg("mean")
            .drop(columns=["seed", "train_loss"])
        )
        fractions = ["train_accuracy", "test_accuracy", "deformed_accuracy", "flip_rate"]
        table = (100 * probes[fractions]).round(2)
        table.columns = ["training %", "test %", "deformed %", "flips %"]
        return table.assign(
            **{
                "training images": probes["train_images"].astype(int),
                "test images": probes["test_images"].astype(int),
                "seeds": pd.Series(self.seed_counts),
            }
        )


def by_layer(
    values: pd.DataFrame, initial: pd.DataFrame | None = None, label: str = "{}"
) -> pd.DataFrame:
    """A table of `Evidence.layers` to stand under a figure: mean over seeds, with two standard deviations if seeds
    differ, one row per layer and one column per variant, called by `label`. `initial`, the same before training, where
    all variants of a seed are one, is a column more, the first."""
    values = values.assign(variant=values["variant"].map(label.format))
    if initial is not None:
        values = pd.concat(
            [initial.drop_duplicates(["seed", "layer"]).assign(variant="initialization"), values]
        )
    groups = values.groupby(["layer", "variant"], sort=False)["value"]
    cells = groups.mean().map("{:.3f}".format)
    deviation = 2 * groups.std()
    cells = cells.where(
        deviation.isna() | (deviation == 0),
        cells + deviation.map("\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}{:.3f}".format),
    )
    table = cells.unstack("variant")[list(values["variant"].unique())]
    names = values.drop_duplicates("layer").set_index("layer")["name"]
    return table.assign(name=names).set_index("name", append=True).rename_axis(columns=None)


def label_of(variant: str | float) -> str:
    """A variant as figures and sentences call it."""
    return DOWNSAMPLINGS[variant].label if variant in DOWNSAMPLINGS else str(variant)


def smoothness_and_sensitivity(banks: pd.DataFrame, layers: pd.DataFrame) -> pd.DataFrame:
    """Columns variant, seed, name, smoothness, sensitivity: filter banks of `Evidence.banks` with, from a table of
    `Evidence.layers`, the representation right after each."""
    both = banks.merge(layers, on=["variant", "seed", "name"], suffixes=("_bank", "_layer"))
    both = both.rename(columns={"value_bank": "smoothness", "value_layer": "sensitivity"})
    return both[["variant", "seed", "name", "smoothness", "sensitivity"]]


def last(values: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table of `Evidence.layers` that are of the last layer."""
    return values[values["layer"] == values["layer"].max()]


def last_layer(values: pd.DataFrame) -> str:
    """For a sentence: the variants' means at the last layer of a table of `Evidence.layers`, the smallest first."""
    means = last(values).groupby("variant")["value"].mean().sort_values()
    return ", ".join(f"{label_of(variant)} {value:.3f}" for variant, value in means.items())


def spread(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """Standard deviation between variants, of their means over seeds, layer by layer: absolute and of logarithms."""

    def between(values: pd.DataFrame, log: bool) -> pd.Series:
        means = values.assign(value=np.log(values["value"]) if log else values["value"])
        return means.groupby(["layer", "variant"])["value"].mean().groupby("layer").std()

    columns = {
        (scale, when): between(values, scale == "logarithm")
        for scale in ("absolute", "logarithm")
        for when, values in (("before", before), ("after", after))
    }
    return pd.DataFrame(columns).round(3)


def over_training(
    evidence: Evidence,
    table: Callable[..., pd.DataFrame] = Evidence.layers,
    numbers: Collection[int] | None = None,
) -> pd.DataFrame:
    """Columns variant, seed, value, epoch: at every checkpoint the mean of `table`, `Evidence.layers` or `Evidence.banks`, over
    the layers or banks of these numbers, or over all."""
    rows = []
    for k, entry in enumerate(evidence.records[0].measurements["checkpoints"]):
        found = table(evidence, checkpoint=k)
        chosen = found if numbers is None else found[found["layer"].isin(numbers)]
        rows.append(
            chosen.groupby(["variant", "seed"], sort=False)["value"]
            .mean()
            .reset_index()
            .assign(epoch=entry["epoch"])
        )
    return pd.concat(rows, ignore_index=True)


def learning(evidence: Evidence, what: str = "train_accuracy") -> pd.DataFrame:
    """As `over_training`, of a column of `Evidence.probes`."""
    return over_training(
        evidence, lambda each, checkpoint: each.probes(checkpoint).rename(columns={what: "value"})
    )


def final_losses(evidence: Evidence) -> dict[str | float, float]:
    """{variant: training loss at the end, the geometric mean over seeds}, for `at_loss`."""
    probes = evidence.probes().assign(loss=lambda table: np.log(table["train_loss"]))
    return np.exp(probes.groupby("variant", sort=False)["loss"].mean()).to_dict()


def at_loss(
    evidence: Evidence,
    losses: Mapping[str | float, float],
    table: Callable[..., pd.DataFrame] = Evidence.layers,
) -> pd.DataFrame:
    """As `table`, `Evidence.layers` or `Evidence.banks`, each variant where its training loss first fell to `losses[variant]`: between
    the two checkpoints around that moment, linear in the logarithm of the loss. Runs that never got there are left out,
    and variants without a loss."""
    first = table(evidence, checkpoint=0)
    if not evidence.records:
        return first
    count = {len(record.measurements["checkpoints"]) for record in evidence.records}
    if len(count) > 1:
        raise ValueError(
            f"records must have as many checkpoints as each other, got {sorted(count)}"
        )
    values = np.stack([table(evidence, checkpoint=k)["value"] for k in range(*count)])
    rows = []
    for record in (record for record in evidence.records if evidence.variant(record.spec) in losses):
        variant, seed = evidence.variant(record.spec), record.spec.seed
        loss = np.log([c["probe"]["train_loss"] for c in record.measurements["checkpoints"]])
        reached = np.flatnonzero(loss <= (goal := np.log(losses[variant])))
        if not len(reached):
            continue
        after = max(1, reached[0])
        fraction = (
            np.clip((loss[after - 1] - goal) / (loss[after - 1] - loss[after]), 0, 1)
            if loss[after] < loss[after - 1]
            else 0.0
        )
        mine = ((first["variant"] == variant) & (first["seed"] == seed)).to_numpy()
        rows.append(
            first[mine].assign(
                value=(1 - fraction) * values[after - 1, mine] + fraction * values[after, mine]
            )
        )
    return pd.concat(rows, ignore_index=True) if rows else first.iloc[:0]


def at_displacement(evidence: Evidence) -> pd.DataFrame:
    """As `Evidence.banks`, of the digit tasks: each filter bank where, on its way, it had moved as far as it did under
    the strength that moved it least, by the rule of claim 7 (`quantities.at_matched_displacement`). Of the seeds that all
    strengths have; no rows if a strength has none."""
    study, banks = "mnist-templates", evidence.banks()
    matched = quantities.at_matched_displacement(
        partial(quantities.observed, {study: evidence}), study
    )
    seeds = sorted(
        set(banks["seed"]).intersection(*(of_variant["seed"] for _, of_variant in banks.groupby("variant")))
    )
    values = {
        (float(variant), seed, layer): value
        for variant, table in matched.items()
        for seed, row in zip(seeds, table.to_numpy())
        for layer, value in enumerate(row, 1)
    }
    keys = pd.MultiIndex.from_frame(banks[["variant", "seed", "layer"]])
    return (
        banks.assign(value=[values.get(key, np.nan) for key in keys])
        .dropna(subset="value")
        .reset_index(drop=True)
    )


def gap_at_displacement(one: Evidence, other: Evidence) -> pd.DataFrame:
    """Total variation of `one` less that of `other`, columns as of `Evidence.banks`: of variants and seeds that both have, each
    bank where, on their ways, both had moved as far as the one of them that moved less. The paper's variants alone."""
    rows = []
    for variant in (variant for variant in one.seed_counts if variant in quantities.STUDIES[one.study][1]):

        def look(_: str, what: str, when: str, variant: str = variant) -> quantities.Table:
            return {
                each.study: quantities.observed({each.study: each}, each.study, what, when)[variant]
                for each in (one, other)
            }

        matched = quantities.at_matched_displacement(look, one.study)
        mine = one.banks().query("variant == @variant")
        mine = mine[mine["seed"].isin(other.banks().query("variant == @variant")["seed"])].sort_values(
            ["seed", "layer"], kind="stable"
        )
        rows.append(
            mine.assign(value=(matched[one.study] - matched[other.study]).to_numpy().ravel())
        )
    return pd.concat(rows, ignore_index=True)


def existing(
    name: str, mode: str, seeds: Sequence[int] | None = None, variants: Sequence[str] | None = None
) -> Evidence:
    """What there is of a study's records in a mode, maybe nothing: none is made, and a variant may be without.

    ValueError for an unknown study, mode or variant.
    """
    study, store = studies.study(name), store_for(mode)
    wanted = study.specs(mode, seeds)
    known = {getattr(spec, study.variant): None for spec in wanted}
    if unknown := [variant for variant in variants or () if variant not in known]:
        raise ValueError(
            f"variants must be among {', '.join(map(str, known))}, got {', '.join(map(str, unknown))}"
        )
    wanted = [spec for spec in wanted if variants is None or getattr(spec, study.variant) in variants]
    missing = [spec for spec in wanted if spec not in store]
    return Evidence(
        name, mode, [store.load(spec) for spec in wanted if spec not in missing], missing, study.variant
    )


def collect(
    name: str, mode: str, seeds: Sequence[int] | None = None, variants: Sequence[str] | None = None
) -> Evidence:
    """The evidence of a study in a mode, for all its seeds and variants or those given.

    In quick mode what is missing is computed first, or waited for if another process is at it. In full mode
    FileNotFoundError, with the command that makes the records, if a variant has none at all, unless the study can do without
    it (`Study.beyond`). ValueError for an unknown study, mode or variant.
    """
    found = existing(name, mode, seeds, variants)
    if mode == "quick" and found.missing:
        keep = studies.keeping(mode, studies.study(name))
        sweeps.make(
            found.missing,
            store_for(mode),
            keep=keep,
            source=name if ":" in name else None,
            wait=True,
        )
        found = existing(name, mode, seeds, variants)
    if (
        bare := {found.variant(spec) for spec in found.missing}
        - found.seed_counts.keys()
        - set(studies.study(name).beyond)
    ):
        variants_without = ", ".join(sorted(map(str, bare)))
        raise FileNotFoundError(
            f"study {name} has no record for {variants_without}; make them: {found._command}"
        )
    return found


def for_claims(mode: str) -> dict[str, Evidence]:
    """What there is of the studies that claims rest on, without variants that the paper does not have."""
    return {
        study: existing(study, mode, variants=variants if field == "downsampling" else None)
        for study, (field, variants) in quantities.STUDIES.items()
    }


def load_trained(study: str, variant: str | float, seed: int = 0, mode: str = "full") -> models.VGG:
    """A trained network of the book, in eval mode, from the weights that are kept with the records (in bfloat16).

    >>> load_trained("cifar10", "max-pool", seed=0)  # doctest: +SKIP

    It takes images (N, 3, H, W) with values in [0, 1], H and W multiples of 16, as all but the recipe "augmented" do. The
    weights are in the project's own checkout, `book/results/weights`.

    ValueError for an unknown variant or mode, and for a study or a seed whose weights are not kept; FileNotFoundError, with the
    command that makes it, if the file is missing.
    """
    return networks.restore(*_kept(study, variant, seed, mode))


def load_initial(study: str, variant: str | float, seed: int = 0, mode: str = "full") -> models.VGG:
    """The same network before its training. Errors as for `load_trained`."""
    spec, tensors = _kept(study, variant, seed, mode)
    return networks.build(spec, *networks.sides(tensors)).eval()


def _kept(study: str, variant: str | float, seed: int, mode: str) -> tuple[Training, dict[str, Tensor]]:
    entry, store = studies.study(study), store_for(mode)
    others = ", ".join(name for name, each in studies.STUDIES.items() if each.weights)
    require(bool(entry.weights), "study", f"one that keeps weights: {others}", repr(study))
    require(is_whole(seed, 0), "seed", "an integer >= 0", repr(seed))
    specs = {getattr(spec, entry.variant): spec for spec in entry.specs(mode, [seed])}
    check_known("variant", variant, specs)
    require(
        seed in entry.weights,
        "seed",
        f"one of {', '.join(map(str, entry.weights))}, whose weights {study} keeps",
        seed,
    )
    path = store.weights_path(specs[variant])
    if not path.exists():
        first = f"delete {store.path(specs[variant])} and run" if specs[variant] in store else "run"
        raise FileNotFoundError(
            f"no weights of {study}, {variant}, seed {seed}; to make them {first} "
            f"python -m reproduction run {study} --seeds {seed}"
            + ("" if mode == "full" else f" --mode {mode}")
        )
    return specs[variant], load_tensors(path)[0]


def over_banks(
    networks: Mapping[str | float, torch.nn.Module],
    measure: Callable[[Tensor], Tensor],
    seed: int = 0,
) -> pd.DataFrame:
    """Columns as of `Evidence.banks`: what `measure` gives for the kernels of each filter bank, (out, in, kh, kw) ->
    (out, in), as the mean over kernels; those for which it is not a number are left out."""
    return pd.DataFrame(
        [
            (variant, seed, number, name, float(measure(weight).nanmean()))
            for variant, network in networks.items()
            for number, (name, weight) in enumerate(banks_of(network).items(), 1)
        ],
        columns=["variant", "seed", "layer", "name", "value"],
    )
