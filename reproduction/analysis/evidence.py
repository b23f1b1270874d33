"""The records behind a chapter: those of a study in a mode, wherever they come from, as tables of
numbers.

Full mode reads committed records; a missing seed is counted and said, a variant without any is an
error. Quick mode makes what is missing there and then, in a store of its own. Never one in place of
the other."""

import os
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from deformlib.filters import AVERAGES
from deformlib.models import DOWNSAMPLINGS
from deformlib.validation import check_known, require
from reproduction.analysis import quantities
from reproduction.analysis.study_arrays import (
    COLUMNS,
    at_checkpoint,
    study_array,
    tidy,
    without_readout,
)
from reproduction.experiments import studies, sweeps
from reproduction.experiments.records import Probe
from reproduction.experiments.specs import (
    Resampling,
    Spec,
    Training,
    WorstPretrained,
    network_of,
)
from reproduction.experiments.store import RESULTS, Record, Store, cache_root

MEASURES = ("sensitivity", "calibrated", "before_relu")
# Two names of the same images: the records of Tiny ImageNet's first seed name those of all hundred
# classes at hand, of which they train on the first fifty; later ones name those fifty alone.
SAME_IMAGES = {"5b64deb038c8": "c50f1cbac79f"}


def store_for(mode: str) -> Store:
    """Where a mode's records are: `book/results`, or for quick mode $DEFORMLIB_STORE or a folder in
    the cache."""
    check_known("mode", mode, studies.MODES)
    if mode == "full":
        return Store(RESULTS)
    return Store(Path(os.environ.get("DEFORMLIB_STORE") or cache_root() / "quick").expanduser())


@dataclass(frozen=True)
class Evidence:
    """Records of a study, and the specs of those still missing. A table has one row per variant,
    seed and layer."""

    study: str
    mode: str
    records: list[Record]
    missing: list[Spec]
    variant_field: str = "downsampling"

    @cached_property
    def array(self) -> xr.Dataset:
        """The records as one labelled array, run by run (`study_arrays`)."""
        return study_array(self.records, self.variant_field)

    def judged(self, variants: Sequence) -> xr.Dataset:
        """The quantities that claims are about, of these variants (`quantities`)."""
        return quantities.observed(self.records, self.variant_field, variants)

    def variant(self, spec: Spec) -> str | float:
        """Which of the study's variants a spec belongs to."""
        return getattr(spec, self.variant_field)

    @property
    def seed_counts(self) -> dict[str | float, int]:
        """{variant: number of seeds with a record}. Several records of a variant and seed are one
        seed."""
        specs = [record.spec for record in self.records]
        runs = dict.fromkeys((self.variant(spec), spec.seed) for spec in specs)
        return dict(Counter(variant for variant, _ in runs))

    def only(self, **fields: object) -> "Evidence":
        """The part whose specs have these values, as in `only(classes=100)`: a study may have
        variants of its variants."""

        def has(spec: Spec) -> bool:
            return all(getattr(spec, name) == value for name, value in fields.items())

        records = [record for record in self.records if has(record.spec)]
        return replace(self, records=records, missing=[spec for spec in self.missing if has(spec)])

    @property
    def command(self) -> str:
        """The command that makes the missing records."""
        mode = "" if self.mode == "full" else f" --mode {self.mode}"
        return f"python -m reproduction run {self.study}{mode}"

    @property
    def note(self) -> str:
        """One line for a caption: the data, numbers of seeds and epochs (or of draws), and what is
        missing."""
        if not self.records:
            return f"no records: {self.command}"
        notes = [self._extent]
        images = {str(record.provenance.get("data")) for record in self.records}
        versions = {SAME_IMAGES.get(name, name) for name in images}
        if len(versions) > 1:
            notes.append(
                f"of {len(versions)} different versions of these images (provenance.data of the "
                "records), which are not comparable"
            )
        missing = sum(self.variant(spec) in self.seed_counts for spec in self.missing)
        if missing:
            runs = f"{missing} planned run{'s' * (missing > 1)}"
            notes.append(f"{runs} of these variants missing: {self.command}")
        return "; ".join(notes)

    @property
    def _extent(self) -> str:
        specs = [network_of(record.spec) for record in self.records]
        if isinstance(specs[0], Resampling):
            return f"{specs[0].draws:,} draws"
        if isinstance(specs[0], WorstPretrained):
            return f"{specs[0].data}, networks that others trained"
        counts = list(self.seed_counts.values())
        usual = max(counts, key=lambda n: (counts.count(n), n))  # the larger of equally common ones
        seeds = f"{usual} seed{'s' * (usual > 1)} per variant"
        others = [f"{n} of {label_of(v)}" for v, n in self.seed_counts.items() if n != usual]
        if others:
            seeds += f" (but {', '.join(others)})"
        epochs = sorted({spec.recipe.epochs for spec in specs if isinstance(spec, Training)})
        trained = f"{' or '.join(map(str, epochs))} epoch{'s' * (epochs != [1])}"
        return f"{specs[0].data}, {seeds}, {trained if epochs else 'untrained'}"

    def banks(self, average: str = "kernel", *, checkpoint: int = -1) -> pd.DataFrame:
        """Columns variant, seed, layer (a number, 1 the first convolution), name, value: smoothness
        of filters.

        average  a name in a record's smoothness: "kernel" or "bank" of the normalized total
                 variation; "zero_extended", "change_kernel" and "change_bank" (of the change since
                 initialization), "change_norm", "norm"
        """
        if not self.records:
            return NOTHING
        check_known("average", average, self.array["average"].values)
        smoothness = self.array["smoothness"].sel(average=average)
        return tidy(at_checkpoint(smoothness, checkpoint), first=1)

    def changed(
        self, intervention: str, scope: str = "alone", *, statistics: str = "running"
    ) -> pd.DataFrame:
        """Columns variant, seed, layer, name, value: accuracy with the filters of one layer
        changed, numbered as in `banks`; 0 is the network as it was. `scope` and `statistics` as in
        `interventions.measure`."""
        array = self.array.sel(statistics=statistics)
        unchanged = array["accuracy"].expand_dims(filters=["none"])
        changed = array["changed"].sel(intervention=intervention, scope=scope)
        return tidy(xr.concat([unchanged, changed], "filters", coords="minimal"))

    def resampled(self) -> pd.DataFrame:
        """Footnote 1: mean and standard deviation over draws of the smoothness of filters, by both
        averages; one row for each size."""
        draws = self.array["draws"].sel(statistic=["mean", "deviation"])
        rows = draws.stack(row=("run", "size"), column=("average", "statistic"))
        rows = rows.dropna("row", how="all")
        index = pd.MultiIndex.from_arrays(
            [rows["variant"].values, rows["name"].values], names=["architecture", "bank"]
        )
        columns = pd.MultiIndex.from_product([AVERAGES, ("mean", "deviation")])
        return pd.DataFrame(rows.transpose("row", "column").values, index, columns).round(4)

    def layers(
        self,
        measure: str = "sensitivity",
        *,
        checkpoint: int = -1,
        distance: str = "cosine",
        statistic: str = "normalized",
        condition: str | None = None,
    ) -> pd.DataFrame:
        """Columns variant, seed, layer (a number, 0 the input), name, value: one statistic of one
        checkpoint.

        measure     "sensitivity", "calibrated" (batch norm statistics computed anew) or
                    "before_relu"
        checkpoint  index into the record's checkpoints: 0 is the initialization, -1 the end
        condition   sensitivity to other images or deformations, "strength-0.5" or "noise": one of
                    the protocol's, at a full checkpoint, as the first and the last are
        """
        if not self.records:
            return NOTHING
        if condition is None:
            check_known("measure", measure, [name for name in MEASURES if name in self.array])
            values = self.array[measure]
        else:
            rule = "sensitivity where a condition is given"
            require(measure == "sensitivity", "measure", rule, repr(measure))
            check_known("condition", condition, self.array["condition"].values)
            values = self.array["conditions"].sel(condition=condition)
        chosen = at_checkpoint(values.sel(distance=distance, statistic=statistic), checkpoint)
        chosen = chosen if measure == "before_relu" else without_readout(chosen)
        if condition is not None:
            rule = "a full one where a condition is given"
            require(bool(chosen.notnull().all()), "checkpoint", rule, checkpoint)
        require(bool(chosen.notnull().any()), "statistic", "one that was measured", repr(statistic))
        return tidy(chosen)

    def relative_stability(self, factor: str = "ratio", when: str = "after") -> pd.DataFrame:
        """Columns as of `layers`: a field of `records.Relative`, "before" training or "after"."""
        stability = self.array["relative_stability"].sel(factor=factor, when=when)
        return tidy(without_readout(stability))

    def probes(self, checkpoint: int = -1) -> pd.DataFrame:
        """Columns variant, seed and every accuracy, loss and rate of one checkpoint, on the most
        images it was taken on."""
        probes = at_checkpoint(self.array["probes"], checkpoint)
        table = probes.to_dataset("probe").to_dataframe().reset_index()
        columns = ["variant", "seed", *Probe.__dataclass_fields__]
        return table[columns].astype({"train_images": int, "test_images": int})

    def accuracies(self) -> pd.DataFrame:
        """Per variant, at the end of training: accuracies and flips in percent, means over seeds;
        how many of what."""
        probes = self.probes().groupby("variant", sort=False).mean()
        columns = {
            "training %": (100 * probes["train_accuracy"]).round(2),
            "test %": (100 * probes["test_accuracy"]).round(2),
            "deformed %": (100 * probes["deformed_accuracy"]).round(2),
            "flips %": (100 * probes["flip_rate"]).round(2),
            "training images": probes["train_images"].astype(int),
            "test images": probes["test_images"].astype(int),
            "seeds": pd.Series(self.seed_counts),
        }
        return pd.DataFrame(columns, index=probes.index)


NOTHING = pd.DataFrame(columns=COLUMNS).astype({"value": float})


def by_layer(
    values: pd.DataFrame, initial: pd.DataFrame | None = None, label: str = "{}"
) -> pd.DataFrame:
    """A table of `Evidence.layers` to stand under a figure: mean over seeds, with two standard
    deviations if seeds differ, one row per layer and one column per variant, called by `label`.
    `initial`, the same before training, where all variants of a seed are one, is a column more, the
    first."""
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
    """Columns variant, seed, name, smoothness, sensitivity: filter banks of `Evidence.banks` with,
    from a table of `Evidence.layers`, the representation right after each."""
    both = banks.merge(layers, on=["variant", "seed", "name"], suffixes=("_bank", "_layer"))
    both = both.rename(columns={"value_bank": "smoothness", "value_layer": "sensitivity"})
    return both[["variant", "seed", "name", "smoothness", "sensitivity"]]


def last(values: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table of `Evidence.layers` that are of the last layer."""
    return values[values["layer"] == values["layer"].max()]


def last_layer(values: pd.DataFrame) -> str:
    """For a sentence: the variants' means at the last layer of a table of `Evidence.layers`, the
    smallest first."""
    means = last(values).groupby("variant")["value"].mean().sort_values()
    return ", ".join(f"{label_of(str(variant))} {value:.3f}" for variant, value in means.items())


def spread(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """Standard deviation between variants, of their means over seeds, layer by layer: absolute and
    of logarithms."""

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
    """Columns variant, seed, value, epoch: at every checkpoint the mean of `table`,
    `Evidence.layers` or `Evidence.banks`, over the layers of these numbers, or over all."""
    tables = []
    for checkpoint, epoch in enumerate(evidence.array["epoch"].values[0]):
        values = table(evidence, checkpoint=checkpoint)
        if numbers is not None:
            values = values[values["layer"].isin(numbers)]
        means = values.groupby(["variant", "seed"], sort=False)["value"].mean()
        tables.append(means.reset_index().assign(epoch=epoch))
    return pd.concat(tables, ignore_index=True)


def learning(evidence: Evidence, what: str = "train_accuracy") -> pd.DataFrame:
    """As `over_training`, of a column of `Evidence.probes`."""

    def table(evidence: Evidence, checkpoint: int) -> pd.DataFrame:
        return evidence.probes(checkpoint).rename(columns={what: "value"})

    return over_training(evidence, table)


def final_losses(evidence: Evidence) -> dict[str | float, float]:
    """{variant: training loss at the end, the geometric mean over seeds}, for `at_loss`."""
    probes = evidence.probes().assign(loss=lambda table: np.log(table["train_loss"]))
    return np.exp(probes.groupby("variant", sort=False)["loss"].mean()).to_dict()


def at_loss(
    evidence: Evidence,
    losses: Mapping[str | float, float],
    table: Callable[..., pd.DataFrame] = Evidence.layers,
) -> pd.DataFrame:
    """As `table`, `Evidence.layers` or `Evidence.banks`, each variant where its training loss first
    fell to `losses[variant]`: between the two checkpoints around that moment, linear in the
    logarithm of the loss. Runs that never got there are left out, and variants without a loss."""
    if not evidence.records:
        return table(evidence, checkpoint=0)
    counts = sorted(set(evidence.array["checkpoints"].values.tolist()))
    if len(counts) > 1:
        raise ValueError(f"records must have as many checkpoints as each other, got {counts}")
    tables = [table(evidence, checkpoint=k) for k in range(counts[0])]
    values = np.stack([each["value"] for each in tables])  # (checkpoint, row)
    rows_of_runs = np.split(np.arange(values.shape[1]), len(evidence.records))
    loss = np.log(
        evidence.array["small_probes"].sel(probe="train_loss").values
    )  # (run, checkpoint)
    found = []
    for record, rows, losses_of_run in zip(evidence.records, rows_of_runs, loss, strict=True):
        goal = losses.get(evidence.variant(record.spec))
        moment = None if goal is None else _first_at(losses_of_run, np.log(goal))
        if moment is not None:
            before, fraction = moment
            now = (1 - fraction) * values[before, rows] + fraction * values[before + 1, rows]
            found.append(tables[0].iloc[rows].assign(value=now))
    return pd.concat(found, ignore_index=True) if found else tables[0].iloc[:0]


def _first_at(losses: np.ndarray, goal: float) -> tuple[int, float] | None:
    """The checkpoint before a loss first fell to its goal, and the fraction of the way to the next.
    None if it never did."""
    reached = np.flatnonzero(losses <= goal)
    if not len(reached):
        return None
    before = max(0, reached[0] - 1)
    fallen = losses[before] - losses[before + 1]
    return before, np.clip((losses[before] - goal) / fallen, 0, 1) if fallen > 0 else 0.0


def at_displacement(evidence: Evidence) -> pd.DataFrame:
    """As `Evidence.banks`, of the digit tasks: filters where, on their way, they had moved as far
    as they did under the strength that moved them least, by the rule of claim 7
    (`quantities.at_matched_displacement`). Of the seeds that all strengths have; no rows if a
    strength has none."""
    if not evidence.records:
        return NOTHING
    study = evidence.judged(quantities.JUDGED["mnist-templates"])
    matched = quantities.at_matched_displacement(study["smoothness"], study["moved"])
    runs = matched.sel(variant=evidence.array["variant"], seed=evidence.array["seed"])
    return tidy(runs, first=1).dropna(subset="value").reset_index(drop=True)


def gap_at_displacement(one: Evidence, other: Evidence) -> pd.DataFrame:
    """Total variation of `one` less that of `other`, columns as of `Evidence.banks`: of variants
    and seeds that both have, filters where, on their ways, both had moved as far as the one of them
    that moved less. The paper's variants alone."""
    variants = [variant for variant in one.seed_counts if variant in quantities.JUDGED[one.study]]
    pair = [each.judged(variants) for each in (one, other)]
    smoothness, moved = (
        xr.concat([study[name] for study in pair], "side", join="inner")
        for name in ("smoothness", "moved")
    )
    matched = quantities.at_matched_displacement(smoothness, moved, over="side")
    gap = matched.isel(side=0) - matched.isel(side=1)
    table = tidy(gap.stack(run=("variant", "seed")), first=1)
    return table.dropna(subset="value").reset_index(drop=True)


def existing(
    name: str, mode: str, seeds: Sequence[int] | None = None, variants: Sequence[str] | None = None
) -> Evidence:
    """What there is of a study's records in a mode, maybe nothing: none is made, and a variant may
    be without.

    ValueError for an unknown study, mode or variant.
    """
    study, store = studies.study(name), store_for(mode)
    wanted = {spec: getattr(spec, study.variant) for spec in study.specs(mode, seeds)}
    if variants is not None:
        unknown = [variant for variant in variants if variant not in wanted.values()]
        known = ", ".join(map(str, dict.fromkeys(wanted.values())))
        rule = f"among {known}"
        require(not unknown, "variants", rule, ", ".join(map(str, unknown)))
        wanted = {spec: variant for spec, variant in wanted.items() if variant in variants}
    missing = [spec for spec in wanted if spec not in store]
    records = [store.load(spec) for spec in wanted if spec not in missing]
    return Evidence(name, mode, records, missing, study.variant)


def collect(
    name: str, mode: str, seeds: Sequence[int] | None = None, variants: Sequence[str] | None = None
) -> Evidence:
    """The evidence of a study in a mode, for all its seeds and variants or those given.

    In quick mode what is missing is computed first, or waited for if another process is at it. In
    full mode FileNotFoundError, with the command that makes the records, if a variant has none at
    all, unless the study can do without it (`Study.beyond`). ValueError for an unknown study, mode
    or variant."""
    study, found = studies.study(name), existing(name, mode, seeds, variants)
    if mode == "quick" and found.missing:
        keep, source = studies.keeping(mode, study), name if ":" in name else None
        sweeps.make(found.missing, store_for(mode), keep=keep, source=source, wait=True)
        found = existing(name, mode, seeds, variants)
    without = {found.variant(spec) for spec in found.missing} - found.seed_counts.keys()
    bare = sorted(map(str, without - set(study.beyond)))
    if bare:
        raise FileNotFoundError(
            f"study {name} has no record for {', '.join(bare)}; make them: {found.command}"
        )
    return found


def for_claims(mode: str) -> dict[str, Evidence]:
    """What there is of the studies that claims rest on, without variants that the paper does not
    have."""
    found = {}
    for name, variants in quantities.JUDGED.items():
        chosen = variants if studies.study(name).variant == "downsampling" else None
        found[name] = existing(name, mode, variants=chosen)
    return found


def judged_studies(evidence: Mapping[str, Evidence]) -> dict[str, xr.Dataset]:
    """Every study that claims rest on, as `quantities` has it; one without evidence has no runs."""
    nothing = Evidence("", "full", [], [])
    return {
        name: evidence.get(name, nothing).judged(variants)
        for name, variants in quantities.JUDGED.items()
    }
