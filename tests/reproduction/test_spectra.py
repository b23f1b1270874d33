"""Predictions from spectra: brute-force sums in float64, Parseval, waves with a known answer."""

import math
from itertools import combinations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from deformlib import DOWNSAMPLINGS, Deformation, cifar10_vgg, visit, warp
from deformlib.seeding import stream
from reproduction.experiments import spectra
from reproduction.experiments.spectra import MOVED, dense, linear_part, moved_fraction, spectrum

SIZE = (12, 16)
PAPER = Deformation.CIFAR10


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def wave(size: tuple[int, int], row: int, column: int) -> torch.Tensor:
    """A wave of the spectrum, (H, W), by its formula."""
    y = torch.arange(size[0], dtype=torch.float64) + 0.5
    x = torch.arange(size[1], dtype=torch.float64) + 0.5
    down, right = math.pi * row / size[0] * y, math.pi * column / size[1] * x
    return down.cos()[:, None] * right.cos()


def test_the_spectrum_is_that_of_all_pairs_by_brute_force():
    values = random(4, 2, *SIZE)
    expected = torch.zeros(SIZE, dtype=torch.float64)
    pairs = list(combinations(range(4), 2))
    for row in range(SIZE[0]):
        for column in range(SIZE[1]):
            basis = wave(SIZE, row, column)
            basis = basis / basis.norm()
            for i, j in pairs:
                for channel in range(2):
                    difference = values[i, channel] - values[j, channel]
                    expected[row, column] += (difference * basis).sum() ** 2 / len(pairs)
    torch.testing.assert_close(spectrum(values), expected)


def test_parseval_the_spectrum_adds_up_to_the_mean_squared_distance():
    values = random(5, 3, *SIZE)
    square = torch.pdist(values.flatten(1)).square().mean()
    torch.testing.assert_close(spectrum(values).sum(), square)


def test_the_spectrum_of_a_wave_is_one_number():
    values = torch.stack([wave(SIZE, 3, 5), -wave(SIZE, 3, 5)])[:, None]
    power = spectrum(values)
    assert power.argmax().item() == 3 * SIZE[1] + 5
    torch.testing.assert_close(power[3, 5], power.sum())


def drawn(deformation: Deformation, n: int) -> torch.Tensor:
    """Displacements (n, H*W, 2) drawn from a deformation."""
    control = deformation.sample(n, generator=stream(0, "test")).double()
    return deformation.spline(SIZE, dtype=torch.float64).field(control).flatten(1, 2)


@pytest.mark.parametrize(("row", "column"), [(1, 0), (2, 5), (7, 3), (11, 15), (0, 8)])
def test_moved_fractions_are_means_over_drawn_fields(row, column):
    u = drawn(PAPER, 4000)
    at = torch.tensor([column / SIZE[1], row / SIZE[0]], dtype=torch.float64) * math.pi  # (x, y)
    phase = (u * at).sum(-1)
    whole, part = u.floor(), u - u.floor()
    ends = (1 - part) * torch.exp(1j * whole * at) + part * torch.exp(1j * (whole + 1) * at)
    expected = {
        "small": (u.square().sum(-1).mean() * at.square().sum() / 4).item(),
        "any": (1 - phase.cos()).mean().item(),
        "bilinear": ((ends.prod(-1) - 1).abs().square() / 2).mean().item(),
    }
    for name, table in MOVED.items():
        assert table(PAPER, SIZE)[row, column].item() == pytest.approx(expected[name], rel=0.02)


def test_for_small_displacements_all_three_agree_with_first_order():
    tables = {name: table(Deformation(3, 0.02), SIZE) for name, table in MOVED.items()}
    torch.testing.assert_close(tables["any"], tables["small"], rtol=2e-3, atol=1e-12)
    slow = (slice(0, 2), slice(0, 2))  # interpolation moves fast waves further for a small step
    torch.testing.assert_close(
        tables["bilinear"][slow], tables["small"][slow], rtol=0.06, atol=1e-12
    )


def test_nothing_moves_without_a_displacement():
    for table in MOVED.values():
        assert table(Deformation(3, 0.0), SIZE).abs().max() < 1e-12


def test_sinusoids_under_a_constant_shift_are_at_distance_one_minus_cosine():
    """Images of one frequency w and random phase, shifted by u: |change|^2 / |difference|^2 is
    1 - cos(w u), exactly, with the mean over phases taken as a sum over evenly spaced ones."""
    w, u, phases = 2 * math.pi * 3 / 16, 0.7, 2 * math.pi * torch.arange(8) / 8
    x = torch.arange(16, dtype=torch.float64)
    clean = (w * x + phases[:, None]).cos()
    shifted = (w * (x + u) + phases[:, None]).cos()
    change = (shifted - clean).square().sum(1).mean()
    difference = 2 * clean.square().sum(1).mean()  # of independent phases: the means cancel
    assert (change / difference).item() == pytest.approx(1 - math.cos(w * u))


def test_a_deformed_wave_changes_by_the_bilinear_fraction():
    """White images through `warp`: the whole chain, on the interior, against the table."""
    size, n = (32, 32), 300
    deformation = Deformation(2, 1.0)
    noise = random(n, 1, *size)
    smooth = F.avg_pool2d(F.pad(noise, [1] * 4, mode="replicate"), 3, 1)
    control = deformation.sample(n, generator=stream(1, "test")).double()
    field = deformation.spline(size, dtype=torch.float64).field(control)
    for images in (noise, smooth):
        change = (warp(images, field) - images)[..., 3:-3, 3:-3].square().mean()
        measured = change / (2 * images[..., 3:-3, 3:-3].var())
        found = {
            name: moved_fraction(spectrum(images), table(deformation, size))
            for name, table in MOVED.items()
        }
        # The interior moves less than the whole image, of which the tables are the mean.
        inner = field[:, 3:-3, 3:-3].square().sum(-1).mean() / field.square().sum(-1).mean()
        assert 0.85 * float(inner) < float(measured) / found["bilinear"] < 1.05
        assert found["small"] > found["any"] > found["bilinear"]


def test_a_linear_layers_spectrum_is_its_inputs_times_the_filters_power():
    """One symmetric filter: |w^|^2 S, with w^ the filter's transform at the waves' frequencies."""
    kernel = torch.tensor([[0.5, 1.0, 0.5], [1.0, -2.0, 1.0], [0.5, 1.0, 0.5]], dtype=torch.float64)
    conv = nn.Conv2d(1, 1, 3, padding=1, bias=False).double()
    conv.weight.data = kernel[None, None]
    values = random(4, 1, *SIZE)
    down = math.pi * torch.arange(SIZE[0], dtype=torch.float64) / SIZE[0]
    right = math.pi * torch.arange(SIZE[1], dtype=torch.float64) / SIZE[1]
    offsets = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    waves = (down[:, None] * offsets).cos(), (right[:, None] * offsets).cos()
    transfer = waves[0] @ kernel @ waves[1].T
    expected = transfer.square() * spectrum(values)
    torch.testing.assert_close(spectrum(linear_part(conv, values)).detach(), expected)


def test_the_linear_part_has_batch_norms_scale_and_the_pools_mean():
    layer = nn.Sequential(nn.Conv2d(2, 3, 1, bias=False), nn.BatchNorm2d(3), nn.ReLU()).double()
    norm = layer[1]
    norm.weight.data, norm.bias.data = random(3), random(3, seed=1)
    norm.running_mean.copy_(random(3, seed=2))
    norm.running_var.copy_(random(3, seed=3).square())
    values = random(2, 2, 6, 6)
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    expected = F.conv2d(values, layer[0].weight) * scale[:, None, None]
    torch.testing.assert_close(linear_part(layer, values), expected)
    mean = linear_part(nn.AvgPool2d(2), values)
    torch.testing.assert_close(mean[..., ::2, ::2], F.avg_pool2d(values, 2))


def test_a_coarser_lattice_has_the_lowest_frequencies():
    moved = torch.arange(16.0).reshape(4, 4)
    power = torch.tensor([[0.0, 1.0], [1.0, 2.0]])
    assert moved_fraction(power, moved) == pytest.approx((1 + 4 + 2 * 5) / 4)


@pytest.mark.parametrize("downsampling", DOWNSAMPLINGS)
def test_a_dense_network_has_the_networks_own_values_on_its_lattice(downsampling):
    model = cifar10_vgg(downsampling, width=1 / 8, generator=stream(0, "test")).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.bias.data.uniform_(-0.1, 0.1)
    images = torch.rand(2, 3, 32, 32, generator=stream(1, "test"))
    names = spectra._measured_names(model)
    with torch.no_grad():
        own, whole = visit(model, images, names), visit(dense(model), images, names)
    for name in names:
        step = 32 // own[name].shape[-1]
        assert whole[name].shape[2:] == (32, 32)
        torch.testing.assert_close(
            whole[name][..., ::step, ::step], own[name], rtol=1e-4, atol=1e-6
        )


def test_dense_leaves_the_network_itself_alone():
    model = cifar10_vgg("strided", width=1 / 16)
    dense(model)
    assert model.down1.stride == (2, 2) and model.conv2_1.conv.dilation == (1, 1)


def test_a_dense_network_moves_with_the_image_by_whole_pixels():
    model = dense(cifar10_vgg("subsample", width=1 / 8, generator=stream(0, "test")).eval())
    images = torch.zeros(1, 3, 64, 64)
    images[..., 28:36, 28:36] = torch.rand(1, 3, 8, 8, generator=stream(1, "test"))
    with torch.no_grad():
        here = visit(model, images, ["down2"])["down2"]
        there = visit(model, images.roll(1, 3), ["down2"])["down2"]
    torch.testing.assert_close(here.roll(1, 3)[..., 8:-8, 8:-8], there[..., 8:-8, 8:-8])


def small_network():
    model = cifar10_vgg("average-pool", width=1 / 8, generator=stream(0, "test")).eval()
    images = F.interpolate(
        torch.rand(24, 3, 8, 8, generator=stream(1, "test")), size=32, mode="bilinear"
    )
    control = PAPER.sample(24, generator=stream(2, "test"))
    field = PAPER.spline((32, 32)).field(control)
    pixel = torch.randint(1024, (24,), generator=stream(3, "test"))
    return model, images, field, pixel


def test_layers_are_those_of_the_papers_measure():
    from deformlib import sensitivity

    model, images, field, pixel = small_network()
    found = {layer.name: layer for layer in spectra.layers(model, images, field, PAPER, pixel)}
    measured = sensitivity(model, images, warp(images, field), list(found))
    assert list(found)[:4] == ["input", "conv1_1.norm", "conv1_1", "conv1_2.norm"]
    for name, value in measured.items():
        assert found[name].paper == pytest.approx(value, rel=1e-4)
        mean = found[name].measured["cosine"] * found[name].to_median
        assert mean == pytest.approx(value, rel=1e-4)


def test_the_image_is_predicted_alike_from_every_source_and_no_prediction_sees_the_fields():
    model, images, field, pixel = small_network()
    one, *layers = spectra.layers(model, images, field, PAPER, pixel)
    still = spectra.layers(model, images, 0 * field, PAPER, pixel)
    assert one.own == one.unfiltered == one.filtered["cosine"]
    assert one.dense == pytest.approx(one.own)
    assert one.own["bilinear"] == pytest.approx(one.measured["cosine"], rel=0.25)
    for layer, other in zip([one, *layers], still):
        assert other.paper == pytest.approx(0, abs=1e-6) and other.shifted == pytest.approx(
            0, abs=1e-6
        )
        assert (layer.filtered, layer.own, layer.dense) == (other.filtered, other.own, other.dense)
