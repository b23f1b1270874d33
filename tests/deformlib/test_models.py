import math

import numpy as np
import pytest
import torch
from torch import nn

from deformlib.models import (
    DOWNSAMPLINGS,
    Downsampling,
    Subsample,
    _truncated_normal,
    cifar10_vgg,
    imagenet_vgg,
    initialize,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def shapes(model, x):
    seen = {}
    for name in model.layers[1:]:
        model.get_submodule(name).register_forward_hook(
            lambda m, a, out, name=name: seen.update({name: out.shape[1:]})
        )
    return model(x), {name: tuple(shape) for name, shape in seen.items()}


def test_the_table_is_the_paper_s_list_and_one_more():
    assert list(DOWNSAMPLINGS) == [
        "subsample",
        "max-pool",
        "average-pool",
        "strided",
        "strided-relu",
        "blur-pool",
    ]
    assert (
        len({d.colour for d in DOWNSAMPLINGS.values()})
        == len({d.label for d in DOWNSAMPLINGS.values()})
        == 6
    )


@pytest.mark.parametrize("downsampling", DOWNSAMPLINGS)
def test_thirteen_representations_of_cifar10(downsampling):
    model = cifar10_vgg(downsampling, generator=seeded())
    logits, seen = shapes(model, torch.rand(2, 3, 32, 32))
    assert logits.shape == (2, 10)
    assert model.layers == ("input", *seen) and len(model.layers) == 13
    expected, side = {}, 32
    for block, channels in enumerate((32, 64, 128, 256), 1):
        expected |= {f"conv{block}_{conv}": (channels, side, side) for conv in (1, 2)}
        side //= 2
        expected[f"down{block}"] = (channels, side, side)
    assert seen == expected


@pytest.mark.parametrize("downsampling", DOWNSAMPLINGS)
def test_nineteen_representations_of_imagenet(downsampling):
    model = imagenet_vgg(downsampling, width=1 / 16, generator=seeded())
    logits, seen = shapes(model, torch.rand(1, 3, 224, 224))
    assert (
        logits.shape == (1, 1000) and model.layers == ("input", *seen) and len(model.layers) == 19
    )
    depths = [sum(name.startswith(f"conv{block}_") for name in seen) for block in range(1, 6)]
    assert depths == [2, 2, 3, 3, 3]
    assert [seen[f"down{b}"] for b in range(1, 6)] == [
        (4, 112, 112),
        (8, 56, 56),
        (16, 28, 28),
        (32, 14, 14),
        (32, 7, 7),
    ]


def test_full_width_imagenet_channels():
    with torch.device("meta"):
        model = imagenet_vgg("max-pool")
    assert [m.out_channels for m in model.modules() if isinstance(m, nn.Conv2d)] == (
        [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6
    )
    assert model.head.weight.shape == (1000, 512)


def test_blocks_are_convolution_norm_relu_without_bias():
    model = cifar10_vgg("strided-relu")
    for name in ("conv1_1", "down1"):
        block = model.get_submodule(name)
        assert [n for n, _ in block.named_children()] == ["conv", "norm", "relu"]
        assert (
            block.conv.bias is None
            and isinstance(block.norm, nn.BatchNorm2d)
            and isinstance(block.relu, nn.ReLU)
        )
    assert model.conv1_1.conv.kernel_size == (3, 3) and model.conv1_1.conv.padding == (1, 1)
    assert model.down1.conv.kernel_size == model.down1.conv.stride == (2, 2)
    assert (
        isinstance(cifar10_vgg("strided").down1, nn.Conv2d)
        and cifar10_vgg("strided").down1.bias is None
    )


def test_representation_is_not_negative_after_the_relu_and_is_before():
    model, seen = cifar10_vgg("max-pool", generator=seeded()).eval(), {}
    for name in ("conv1_1", "conv1_1.norm"):
        model.get_submodule(name).register_forward_hook(
            lambda m, a, out, n=name: seen.update({n: out.min().item()})
        )
    model(torch.rand(2, 3, 32, 32))
    assert seen["conv1_1"] == 0 > seen["conv1_1.norm"]


def test_downsampling_layers_compute_what_their_names_say():
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    results = {
        name: DOWNSAMPLINGS[name].build(1)(x).flatten().tolist() for name in list(DOWNSAMPLINGS)[:3]
    }
    assert results["subsample"] == [0, 2, 8, 10]  # top left
    assert results["max-pool"] == [5, 7, 13, 15]
    assert results["average-pool"] == [2.5, 4.5, 10.5, 12.5]


@pytest.mark.parametrize("side", [2, 4, 10, 32])
def test_blur_pool_is_a_maximum_a_binomial_and_every_other_position(side):
    from scipy.ndimage import convolve, maximum_filter

    x = torch.randn(2, 3, side, side, generator=seeded()).double()
    binomial = np.outer([1, 2, 1], [1, 2, 1]) / 16
    expected = []
    for plane in x.flatten(0, 1).numpy():
        largest = maximum_filter(plane, size=2, origin=-1)[
            :-1, :-1
        ]  # of each pixel, its right, lower and diagonal neighbour
        expected.append(convolve(largest, binomial, mode="nearest")[::2, ::2])
    out = DOWNSAMPLINGS["blur-pool"].build(3)(x)
    assert out.shape == (2, 3, side // 2, side // 2)
    np.testing.assert_allclose(out.flatten(0, 1).numpy(), expected, rtol=1e-12)


def test_blur_pool_has_no_weights_and_leaves_a_constant_alone():
    layer = DOWNSAMPLINGS["blur-pool"].build(3)
    assert not layer.state_dict()
    torch.testing.assert_close(
        layer(torch.full((1, 3, 8, 8), -1.7)), torch.full((1, 3, 4, 4), -1.7)
    )


def test_blur_pool_changes_less_than_max_pool_when_the_image_is_shifted():
    x = torch.rand(64, 3, 32, 32, generator=seeded())
    moved = x.roll(1, -1)
    changes = {
        name: float((layer(moved) - layer(x)).norm() / (layer(x) - layer(x).mean()).norm())
        for name in ("max-pool", "blur-pool", "subsample")
        for layer in [DOWNSAMPLINGS[name].build(3)]
    }
    assert changes["blur-pool"] < 0.8 * changes["max-pool"] < changes["subsample"], changes
    two = {
        name: layer(x.roll(2, -1))[..., 2:-1] - layer(x).roll(1, -1)[..., 2:-1]
        for name in ("max-pool", "blur-pool")
        for layer in [DOWNSAMPLINGS[name].build(3)]
    }
    assert all(not difference.any() for difference in two.values()), (
        "a shift by a whole step is one by a position"
    )


def test_one_seed_gives_all_variants_the_same_filters_and_head():
    variants = [cifar10_vgg(d, width=0.25, generator=seeded(3)) for d in DOWNSAMPLINGS]
    first = {
        n: w
        for n, w in variants[0].state_dict().items()
        if n.endswith("conv.weight") or n.startswith("head")
    }
    assert len(first) == 10
    for variant in variants[1:]:
        for name, weight in first.items():
            assert torch.equal(variant.state_dict()[name], weight), name


def test_filters_do_not_depend_on_the_number_of_classes():
    few, many = (
        cifar10_vgg("strided", classes, width=0.25, generator=seeded()) for classes in (2, 100)
    )
    assert torch.equal(few.conv4_2.conv.weight, many.conv4_2.conv.weight)


def test_seeds_differ_and_the_global_random_state_stays():
    before = torch.random.get_rng_state()
    one, same, other = (
        cifar10_vgg("strided-relu", width=0.25, generator=seeded(s)) for s in (1, 1, 2)
    )
    assert torch.equal(one.down1.conv.weight, same.down1.conv.weight)
    assert not torch.equal(one.down1.conv.weight, other.down1.conv.weight)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_initialization_is_a_truncated_normal_of_the_paper_s_scale():
    model = cifar10_vgg("strided-relu", classes=1000, generator=seeded())
    weights = {n: w for n, w in model.named_parameters() if w.ndim > 1}
    assert len(weights) == 8 + 4 + 1
    for name, weight in weights.items():
        bound = 2 / math.sqrt(weight[0].numel())
        tolerance = 4 / math.sqrt(weight.numel())
        assert bound * 0.9 < weight.abs().max() <= bound * (1 + 1e-6), name
        assert weight.std().item() == pytest.approx(0.8796 * bound / 2, rel=tolerance), name
        assert abs(weight.mean().item()) < bound * tolerance, name
    assert not model.head.bias.any()


def test_a_seed_gives_the_same_weights_whatever_the_version_of_pytorch():
    filters = cifar10_vgg("max-pool", generator=seeded()).conv1_1.conv.weight
    # Of PyTorch 2.14, which drew those of the book's records.
    first = torch.tensor(
        [
            -0.216668,
            -0.221772,
            -0.0482239,
            -0.0835,
            0.163334,
            0.133177,
            -0.0608167,
            -0.192534,
            0.0620218,
        ]
    )
    torch.testing.assert_close(filters[0, 0].flatten(), first, rtol=1e-4, atol=1e-6)
    if torch.__version__.startswith("2.14"):
        own = nn.init.trunc_normal_(
            torch.empty(64, 32, 3, 3),
            0.0,
            1 / math.sqrt(288),
            -2 / math.sqrt(288),
            2 / math.sqrt(288),
            generator=torch.Generator().manual_seed(1),
        )
        assert torch.equal(_truncated_normal(own.shape, torch.Generator().manual_seed(1)), own)


def test_initialize_resets_any_network():
    model = nn.Sequential(
        nn.Conv2d(4, 6, 3, groups=2), nn.BatchNorm2d(6), nn.Flatten(), nn.LazyLinear(3)
    )
    for _ in range(3):
        model(torch.rand(5, 4, 8, 8))
    nn.init.constant_(model[1].weight, 7)
    assert initialize(model, generator=seeded()) is model
    assert not model[0].bias.any() and not model[3].bias.any()
    assert (
        (model[1].weight == 1).all()
        and (model[1].running_var == 1).all()
        and model[1].num_batches_tracked == 0
    )
    assert (
        0.5 * 2 / math.sqrt(18) < model[0].weight.abs().max() <= 2 / math.sqrt(18)
    )  # n_in = 4 / 2 * 3 * 3


def test_initialize_sets_a_weight_that_is_computed():
    plain, computed = nn.Conv2d(2, 3, 3), nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 3, 3))
    for model in (plain, computed):
        initialize(model, generator=seeded())
    torch.testing.assert_close(computed.weight, plain.weight)


def test_smoothed_weights_keep_the_bits_that_records_rest_on():
    plain, smooth = (
        initialize(cifar10_vgg("max-pool", width=0.25), generator=seeded(), smoothing=s)
        for s in (0, 0.7)
    )
    line = torch.softmax(-((torch.tensor([-1.0, 0, 1]).double() / 0.7) ** 2) / 2, 0).float()
    planes = plain.conv2_1.conv.weight.flatten(0, 1)[:, None]
    expected = nn.functional.conv2d(planes, torch.outer(line, line)[None, None], padding=1)
    found = smooth.conv2_1.conv.weight
    assert torch.equal(found, expected.reshape(found.shape))


@pytest.mark.parametrize("sigma", [0.3, 0.5, 1.0, 100.0])
def test_smoothing_convolves_filters_with_a_sampled_gaussian(sigma):
    from scipy.ndimage import convolve

    plain, smooth = (
        initialize(cifar10_vgg("strided", width=0.25), generator=seeded(), smoothing=s)
        for s in (0, sigma)
    )
    y, x = np.mgrid[-1:2, -1:2]
    gaussian = np.exp(-(x**2 + y**2) / (2 * sigma**2))
    kernels = plain.conv2_1.conv.weight.detach().double().numpy()
    expected = convolve(kernels, (gaussian / gaussian.sum())[None, None], mode="constant")
    np.testing.assert_allclose(smooth.conv2_1.conv.weight.detach().numpy(), expected, atol=1e-6)
    assert torch.equal(plain.down1.weight, smooth.down1.weight) and torch.equal(
        plain.head.weight, smooth.head.weight
    )


@pytest.mark.parametrize("sigma", [1e-300, 0.01])
def test_a_narrow_gaussian_is_the_identity(sigma):
    plain, smooth = (
        initialize(cifar10_vgg("subsample", width=0.25), generator=seeded(), smoothing=s)
        for s in (0, sigma)
    )
    assert torch.equal(plain.conv1_1.conv.weight, smooth.conv1_1.conv.weight)


def test_width_scales_channels_to_at_least_one():
    channels = [
        cifar10_vgg("max-pool", width=w).conv1_1.conv.out_channels for w in (2, 0.25, 0.36, 1e-9)
    ]
    assert channels == [64, 8, 12, 1]


def test_a_sixth_variant_is_one_entry(monkeypatch):
    monkeypatch.setitem(
        DOWNSAMPLINGS,
        "mine",
        Downsampling(lambda c: nn.Sequential(nn.Identity(), Subsample()), "Mine", "k"),
    )
    mine, subsample = (cifar10_vgg(d, generator=seeded()).eval() for d in ("mine", "subsample"))
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(mine(x), subsample(x))


@pytest.mark.parametrize("downsampling", DOWNSAMPLINGS)
def test_channels_last_autocast_and_gradients(downsampling):
    model = cifar10_vgg(downsampling, width=0.25, generator=seeded())
    x = torch.rand(4, 3, 32, 32)
    expected = model.eval()(x)
    fast = model.to(memory_format=torch.channels_last)
    torch.testing.assert_close(
        fast(x.to(memory_format=torch.channels_last)), expected, rtol=1e-4, atol=1e-5
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = fast.train()(x)
    half.float().sum().backward()
    assert half.dtype == torch.bfloat16 and all(w.grad.isfinite().all() for w in model.parameters())


def test_compiles_in_one_graph():
    model = cifar10_vgg("subsample", width=0.25).eval()
    x = torch.rand(2, 3, 32, 32)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    assert torch.equal(compiled(x), model(x))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: cifar10_vgg("maxpool"),
            r"downsampling must be one of subsample, max-pool, .*, got 'maxpool'",
        ),
        (lambda: cifar10_vgg("max-pool", classes=0), "classes must be an integer >= 1, got 0"),
        (
            lambda: cifar10_vgg("max-pool", classes=True),
            "classes must be an integer >= 1, got True",
        ),
        (
            lambda: cifar10_vgg(["max-pool"]),
            r"downsampling must be one of subsample, .*, got \['max-pool'\]",
        ),
        (
            lambda: cifar10_vgg("max-pool", generator=3),
            "generator must be a torch.Generator or None, got 3",
        ),
        (lambda: initialize(3), "model must be a torch.nn.Module, got int"),
        (lambda: cifar10_vgg("max-pool", classes=2.5), "classes must be an integer >= 1, got 2.5"),
        (
            lambda: imagenet_vgg("max-pool", in_channels=0),
            "in_channels must be an integer >= 1, got 0",
        ),
        (lambda: imagenet_vgg("max-pool", width=0), "width must be a finite number > 0, got 0"),
        (
            lambda: imagenet_vgg("max-pool", width=math.inf),
            "width must be a finite number > 0, got inf",
        ),
        (
            lambda: imagenet_vgg("max-pool", width=math.nan),
            "width must be a finite number > 0, got nan",
        ),
        (
            lambda: cifar10_vgg("max-pool", width="half"),
            "width must be a finite number > 0, got 'half'",
        ),
        (
            lambda: initialize(nn.ReLU(), smoothing=-1),
            "smoothing must be a finite number >= 0, in pixels, got -1",
        ),
        (lambda: initialize(nn.ReLU(), smoothing=math.nan), "smoothing must .* got nan"),
        (lambda: initialize(nn.ReLU(), smoothing=math.inf), "smoothing must .* got inf"),
        (lambda: initialize(nn.ReLU(), smoothing=None), "smoothing must .* got None"),
    ],
)
def test_bad_arguments_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize(
    "shape", [(2, 3, 28, 28), (2, 3, 32, 24), (2, 1, 32, 32), (3, 32, 32), (2, 3, 0, 16)]
)
@pytest.mark.parametrize("compiled", [False, True])
def test_images_that_would_break_silently_are_refused(shape, compiled):
    model = cifar10_vgg("subsample", width=0.25)
    model = torch.compile(model, backend="eager") if compiled else model
    with pytest.raises(
        ValueError, match=r"x must be \(N, 3, H, W\) with H and W multiples of 16, got"
    ):
        model(torch.rand(shape))
