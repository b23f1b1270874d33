"""Measures of others, against their formulas taken one by one."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from deformlib.other_measures import diffeomorphisms, relative_stability, shift_consistency
from deformlib.seeding import noise_as_large
from deformlib.warping import warp


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("size, cutoff", [((17, 17), 3), ((12, 24), 5)])
def test_a_field_is_the_sum_of_sines(size: tuple[int, int], cutoff: int):
    height, width = size
    temperature = (2 * 1.5 / math.sqrt(height * width)) ** 2 / (math.pi * math.log(cutoff))
    draws = torch.randn(2, 2, cutoff, cutoff, generator=seeded()).double().numpy()
    field = diffeomorphisms(2, size, 1.5, cutoff, generator=seeded())
    for n, c, row, column in [(0, 0, 3, 5), (1, 1, 7, 2), (0, 1, 10, 11)]:
        x, y, total = column / (width - 1), row / (height - 1), 0.0
        for i in range(1, cutoff + 1):
            for j in range(1, cutoff + 1):
                if i**2 + j**2 < (cutoff + 0.5) ** 2:
                    variance = temperature / (i**2 + j**2)
                    total += (
                        math.sqrt(variance)
                        * draws[n, c, i - 1, j - 1]
                        * math.sin(i * math.pi * x)
                        * math.sin(j * math.pi * y)
                    )
        assert field[n, row, column, c].item() == pytest.approx(
            total * math.sqrt(height * width), rel=1e-4
        )


def test_displacements_are_as_large_as_asked_and_none_at_the_edge():
    field = diffeomorphisms(400, (32, 32), 2.0, cutoff=8, generator=seeded())
    assert field[:, 1:-1, 1:-1].square().sum(-1).mean().sqrt().item() == pytest.approx(
        2.0, rel=0.2
    )  # delta is for large cutoffs
    edge = torch.cat([field[:, 0], field[:, -1], field[:, :, 0], field[:, :, -1]], 1)
    assert edge.abs().max() < 1e-4


def test_relative_stability_pair_by_pair():
    images = torch.rand(6, 3, 9, 9, generator=seeded(1))
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten()).train()
    found = relative_stability(model, images, ["input", "2"], displacement=0.7, generator=seeded(2))
    assert model.training and model[1].num_batches_tracked == 0
    generator = seeded(2)
    deformed = warp(images, diffeomorphisms(6, (9, 9), 0.7, generator=generator))
    noise = torch.randn(images.shape, generator=generator)
    noisy = torch.stack(
        [x + e * (t - x).norm() / e.norm() for x, t, e in zip(images, deformed, noise)]
    )
    model.eval()
    for layer, f in (("input", lambda x: x.flatten(1)), ("2", model)):
        with torch.no_grad():
            clean, moved, shaken = (f(x).double().numpy() for x in (images, deformed, noisy))
        pairs = np.mean(
            [((clean[a] - clean[b]) ** 2).sum() for a in range(6) for b in range(6) if a != b]
        )
        d, g = (((other - clean) ** 2).sum(1).mean() / pairs for other in (moved, shaken))
        assert found[layer] == pytest.approx((d, g, d / g), rel=1e-4)
    assert found["input"].ratio == pytest.approx(1, rel=1e-4)  # of equal norm, by construction


def test_an_average_is_stabler_to_deformation_than_to_noise_and_a_difference_is_not():
    images = nn.functional.interpolate(
        torch.rand(16, 1, 4, 4, generator=seeded(3)), size=16, mode="bilinear"
    )
    blur, edge = (
        nn.Conv2d(1, 1, 3, padding=1, bias=False),
        nn.Conv2d(1, 1, 3, padding=1, bias=False),
    )
    with torch.no_grad():
        blur.weight.fill_(1 / 9)
        edge.weight.copy_(torch.tensor([[0, -1, 0], [-1, 4, -1], [0, -1, 0.0]])[None, None])
    ratio = {
        name: relative_stability(nn.Sequential(model), images, ["0"], generator=seeded())["0"].ratio
        for name, model in (("blur", blur), ("edge", edge))
    }
    assert ratio["edge"] < 1 < ratio["blur"], (
        "smooth images move in low frequencies, which the difference takes away"
    )


class Corner(nn.Module):
    """Class 1 where the pixel at (row, column) is bright."""

    def forward(self, x):
        return torch.stack([torch.full((len(x),), 0.5), x[:, 0, 4, 4]], 1)


def test_consistency_is_that_of_two_shifts():
    images = torch.rand(2000, 1, 9, 9, generator=seeded(4)).round()
    found = shift_consistency(Corner(), images, 1, generator=seeded(5))
    # Two shifts agree by chance where they meet the same pixel (1 in 9), else half the time.
    assert found == pytest.approx(1 / 9 + 8 / 9 / 2, abs=0.04)
    assert shift_consistency(Corner(), torch.ones(5, 1, 9, 9), 3) == 1.0


@pytest.mark.parametrize("batch_size", [1, 4, 7, 11, 100])
def test_in_batches_as_in_one(batch_size: int):
    images = torch.rand(11, 3, 9, 9, generator=seeded(1))
    images[6:] += 0.2  # so that the batches' means differ
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(196, 10)
    )
    whole = relative_stability(model, images, generator=seeded(2))
    found = relative_stability(model, images, batch_size=batch_size, generator=seeded(2))
    assert found.keys() == whole.keys() == {"input", "0", "1", "2", "3"}
    for layer in whole:
        assert found[layer] == pytest.approx(whole[layer], rel=1e-5)
    consistency = shift_consistency(model, images, batch_size=batch_size, generator=seeded(3))
    assert 0 < consistency < 1 and consistency == shift_consistency(
        model, images, generator=seeded(3)
    )


class Constant(nn.Module):
    def forward(self, x):
        return torch.full((len(x), 2), 0.1)


def test_a_constant_layer_is_left_out_unless_asked_for():
    model, images = (
        nn.Sequential(Constant(), nn.Identity()),
        torch.rand(3, 1, 8, 8, generator=seeded()),
    )
    with pytest.warns(
        UserWarning, match="left out: layer '0': all images have the same representation"
    ):
        assert relative_stability(model, images, batch_size=2).keys() == {"input"}
    with pytest.raises(ValueError, match="layer '1': all images have the same"):
        relative_stability(model, images, ["1"])


class Logarithm(nn.Module):
    def forward(self, x):
        return x.log()


def test_a_layer_that_one_batch_cannot_measure_is_left_out_whole():
    model, images = (
        nn.Sequential(Logarithm(), nn.Flatten()),
        0.5 + torch.rand(8, 1, 8, 8, generator=seeded()),
    )
    images[6] = 0  # in the second batch
    with pytest.warns(UserWarning, match="left out: layer '0'"):
        assert relative_stability(model, images, batch_size=4, generator=seeded(1)).keys() == {
            "input"
        }


class Inverse(nn.Module):
    def forward(self, x):
        return 1 / x


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(2, 7),
    seed=st.integers(0, 99),
    batch_size=st.none() | st.integers(1, 8),
    last=st.booleans(),
    frozen=st.booleans(),
    compiled=st.booleans(),
    gradients=st.booleans(),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16]),
    modes=st.lists(st.booleans(), min_size=5, max_size=5),
)
def test_any_images_and_any_state_of_the_network(
    n, seed, batch_size, last, frozen, compiled, gradients, dtype, modes
):
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Flatten()
    ).requires_grad_(not frozen)
    model[1].running_mean.normal_(std=0.1)
    images = torch.rand(n, 3, 8, 8, generator=seeded(seed)).to(dtype)
    expected = (
        relative_stability(model.eval().to(dtype), images, generator=seeded(1)),
        shift_consistency(model, images, generator=seeded(1)),
    )
    for module, mode in zip(model.modules(), modes, strict=True):
        module.training = mode
    state = {name: value.clone() for name, value in model.state_dict().items()}
    shown = images.contiguous(
        memory_format=torch.channels_last if last else torch.contiguous_format
    ).requires_grad_(gradients)
    network = torch.compile(model, backend="eager") if compiled else model
    found = relative_stability(network, shown, batch_size=batch_size, generator=seeded(1))
    assert found.keys() == expected[0].keys()
    for layer, values in expected[0].items():
        assert found[layer] == pytest.approx(values, rel=0.05 if dtype == torch.bfloat16 else 1e-4)
    consistency = shift_consistency(network, shown, batch_size=batch_size, generator=seeded(1))
    assert dtype == torch.bfloat16 or consistency == expected[1]
    assert [module.training for module in model.modules()] == modes and shown.grad is None
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


class Folds(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Identity()

    def forward(self, x):
        return self.inner(x.reshape(-1, 16)).reshape(len(x), -1)


class Dictionary(nn.Module):
    def forward(self, x):
        return {"logits": x, "hidden": x}


def test_classes_alone_in_a_dict_are_counted():
    class Wrapped(nn.Sequential):
        def forward(self, x):
            return {"logits": super().forward(x), "loss": None}

    layers, images = [nn.Flatten(), nn.Linear(64, 3)], torch.rand(4, 1, 8, 8)
    assert shift_consistency(Wrapped(*layers), images, generator=seeded()) == shift_consistency(
        nn.Sequential(*layers), images, generator=seeded()
    )


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: diffeomorphisms(0, (8, 8)), "n must be an integer >= 1, got 0"),
        (
            lambda: diffeomorphisms(1, (8, 1)),
            r"size must be \(H, W\), at least 2 each, got \(8, 1\)",
        ),
        (
            lambda: diffeomorphisms(1, (3, 8, 8)),
            r"size must be \(H, W\), at least 2 each, got \(3, 8, 8\)",
        ),
        (
            lambda: diffeomorphisms(1, (8, 8), 0.0),
            "displacement must be a finite number > 0, in pixels, got 0.0",
        ),
        (lambda: diffeomorphisms(1, (8, 8), math.nan), "displacement must be a finite"),
        (lambda: diffeomorphisms(1, (8, 8), cutoff=1), "cutoff must be an integer >= 2, got 1"),
        (
            lambda: relative_stability(nn.Flatten(), torch.rand(4, 8)),
            r"images must be \(N, C, H, W\), got \(4, 8\)",
        ),
        (
            lambda: relative_stability(nn.Linear(8, 2).to("meta"), torch.rand(4, 1, 8, 8)),
            "x must be on the model's device, meta, got cpu",
        ),
        (
            lambda: shift_consistency(nn.Linear(8, 2).to("meta"), torch.rand(4, 1, 8, 8)),
            "x must be on the model's device, meta, got cpu",
        ),
        (lambda: relative_stability(nn.Flatten(), torch.rand(1, 1, 8, 8)), "images must be"),
        (
            lambda: relative_stability(nn.Flatten(), torch.ones(3, 1, 8, 8)),
            "'input'.*all images have the same representation",
        ),
        (lambda: diffeomorphisms(2.5, (8, 8)), "n must be an integer >= 1, got 2.5"),
        (lambda: diffeomorphisms(1, (8, 8), cutoff=2.5), "cutoff must be an integer >= 2, got 2.5"),
        (
            lambda: relative_stability(Folds(), torch.rand(4, 1, 8, 8), ["inner"]),
            r"layer 'inner': a representation must be .* N = 3 x 4 images, got \(48, 16\)",
        ),
        (
            lambda: shift_consistency(nn.Identity(), torch.rand(4, 1, 8, 8)),
            r"model's output must be \(N, classes\) for N = 4 images, .* got \(4, 1, 8, 8\)",
        ),
        (
            lambda: shift_consistency(nn.Flatten(0, 2), torch.rand(4, 1, 8, 8)),
            r"for N = 4 images, .* got \(32, 8\)",
        ),
        (
            lambda: shift_consistency(
                nn.Sequential(nn.Flatten(), nn.Linear(64, 1)), torch.rand(4, 1, 8, 8)
            ),
            "with at least 2 classes, got",
        ),
        (
            lambda: shift_consistency(
                nn.Sequential(nn.Flatten(), nn.Hardtanh(-math.inf, 0.0), Inverse()),
                torch.rand(4, 1, 8, 8),
            ),
            "model's output must be finite",
        ),
        (
            lambda: diffeomorphisms(1, (8, 8), displacement="1"),
            "displacement must be a finite number > 0, in pixels, got 1",
        ),
        (
            lambda: shift_consistency(Dictionary(), torch.rand(4, 1, 8, 8)),
            "layer 'output': it returns 2 tensors in a dict",
        ),
        (
            lambda: shift_consistency(None, torch.rand(4, 1, 8, 8)),
            "model must be a torch.nn.Module, got NoneType",
        ),
        (
            lambda: relative_stability(
                nn.Sequential(nn.Flatten(), nn.Hardtanh(-math.inf, 0.0), Inverse()),
                torch.rand(4, 1, 8, 8),
                ["2"],
            ),
            "layer '2': it has NaN or infinite values",
        ),
        (
            lambda: shift_consistency(nn.Flatten(), torch.rand(4, 8, 8)),
            r"images must be \(N, C, H, W\), got \(4, 8, 8\)",
        ),
        (
            lambda: shift_consistency(nn.Flatten(), torch.rand(4, 1, 8, 8), 1.5),
            "max_shift must be an integer >= 1, in pixels, got 1.5",
        ),
        (
            lambda: shift_consistency(nn.Flatten(), torch.rand(4, 1, 8, 8), batch_size=0),
            "batch_size must be an integer >= 1, or None for one batch, got 0",
        ),
        (
            lambda: relative_stability(nn.Flatten(), torch.rand(4, 1, 8, 8), batch_size=2.5),
            "batch_size must be an integer >= 1, or None for one batch, got 2.5",
        ),
        (
            lambda: shift_consistency(nn.Flatten(), torch.rand(4, 1, 8, 8), 0),
            "max_shift must be an integer >= 1, in pixels, got 0",
        ),
    ],
)
def test_bad_input_is_named(call, message: str):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("scale", [2.0**-76, 2.0**100])
def test_neither_noise_nor_relative_stability_depends_on_scale(scale: float):
    images = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    noise, found = (
        [
            noise_as_large(factor * images, torch.Generator().manual_seed(1)) / factor,
            relative_stability(
                nn.Flatten(), factor * images, generator=torch.Generator().manual_seed(2)
            ),
        ]
        for factor in (1.0, scale)
    )
    torch.testing.assert_close(noise[0], found[0])
    for layer, values in noise[1].items():
        assert found[1][layer] == pytest.approx(values, rel=1e-5)
