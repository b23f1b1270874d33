"""How far the runs of a study are, in words, and what the missing ones would take."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from reproduction.experiments import runs
from reproduction.experiments.specs import Spec, Training
from reproduction.experiments.store import Record, Store, read


@dataclass(frozen=True)
class Standing:
    """How far one run is: its record, or what is wrong with it, or the share that is done."""

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
            return f"missing, running {self.share or 0:.0%}"
        return "missing" if self.fraction is None else f"missing, stopped at {self.share:.0%}"


def standing(spec: Spec, store: Store) -> Standing:
    """How far `spec` is; a damaged record is a state like any other."""
    if spec not in store:
        running = runs.is_running(
            spec
        )  # one that was killed goes on if it is a training, and else begins again
        return Standing(
            spec,
            running=running,
            fraction=runs.progress_of(spec) if running or isinstance(spec, Training) else None,
        )
    try:
        return Standing(spec, record=store.load(spec))
    except ValueError as error:
        return Standing(spec, problem=str(error))


def summary(rows: Sequence[Standing]) -> str:
    """ "3 of 25 made, 1 damaged, 21 missing (1 running)"."""
    made, missing = (
        sum(row.record is not None for row in rows),
        [row for row in rows if row.missing],
    )
    damaged, running = (
        sum(row.problem is not None for row in rows),
        sum(row.running for row in missing),
    )
    text = f"{made} of {len(rows)} made" + (f", {damaged} damaged" if damaged else "")
    return (
        text
        + (f", {len(missing)} missing" if missing else "")
        + (f" ({running} running)" if running else "")
    )


def seconds_of(record: Record) -> float:
    return sum(record.provenance["seconds"].values())


def price(rows: Sequence[Standing], store: Store) -> float | None:
    """Seconds of a run: the median over the study's records; else over those of trainings of the same network on the
    same data, in proportion to the examples seen; else None (also if there is no run). Where this processor or GPU made
    some of the records, only over those."""
    if known := [(row.record, seconds_of(row.record)) for row in rows if row.record]:
        return _middle(known)
    if not rows or not isinstance(wanted := rows[0].spec, Training):
        return None
    for path in sorted(store.folder.glob("*.json")):
        try:
            record = read(path)
        except ValueError:
            continue  # shown as damaged in its own study
        # how many images "all" of them are, only a record of all of them tells
        if _network(record.spec) == _network(wanted) and (
            wanted.examples or record.spec.examples is None
        ):
            examples = record.measurements["examples"]
            fraction = (
                (wanted.examples or examples)
                * wanted.recipe.epochs
                / (examples * record.spec.recipe.epochs)
            )
            seconds = record.provenance["seconds"]
            known.append((record, seconds["training"] * fraction + seconds["measuring"]))
    return _middle(known) if known else None


def _middle(known: Sequence[tuple[Record, float]]) -> float:
    """The median of the seconds, of the records made here if there are any."""

    def here(record: Record) -> str:
        return runs.name_of(runs.default_device() if isinstance(record.spec, Training) else "cpu")

    return statistics.median(
        [seconds for record, seconds in known if record.provenance.get("device") == here(record)]
        or [s for _, s in known]
    )


def _network(spec: Spec) -> tuple:
    return tuple(
        getattr(spec, name, None) for name in ("kind", "data", "size", "architecture", "width")
    )


def cost(rows: Sequence[Standing], each: float | None) -> str:
    """What the missing of `rows` would take at `each` seconds a run, less what is done."""
    left = sum(1 - (row.fraction or 0) for row in rows if row.missing)
    return "-" if not left else "unknown" if each is None else duration(left * each)


def duration(seconds: float) -> str:
    """ "40 s", "8 min", "2 h 05 min"."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
