"""What the records took to make, and how fast the package is."""

import json
from itertools import combinations

import numpy as np
import pandas as pd

from reproduction.analysis.evidence import existing, store_for
from reproduction.experiments import studies
from reproduction.experiments.store import RESULTS, Record, Store

BENCH = {
    "cpu": RESULTS.parent / "bench.json",
    "cuda": RESULTS.parent / "bench-cuda.json",
}  # written by `make bench` and `python bench --cuda`


def costs(mode: str) -> pd.DataFrame:
    """What the records of each study took, from their provenance: one row per study and kind of
    hardware, "CPU" or "GPU", but for quick mode only of studies that have any.

    Hours of training and of measuring are summed over records, each hour one of `threads` threads;
    memory is the highest of a process at its peak, GPU memory that which its tensors took, disk the
    size of records and weights; "a checkpoint" is what measuring took at one, on average. A record
    of two studies counts in both."""
    store, rows = store_for(mode), {}
    for name, study in studies.STUDIES.items():
        wanted = study.specs(mode)
        made: dict[str, list[Record]] = {}
        for spec in wanted:
            if spec in store:
                record = store.load(spec)
                made.setdefault(_hardware(record), []).append(record)
        if not made and mode == "full":
            rows[name, ""] = {"records": f"0 of {len(wanted)}", "what for": study.purpose}
        for on, records in sorted(made.items()):
            rows[name, on] = {
                "records": f"{len(records)} of {len(wanted)}",
                **_cost(records, store),
                "what for": study.purpose,
            }
    if not rows:  # the columns which chapters look for
        return pd.DataFrame(
            columns=["processor", "threads", "precision", "what for"],
            index=pd.MultiIndex.from_tuples([], names=["study", "on"]),
        )
    return pd.DataFrame(
        list(rows.values()), index=pd.MultiIndex.from_tuples(rows, names=["study", "on"])
    ).fillna("")


def _cost(records: list[Record], store: Store) -> dict[str, str]:
    found = [record.provenance for record in records]
    seconds = [record["seconds"] for record in found]
    checkpoints = sum(len(getattr(record.measurements, "checkpoints", ())) for record in records)
    paths = [path(record.spec) for record in records for path in (store.path, store.weights_path)]
    of_gpu = [
        record["peak_device_memory_mb"] for record in found if "peak_device_memory_mb" in record
    ]
    return {
        "training, h": f"{sum(s.get('training', 0) for s in seconds) / 3600:.2f}",
        "measuring, h": f"{sum(s.get('measuring', 0) for s in seconds) / 3600:.2f}",
        "a checkpoint, s": f"{sum(s.get('measuring', 0) for s in seconds) / checkpoints:.0f}"
        if checkpoints
        else "",
        "minutes each": f"{sum(sum(s.values()) for s in seconds) / len(found) / 60:.1f}",
        "threads": ", ".join(sorted({str(record["threads"]) for record in found})),
        "memory, MB": str(max(record["peak_memory_mb"] for record in found)),
        "GPU memory, MB": str(max(of_gpu, default="")),
        "disk, MB": f"{sum(path.stat().st_size for path in paths if path.exists()) / 1e6:.1f}",
        "processor": "; ".join(sorted({record["device"] for record in found})),
        "precision": ", ".join(sorted({record["training_precision"] for record in found})),
    }


def across_hardware(mode: str) -> pd.DataFrame:
    """How far trained networks that differ in their seed are apart, where a CPU trained both and
    where a CPU trained one and a GPU the other: per study that has both, the mean over pairs,
    variants and layers of the absolute difference of log sensitivity, and over filter banks of
    smoothness; with the numbers of pairs."""
    apart: dict[tuple[str, str], list[dict[str, float]]] = {}
    for study in ("cifar10", "cifar10-subset", "cifar10-random-labels"):
        found = existing(study, mode)
        on = {
            (found.variant(record.spec), record.spec.seed): _hardware(record)
            for record in found.records
        }
        values = {
            "log sensitivity": found.layers().assign(value=lambda table: np.log(table["value"])),
            "smoothness": found.banks(),
        }
        wide = {
            name: table.pivot(index="layer", columns=["variant", "seed"], values="value")
            for name, table in values.items()
        }
        pairs = [
            (one, other)
            for one, other in combinations(on, 2)
            if one[0] == other[0] and "CPU" in (on[one], on[other])
        ]
        mixed = {one[0] for one, other in pairs if on[one] != on[other]}
        for one, other in pairs:
            if one[0] in mixed:  # other variants scatter differently
                pair = "both CPU" if on[one] == on[other] else "CPU and GPU"
                apart.setdefault((study, pair), []).append(
                    {name: (table[one] - table[other]).abs().mean() for name, table in wide.items()}
                )
    means = {
        key: {"pairs": len(pairs), **pd.DataFrame(pairs).mean()} for key, pairs in apart.items()
    }
    return pd.DataFrame(
        list(means.values()), pd.MultiIndex.from_tuples(means or (), names=["study", "trained on"])
    )


def _hardware(record: Record) -> str:
    return "GPU" if "peak_device_memory_mb" in record.provenance else "CPU"


def speed(device: str = "cpu") -> tuple[str, pd.DataFrame]:
    """The conditions and the table of `make bench` on a device, "cpu" or "cuda"."""
    found = json.loads(BENCH[device].read_text())
    signs = {"<= ": "≤\N{NO-BREAK SPACE}", ">= ": "≥\N{NO-BREAK SPACE}"}
    return found["conditions"], pd.DataFrame(found["rows"]).replace(
        {"goal": signs}, regex=True
    ).set_index(["work", "against"])
