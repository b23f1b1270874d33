import math
from itertools import combinations

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import distance as scipy_distance
from torch import nn
from torch.utils.checkpoint import checkpoint

from deformlib import metrics
from deformlib import vector_distances as vectors
from deformlib.filters import kernels_by_variation, normalized_total_variation, smoothness
from deformlib.metrics import (
    distances,
    normalized_distance,
    sensitivity,
    statistics,
)
from deformlib.models import DOWNSAMPLINGS, cifar10_vgg
from deformlib.representations import visit
from deformlib.validation import check_vectors
from deformlib.vector_distances import DISTANCES, median, paired_distances, pairwise_distances


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64).to(dtype)


def by_pair(a, b, distance):
    """Distance of two vectors in float64, by the textbook (cosine through differences of unit
    vectors)."""
    a, b = (np.asarray(v, dtype=np.float64).ravel() for v in (a, b))
    if distance == "euclidean":
        return np.linalg.norm(a - b)
    if not a.any() or not b.any():
        return float(a.any() != b.any())
    return ((a / np.linalg.norm(a) - b / np.linalg.norm(b)) ** 2).sum() / 2


def all_pairs(x, distance):
    return np.array([by_pair(a, b, distance) for a, b in combinations(x.double().numpy(), 2)])


def brute_force(clean, deformed, distance):
    moved = [
        by_pair(a, b, distance)
        for a, b in zip(clean.double().numpy(), deformed.double().numpy(), strict=True)
    ]
    return np.mean(moved) / np.median(all_pairs(clean, distance))


@pytest.fixture
def vgg():
    return cifar10_vgg("max-pool", width=0.25, generator=seeded())


@pytest.fixture
def images():
    clean = torch.rand(9, 3, 32, 32, generator=seeded(1))
    return clean, clean + 0.1 * normal(9, 3, 32, 32, seed=2)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("shape", [(2, 7), (9, 3, 5, 5), (40, 300), (6, 4, 200, 300)])
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
def test_distances_agree_with_brute_force(distance, shape, dtype, rtol):
    a, b = normal(*shape, dtype=dtype) + 0.5, normal(*shape, seed=1, dtype=dtype)
    result = (
        paired_distances(a, b, distance),
        pairwise_distances(a, distance),
        normalized_distance(a, b, distance),
    )
    assert all(r.dtype == dtype for r in result)
    paired = [by_pair(x, y, distance) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(result[0], paired, rtol=rtol)
    np.testing.assert_allclose(result[1], all_pairs(a, distance), rtol=rtol)
    np.testing.assert_allclose(result[2], brute_force(a, b, distance), rtol=rtol)


@pytest.mark.parametrize("distance", DISTANCES)
def test_pairs_are_in_scipy_s_order(distance):
    x = normal(11, 6, dtype=torch.float64)
    np.testing.assert_allclose(
        pairwise_distances(x, distance), scipy_distance.pdist(x.numpy(), distance), rtol=1e-12
    )


@pytest.mark.parametrize("size", [3e-1, 1.4e-5])
@pytest.mark.parametrize("distance", DISTANCES)
def test_nearly_equal_representations_keep_their_digits(size, distance):
    base = normal(1, 1000)
    x, y = (
        (base + size * normal(12, 1000, seed=s)).float() for s in (1, 2)
    )  # cosine distance about size^2
    if distance == "cosine":
        assert all_pairs(x, "cosine").max() < 2 * size**2
    np.testing.assert_allclose(pairwise_distances(x, distance), all_pairs(x, distance), rtol=1e-3)
    paired = [by_pair(a, b, distance) for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(paired_distances(x, y, distance), paired, rtol=1e-3)


@pytest.mark.parametrize("autocast", [False, True])
def test_differences_of_all_pairs_are_not_needed_when_all_rows_are_alike(autocast, monkeypatch):
    monkeypatch.delattr(torch, "pdist")  # exact and slow
    x = (normal(1, 1000) + 3e-4 * normal(12, 1000, seed=1)).float()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        np.testing.assert_allclose(pairwise_distances(x), all_pairs(x, "cosine"), rtol=1e-3)


@pytest.mark.parametrize("distance", DISTANCES)
def test_clusters_keep_their_digits_too(distance):
    x = torch.cat(
        [
            normal(1, 500) + 1e-4 * normal(9, 500, seed=1),
            normal(1, 500, seed=2),
            normal(1, 500, seed=3),
        ]
    )
    np.testing.assert_allclose(pairwise_distances(x, distance), all_pairs(x, distance), rtol=2e-3)


def test_equal_rows_have_distance_zero_whatever_the_others():
    x = normal(3, 50)[[0, 0, 0, 1, 2, 2]]
    zero = np.array([i == j for i, j in combinations([0, 0, 0, 1, 2, 2], 2)])
    for distance in DISTANCES:
        assert ((pairwise_distances(x, distance).numpy() == 0) == zero).all()


def test_equal_rows_cost_no_differences_of_the_others(monkeypatch: pytest.MonkeyPatch):
    rows, pdist = [], torch.pdist
    monkeypatch.setattr(torch, "pdist", lambda x: rows.append(len(x)) or pdist(x))
    x = normal(7, 50)[[0, 1, 2, 3, 4, 5, 6, 2, 5]]
    for distance in DISTANCES:
        np.testing.assert_allclose(
            pairwise_distances(x, distance), all_pairs(x, distance), rtol=1e-4, atol=1e-9
        )
    assert set(rows) == {4}


def test_a_zero_representation_is_at_cosine_distance_one():
    zero, one = torch.zeros(1, 4), torch.ones(1, 4)
    assert paired_distances(
        torch.cat([zero, zero, one]), torch.cat([zero, one, zero])
    ).tolist() == [0, 1, 1]
    np.testing.assert_allclose(
        pairwise_distances(torch.cat([zero, one, zero, -one])), [1, 0, 1, 1, 2, 1], rtol=1e-6
    )


def test_long_vectors_keep_their_digits():
    a = torch.rand(3, 2_000_000, generator=seeded())
    b = a + 1e-3 * torch.rand(3, 2_000_000, generator=seeded(1))
    expected = [by_pair(x, y, "cosine") for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(paired_distances(a, b), expected, rtol=1e-5)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30))
def test_median_is_numpy_s(values):
    assert median(torch.tensor(values, dtype=torch.float64)).item() == np.median(values)


def test_median_is_the_mean_of_the_middle_two_for_even_counts():
    assert median(torch.tensor([4.0, 1.0, 3.0, 10.0])).item() == 3.5
    assert median(torch.tensor([1.0, math.nan])).isnan()


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(2, 7),
    d=st.integers(1, 20),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
    seed=st.integers(0, 99),
    distance=st.sampled_from(list(DISTANCES)),
)
def test_normalized_distance_does_not_change_with_scale_order_or_layout(
    n, d, scale, seed, distance
):
    clean, deformed = normal(n, d, 4, 4, seed=seed), normal(n, d, 4, 4, seed=seed + 1)
    expected = pytest.approx(brute_force(clean, deformed, distance), rel=1e-4)
    order = torch.randperm(n, generator=seeded(seed))
    assert normalized_distance(clean, deformed, distance).item() == expected
    assert normalized_distance(scale * clean, scale * deformed, distance).item() == expected
    assert normalized_distance(clean[order], deformed[order], distance).item() == expected
    last = (
        clean.to(memory_format=torch.channels_last),
        deformed.to(memory_format=torch.channels_last),
    )
    assert normalized_distance(*last, distance).item() == expected
    assert normalized_distance(last[0], deformed, distance).item() == expected
    assert normalized_distance(clean, clean, distance).item() == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_reduced_in_float32(dtype):
    a, b = (
        300 * normal(8, 5000, seed=s, dtype=dtype) for s in (0, 1)
    )  # sums of squares overflow float16
    result = normalized_distance(a, b)
    assert result.dtype == torch.float32 and result.item() == pytest.approx(
        brute_force(a, b, "cosine"), rel=1e-5
    )


@pytest.mark.parametrize("distance", DISTANCES)
def test_gradients(distance):
    a, b = (normal(4, 6, seed=s, dtype=torch.float64).requires_grad_() for s in (0, 1))
    assert torch.autograd.gradcheck(lambda a, b: normalized_distance(a, b, distance), (a, b))
    assert torch.autograd.gradcheck(lambda a, b: paired_distances(a, b, distance), (a, b))
    paired_distances(a, a.detach(), distance).sum().backward()
    paired_distances(a, torch.zeros_like(a), distance).sum().backward()
    paired_distances(b * 0, b, distance).sum().backward()
    assert a.grad.isfinite().all() and b.grad.isfinite().all()


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("n", [2, 5, 8])
def test_sensitivity_agrees_with_brute_force(vgg, distance, n):
    clean, deformed = (
        torch.rand(n, 3, 32, 32, generator=seeded(3)),
        torch.rand(n, 3, 32, 32, generator=seeded(4)),
    )
    result = sensitivity(vgg, clean, deformed, vgg.layers, distance)
    before, after = (
        visit(vgg.eval(), x, vgg.layers, lambda r: r.detach().clone()) for x in (clean, deformed)
    )
    assert tuple(result) == vgg.layers
    for layer, value in result.items():
        assert isinstance(value, float)
        assert value == pytest.approx(
            brute_force(before[layer], after[layer], distance), rel=1e-4
        ), layer


def test_sensitivity_sees_the_representation_before_the_relu(vgg, images):
    result = sensitivity(vgg, *images, ["conv1_1", "conv1_1.norm"])
    assert result["conv1_1"] != pytest.approx(result["conv1_1.norm"], rel=1e-3)


@pytest.mark.parametrize("downsampling", DOWNSAMPLINGS)
@pytest.mark.parametrize("budget", [2 * 2**30, 60_000 * 9, 1])
def test_chunks_give_the_result_of_one_batch(downsampling, budget, images, monkeypatch):
    monkeypatch.setattr(metrics, "KEPT_BYTES", budget)
    model = cifar10_vgg(downsampling, width=0.25, generator=seeded())
    layers = [*model.layers[::3], "conv2_1.norm"]  # which an in-place ReLU overwrites
    whole = sensitivity(model, *images, layers)
    chunked = sensitivity(model, *images, layers, batch_size=4)
    assert list(chunked) == list(whole)
    assert chunked == pytest.approx(whole, rel=1e-6)
    assert sensitivity(model, *images, layers, batch_size=9) == whole


def test_chunks_pass_once_for_each_group_of_layers(vgg, images, monkeypatch):
    passes = []
    vgg.register_forward_pre_hook(lambda m, args: passes.append(len(args[0])))
    sensitivity(vgg, *images, vgg.layers)
    assert passes == [18, 2], "the second tells where the images are"
    passes.clear()
    sensitivity(vgg, *images, vgg.layers, batch_size=4)
    assert passes == [8, 2, 8, 8, 2]
    passes.clear()
    monkeypatch.setattr(
        metrics, "KEPT_BYTES", 9 * 4 * (3 * 32 * 32 + 8 * 32 * 32)
    )  # the input and conv1_1
    sensitivity(vgg, *images, ["input", "conv1_1", "conv1_2"], batch_size=4)
    assert passes == [8, 2, 8, 8, 2, 8, 8, 2]


def test_repeated_layers_in_chunks():
    model = torchvision.models.resnet18(num_classes=5, weights=None)
    clean, deformed = (torch.rand(5, 3, 32, 32, generator=seeded(s)) for s in (0, 1))
    whole = sensitivity(model, clean, deformed, ["layer1.0.relu", "layer3.1.relu#2"])
    assert list(whole) == ["layer1.0.relu", "layer1.0.relu#2", "layer3.1.relu#2"]
    assert sensitivity(model, clean, deformed, whole, batch_size=3) == pytest.approx(
        whole, rel=1e-6
    )


@pytest.mark.parametrize("measure", [sensitivity, distances])
def test_model_is_left_as_found(vgg, images, measure):
    vgg.train()
    vgg.conv2_1.eval()
    vgg.conv3_1.norm.momentum = None
    for _ in range(2):
        vgg(images[0])
    modes = {name: module.training for name, module in vgg.named_modules()}
    state = {name: value.clone() for name, value in vgg.state_dict().items()}
    trained = measure(vgg, *images)
    with pytest.raises(ValueError):
        measure(vgg, images[0][:, :2], images[1][:, :2])
    assert {name: module.training for name, module in vgg.named_modules()} == modes
    assert all(torch.equal(value, state[name]) for name, value in vgg.state_dict().items())
    assert not any(module._forward_hooks for module in vgg.modules())
    evaluated = measure(vgg.eval(), *images)  # so the running statistics were used before
    assert all(
        torch.equal(torch.as_tensor(trained[n]), torch.as_tensor(evaluated[n])) for n in trained
    )
    assert torch.is_grad_enabled()


def test_distances_are_not_normalized_and_differentiable(vgg, images):
    clean, deformed = images[0].requires_grad_(), images[1].requires_grad_()
    moved = distances(vgg, clean, deformed, ["input", "conv4_2"])
    np.testing.assert_allclose(
        moved["input"].detach(),
        [by_pair(a, b, "cosine") for a, b in zip(clean.detach(), deformed.detach(), strict=True)],
        rtol=1e-4,
    )
    moved["conv4_2"].sum().backward()
    assert clean.grad.any() and deformed.grad.any() and vgg.conv1_1.conv.weight.grad.any()
    assert not vgg.head.weight.grad
    assert sensitivity(vgg, clean, deformed).keys() == distances(vgg, clean, deformed).keys()


def test_any_memory_format_precision_and_compilation(vgg, images):
    expected = sensitivity(vgg, *images, vgg.layers)
    loose = pytest.approx(expected, rel=1e-4)
    assert sensitivity(vgg.to(memory_format=torch.channels_last), *images, vgg.layers) == loose
    strided = [x.mT.contiguous().mT for x in images]
    assert sensitivity(vgg, *strided, vgg.layers) == loose
    assert sensitivity(torch.compile(vgg, backend="eager"), *images, vgg.layers) == loose
    assert sensitivity(vgg.requires_grad_(False), *images, vgg.layers) == loose
    assert sensitivity(vgg.double(), *(x.double() for x in images), vgg.layers) == loose
    half = sensitivity(vgg.bfloat16(), *(x.bfloat16() for x in images), vgg.layers)
    assert half == pytest.approx(expected, rel=0.1)


def test_autocast_does_not_reach_the_reductions(vgg, images):
    expected = sensitivity(vgg, *images, ["input"])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert sensitivity(vgg, *images, ["input"]) == expected


def test_footnote_1():
    """The resampled first layer of the CIFAR-10 network: 32 x 3 kernels of 3x3, truncated at two
    deviations."""
    weights = torch.empty(400, 32, 3, 3, 3)
    nn.init.trunc_normal_(weights, 0, 1, -2, 2, generator=seeded())
    kernel, bank = (
        torch.stack([normalized_total_variation(w, a) for w in weights]) for a in ("kernel", "bank")
    )
    assert kernel.mean().item() == pytest.approx(1.870, abs=0.002)
    assert kernel.std().item() == pytest.approx(0.034, abs=0.003)
    assert bank.mean().item() == pytest.approx(1.857, abs=0.003)


def test_total_variation_by_hand():
    weight = torch.tensor([[[[1.0, -2.0], [0.0, 4.0]]], [[[3.0, 3.0], [3.0, 3.0]]]])
    # down: |0 - 1| + |4 + 2| = 7; right: |-2 - 1| + |4 - 0| = 7; magnitudes 7; the second
    # kernel is constant
    assert normalized_total_variation(weight).item() == pytest.approx(14 / 19)
    assert normalized_total_variation(weight, "kernel").item() == pytest.approx((2 + 0) / 2)
    line = torch.tensor([1.0, -1.0, 1.0]).reshape(1, 1, 3, 1)
    assert (
        normalized_total_variation(line)
        == normalized_total_variation(line.mT)
        == pytest.approx(4 / 3)
    )


@settings(deadline=None, max_examples=30)
@given(
    out=st.integers(1, 4), inputs=st.integers(1, 4), side=st.integers(2, 7), seed=st.integers(0, 99)
)
def test_total_variation_properties(out, inputs, side, seed):
    weight = normal(out, inputs, side, side, seed=seed, dtype=torch.float64)
    for average in ("bank", "kernel"):
        value = normalized_total_variation(weight, average)
        for same in (weight.mT, weight.flip(2), -3 * weight, weight.flip(0)):
            torch.testing.assert_close(normalized_total_variation(same, average), value)
        assert normalized_total_variation(torch.full_like(weight, 2), average) == 0
        assert 0 < value <= 4  # every tap is in four differences at most
    kernels = [
        normalized_total_variation(k[None, None], "bank").item() for bank in weight for k in bank
    ]
    assert normalized_total_variation(weight, "kernel").item() == pytest.approx(np.mean(kernels))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kernels_from_smooth_to_rough(dtype):
    weight = torch.randn(5, 4, 3, 3, generator=torch.Generator().manual_seed(0), dtype=dtype)
    weight[0, 0] = 0
    ratios = [
        normalized_total_variation(kernel[None, None]).item() for kernel in weight.flatten(0, 1)[1:]
    ]
    kernels, found = kernels_by_variation(weight, [k / 18 for k in range(19)])
    assert (
        found.tolist() == pytest.approx(sorted(ratios))
        and kernels.shape == (19, 3, 3)
        and kernels.dtype == dtype
    )
    assert [
        normalized_total_variation(kernel[None, None]).item() for kernel in kernels
    ] == pytest.approx(found.tolist())
    kernels, found = kernels_by_variation(weight, [1, 0.5, 0])
    assert found.tolist() == pytest.approx(sorted(ratios)[18::-9])
    assert kernels_by_variation(weight, [0.1])[1].item() == pytest.approx(sorted(ratios)[2]), (
        "of 1.8 kernels, 2 are smoother"
    )


@pytest.mark.parametrize("average", ["bank", "kernel"])
def test_variations_in_half_precision_are_summed_in_float32(average):
    weight = normal(8, 8, 3, 3, dtype=torch.bfloat16)
    expected = normalized_total_variation(weight.double(), average).item()
    assert normalized_total_variation(weight, average).item() == pytest.approx(expected, rel=1e-6)


def test_zero_kernels_have_no_ratio():
    weight = normal(2, 2, 3, 3)
    weight[0, 1] = 0
    expected = normalized_total_variation(weight.flatten(0, 1)[[0, 2, 3]][None], "kernel")
    torch.testing.assert_close(normalized_total_variation(weight, "kernel"), expected)
    normalized_total_variation(weight.requires_grad_(), "kernel").backward()
    assert weight.grad.isfinite().all()


@pytest.mark.parametrize("average", ["bank", "kernel"])
def test_smoothness_is_of_every_filter_bank(average):
    model = cifar10_vgg("strided-relu", generator=seeded())
    result = smoothness(model, average)
    assert list(result) == [
        f"conv{block}_{conv}.conv" for block in range(1, 5) for conv in (1, 2)
    ]  # no 2x2
    for name, value in result.items():
        weight = model.get_submodule(name).weight
        assert (
            value
            == pytest.approx(normalized_total_variation(weight, average).item())
            == pytest.approx(1.86, abs=0.07)
        )
    assert smoothness(torch.compile(model, backend="eager"), average) == result
    flat = nn.Sequential(
        nn.Conv2d(2, 2, (1, 3)),
        nn.Conv2d(2, 2, 1),
        nn.Linear(2, 2),
        nn.Conv2d(2, 4, (3, 7), groups=2),
    )
    assert list(smoothness(flat, average)) == ["3"] and not smoothness(flat, average, ["0", "1"])
    assert smoothness(model, average, "conv3*") == {
        name: value for name, value in result.items() if name.startswith("conv3")
    }
    nn.init.zeros_(model.conv3_1.conv.weight)
    with pytest.warns(
        UserWarning, match="left out: layer 'conv3_1.conv': weight must not be all zero"
    ):
        assert list(smoothness(model, average)) == [
            name for name in result if name != "conv3_1.conv"
        ]
    with pytest.raises(ValueError, match=r"layer .conv3_1.conv.: weight must not be all zero"):
        smoothness(model, average, "conv3_1.conv")
    with pytest.warns(UserWarning, match="left out: layer 'conv3_1.conv'"):
        assert list(smoothness(model, average, "conv3*")) == ["conv3_2.conv"]
    with pytest.raises(ValueError, match="'conv9' is none"):
        smoothness(model, average, ["conv9"])


X = torch.rand(3, 3, 16, 16)
NAN = X.clone().index_put_((torch.tensor(1),), torch.tensor(math.nan))


@pytest.mark.parametrize(
    ("clean", "deformed", "options", "message"),
    [
        (
            X,
            X[:2],
            {},
            r"deformed must be of the shape, dtype and device of clean, "
            r".*\(3, 3, 16, 16\).*\(2, 3, 16, 16\)",
        ),
        (X, X.double(), {}, "deformed must be of the shape, dtype and device of clean"),
        (X, X.to("meta"), {}, "deformed must"),
        (X[:1], X[:1], {}, r"clean must be \(N, \.\.\.\), N at least 2 .* got \(1, 3, 16, 16\)"),
        (X[:0], X[:0], {}, r"clean must be .* got \(0, 3, 16, 16\)"),
        (X[0, 0, 0], X[0, 0, 0], {}, r"clean must be .* got \(16,\)"),
        (
            X.byte(),
            X.byte(),
            {},
            "clean must be a floating-point tensor .divide uint8 images by 255., got torch.uint8",
        ),
        (X.tolist(), X, {}, "clean must be a floating-point tensor .*, got list"),
        (X.numpy(), X, {}, "clean must be a floating-point tensor .*, got ndarray"),
        (NAN, X, {}, "clean must be finite, got 768 NaN or infinite values"),
        (X, X / 0, {}, "deformed must be finite"),
        (X, X, {"distance": "cos"}, "distance must be one of cosine, euclidean, got 'cos'"),
        (X, X, {"layers": ["conv9_1"]}, "'conv9_1' is none"),
        (
            X,
            X,
            {"batch_size": 0},
            "batch_size must be an integer >= 1, or None for one batch, got 0",
        ),
        (X[:1].repeat(3, 1, 1, 1), X, {}, "layer 'input': the median pairwise distance .* got 0.0"),
        (X * 0, X, {"batch_size": 1}, "layer 'input': the median pairwise distance .* got 0.0"),
    ],
)
def test_bad_input_to_sensitivity_is_named(clean, deformed, options, message):
    with pytest.raises(ValueError, match=message):
        sensitivity(
            cifar10_vgg("max-pool", width=0.1, generator=seeded()), clean, deformed, **options
        )


def test_a_constant_layer_is_named_and_other_layers_can_be_measured():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.ReLU())
    nn.init.zeros_(model[1].weight)
    nn.init.ones_(model[1].bias)
    clean, deformed = torch.rand(2, 4), torch.rand(2, 4)
    with pytest.raises(ValueError, match="layer '1': the median"):
        sensitivity(model, clean, deformed, ["0", "1"])
    with pytest.warns(UserWarning, match="left out: layer '1': the median"):
        assert list(sensitivity(model, clean, deformed)) == ["input", "0"]
    assert list(sensitivity(model, clean, deformed, ["input", "0"])) == ["input", "0"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_images_that_differ_in_brightness_alone_have_no_cosine_distance(dtype: torch.dtype):
    grey = torch.linspace(0.11, 0.93, 8, dtype=dtype)[:, None, None, None].expand(8, 3, 32, 32)
    with pytest.raises(
        ValueError, match=r"the median pairwise distance .* multiples of each other"
    ):
        normalized_distance(grey, normal(8, 3, 32, 32).to(dtype))
    with pytest.raises(ValueError, match="layer 'input': the median"):
        sensitivity(nn.Flatten(), grey, normal(8, 3, 32, 32).to(dtype))
    assert normalized_distance(grey, grey.flip(0), "euclidean") > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_images_that_differ_little_else_than_in_brightness_have_one(dtype: torch.dtype):
    near = torch.linspace(0.11, 0.93, 8)[:, None, None, None] * (1 + 1e-5 * normal(8, 3, 32, 32))
    found = normalized_distance(near.to(dtype), near.flip(0).to(dtype))
    assert found.item() == pytest.approx(
        brute_force(near.to(dtype), near.flip(0).to(dtype), "cosine"), rel=1e-3
    )


class Overflows(nn.Module):
    def forward(self, x):
        return torch.where(x > 0.5, math.inf, x)


class Turns(nn.Module):
    def forward(self, x):
        return torch.fft.rfft(x)


@pytest.mark.parametrize(
    "bad, words",
    [(Overflows(), "NaN or infinite values"), (Turns(), "real numbers, got torch.complex64")],
)
def test_a_representation_without_distances_is_left_out_unless_asked_for(
    bad: nn.Module, words: str
):
    model, x, y = (
        nn.Sequential(nn.Identity(), bad),
        torch.rand(4, 9, generator=seeded()),
        torch.rand(4, 9, generator=seeded(1)),
    )
    for batch_size in (None, 2):
        with pytest.warns(UserWarning, match=f"left out: layer '1': .*{words}"):
            assert sensitivity(model, x, y, batch_size=batch_size).keys() == {"input", "0"}
        with pytest.raises(ValueError, match=f"layer '1': .*{words}"):
            sensitivity(model, x, y, ["1"], batch_size=batch_size)
    with pytest.raises(ValueError, match=f"layer '1': .*{words}"):
        distances(model, x, y, ["1"])


def test_smoothness_leaves_weights_that_are_computed_alone():
    conv = nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 4, 3)).train()
    before = {name: value.clone() for name, value in conv.state_dict().items()}
    assert smoothness(nn.Sequential(conv)).keys() == {"0"} and conv.training
    assert all(torch.equal(value, before[name]) for name, value in conv.state_dict().items())


def test_representations_without_images_on_the_first_axis_are_refused():
    class Folds(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Identity()

        def forward(self, x):
            return self.inner(x.reshape(-1, 2)).reshape(len(x), -1)

    with pytest.raises(
        ValueError,
        match=r"layer 'inner': a representation must be .* N = 2 x 3 images, got \(24, 2\)",
    ):
        sensitivity(Folds(), normal(3, 8), normal(3, 8, seed=1), ["inner"])
    for batch_size in (None, 2):
        with pytest.warns(UserWarning, match=r"left out: layer 'inner': a representation must be"):
            assert list(
                sensitivity(Folds(), normal(3, 8), normal(3, 8, seed=1), batch_size=batch_size)
            ) == ["input"]


class Tokens(nn.Module):
    """Patches, a layer over them that has images on its first axis or (`first`) the patches, and a
    table of positions."""

    def __init__(self, first: bool):
        super().__init__()
        self.first, self.patches, self.over = first, nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 8)
        self.positions = nn.Embedding(16, 8)

    def forward(self, x):
        tokens = self.patches(x).flatten(2).permute(2, 0, 1)  # (16, N, 8)
        tokens = tokens + self.positions(torch.arange(16))[:, None]
        return self.over(tokens if self.first else tokens.transpose(0, 1)).flatten(1)


@pytest.mark.parametrize("batch_size", [None, 4])
def test_as_many_patches_as_images_are_not_taken_for_images(batch_size):
    clean, deformed = (
        torch.rand(8, 3, 16, 16, generator=seeded(seed)) for seed in (0, 1)
    )  # 2 x 8 images, 16 patches
    good, bad = Tokens(False), Tokens(True)
    bad.load_state_dict(good.state_dict())
    with pytest.warns(UserWarning, match="left out: layer 'positions'"):
        whole = sensitivity(good, clean, deformed, batch_size=batch_size)
    assert whole.keys() == {"input", "patches", "over"}
    with pytest.warns(UserWarning, match="left out: layer 'over'"):
        assert sensitivity(bad, clean, deformed, batch_size=batch_size) == {
            name: whole[name] for name in ("input", "patches")
        }
    with pytest.raises(ValueError, match="layer 'over': a representation must be"):
        sensitivity(bad, clean, deformed, ["over"], batch_size=batch_size)


def test_a_network_of_one_number_of_images_is_measured_and_randomness_stays():
    class Fixed(nn.Sequential):
        def forward(self, x):
            if len(x) != 12:
                raise RuntimeError("made for 12 images")
            return super().forward(x)

    clean, deformed = normal(6, 5), normal(6, 5, seed=1)
    model = nn.Sequential(nn.Linear(5, 3))
    state = torch.random.get_rng_state()
    assert sensitivity(Fixed(*model), clean, deformed) == sensitivity(model, clean, deformed)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_what_is_no_dense_tensor_is_left_out():
    class Sparse(nn.Module):
        def forward(self, x):
            return x.to_sparse()

    class Quantized(nn.Module):
        def forward(self, x):
            return torch.quantize_per_tensor(x, 0.1, 0, torch.qint8)

    class Dense(nn.Module):
        def forward(self, x):
            return x.dequantize() if x.is_quantized else x.to_dense()

    clean, deformed = normal(6, 5), normal(6, 5, seed=1)
    for module, kind in ((Sparse(), "torch.sparse_coo"), (Quantized(), "torch.qint8")):
        with pytest.warns(UserWarning, match=f"left out: layer '0': .* dense real .*{kind}"):
            found = sensitivity(nn.Sequential(module, Dense()), clean, deformed)
        assert found.keys() == {"input", "1"}


def test_bad_arguments_elsewhere_are_named():
    model = nn.Sequential(nn.Conv2d(2, 2, 3))
    for call, message in (
        (lambda: paired_distances(X, X[:2]), "b must be of the shape, dtype and device of a"),
        (lambda: pairwise_distances(X[:1]), "x must be .* at least 2"),
        (lambda: pairwise_distances(X, "l1"), "distance must be one of"),
        (lambda: normalized_distance(X[:1], X[:1]), "clean must be .* at least 2"),
        (
            lambda: normalized_distance(X * 0, X),
            "the median pairwise distance between clean images must be",
        ),
        (lambda: distances(model, X[:0], X[:0]), "clean must be"),
        (
            lambda: normalized_total_variation(X[0]),
            r"weight must be \(out, in, kh, kw\), got \(3, 16, 16\)",
        ),
        (
            lambda: normalized_total_variation(X * 0),
            r"weight must not be all zero, got \(3, 3, 16, 16\) zeros",
        ),
        (lambda: normalized_total_variation(NAN), "weight must be finite"),
        (lambda: normalized_total_variation(X.int()), "weight must be a floating-point tensor"),
        (
            lambda: kernels_by_variation(X, [0.5, 1.5]),
            r"quantiles must be one or more numbers in \[0, 1\], got \[0.5, 1.5\]",
        ),
        (
            lambda: kernels_by_variation(X, []),
            r"quantiles must be one or more numbers in \[0, 1\], got \[\]",
        ),
        (lambda: kernels_by_variation(X * 0, [0.5]), "weight must not be all zero"),
        (
            lambda: normalized_total_variation(X, "mean"),
            "average must be one of bank, kernel, got 'mean'",
        ),
        (
            lambda: sensitivity(lambda x: x, X, X),
            "model must be a torch.nn.Module, got function",
        ),
        (
            lambda: sensitivity(nn.Linear(16, 2).to("meta"), X, X),
            "x must be on the model's device, meta, got cpu",
        ),
        (lambda: smoothness(nn.ReLU(), "mean"), "average must be one of bank, kernel, got 'mean'"),
        (
            lambda: smoothness(
                nn.Sequential(nn.Conv2d(2, 2, 3).requires_grad_(False), zeroed()), layers="1"
            ),
            "layer '1': weight must",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def zeroed():
    conv = nn.Conv2d(2, 2, 3)
    nn.init.zeros_(conv.weight)
    return conv


def test_one_image_is_enough_for_distances():
    assert distances(nn.Flatten(), X[:1], X[1:2])["input"].shape == (1,)


def test_a_third_distance_is_one_entry(monkeypatch):
    squared = vectors.Distance(False, lambda square: square)
    monkeypatch.setitem(DISTANCES, "squared", squared)
    x = normal(5, 7)
    torch.testing.assert_close(
        pairwise_distances(x, "squared"), pairwise_distances(x, "euclidean") ** 2
    )


@pytest.mark.parametrize(("dtype", "large"), [(torch.float16, 6e4), (torch.float32, 3e38)])
def test_finite_values_whose_sum_is_not_are_finite(dtype: torch.dtype, large: float):
    check_vectors("x", torch.full((4, 100), large, dtype=dtype))
    for bad in (math.inf, -math.inf, math.nan):
        with pytest.raises(ValueError, match="x must be finite, got 1 NaN"):
            check_vectors(
                "x",
                torch.full((4, 100), large, dtype=dtype).index_put_(
                    (torch.tensor(1), torch.tensor(3)), torch.tensor(bad, dtype=dtype)
                ),
            )
    opposite = torch.zeros(4, 100).index_put_(
        (torch.tensor([0, 1]), torch.tensor([0, 0])), torch.tensor([math.inf, -math.inf])
    )
    with pytest.raises(ValueError, match="got 2 NaN or infinite"):
        check_vectors("x", opposite)


LAYOUTS = {
    "contiguous": torch.clone,
    "channels-last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "transposed": lambda x: x.mT.contiguous().mT,
    "every second": lambda x: x.repeat_interleave(2, 0)[::2],
    "a part": lambda x: nn.functional.pad(x, (1, 2, 3, 0), value=9.0)[..., 3:, 1:-2],
}


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(2, 7),
    seed=st.integers(0, 99),
    distance=st.sampled_from(list(DISTANCES)),
    layout=st.sampled_from(list(LAYOUTS)),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16]),
    batch=st.none() | st.integers(1, 8),
    gradients=st.booleans(),
    frozen=st.booleans(),
    compiled=st.booleans(),
    modes=st.lists(st.booleans(), min_size=6, max_size=6),
)
def test_any_images_and_any_state_of_the_network(
    n, seed, distance, layout, dtype, batch, gradients, frozen, compiled, modes
):
    torch.manual_seed(seed)
    steps = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(), nn.Flatten()
    )
    steps[1].running_mean.normal_(std=0.1)
    model = steps.to(dtype).requires_grad_(not frozen)
    clean, deformed = (
        LAYOUTS[layout](normal(n, 3, 6, 5, seed=seed + k, dtype=dtype)).requires_grad_(gradients)
        for k in (0, 1)
    )
    both, expected = [clean.detach(), deformed.detach()], {}
    steps.eval()
    with torch.no_grad():
        for name, step in (
            ("input", nn.Identity()),
            *((str(k), step) for k, step in enumerate(steps)),
        ):
            both = [step(x.clone()) for x in both]
            expected[name] = brute_force(*both, distance)
    for module, mode in zip(model.modules(), modes, strict=True):
        module.training = mode
    state = {name: value.clone() for name, value in model.state_dict().items()}
    wrapped = torch.compile(model, backend="eager") if compiled else model
    found = sensitivity(wrapped, clean, deformed, None, distance, batch)
    half = dtype in (
        torch.bfloat16,
        torch.float16,
    )  # convolutions of another number of images may round otherwise
    assert found == pytest.approx(expected, rel=2e-2 if half else 1e-4)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules()) and clean.grad is None
    if gradients and not half:  # of every layer at once, the one before an in-place module included
        sum(
            moved.sum() for moved in distances(wrapped, clean, deformed, None, distance).values()
        ).backward()
        assert clean.grad.any() and clean.grad.isfinite().all() and deformed.grad.isfinite().all()


def test_thousands_of_images_in_chunks_give_the_result_of_one_batch():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.AvgPool2d(2),
        nn.Flatten(),
    )
    clean = torch.rand(4096, 1, 8, 8, generator=seeded(1))
    deformed = clean + 0.1 * normal(4096, 1, 8, 8, seed=2)
    whole = sensitivity(model, clean, deformed, ["input", "2"])
    assert sensitivity(model, clean, deformed, whole, batch_size=np.int64(1000)) == pytest.approx(
        whole, rel=1e-6
    )
    apart = [
        distances(model, *part)
        for part in zip(clean.split(1000), deformed.split(1000), strict=True)
    ]
    for layer, moved in distances(model, clean, deformed).items():
        torch.testing.assert_close(
            torch.cat([part[layer] for part in apart]), moved, rtol=1e-5, atol=1e-9
        )


SCALES = [1e-45, 1e-38, 1e-23, 1e-10, 1.0, 1e18, 1e30, 1e37]
MIXED = torch.tensor([1e-38, 1e37, 1.0, 1e-23, 1e20, 1e-10, 1e30], dtype=torch.float64)


def every_distance(a, b, distance):
    paired = np.array([by_pair(x, y, distance) for x, y in zip(a, b, strict=True)])
    return paired, all_pairs(a, distance)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("scale", SCALES)
def test_values_far_from_1_keep_their_digits(scale, distance):
    a, b = ((scale * (normal(7, 300, seed=s).double() + 0.5)).float() for s in (0, 1))
    paired, pairs = every_distance(a, b, distance)
    np.testing.assert_allclose(paired_distances(a, b, distance), paired, rtol=2e-5, atol=1e-45)
    np.testing.assert_allclose(pairwise_distances(a, distance), pairs, rtol=2e-5, atol=1e-45)
    if a.any(1).all():  # at 1e-45 nothing but single bits is left
        found = normalized_distance(a, b, distance).item()
        tolerance = 0.05 if scale == 1e-45 else 2e-5
        assert found == pytest.approx(paired.mean() / np.median(pairs), rel=tolerance)


@pytest.mark.parametrize("distance", DISTANCES)
def test_rows_of_mixed_scale_keep_their_digits(distance):
    a, b = ((MIXED[:, None] * (normal(7, 300, seed=s).double() + 0.5)).float() for s in (0, 1))
    paired, pairs = every_distance(a, b, distance)
    np.testing.assert_allclose(paired_distances(a, b, distance), paired, rtol=2e-5)
    np.testing.assert_allclose(pairwise_distances(a, distance), pairs, rtol=2e-5)
    flipped = [by_pair(x, y, distance) for x, y in zip(a, b.flip(0), strict=True)]
    np.testing.assert_allclose(paired_distances(a, b.flip(0), distance), flipped, rtol=2e-5)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("dtype, scale", [
    (torch.float16, 6e-8), (torch.float16, 1e4), (torch.bfloat16, 1e-38), (torch.bfloat16, 1e37),
    (torch.float64, 1e-140), (torch.float64, 1e140),
])  # fmt: skip
def test_other_types_keep_their_digits_at_the_ends_of_their_range(dtype, scale, distance):
    a, b = ((scale * (normal(7, 300, seed=s).double() + 0.5)).to(dtype) for s in (0, 1))
    paired, pairs = every_distance(a.double(), b.double(), distance)
    np.testing.assert_allclose(paired_distances(a, b, distance), paired, rtol=2e-5)
    np.testing.assert_allclose(pairwise_distances(a, distance), pairs, rtol=2e-5)


@pytest.mark.parametrize("scale", [1e-200, 1e-305, 1e200, 1e300])
def test_cosine_distance_of_float64_has_no_scale_either(scale):
    a, b = (normal(7, 300, seed=s, dtype=torch.float64) for s in (0, 1))
    torch.testing.assert_close(paired_distances(scale * a, b), paired_distances(a, b))
    torch.testing.assert_close(pairwise_distances(scale * a), pairwise_distances(a))


def test_coordinates_of_mixed_scale_have_a_euclidean_distance():
    a, b = torch.tensor([[1.0, 1e-30], [3.0, 0.0]]), torch.tensor([[1.0, 3e-30], [0.0, 4.0]])
    np.testing.assert_allclose(paired_distances(a, b, "euclidean"), [2e-30, 5], rtol=1e-6)
    near = torch.cat([a[:1], b[:1], torch.tensor([[5.0, 1.0]])])
    assert pairwise_distances(near, "euclidean")[0].item() == pytest.approx(2e-30, rel=1e-6)


def test_ordinary_rows_keep_their_bits_beside_far_ones():
    a, b = normal(6, 300), normal(6, 300, seed=1)
    far = a.clone()
    far[2] *= 2.0**-100
    for distance in DISTANCES:
        expected, found = paired_distances(a, b, distance), paired_distances(far, b, distance)
        kept = torch.arange(6) != 2
        assert torch.equal(found[kept], expected[kept])
    assert torch.equal(pairwise_distances(far), pairwise_distances(a))


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("scale", [2.0**-80, 2.0**100])
def test_gradients_far_from_1(scale, distance):
    a, b = normal(5, 20), normal(5, 20, seed=1)
    gradients = []
    for factor in (1.0, scale):
        x = (a * factor).requires_grad_()
        x_far = torch.cat([x, a[:1]])  # and an ordinary row
        moved = paired_distances(x_far, torch.cat([b * factor, b[:1]]), distance)
        pairs = pairwise_distances(x, distance)
        power = factor if distance == "euclidean" else 1.0
        ((moved[:5] / power).sum() + (pairs / power).sum()).backward()
        gradients.append(x.grad * factor)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("scale", [2.0**-76, 2.0**60, 2.0**110])
@pytest.mark.parametrize("batch_size", [None, 4])
def test_sensitivity_does_not_depend_on_scale(scale, distance, batch_size, images):
    class Scaled(nn.Module):
        def forward(self, x):
            return x * scale

    model = nn.Sequential(nn.Identity(), Scaled())
    found = sensitivity(model, *images, ["0", "1"], distance, batch_size)
    assert found["1"] == pytest.approx(found["0"], rel=1e-5)


@pytest.mark.parametrize("distance", DISTANCES)
def test_statistics_agree_with_numpy(distance):
    clean, deformed = normal(9, 40), normal(9, 40, seed=1)
    paired, pairs = every_distance(clean, deformed, distance)
    found = statistics(clean, deformed, distance)
    expected = {
        "mean": paired.mean(),
        "median": np.median(paired),
        "mean_square": (paired**2).mean(),
        "pairs_mean": pairs.mean(),
        "pairs_median": np.median(pairs),
        "pairs_mean_square": (pairs**2).mean(),
        "normalized": paired.mean() / np.median(pairs),
    }
    for name, value in expected.items():
        assert float(getattr(found, name)) == pytest.approx(value, rel=1e-5), name
    assert normalized_distance(clean, deformed, distance) == found.normalized.float()
    assert statistics(clean[:1].expand(3, -1), clean[:3]).normalized.isnan()
    large = statistics(1e30 * clean, 1e30 * deformed, "euclidean")  # whose squares float32 lacks
    assert float(large.mean_square) == pytest.approx(
        1e60 * float(statistics(clean, deformed, "euclidean").mean_square)
    )


class Checkpointed(nn.Module):
    """A block that is computed again in the backward pass, with layers in it."""

    def __init__(self, again: bool):
        super().__init__()
        self.again = again
        self.block = nn.Sequential(nn.Linear(6, 8), nn.ReLU(inplace=True), nn.Linear(8, 6))
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        x = checkpoint(self.block, x, use_reentrant=False) if self.again else self.block(x)
        return self.head(x)


@pytest.mark.parametrize("distance", DISTANCES)
def test_distances_of_a_checkpointed_network_are_differentiable(distance):
    gradients = []
    for again in (False, True):
        torch.manual_seed(0)
        model = Checkpointed(again)
        clean, deformed = normal(4, 6).requires_grad_(), normal(4, 6, seed=1)
        moved = distances(model, clean, deformed, None, distance)
        assert list(moved) == ["input", "block.0", "block.1", "block.2", "head"]
        sum(m.sum() for m in moved.values()).backward()
        gradients.append([clean.grad, *(p.grad for p in model.parameters())])
    for plain, computed_again in zip(*gradients, strict=True):
        torch.testing.assert_close(computed_again, plain)
