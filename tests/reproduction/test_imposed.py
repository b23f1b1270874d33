"""Smoothness imposed: gradients against differences, angles by hand, a few steps of training."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deformlib import Deformation, deform, models, sensitivity, smoothness
from deformlib.filters import filters_of
from deformlib.seeding import stream
from reproduction.experiments import networks, protocol, runs, tasks
from reproduction.experiments.imposed import (
    penalize,
    roughness,
    smoothed_and_random,
    turned_as_far,
    with_deformations,
)
from reproduction.experiments.matching import images_of
from reproduction.experiments.records import SmoothingRecord
from reproduction.experiments.specs import Recipe, Smoothing, Training
from reproduction.experiments.store import Store
from reproduction.experiments.training import State, train

RECIPE = Recipe(1, 8, 0.05, momentum=0.0, warmup=0.0, schedule="constant")
TRAINING = Training("photos", "max-pool", 0, RECIPE, "quick-2", width=0.1)


def network() -> models.VGG:
    return networks.build(TRAINING, 10, 3)


def rough(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def task() -> tasks.Task:
    images = (255 * rough(48, 3, 32, 32).sigmoid()).to(torch.uint8)
    labels = torch.arange(48) % 10
    return tasks.Task(images, labels, images.flip(0), labels, list("0123456789"), "of these images")


def test_roughness_is_a_sum_over_layers_and_knows_no_scale():
    model = network()
    variations = smoothness(model, "bank").values()
    assert roughness(model).item() == pytest.approx(sum(variations)) and len(variations) == 8
    for weight in filters_of(model).values():
        weight.data *= 5
    assert roughness(model).item() == pytest.approx(sum(variations))


def test_its_gradient_is_that_of_differences_and_shrinks_no_filter():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 3), nn.Conv2d(2, 2, 2)).double()
    roughness(model).backward()
    for conv in model[:2]:
        assert (conv.weight * conv.weight.grad).sum().item() == pytest.approx(0, abs=1e-12)
        gradient, step = conv.weight.grad[1, 1, 1, 1].item(), 1e-6
        conv.weight.data[1, 1, 1, 1] += step
        above = roughness(model).item()
        conv.weight.data[1, 1, 1, 1] -= 2 * step
        assert (above - roughness(model).item()) / (2 * step) == pytest.approx(gradient, rel=1e-6)
        conv.weight.data[1, 1, 1, 1] += step
    assert model[2].weight.grad is None, "2x2 kernels are no filters"


@pytest.mark.parametrize("coefficient", [0.3, -0.3])
def test_a_step_follows_the_gradient_of_loss_and_penalty(task: tasks.Task, coefficient: float):
    model, expected = network(), network().to(memory_format=torch.channels_last)
    state = State.start(model, RECIPE)
    penalize(state, coefficient)
    one = tasks.Task(*[x[:8] for x in (task.images, task.labels)] * 2, task.classes, "")
    losses = []
    train(
        state,
        one,
        RECIPE,
        0,
        after_epoch=lambda epoch: losses.append(epoch.loss),
        precision="float32",
    )
    [(images, labels)] = tasks.batches(one, RECIPE, 0, 0)
    loss = F.cross_entropy(expected.train()(images), labels)
    (loss + coefficient * roughness(expected)).backward()
    for ours, theirs in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs - 0.05 * theirs.grad, rtol=1e-4, atol=1e-6)
    assert losses == pytest.approx([loss.item()]), "the penalty is no part of the reported loss"


def test_a_positive_penalty_smooths_and_a_negative_one_roughens(task: tasks.Task):
    found = {}
    for coefficient in (-1.0, 0.0, 1.0):
        state = State.start(network(), RECIPE)
        handle = penalize(state, coefficient)
        train(state, task, RECIPE, 0)
        found[coefficient] = roughness(state.model).item()
        handle.remove()
        before = roughness(state.model).item()
        state.optimizer.zero_grad()
        state.optimizer.step()
        assert roughness(state.model).item() == before, "no gradient once the handle is removed"
    assert found[1.0] < found[0.0] - 0.05 and found[-1.0] > found[0.0] + 0.05


def test_training_sees_deformed_images_and_testing_does_not(task: tasks.Task):
    varied = with_deformations(task, Deformation.CIFAR10)
    assert torch.equal(varied.test_images, task.test_images)
    generator = stream(0, "augmentation", 1)
    order = torch.randperm(48, generator=stream(0, "order", 1))
    images, labels = next(iter(tasks.batches(varied, RECIPE, 0, 1)))
    clean = task.images[order[:8]].float() / 255
    assert torch.equal(images, deform(clean, Deformation.CIFAR10, generator=generator))
    assert torch.equal(labels, task.labels[order[:8]]) and not torch.equal(images, clean)
    again = next(iter(tasks.batches(varied, RECIPE, 0, 2)))[0]
    assert not any(torch.equal(a, b) for a in images for b in again), "anew in every epoch"
    state = State.start(network(), RECIPE)
    train(state, varied, RECIPE, 0)
    assert state.step == 6


def test_a_random_turn_keeps_length_and_angle():
    weight, other = rough(6, 5, 3, 3).double(), rough(6, 5, 3, 3, seed=1).double()
    other[0] = 3 * weight[0]  # not turned at all
    other[1] = -weight[1]
    found = turned_as_far(weight, other, stream(0, "a turn"))
    a, b, c = (x.flatten(1) for x in (weight, other, found))
    torch.testing.assert_close(c.norm(dim=1), a.norm(dim=1))
    cosine = (a * b).sum(1) / a.norm(dim=1) / b.norm(dim=1)
    torch.testing.assert_close((a * c).sum(1) / a.norm(dim=1) ** 2, cosine, atol=1e-9, rtol=0)
    torch.testing.assert_close(found[:2], torch.stack([weight[0], -weight[1]]), atol=1e-6, rtol=0)
    same = turned_as_far(weight, other, stream(0, "a turn"))
    aside = turned_as_far(weight, other, stream(0, "another turn"))
    assert torch.equal(found, same) and not torch.allclose(found[2:], aside[2:])
    across = (c - cosine[:, None] * a)[2:]  # of independent directions: neither other's nor alike
    away = (b / b.norm(dim=1, keepdim=True))[2:]
    assert (F.cosine_similarity(across, away).abs() < 0.5).all()


def test_smoothing_and_its_control_turn_filters_as_far(task: tasks.Task):
    model = network()
    gentle, wild = smoothed_and_random(model, 0.5, seed=0)
    pairs = zip(*(filters_of(net).values() for net in (model, gentle, wild)), strict=True)
    for weight, soft, random in pairs:
        turned = [F.cosine_similarity(weight.flatten(1), x.flatten(1)) for x in (soft, random)]
        torch.testing.assert_close(*turned)
        assert 0 < turned[0].max() < 1
    values = [sum(smoothness(net).values()) for net in (gentle, model, wild)]
    assert values[0] < 0.9 * values[1] and values[2] == pytest.approx(values[1], rel=0.05)


def test_a_record_has_each_sigma_and_its_control(
    task: tasks.Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tasks, "load", lambda spec: {TRAINING: task}[spec])
    monkeypatch.setenv("DEFORMLIB_CACHE", str(tmp_path / "cache"))
    spec = Smoothing(TRAINING, images=8, probes=40, calibration=16, sigmas=(0.3, 1.0))
    store = Store(tmp_path / "store")
    store.save_weights(TRAINING, network().state_dict())
    record = runs.execute(spec, store)
    assert store.load(spec) == record and spec.slug == "photos-max-pool-0-smoothing"
    found = record.measurements
    assert isinstance(found, SmoothingRecord) and found.images == 40
    assert len(found.smoothed) == len(found.random) == 2
    model = networks.restore(TRAINING, {k: v.bfloat16() for k, v in network().state_dict().items()})
    clean, deformed, others = images_of(TRAINING, task, 8, 16)
    order = protocol.measured_order(48, "test")[:40]
    nets = [model, *smoothed_and_random(model, 1.0, 0)]
    for net, result in zip(nets, (found.trained, found.smoothed[1], found.random[1]), strict=True):
        fresh = protocol.calibrated(net, others)
        expected = sensitivity(fresh, clean, deformed, found.layers)
        assert result.sensitivity == pytest.approx(list(expected.values()), rel=1e-4)
        guesses = fresh(task.test_images[order].float() / 255).argmax(1)
        assert result.accuracy == (guesses == task.test_labels[order]).float().mean()
    assert found.trained.turned == pytest.approx([1] * 8)
    for soft, random in zip(found.smoothed, found.random, strict=True):
        assert soft.turned == pytest.approx(random.turned, rel=1e-4)
    assert sum(found.smoothed[1].turned) < sum(found.smoothed[0].turned) < 8
