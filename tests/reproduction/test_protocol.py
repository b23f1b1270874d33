"""What is measured, recomputed by other means; and that measuring leaves the network alone."""

import copy
import dataclasses
import hashlib
import json
import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist
from torch import Tensor, nn
from torch.nn import functional as F

from deformlib import metrics
from deformlib.models import DOWNSAMPLINGS, VGG, cifar10_vgg
from deformlib.seeding import stream
from deformlib.warping import Deformation
from reproduction.experiments import protocol
from reproduction.experiments.protocol import (
    PROTOCOLS,
    Instrument,
    Protocol,
    calibrated,
    deformation_of,
    layers_of,
)
from reproduction.experiments.recipes import Recipe
from reproduction.experiments.records import Checkpoint, Distances, Full, from_json, to_json
from reproduction.experiments.specs import Training
from reproduction.experiments.tasks import Task, scale

TINY = Protocol(
    images=10, sets=2, strengths=(0.25, 2.0), light=6, full=2, calibration=40, probes=24, final=50
)
RECIPE = Recipe(epochs=1, batch_size=8, learning_rate=0.1, pixels="standardized")
SPEC = Training("cifar10", "max-pool", 0, RECIPE, "protocol-1")


def smooth_images(n: int, seed: int) -> Tensor:
    coarse = torch.rand(n, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
    return (F.interpolate(coarse, (32, 32), mode="bilinear") * 255).round().to(torch.uint8)


@pytest.fixture(scope="module")
def task() -> Task:
    return Task(
        smooth_images(70, 0),
        torch.arange(70) % 4,
        smooth_images(60, 1),
        torch.arange(60) % 4,
        list("abcd"),
        "",
    )


@pytest.fixture(scope="module")
def instrument(task: Task) -> Instrument:
    return Instrument(task, SPEC, TINY)


def test_examples_that_are_made_anew_are_measured_as_training_sees_them(task: Task):
    drawn = []
    varied = Instrument(
        dataclasses.replace(
            task, vary=lambda x, generator: drawn.append(generator.initial_seed()) or 255 - x
        ),
        SPEC,
        TINY,
    )
    plain = Instrument(task, SPEC, TINY)
    assert torch.equal(varied.task.images, 255 - task.images) and drawn == [
        stream(0, "measured examples").initial_seed()
    ]
    assert torch.equal(varied.pairs["test-0"][0], plain.pairs["test-0"][0]) and not torch.equal(
        varied.pairs["train-0"][0], plain.pairs["train-0"][0]
    )


def network(variant: str = "max-pool", trained: bool = True) -> VGG:
    """With batch norm away from its initialization, as training leaves it, and no class that always
    wins; in training mode, but for one layer."""
    model = cifar10_vgg(variant, 4, 3, 0.1, generator=stream(0, "initialization")).to(
        memory_format=torch.channels_last
    )
    if trained:
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for module in model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    for tensor in (
                        module.weight,
                        module.bias,
                        module.running_mean,
                        module.running_var,
                    ):
                        tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
                elif isinstance(module, nn.Conv2d):
                    module.weight.add_(0.05 * torch.randn(module.weight.shape, generator=generator))
            model.head.bias -= model.eval()(scale(smooth_images(60, 1), "standardized")).mean(0)
        model.train()
    model.conv2_1.eval()
    return model


def initial(model: VGG) -> dict[str, Tensor]:
    start = network(model.downsampling, trained=False)
    return {
        name: start.get_submodule(name).conv.weight.detach().clone()
        for name in layers_of(start)["banks"]
    }


@pytest.fixture(scope="module")
def light(instrument: Instrument) -> Checkpoint:
    return instrument.light(network(), initial(network()), step=3, epoch=0.5)


@pytest.fixture(scope="module")
def full(instrument: Instrument) -> Full:
    return instrument.full(network(), last=True)


class TestProtocol:
    def test_protocol_1_is_frozen(self):
        """Records rest on it: another protocol has another name."""
        assert PROTOCOLS["protocol-1"] == Protocol(
            images=128,
            sets=4,
            strengths=(0.25, 0.5, 2.0),
            light=16,
            full=5,
            calibration=2048,
            probes=512,
            final=10_000,
        )
        assert PROTOCOLS["protocol-1"].checkpoints(3905) == {
            step: step in (0, 113, 368, 1198, 3905)
            for step in (0, 1, 2, 3, 6, 11, 19, 35, 62, 113, 204, 368, 664, 1198, 2163, 3905)
        }

    def test_so_is_every_other(self):
        digests = {
            name: hashlib.sha256(json.dumps(dataclasses.asdict(of)).encode()).hexdigest()[:12]
            for name, of in PROTOCOLS.items()
        }
        assert digests == {
            "protocol-1": "cb041f8f378d",
            "imagenet-1": "8a2a0482ebbc",
            "templates-1": "6039db52fa15",
            "quick-2": "9e4a15229ae8",
            "quick-templates-1": "b0d19663214d",
        }

    @pytest.mark.parametrize("steps", [3000, 3905, 4680, 6248, 50_000])
    def test_sixteen_checkpoints_five_of_them_full(self, steps: int):
        schedule = PROTOCOLS["protocol-1"].checkpoints(steps)
        assert len(schedule) == 16 and list(schedule) == sorted(schedule)
        assert min(schedule) == 0 and max(schedule) == steps
        assert sum(schedule.values()) == 5 and schedule[0] and schedule[steps]
        ratios = np.diff(np.log(list(schedule)[5:]))
        assert ratios.max() < 1.4 * ratios.min(), "not logarithmic"

    @pytest.mark.parametrize("name", PROTOCOLS)
    @pytest.mark.parametrize("steps", [1, 2, 10, 384])
    def test_a_short_run_has_fewer(self, steps: int, name: str):
        schedule = PROTOCOLS[name].checkpoints(steps)
        assert list(schedule) == sorted(schedule) and {0, steps} <= set(schedule) <= set(
            range(steps + 1)
        )
        assert schedule[0] and schedule[steps]


class TestMeasurementSets:
    def test_they_are_drawn_from_their_own_streams(self, task: Task, instrument: Instrument):
        for split, images in (("test", task.test_images), ("train", task.images)):
            order = torch.randperm(len(images), generator=stream(0, f"measured {split} images"))
            for k in range(2):
                clean = images[order[10 * k : 10 * (k + 1)]].float() / 255
                control = Deformation.CIFAR10.sample(
                    10, generator=stream(0, f"measurement {split}-{k}")
                )
                deformed = Deformation.CIFAR10.spline((32, 32)).warp(clean, control)
                for found, expected in zip(instrument.pairs[f"{split}-{k}"], (clean, deformed)):
                    assert torch.equal(found, scale(expected, "standardized"))

    def test_strengths_are_of_one_and_the_same_deformation(
        self, task: Task, instrument: Instrument
    ):
        clean = scale(task.test_images[instrument.orders["test"][:10]], "unit")
        control = Deformation.CIFAR10.sample(10, generator=stream(0, "measurement test-0"))
        for strength in (0.25, 2.0):
            found, deformed = instrument.pairs[f"strength-{strength:g}"]
            assert torch.equal(found, instrument.pairs["test-0"][0])
            expected = Deformation.CIFAR10.spline((32, 32)).warp(clean, strength * control)
            assert torch.equal(deformed, scale(expected, "standardized"))

    def test_all_conditions_are_there(self, instrument: Instrument):
        assert list(instrument.pairs) == [
            "test-0",
            "test-1",
            "train-0",
            "train-1",
            "strength-0.25",
            "strength-2",
            "one-pixel-shift",
            "noise",
        ]
        assert len(instrument.calibration) == 40

    def test_few_images_are_calibrated_on_in_full_chunks(
        self, task: Task, monkeypatch: pytest.MonkeyPatch
    ):
        few = dataclasses.replace(task, images=task.images[:30], labels=task.labels[:30])
        assert len(Instrument(few, SPEC, TINY).calibration) == 30
        monkeypatch.setattr(protocol, "FORWARD_BATCH", 8)
        assert len(Instrument(few, SPEC, TINY).calibration) == 24

    @pytest.mark.parametrize(
        "change",
        [
            {"seed": 3},
            {"downsampling": "strided"},
            {"width": 0.5},
            {"recipe": dataclasses.replace(RECIPE, learning_rate=1.0)},
        ],
    )
    def test_they_are_the_same_for_every_variant_and_seed(
        self, change: dict, task: Task, instrument: Instrument
    ):
        other = Instrument(task, dataclasses.replace(SPEC, **change), TINY)
        assert torch.equal(other.calibration, instrument.calibration)
        for name, pair in instrument.pairs.items():
            assert all(map(torch.equal, pair, other.pairs[name])), name

    def test_random_labels_leave_the_images(self, task: Task, instrument: Instrument):
        other = Instrument(
            dataclasses.replace(task, labels=task.labels.flip(0)),
            dataclasses.replace(SPEC, task="random-labels"),
            TINY,
        )
        assert all(
            torch.equal(pair[1], other.pairs[name][1]) for name, pair in instrument.pairs.items()
        )

    def test_shifts_are_by_one_pixel(self, instrument: Instrument):
        clean, shifted = (x.numpy() for x in instrument.pairs["one-pixel-shift"])
        framed = np.pad(clean, [(0, 0), (0, 0), (1, 1), (1, 1)], mode="edge")
        neighbours = {
            "right": framed[:, :, 1:-1, 2:],
            "left": framed[:, :, 1:-1, :-2],
            "down": framed[:, :, 2:, 1:-1],
            "up": framed[:, :, :-2, 1:-1],
        }
        seen = [
            [name for name, x in neighbours.items() if np.allclose(x[k], image, atol=1e-4)]
            for k, image in enumerate(shifted)
        ]
        assert all(len(found) == 1 for found in seen)
        assert len({found[0] for found in seen}) >= 3

    def test_noise_has_the_norm_of_the_deformation(self, instrument: Instrument):
        clean, noisy = (x.numpy().reshape(10, -1) for x in instrument.pairs["noise"])
        _, deformed = (x.numpy().reshape(10, -1) for x in instrument.pairs["test-0"])
        np.testing.assert_allclose(
            np.linalg.norm(noisy - clean, axis=1),
            np.linalg.norm(deformed - clean, axis=1),
            rtol=1e-5,
        )
        noise = noisy - clean
        assert abs(np.corrcoef(noise)[np.triu_indices(10, 1)]).max() < 0.15, "one noise for all"
        assert abs((noise / noise.std(1, keepdims=True)).mean(1)).max() < 0.1

    @pytest.mark.parametrize(
        "data, side, expected",
        [
            ("cifar10", 32, (3, 2.0)),
            ("photos", 32, (3, 2.0)),
            ("mnist", 32, (3, 2.0)),
            ("imagenet", 224, (5, 10.0)),
            ("imagenet", 112, (5, 5.0)),
            ("tiny-imagenet", 64, (5, 10 * 64 / 224)),
        ],
    )
    def test_the_papers_deformation_for_each_set(self, data: str, side: int, expected: tuple):
        found = deformation_of(data, side)
        assert found.grid == expected[0] and found.max_displacement == pytest.approx(expected[1])

    def test_too_few_images_are_named(self, task: Task):
        with pytest.raises(ValueError, match="the protocol needs at least 80 test images, got 60"):
            Instrument(task, SPEC, dataclasses.replace(TINY, sets=8))
        with pytest.raises(ValueError, match="the protocol needs at least 61 test images, got 60"):
            Instrument(task, SPEC, dataclasses.replace(TINY, probes=61))


def at_the_input(of: Distances) -> dict[str, float]:
    return {name: values[0] for name, values in to_json(of).items()}


class TestLight:
    @pytest.mark.parametrize("distance", ["cosine", "euclidean"])
    def test_sensitivity_is_that_of_the_library(
        self, distance: str, light: Checkpoint, instrument: Instrument
    ):
        model = network()
        for measure, layers in (
            ("sensitivity", [*model.layers, "pool", "head"]),
            ("before_relu", [f"conv{b}_{c}.norm" for b in range(1, 5) for c in (1, 2)]),
        ):
            expected = metrics.sensitivity(model, *instrument.pairs["test-0"], layers, distance)
            assert list(expected) == layers
            np.testing.assert_allclose(
                getattr(getattr(light, measure), distance).normalized,
                list(expected.values()),
                rtol=1e-5,
            )

    def test_statistics_of_the_input_are_scipys(
        self, light: Checkpoint, full: Full, instrument: Instrument
    ):
        clean, deformed = (x.flatten(1).double().numpy() for x in instrument.pairs["test-0"])
        for distance, pair in (
            ("cosine", lambda a, b: 1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b)),
            ("euclidean", lambda a, b: np.linalg.norm(a - b)),
        ):
            moved, pairs = (
                np.array([pair(a, b) for a, b in zip(clean, deformed)]),
                pdist(clean, distance),
            )
            expected = {
                "mean": moved.mean(),
                "pairs_median": np.median(pairs),
                "pairs_mean": pairs.mean(),
                "normalized": moved.mean() / np.median(pairs),
            }
            found = at_the_input(getattr(light.sensitivity, distance))
            assert found == pytest.approx(expected, rel=1e-4)
            brief = at_the_input(getattr(full.conditions["test-0"], distance))
            if distance == "euclidean":
                assert brief.pop("mean_square") == pytest.approx((moved**2).mean(), rel=1e-4)
                assert brief.pop("pairs_mean_square") == pytest.approx((pairs**2).mean(), rel=1e-4)
            assert brief == pytest.approx(
                {name: expected[name] for name in ("mean", "normalized")}, rel=1e-4
            )

    def test_before_the_relu_is_what_batch_norm_returns(
        self, light: Checkpoint, instrument: Instrument
    ):
        model = network().eval()
        with torch.no_grad():
            before = [
                model.conv1_1.norm(model.conv1_1.conv(x)).flatten(1)
                for x in instrument.pairs["test-0"]
            ]
        assert before[0].min() < 0
        expected = metrics.normalized_distance(*before).item()
        assert light.before_relu.cosine.normalized[0] == pytest.approx(expected, rel=1e-4)
        assert light.sensitivity.cosine.normalized[1] != pytest.approx(expected, rel=1e-2)

    def test_calibrated_statistics_are_averages_over_the_images(self, instrument: Instrument):
        """Batch norm's statistics are of the convolutions' values, here by hand, pass by pass."""
        model, x = network("strided-relu"), scale(instrument.calibration, "standardized")[:32]
        found, seen = calibrated(model, x, 16), {}
        by_hand = copy.deepcopy(model).train()
        for name, module in by_hand.named_modules():
            if isinstance(module, nn.BatchNorm2d):
                module.register_forward_pre_hook(
                    lambda module, args, name=name: seen.setdefault(name, []).append(
                        args[0].detach().clone()
                    )
                )
        for chunk in (x[:16], x[16:]):
            by_hand(chunk)
        assert len(seen) == 12 and not any(module.training for module in found.modules())
        for name, chunks in seen.items():
            values = [chunk.double().transpose(0, 1).flatten(1).numpy() for chunk in chunks]
            norm = found.get_submodule(name)
            np.testing.assert_allclose(
                norm.running_mean, np.mean([v.mean(1) for v in values], 0), rtol=1e-4, atol=1e-5
            )
            np.testing.assert_allclose(
                norm.running_var,
                np.mean([v.var(1, ddof=1) for v in values], 0),
                rtol=1e-4,
                atol=1e-5,
            )

    def test_a_short_last_pass_would_weigh_too_much(self, instrument: Instrument):
        with pytest.raises(
            ValueError, match="images must be at most 16 or a multiple of it, got 24"
        ):
            calibrated(network(), scale(instrument.calibration[:24], "unit"), 16)

    def test_calibrated_sensitivity_is_that_of_the_calibrated_network(
        self, light: Checkpoint, instrument: Instrument
    ):
        model = network()
        twin = calibrated(model, scale(instrument.calibration, "standardized"))
        expected = metrics.sensitivity(
            twin, *instrument.pairs["test-0"], [*model.layers, "pool", "head"]
        )
        np.testing.assert_allclose(
            light.calibrated.cosine.normalized, list(expected.values()), rtol=1e-5
        )
        assert not np.allclose(
            light.calibrated.cosine.normalized,
            light.sensitivity.cosine.normalized,
            rtol=0.01,
        )

    def test_smoothness_of_every_bank(self, light: Checkpoint):
        model, start = network(), initial(network())
        names = [f"conv{b}_{c}" for b in range(1, 5) for c in (1, 2)]
        assert layers_of(model)["banks"] == names == list(start)
        for k, name in enumerate(names):
            w, w0 = (
                model.get_submodule(name).conv.weight.detach().double().numpy(),
                start[name].double().numpy(),
            )
            found = {measure: values[k] for measure, values in vars(light.smoothness).items()}
            framed = np.pad(w, [(0, 0), (0, 0), (1, 1), (1, 1)])
            assert found == pytest.approx(
                {
                    "kernel": (variations(w) / abs(w).sum((2, 3))).mean(),
                    "bank": variations(w).sum() / abs(w).sum(),
                    "zero_extended": variations(framed).sum() / abs(w).sum(),
                    "change_kernel": (variations(w - w0) / abs(w - w0).sum((2, 3))).mean(),
                    "change_bank": variations(w - w0).sum() / abs(w - w0).sum(),
                    "change_norm": np.linalg.norm(w - w0) / np.linalg.norm(w0),
                    "norm": np.linalg.norm(w),
                },
                rel=1e-4,
            )

    def test_a_network_that_has_not_moved_has_no_change_to_be_smooth(self, instrument: Instrument):
        model = network(trained=False)
        found = instrument.light(model, initial(model), 0, 0.0).smoothness
        assert found.change_norm == [0.0] * 8
        assert all(map(math.isnan, found.change_kernel + found.change_bank))

    def test_filters_that_are_zero_have_no_smoothness(self, instrument: Instrument):
        model = network()
        with torch.no_grad():
            model.conv1_2.conv.weight[0] = 0
        kept = model.conv1_2.conv.weight[1:].detach().double().numpy()
        expected = (variations(kept) / abs(kept).sum((2, 3))).mean()
        assert protocol.smoothness_of(model, initial(model)).kernel[1] == pytest.approx(
            expected, rel=1e-5
        )

    @pytest.mark.parametrize("count, where", [(24, "light"), (50, "full")])
    def test_probes_are_accuracies_and_flips(
        self,
        count: int,
        where: str,
        task: Task,
        instrument: Instrument,
        request: pytest.FixtureRequest,
    ):
        model = network().eval()
        test, train = instrument.orders["test"][:count], instrument.orders["train"][:count]
        control = Deformation.CIFAR10.sample(count, generator=stream(0, "measurement probes"))
        clean = scale(task.test_images[test], "unit")
        deformed = Deformation.CIFAR10.spline((32, 32)).warp(clean, control)
        with torch.no_grad():
            guess, other = (
                model(scale(x, "standardized")).argmax(1).numpy() for x in (clean, deformed)
            )
            logits = model(scale(task.images[train], "standardized")).double().numpy()
        labels, train_labels = task.test_labels[test].numpy(), task.labels[train].numpy()
        loss = np.log(np.exp(logits).sum(1)) - logits[range(count), train_labels]
        assert (
            0 < (guess != other).mean() < 1 and (guess == labels).mean() != (other == labels).mean()
        ), "nothing to tell apart"
        assert vars(request.getfixturevalue(where).probe) == pytest.approx(
            {
                "test_images": count,
                "test_accuracy": (guess == labels).mean(),
                "deformed_accuracy": (other == labels).mean(),
                "flip_rate": (guess != other).mean(),
                "train_images": count,
                "train_accuracy": (logits.argmax(1) == train_labels).mean(),
                "train_loss": loss.mean(),
            },
            rel=1e-4,
        )


def variations(w: np.ndarray) -> np.ndarray:
    return abs(np.diff(w, axis=2)).sum((2, 3)) + abs(np.diff(w, axis=3)).sum((2, 3))


class TestFull:
    def test_every_condition_is_measured_on_its_images(self, full: Full, instrument: Instrument):
        model = network()
        layers = [*model.layers, "pool", "head"]
        assert list(full.conditions) == list(instrument.pairs)
        for name in instrument.pairs:
            expected = metrics.sensitivity(model, *instrument.pairs[name], layers)
            np.testing.assert_allclose(
                full.conditions[name].cosine.normalized, list(expected.values()), rtol=1e-5
            )

    def test_second_moments_of_the_taps(self, full: Full):
        for k, (_name, module) in enumerate(
            m for m in network().named_modules() if isinstance(m[1], nn.Conv2d)
        ):
            taps = module.weight.detach().double().numpy().reshape(-1, 9)
            np.testing.assert_allclose(full.taps.mean[k], taps.mean(0), rtol=1e-4, atol=1e-6)
            moments = (taps[:, :, None] * taps[:, None, :]).mean(0)
            np.testing.assert_allclose(
                full.taps.second_moments[k], moments[np.triu_indices(9)], rtol=1e-4, atol=1e-6
            )

    def test_accuracies_on_more_images_come_at_the_end_only(
        self, instrument: Instrument, full: Full
    ):
        assert full.probe and not instrument.full(network(), last=False).probe


@pytest.mark.parametrize("variant", DOWNSAMPLINGS)
def test_measuring_leaves_the_network_alone(variant: str, instrument: Instrument):
    model = network(variant)
    before = {
        name: (value.data_ptr(), value.clone(), value.stride())
        for name, value in model.state_dict().items()
    }
    modes, state = [module.training for module in model.modules()], torch.random.get_rng_state()
    light = instrument.light(model, initial(model), 0, 0.0)
    full = instrument.full(model, last=True)
    for name, value in model.state_dict().items():
        pointer, old, stride = before[name]
        assert (
            value.data_ptr() == pointer and torch.equal(value, old) and value.stride() == stride
        ), name
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(p.grad is None for p in model.parameters()) and not any(
        module._forward_hooks for module in model.modules()
    )
    assert light.step == 0 and light.full is None and full.probe
    for measured in (light, full):
        values = to_json(measured)
        text = json.dumps(values, allow_nan=False)
        assert from_json(json.loads(text), type(measured)) == measured
    names = layers_of(model)
    for profile, layers in (
        (light.sensitivity, names["layers"]),
        (light.calibrated, names["layers"]),
        (light.before_relu, names["before_relu"]),
    ):
        lists = [*to_json(profile.cosine).values(), *to_json(profile.euclidean).values()]
        assert {len(values) for values in lists} == {len(layers)}
    of_filters = [*vars(light.smoothness).values(), *vars(full.taps).values()]
    assert {len(values) for values in of_filters} == {8}
    assert (
        len(names["before_relu"]) == (12 if variant == "strided-relu" else 8)
        and len(names["layers"]) == 15
    )


def test_variants_agree_to_the_bit_before_the_first_downsampling(instrument: Instrument):
    numbers, last = [], None
    for variant in DOWNSAMPLINGS:
        model = network(variant, trained=False)
        found = instrument.light(model, initial(model), 0, 0.0)
        profiles = [found.sensitivity, found.calibrated]
        both = [each for profile in profiles for each in (profile.cosine, profile.euclidean)]
        numbers.append([values[:3] for each in both for values in to_json(each).values()])
        assert found.sensitivity.cosine.normalized[-1] != last
        last = found.sensitivity.cosine.normalized[-1]
    assert all(other == numbers[0] for other in numbers)
