"""What the records took to make, and how fast the package is."""

import json

import pandas as pd

from . import studies
from .evidence import store_for
from .store import RESULTS

BENCH = {"cpu": RESULTS.parent / "bench.json", "cuda": RESULTS.parent / "bench-cuda.json"}  # written by `make bench`, on a GPU with --cuda


def costs(mode: str) -> pd.DataFrame:
    """What the records of each study took, from their provenance: one row per study, but for quick mode that has any.

    Hours of training and of measuring are summed over records, each hour one of `threads` threads; memory is the
    highest of a process at its peak, disk the size of records and weights; "a checkpoint" is what measuring took at one,
    on average. A record of two studies counts in both.
    """
    store, rows = store_for(mode), {}
    for name, study in studies.STUDIES.items():
        wanted = study.specs(mode)
        kept = [spec for spec in wanted if spec in store]
        records = [store.load(spec) for spec in kept]
        if not records:
            if mode == "full":
                rows[name] = {"records": f"0 of {len(wanted)}", "what for": study.purpose}
            continue
        found = [record.provenance for record in records]
        seconds = [record["seconds"] for record in found]
        checkpoints = sum(len(record.measurements.get("checkpoints", ())) for record in records)
        files = [file for spec in kept for file in (store.path(spec), store.weights_path(spec)) if file.exists()]
        rows[name] = {
            "records": f"{len(found)} of {len(wanted)}",
            "training, h": f"{sum(s.get('training', 0) for s in seconds) / 3600:.2f}",
            "measuring, h": f"{sum(s.get('measuring', 0) for s in seconds) / 3600:.2f}",
            "a checkpoint, s": f"{sum(s.get('measuring', 0) for s in seconds) / checkpoints:.0f}" if checkpoints else "",
            "minutes each": f"{sum(sum(s.values()) for s in seconds) / len(found) / 60:.1f}",
            "threads": ", ".join(sorted({str(record["threads"]) for record in found})),
            "memory, MB": str(max(record["peak_memory_mb"] for record in found)),
            "disk, MB": f"{sum(file.stat().st_size for file in files) / 1e6:.1f}",
            "processor": "; ".join(sorted({record["device"] for record in found})),
            "precision": ", ".join(sorted({record["training_precision"] for record in found})),
            "what for": study.purpose,
        }
    columns = ["processor", "threads", "precision", "what for"] if not rows else None  # which chapters look for
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).fillna("").rename_axis("study")


def speed(device: str = "cpu") -> tuple[str, pd.DataFrame]:
    """Under which conditions `make bench` ran last on a device, "cpu" or "cuda", and the table that it printed."""
    found = json.loads(BENCH[device].read_text())
    signs = {"<= ": "≤\N{NO-BREAK SPACE}", ">= ": "≥\N{NO-BREAK SPACE}"}
    return found["conditions"], pd.DataFrame(found["rows"]).replace({"goal": signs}, regex=True).set_index(["work", "against"])
