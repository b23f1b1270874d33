"""Networks at initialization on large images, and filters drawn anew, against the plain way."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from deformlib import filters, metrics, models, representations
from deformlib.seeding import stream
from reproduction.experiments import data, initialization, networks, protocol, runs
from reproduction.experiments.records import ResamplingRecord, to_json
from reproduction.experiments.specs import Initialization, Resampling
from reproduction.experiments.store import Store
from reproduction.experiments.tasks import scale

SPEC = Initialization("photos", "strided-relu", 1, 20, 32, width=0.1, size=64)


@pytest.fixture
def photographs(monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    """60 test images of 64x64, smooth enough to be deformed."""
    small = torch.from_numpy(np.random.default_rng(0).random((60, 3, 8, 8), dtype=np.float32))
    images = (torch.nn.functional.interpolate(small, size=64, mode="bicubic").clamp(0, 1) * 255).to(
        torch.uint8
    )
    monkeypatch.setattr(
        data,
        "load",
        lambda name, split, size=None: (images, torch.zeros(60, dtype=torch.long), ["one"]),
    )
    return images


@pytest.mark.parametrize("variant", models.DOWNSAMPLINGS)
def test_advancing_gives_the_representations(variant: str):
    model = models.imagenet_vgg(
        variant, width=0.1, generator=torch.Generator().manual_seed(0)
    ).eval()
    x = torch.rand(initialization.LAYER_BATCH + 5, 3, 32, 32)
    layers = [*model.layers, "pool", "head"]
    expected = representations.visit(model, x.clone(), layers, torch.clone)
    found = [r.clone() for r in initialization.advance(model, x.clone())]
    assert len(found) == len(layers) == 21
    for layer, r in zip(layers, found):
        torch.testing.assert_close(r, expected[layer], rtol=1e-4, atol=1e-6)


def test_a_layer_takes_the_place_of_its_input_where_it_fits():
    model = models.imagenet_vgg("max-pool", width=0.1).eval()
    places = [r.data_ptr() for r in initialization.advance(model, torch.rand(2, 3, 32, 32))]
    names = [*model.layers, "pool", "head"]
    assert (
        places[names.index("conv1_1")]
        == places[names.index("conv1_2")]
        != places[names.index("input")]
    )


def test_a_network_is_measured_as_by_sensitivity(photographs: torch.Tensor):
    model = networks.build(SPEC, 1000, 3)
    found, identity = initialization.measure_initialization(SPEC, model, lambda fraction: None)
    order = torch.randperm(60, generator=stream(0, "measured test images"))
    clean, others = (scale(photographs[chosen], "unit") for chosen in (order[:20], order[20:52]))
    deformation = protocol.deformation_of("photos", 64)
    control = deformation.sample(20, generator=stream(0, "measurement test-0"))
    deformed = deformation.spline((64, 64)).warp(clean, control)
    layers = [*model.layers, "pool", "head"]
    assert found.layers == layers and found.examples == 20 and len(found.banks) == 13
    [entry] = found.checkpoints
    for of, network in (
        (entry.sensitivity, model),
        (entry.calibrated, protocol.calibrated(model, others, 16)),
    ):
        for distance in ("cosine", "euclidean"):
            expected = metrics.sensitivity(network, clean, deformed, layers, distance)
            assert getattr(of, distance).normalized == pytest.approx(
                list(expected.values()), rel=1e-4
            )
    assert entry.smoothness.kernel == pytest.approx(
        list(filters.smoothness(model, "kernel").values()), rel=1e-5
    )
    assert not np.allclose(
        entry.calibrated.cosine.normalized,
        entry.sensitivity.cosine.normalized,
        rtol=0.05,
    )
    assert identity == data.identity(photographs, torch.zeros(60, dtype=torch.long))


def test_further_sets_have_images_and_deformations_of_their_own(photographs: torch.Tensor):
    spec = dataclasses.replace(SPEC, images=14, calibration=16)
    model = networks.build(spec, 1000, 3)
    one, three = (
        initialization.measure_initialization(
            dataclasses.replace(spec, sets=sets), model, lambda fraction: None
        )[0]
        for sets in (None, 3)
    )
    [entry], [plain] = three.checkpoints, one.checkpoints
    assert dataclasses.replace(entry, full=None) == plain
    assert to_json(plain).keys() == to_json(entry).keys() - {"full"}
    order, deformation = (
        torch.randperm(60, generator=stream(0, "measured test images")),
        protocol.deformation_of("photos", 64),
    )
    assert list(entry.full.conditions) == ["test-0", "test-1", "test-2"]
    for start, (name, found) in zip((0, 30, 44), entry.full.conditions.items()):
        clean = scale(photographs[order[start : start + 14]], "unit")
        deformed = deformation.spline((64, 64)).warp(
            clean, deformation.sample(14, generator=stream(0, f"measurement {name}"))
        )
        for distance in ("cosine", "euclidean"):
            expected = metrics.sensitivity(
                model, clean, deformed, [*model.layers, "pool", "head"], distance
            )
            assert getattr(found, distance).normalized == pytest.approx(
                list(expected.values()), rel=1e-4
            )


def test_smoothing_changes_filters_and_nothing_else(photographs: torch.Tensor):
    plain, smooth, identical = (
        networks.build(dataclasses.replace(SPEC, smoothing=sigma), 1000, 3)
        for sigma in (None, 0.5, 0.1)
    )
    expected = models.initialize(
        models.imagenet_vgg("strided-relu", width=0.1),
        generator=stream(1, "initialization"),
        smoothing=0.5,
    )
    for name, value in smooth.state_dict().items():
        assert torch.equal(value, expected.state_dict()[name])
        changed = name.startswith("conv") and name.endswith("conv.weight")
        assert torch.equal(value, plain.state_dict()[name]) != changed, name
        torch.testing.assert_close(plain.state_dict()[name], identical.state_dict()[name])
    found, _ = initialization.measure_initialization(
        dataclasses.replace(SPEC, smoothing=0.5, calibration=0), smooth, lambda fraction: None
    )
    [entry] = found.checkpoints
    assert entry.calibrated is None and max(entry.smoothness.kernel) < 1.75


def test_too_few_images_are_refused(photographs: torch.Tensor):
    with pytest.raises(
        ValueError, match=r"images \+ calibration \+ sets must be at most 60 for photos, got 72"
    ):
        initialization.measure_initialization(
            dataclasses.replace(SPEC, sets=2), None, lambda fraction: None
        )
    with pytest.raises(
        ValueError, match=r"images \+ calibration must be at most 60 for photos, got 65"
    ):
        initialization.measure_initialization(
            dataclasses.replace(SPEC, images=33), None, lambda fraction: None
        )


def test_an_initialization_becomes_a_record(
    photographs: torch.Tensor, tmp_path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DEFORMLIB_CACHE", str(tmp_path / "cache"))
    fractions: list[float] = []
    record = runs.execute(SPEC, Store(tmp_path), progress=fractions.append)
    assert Store(tmp_path).load(SPEC) == record and record.provenance["seconds"].keys() == {
        "measuring"
    }
    assert fractions == sorted(fractions) and fractions[-1] == pytest.approx(1)


@pytest.fixture(scope="module")
def found() -> ResamplingRecord:
    return initialization.measure_resampling(
        Resampling("cifar10_vgg", 40, 0),
        models.cifar10_vgg("max-pool", width=0.25),
        lambda fraction: None,
    )


class TestResampling:
    def test_means_are_the_closed_form_and_the_footnote(self, found: ResamplingRecord):
        for k, mean in enumerate(found.bank.mean):
            kernels = found.bank.deviation[k]
            assert mean == pytest.approx(
                initialization.expected_variation(), abs=5 * kernels / math.sqrt(40) + 1e-3
            )
        assert found.bank.mean[-1] == pytest.approx(1.857, abs=1e-3)
        assert found.kernel.mean[-1] == pytest.approx(1.870, abs=2e-3)

    def test_deviations_fall_with_the_root_of_the_number_of_kernels(self, found: ResamplingRecord):
        model = models.cifar10_vgg("max-pool", width=0.25)
        kernels = np.array(
            sorted(bank.shape[:2].numel() for bank in protocol.banks_of(model).values())
        )
        single = 0.0341 * math.sqrt(96)  # footnote 1's 0.035 is of the first layer's 96 kernels
        np.testing.assert_allclose(found.kernel.deviation * np.sqrt(kernels), single, rtol=0.35)
        assert found.kernel.draws == found.bank.draws == [40] * len(kernels)

    def test_banks_of_the_same_size_are_drawn_once(self):
        banks = initialization.measure_resampling(
            Resampling("imagenet_vgg", 2, 0),
            models.imagenet_vgg("max-pool", width=0.1),
            lambda fraction: None,
        ).banks
        assert banks == [
            "conv1_1",
            "conv1_2",
            "conv2_1",
            "conv2_2",
            "conv3_1",
            "conv3_2",
            "conv4_1",
            "conv4_2",
        ]

    def test_the_draws_depend_on_the_seed_alone(self):
        model = models.cifar10_vgg("max-pool", width=0.1)
        one, again, other = (
            initialization.measure_resampling(
                Resampling("cifar10_vgg", 3, seed), model, lambda fraction: None
            )
            for seed in (0, 0, 1)
        )
        assert one == again != other


@pytest.mark.parametrize("cutoff", [1.0, 2.0])
def test_expected_variation_is_that_of_a_fine_grid(cutoff: float):
    x = np.linspace(-cutoff, cutoff, 2401)
    p = np.exp(-(x**2) / 2) / np.exp(-(x**2) / 2).sum()
    ratio = (abs(x[:, None] - x) * p[:, None] * p).sum() / (abs(x) * p).sum()
    assert initialization.expected_variation(cutoff) == pytest.approx(12 / 9 * ratio, rel=1e-3)


def test_expected_variation_without_truncation():
    assert initialization.expected_variation(math.inf) == pytest.approx(
        4 * math.sqrt(2) / 3, rel=1e-6
    )
    assert initialization.expected_variation() == pytest.approx(1.857, abs=5e-4)
