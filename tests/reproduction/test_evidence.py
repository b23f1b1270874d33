"""The records behind a chapter, as tables; what is missing is said, and neither mode stands in for
the other."""

import dataclasses
import json
import os
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from made_up import checkpoint, distances, probe, profile, smoothness, training

from deformlib import filters, models
from reproduction.analysis import costs, evidence, networks, quantities
from reproduction.analysis.evidence import Evidence, by_layer, collect, existing, spread, store_for
from reproduction.experiments import hardware, runs, studies, sweeps
from reproduction.experiments.networks import build
from reproduction.experiments.records import (
    Accuracy,
    BeforeAndAfter,
    ByStatistics,
    Checkpoint,
    ComparisonRecord,
    Draws,
    InterventionRecord,
    Profile,
    Relative,
    ResamplingRecord,
    Scopes,
    TrainingRecord,
    to_json,
)
from reproduction.experiments.specs import (
    Comparison,
    Intervention,
    Recipe,
    Resampling,
    Spec,
    Training,
)
from reproduction.experiments.store import Record, Store
from reproduction.experiments.studies import Study
from reproduction.experiments.sweeps import make

VARIANTS = ("max-pool", "strided")
RECIPES = {"full": Recipe(5, 64, 0.05), "quick": Recipe(2, 64, 0.05)}


def specs_of(mode: str, seed: int) -> list[Spec]:
    data = {"full": "cifar10", "quick": "photos"}[mode]
    return [Training(data, variant, seed, RECIPES[mode], "protocol-1") for variant in VARIANTS]


LAYERS = ["input", "conv1_1", "down1", "pool", "head"]


def measurements(spec: Training) -> TrainingRecord:
    """Numbers that say where they come from: seed, checkpoint, measure and layer are a digit
    each."""

    def measured(number: int, measure: int, layers: int = len(LAYERS)) -> Profile:
        base = spec.seed + number / 10 + measure / 100 + VARIANTS.index(spec.downsampling) / 1e4
        values = base + np.arange(layers) / 1000
        return profile(*(distances(values, mean=values + 100 * k) for k in (1, 2)))

    def at(number: int) -> Checkpoint:
        last = probe(test_accuracy=0.8 + spec.seed / 100, deformed_accuracy=0.1, test_images=1000)
        return checkpoint(
            measured(number, 0),
            [1.5],
            calibrated=measured(number, 1),
            before_relu=measured(number, 2, layers=1),
            probe=probe(test_accuracy=0.1 + number / 10, deformed_accuracy=0.1),
            full_probe=last if number == 2 else None,
        )

    found = training(spec, [at(k) for k in range(3)], LAYERS, ["conv1_1"], ["conv1_1.norm"])
    return found.measurements


def record(spec: Training) -> Record:
    return Record(spec, measurements(spec), {})


def on_disk(spec: Training, provenance: dict | None = None) -> Record:
    """As a run hands it to the store."""
    return Record(spec, to_json(measurements(spec)), provenance or {})


def evidence_of(records: list[Record], variant_field: str = "downsampling") -> Evidence:
    return Evidence("made-up", "full", records, [], variant_field)


@pytest.fixture
def full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Full mode's store, empty, beside quick mode's, for a study of two variants and three
    seeds."""
    monkeypatch.setitem(
        studies.STUDIES, "made-up", Study("", specs_of, {"full": range(3), "quick": range(2)})
    )
    monkeypatch.setattr(evidence, "RESULTS", tmp_path / "full")
    monkeypatch.setenv("DEFORMLIB_STORE", str(tmp_path / "quick"))
    monkeypatch.setenv("DEFORMLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TQDM_DISABLE", "1")
    threads = torch.get_num_threads()
    yield Store(tmp_path / "full")
    torch.set_num_threads(threads)


@pytest.fixture
def never(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is executed."""

    def refuse(*args, **options):
        raise AssertionError("something was executed")

    for module, name in ((sweeps, "local"), (sweeps, "sweep"), (runs, "execute")):
        monkeypatch.setattr(module, name, refuse)


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[Training]:
    """Everything is executed at once in a thread, and seed 13 fails."""
    done: list[Training] = []

    def execute(
        spec: Training, store: Store, folder: Path, progress: runs.Progress, on: runs.Hardware
    ) -> tuple[dict, dict, dict]:
        done.append(spec)
        if spec.seed == 13:
            raise FloatingPointError("training diverged")
        return to_json(measurements(spec)), {}, {"weight": torch.ones(1)}

    monkeypatch.setitem(runs.EXECUTE, Training, execute)
    monkeypatch.setattr(sweeps, "local", lambda *_: ThreadPoolExecutor(1))
    return done


def test_layers_is_one_row_per_variant_seed_and_layer():
    table = Evidence(
        "made-up", "full", [record(spec) for seed in (0, 1) for spec in specs_of("full", seed)], []
    ).layers()
    expected = [
        (variant, seed, layer, name, seed + 0.2 + layer / 1000 + VARIANTS.index(variant) / 1e4)
        for seed in (0, 1)
        for variant in VARIANTS
        for layer, name in enumerate(["input", "conv1_1", "down1"])
    ]
    pd.testing.assert_frame_equal(
        table, pd.DataFrame(expected, columns=["variant", "seed", "layer", "name", "value"])
    )


@pytest.mark.parametrize(
    "options, expected",
    [
        (dict(), [0.2, 0.201, 0.202]),
        (dict(checkpoint=0), [0.0, 0.001, 0.002]),
        (dict(measure="calibrated"), [0.21, 0.211, 0.212]),
        (dict(measure="before_relu"), [0.22]),
        (dict(statistic="mean"), [100.2, 100.201, 100.202]),
        (dict(distance="euclidean", statistic="mean"), [200.2, 200.201, 200.202]),
    ],
)
def test_layers_of_another_measure(options: dict, expected: list[float]):
    table = Evidence("made-up", "full", [record(specs_of("full", 0)[0])], []).layers(**options)
    assert table["value"].tolist() == pytest.approx(expected)


def test_layers_under_another_condition_of_the_protocol():
    squares = [1.0, 2.0, 3.0, 8.0, 9.0]
    noise = profile(np.ones(5), distances(np.ones(5), mean_square=squares))
    checkpoints = [checkpoint(np.ones(5), conditions={"noise": noise}), checkpoint(np.ones(5))]
    found = training(specs_of("full", 0)[0], checkpoints, LAYERS)
    table = evidence_of([found]).layers(
        checkpoint=0, distance="euclidean", statistic="mean_square", condition="noise"
    )
    assert table["value"].tolist() == [1.0, 2.0, 3.0] and table["name"].tolist() == [
        "input",
        "conv1_1",
        "down1",
    ]


def test_relative_stability_is_a_table_like_that_of_layers():
    nothing = [0.0] * 4
    before = Relative(nothing, noise=[1.0, 2.0, 9.0, 9.0], ratio=[5.0, 6.0, 9.0, 9.0])
    after = Relative(nothing, nothing, ratio=[3.0, 4.0, 9.0, 9.0])
    layers = ["input", "conv1_1", "pool", "head"]
    found = ComparisonRecord(layers, BeforeAndAfter(before, after), 1.0)
    comparison = evidence_of([Record(Comparison(specs_of("full", 3)[0], 8, 8), found, {})])
    table = comparison.relative_stability()
    assert table.columns.tolist() == ["variant", "seed", "layer", "name", "value"]
    assert table.values.tolist() == [
        ["max-pool", 3, 0, "input", 3.0],
        ["max-pool", 3, 1, "conv1_1", 4.0],
    ]
    assert comparison.relative_stability("noise", "before")["value"].tolist() == [1.0, 2.0]
    assert comparison.note == "cifar10, 1 seed per variant, 5 epochs"


def test_probes_are_on_the_most_images():
    found = Evidence("made-up", "full", [record(spec) for spec in specs_of("full", 3)], [])
    last, first = found.probes(), found.probes(0)
    assert last["test_accuracy"].tolist() == pytest.approx([0.83, 0.83]) and last[
        "test_images"
    ].tolist() == [1000, 1000]
    assert first["test_accuracy"].tolist() == [0.1, 0.1] and first["test_images"].tolist() == [
        256,
        256,
    ]
    assert last["variant"].tolist() == list(VARIANTS) and last["seed"].tolist() == [3, 3]


def test_tables_for_readers():
    found = Evidence(
        "made-up", "full", [record(spec) for seed in (0, 1) for spec in specs_of("full", seed)], []
    )
    accuracies = found.accuracies()
    assert accuracies.columns.tolist() == [
        "training %",
        "test %",
        "deformed %",
        "flips %",
        "training images",
        "test images",
        "seeds",
    ]
    assert (
        accuracies.index.tolist() == list(VARIANTS)
        and accuracies.values.tolist() == [[50, 80.5, 10, 20, 256, 1000, 2]] * 2
    )
    layers = by_layer(found.layers())
    assert layers.loc[(1, "conv1_1"), "max-pool"] == "0.701\xa0±\xa01.414", (
        "mean and two standard deviations over seeds"
    )
    alone = Evidence("made-up", "full", [record(spec) for spec in specs_of("full", 0)], []).layers()
    assert by_layer(alone).loc[(1, "conv1_1"), "max-pool"] == "0.201"
    wide = alone.assign(value=alone["value"] * alone["variant"].map({"max-pool": 1, "strided": 3}))
    assert spread(alone, wide)["absolute"]["after"][0] == pytest.approx(
        (3 * 0.2001 - 0.2) / 2**0.5, abs=1e-3
    )
    assert spread(alone, wide)["logarithm"]["after"][0] == pytest.approx(0.777, abs=1e-3)


def test_the_spread_is_that_of_means_over_seeds():
    after = pd.DataFrame(
        [("a", 0, 1.0), ("a", 1, 4.0), ("b", 0, 2.0), ("b", 1, 32.0)],
        columns=["variant", "seed", "value"],
    ).assign(layer=3)
    table = spread(after.assign(value=2 * after["value"]), after)
    assert table["absolute"].loc[3].tolist() == pytest.approx(
        [29 / 2**0.5, 14.5 / 2**0.5], abs=1e-3
    ), "means 2.5 and 17"
    assert table["logarithm"].loc[3].tolist() == pytest.approx(
        [np.log(8 / 2) / 2**0.5] * 2, abs=1e-3
    ), "geometric means 2 and 8"


def test_a_caption_counts_seeds_as_most_variants_have_them():
    counts = {"subsample": 2, "max-pool": 2, "strided": 2, "blur-pool": 3}
    spec = specs_of("full", 0)[0]
    records = [
        Record(dataclasses.replace(spec, downsampling=variant, seed=seed), {}, {})
        for variant, seeds in counts.items()
        for seed in range(seeds)
    ]
    assert (
        Evidence("", "full", records, []).note
        == "cifar10, 2 seeds per variant (but 3 of Blur-pool), 5 epochs"
    )


def test_full_mode_reads_what_there_is_and_counts_what_is_missing(full: Store, never: None):
    wanted = studies.study("made-up").specs("full")
    for spec in wanted[:3]:
        full.save(on_disk(spec))
    found = collect("made-up", "full")
    assert [item.spec for item in found.records] == wanted[:3] and found.missing == wanted[3:]
    assert found.seed_counts == {"max-pool": 2, "strided": 1}
    assert (
        found.note
        == "cifar10, 2 seeds per variant (but 1 of Strided), 5 epochs; 3 planned runs of these "
        "variants missing: python -m reproduction run made-up"
    )
    assert [item.spec for item in collect("made-up", "full", [0]).records] == wanted[:2]
    for spec in wanted[3:]:
        full.save(on_disk(spec))
    assert (
        collect("made-up", "full").note == "cifar10, 3 seeds per variant, 5 epochs"
        and not collect("made-up", "full").missing
    )


def test_a_variant_without_any_record_is_an_error_with_the_command(full: Store, never: None):
    full.save(on_disk(specs_of("full", 1)[0]))
    with pytest.raises(
        FileNotFoundError,
        match="made-up has no record for strided; .*python -m reproduction run made-up",
    ):
        collect("made-up", "full")


def test_a_damaged_record_is_an_error_not_a_missing_one(full: Store, never: None):
    for seed in range(3):
        for spec in specs_of("full", seed):
            full.save(on_disk(spec))
    full.path(specs_of("full", 2)[1]).write_text("damaged")
    with pytest.raises(ValueError, match=full.path(specs_of("full", 2)[1]).name):
        collect("made-up", "full")


def test_full_mode_never_reads_quick_records(full: Store, never: None):
    for spec in studies.study("made-up").specs("quick") + studies.study("made-up").specs("full"):
        store_for("quick").save(on_disk(spec))
    with pytest.raises(FileNotFoundError):
        collect("made-up", "full")


def test_quick_mode_makes_what_is_missing_and_never_reads_full_records(full: Store, executed: list):
    wanted = studies.study("made-up").specs("quick")
    for spec in wanted + studies.study("made-up").specs("full"):
        full.save(on_disk(spec))
    store_for("quick").save(on_disk(wanted[1]))
    found = collect("made-up", "quick")
    assert executed == [wanted[0], *wanted[2:]]
    assert [item.spec for item in found.records] == wanted and not found.missing
    assert found.note == "photos, 2 seeds per variant, 2 epochs"
    collect("made-up", "quick")
    assert len(executed) == 3, "what there is is computed again"


def test_where_the_records_of_a_mode_are(
    full: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert store_for("full") == Store(tmp_path / "full") and store_for("quick") == Store(
        tmp_path / "quick"
    )
    monkeypatch.delenv("DEFORMLIB_STORE")
    assert store_for("quick") == Store(tmp_path / "cache" / "quick")
    with pytest.raises(ValueError, match="mode must be one of full, quick, got 'fast'"):
        store_for("fast")
    with pytest.raises(ValueError, match="study must be one of cifar10, .*got 'nothing'"):
        collect("nothing", "full")


def test_one_failure_does_not_stop_the_others(
    full: Store, executed: list, capsys: pytest.CaptureFixture
):
    wanted = [spec for seed in (0, 13, 1) for spec in specs_of("full", seed)]
    failed = make(wanted, full, keep=[spec for spec in wanted if spec.seed == 1])
    assert {spec.seed for spec in failed} == {13} and len(failed) == 2
    assert [spec in full for spec in wanted] == [True, True, False, False, True, True]
    assert [full.weights_path(spec).exists() for spec in wanted] == [False] * 4 + [True] * 2
    assert (
        "cifar10-strided-13 failed: FloatingPointError: training diverged"
        in capsys.readouterr().out
    )


def test_an_unknown_name_is_refused_before_any_work(full: Store, executed: list):
    wanted = [*specs_of("full", 0), dataclasses.replace(specs_of("full", 1)[0], task="nothing")]
    with pytest.raises(ValueError, match="task must be one of"):
        make(wanted, full)
    assert not executed and make([], full) == []


def test_the_environment_is_left_alone(
    full: Store, executed: list, monkeypatch: pytest.MonkeyPatch
):
    before = dict(os.environ)
    make(specs_of("full", 0), full)
    assert dict(os.environ) == before


def test_a_trained_network_is_that_of_its_record():
    network, [spec] = (
        networks.load_trained("cifar10", "max-pool", seed=0),
        [
            spec
            for spec in studies.study("cifar10").specs("full", [0])
            if spec.downsampling == "max-pool"
        ],
    )
    last = evidence.store_for("full").load(spec).measurements.checkpoints[-1]
    found = filters.smoothness(network, "kernel")  # the weights are kept in bfloat16: three digits
    assert list(found.values()) == pytest.approx(last.smoothness.kernel, rel=1e-3)
    assert not network.training and next(network.parameters()).dtype == torch.float32
    assert network.conv1_1.norm.running_var.ne(1).all()


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        (("cifar", "max-pool"), ValueError, "study must be one of"),
        (
            ("cifar10", "maxpool"),
            ValueError,
            "variant must be one of subsample, max-pool, .*got 'maxpool'",
        ),
        (
            ("cifar10", "max-pool", 4),
            ValueError,
            "seed must be one of 0, 1, whose weights cifar10 keeps, got 4",
        ),
        (
            ("cifar10-subset", "max-pool", 0),
            ValueError,
            "study must be one that keeps weights: cifar10, .*, got .cifar10-subset.",
        ),
    ],
)
def test_a_trained_network_that_is_not_there(arguments: tuple, error: type, message: str):
    with pytest.raises(error, match=message):
        networks.load_trained(*arguments)


def test_missing_weights_name_the_command_that_makes_them(full: Store):
    with pytest.raises(
        FileNotFoundError,
        match="no weights of cifar10, max-pool, seed 1; to make them run python -m "
        "reproduction run cifar10 --seeds 1$",
    ):
        networks.load_trained("cifar10", "max-pool", 1)
    spec = next(
        spec
        for spec in studies.study("cifar10").specs("full", [1])
        if spec.downsampling == "max-pool"
    )
    full.save(Record(spec, {}, {}))
    with pytest.raises(
        FileNotFoundError, match=f"to make them delete {full.path(spec)} and run python"
    ):  # else it is not missing
        networks.load_trained("cifar10", "max-pool", 1)


def test_costs_are_those_of_the_records(full: Store):
    assert (
        costs.costs("full").loc[("made-up", ""), "records"] == "0 of 6"
        and costs.costs("quick").empty
    )
    seconds = [
        {"training": 1800.0, "measuring": 360.0},
        {"training": 3600.0, "measuring": 0.0},
        {"measuring": 720.0},
    ]
    for k, (spec, taken) in enumerate(zip(specs_of("full", 0) + specs_of("full", 2), seconds)):
        provenance = {
            "seconds": taken,
            "threads": 1 + k % 2,
            "peak_memory_mb": [700, 1500, 900][k],
            "device": "a processor",
            "training_precision": "float32",
        }
        full.save(on_disk(spec, provenance))
    full.save_weights(specs_of("full", 0)[0], {"w": torch.zeros(500_000)})
    table = costs.costs("full").sort_index()
    row = table.loc[("made-up", "CPU")]
    assert row["records"] == "3 of 6" and row["threads"] == "1, 2"
    assert row["what for"] == "" and table.loc[("cifar10", ""), "what for"].startswith("Figures 3c")
    assert (table.drop("made-up").drop(columns=["records", "what for"]) == "").all(axis=None), (
        "nothing is said of a study without records"
    )
    assert (row["training, h"], row["measuring, h"], row["minutes each"]) == (
        "1.50",
        "0.30",
        "36.0",
    )
    assert row["a checkpoint, s"] == "120", "three checkpoints in each of three records"
    assert row["memory, MB"] == "1500" and row["disk, MB"] == "1.0"
    assert (row["processor"], row["precision"], row["GPU memory, MB"]) == (
        "a processor",
        "float32",
        "",
    )
    of_gpu = {
        "seconds": {"training": 36.0},
        "threads": 1,
        "peak_memory_mb": 300,
        "peak_device_memory_mb": 800,
        "device": "a GPU",
        "training_precision": "tensorfloat32",
    }
    full.save(on_disk(specs_of("full", 1)[0], of_gpu))
    table = costs.costs("full").sort_index()
    assert table.loc[("made-up", "CPU")].equals(row), "hours of a CPU and of a GPU are not summed"
    assert table.loc[("made-up", "GPU")][
        ["records", "training, h", "memory, MB", "GPU memory, MB", "processor", "precision"]
    ].tolist() == ["1 of 6", "0.01", "300", "800", "a GPU", "tensorfloat32"]


def test_networks_of_a_cpu_and_of_a_gpu_are_compared_by_pairs_of_seeds(
    monkeypatch: pytest.MonkeyPatch,
):
    """Strided has no network of the GPU; those of two GPU seeds are not compared with each
    other."""
    values = {
        ("max-pool", 0): 1.0,
        ("max-pool", 1): 1.5,
        ("max-pool", 2): 3.0,
        ("max-pool", 3): 3.5,
        ("strided", 0): 0.0,
        ("strided", 1): 9.0,
    }
    rows = [
        (variant, seed, layer, value * layer)
        for (variant, seed), value in values.items()
        for layer in (1, 2)
    ]

    class Known(Evidence):
        def layers(self) -> pd.DataFrame:
            return self.banks().assign(value=lambda table: np.exp(table["value"]))

        def banks(self) -> pd.DataFrame:
            return pd.DataFrame(rows, columns=["variant", "seed", "layer", "value"])

    spec = specs_of("full", 0)[0]
    records = [
        Record(
            dataclasses.replace(spec, downsampling=variant, seed=seed),
            {},
            {"peak_device_memory_mb": 1} if seed > 1 else {},
        )
        for variant, seed in values
    ]
    monkeypatch.setattr(
        costs,
        "existing",
        lambda name, mode: (Known if name == "cifar10" else Evidence)(
            name, mode, records * (name == "cifar10"), []
        ),
    )
    table = costs.across_hardware("full")
    assert table.to_dict("index") == {
        ("cifar10", "both CPU"): {
            "pairs": 1,
            "log sensitivity": pytest.approx(0.75),
            "smoothness": pytest.approx(0.75),
        },
        ("cifar10", "CPU and GPU"): {
            "pairs": 4,
            "log sensitivity": pytest.approx(3.0),
            "smoothness": pytest.approx(3.0),
        },
    }


def test_speed_is_what_the_benchmarks_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    row = {
        "work": "warp, 32 images",
        "against": "speed of SciPy",
        "ratio": "25.5",
        "goal": ">= 35",
        "reached": "no",
    }
    monkeypatch.setattr(costs, "BENCH", {"cpu": tmp_path / "bench.json"})
    costs.BENCH["cpu"].write_text(
        json.dumps(
            {
                "conditions": "one machine, 2 threads",
                "rows": [row, row | {"against": "time of nothing", "goal": "<= 1.3"}],
            }
        )
    )
    conditions, table = costs.speed()
    assert conditions == "one machine, 2 threads" and list(table.columns) == [
        "ratio",
        "goal",
        "reached",
    ]
    assert table.loc[("warp, 32 images", "speed of SciPy")].tolist() == [
        "25.5",
        "≥\N{NO-BREAK SPACE}35",
        "no",
    ]
    assert table.loc[("warp, 32 images", "time of nothing"), "goal"] == "≤\N{NO-BREAK SPACE}1.3"


def test_the_note_names_the_command_of_its_mode():
    assert (
        Evidence("made-up", "full", [], specs_of("full", 0)).note
        == "no records: python -m reproduction run made-up"
    )
    records = [record(spec) for spec in specs_of("quick", 0)]
    assert Evidence("made-up", "quick", records, specs_of("quick", 1)).note.endswith(
        "run made-up --mode quick"
    )


def test_the_note_counts_epochs_of_all_recipes():
    spec = specs_of("full", 0)[0]
    recipes = [
        dataclasses.replace(spec, recipe=dataclasses.replace(spec.recipe, epochs=epochs))
        for epochs in (20, 7, 20)
    ]
    assert (
        ", 7 or 20 epochs"
        in Evidence("made-up", "full", [record(each) for each in recipes], []).note
    )


def test_records_of_other_images_are_not_passed_for_more_seeds():
    records = [
        Record(each.spec, each.measurements, {"data": k})
        for each, k in (
            (record(spec), "ab"[spec.seed]) for spec in specs_of("full", 0) + specs_of("full", 1)
        )
    ]
    assert (
        "of 2 different versions of these images" in Evidence("made-up", "full", records, []).note
    )
    assert "versions" not in Evidence("made-up", "full", records[:2], []).note


def test_a_caption_of_the_book_does_not_name_several_versions_of_the_images():
    for study in studies.STUDIES:
        assert "versions" not in existing(study, "full").note, study


def test_workers_get_the_file_of_a_reader_s_study(full: Store, monkeypatch: pytest.MonkeyPatch):
    given = {}
    monkeypatch.setattr(sweeps, "make", lambda missing, store, **options: given.update(options))
    for name, source in (("made-up", None), ("./mine.py:MINE", "./mine.py:MINE")):
        monkeypatch.setattr(
            studies, "study", lambda _: Study("", specs_of, {"full": range(3), "quick": range(1)})
        )
        with pytest.raises(FileNotFoundError):
            evidence.collect(name, "quick")
        assert given["source"] == source


def test_each_worker_gets_its_part_of_the_cores(
    full: Store, executed: list[Training], monkeypatch: pytest.MonkeyPatch
):
    given, asked = [], []
    monkeypatch.setattr(sweeps, "cores", lambda: 8)
    monkeypatch.setattr(hardware, "cores", lambda: 8)

    def sweep(missing: list, *_: object, threads: int, **options: object) -> dict:
        given.append(threads)
        asked.append(options)
        return {}

    monkeypatch.setattr(sweeps, "sweep", sweep)
    for workers in (1, 2, 64, None):
        assert make(specs_of("full", 0), full, workers, precision="bfloat16", wait=True) == []
    assert all(
        options == dict(weights=k % 2 == 0, device="cpu", precision="bfloat16", wait=True)
        for k, options in enumerate(asked)
    )
    assert given == [8, 8, 4, 4, 4, 4, 4, 4], (
        "of two runs, for those whose weights are kept and the others"
    )


def test_a_killed_worker_is_said_to_be_one(
    full: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    def killed(
        spec: Training, store: Store, folder: Path, progress: runs.Progress, on: runs.Hardware
    ) -> None:
        raise BrokenProcessPool("A process in the process pool was terminated abruptly")

    monkeypatch.setitem(runs.EXECUTE, Training, killed)
    monkeypatch.setattr(sweeps, "local", lambda *_: ThreadPoolExecutor(1))
    assert make(specs_of("full", 0), full) == specs_of("full", 0)
    assert capsys.readouterr().out.count("a worker process was killed (out of memory?)") == 2


def test_at_loss_is_between_the_checkpoints_around_it():
    spec = specs_of("full", 0)[0]

    def run(seed: int, losses: list[float]) -> Record:
        checkpoints = [
            checkpoint(
                [k, 10.0 * k, 100.0 * k**2, 0, 0], [1.0 * k, 2.0], probe=probe(train_loss=loss)
            )
            for k, loss in enumerate(losses)
        ]
        of_seed = dataclasses.replace(spec, seed=seed)
        return training(of_seed, checkpoints, LAYERS, ["conv1_1", "conv1_2"])

    records = [
        run(0, [2.0, 1.0, 0.25, 0.01]),
        run(1, [2.0, 1.5, 1.2, 1.1]),
        run(2, [2.0, 0.5, 0.3, 0.2]),
    ]
    found = evidence.at_loss(Evidence("made-up", "full", records, []), {spec.downsampling: 0.5})
    assert list(found["seed"].unique()) == [0, 2], "seed 1 never got there"
    # The logarithm of 0.5 is half way between those of 1 and 0.25.
    assert found.loc[found["seed"] == 0, "value"].tolist() == pytest.approx([1.5, 15, 250])
    assert found.loc[found["seed"] == 2, "value"].tolist() == pytest.approx([1, 10, 100])
    assert list(found.columns) == ["variant", "seed", "layer", "name", "value"]
    of_banks = evidence.at_loss(
        Evidence("made-up", "full", records, []), {spec.downsampling: 0.5}, Evidence.banks
    )
    assert of_banks.loc[of_banks["seed"] == 0, ["layer", "value"]].to_numpy().tolist() == [
        [1, pytest.approx(1.5)],
        [2, 2],
    ]
    assert evidence.at_loss(Evidence("made-up", "full", records, []), {"strided": 0.5}).empty, (
        "a variant without a loss is left out"
    )


def test_unknown_names_are_listed_with_the_known():
    spec = specs_of("full", 0)[0]
    found = evidence_of([record(spec)])
    with pytest.raises(ValueError, match="measure must be one of .*sensitivity.*got 'calibratd'"):
        found.layers("calibratd")
    with pytest.raises(ValueError, match="average must be one of .*kernel.*got 'mean'"):
        found.banks("mean")


def test_variants_of_a_variant_are_no_seeds():
    spec = specs_of("full", 0)[0]
    variants = [spec, dataclasses.replace(spec, label_seed=1), dataclasses.replace(spec, seed=1)]
    assert Evidence(
        "made-up", "full", [Record(each, {}, {}) for each in variants], []
    ).seed_counts == {spec.downsampling: 2}


def test_at_displacement_is_read_off_the_way():
    """C = 4 moves every bank three times as far as C = 1; a third of its way from 1.8 to 1.2 it is
    at 1.6."""
    recipe = Recipe(1, 64, 0.1)

    def run(strength: float, seed: int, far: float, end: float) -> Record:
        spec = Training(
            "mnist",
            "max-pool",
            seed,
            recipe,
            "templates-1",
            task="templates",
            classes=10,
            strength=strength,
        )
        checkpoints = [
            checkpoint(kernel=smoothness([1.8, 1.8], change_norm=[0.0, 0.0])),
            checkpoint(kernel=smoothness([end, end + seed], change_norm=[far, far])),
        ]
        return training(spec, checkpoints, banks=["conv1_1", "conv1_2"])

    records = [
        run(strength, seed, 0.3 if strength == 4 else 0.1, 1.2 if strength == 4 else 1.7)
        for seed in (0, 1)
        for strength in (1.0, 2.0, 3.0, 4.0)
        if (strength, seed) != (2.0, 0)
    ]
    everything = Evidence("mnist-templates", "full", records, [], "strength")
    found = evidence.at_displacement(everything)
    assert found.columns.tolist() == everything.banks().columns.tolist() and set(found["seed"]) == {
        1
    }, "C = 2 lacks seed 0"
    of = found.set_index(["variant", "name"])["value"]
    assert len(of) == 8 and of[1.0].tolist() == pytest.approx([1.7, 2.7])
    assert of[4.0].tolist() == pytest.approx([1.8 - 0.6 / 3, 1.8 + 0.4 / 3])
    assert evidence.at_displacement(everything.only(seed=0)).empty, "C = 2 has no seed at all"
    assert evidence.at_displacement(everything.only(seed=9)).empty
    assert everything.banks("change_kernel", checkpoint=0)["value"].dtype == float


def test_variants_of_a_variant_are_told_apart():
    specs = [
        dataclasses.replace(spec, **fields)
        for fields in (dict(classes=100), dict(label_seed=1))
        for spec in specs_of("full", 0)
    ]
    both = Evidence("made-up", "full", [record(spec) for spec in specs[:3]], specs[3:])
    hundred, other = both.only(classes=100), both.only(label_seed=1, classes=None)
    assert [r.spec for r in hundred.records] == specs[:2] and not hundred.missing
    assert [r.spec for r in other.records] == specs[2:3] and other.missing == specs[3:]
    assert hundred.note == "cifar10, 1 seed per variant, 5 epochs"


def test_the_last_layer_in_words():
    rows = [
        (variant, seed, layer, "", value + seed / 10 + layer)
        for variant, value in (("strided-relu", 0.2), ("max-pool", 0.1))
        for seed in (0, 2, 7)
        for layer in (0, 1)
    ]
    values = pd.DataFrame(rows, columns=["variant", "seed", "layer", "name", "value"])
    assert evidence.last_layer(values) == "Max-pool 1.400, Strided-ReLU 1.500", "means over seeds"


def test_a_network_before_its_training_has_the_smoothness_of_its_first_checkpoint():
    network = networks.load_initial("cifar10", "strided", seed=0)
    [spec] = [
        spec
        for spec in studies.study("cifar10").specs("full", [0])
        if spec.downsampling == "strided"
    ]
    first = evidence.store_for("full").load(spec).measurements.checkpoints[0]
    assert list(filters.smoothness(network, "kernel").values()) == pytest.approx(
        first.smoothness.kernel, rel=1e-5
    )
    assert not network.training and network.head.out_features == 10


def test_quick_mode_keeps_the_weights_of_a_study(full: Store, monkeypatch: pytest.MonkeyPatch):
    spec = dataclasses.replace(specs_of("quick", 0)[0], width=0.05)
    study = Study(
        "",
        lambda mode, seed: [dataclasses.replace(spec, seed=seed)],
        {"full": range(2), "quick": range(2)},
        weights=(1,),
    )
    monkeypatch.setitem(studies.STUDIES, "made-up", study)
    network = build(dataclasses.replace(spec, seed=1), 7, 3)
    monkeypatch.setitem(
        runs.EXECUTE,
        Training,
        lambda spec, *_: (to_json(measurements(spec)), {}, network.state_dict()),
    )
    monkeypatch.setattr(sweeps, "local", lambda *_: ThreadPoolExecutor(1))
    fractions = Study("", study.make, study.seeds)  # which keeps none, and is run first
    monkeypatch.setitem(studies.STUDIES, "before-it", fractions)
    collect("before-it", "quick")
    assert not collect("made-up", "quick").missing
    state = torch.random.get_rng_state()
    again = networks.load_trained("made-up", "max-pool", seed=1, mode="quick")
    torch.testing.assert_close(
        again.conv4_2.conv.weight, network.conv4_2.conv.weight, rtol=1e-2, atol=1e-6
    )
    assert again.head.out_features == 7 and not again.training
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(
        networks.load_initial("made-up", "max-pool", 1, "quick").conv4_2.conv.weight,
        network.conv4_2.conv.weight,
    )
    with pytest.raises(
        ValueError, match="seed must be one of 1, whose weights made-up keeps, got 0"
    ):
        networks.load_trained("made-up", "max-pool", 0, "quick")
    evidence.store_for("quick").weights_path(dataclasses.replace(spec, seed=1)).unlink()
    with pytest.raises(
        FileNotFoundError,
        match="delete .* and run python -m reproduction run made-up --seeds 1 --mode quick$",
    ):
        networks.load_trained("made-up", "max-pool", 1, "quick")
    with pytest.raises(FileNotFoundError, match="run made-up --seeds 1$"):
        networks.load_trained("made-up", "max-pool", 1)


def test_over_filters_is_the_mean_over_kernels():
    made = {variant: models.cifar10_vgg(variant, width=0.1) for variant in VARIANTS}
    made["strided"].conv1_1.conv.weight.data[0, 0] = 0
    fractions = lambda weight: filters.explained(weight, filters.SMOOTHINGS["2x2 box"])  # noqa: E731
    table = networks.over_filters(made, fractions, seed=3)
    assert table.columns.tolist() == Evidence("", "full", [], []).banks().columns.tolist()
    assert table["variant"].tolist() == [variant for variant in VARIANTS for _ in range(8)] and set(
        table["seed"]
    ) == {3}
    assert (
        table["name"].tolist()[:2] == ["conv1_1", "conv1_2"]
        and table["layer"].tolist() == [*range(1, 9)] * 2
    )
    expected = fractions(made["strided"].conv1_1.conv.weight.detach())
    assert expected.isnan().sum() == 1 and table["value"][8] == pytest.approx(
        float(expected[~expected.isnan()].mean())
    )


def test_a_table_may_have_the_initialization_beside_the_variants():
    values = pd.DataFrame(
        [
            (variant, seed, 1, "conv1_1", value)
            for seed in (0, 1)
            for variant, value in zip(VARIANTS, (1.0, 2.0))
        ],
        columns=["variant", "seed", "layer", "name", "value"],
    )
    table = by_layer(values, values.assign(value=values["seed"] + 5.0))
    assert table.columns.tolist() == ["initialization", *VARIANTS]
    assert table.loc[(1, "conv1_1")].tolist() == ["5.500\xa0±\xa01.414", "1.000", "2.000"]
    numbered = values.assign(variant=values["variant"].map(dict(zip(VARIANTS, (1.0, 2.0)))))
    assert by_layer(numbered, label="C = {:g}").columns.tolist() == ["C = 1", "C = 2"]


def test_accuracies_of_changed_networks():
    training_spec = specs_of("full", 0)[0]
    running, calibrated = Scopes([0.1, 0.2], [0.3, 0.4]), Scopes([0.5, 0.6], [0.0, 0.0])
    shuffled = ByStatistics(running, calibrated)
    accuracy = Accuracy(running=0.8, calibrated=0.7)
    found = InterventionRecord(["conv1_1", "conv1_2"], 20, 10, accuracy, shuffled, shuffled)
    record = Record(Intervention(training_spec, 20, 10), found, {})
    table = Evidence("made-up", "full", [record], []).changed("shuffled")
    assert table[["layer", "name", "value"]].values.tolist() == [
        [0, "none", 0.8],
        [1, "conv1_1", 0.1],
        [2, "conv1_2", 0.2],
    ]
    assert set(table["variant"]) == {"max-pool"} and set(table["seed"]) == {0}
    assert Evidence("", "full", [record], []).changed("shuffled", "upward")["value"].tolist() == [
        0.8,
        0.3,
        0.4,
    ]
    assert Evidence("", "full", [record], []).changed("shuffled", statistics="calibrated")[
        "value"
    ].tolist() == [0.7, 0.5, 0.6]
    assert Evidence("", "full", [record], []).note == "cifar10, 1 seed per variant, 5 epochs"


def test_footnote_1_as_a_table():
    kernel, bank = (
        Draws(mean=[1.86999, 1.87], deviation=[far, 0.01], draws=[9, 9]) for far in (0.034, 0.03)
    )
    found = ResamplingRecord(["conv1_1", "conv1_2"], bank=bank, kernel=kernel)
    drawn = Record(Resampling("cifar10_vgg", 9, 0), found, {})
    table = evidence_of([drawn], "architecture").resampled()
    assert table.loc[("cifar10_vgg", "conv1_1")].to_dict() == {
        ("bank", "mean"): 1.87,
        ("bank", "deviation"): 0.03,
        ("kernel", "mean"): 1.87,
        ("kernel", "deviation"): 0.034,
    }
    assert table.index.tolist() == [("cifar10_vgg", "conv1_1"), ("cifar10_vgg", "conv1_2")]
    assert table["kernel"].columns.tolist() == ["mean", "deviation"], (
        "averages above, statistics below"
    )
    many = Record(Resampling("cifar10_vgg", 10_000, 0), {}, {})
    assert Evidence("", "full", [many], [], "architecture").note == "10,000 draws", (
        "it has no data and no epochs"
    )


def test_existing_is_what_there_is_maybe_nothing(full: Store, never: None):
    nothing = evidence.existing("made-up", "full")
    assert (
        nothing.records == []
        and len(nothing.missing) == 6
        and nothing.seed_counts == {}
        and nothing.mode == "full"
    )
    [first, second, *rest] = studies.study("made-up").specs("full")
    full.save(on_disk(second))
    found = evidence.existing("made-up", "full")
    assert [item.spec for item in found.records] == [second] and found.missing == [first, *rest]
    assert evidence.existing("made-up", "full", variants=["max-pool"], seeds=[0]).missing == [first]
    assert evidence.existing("made-up", "quick").records == [], (
        "made in quick mode, or another mode's"
    )
    with pytest.raises(ValueError, match="variants must be among max-pool, strided, got nope"):
        evidence.existing("made-up", "full", variants=["nope"])


def test_final_losses_are_geometric_means():
    specs = [spec for seed in (0, 1) for spec in specs_of("full", seed)]
    records = [
        training(spec, [checkpoint(probe=probe(train_loss=loss))])
        for spec, loss in zip(specs, (0.01, 0.2, 0.04, 0.2))
    ]
    found = evidence.final_losses(evidence_of(records))
    assert found == pytest.approx({"max-pool": 0.02, "strided": 0.2})


def test_a_variant_beyond_the_papers_may_have_no_record(
    full: Store, never: None, monkeypatch: pytest.MonkeyPatch
):
    study = Study("", specs_of, {"full": range(3), "quick": range(2)}, beyond=("strided",))
    monkeypatch.setitem(studies.STUDIES, "made-up", study)
    first, second, third, *_ = studies.study("made-up").specs("full")
    full.save(on_disk(first))
    found = collect("made-up", "full")
    assert found.seed_counts == {"max-pool": 1}
    assert (
        found.note == "cifar10, 1 seed per variant, 5 epochs; 2 planned runs of these variants "
        "missing: python -m reproduction run made-up"
    )
    full.save(on_disk(second))
    assert collect("made-up", "full").seed_counts == {"max-pool": 1, "strided": 1}
    full.save(on_disk(third))
    full.path(first).unlink()
    full.path(third).unlink()
    with pytest.raises(FileNotFoundError, match="no record for max-pool"):
        collect("made-up", "full")


def test_claims_are_judged_on_the_papers_variants_alone():
    found = evidence.for_claims("full")
    assert found.keys() == quantities.JUDGED.keys()
    specs = [
        spec
        for each in found.values()
        for spec in (*each.missing, *(record.spec for record in each.records))
    ]
    assert (
        {spec.downsampling for spec in specs if hasattr(spec, "downsampling")}
        == set(quantities.FIVE)
        == set(studies.VARIANTS)
    )
    assert len(found["cifar10"].records) + len(found["cifar10"].missing) == 25, (
        "five seeds of five variants"
    )
    assert len(found["mnist-templates"].records) + len(found["mnist-templates"].missing) == 20


def test_the_variant_beyond_has_three_seeds_in_figures():
    counts = {
        name: [
            spec.seed
            for spec in study.specs("full")
            if getattr(spec, "downsampling", "") == "blur-pool"
        ]
        for name, study in studies.STUDIES.items()
    }
    assert {name: seeds for name, seeds in counts.items() if seeds} == {
        "cifar10": [0, 1, 2],
        "cifar10-random-labels": [0, 1, 2],
        "cifar10-subset": [0, 1, 2],
        "cifar10-positions": [0],
        "cifar10-other-measures": [0, 1],
        "cifar10-matching": [0, 1],
        "cifar10-random-labels-matching": [0],
        "cifar10-smoothing": [0, 1],
        "cifar10-worst": [0],
        "cifar10-theory": [0],
        "cifar10-random-labels-theory": [0],
    }
    assert all("blur-pool" in studies.study(name).beyond for name, seeds in counts.items() if seeds)


def test_a_condition_is_one_of_sensitivity_at_a_full_checkpoint():
    checkpoints = [checkpoint([0.5], conditions={"noise": profile([0.25])}), checkpoint([0.5])]
    found = evidence_of([training(specs_of("full", 0)[0], checkpoints, ["input"])])
    assert found.layers(condition="noise", checkpoint=0)["value"].item() == 0.25
    with pytest.raises(
        ValueError, match="measure must be sensitivity where a condition is given, got 'calibrated'"
    ):
        found.layers("calibrated", condition="noise", checkpoint=0)
    with pytest.raises(
        ValueError, match="checkpoint must be a full one where a condition is given, got -1"
    ):
        found.layers(condition="noise")


def test_without_records_there_is_no_moment_of_equal_loss():
    table = evidence.at_loss(Evidence("cifar10", "full", [], []), {"max-pool": 0.1})
    assert table.empty and list(table.columns) == ["variant", "seed", "layer", "name", "value"]


def test_the_course_of_training_is_a_mean_at_every_checkpoint():
    def run(seed: int) -> Record:
        checkpoints = [
            checkpoint([0, 1 + epoch, 3 + seed, 9], [1, 2 + epoch], epoch=epoch)
            for epoch in (0.0, 2.5)
        ]
        spec = dataclasses.replace(specs_of("full", 0)[0], seed=seed)
        return training(spec, checkpoints, ["input", "a", "b", "pool"], ["a", "b"])

    found = Evidence("cifar10", "full", [run(0), run(1)], [])
    table = evidence.over_training(found, numbers=range(1, 3)).set_index(["epoch", "seed"])["value"]
    assert table.to_dict() == {(0, 0): 2, (0, 1): 2.5, (2.5, 0): 3.25, (2.5, 1): 3.75}
    whole = evidence.over_training(found, Evidence.banks)
    assert whole.columns.tolist() == ["variant", "seed", "value", "epoch"] and whole[
        "value"
    ].tolist() == [1.5, 1.5, 2.75, 2.75]


def test_the_gap_at_equal_displacement_is_where_the_bank_that_moved_less_ended():
    def run(seed: int, far: list[float], values: list[float]) -> Record:
        checkpoints = [
            checkpoint(kernel=smoothness([value, value + seed], change_norm=[moved, 2 * moved]))
            for moved, value in zip(far, values, strict=True)
        ]
        spec = dataclasses.replace(specs_of("full", 0)[0], downsampling="max-pool", seed=seed)
        return training(spec, checkpoints, banks=["a", "b"])

    one = Evidence(
        "cifar10-random-labels",
        "full",
        [run(seed, [0, 1, 2], [2.0, 1.9, 1.6]) for seed in (3, 1)],
        [],
    )
    other = Evidence(
        "cifar10-subset", "full", [run(seed, [0, 1, 5], [2.0, 1.8, 1.4]) for seed in (1, 2)], []
    )
    table = evidence.gap_at_displacement(one, other)  # at 2 the other is at 1.8 - 0.4 / 4
    assert table[["variant", "seed", "layer", "name"]].values.tolist() == [
        ["max-pool", 1, 1, "a"],
        ["max-pool", 1, 2, "b"],
    ]
    assert table["value"].tolist() == pytest.approx([1.6 - 1.7] * 2)
    assert evidence.gap_at_displacement(other, one)["value"].tolist() == pytest.approx(
        [1.7 - 1.6] * 2
    )


def test_learning_is_a_rate_at_every_checkpoint():
    def run(seed: int) -> Record:
        checkpoints = [
            checkpoint(epoch=epoch, probe=probe(train_accuracy=epoch + seed, flip_rate=2 * epoch))
            for epoch in (0.0, 0.5)
        ]
        return training(dataclasses.replace(specs_of("full", 0)[0], seed=seed), checkpoints)

    found = Evidence("cifar10", "full", [run(0), run(1)], [])
    assert evidence.learning(found).set_index(["epoch", "seed"])["value"].to_dict() == {
        (0, 0): 0,
        (0, 1): 1,
        (0.5, 0): 0.5,
        (0.5, 1): 1.5,
    }
    assert evidence.learning(found, "flip_rate")["value"].tolist() == [0, 0, 1, 1]


def test_load_trained_names_what_keeps_weights():
    with pytest.raises(
        ValueError, match="study must be one that keeps weights: cifar10, .*, got 'imagenet'"
    ):
        networks.load_trained("imagenet", "max-pool")
    with pytest.raises(ValueError, match="seed must be an integer >= 0, got '0'"):
        networks.load_trained("cifar10", "max-pool", seed="0")
