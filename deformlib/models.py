"""The paper's networks (Section 2.2): a VGG family, ways of downsampling, an initialization."""

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from deformlib.filters import is_filter, smoothed
from deformlib.representations import check_model
from deformlib.seeding import device_of
from deformlib.validation import check_known, is_real, is_whole, require

Model = TypeVar("Model", bound=nn.Module)


class Subsample(nn.Module):
    """Keep the top left of each 2x2 square: (N, C, H, W) -> (N, C, H/2, W/2)."""

    def forward(self, x: Tensor) -> Tensor:
        return x[..., ::2, ::2]


class GlobalAveragePool(nn.Module):
    """Mean over space: (N, C, H, W) -> (N, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


def _conv(inputs: int, outputs: int, side: int, **options: Any) -> nn.Conv2d:
    # Left uninitialized, so that building a network leaves torch's global random state alone.
    options["device"] = torch.get_default_device()
    return nn.utils.skip_init(nn.Conv2d, inputs, outputs, side, bias=False, **options)


def _with_norm_and_relu(conv: nn.Conv2d) -> nn.Sequential:
    norm, relu = nn.BatchNorm2d(conv.out_channels), nn.ReLU(inplace=True)
    return nn.Sequential(OrderedDict(conv=conv, norm=norm, relu=relu))


def _strided_relu(channels: int) -> nn.Sequential:
    return _with_norm_and_relu(_conv(channels, channels, 2, stride=2))


def _blur_pool(channels: int) -> nn.Sequential:
    # Two means over 2x2 are the binomial [1 2 1] x [1 2 1] / 16, centred where the others' squares
    # are. Beyond the edge the edge goes on; Zhang reflects, which 2x2 is too small for.
    blur = nn.ReplicationPad2d(1), nn.AvgPool2d(2, 1), nn.AvgPool2d(2)
    return nn.Sequential(nn.MaxPool2d(2, 1), *blur)


@dataclass(frozen=True)
class Downsampling:
    """A layer that halves height and width. `paper`: one of the paper's five."""

    build: Callable[[int], nn.Module]
    label: str
    colour: str
    paper: bool = False


# Section 2.2, the paper's five in its order, and Zhang (2019). Colours of Okabe and Ito, told apart
# by the colour-blind.
DOWNSAMPLINGS: dict[str, Downsampling] = {
    "subsample": Downsampling(lambda _: Subsample(), "Subsample", "#0072B2", paper=True),
    "max-pool": Downsampling(lambda _: nn.MaxPool2d(2), "Max-pool", "#E69F00", paper=True),
    "average-pool": Downsampling(lambda _: nn.AvgPool2d(2), "Average-pool", "#009E73", paper=True),
    "strided": Downsampling(lambda n: _conv(n, n, 2, stride=2), "Strided", "#D55E00", paper=True),
    "strided-relu": Downsampling(_strided_relu, "Strided-ReLU", "#CC79A7", paper=True),
    "blur-pool": Downsampling(_blur_pool, "Blur-pool", "#56B4E9"),
}

READOUT = ("pool", "head")  # the modules after the paper's layers; they are measured as well
# Section 2.2: (convolutions, channels) of each block.
BLOCKS: dict[str, tuple[tuple[int, int], ...]] = {
    "cifar10_vgg": ((2, 32), (2, 64), (2, 128), (2, 256)),
    "imagenet_vgg": ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)),
}


class VGG(nn.Module):
    """Blocks of 3x3 convolutions, each followed by a downsampling layer; global average pool; one
    linear layer: (N, in_channels, H, W) -> (N, classes).
    `blocks` holds (depth, channels) of each. `layers` names the representations in execution order:
    "input", then submodules. A conv layer "conv1_1" has the children `conv`, `norm`, `relu`, and
    its representation is what the ReLU returns. H and W must be multiples of 2**len(blocks).
    """

    def __init__(
        self,
        blocks: Sequence[tuple[int, int]],
        downsampling: str,
        classes: int = 10,
        in_channels: int = 3,
        width: float = 1.0,
    ) -> None:
        super().__init__()
        check_known("downsampling", downsampling, DOWNSAMPLINGS)
        for name, value in (("classes", classes), ("in_channels", in_channels)):
            require(is_whole(value, 1), name, "an integer >= 1", repr(value))
        valid = is_real(width) and 0 < width < math.inf
        require(valid, "width", "a finite number > 0", repr(width))
        self.downsampling, self.in_channels = downsampling, in_channels
        self.multiple = 2 ** len(blocks)  # H and W must be multiples of this
        channels = in_channels
        for block, (depth, full) in enumerate(blocks, 1):
            for number in range(1, depth + 1):
                inputs, channels = channels, max(1, round(width * full))
                conv = _conv(inputs, channels, 3, padding=1)
                self.add_module(f"conv{block}_{number}", _with_norm_and_relu(conv))
            self.add_module(f"down{block}", DOWNSAMPLINGS[downsampling].build(channels))
        self.layers: tuple[str, ...] = ("input", *dict(self.named_children()))
        self.pool = GlobalAveragePool()
        device = torch.get_default_device()
        self.head = nn.utils.skip_init(nn.Linear, channels, classes, device=device)

    def forward(self, x: Tensor) -> Tensor:
        fits = x.ndim == 4 and all(side and side % self.multiple == 0 for side in x.shape[2:])
        rule = f"(N, {self.in_channels}, H, W) with H and W multiples of {self.multiple}"
        require(fits and x.shape[1] == self.in_channels, "x", rule, tuple(x.shape))
        for name in (*self.layers[1:], *READOUT):
            x = self.get_submodule(name)(x)
        return x


def cifar10_vgg(
    downsampling: str,
    classes: int = 10,
    in_channels: int = 3,
    width: float = 1.0,
    *,
    generator: torch.Generator | None = None,
) -> VGG:
    """The CIFAR-10 network of Section 2.2, with 13 representations and weights as of `initialize`:
    (N, in_channels, H, W), H and W multiples of 16, -> (N, classes). `width` scales the numbers of
    channels. A ValueError names an argument out of range."""
    model = VGG(BLOCKS["cifar10_vgg"], downsampling, classes, in_channels, width)
    return initialize(model, generator=generator)


def imagenet_vgg(
    downsampling: str,
    classes: int = 1000,
    in_channels: int = 3,
    width: float = 1.0,
    *,
    generator: torch.Generator | None = None,
) -> VGG:
    """As `cifar10_vgg`: the one for ImageNet, 19 representations, H and W multiples of 32."""
    model = VGG(BLOCKS["imagenet_vgg"], downsampling, classes, in_channels, width)
    return initialize(model, generator=generator)


@torch.no_grad()
def initialize(
    model: Model, *, generator: torch.Generator | None = None, smoothing: float = 0.0
) -> Model:
    """Set every Conv2d and Linear of `model` to the paper's initialization, in place; return it.
    Weights are normal with standard deviation 1/sqrt(n_in), n_in = in * kh * kw, truncated at two
    of these (footnote 2). Biases are zero; batch norm is reset. Drawn on the generator's device
    (the CPU if none): filters (`is_filter`) first, then linear layers, then other convolutions, so
    that one seed gives networks that differ in their downsampling the same filters and head.
    `smoothing` is the standard deviation, in pixels, of a Gaussian that filters are convolved with
    (Section 4.2, Figure 4), zero beyond their edge. ValueError unless it is finite and at least 0.
    """
    check_model(model)
    valid = is_real(smoothing) and 0 <= smoothing < math.inf
    require(valid, "smoothing", "a finite number >= 0, in pixels", repr(smoothing))
    drawn = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    for module in sorted(drawn, key=lambda m: (not is_filter(m), isinstance(m, nn.Conv2d))):
        weight = _truncated_normal(module.weight.shape, generator)
        if smoothing and is_filter(module):
            weight = smoothed(weight, smoothing)
        if parametrize.is_parametrized(module, "weight"):
            module.weight = weight.to(module.weight)  # inverts what the weight is computed by
        else:
            module.weight.copy_(weight)
        if module.bias is not None:
            module.bias.zero_()
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            norm.reset_parameters()
    return model


def _truncated_normal(shape: torch.Size, generator: torch.Generator | None) -> Tensor:
    """Not `nn.init.trunc_normal_`, whose values depend on PyTorch: 2.11 and 2.14 differ."""
    std = 1 / math.sqrt(shape[1:].numel())  # (out, in, kh, kw) or (out, in)
    beyond = torch.ones(shape, dtype=torch.bool, device=device_of(generator))
    weight = torch.zeros(shape, dtype=torch.float32, device=beyond.device)
    while beyond.any():
        drawn = torch.empty_like(weight).normal_(0, std, generator=generator)
        weight = torch.where(beyond, drawn, weight)
        beyond = weight.abs() > 2 * std
    return weight
