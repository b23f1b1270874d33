"""Each option does what it says, independently stated; the book's give the book's numbers."""

import copy
import dataclasses
import hashlib
import json
import math

import numpy as np
import pytest
import torch
from scipy.interpolate import RBFInterpolator
from torch import nn

from deformlib import models
from deformlib.metrics import sensitivity
from deformlib.seeding import stream
from deformlib.warping import Deformation, ThinPlateSpline, deform, warp
from reproduction.experiments import data, protocol, runs, store, studies, tasks
from reproduction.experiments.initialization import measure_initialization
from reproduction.experiments.multiverse import (
    CHOICES,
    LOCAL_NORMS,
    MULTIVERSES,
    Multiverse,
    Workbench,
    clipped,
    deformed,
    inverse,
    local,
    measure_variation,
    scaled,
)
from reproduction.experiments.networks import build
from reproduction.experiments.protocol import PROTOCOLS, Instrument
from reproduction.experiments.records import VariationRecord
from reproduction.experiments.specs import Initialization, Recipe, Training, Variation
from reproduction.experiments.store import Store

TRAINING = Training("photos", "strided-relu", 0, Recipe(1, 8, 0.1), "quick-2", width=0.1)
SPEC = Variation(TRAINING, "small")
SMALL = Multiverse(
    {
        "pixels": ("unit", "image"),
        "statistics": ("running", "calibrated", "local"),
        "representation": ("relu", "norm", "conv"),
        "images": ("64", "32"),
        "average": ("mean", "median"),
        "pairs": ("median", "mean"),
        "draw": ("0", "1"),
    },
    {
        "pixels": ("unit", "image"),
        "statistics": ("running", "calibrated"),
        "average": ("mean", "median"),
    },
    calibration=64,
)
BOOK = {name: next(iter(choice.options)) for name, choice in CHOICES.items()}
BIG = Deformation(3, 3.0)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MULTIVERSES, "small", SMALL)


@pytest.fixture
def networks() -> dict[str, models.VGG]:
    after = build(TRAINING, 10, 3).eval()
    with torch.no_grad():
        for module in after.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 2, generator=stream(1, "scale"))
                module.running_mean.uniform_(0, 0.1, generator=stream(1, "mean"))
    return {"before": build(TRAINING, 10, 3).eval(), "after": after}


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> tasks.Task:
    images, labels, classes = data.load("photos", "test")
    found = tasks.Task(images[256:768], labels[256:768], images[:256], labels[:256], classes, "abc")
    monkeypatch.setattr(tasks, "load", lambda spec: found)
    return found


# The book's own


def test_the_books_choices_give_the_protocols_numbers(
    task: tasks.Task, networks: dict[str, models.VGG]
):
    instrument = Instrument(task, TRAINING, PROTOCOLS["quick-2"])
    pair, bench = instrument.pairs["test-0"], Workbench(SPEC, networks)
    for when, network in networks.items():
        expected = [*sensitivity(network, *pair, list(network.layers)).values()]
        assert bench.sensitivity(when, SMALL.book) == pytest.approx(
            expected, rel=1e-4
        )  # another memory layout
    fresh = protocol.calibrated(
        networks["before"], task.images[instrument.orders["train"][:64]] / 255
    )
    expected = [*sensitivity(fresh, *pair, list(fresh.layers)).values()]
    assert bench.sensitivity("before", SMALL.book | {"statistics": "calibrated"}) == pytest.approx(
        expected, rel=1e-4
    )


def test_a_committed_record_holds_the_numbers_of_its_training():
    results, compared = Store(store.RESULTS), 0
    for spec in studies.study("multiverse-cifar10").specs("full"):
        if spec in results and spec.network in results:
            found = results.load(spec).measurements.book
            kept = results.load(spec.network).measurements.checkpoints
            for when, theirs, tolerance in (
                ("before", kept[0].sensitivity, 1e-5),
                ("calibrated", kept[0].calibrated, 1e-5),
                ("after", kept[-1].sensitivity, 5e-3),  # kept in bfloat16
            ):
                wanted = pytest.approx(theirs.cosine.normalized[:13], rel=tolerance)
                assert found[when] == wanted, (spec.slug, when)
                compared += 1
    assert compared


# Deform


def drawn(choice: dict[str, str], images: torch.Tensor) -> torch.Tensor:
    return deformed(images, BIG, BOOK | choice, stream(0, "drawn"))


@pytest.fixture
def x() -> torch.Tensor:
    return torch.rand(6, 3, 24, 24, generator=stream(0, "x"))


def test_the_books_deformation_is_deform(x: torch.Tensor):
    assert torch.equal(drawn({}, x), deform(x, BIG, generator=stream(0, "drawn")))


@pytest.mark.parametrize("option", ["zeros", "reflection"])
def test_border_is_the_padding(x: torch.Tensor, option: str):
    control = BIG.sample(6, generator=stream(0, "drawn"))
    assert torch.equal(drawn({"border": option}, x), BIG.spline((24, 24)).warp(x, control, option))
    assert not torch.equal(drawn({"border": option}, x), drawn({}, x))


def test_clipped_sources_lie_inside_and_inner_ones_stay():
    spline, control = BIG.spline((24, 24)), BIG.sample(50, generator=stream(0, "control"))
    source, before = spline.points + clipped(spline, control), spline.points + control
    assert source.min() == 0 and source.max() == 23 and before.min() < 0
    inside = (before >= 0) & (before <= 23)
    torch.testing.assert_close(source[inside], before[inside])
    assert (abs(clipped(spline, control)) <= abs(control) + 1e-5).all()


def test_clipping_is_applied(x: torch.Tensor):
    spline, control = BIG.spline((24, 24)), BIG.sample(6, generator=stream(0, "drawn"))
    assert torch.equal(drawn({"sources": "clipped"}, x), spline.warp(x, clipped(spline, control)))


def test_inverse_undoes_a_field():
    field = BIG.spline((24, 24)).field(BIG.sample(4, generator=stream(0, "field")) * 0.5)
    back = inverse(field)
    at_source = warp(field.permute(0, 3, 1, 2), back).permute(0, 2, 3, 1)  # field(p + back(p))
    torch.testing.assert_close(back + at_source, torch.zeros_like(back), atol=1e-4, rtol=0)
    shift = torch.tensor([1.25, -2.0]).expand(1, 24, 24, 2)
    torch.testing.assert_close(inverse(shift), -shift)


def test_forward_moves_the_image_where_backward_looks():
    image = torch.zeros(1, 1, 24, 24)
    image[0, 0, 12, 12] = 1
    one = Deformation(3, 0.0)
    shift = torch.full((1, 9, 2), 2.0)  # right and down
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Deformation, "sample", lambda self, n, generator=None: shift)
        forward = deformed(image, one, BOOK | {"map": "forward"}, stream(0, ""))
        backward = deformed(image, one, BOOK, stream(0, ""))
    assert forward[0, 0, 14, 14] > 0.99 and backward[0, 0, 10, 10] > 0.99


def test_shared_is_one_deformation_for_all(x: torch.Tensor):
    same = x[:1].expand(6, -1, -1, -1)
    out = drawn({"deformations": "shared"}, same)
    torch.testing.assert_close(out, out[:1].expand_as(out))
    torch.testing.assert_close(out[:1], drawn({}, same)[:1])
    assert not torch.allclose(drawn({}, same)[0], drawn({}, same)[1])


def test_displacement_is_a_factor(x: torch.Tensor):
    expected = BIG.spline((24, 24)).warp(x, BIG.sample(6, generator=stream(0, "drawn")) * 0.5)
    assert torch.equal(drawn({"displacement": "0.5"}, x), expected)


def test_a_grid_inside_is_half_a_cell_from_the_edge_and_interpolates():
    spline = ThinPlateSpline((25, 49), 3, inset=1 / 6)
    points = spline.points.numpy()
    assert sorted(set(points[:, 0].round(4))) == [8, 24, 40] and sorted(
        set(points[:, 1].round(4))
    ) == [4, 12, 20]
    control = BIG.sample(1, generator=stream(0, "inside"))
    field = spline.field(control)[0].numpy()
    y, x = np.mgrid[:25, :49]
    expected = RBFInterpolator(points, control[0].numpy(), kernel="thin_plate_spline", degree=1)(
        np.stack([x.ravel(), y.ravel()], 1)
    )
    np.testing.assert_allclose(field.reshape(-1, 2), expected, atol=1e-3)


def test_the_grid_inside_is_applied(x: torch.Tensor):
    expected = ThinPlateSpline((24, 24), 3, inset=1 / 6).warp(
        x, BIG.sample(6, generator=stream(0, "drawn"))
    )
    assert torch.equal(drawn({"grid": "inside"}, x), expected)


@pytest.mark.parametrize("inset", [-0.1, 0.5])
def test_an_inset_out_of_range_is_refused(inset: float):
    with pytest.raises(ValueError, match=r"inset must be at least 0 and below 0.5, got "):
        ThinPlateSpline((8, 8), 3, inset=inset)


# Represent


def test_pixels(x: torch.Tensor):
    assert torch.equal(scaled(x, x, "unit"), x)
    assert torch.equal(scaled(x, x, "signed"), 2 * x - 1)
    torch.testing.assert_close(scaled(x, x, "centred"), x - x.mean((0, 2, 3))[:, None, None])
    out = scaled(x, x, "standardized").transpose(0, 1).flatten(1)
    torch.testing.assert_close(out.mean(1), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.std(1), torch.ones(3))
    out = scaled(x, x, "image").flatten(1)
    torch.testing.assert_close(out.mean(1), torch.zeros(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.std(1), torch.ones(6))
    grey = scaled(x, x, "grey")
    assert grey.shape == x.shape and torch.equal(grey[:, 0], grey[:, 2])
    torch.testing.assert_close(grey[:, 0], x.mean(1))
    torch.testing.assert_close(
        scaled(x / 2, x, "centred"), x / 2 - x.mean((0, 2, 3))[:, None, None]
    )


@pytest.mark.parametrize("pixels", ["centred", "standardized"])
def test_means_and_deviations_are_of_the_clean_images(
    task: tasks.Task, networks: dict[str, models.VGG], pixels: str
):
    instrument, net, bench = (
        Instrument(task, TRAINING, PROTOCOLS["quick-2"]),
        networks["before"],
        Workbench(SPEC, networks),
    )
    clean, moved = instrument.pairs["test-0"]
    others = task.images[instrument.orders["train"][:64]] / 255

    def as_seen(images: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        mean = reference.double().mean((0, 2, 3), keepdim=True)
        deviation = (
            (reference - mean).square().mean((0, 2, 3), keepdim=True).sqrt()
            if pixels == "standardized"
            else 1
        )
        return ((images - mean) / deviation).float()

    for statistics, network in (
        ("running", net),
        ("calibrated", protocol.calibrated(net, as_seen(others, others))),
    ):
        expected = sensitivity(
            network, as_seen(clean, clean), as_seen(moved, clean), list(net.layers)
        )
        found = bench.sensitivity(
            "before", SMALL.book | {"pixels": pixels, "statistics": statistics}
        )
        assert found == pytest.approx([*expected.values()], rel=1e-4)


@pytest.mark.parametrize("option, parts", [("together", 1), ("local", 2)])
def test_local_statistics_are_those_of_training_mode(
    networks: dict[str, models.VGG], option: str, parts: int
):
    x, model = torch.rand(8, 3, 32, 32, generator=stream(0, "local")), networks["after"]
    with torch.no_grad():
        found = LOCAL_NORMS[option](model)(x)
        assert not model.training
        model.train()
        expected = torch.cat([model(part) for part in x.chunk(parts)])
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_sonnets_epsilon(networks: dict[str, models.VGG]):
    x, model = torch.rand(8, 3, 32, 32, generator=stream(0, "local")), networks["after"]
    with torch.no_grad():
        found = LOCAL_NORMS["sonnet"](model)(x)
        for module in model.train().modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = 1e-3
        expected = torch.cat([model(part) for part in x.chunk(2)])
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(found, local(model)(x), rtol=1e-3)


def test_the_representation_is_taken_where_it_says(
    task: tasks.Task, networks: dict[str, models.VGG]
):
    bench, (clean, moved) = (
        Workbench(SPEC, networks),
        Instrument(task, TRAINING, PROTOCOLS["quick-2"]).pairs["test-0"],
    )
    for part in ("norm", "conv"):
        known = dict(networks["after"].named_modules())
        names = [
            f"{name}.{part}" if f"{name}.{part}" in known else name
            for name in networks["after"].layers
        ]
        assert (
            names.count("input") == 1 and len([n for n in names if part in n]) == 12
        )  # Strided-ReLU's layers too
        expected = [*sensitivity(networks["after"], clean, moved, names).values()]
        assert bench.sensitivity("after", SMALL.book | {"representation": part}) == pytest.approx(
            expected, rel=1e-4
        )


# Measure


def test_averages_and_draws(task: tasks.Task, networks: dict[str, models.VGG]):
    bench = Workbench(SPEC, networks)
    order = torch.randperm(256, generator=stream(0, "measured test images"))
    clean = task.test_images[order[32:64]] / 255
    moved = deform(clean, Deformation.CIFAR10, generator=stream(0, "measurement test-1"))
    choice = SMALL.book | {"images": "32", "draw": "1", "average": "median", "pairs": "mean"}
    unit = [
        (images / images.flatten(1).norm(dim=1)[:, None, None, None]).flatten(1).numpy()
        for images in (clean.double(), moved.double())
    ]
    distance = 1 - (unit[0] * unit[1]).sum(1)
    apart = [1 - unit[0][i] @ unit[0][j] for i in range(32) for j in range(i)]
    assert bench.sensitivity("before", choice)[0] == pytest.approx(
        np.median(distance) / np.mean(apart), rel=1e-4
    )


def test_training_images(task: tasks.Task, networks: dict[str, models.VGG]):
    bench = Workbench(SPEC, networks)
    expected = Instrument(task, TRAINING, PROTOCOLS["quick-2"]).pairs["train-0"]
    found = bench.sensitivity("before", SMALL.book | {"split": "train"})
    assert found == pytest.approx(
        [*sensitivity(networks["before"], *expected, list(networks["before"].layers)).values()],
        rel=1e-4,
    )


def test_photographs_are_resized_as_chosen_and_deformed_in_proportion(
    networks: dict[str, models.VGG], monkeypatch: pytest.MonkeyPatch
):
    images, given = (
        torch.randint(256, (32, 3, 64, 64), generator=stream(0, "photographs")).to(torch.uint8),
        {},
    )
    monkeypatch.setattr(
        data,
        "load",
        lambda name, split, **options: given.update(options) or (images, torch.zeros(32), ["a"]),
    )
    spec = Variation(
        Initialization("tiny-imagenet", "max-pool", 0, 32, 0, size=64), "quick-shared-draws-1"
    )
    found = Workbench(spec, networks).sensitivity(
        "before", BOOK | {"resize": "squash", "images": "32"}
    )
    clean = images[torch.randperm(32, generator=stream(0, "measured test images"))] / 255
    moved = deform(clean, Deformation(5, 10 * 64 / 224), generator=stream(0, "measurement test-0"))
    assert found == pytest.approx(
        [sensitivity(nn.Flatten(), clean, moved)["input"]], rel=1e-4
    ) and given == {"size": 64, "resize": "squash"}


def test_too_few_images_are_named(task: tasks.Task, networks: dict[str, models.VGG]):
    with pytest.raises(
        ValueError, match="draw 3 of 128 images needs 512 test images of photos, got 256"
    ):
        Workbench(SPEC, networks).sensitivity("before", SMALL.book | {"images": "128", "draw": "3"})


def test_a_layer_without_distances_has_no_number(task: tasks.Task, networks: dict[str, models.VGG]):
    networks = {when: copy.deepcopy(network) for when, network in networks.items()}
    for network in networks.values():
        nn.init.zeros_(network.conv4_2.norm.weight)
        nn.init.constant_(network.conv4_2.norm.bias, 1.0)
    found, layers = (
        Workbench(SPEC, networks).sensitivity("before", SMALL.book),
        list(networks["before"].layers),
    )
    assert math.isnan(found[layers.index("conv4_2")]) and all(
        map(math.isfinite, found[: layers.index("conv4_2")])
    )


def test_a_record_holds_every_combination(task: tasks.Task, networks: dict[str, models.VGG]):
    fractions: list[float] = []
    found, identity = measure_variation(SPEC, networks, fractions.append)
    assert identity == "abc" and fractions == sorted(fractions) and fractions[-1] == 1
    bench, layers = Workbench(SPEC, networks), list(networks["before"].layers)
    assert found.layers == layers
    assert {name: tuple(of) for name, of in found.alone.items()} == {
        name: options[1:] for name, options in SMALL.alone.items()
    }
    for name, option, choice in SMALL.variations():
        whens = ["before"] if name == "pixels" else ["before", "after", "calibrated"]
        assert list(found.alone[name][option]) == whens
        assert (
            found.alone[name][option]["before"] == bench.sensitivity("before", choice)
            and len(layers) == 13
        )
    other = SMALL.book | {"statistics": "calibrated", "average": "median"}
    assert found.alone["average"]["median"]["calibrated"] == bench.sensitivity("before", other)
    assert {when: len(rows) for when, rows in found.crossed.items()} == {"before": 8, "after": 4}
    for when in networks:
        for row, choice in zip(
            found.crossed[when], SMALL.combinations(trained=when == "after"), strict=True
        ):
            assert row == bench.sensitivity(when, choice)


def test_an_initialization_may_be_measured_at_its_input_only(monkeypatch: pytest.MonkeyPatch):
    first = Multiverse(
        {"images": ("64", "32"), "pixels": ("unit", "grey")}, {"pixels": ("unit", "grey")}, layers=1
    )
    monkeypatch.setitem(MULTIVERSES, "small", first)
    spec = Variation(Initialization("photos", "max-pool", 0, 64, 0, width=0.1, size=64), "small")
    found, identity = measure_variation(
        spec, {"before": build(spec.network, 10, 3)}, lambda fraction: None
    )
    whole, same = measure_initialization(
        spec.network, build(spec.network, 10, 3), lambda fraction: None
    )
    assert found.layers == ["input"] and identity == same
    wanted = whole.checkpoints[0].sensitivity.cosine.normalized[:1]
    assert found.book["before"] == pytest.approx(wanted, rel=1e-4)


# The table


def test_the_books_option_comes_first():
    for name, multiverse_ in MULTIVERSES.items():
        for choice, options in multiverse_.crossed.items():
            assert options[0] == multiverse_.alone[choice][0], (name, choice)
    assert MULTIVERSES["cifar10-choices-1"].book | {"images": BOOK["images"]} == BOOK
    assert MULTIVERSES["cifar10-choices-1"].book["images"] == str(PROTOCOLS["protocol-1"].images)
    assert MULTIVERSES["quick-choices-1"].book["images"] == str(PROTOCOLS["quick-2"].images)


# Records rest on these: change one under another name.
@pytest.mark.parametrize(
    "name, digest",
    [
        ("cifar10-choices-1", "fe211494833d"),
        ("input-choices-1", "af874e89304b"),
        ("shared-draws-1", "6ed08e660abd"),
    ],
)
def test_a_multiverse_is_frozen(name: str, digest: str):
    text = json.dumps(dataclasses.asdict(MULTIVERSES[name]))
    assert hashlib.sha256(text.encode()).hexdigest()[:12] == digest


@pytest.mark.parametrize("name", MULTIVERSES)
def test_what_is_chosen_can_be_chosen(name: str):
    of = MULTIVERSES[name]
    for choices in (of.alone, of.crossed):
        for choice, options in choices.items():
            assert set(options) <= CHOICES[choice].options.keys(), (choice, options)
    assert of.crossed.keys() <= of.alone.keys(), "crossed choices are varied alone too"


def test_an_unknown_multiverse_is_refused_before_any_work(tmp_path):
    with pytest.raises(
        ValueError, match=r"choices must be one of cifar10-choices-1, .*got 'nothing'"
    ):
        runs.execute(Variation(TRAINING, "nothing"), Store(tmp_path))
    with pytest.raises(ValueError, match=r"downsampling must be one of .*got 'maxpool'"):
        runs.execute(
            Variation(dataclasses.replace(TRAINING, downsampling="maxpool"), "quick-choices-1"),
            Store(tmp_path),
        )


def test_a_run_starts_from_the_weights_kept(
    tmp_path, monkeypatch: pytest.MonkeyPatch, networks: dict[str, models.VGG]
):
    monkeypatch.setenv("DEFORMLIB_CACHE", str(tmp_path / "cache"))
    seen, nothing = {}, VariationRecord(["input"], {}, {}, {})
    monkeypatch.setattr(
        runs,
        "measure_variation",
        lambda spec, networks, progress: (seen.update(networks) or nothing, "abc"),
    )
    results = Store(tmp_path / "results")
    with pytest.raises(
        FileNotFoundError,
        match=r"strided-relu-0-small needs the weights of photos-strided-relu-0, and there is no ",
    ):
        runs.execute(SPEC, results)
    results.save_weights(TRAINING, networks["after"].state_dict())
    record = runs.execute(SPEC, results)
    assert record.measurements == nothing and record.provenance["data"] == "abc"
    assert torch.equal(seen["before"].conv1_1.conv.weight, networks["before"].conv1_1.conv.weight)
    kept = networks["after"].conv1_1.norm.weight.bfloat16().float()
    assert torch.equal(seen["after"].conv1_1.norm.weight, kept) and not math.isclose(
        kept[0].item(), 1
    )
