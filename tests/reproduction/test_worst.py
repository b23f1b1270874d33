"""The worst deformation, where the maximum is known: by enumerating corners, or in closed form."""

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from deformlib import Deformation, cifar10_vgg, distances
from deformlib.seeding import stream
from reproduction.experiments import data, networks, protocol, runs, specs, studies, worst
from reproduction.experiments.pretrained import Chain, untrained
from reproduction.experiments.records import Budget, WorstRecord
from reproduction.experiments.specs import Recipe, Training, Worst, WorstPretrained
from reproduction.experiments.store import Store
from reproduction.experiments.worst import CLASS, SCOUTS, measure_worst, search

FOUR = Deformation(2, 1.0)  # eight displacements, 256 corners
NINE = Deformation(3, 1.0)  # eighteen, 262,144 corners
TRAINING = Training("photos", "max-pool", 0, Recipe(1, 8, 0.1), "quick-2", width=0.1, size=32)


def corners(points: int, bound: float) -> Tensor:
    """(2 ** (2 * points), points, 2) all controls at the corners of the box."""
    signs = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    return bound * torch.cartesian_prod(*[signs] * (2 * points)).view(-1, points, 2)


class Inside(nn.Module):
    """A linear network: random sums of the pixels that are `margin` or more from the edge."""

    def __init__(self, side: int, margin: int, outputs: int = 5, seed: int = 0) -> None:
        super().__init__()
        self.kept = slice(margin, side - margin)
        generator = torch.Generator().manual_seed(seed)
        count = (side - 2 * margin) ** 2
        self.register_buffer(
            "weight",
            torch.randn(count, outputs, dtype=torch.float64, generator=generator),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x[:, 0, self.kept, self.kept].flatten(1) @ self.weight  # (N, outputs)


def ramps(side: int) -> Tensor:
    """Two images (2, 1, side, side) linear in the position: bilinear sampling is exact."""
    y, x = torch.meshgrid(*[torch.arange(side, dtype=torch.float64)] * 2, indexing="ij")
    return torch.stack([0.3 * x - 0.1 * y, 0.2 * x + 0.4 * y])[:, None]


@pytest.fixture(scope="module")
def photographs() -> Tensor:
    images, _, _ = data.load("photos", "test", size=32)
    return images[:6].float() / 255


def noisy(n: int, side: int, seed: int = 0) -> Tensor:
    """Smooth random images, (n, 1, side, side), float64."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(n, 1, 5, 5, dtype=torch.float64, generator=generator)
    return nn.functional.interpolate(coarse, (side, side), mode="bicubic")


@pytest.mark.parametrize("deformation", [FOUR, NINE], ids=["2x2", "3x3"])
def test_maximum_of_a_convex_quadratic_is_found_among_all_corners(deformation: Deformation) -> None:
    """Of a linear network and ramps the squared distance is convex in the displacements."""
    images, network = ramps(12), Inside(12, margin=2)
    model = Chain({"linear": network})
    spline = deformation.spline((12, 12), dtype=torch.float64)
    controls = corners(len(spline.points), 1.0)
    inside = spline.basis.view(12, 12, -1)[network.kept, network.kept].flatten(0, 1)  # (P, K)
    brute = []
    for slope in ((0.3, -0.1), (0.2, 0.4)):
        along = controls @ torch.tensor(slope, dtype=torch.float64)  # (C, K)
        brute.append((along @ inside.T @ network.weight).norm(dim=1).max())
    found = worst.worst(
        model, images, "linear", deformation, 15, 8, torch.Generator().manual_seed(0), "euclidean"
    )
    torch.testing.assert_close(found.values, torch.stack(brute), rtol=1e-9, atol=0)
    torch.testing.assert_close(found.ascent, found.values)  # by the ascents, not by luck
    assert found.random.amax(0).max() < 0.999 * found.values.min() or deformation == FOUR


def test_cosine_distance_of_an_image_is_not_below_that_of_any_corner() -> None:
    images = noisy(3, 10)
    model = Chain({"same": nn.Identity()})
    spline = FOUR.spline((10, 10), dtype=torch.float64)
    tried = corners(4, 1.0)
    brute = []
    for image in images:
        warped = spline.warp(image.expand(len(tried), -1, -1, -1), tried).flatten(1)
        cosine = nn.functional.cosine_similarity(warped, image.flatten()[None], dim=1)
        brute.append((1 - cosine).max())
    found = worst.worst(model, images, "input", FOUR, 12, 16, torch.Generator().manual_seed(0))
    assert (found.values >= torch.stack(brute) * (1 - 1e-9)).all()


def test_gradient_of_the_whole_chain_in_float64() -> None:
    images = noisy(2, 16).expand(-1, 3, -1, -1) + 1
    model = cifar10_vgg("strided-relu", width=0.1, generator=stream(0, "test")).double().eval()
    spline = NINE.spline((16, 16), dtype=torch.float64)
    control = NINE.sample(2, generator=stream(0, "control")).double().requires_grad_()
    aims = worst.objectives(model, images, ["input", "down1", "conv3_2", CLASS])
    for target, aim in aims.items():

        def value(control: Tensor, target: str = target, aim: worst.Objective = aim) -> Tensor:
            layer = worst.layer_of(target)
            return aim(worst.representation(model, spline.warp(images, control), layer))

        assert torch.autograd.gradcheck(value, control, eps=1e-7, atol=1e-5, rtol=1e-3), target


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_values_are_the_distances_that_deformlib_measures(
    photographs: Tensor, distance: str
) -> None:
    model = cifar10_vgg("max-pool", width=0.2, generator=stream(0, "test"))  # in training mode
    targets = ["input", "conv1_1", "down2", "down4", "head"]
    spline = Deformation.CIFAR10.spline((32, 32))
    found = search(
        model, photographs, targets, Deformation.CIFAR10, 2, 1, stream(1, "test"), distance
    )
    assert model.training
    for target in targets:
        deformed = spline.warp(photographs, found[target].control)
        expected = distances(model, photographs, deformed, [target], distance)[target]
        torch.testing.assert_close(found[target].values, expected.detach(), rtol=1e-4, atol=1e-7)
        draw = Deformation.CIFAR10.sample(6, generator=stream(1, "test"))
        first = distances(model, photographs, spline.warp(photographs, draw), [target], distance)
        torch.testing.assert_close(
            found[target].random[0], first[target].detach(), rtol=1e-4, atol=1e-7
        )


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return cifar10_vgg("strided-relu", width=0.2, generator=stream(0, "test")).eval()


@pytest.mark.parametrize("target", ["input", "conv1_2", "down4", CLASS])
def test_never_below_random_within_the_bound_and_better_with_more(
    model: nn.Module, photographs: Tensor, target: str
) -> None:
    def found(steps: int, restarts: int) -> worst.Found:
        generator = stream(0, "test")
        return worst.worst(
            model, photographs, target, Deformation.CIFAR10, steps, restarts, generator
        )

    small, longer, more, both = found(3, 1), found(6, 1), found(3, 2), found(6, 2)
    for each, steps, restarts in ((small, 3, 1), (longer, 6, 1), (more, 3, 2), (both, 6, 2)):
        assert (each.values >= each.random.amax(0)).all()
        assert (each.values >= each.ascent).all()
        assert each.control.abs().max() <= 2.0
        assert each.forward == len(each.random) == restarts * (SCOUTS + steps + 1)
        assert each.backward == restarts * steps
        assert each.by_step.shape == (steps + 1, 6) and each.by_restart.shape == (restarts, 6)
        torch.testing.assert_close(each.by_step[-1], each.by_restart[-1])
    torch.testing.assert_close(longer.by_step[:4], small.by_step)  # the longer goes on
    torch.testing.assert_close(more.by_restart[:1], small.by_restart)
    for less, greater in ((small, longer), (small, more), (longer, both), (more, both)):
        assert (greater.values >= less.values - 1e-6 * less.values.abs()).all()
        torch.testing.assert_close(greater.random[: len(less.random)], less.random)
    assert (both.ascent > both.random.amax(0)).double().mean() > 0.8  # ascents find more than luck


def test_the_control_is_where_the_values_are(model: nn.Module, photographs: Tensor) -> None:
    """Of images whose best draw is above the ascents too, which no step (steps=0) sees to."""
    found = worst.worst(model, photographs, "down1", Deformation.CIFAR10, 0, 1, stream(2, "test"))
    aims = worst.objectives(model, photographs, ["down1"])
    spline = Deformation.CIFAR10.spline((32, 32))
    again = worst.values_under(model, photographs, aims, spline, found.control)["down1"]
    torch.testing.assert_close(again, found.values)
    assert (found.values > found.ascent).any()


def test_same_generator_same_result_and_images_do_not_see_each_other(
    model: nn.Module, photographs: Tensor
) -> None:
    def found(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return worst.worst(
            model, photographs, "down1", Deformation.CIFAR10, 3, 1, generator
        ).control

    assert torch.equal(found(0), found(0))
    assert not torch.equal(found(0), found(1))
    start = Deformation.CIFAR10.sample(6, generator=stream(0, "test"))

    def climbed(images: Tensor, start: Tensor) -> Tensor:
        aim = worst.objectives(model, images, ["down1"])["down1"]
        spline = Deformation.CIFAR10.spline((32, 32))

        def value(control: Tensor) -> Tensor:
            return aim(worst.representation(model, spline.warp(images, control), "down1"))

        return worst.ascend(value, start, 2.0, 4)[1][-1]

    together = climbed(photographs, start)
    alone = torch.cat([climbed(photographs[i : i + 1], start[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-6)


def test_an_ascent_reaches_the_corner_of_a_linear_function_and_stays_in_the_box() -> None:
    slope = torch.tensor([[[3.0, -1e-6], [-0.5, 20.0]]])
    control, course = worst.ascend(
        lambda control: (control * slope).sum((1, 2)), torch.zeros(1, 2, 2), 0.5, 6
    )
    assert torch.equal(control, 0.5 * slope.sign())
    torch.testing.assert_close(course[-1], 0.5 * slope.abs().sum((1, 2)))
    assert (course.diff(dim=0) >= 0).all() and course[0] == 0


def test_margin_is_positive_exactly_where_the_class_changes() -> None:
    logits = torch.randn(50, 7, generator=torch.Generator().manual_seed(0))
    classes = torch.arange(50) % 7
    margins = worst.margin(classes, logits)
    assert torch.equal(margins > 0, logits.argmax(1) != classes)
    for value, row, own in zip(margins, logits, classes, strict=True):
        others = [float(x) for k, x in enumerate(row) if k != own]
        assert float(value) == pytest.approx(max(others) - float(row[own]))


def test_deformation_against_the_class_flips_more_than_random_ones_and_lowers_accuracy(
    photographs: Tensor,
) -> None:
    model = cifar10_vgg("strided", width=0.2, generator=stream(3, "test")).eval()
    deformation = Deformation(3, 2.0)
    spline = deformation.spline((32, 32))
    found = search(model, photographs, ["input", CLASS], deformation, 10, 2, stream(0, "t"))
    labels = model(photographs).argmax(1)
    flipped = model(spline.warp(photographs, found[CLASS].control)).argmax(1) != labels
    assert 0 < flipped.sum() < 6
    kept = int((~flipped).nonzero()[0])
    labels[kept] = (labels[kept] + 1) % 10  # this one is wrong already, and stays so
    said = worst.predictions(model, photographs, labels, found, spline, deformation)
    assert said.clean_accuracy == pytest.approx(5 / 6)
    assert said.flips[1] == pytest.approx(float(flipped.double().mean()))
    assert said.flips[1] >= said.random_best_flips >= said.random_flips
    assert said.accuracy[1] == pytest.approx((5 - int(flipped.sum())) / 6)
    assert said.accuracy[1] <= said.random_best_accuracy <= said.clean_accuracy


def test_chain_ends_at_the_layer(model: nn.Module, photographs: Tensor) -> None:
    """The rest of the network is not run, and what comes out is what the network passes on."""
    ran = []
    for name, stage in worst.stages(model).items():
        if name != "input":
            stage.register_forward_hook(lambda *_, name=name: ran.append(name))
    deep = worst.representation(model, photographs, "conv2_1")
    assert ran == ["conv1_1", "conv1_2", "down1", "conv2_1"]
    assert deep.shape == (6, 13, 16, 16)
    torch.testing.assert_close(worst.representation(model, photographs, "head"), model(photographs))


def test_unknown_layers_and_budgets_are_named(model: nn.Module, photographs: Tensor) -> None:
    for arguments, named in (
        (("conv9_9", Deformation.CIFAR10), "layer"),
        (("input", Deformation.CIFAR10, -1), "steps"),
        (("input", Deformation.CIFAR10, 1, 0), "restarts"),
    ):
        with pytest.raises(ValueError, match=named):
            worst.worst(model, photographs, *arguments)


def test_pictures_are_the_images_under_each_deformation(
    model: nn.Module, photographs: Tensor
) -> None:
    seen = photographs.clone()
    shown = worst.pictures(
        model, photographs, ["input", CLASS], Deformation.CIFAR10, 3, 1, stream(0, "test")
    )
    assert list(shown) == ["clean", "random", "input", CLASS]
    assert torch.equal(shown["clean"], seen)
    random = Deformation.CIFAR10.sample(6, generator=stream(0, "test"))
    expected = Deformation.CIFAR10.spline((32, 32)).warp(photographs, random)
    torch.testing.assert_close(shown["random"], expected)
    moved = {
        name: worst.paired_distances(photographs, each)
        for name, each in shown.items()
        if name != "clean"
    }
    assert (moved["input"] > moved["random"]).all()


@pytest.fixture(scope="module")
def record() -> tuple[WorstRecord, dict[str, nn.Module], Worst]:
    spec = Worst(
        TRAINING, 12, 2, 1, ("input", "conv1_2", "down4"), (("strided", 1),), calibration=16
    )
    trained = {
        "before": cifar10_vgg("max-pool", width=0.1, generator=stream(0, "test")).eval(),
        "after": cifar10_vgg("max-pool", width=0.1, generator=stream(1, "test")).eval(),
        "strided-1": cifar10_vgg("strided", width=0.1, generator=stream(2, "test")).eval(),
    }
    done: list[float] = []
    measured, identity = measure_worst(spec, trained, done.append)
    assert done == sorted(done) and done[-1] == 1.0
    assert identity == data.identity(*data.load("photos", "test", size=32)[:2])
    return measured, trained, spec


def test_record_holds_the_papers_normalized_distances(record: tuple) -> None:
    measured, trained, _ = record
    [(images, _), _], _ = protocol.test_images("photos", 32, {"images": 12, "calibration": 16})
    images = images.float() / 255
    assert list(measured.networks) == ["before", "calibrated", "after"]
    assert measured.numbers == [0, 2, 12]
    assert measured.budget == Budget(SCOUTS + 3, 2, SCOUTS + 3)
    generator = stream(0, worst.STREAM)
    draws = [Deformation.CIFAR10.sample(12, generator=generator) for _ in range(SCOUTS + 3)]
    spline = Deformation.CIFAR10.spline((32, 32))
    maxima = measured.networks["after"].maxima
    for k, layer in enumerate(measured.layers):
        expected = [
            protocol.statistics(
                worst.representation(trained["after"], images, layer),
                worst.representation(trained["after"], spline.warp(images, draw), layer),
                "cosine",
            )["normalized"]
            for draw in draws
        ]
        assert maxima.random[k] == pytest.approx(sum(expected) / len(expected), rel=1e-4)
        assert maxima.random[k] < maxima.random_best[k] <= maxima.worst[k]
        assert maxima.half_steps[k] <= maxima.ascent[k] <= maxima.worst[k]


def test_deformations_carry_over_to_themselves_in_full(record: tuple) -> None:
    """On the diagonal stands worst over random; what was found elsewhere hardly beats it."""
    measured, _, _ = record
    for name, part in measured.networks.items():
        own = torch.tensor(part.carried[name].distances)[: len(measured.layers)]
        ratio = torch.tensor(part.maxima.worst) / torch.tensor(part.maxima.random)
        torch.testing.assert_close(own.diagonal(), ratio, rtol=0.25, atol=0)  # of other draws
        assert (own.diagonal() >= 0.9 * own.amax(0)).all()  # two steps are few
        assert set(part.carried) == {"before", "calibrated", "after", "strided-1"}


def test_only_the_trained_network_is_attacked_in_its_class(record: tuple) -> None:
    measured, _, _ = record
    assert measured.networks["before"].targets == ["input", "conv1_2", "down4"]
    assert measured.networks["before"].predictions is None
    after = measured.networks["after"]
    assert after.targets == ["input", "conv1_2", "down4", CLASS]
    assert after.predictions is not None and len(after.predictions.flips) == 4
    assert after.carried["strided-1"].flips is not None


def test_calibrated_statistics_are_those_of_other_images(record: tuple) -> None:
    measured, trained, spec = record
    without, _ = measure_worst(replace(spec, calibration=None), trained, lambda done: None)
    assert list(without.networks) == ["before", "after"]
    assert without.networks["before"].maxima == measured.networks["before"].maxima
    fresh, plain = measured.networks["calibrated"].maxima, measured.networks["before"].maxima
    assert fresh.worst[0] == plain.worst[0] and fresh.worst[2] != plain.worst[2]


def test_a_network_without_classes_has_no_predictions() -> None:
    chain = Chain({"one": nn.Conv2d(3, 4, 3, padding=1), "two": nn.ReLU()}).eval()
    spec = WorstPretrained("vgg16", 0, 4, 1, 1, size=16)
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    measured = worst.measured(
        spec, {"after": chain}, images, torch.zeros(4), Deformation(2, 1.0), lambda done: None
    )
    assert measured.layers == ["input", "one", "two"]
    part = measured.networks["after"]
    assert part.predictions is None and part.carried["after"].flips is None
    assert all(math.isfinite(value) for value in itertools.chain(*part.carried["after"].distances))


def test_specs_are_named_and_know_their_network() -> None:
    spec = Worst(TRAINING, 128, 15, 4)
    assert (spec.data, spec.downsampling, spec.seed) == ("photos", "max-pool", 0)
    assert spec.slug == "photos-max-pool-0-worst"
    assert WorstPretrained("vgg16", 0, 32, 10, 2).slug == "imagenet-vgg16-0-worst"


def test_each_network_of_a_study_is_tried_on_all_others() -> None:
    made = studies.study("cifar10-worst").specs("full")
    names = {(spec.downsampling, spec.seed) for spec in made}
    for spec in made:
        assert {*spec.others} == names - {(spec.downsampling, spec.seed)}
        assert (spec.images, spec.steps, spec.restarts, spec.layers) == (128, 20, 6, None)
    quick = studies.study("cifar10-worst").specs("quick")
    assert {spec.layers for spec in quick} == {studies.WORST_LAYERS}
    assert {*studies.WORST_LAYERS} < {*cifar10_vgg("max-pool", width=0.1).layers}


@pytest.mark.parametrize("mode", studies.MODES)
def test_a_study_searches_networks_whose_weights_are_kept(mode: str) -> None:
    kept = studies.keeping(mode)
    for spec in studies.study("cifar10-worst").specs(mode):
        assert spec.training in kept
        for variant, seed in spec.others:
            assert replace(spec.training, downsampling=variant, seed=seed) in kept


@pytest.mark.parametrize("mode", studies.MODES)
def test_layers_searched_of_networks_trained_on_imagenet_are_theirs(mode: str) -> None:
    for spec in studies.study("imagenet-worst").specs(mode):
        assert spec.layers is not None
        assert set(spec.layers) < set(untrained(spec.network, 0).model.layers)


def test_a_spec_is_executed_into_a_record_that_reads_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEFORMLIB_CACHE", str(tmp_path / "cache"))
    store = Store(tmp_path / "store")
    spec = Worst(TRAINING, 4, 1, 1, ("input", "down4"), (("strided", 1),), calibration=4)
    other = replace(TRAINING, downsampling="strided", seed=1)
    store.save_weights(TRAINING, networks.build(TRAINING, 10, 3).state_dict())
    wanted = "photos-max-pool-0-worst needs the weights of photos-strided-1"
    with pytest.raises(FileNotFoundError, match=wanted):
        runs.execute(spec, store)
    store.save_weights(other, networks.build(other, 10, 3).state_dict())
    record = runs.execute(spec, store)
    assert store.load(spec) == record and isinstance(record.measurements, WorstRecord)
    assert set(record.measurements.networks) == {"before", "calibrated", "after"}
    assert "strided-1" in record.measurements.networks["after"].carried
    assert record.measurements.networks["before"].predictions is None
    assert (
        "predictions"
        not in json.loads(store.path(spec).read_text())["measurements"]["networks"]["before"]
    )


def test_a_network_that_others_trained_is_measured_like_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEFORMLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(networks, "pretrained", lambda name: untrained(name, 1))
    spec = WorstPretrained("squeezenet1_1", 0, 2, 0, 1, ("input", "conv1"), "photos", 32)
    record = runs.execute(spec, Store(tmp_path / "store"))
    assert list(record.measurements.networks) == ["before", "after"]
    assert specs.network_of(spec) is spec
    with pytest.raises(ValueError, match="network must be one of .*squeezenet1_1.*'squeeze'"):
        runs.execute(replace(spec, network="squeeze"), Store(tmp_path / "store"))
