"""A study as one labelled array: the records of its runs as an `xarray.Dataset`.

Every run is an entry of the dimension `run`, with its variant and seed as coordinates;
`by_variant_and_seed` turns these two into dimensions. Layers and filters go by their names. What
was not measured is NaN, and a variable that was measured in no run is absent.

Trainings and initializations
    sensitivity, calibrated     (run, checkpoint, distance, statistic, layer)
    before_relu                 (run, checkpoint, distance, statistic, norm)
    conditions                  (run, checkpoint, condition, distance, statistic, layer), at full
                                checkpoints
    smoothness                  (run, checkpoint, average, filters)
    probes, small_probes        (run, checkpoint, probe): on the most images, and on equally many at
                                every checkpoint
    epoch                       (run, checkpoint)
Resamplings
    draws                       (run, average, statistic, size), with the name of the first filters
                                of a size
Interventions
    accuracy, changed           (run, statistics) and (run, intervention, statistics, scope,
                                filters)
Comparisons
    relative_stability          (run, when, factor, layer)
    shift_consistency           (run)
"""

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import xarray as xr

from deformlib.filters import AVERAGES
from deformlib.models import READOUT
from reproduction.experiments.records import (
    Accuracy,
    BeforeAndAfter,
    ByStatistics,
    Checkpoint,
    ComparisonRecord,
    Distances,
    Draws,
    InitializationRecord,
    InterventionRecord,
    Probe,
    Profile,
    Relative,
    ResamplingRecord,
    Scopes,
    Smoothness,
    TrainingRecord,
)
from reproduction.experiments.store import Record

Array = TypeVar("Array", xr.Dataset, xr.DataArray)
PROFILE = ("distance", "statistic")  # the dimensions of a `Profile` before its layers
COLUMNS = ["variant", "seed", "layer", "name", "value"]  # of a table in `tidy` form


def names(kind: type) -> list[str]:
    """The fields of a record's dataclass, which label a dimension."""
    return [field.name for field in fields(kind)]


def study_array(records: Sequence[Record], variant_field: str) -> xr.Dataset:
    """The records of a study, at least one and all of one kind. ValueError if they are of different
    networks."""
    read = READERS[type(records[0].measurements)]
    runs = {
        "variant": ("run", np.array([getattr(record.spec, variant_field) for record in records])),
        "seed": ("run", np.array([record.spec.seed for record in records])),
    }
    return read([record.measurements for record in records]).assign_coords(runs)


def by_variant_and_seed(array: Array) -> Array:
    """The same with the dimensions variant and seed in place of run; a run that is missing is
    NaN."""
    keys = [array["variant"].values, array["seed"].values]
    index = pd.MultiIndex.from_arrays(keys, names=["variant", "seed"])
    runs = xr.Coordinates.from_pandas_multiindex(index, "run")
    return array.drop_vars(["variant", "seed"]).assign_coords(runs).unstack("run")


def without_readout(array: Array) -> Array:
    """The same without the pooled representation and the logits, which are no layers of the
    paper's."""
    return array.sel(layer=[name for name in array["layer"].values if name not in READOUT])


def at_checkpoint(array: Array, checkpoint: int) -> Array:
    """One checkpoint of every run: 0 is the first, -1 the last of each."""
    if checkpoint >= 0:
        return array.isel(checkpoint=checkpoint)
    return array.isel(checkpoint=array["checkpoints"] + checkpoint)


def tidy(values: xr.DataArray, first: int = 0) -> pd.DataFrame:
    """Columns variant, seed, layer (a number, from `first` on), name, value, run by run, of an
    array (run, layer) or (run, filters). Names that are not the same in all runs are the coordinate
    `name`."""
    [over] = {str(dimension) for dimension in values.dims} - {"run"}
    if "name" not in values.coords:
        values = values.assign_coords(name=(over, values[over].values))
    numbers = range(first, first + values.sizes[over])
    numbered = values.drop_vars(over, errors="ignore").rename({over: "layer"})
    numbered = numbered.assign_coords(layer=numbers).transpose("run", "layer")
    table = numbered.to_dataframe("value").reset_index()
    table = table.loc[table["name"] != "", COLUMNS]
    return table.infer_objects().reset_index(drop=True)


def _trainings(records: Sequence[Any]) -> xr.Dataset:
    """Of TrainingRecords and InitializationRecords."""
    layers, filters = _shared(records, "layers"), _shared(records, "banks")
    norms = [getattr(record, "before_relu", []) for record in records]
    counts = [len(record.checkpoints) for record in records]
    full = [c.full.conditions for record in records for c in record.checkpoints if c.full]
    conditions = list(dict.fromkeys(name for measured in full for name in measured))
    of_layers = (*PROFILE, "layer")

    def stacked(read: Callable[[Checkpoint], Any], *dimensions: str) -> xr.DataArray:
        runs = [np.array([read(c) for c in record.checkpoints], float) for record in records]
        return _padded(runs, ("run", "checkpoint", *dimensions))

    def under_conditions(checkpoint: Checkpoint) -> list[np.ndarray]:
        measured = checkpoint.full.conditions if checkpoint.full else {}
        return [_profile(measured.get(name), len(layers)) for name in conditions]

    variables = {
        "sensitivity": stacked(lambda c: _profile(c.sensitivity, len(layers)), *of_layers),
        "calibrated": stacked(lambda c: _profile(c.calibrated, len(layers)), *of_layers),
        "before_relu": stacked(lambda c: _profile(c.before_relu), *PROFILE, "norm"),
        "smoothness": stacked(lambda c: _values(c.smoothness, Smoothness), "average", "filters"),
        "probes": stacked(lambda c: _values(c.best_probe if c.probe else None, Probe), "probe"),
        "small_probes": stacked(lambda c: _values(c.probe, Probe), "probe"),
        "epoch": stacked(lambda c: c.epoch),
    }
    if conditions:
        variables["conditions"] = stacked(under_conditions, "condition", *of_layers)
    coordinates = {
        "distance": names(Profile),
        "statistic": names(Distances),
        "layer": layers,
        "name": (("run", "norm"), _names(norms)),
        "checkpoint": range(max(counts, default=0)),
        "condition": conditions,
        "average": names(Smoothness),
        "filters": filters,
        "probe": names(Probe),
        "checkpoints": ("run", counts),
    }
    for name in ("calibrated", "before_relu", "probes", "small_probes"):
        if not variables[name].notnull().any():
            del variables[name]
    return xr.Dataset(variables, coordinates)


def _resamplings(records: Sequence[ResamplingRecord]) -> xr.Dataset:
    def drawn(record: ResamplingRecord) -> np.ndarray:
        return np.array([_values(getattr(record, average), Draws) for average in AVERAGES], float)

    draws = _padded([drawn(record) for record in records], ("run", "average", "statistic", "size"))
    coordinates = {
        "average": list(AVERAGES),
        "statistic": names(Draws),
        "size": range(1, draws.sizes["size"] + 1),
        "name": (("run", "size"), _names([record.banks for record in records])),
    }
    return xr.Dataset({"draws": draws}, coordinates)


def _interventions(records: Sequence[InterventionRecord]) -> xr.Dataset:
    interventions, statistics = ("shuffled", "averaged"), names(ByStatistics)

    def changed(record: InterventionRecord, intervention: str, statistic: str) -> list[Any]:
        return _values(getattr(getattr(record, intervention), statistic), Scopes)

    accuracy = [_values(record.accuracy, Accuracy) for record in records]
    values = [
        [[changed(record, one, statistic) for statistic in statistics] for one in interventions]
        for record in records
    ]
    over = ("run", "intervention", "statistics", "scope", "filters")
    coordinates = {
        "intervention": list(interventions),
        "statistics": statistics,
        "scope": names(Scopes),
        "filters": _shared(records, "banks"),
    }
    return xr.Dataset(
        {"accuracy": (("run", "statistics"), accuracy), "changed": (over, values)}, coordinates
    )


def _comparisons(records: Sequence[ComparisonRecord]) -> xr.Dataset:
    stability = [
        [
            _values(getattr(record.relative_stability, when), Relative)
            for when in names(BeforeAndAfter)
        ]
        for record in records
    ]
    coordinates = {
        "when": names(BeforeAndAfter),
        "factor": names(Relative),
        "layer": _shared(records, "layers"),
    }
    variables = {
        "relative_stability": (("run", "when", "factor", "layer"), stability),
        "shift_consistency": ("run", [record.shift_consistency for record in records]),
    }
    return xr.Dataset(variables, coordinates)


READERS: dict[type, Callable[[Sequence[Any]], xr.Dataset]] = {
    TrainingRecord: _trainings,
    InitializationRecord: _trainings,
    ResamplingRecord: _resamplings,
    InterventionRecord: _interventions,
    ComparisonRecord: _comparisons,
}


def _shared(records: Sequence[Any], name: str) -> list[str]:
    """The names of layers or filters that all records have alike."""
    found = {tuple(getattr(record, name, ())): None for record in records}
    if len(found) > 1:
        raise ValueError(f"all runs of a study must have the same {name}; choose some of them")
    return list(next(iter(found), ()))


def _values(found: Any, kind: type) -> list[Any]:
    """The fields of a dataclass in their order, NaN if there is none."""
    return [getattr(found, name, np.nan) for name in names(kind)]


def _names(of_runs: list[list[str]]) -> np.ndarray:
    """(run, place), "" where a run has fewer names than another."""
    longest = max(map(len, of_runs), default=0)
    rows = [[*names, *[""] * (longest - len(names))] for names in of_runs]
    return np.array(rows, dtype=object).reshape(len(of_runs), longest)


def _profile(found: Profile | None, layers: int | None = None) -> np.ndarray:
    """(distance, statistic, layer): of so many layers, or of as many as there are."""
    if found is None:
        return np.full((len(names(Profile)), len(names(Distances)), layers or 0), np.nan)
    nothing = [np.nan] * len(found.cosine.normalized)
    by_distance = [_values(distances, Distances) for distances in _values(found, Profile)]
    return np.array([[values or nothing for values in row] for row in by_distance], float)


def _padded(arrays: list[np.ndarray], dimensions: tuple[str, ...]) -> xr.DataArray:
    """Arrays, one a run, as one: a run that has fewer checkpoints than another is filled up with
    NaN."""
    shapes = [array.shape for array in arrays] or [(0,) * (len(dimensions) - 1)]
    whole = np.full((len(arrays), *np.max(shapes, axis=0)), np.nan)
    for place, array in zip(whole, arrays):
        place[tuple(map(slice, array.shape))] = array
    return xr.DataArray(whole, dims=dimensions)
