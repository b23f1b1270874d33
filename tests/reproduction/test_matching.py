"""Weights with the second moments of others: against SciPy, closed forms and brute force."""

from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch
from torch import Tensor

from deformlib import sensitivity
from deformlib.seeding import stream
from reproduction.experiments import matching, networks, protocol, runs, studies, tasks
from reproduction.experiments.matching import (
    REPLACEMENTS,
    convolutions,
    images_of,
    measure_matching,
    recoloured,
    replaced,
    second_moments,
)
from reproduction.experiments.records import MatchingRecord
from reproduction.experiments.specs import Matching, Recipe, Training
from reproduction.experiments.store import Store

TRAINING = Training("photos", "strided-relu", 0, Recipe(1, 8, 0.1), "quick-2", width=0.1)
SPEC = Matching(TRAINING, images=8, calibration=16)


def rough(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def moments_of(weight: Tensor) -> np.ndarray:
    """Brute force: kernel by kernel."""
    kernels = weight.double().reshape(-1, weight[0, 0].numel()).numpy()
    return sum(np.outer(kernel, kernel) for kernel in kernels) / len(kernels)


def target(size: int = 9, seed: int = 1) -> Tensor:
    half = rough(size, size, seed=seed)
    return half @ half.T + 0.1 * torch.eye(size, dtype=half.dtype)


@pytest.fixture(scope="module")
def pair() -> dict:
    """Before and "after": another seed, with a batch norm that is not as it begins."""
    found = {}
    for when, seed in (("before", 0), ("after", 1)):
        training = Training("photos", "strided-relu", seed, TRAINING.recipe, "quick-2", width=0.1)
        found[when] = networks.build(training, 10, 3).eval()
    for module in found["after"].modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5, generator=stream(0, "scale"))
            torch.nn.init.uniform_(module.bias, -0.5, 0.5, generator=stream(0, "shift"))
    for conv in convolutions(found["after"], 3).values():
        conv.weight.data += conv.weight.data.roll(1, 3)  # smoother, a little
    return found


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> tasks.Task:
    images = (255 * rough(600, 3, 32, 32).sigmoid()).to(torch.uint8)
    labels = torch.arange(600) % 10
    made = tasks.Task(images, labels, images.flip(0), labels, list("0123456789"), "of these images")
    monkeypatch.setattr(tasks, "load", lambda spec: {TRAINING: made}[spec])
    return made


@pytest.mark.parametrize("side", [2, 3])
def test_recoloured_kernels_have_the_second_moments_asked_for(side: int):
    weight, wanted = rough(8, 6, side, side), target(side * side)
    np.testing.assert_allclose(moments_of(recoloured(weight, wanted)), wanted, rtol=1e-9, atol=1e-9)
    single = recoloured(weight.float(), wanted)
    assert single.dtype == torch.float32 and single.shape == weight.shape
    np.testing.assert_allclose(moments_of(single), wanted, rtol=1e-4, atol=1e-4)


def test_the_map_is_that_of_least_change():
    """In mean square: Bures' distance, and no more than after any rotation in between."""
    weight, wanted = rough(40, 5, 3, 3), target()
    before = moments_of(weight)
    root = scipy.linalg.sqrtm(before)
    cross = scipy.linalg.sqrtm(root @ wanted.numpy() @ root)
    least = np.trace(before) + np.trace(wanted.numpy()) - 2 * np.trace(cross)
    change = recoloured(weight, wanted) - weight
    assert change.square().sum((2, 3)).mean().item() == pytest.approx(least, rel=1e-9)
    whitened = weight.flatten(2).numpy() @ np.linalg.inv(root)
    for rotation in (np.eye(9), *scipy.stats.ortho_group.rvs(9, size=20, random_state=0)):
        other = whitened @ rotation @ scipy.linalg.sqrtm(wanted.numpy())
        np.testing.assert_allclose(moments_of(torch.tensor(other)[..., None]), wanted, rtol=1e-8)
        assert ((other - weight.flatten(2).numpy()) ** 2).sum(2).mean() >= least


def test_kernels_that_have_the_second_moments_already_stay_as_they_are():
    weight = rough(8, 6, 3, 3)
    torch.testing.assert_close(recoloured(weight, second_moments(weight)), weight)
    doubled = recoloured(weight, 4 * second_moments(weight))
    torch.testing.assert_close(doubled, 2 * weight)


def test_independent_taps_are_rescaled_each_by_itself():
    kernels = torch.cat([torch.eye(9), -torch.eye(9)]).double() * torch.arange(1.0, 10)
    wanted = torch.arange(9.0, 0, -1).double()
    found = recoloured(kernels.view(2, 9, 3, 3), wanted.diag()).view(18, 9)
    torch.testing.assert_close(found, kernels * (9 * wanted).sqrt() / torch.arange(1.0, 10))


def test_second_moments_without_full_rank():
    flat = torch.full((9, 9), 2.0, dtype=torch.float64)
    found = recoloured(rough(8, 6, 3, 3), flat)
    np.testing.assert_allclose(moments_of(found), flat, rtol=1e-9)
    torch.testing.assert_close(found, found.mean((2, 3), keepdim=True).expand_as(found))
    again = recoloured(
        found.float(), 3 * flat
    )  # from singular moments, in float32, to singular ones
    np.testing.assert_allclose(moments_of(again), 3 * flat, rtol=1e-5)
    assert not recoloured(found, torch.zeros_like(flat)).any()
    with pytest.raises(ValueError, match="moments must be zero where those of weight are zero"):
        recoloured(found.float(), target())
    few = rough(2, 3, 3, 3)  # six kernels span six of nine dimensions
    with pytest.raises(ValueError, match="moments must be zero"):
        recoloured(few, target())


def as_sets(weight: Tensor) -> list:
    """Kernels in an order of their own, filter by filter."""
    return [sorted(kernels.tolist()) for kernels in weight.flatten(2)]


def weights_of(name: str, before: Tensor, after: Tensor) -> Tensor:
    return REPLACEMENTS[name].weights(before, after, stream(0, "a test"))


def test_what_each_rung_of_the_ladder_keeps():
    before, after = rough(7, 6, 3, 3), rough(7, 6, 3, 3, seed=1) + 1
    given = {name: weights_of(name, before, after) for name in matching.LADDER}
    for weight in given.values():
        np.testing.assert_allclose(moments_of(weight), moments_of(after), rtol=1e-8)
    for name in ("kernels", "filters", "layers"):
        assert as_sets(given[name].reshape(1, 42, 3, 3)) == as_sets(after.reshape(1, 42, 3, 3))
    assert as_sets(given["kernels"]) != as_sets(after)
    assert as_sets(given["filters"]) == as_sets(given["layers"]) == as_sets(after)
    orders = [
        [[*map(str, kernels)].index(str(k)) for k in changed]
        for kernels, changed in zip(after, given["layers"], strict=True)
    ]
    assert all(order == orders[0] for order in orders) and orders[0] != sorted(orders[0])
    scattered = [
        [[*map(str, kernels)].index(str(k)) for k in changed]
        for kernels, changed in zip(after, given["filters"], strict=True)
    ]
    assert any(order != scattered[0] for order in scattered)
    torch.testing.assert_close(given["weights"], after)
    colours = rough(7, 3, 3, 3)
    torch.testing.assert_close(weights_of("layers", colours, colours), colours)


def test_what_is_necessary_and_what_is_of_the_change():
    before, after = rough(7, 6, 3, 3), rough(7, 6, 3, 3, seed=1) + 1
    without = weights_of("without", before, after)
    np.testing.assert_allclose(moments_of(without), moments_of(before), rtol=1e-8)
    added = weights_of("change", before, after) - before
    np.testing.assert_allclose(moments_of(added), moments_of(after - before), rtol=1e-8)
    assert np.corrcoef(added.flatten(), (after - before).flatten())[0, 1] < 0.9
    torch.testing.assert_close(weights_of("change", before, before), before)


def test_a_replacement_changes_convolutions_and_nothing_else(pair: dict):
    kept = {when: {k: v.clone() for k, v in net.state_dict().items()} for when, net in pair.items()}
    for name, replacement in REPLACEMENTS.items():
        found, host = replaced(pair, name, seed=0).state_dict(), kept[replacement.host]
        touched = {k for k, v in found.items() if not torch.equal(v, host[k])}
        layers = {f"{k}.weight" for k in convolutions(pair["after"], replacement.side)}
        assert touched == layers, name
    three = {"conv1_1.conv", "conv4_2.conv"}
    assert three <= convolutions(pair["after"], 3).keys()
    assert {"down1.conv", *three} <= convolutions(pair["after"], 2).keys()
    assert "down1.conv" not in convolutions(pair["after"], 3)
    for when, network in pair.items():
        assert all(torch.equal(v, kept[when][k]) for k, v in network.state_dict().items())


def test_draws_are_the_same_whatever_downsamples(pair: dict):
    strided = replaced(pair, "kernels", seed=3)
    pooled = {}
    for when, network in pair.items():
        training = Training("photos", "max-pool", 0, TRAINING.recipe, "quick-2", width=0.1)
        pooled[when] = networks.build(training, 10, 3)
        pooled[when].load_state_dict(network.state_dict(), strict=False)
    layer = "conv4_2.conv.weight"
    again = replaced(pooled, "kernels", seed=3).state_dict()[layer]
    assert torch.equal(strided.state_dict()[layer], again)
    assert not torch.equal(replaced(pooled, "kernels", seed=4).state_dict()[layer], again)


def test_images_are_those_of_the_records(task: tasks.Task):
    instrument = protocol.Instrument(task, TRAINING, protocol.PROTOCOLS["quick-2"])
    clean, deformed, others = images_of(TRAINING, task, 64, 256)
    assert torch.equal(clean, instrument.pairs["test-0"][0])
    assert torch.equal(deformed, instrument.pairs["test-0"][1])
    assert torch.equal(others, tasks.scale(instrument.calibration, "unit"))


def test_a_record_holds_sensitivities_of_calibrated_networks(task: tasks.Task, pair: dict):
    done: list[float] = []
    found, identity = measure_matching(SPEC, pair, done.append)
    assert identity == "of these images" and done == sorted(done) and done[-1] == 1
    assert list(found.sensitivity) == list(found.smoothness) == ["before", "after", *REPLACEMENTS]
    clean, deformed, others = images_of(TRAINING, task, 8, 16)
    for name, network in {**pair, "kernels": replaced(pair, "kernels", 0)}.items():
        fresh = protocol.calibrated(network, others)
        expected = sensitivity(fresh, clean, deformed, found.layers)
        assert found.sensitivity[name] == pytest.approx(list(expected.values()))
    assert found.layers[0] == "input" and found.layers[-1] == "down4"
    assert found.filters == list(convolutions(pair["after"], 3))
    smooth = {name: np.mean(values) for name, values in found.smoothness.items()}
    assert (
        smooth["kernels"] == pytest.approx(smooth["after"]) and smooth["after"] < smooth["before"]
    )
    assert smooth["without"] > smooth["after"] and smooth["moments"] < smooth["before"]


def test_batch_norm_makes_the_size_of_second_moments_irrelevant(task: tasks.Task, pair: dict):
    clean, deformed, others = images_of(TRAINING, task, 8, 16)
    small = replaced(pair, "moments", 0)
    large = replaced(pair, "moments", 0)
    for conv in convolutions(large, 2).values():
        conv.weight.data *= 8
    values = [
        list(sensitivity(protocol.calibrated(net, others), clean, deformed, net.layers).values())
        for net in (small, large)
    ]
    assert values[0] == pytest.approx(values[1], rel=0.01)


def test_a_spec_is_executed_into_a_record_that_reads_back(
    task: tasks.Task, pair: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DEFORMLIB_CACHE", str(tmp_path / "cache"))
    store = Store(tmp_path / "store")
    with pytest.raises(FileNotFoundError, match="needs the weights of photos-strided-relu-0"):
        runs.execute(SPEC, store)
    store.save_weights(TRAINING, pair["after"].state_dict())
    record = runs.execute(SPEC, store)
    assert record.spec == SPEC and store.load(SPEC) == record
    assert isinstance(record.measurements, MatchingRecord)
    assert record.measurements.sensitivity.keys() == {"before", "after", *REPLACEMENTS}
    assert SPEC.slug == "photos-strided-relu-0-matching" and SPEC.downsampling == "strided-relu"


@pytest.mark.parametrize("mode", ["full", "quick"])
def test_studies_are_of_networks_whose_weights_are_kept(mode: str):
    kept = studies.keeping(mode)
    for name in ("cifar10-matching", "cifar10-random-labels-matching", "cifar10-smoothing"):
        assert {spec.training for spec in studies.study(name).specs(mode)} <= kept
