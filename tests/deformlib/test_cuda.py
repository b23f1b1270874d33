"""On a GPU the numbers are those of the CPU, and a run comes out the same twice. Skipped where
there is no GPU."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

from deformlib import filters, metrics, models, other_measures
from deformlib.measure import measured
from deformlib.warping import Deformation, deform
from reproduction.experiments import runs
from reproduction.experiments.protocol import PROTOCOLS, Protocol
from reproduction.experiments.specs import Recipe, Training
from reproduction.experiments.store import Record, Store

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
TINY = Protocol(
    images=8, sets=1, strengths=(0.5,), light=5, full=2, calibration=16, probes=16, final=32
)
SPEC = Training(
    "photos", "max-pool", 1, Recipe(3, 16, 0.05, flip=True, crop=2), "tiny", width=0.25, examples=64
)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    return models.cifar10_vgg(
        "max-pool", width=0.25, generator=torch.Generator().manual_seed(0)
    ).eval()


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("batch_size", [None, 5])
def test_sensitivity_is_that_of_the_cpu(network: nn.Module, distance: str, batch_size: int | None):
    x = torch.rand(12, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    y = deform(x, Deformation.CIFAR10, generator=torch.Generator().manual_seed(2))
    here = metrics.sensitivity(network, x, y, list(network.layers), distance, batch_size)
    there = metrics.sensitivity(
        network.cuda(), x.cuda(), y.cuda(), list(network.layers), distance, batch_size
    )
    assert there == pytest.approx(here, rel=1e-3)


def test_smoothness_is_that_of_the_cpu(network: nn.Module):
    here = filters.smoothness(network, "kernel")
    assert filters.smoothness(network.cuda(), "kernel") == pytest.approx(here, rel=1e-5)


@pytest.mark.parametrize(
    "measure", [other_measures.relative_stability, other_measures.shift_consistency]
)
def test_the_measures_of_others_are_those_of_the_cpu(network: nn.Module, measure):
    x = torch.rand(12, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    here = measure(network, x, generator=torch.Generator().manual_seed(2))
    there = measure(network.cuda(), x.cuda(), generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(there, here, rtol=1e-3, atol=1e-4)


def test_a_network_on_the_gpu_takes_photographs_from_the_cpu(network: nn.Module):
    x = torch.rand(12, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    here, there = (
        measured(model, x, Deformation.CIFAR10, generator=torch.Generator().manual_seed(2))
        for model in (
            network,
            models.cifar10_vgg("max-pool", width=0.25, generator=torch.Generator().manual_seed(0))
            .eval()
            .cuda(),
        )
    )
    torch.testing.assert_close(
        torch.tensor([dataclasses.astuple(row)[1:] for row in there]),
        torch.tensor([dataclasses.astuple(row)[1:] for row in here]),
        rtol=1e-3,
        atol=1e-4,
        equal_nan=True,
    )


@pytest.mark.parametrize("task", ["real", "templates", "templates-in-noise"])
def test_a_run_begins_as_on_the_cpu_and_comes_out_the_same_twice(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(PROTOCOLS, "tiny", TINY)
    of_digits = (
        {"classes": 4, "strength": 2.0, "examples": None, "recipe": Recipe(1, 64, 0.05)}
        if task != "real"
        else {}
    )
    spec = dataclasses.replace(SPEC, task=task, **of_digits)

    def made(name: str, device: str) -> Record:
        monkeypatch.setenv("DEFORMLIB_CACHE", str(tmp_path / name))
        return runs.execute(
            spec, Store(tmp_path / name), weights=True, device=device, precision="float32"
        )

    cpu, one, other = made("cpu", "cpu"), made("one", "cuda"), made("other", "cuda")
    assert one.measurements == other.measurements
    assert (
        one.provenance["device"] == torch.cuda.get_device_name()
        and one.provenance["peak_device_memory_mb"] > 0
    )
    first, expected = (record.measurements["checkpoints"][0] for record in (one, cpu))
    for name in ("sensitivity", "calibrated", "before_relu"):
        for distance in ("cosine", "euclidean"):
            assert first[name][distance]["normalized"] == pytest.approx(
                expected[name][distance]["normalized"], rel=2e-3
            )
    assert first["smoothness"]["kernel"] == pytest.approx(
        expected["smoothness"]["kernel"], rel=1e-4
    )
    last, expected = (record.measurements["checkpoints"][1] for record in (one, cpu))
    assert last["smoothness"]["change_norm"] == pytest.approx(
        expected["smoothness"]["change_norm"], rel=0.05
    )


def test_the_precision_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(PROTOCOLS, "tiny", TINY)
    monkeypatch.setenv("DEFORMLIB_CACHE", str(tmp_path))
    for precision, said in ((None, "tensorfloat32"), ("bfloat16", "bfloat16 autocast")):
        made = runs.execute(SPEC, Store(tmp_path / said), device="cuda", precision=precision)
        assert made.provenance["training_precision"] == said
