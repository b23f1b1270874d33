"""What is measured of a network as others do, all networks on the same images and shifts."""

import pytest
import torch

from deformlib import other_measures
from deformlib.seeding import stream
from reproduction.experiments import comparison, data, protocol, runs, studies
from reproduction.experiments.comparison import consistent, measure_comparison
from reproduction.experiments.networks import build
from reproduction.experiments.records import BeforeAndAfter, ComparisonRecord, Relative
from reproduction.experiments.specs import Comparison, Recipe, Training
from reproduction.experiments.store import Store
from reproduction.experiments.tasks import scale

TRAINING = Training(
    "photos", "max-pool", 0, Recipe(1, 8, 0.1, pixels="standardized"), "quick-2", width=0.1, size=32
)
SPEC = Comparison(TRAINING, 12, 20, displacement=0.5, cutoff=4, max_shift=1)


@pytest.fixture
def images(monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    """30 test images."""
    x = torch.randint(256, (30, 3, 32, 32), generator=torch.Generator().manual_seed(0)).to(
        torch.uint8
    )
    monkeypatch.setattr(
        data,
        "load",
        lambda name, split, size=None: {32: (x, torch.arange(30) % 10, list("0123456789"))}[size],
    )
    return x


@pytest.fixture
def networks() -> dict[str, torch.nn.Module]:
    return {
        when: build(
            Training("photos", "max-pool", seed, Recipe(1, 8, 0.1), "quick-2", width=0.1), 10, 3
        )
        for when, seed in (("before", 0), ("after", 1))
    }


def test_a_record_holds_what_the_measures_give(images: torch.Tensor, networks: dict):
    fractions = []
    found, identity = measure_comparison(SPEC, networks, fractions.append)
    seen = scale(
        images[torch.randperm(30, generator=stream(0, "measured test images"))], "standardized"
    )  # in the order of the protocol
    assert (
        found.layers == protocol.layers_of(networks["after"])["layers"]
        and found.layers[-1] == "head"
    )
    for when, network in networks.items():
        expected = other_measures.relative_stability(
            network,
            seen[:12],
            found.layers,
            0.5,
            4,
            generator=stream(0, "peers, relative stability"),
        )
        for factor, values in vars(getattr(found.relative_stability, when)).items():
            wanted = [getattr(expected[name], factor) for name in found.layers]
            assert values == pytest.approx(wanted, rel=1e-6)
    expected = other_measures.shift_consistency(
        networks["after"], seen[:20], 1, generator=stream(0, "peers, shifts")
    )
    assert found.shift_consistency == pytest.approx(expected)
    assert fractions == sorted(fractions) and fractions[-1] == 1 and len(identity) == 12


def test_the_input_is_measured_alike_in_all_networks(images: torch.Tensor, networks: dict):
    record, _ = measure_comparison(SPEC, networks, lambda fraction: None)
    first, second = (
        {factor: values[0] for factor, values in vars(found).items()}
        for found in (record.relative_stability.before, record.relative_stability.after)
    )
    assert first == second
    assert first["deformation"] == pytest.approx(first["noise"], rel=1e-5) and first[
        "ratio"
    ] == pytest.approx(1, rel=1e-5), "the noise is as large as the change"


def test_consistency_in_chunks_is_a_mean_over_images(
    networks: dict, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(protocol, "FORWARD_BATCH", 4)
    given = iter([1.0, 0.5, 0.0])
    monkeypatch.setattr(
        comparison, "shift_consistency", lambda model, chunk, shift, generator: next(given)
    )
    done = []
    assert consistent(
        networks["after"], torch.rand(10, 3, 32, 32), 1, done.append
    ) == pytest.approx((4 + 2) / 10)
    assert done == [4, 8, 10]


def test_too_few_images_are_an_error(images: torch.Tensor, networks: dict):
    with pytest.raises(ValueError, match="probes must be at most 30 for photos, got 31"):
        measure_comparison(Comparison(TRAINING, 12, 31), networks, lambda fraction: None)


def test_a_run_starts_from_the_weights_kept(
    tmp_path, networks: dict, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DEFORMLIB_CACHE", str(tmp_path / "cache"))

    def size(network: torch.nn.Module) -> float:
        return float(network.head.weight.detach().abs().sum())

    def measured(spec: Comparison, networks: dict, progress: object) -> tuple:
        sizes = [Relative([size(networks[when])], [], []) for when in ("before", "after")]
        return ComparisonRecord([], BeforeAndAfter(*sizes), 0.5), "abc"

    monkeypatch.setattr(runs, "measure_comparison", measured)
    results = Store(tmp_path / "results")
    with pytest.raises(
        FileNotFoundError,
        match=r"needs the weights of photos-max-pool-0, and there is no .*safetensors",
    ):
        runs.execute(SPEC, results)
    results.save_weights(TRAINING, networks["after"].state_dict())
    record = runs.execute(SPEC, results)
    found = record.measurements.relative_stability
    # Seed 0 at its initialization, and the weights.
    assert found.before.deformation == pytest.approx([size(networks["before"])], rel=1e-2)
    assert found.after.deformation == pytest.approx([size(networks["after"])], rel=1e-2)
    assert (
        results.path(SPEC).name.startswith("photos-max-pool-0-peers-")
        and record.provenance["data"] == "abc"
    )


@pytest.mark.parametrize("mode", studies.MODES)
def test_the_study_is_of_networks_whose_weights_are_kept(mode: str):
    networks = studies.study("cifar10")
    for spec in studies.study("cifar10-other-measures").specs(mode):
        assert spec.training in networks.specs(mode, networks.weights)
        assert (spec.downsampling, spec.seed, spec.data) == (
            spec.training.downsampling,
            spec.training.seed,
            spec.training.data,
        )
        assert spec.images <= protocol.PROTOCOLS[spec.training.protocol].images, (
            "the images of the paper's measure"
        )
