"""What a changed network still gets right, where that is known: on tasks made by hand."""

import itertools

import pytest
import torch
from torch import nn

from deformlib import models
from deformlib.models import GlobalAveragePool
from deformlib.seeding import stream
from reproduction.experiments import data, interventions, networks, protocol, runs, studies
from reproduction.experiments.interventions import (
    INTERVENTIONS,
    Shuffle,
    accuracy,
    averaged,
    changed,
    measure_intervention,
    shuffled,
)
from reproduction.experiments.records import (
    Accuracy,
    ByStatistics,
    InterventionRecord,
    Scopes,
)
from reproduction.experiments.specs import Intervention, Recipe, Training
from reproduction.experiments.store import Store
from reproduction.experiments.tasks import scale

TRAINING = Training(
    "photos", "max-pool", 0, Recipe(1, 8, 0.1, pixels="standardized"), "quick-2", width=0.1, size=32
)
SPEC = Intervention(TRAINING, 24, 16)


@pytest.fixture
def images(monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    """40 test images whose labels are what an untrained network makes of them."""
    x = torch.randint(256, (40, 3, 32, 32), generator=torch.Generator().manual_seed(0)).to(
        torch.uint8
    )
    labels = networks.build(TRAINING, 10, 3).eval()(scale(x, "standardized")).argmax(1)
    monkeypatch.setattr(
        data, "load", lambda name, split, size=None: {32: (x, labels, list("0123456789"))}[size]
    )
    return x


class Edges(nn.Module):
    """1 where there is more than `threshold` of what one filter finds, on average, else 0."""

    def __init__(self, taps: list[list[float]], threshold: float) -> None:
        super().__init__()
        self.layer, self.pool, self.threshold = nn.Sequential(), GlobalAveragePool(), threshold
        self.layer.conv = nn.Conv2d(1, 1, 3, padding=1, bias=False)
        self.layer.relu = nn.ReLU()
        self.layer.conv.weight.data[:] = torch.tensor(taps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = self.pool(self.layer(x))  # (N, 1)
        return torch.cat([torch.full_like(found, self.threshold), found], 1)


DARK_LEFT_OF_BRIGHT, ONE_PIXEL = (
    [[0.0, 0, 0], [-1, 1, 0], [0, 0, 0]],
    [[0.0, 0, 0], [0, 1, 0], [0, 0, 0]],
)


def halves_and_stripes() -> tuple[torch.Tensor, torch.Tensor]:
    """Images 6x6: ten with a bright upper half (0: three edges in 36 pixels, at the dark border),
    ten with three bright columns, twice as bright (1: 18 edges, twice as strong)."""
    half, stripes = torch.zeros(2, 10, 1, 6, 6)
    half[:, :, :3], stripes[..., 1::2] = 1.0, 2.0
    return torch.cat([half, stripes]), torch.tensor([0] * 10 + [1] * 10)


def test_positions_are_permuted_and_nothing_else():
    x = torch.arange(2 * 3 * 4 * 5, dtype=torch.float32).view(2, 3, 4, 5)
    out = Shuffle("a")(x)
    assert out.shape == x.shape and not torch.equal(out, x)
    order = [out[n, 0].flatten() - out[n, 0].min() for n in range(2)]
    for n, channel in itertools.product(range(2), range(3)):
        assert torch.equal(out[n, channel].flatten().sort().values, x[n, channel].flatten())
        assert torch.equal(out[n, channel].flatten() - out[n, channel].min(), order[n]), (
            "channels move together"
        )
    assert not torch.equal(*order), "every image has a permutation of its own"
    assert torch.equal(Shuffle("a")(x), out) and not torch.equal(Shuffle("b")(x), out)


def test_averaged_filters_are_constant_and_the_layer_is_left_alone():
    layer = models.cifar10_vgg("max-pool", width=0.2).conv1_2
    before = layer.conv.weight.detach().clone()
    weight = averaged("conv1_2", layer).conv.weight
    torch.testing.assert_close(weight, before.mean((2, 3), keepdim=True).expand_as(before))
    assert torch.equal(layer.conv.weight, before) and weight.shape == before.shape


def test_a_network_that_needs_positions():
    (x, labels), model = (
        halves_and_stripes(),
        Edges(DARK_LEFT_OF_BRIGHT, threshold=0.15),
    )  # 3/36 below, 36/36 above
    assert accuracy(model, x, labels) == 1
    assert accuracy(changed(model, ["layer"], lambda name, layer: layer), x, labels) == 1
    assert accuracy(changed(model, ["layer"], averaged), x, labels) == 0.5, (
        "the taps add up to nothing"
    )
    torn = changed(model, ["layer"], shuffled)
    assert (
        torch.equal(torn(x), model(Shuffle("positions layer")(x)))
        and accuracy(torn, x, labels) <= 0.6
    )


def test_a_network_that_does_not():
    (x, labels), model = (
        halves_and_stripes(),
        Edges(ONE_PIXEL, threshold=0.75),
    )  # means of 0.5 and 1
    assert (
        accuracy(model, x, labels) == accuracy(changed(model, ["layer"], shuffled), x, labels) == 1
    )


def test_changes_are_made_where_they_were_asked_for():
    torch.manual_seed(0)
    model = models.cifar10_vgg("strided-relu", width=0.1).eval()
    other = changed(model, ["conv2_1", "conv4_2"], averaged)
    moved = [
        name
        for name, weight in other.state_dict().items()
        if not torch.equal(weight, model.state_dict()[name])
    ]
    assert moved == ["conv2_1.conv.weight", "conv4_2.conv.weight"]
    other = changed(model, ["conv3_1"], shuffled)
    assert list(dict(other.named_children())) == list(dict(model.named_children()))
    x = torch.rand(2, 3, 32, 32)
    assert not torch.allclose(other(x), model(x)) and torch.allclose(
        changed(model, [], shuffled)(x), model(x)
    )


def test_a_record_holds_every_change_of_every_bank(
    images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
):
    fractions = []
    found, identity = measure_intervention(SPEC, networks.build(TRAINING, 10, 3), fractions.append)
    banks = ["conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1", "conv3_2", "conv4_1", "conv4_2"]
    assert found.banks == banks and (found.images, found.classes) == (24, 10)
    assert found.accuracy.running == 1, "the labels are the network's own"
    assert fractions == sorted(fractions) and fractions[-1] == 1 and len(identity) == 12
    blind, torn = (networks.build(TRAINING, 10, 3) for _ in range(2))
    blind.conv1_1.conv.weight.data[:] = blind.conv1_1.conv.weight.data.mean((2, 3), keepdim=True)
    torn.conv1_1.register_forward_pre_hook(lambda layer, args: Shuffle("positions conv1_1")(*args))
    order = torch.randperm(40, generator=stream(0, "measured test images"))
    labels, (seen, others) = (
        data.load("photos", "test", size=32)[1][order[:24]],
        scale(images[order], "standardized").split([24, 16]),
    )
    for name, model in {"averaged": blind, "shuffled": torn}.items():
        for statistics, network in (
            ("running", model),
            ("calibrated", protocol.calibrated(model, others)),
        ):
            assert (
                getattr(getattr(found, name), statistics).alone[0]
                == (network.eval()(seen).argmax(1) == labels).double().mean()
            ), (name, statistics)


def test_a_change_is_made_in_one_layer_alone_and_in_all_above_it(
    images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
):
    """With a change that changes nothing."""
    asked = []
    nothing = {name: lambda name, layer: asked.append(name) or layer for name in INTERVENTIONS}
    monkeypatch.setattr(interventions, "INTERVENTIONS", nothing)
    network = networks.build(TRAINING, 10, 3)
    found, _ = measure_intervention(SPEC, network, lambda fraction: None)
    banks = found.banks
    assert asked == 2 * [name for k in range(8) for name in (banks[k], *banks[k:])]
    running, calibrated = ([value] * 8 for value in vars(found.accuracy).values())
    unchanged = ByStatistics(Scopes(running, running), Scopes(calibrated, calibrated))
    assert found.shuffled == found.averaged == unchanged


def test_the_images_are_those_of_the_probes(images: torch.Tensor, monkeypatch: pytest.MonkeyPatch):
    seen = []
    monkeypatch.setattr(interventions, "accuracy", lambda model, x, labels: seen.append(x) or 0.5)
    calibrated = []
    monkeypatch.setattr(
        interventions.protocol, "calibrated", lambda model, x: calibrated.append(x) or model
    )
    measure_intervention(SPEC, networks.build(TRAINING, 10, 3), lambda fraction: None)
    order = torch.randperm(40, generator=stream(0, "measured test images"))
    assert all(torch.equal(x, scale(images[order[:24]], "standardized")) for x in seen)
    assert all(torch.equal(x, scale(images[order[24:]], "standardized")) for x in calibrated)
    with pytest.raises(
        ValueError, match=r"images \+ calibration must be at most 40 for photos, got 41"
    ):
        measure_intervention(
            Intervention(TRAINING, 25, 16), networks.build(TRAINING, 10, 3), lambda fraction: None
        )


def test_a_run_starts_from_the_weights_kept(
    images: torch.Tensor, tmp_path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DEFORMLIB_CACHE", str(tmp_path / "cache"))
    nothing = ByStatistics(Scopes([], []), Scopes([], []))
    monkeypatch.setattr(
        runs,
        "measure_intervention",
        lambda spec, model, progress: (
            InterventionRecord(model.seen, 1, 1, Accuracy(1, 1), nothing, nothing),
            "abc",
        ),
    )
    monkeypatch.setattr(
        runs, "restore", lambda spec, tensors: type("Model", (), {"seen": [spec.slug, *tensors]})
    )
    results = Store(tmp_path / "results")
    with pytest.raises(
        FileNotFoundError,
        match=r"needs the weights of photos-max-pool-0, and there is no .*safetensors",
    ):
        runs.execute(SPEC, results)
    results.save_weights(TRAINING, {"w": torch.ones(1)})
    record = runs.execute(SPEC, results)
    assert (
        record.measurements.banks == ["photos-max-pool-0", "w"]
        and record.provenance["data"] == "abc"
    )
    assert results.path(SPEC).name.startswith("photos-max-pool-0-positions-") and record.provenance[
        "seconds"
    ].keys() == {"measuring"}
    assert not results.weights_path(SPEC).exists()


def test_an_unknown_name_in_the_training_is_refused(tmp_path):
    spec = Intervention(Training("photos", "maxpool", 0, Recipe(1, 8, 0.1), "quick-2"), 24, 16)
    with pytest.raises(ValueError, match=r"downsampling must be one of .*got 'maxpool'"):
        runs.execute(spec, Store(tmp_path))


@pytest.mark.parametrize("mode", studies.MODES)
def test_the_study_is_of_networks_whose_weights_are_kept(mode: str):
    networks = studies.study("cifar10")
    for spec in studies.study("cifar10-positions").specs(mode):
        assert spec.training in networks.specs(mode, networks.weights)
        assert (spec.downsampling, spec.seed, spec.data) == (
            spec.training.downsampling,
            0,
            spec.training.data,
        )
