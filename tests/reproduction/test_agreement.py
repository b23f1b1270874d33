"""Published curves beside ours: every column by brute force, every point that has no counterpart
named."""

import csv
import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from made_up import checkpoint, profile, training
from typer.testing import CliRunner

from deformlib.models import DOWNSAMPLINGS
from reproduction.__main__ import app
from reproduction.analysis import agreement, evidence
from reproduction.analysis.agreement import beside, compare, gaps
from reproduction.analysis.curves import (
    COLUMNS,
    FILE_COLUMNS,
    PUBLISHED,
    overlay,
    published,
    read,
    short_name,
)
from reproduction.analysis.evidence import Evidence
from reproduction.experiments.records import Checkpoint, Profile
from reproduction.experiments.specs import Recipe, Training
from reproduction.experiments.store import Record
from reproduction.pages.figures import over_published

VARIANTS = {
    "max-pool": (0, 1, 2),
    "average-pool": (0, 1, 2),
    "strided": (4,),
}  # variant -> seeds with a record
LAYERS, BANKS, SETS = 13, 8, 3
SENSITIVITY, VARIATION = "sensitivity", "normalized total variation"
RNG = np.random.default_rng(0)
ABOUT = {
    variant: RNG.uniform(0.2, 0.6, (2, LAYERS)) for variant in (*VARIANTS, "subsample")
}  # at initialization, after training
# What the records hold, for (variant, seed): sensitivity on sets of images, and smoothness; what
# was published; and how read.
OURS = {
    (variant, seed): (
        ABOUT[variant][:, None]
        + RNG.normal(0, 0.02, (2, 1, LAYERS))
        + RNG.normal(0, 0.02, (2, SETS, LAYERS))
    ).round(4)
    for variant, seeds in VARIANTS.items()
    for seed in seeds
}
SMOOTH = {
    (variant, seed): (ABOUT[variant][:, :BANKS] + 1.3 + RNG.normal(0, 0.02, (2, BANKS))).round(4)
    for variant, seed in OURS
}
THEIRS = {
    (figure, variant): (ABOUT[variant][when] + RNG.normal(0, 0.05, LAYERS)).round(3)
    for when, figure in enumerate(("3c", "3d"))
    for variant in ABOUT
}
THEIRS |= {
    ("6b", variant): (ABOUT[variant][1, :BANKS] + 1.3 + RNG.normal(0, 0.03, BANKS)).round(3)
    for variant in VARIANTS
}
HOW = {key: RNG.choice(["fit", "eye"], len(curve)) for key, curve in THEIRS.items()}


def of_layers(values: np.ndarray) -> Profile:
    """By cosine distance; pool and head last."""
    return profile([*values, 9.0, 8.0], [7.0] * (LAYERS + 2))


def record(variant: str, seed: int, sets: int = SETS) -> Record:
    """A training's record: three checkpoints, the first and the last of them full, if there are
    sets of images."""

    def at(when: int) -> Checkpoint:
        ours = OURS[variant, seed][when]
        conditions = {f"test-{k}": of_layers(ours[k]) for k in range(sets)}
        conditions |= {"train-0": of_layers(np.ones(LAYERS))} if sets else {}
        return checkpoint(of_layers(ours[0]), SMOOTH[variant, seed][when], conditions=conditions)

    middle = checkpoint(of_layers(np.ones(LAYERS)), np.ones(BANKS))
    layers = [f"layer{k}" for k in range(LAYERS)] + ["pool", "head"]
    filters = [f"filters{k}" for k in range(BANKS)]
    spec = Training("cifar10", variant, seed, Recipe(1, 8, 0.1), "protocol-1")
    return training(spec, [at(0), middle, at(1)], layers, filters)


def evidence_of(records: list[Record]) -> dict[str, Evidence]:
    return {"cifar10": Evidence("cifar10", "full", records, [])}


def records(**options: int) -> dict[str, Evidence]:
    return evidence_of([record(*key, **options) for key in OURS])


def rows_of(figure: str, variant: str, condition: str = "", measure: str = "") -> list[list]:
    condition, measure = (
        condition or ("initialization" if figure == "3c" else "trained"),
        measure or (VARIATION if figure == "6b" else SENSITIVITY),
    )
    points = zip(THEIRS[figure, variant], HOW[figure, variant], strict=True)
    return [
        [figure, "CIFAR-10", condition, measure, variant, layer, value, how]
        for layer, (value, how) in enumerate(points)
    ]


def written(path: Path, rows: list[list]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([FILE_COLUMNS, *rows])
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return written(
        tmp_path / "curves.csv",
        [row for figure, variant in THEIRS for row in rows_of(figure, variant)],
    )


def over_seeds(figure: str, variant: str, when: int) -> np.ndarray:
    """(seeds, layers), on the first set of images."""
    return np.array(
        [
            SMOOTH[variant, seed][when] if figure == "6b" else OURS[variant, seed][when, 0]
            for seed in VARIANTS[variant]
        ]
    )


def test_a_variant_that_the_paper_does_not_have_is_compared_with_nothing(file: Path) -> None:
    ours, (expected, gaps_before) = records(), compare(beside(records(), file))
    beyond = record("max-pool", 0)
    spec = dataclasses.replace(beyond.spec, downsampling="blur-pool")
    ours["cifar10"].records.append(dataclasses.replace(beyond, spec=spec))
    table, unmatched = compare(beside(ours, file))
    assert table.equals(expected) and unmatched.equals(gaps_before)
    assert all(
        "blur-pool" not in set(published(figure)["variant"]) for figure in ("3c", "3d", "6b")
    )


@pytest.mark.parametrize(
    ("figure", "variant"),
    [(figure, variant) for figure in ("3c", "3d", "6b") for variant in VARIANTS],
)
def test_every_column_by_brute_force(figure: str, variant: str, file: Path) -> None:
    when = 0 if figure == "3c" else 1
    theirs, ours = THEIRS[figure, variant], over_seeds(figure, variant, when).mean(0)
    row = (
        compare(beside(records(), file))[0]
        .xs((figure, variant), level=("figure", "variant"))
        .iloc[0]
    )
    assert (row["study"], row["seeds"], row["layers"]) == (
        "cifar10",
        len(VARIANTS[variant]),
        len(theirs),
    )
    assert row["difference"] == pytest.approx(np.mean([abs(a - b) for a, b in zip(ours, theirs)]))
    untrained = np.mean(np.abs(over_seeds(figure, variant, 0).mean(0) - theirs))
    assert (
        math.isnan(row["skill"])
        if figure == "3c"
        else row["skill"] == pytest.approx(1 - row["difference"] / untrained)
    )
    shared = (
        np.mean([over_seeds(figure, a, when).mean(0) for a in VARIANTS], axis=0),
        np.mean([THEIRS[figure, a] for a in VARIANTS], axis=0),
    )
    assert row["correlation"] == pytest.approx(
        np.corrcoef(ours - shared[0], theirs - shared[1])[0, 1]
    )
    inside = 0
    for layer, (value, how) in enumerate(zip(theirs, HOW[figure, variant])):
        squared = {"fit": 0.01, "eye": 0.02}[how] ** 2
        if len(VARIANTS[variant]) > 1:
            squared += (2 * np.std(over_seeds(figure, variant, when)[:, layer], ddof=1)) ** 2
        if figure != "6b":
            squared += 4 * np.mean(
                [np.var(OURS[variant, seed][when, :, layer], ddof=1) for seed in VARIANTS[variant]]
            )
        inside += abs(ours[layer] - value) <= squared**0.5
    assert row["coverage"] == pytest.approx(inside / len(theirs)) and 0 < inside < len(theirs)


@pytest.mark.parametrize(
    ("how", "off", "covered"),
    [("fit", 0.0099, 1), ("fit", 0.0101, 0), ("eye", 0.0199, 1), ("eye", 0.0201, 0)],
)
def test_one_seed_on_one_set_of_images_leaves_the_error_of_reading(
    how: str, off: float, covered: float, tmp_path: Path
) -> None:
    values = SMOOTH["strided", 4][1]
    rows = [[*row[:6], values[row[5]] + off, how] for row in rows_of("6b", "strided")]
    assert (
        compare(beside(records(), written(tmp_path / "c.csv", rows)))[0]["coverage"].item()
        == covered
    )
    values = OURS["strided", 4][1, 0]
    rows = [[*row[:6], values[row[5]] - off, how] for row in rows_of("3d", "strided")]
    assert (
        compare(beside(records(sets=1), written(tmp_path / "c.csv", rows)))[0]["coverage"].item()
        == covered
    )
    found = evidence_of([record("strided", 4, sets=0)])  # an initialization has no full measurement
    assert (
        compare(beside(found, written(tmp_path / "c.csv", rows)))[0]["coverage"].item() == covered
    )


def test_a_seed_without_sets_of_images_takes_no_part_in_their_scatter(tmp_path: Path) -> None:
    first, *others = OURS
    some = evidence_of([record(*first), *(record(*key, sets=0) for key in others)])
    none = records(sets=0)
    ours, spread = over_seeds("3d", "max-pool", 1), 2 * OURS["max-pool", 0][1].std(0, ddof=1)
    for found, scatter in ((some, spread), (none, 0)):
        half = np.sqrt((2 * ours.std(0, ddof=1)) ** 2 + scatter**2 + 0.01**2)
        for fraction, covered in ((0.999, 1), (1.001, 0)):
            rows = [
                [*row[:6], (ours.mean(0) + fraction * half)[row[5]], "fit"]
                for row in rows_of("3d", "max-pool")
            ]
            assert (
                compare(beside(found, written(tmp_path / "c.csv", rows)))[0]["coverage"].item()
                == covered
            )


def test_a_perfect_match(tmp_path: Path) -> None:
    rows = [
        [*row[:6], over_seeds("3d", variant, 1).mean(0)[row[5]], "fit"]
        for variant in VARIANTS
        for row in rows_of("3d", variant)
    ]
    table, unmatched = compare(beside(records(), written(tmp_path / "c.csv", rows)))
    assert len(table) == len(VARIANTS) and unmatched.empty and (table["coverage"] == 1).all()
    assert table["difference"].to_numpy() == pytest.approx(0)
    assert table["skill"].to_numpy() == pytest.approx(1) and table[
        "correlation"
    ].to_numpy() == pytest.approx(1)


def test_a_single_variant_has_no_correlation(tmp_path: Path) -> None:
    table, _ = compare(beside(records(), written(tmp_path / "c.csv", rows_of("3d", "max-pool"))))
    assert math.isnan(table["correlation"].item()) and math.isfinite(table["skill"].item())


def test_one_layer_is_compared_with_that_layer(tmp_path: Path) -> None:
    table, _ = compare(
        beside(records(), written(tmp_path / "c.csv", rows_of("3d", "strided")[7:8]))
    )
    assert table["difference"].item() == pytest.approx(
        abs(OURS["strided", 4][1, 0, 7] - THEIRS["3d", "strided"][7])
    )
    assert table["layers"].item() == 1


@pytest.mark.parametrize(("change", "reason"), [
    ({0: "9z"}, "figure must be one of 3a, 3b, 3c, 3d, 4, 5, 6a, 6b, 6c, 7"),
    ({3: "loss"}, "figure 3d shows sensitivity, not loss"),
    ({1: "MNIST"}, "figure 3d is of cifar10, not MNIST"),
    ({1: "ImageNet"}, "figure 3d is of cifar10, not ImageNet"),
    ({2: "Initialization"}, "figure 3d is of trained networks, not Initialization"),
    ({4: "foo=max-pool"}, "variant must be one of max-pool, average-pool, subsample, "
                          "strided, strided-relu"),
    ({3: VARIATION}, "figure 3d shows sensitivity, not normalized total variation"),
    ({2: "initialization"}, "figure 3d is of trained networks, not initialization"),
    ({4: "maximum"}, "variant must be one of max-pool, average-pool, subsample, "
                     "strided, strided-relu"),
    ({4: "strided-relu"}, "study cifar10 has no record of strided-relu"),
    ({5: 13}, "layer must be at most 12"),
    ({0: "3a", 1: "ImageNet", 2: "initialization"}, "study imagenet-init has no record of "
                                                    "max-pool"),
    ({0: "7"}, "study cifar10-random-labels has no record of max-pool"),
    ({0: "4", 1: "", 2: "initialization, smoothed filters", 4: "sigma=1"},
     "study imagenet-smoothed has no record of sigma=1"),
    ({0: "4", 1: "", 2: "initialization, smoothed filters", 4: "sigma=0.6"}, "variant must be one "
                                                                             "of 0.1, 0.2, 0.3, "
                                                                             "0.4, 0.5, 0.75, 1"),
    ({0: "5", 1: "MNIST", 3: VARIATION, 4: "strength=2"}, "study mnist-templates has no record of "
                                                          "strength=2"),
])  # fmt: skip
def test_a_point_without_a_counterpart_is_named(
    change: dict[int, object], reason: str, tmp_path: Path
) -> None:
    other = rows_of("3d", "max-pool")[5]
    for column, value in change.items():
        other[column] = value
    good = rows_of("3d", "max-pool")[6:]
    table, unmatched = compare(
        beside(records(), written(tmp_path / "c.csv", [*good[:3], other, *good[3:]]))
    )
    [point] = unmatched.itertuples()
    assert (point.row, point.figure, point.variant, point.layer, point.reason) == (
        5,
        other[0],
        other[4],
        other[5],
        reason,
    )
    assert table["layers"].item() == len(good)


def test_a_curve_is_a_figure_a_condition_a_measure_and_an_variant(tmp_path: Path) -> None:
    rows = (
        rows_of("3d", "max-pool")
        + rows_of("3d", "max-pool", condition="trained again")
        + rows_of("3d", "max-pool", measure="loss")
    )
    table, unmatched = compare(beside(records(), written(tmp_path / "c.csv", rows)))
    assert (
        table.index.get_level_values("condition").tolist() == ["trained", "trained again"]
        and len(unmatched) == LAYERS
    )
    assert (
        table["difference"].nunique() == 1 and table["correlation"].isna().all()
    )  # the one is no variant beside the other


def test_a_record_without_a_number_is_no_counterpart(tmp_path: Path) -> None:
    found = records()
    for each in found["cifar10"].records:
        each.measurements.checkpoints[-1].sensitivity.cosine.normalized[4] = math.nan
    table, unmatched = compare(beside(found, written(tmp_path / "c.csv", rows_of("3d", "strided"))))
    assert (
        unmatched["layer"].tolist() == [4]
        and unmatched["reason"].item() == "study cifar10 has no number there"
    )
    assert table["layers"].item() == LAYERS - 1 and math.isfinite(table["difference"].item())


def test_a_file_without_points_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="c.csv has no points, only its head"):
        compare(beside(records(), written(tmp_path / "c.csv", [])))


@pytest.mark.parametrize(
    "fields",
    [
        dict(variant="Max Pool"),
        dict(dataset="cifar10"),
        dict(dataset=""),
        dict(condition="Trained"),
    ],
)
def test_names_are_read_as_people_write_them(fields: dict, tmp_path: Path) -> None:
    rows = [dict(zip(COLUMNS, row)) | fields for row in rows_of("3d", "max-pool")]
    table, unmatched = compare(
        beside(records(), written(tmp_path / "c.csv", [list(row.values()) for row in rows]))
    )
    assert unmatched.empty and table["layers"].item() == LAYERS


def test_numbers_in_names_are_numbers() -> None:
    assert [
        short_name(name)
        for name in ("sigma=0.10", "strength=4.0", "C=2", "strided-ReLU", "foo=max-pool")
    ] == ["0.1", "4", "2", "strided-relu", "foo=max-pool"]


def test_an_overlay_is_what_was_read_off_the_paper_in_full_mode() -> None:
    assert (
        overlay("3c", "full").equals(published("3c"))
        and overlay("3c", "quick") is None
        and overlay("9z", "full") is None
    )


def test_without_records_nothing_matches_and_gaps_say_so(file: Path) -> None:
    table, unmatched = compare(beside({}, file))
    assert table.empty and {"study", "seeds", "skill", "coverage"} < set(table.columns)
    assert len(unmatched) == len(read(file))
    first = gaps(unmatched).iloc[0]
    assert len(gaps(unmatched)) == len(THEIRS)
    assert (first["figure"], first["variant"], first["rows"], first["layers"]) == (
        "3c",
        "max-pool",
        "2 to 14",
        "0 to 12",
    )
    assert first["reason"] == "study cifar10 has no record of max-pool"
    assert gaps(unmatched[:1])["rows"].item() == "2" and gaps(unmatched[:0]).empty


def test_the_book_s_own_file_is_read() -> None:
    curves = read(PUBLISHED)
    assert curves["row"].tolist() == list(range(2, 2 + len(curves))) and len(curves) == 335
    assert published("3c").query("variant == 'max-pool' and layer == 12")["value"].item() == 0.117
    with pytest.raises(ValueError, match="figure must be one of 3a, 3c, 3d, 4, 5, 6b, got '3b'"):
        published("3b")


GOOD = "3d,CIFAR-10,trained,sensitivity,max-pool,{},0.2,fit"


@pytest.mark.parametrize(("lines", "words"), [
    ([GOOD.format(1), GOOD.format("1.5")], ["row 3, column layer", "whole number >= 0", "'1.5'"]),
    ([GOOD.format(-1)], ["row 2, column layer", "'-1'"]),
    ([GOOD.format(1), "", GOOD.format(2).replace("0.2", "nan")],
     ["row 4, column value", "finite number", "'nan'"]),
    ([GOOD.format(1).replace("0.2", "0,2")], ["row 2", "more values than columns"]),
    ([GOOD.format(1).replace("fit", "guess")], ["row 2, column how", "fit or eye", "'guess'"]),
    ([GOOD.format(1).removesuffix(",0.2,fit")], ["row 2, column value", "''"]),
    ([GOOD.format(1).replace("max-pool", " ")], ["row 2, column arm", "a name"]),
    ([GOOD.format(1).replace("3d", "")], ["row 2, column figure"]),
    ([GOOD.format(1).replace("trained", "")], ["row 2, column condition"]),
    ([GOOD.format(1).replace("sensitivity", "")], ["row 2, column measure"]),
    ([GOOD.format(1), GOOD.format(2), GOOD.format(1)], ["row 4, column layer", "row 2 already"]),
    ([GOOD.format(1), GOOD.format(1).replace("max-pool", "Max-Pool")],
     ["row 3, column layer", "row 2 already"]),
])  # fmt: skip
def test_bad_points_are_named_by_file_row_and_column(
    lines: list[str], words: list[str], tmp_path: Path
) -> None:
    (path := tmp_path / "bad.csv").write_text("\n".join([",".join(FILE_COLUMNS), *lines]))
    with pytest.raises(ValueError) as error:
        compare(beside(records(), path))
    assert all(word in str(error.value) for word in [str(path), *words]), error.value


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "lacks figure, dataset, condition"),
        (b"figure,arm\n3d,max-pool\n", "lacks dataset, condition, measure, layer, value, how"),
        (b"\xff\xfe\x00", "no CSV in UTF-8"),
    ],
)
def test_files_that_are_something_else(content: bytes, words: str, tmp_path: Path) -> None:
    (path := tmp_path / "bad.csv").write_bytes(content)
    with pytest.raises(ValueError, match=words) as error:
        read(path)
    assert str(path) in str(error.value)


def test_names_may_be_written_otherwise(tmp_path: Path) -> None:
    (path := tmp_path / "c.csv").write_text(
        "\n".join(
            [",".join(FILE_COLUMNS), "3C,cifar 10,at initialization,sensitivity,Max Pool,1,0.2,fit"]
        )
    )
    table, unmatched = compare(beside(records(), path))
    assert len(table) == 1 and unmatched.empty


def test_a_file_from_a_spreadsheet_is_read(tmp_path: Path) -> None:
    lines = [",".join(FILE_COLUMNS) + ",note", GOOD.format(" 1 ") + ',"quoted, with a comma"', ""]
    (path := tmp_path / "c.csv").write_bytes("\r\n".join(lines).encode("utf-8-sig"))
    assert read(path)[["figure", "layer", "value"]].values.tolist() == [["3d", 1, 0.2]]


def test_the_command_prints_the_table_and_names_the_rest(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        evidence,
        "existing",
        lambda study, mode, **_: records().get(study, Evidence(study, mode, [], [])),
    )
    result = CliRunner().invoke(app, ["agreement", str(file)], env={"COLUMNS": "80"})
    lines = result.output.splitlines()
    row = (
        compare(beside(records(), file))[0]
        .xs(("3d", "strided"), level=("figure", "variant"))
        .iloc[0]
    )
    numbers = [
        f"{row['difference']:.3f}",
        *(f"{row[name]:.2f}" for name in ("skill", "correlation", "coverage")),
    ]
    assert result.exit_code == 0 and ["3d", "strided", "1", "13", *numbers] in [
        line.split() for line in lines
    ], result.output
    assert ["3c", "strided", "1", "13", "-"] in [
        line.split()[:4] + line.split()[5:6] for line in lines
    ]
    assert (
        "Not matched: figure 3c, subsample, layers 0 to 12 (rows 41 to 53): study "
        "cifar10 has no record of subsample" in lines
    )
    missing = CliRunner().invoke(app, ["agreement", str(file / "x")])
    assert missing.exit_code == 2 and missing.output == f"Error: there is no file {file / 'x'}\n"


def test_the_command_draws_ours_over_the_published(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        evidence,
        "existing",
        lambda study, mode, **_: records().get(study, Evidence(study, mode, [], [])),
    )
    plot = tmp_path / "curves.png"
    result = CliRunner().invoke(app, ["agreement", str(file), "--plot", str(plot)])
    assert (
        result.exit_code == 0
        and f"wrote {plot}" in result.output
        and plot.read_bytes()[1:4] == b"PNG"
    )
    refused = CliRunner().invoke(
        app, ["agreement", str(file), "--plot", str(tmp_path / "curves.xyz")]
    )
    assert refused.exit_code == 2 and refused.output.startswith(
        "Error: --plot must be a .png, .pdf or .svg file"
    )
    points = beside(records(), file)
    figure = over_published(points[points["reason"] == ""])
    panels = {axes.get_title(): axes for axes in figure.axes if axes.get_title()}
    assert list(panels) == ["Figure 3c", "Figure 3d", "Figure 6b"]
    of_variant = points[(points["figure"] == "3d") & (points["variant"] == "max-pool")]
    ours, theirs = (
        next(
            line
            for line in panels["Figure 3d"].lines
            if (line.get_label() == "max-pool") == mine
            and line.get_color() == DOWNSAMPLINGS["max-pool"].colour
        )
        for mine in (True, False)
    )
    assert ours.get_ydata() == pytest.approx(
        of_variant["ours"]
    ) and theirs.get_ydata() == pytest.approx(of_variant["value"])
    band = (
        panels["Figure 3d"]
        .collections[list(panels["Figure 3d"].lines).index(ours) // 2]
        .get_paths()[0]
        .vertices
    )
    assert {*band[:, 1].round(9)} == {
        *(of_variant["ours"] + of_variant["band"]).round(9),
        *(of_variant["ours"] - of_variant["band"]).round(9),
    }
    assert of_variant["ours"].to_numpy() == pytest.approx(
        np.mean([OURS["max-pool", seed][1, 0] for seed in VARIANTS["max-pool"]], axis=0)
    )


def test_figure_5_may_be_named_as_in_the_paper() -> None:
    assert agreement._counterpart(
        "MNIST", "5b", "trained", VARIATION, "strength=1"
    ) == agreement._counterpart("MNIST", "5", "trained", VARIATION, "strength=1")


def test_help_teaches_by_example() -> None:
    shown = " ".join(
        CliRunner().invoke(app, ["agreement", "--help"], env={"COLUMNS": "80"}).output.split()
    )
    assert "Example: python -m reproduction agreement " in shown
