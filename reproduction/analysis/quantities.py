"""What the claims are about: quantities of a study by variant and seed, from its records or from
the published curves.

A judged study is a Dataset of the variants that the paper has; a run that is missing, and what was
not measured, is NaN:

    sensitivity, calibrated           (variant, seed, checkpoint, layer), by cosine distance;
                                      `calibrated` is with batch norm statistics computed anew
    euclidean, calibrated_euclidean   the same by Euclidean distance
    image_sets                        (variant, seed, checkpoint, condition, layer): sensitivity on
                                      further sets
    smoothness, moved                 (variant, seed, checkpoint, filters): mean over kernels;
                                      distance from initialization
    accuracy                          (variant, seed, checkpoint), percent of test images
    draws                             (variant, seed, statistic, size): footnote 1; its variants are
                                      architectures
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache

import numpy as np
import xarray as xr

from deformlib.models import BLOCKS
from reproduction.analysis.curves import overlay
from reproduction.analysis.study_arrays import (
    by_variant_and_seed,
    names,
    study_array,
    without_readout,
)
from reproduction.experiments.records import Draws
from reproduction.experiments.specs import Spec
from reproduction.experiments.store import Record
from reproduction.experiments.studies import SIGMAS, STRENGTHS, TWO

POOLED, UNPOOLED = ("max-pool", "average-pool"), ("subsample", "strided", "strided-relu")
FIVE = POOLED + UNPOOLED
ARCHITECTURES = tuple(BLOCKS)
JUDGED: dict[str, tuple] = {  # study -> its variants in the paper
    "cifar10": FIVE,
    "imagenet": TWO,
    "imagenet-init": TWO,
    "imagenet-smoothed": SIGMAS,
    "cifar10-random-labels": FIVE,
    "cifar10-subset": FIVE,
    "mnist-templates": STRENGTHS,
    "mnist-templates-noise": STRENGTHS,  # pixel noise of the norm that strength C has
    "initial-smoothness": ARCHITECTURES,
}
DIMENSIONS: dict[str, tuple[str, ...]] = {
    "sensitivity": ("checkpoint", "layer"),
    "calibrated": ("checkpoint", "layer"),
    "euclidean": ("checkpoint", "layer"),
    "calibrated_euclidean": ("checkpoint", "layer"),
    "image_sets": ("checkpoint", "condition", "layer"),
    "smoothness": ("checkpoint", "filters"),
    "moved": ("checkpoint", "filters"),
    "accuracy": ("checkpoint",),
    "draws": ("statistic", "size"),
}
Moment = Callable[[xr.DataArray], xr.DataArray]  # `before` or `after`
Studies = Mapping[str, xr.Dataset]  # {name: a judged study}


def before(values: xr.DataArray) -> xr.DataArray:
    """At initialization."""
    return values.isel(checkpoint=0, drop=True)


def after(values: xr.DataArray) -> xr.DataArray:
    """At the end of training."""
    return values.isel(checkpoint=-1, drop=True)


FIGURES: dict[tuple[str, str, Moment], str] = {  # what the curves of a published figure are
    ("cifar10", "sensitivity", before): "3c",
    ("cifar10", "sensitivity", after): "3d",
    ("cifar10", "smoothness", after): "6b",
    ("imagenet-init", "sensitivity", before): "3a",
    ("imagenet", "sensitivity", before): "3a",
    ("imagenet", "sensitivity", after): "3b",
    ("imagenet", "smoothness", after): "6a",
    ("imagenet-smoothed", "sensitivity", before): "4",
    ("mnist-templates", "smoothness", after): "5",
    ("cifar10-random-labels", "smoothness", after): "6c",
    ("cifar10-random-labels", "sensitivity", after): "7",
}


def log(values: xr.DataArray) -> xr.DataArray:
    """Natural logarithm; NaN, not minus infinity, of zero."""
    return xr.apply_ufunc(np.log, values.where(values > 0))


def by_euclidean_distance(study: xr.Dataset) -> xr.Dataset:
    """The study as if its Euclidean distances, squared, were cosine distances: a cosine distance is
    half the square of a Euclidean one between vectors of length 1, so that the same thresholds
    apply."""
    return study.assign(
        sensitivity=study["euclidean"] ** 2, calibrated=study["calibrated_euclidean"] ** 2
    )


def observed(records: Sequence[Record], variant_field: str, variants: Sequence) -> xr.Dataset:
    """The judged study of these records: those of its commonest specification, of these
    variants."""
    alike = _commonest(records, variant_field)
    chosen = [record for record in alike if getattr(record.spec, variant_field) in variants]
    if not chosen:
        return judged_study(variants)
    array = study_array(chosen, variant_field)
    found = _of_filters(array) if "draws" in array else _of_networks(array)
    return judged_study(variants, by_variant_and_seed(found))


def _commonest(records: Sequence[Record], variant_field: str) -> list[Record]:
    """The records of a study's commonest specification (the first of equals), leaving out its
    further variants: other draws of labels, other widths, other sets of digits. On how many sets of
    images is no variant: the first is the same."""

    def rest(spec: Spec) -> str:
        fields = [
            item for item in vars(spec).items() if item[0] not in (variant_field, "seed", "sets")
        ]
        return repr(sorted(fields))

    common = Counter(rest(record.spec) for record in records).most_common(1)
    return [record for record in records if rest(record.spec) == common[0][0]]


def _of_networks(array: xr.Dataset) -> xr.Dataset:
    """The quantities of trainings or initializations, by run."""
    normalized = without_readout(array.sel(statistic="normalized", drop=True))
    cosine, euclidean = (normalized.sel(distance=d, drop=True) for d in ("cosine", "euclidean"))
    variables = {
        "sensitivity": cosine["sensitivity"],
        "calibrated": cosine.get("calibrated"),
        "euclidean": euclidean["sensitivity"],
        "calibrated_euclidean": euclidean.get("calibrated"),
        "smoothness": array["smoothness"].sel(average="kernel", drop=True),
        "moved": array["smoothness"].sel(average="change_norm", drop=True),
    }
    if "conditions" in array:
        sets = [name for name in array["condition"].values if name.startswith("test-")]
        variables["image_sets"] = cosine["conditions"].sel(condition=sets)
    if "probes" in array:
        variables["accuracy"] = 100 * array["probes"].sel(probe="test_accuracy", drop=True)
    found = {name: values for name, values in variables.items() if values is not None}
    return xr.Dataset(found).drop_vars("checkpoints")


def _of_filters(array: xr.Dataset) -> xr.Dataset:
    """The quantities of resamplings, by run."""
    return array[["draws"]].sel(average="kernel", drop=True).drop_vars("name")


def judged_study(variants: Sequence, found: xr.Dataset | None = None) -> xr.Dataset:
    """What was found of a study, with all its variants, and with NaN for what was not measured."""
    nothing = _nothing(tuple(variants))
    if found is None:
        return nothing
    first = ("variant", "seed", "checkpoint", "condition", "statistic")
    whole = found.combine_first(nothing)
    return whole.sel(variant=list(variants)).transpose(*first, ...)


@cache
def _nothing(variants: tuple) -> xr.Dataset:
    """A judged study without runs."""
    coordinates = {
        "variant": list(variants),
        "seed": np.empty(0, int),
        "checkpoint": [0],
        "condition": np.empty(0, object),
        "statistic": names(Draws),
        "layer": np.empty(0, object),
        "filters": np.empty(0, object),
        "size": np.empty(0, int),
    }
    nothing = xr.Dataset(coords=coordinates)
    for name, dimensions in DIMENSIONS.items():
        over = ("variant", "seed", *dimensions)
        nothing[name] = (over, np.empty([nothing.sizes[dimension] for dimension in over]))
    return nothing


def published_study(study: str) -> xr.Dataset:
    """A judged study from the published curves, as one seed; layers and filters go by their
    numbers."""
    if study == "initial-smoothness":
        return judged_study(ARCHITECTURES, _footnote_1())
    variables = {}
    for quantity, over in (("sensitivity", "layer"), ("smoothness", "filters")):
        curves = {when: _curves(study, quantity, when, over) for when in (before, after)}
        last = curves[after]
        if quantity == "smoothness" and last is not None:
            curves[before] = xr.full_like(last, 1.87)  # the dotted line of Figures 5 and 6
        moments = [values for values in curves.values() if values is not None]
        if moments:
            nan = xr.full_like(moments[0], np.nan)
            pair = [nan if values is None else values for values in curves.values()]
            variables[quantity] = xr.concat(pair, "checkpoint").expand_dims(seed=[0])
    return judged_study(JUDGED[study], xr.Dataset(variables, {"checkpoint": [0, 1]}))


def _curves(study: str, quantity: str, when: Moment, over: str) -> xr.DataArray | None:
    """The curves of a figure, (variant, layer or filters)."""
    curves = overlay(FIGURES.get((study, quantity, when), "none"), "full")
    if curves is None:
        return None
    wide = curves.pivot(index="variant", columns="layer", values="value")
    kind = type(JUDGED[study][0])
    variants = [kind(name.split("=")[-1]) for name in wide.index]
    return xr.DataArray(wide.to_numpy(), {"variant": variants, over: wide.columns.to_numpy()})


def _footnote_1() -> xr.Dataset:
    """Mean 1.87 everywhere, deviation 0.035 of the first filters; in no paper how many draws."""
    values = np.full((len(ARCHITECTURES), 1, 3, 8), np.nan)
    values[:, :, 0] = 1.87
    values[..., 1, 0] = 0.035
    coordinates = {"variant": list(ARCHITECTURES), "seed": [0], "statistic": names(Draws)}
    over = ("variant", "seed", "statistic", "size")
    return xr.Dataset({"draws": (over, values)}, coordinates | {"size": range(1, 9)})


def complete(*arrays: xr.DataArray) -> tuple[np.ndarray, list]:
    """Arrays of one study side by side, (seeds, variants, layers of the first, of the second, ...),
    of the variants that have a run and of the seeds that these share; and the variants that have
    none."""
    wide = [values.transpose("seed", "variant", ...).values for values in arrays]
    there = np.stack(
        [~np.isnan(values).all(axis=2) for values in wide]
    )  # (arrays, seeds, variants)
    has = there.any(axis=1).all(axis=0)
    seeds = there[:, :, has].all(axis=(0, 2))
    whole = np.concatenate([values[seeds][:, has] for values in wide], axis=2)
    return whole, arrays[0]["variant"].values[~has].tolist()


def at_matched_displacement(
    smoothness: xr.DataArray, moved: xr.DataArray, over: str = "variant"
) -> xr.DataArray:
    """Smoothness of all filters where, on their way, they had moved from their initialization as
    far (relative norm) as they ever did under the variant that moved them least; linear between
    checkpoints. NaN for a seed that a variant lacks."""
    far = xr.apply_ufunc(
        np.maximum.accumulate, moved, kwargs={"axis": moved.get_axis_num("checkpoint")}
    )
    reach = far.max("checkpoint", skipna=False).min(over, skipna=False)
    path = ["checkpoint"]
    return xr.apply_ufunc(
        np.interp,
        reach,
        far,
        smoothness,
        input_core_dims=[[], path, path],
        vectorize=True,
        output_dtypes=[float],
    )
