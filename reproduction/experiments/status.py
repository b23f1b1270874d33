"""How far the runs of a study are, in words, and what the missing ones would take."""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from reproduction.experiments.hardware import default_device, name_of
from reproduction.experiments.progress import is_running, progress_of
from reproduction.experiments.specs import Spec, Training
from reproduction.experiments.store import Record, Store, read

Known = tuple[Record, float]  # and the seconds that a run of the same kind would take


@dataclass(frozen=True)
class Standing:
    """How far one run is: its record, or what is wrong with it, or the fraction that is done."""

    spec: Spec
    record: Record | None = None
    problem: str | None = None
    running: bool = False
    fraction: float | None = None

    @property
    def missing(self) -> bool:
        return self.record is None and self.problem is None

    @property
    def state(self) -> str:
        if self.record:
            return f"made at {self.record.provenance.get('commit') or 'no commit'}"
        if self.problem:
            return "damaged"
        if self.running:
            return f"missing, running {self.fraction or 0:.0%}"
        if self.fraction is not None:
            return f"missing, stopped at {self.fraction:.0%}"
        return "missing"


def standing(spec: Spec, store: Store) -> Standing:
    """How far `spec` is. A damaged record is reported, not raised."""
    if spec not in store:
        running = is_running(spec)
        # What was killed goes on if it is a training, and else begins again.
        known = running or isinstance(spec, Training)
        return Standing(spec, running=running, fraction=progress_of(spec) if known else None)
    try:
        return Standing(spec, record=store.load(spec))
    except (ValueError, OSError) as error:
        return Standing(spec, problem=str(error))


def summary(rows: Sequence[Standing]) -> str:
    """ "3 of 25 made, 1 damaged, 21 missing (1 running)"."""
    made = sum(row.record is not None for row in rows)
    damaged = sum(row.problem is not None for row in rows)
    missing = sum(row.missing for row in rows)
    running = sum(row.missing and row.running for row in rows)
    text = f"{made} of {len(rows)} made"
    if damaged:
        text += f", {damaged} damaged"
    if missing:
        text += f", {missing} missing"
    if running:
        text += f" ({running} running)"
    return text


def seconds_of(record: Record) -> float:
    return sum(record.provenance["seconds"].values())


def price(rows: Sequence[Standing], store: Store) -> float | None:
    """Seconds of a run: the median over the study's records, else over those of similar trainings;
    None if there are neither. Of the records that this processor or GPU made, if there are any."""
    known = [(row.record, seconds_of(row.record)) for row in rows if row.record]
    if not known and rows and isinstance(rows[0].spec, Training):
        known = list(_similar(rows[0].spec, store))
    if not known:
        return None
    here = [seconds for record, seconds in known if _made_here(record)]
    return statistics.median(here or [seconds for _, seconds in known])


def _similar(wanted: Training, store: Store) -> Iterator[Known]:
    """Records of trainings of the same network on the same data, their seconds in proportion to the
    examples seen."""
    for path in sorted(store.folder.glob("*.json")):
        try:
            record = read(path)
        except (ValueError, OSError):
            continue  # shown as damaged in its own study
        spec = record.spec
        if not isinstance(spec, Training) or _network(spec) != _network(wanted):
            continue
        examples = wanted.examples
        if examples is None and spec.examples is not None:
            continue  # how many all of them are, only a record of all of them tells
        seen = record.measurements.examples
        ratio = (examples or seen) * wanted.recipe.epochs / (seen * spec.recipe.epochs)
        seconds = record.provenance["seconds"]
        yield record, seconds["training"] * ratio + seconds["measuring"]


def _made_here(record: Record) -> bool:
    device = default_device() if isinstance(record.spec, Training) else "cpu"
    return record.provenance.get("device") == name_of(device)


def _network(spec: Training) -> tuple:
    return spec.data, spec.size, spec.architecture, spec.width


def cost(rows: Sequence[Standing], each: float | None) -> str:
    """What the missing of `rows` would take at `each` seconds a run, less what is done."""
    left = sum(1 - (row.fraction or 0) for row in rows if row.missing)
    if not left:
        return "-"
    return "unknown" if each is None else duration(left * each)


def duration(seconds: float) -> str:
    """ "40 s", "8 min", "2 h 05 min"."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
