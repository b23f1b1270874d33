"""Records, checkpoints and weights on disk.

A record is one JSON file SLUG-ID.json, written beside and renamed: a file that exists is finished.
What a run in progress needs lies in a cache outside the project, as safetensors and JSON, never
pickle.
"""

import json
import math
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import safe_open
from torch import Tensor

from deformlib.files import write_whole
from reproduction.experiments import specs
from reproduction.experiments.records import measurements_from, to_json
from reproduction.experiments.specs import Spec

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "book" / "results"


def cache_root() -> Path:
    """Where runs in progress keep their state: $DEFORMLIB_CACHE, or ~/.cache/deformlib."""
    chosen = os.environ.get("DEFORMLIB_CACHE") or Path.home() / ".cache" / "deformlib"
    return Path(chosen).expanduser()


def check_writable(folder: Path, what: str) -> None:
    """PermissionError that says `what` the folder is, unless files can be made in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise PermissionError(f"{what} cannot be written to {folder} ({reason})") from error


@dataclass(frozen=True)
class Record:
    """What an execution left: its spec, the measurements, and where they came from."""

    spec: Spec
    measurements: Any  # of the class that `records.RECORDS` has for the spec's
    provenance: dict[str, Any]


@dataclass(frozen=True)
class Store:
    """A folder of records. Full mode reads `Store(RESULTS)`; quick mode has one of its own."""

    folder: Path

    def path(self, spec: Spec) -> Path:
        """Where the record of `spec` lies or will lie."""
        return self.folder / f"{specs.file_name(spec)}.json"

    def __contains__(self, spec: Spec) -> bool:
        return self.path(spec).exists()

    def load(self, spec: Spec) -> Record:
        """The record of `spec`. FileNotFoundError if there is none, ValueError if it is damaged."""
        return read(self.path(spec), spec)

    def save(self, record: Record) -> Path:
        """Write a record. FileExistsError if there is one, even a damaged one."""
        path = self.path(record.spec)
        if path.exists():
            raise FileExistsError(f"{path} exists; delete it to run this spec again")
        fields = {
            "id": specs.identity(record.spec),
            "spec": specs.to_dict(record.spec),
            "measurements": rounded(to_json(record.measurements)),
            "provenance": record.provenance,
        }
        text = json.dumps(fields, separators=(",", ":"), allow_nan=False)
        write_whole(path, lambda file: file.write_text(text + "\n"))
        return path

    def weights_path(self, spec: Spec) -> Path:
        """Where the final weights of `spec` lie, if they are kept with the records."""
        return self.weights_folder / f"{specs.file_name(spec)}.safetensors"

    @property
    def weights_folder(self) -> Path:
        return self.folder / "weights"

    def save_weights(self, spec: Spec, tensors: dict[str, Tensor]) -> None:
        """Keep final weights beside the records, in bfloat16 (integers as they are)."""
        halved = {
            name: value.bfloat16() if value.is_floating_point() else value
            for name, value in tensors.items()
        }
        save_tensors(self.weights_path(spec), halved)


def read(path: Path, spec: Spec | None = None) -> Record:
    """A record file, checked against its own identity, and against `spec` if given.

    FileNotFoundError if there is none, ValueError naming the file if it is damaged.
    """
    try:
        fields = json.loads(path.read_text())
        found = specs.from_dict(fields["spec"])
        if fields["id"] != specs.identity(found) or (spec is not None and found != spec):
            raise ValueError("the spec inside is another one")
        if not isinstance(fields["measurements"], dict) or not fields["measurements"]:
            raise ValueError("nothing was measured")
        measurements = measurements_from(fields["measurements"], type(found))
        return Record(found, measurements, fields["provenance"])
    except FileNotFoundError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is not a whole record ({error}); delete it to run it again"
        ) from error


def rounded(value: Any) -> Any:
    """Floats to 6 significant digits, at any depth of dicts and lists; None if not finite."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return value


def save_tensors(path: Path, tensors: dict[str, Tensor], notes: Any = None) -> None:
    """Tensors, and JSON values beside them, in one file that is written whole or not at all."""
    whole = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    metadata = {"notes": json.dumps(notes)}
    write_whole(path, lambda file: safetensors.torch.save_file(whole, file, metadata))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], Any]:
    """What `save_tensors` wrote. ValueError naming the file if it is damaged."""
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, json.loads(file.metadata()["notes"])
    except FileNotFoundError:
        raise
    except Exception as error:
        reason = f"{path} is damaged ({error})"
        raise ValueError(f"{reason}; delete it to start that run anew") from error
