"""Networks that others trained on ImageNet, as chains of stages, each with its input scaling.

The paper's own ImageNet networks were not published. These were truly trained on ImageNet: VGG-16
has the paper's layout (Section 2.2) with max-pooling and without batch norm; EfficientNet-lite0 has
no pooling but the global one; SqueezeNet 1.1 pools three times.
"""

import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from deformlib import initialize
from deformlib.models import BLOCKS
from deformlib.seeding import stream
from deformlib.validation import check_known

CHANNEL_MEANS = (
    123.68,
    116.779,
    103.939,
)  # of ImageNet's pixels in [0, 255]: Simonyan and Zisserman (2014)


class Chain(nn.Sequential):
    """Stages that follow one another; `layers` names the representations, "input" first.

    The readout, "pool" and "head", is part of the chain and not of `layers`, as in
    `deformlib.models.VGG`.
    """

    def __init__(self, stages: dict[str, nn.Module]) -> None:
        super().__init__(OrderedDict(stages))
        self.layers = ("input", *(name for name in stages if name not in ("pool", "head")))


class Pretrained(NamedTuple):
    """A network in eval mode, and how images in [0, 1], (N, 3, H, W), become its input."""

    model: Chain
    scale: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Source:
    """Where a network comes from.

    file      of its weights in $DEFORMLIB_WEIGHTS
    build     (trained) -> the library's module, with weights from the network if `trained`
    chain     that module -> its stages by name, in execution order
    scale     images in [0, 1] -> the network's input
    label     for figures
    """

    file: str
    build: Callable[[bool], nn.Module]
    chain: Callable[[nn.Module], dict[str, nn.Module]]
    scale: Callable[[Tensor], Tensor]
    label: str


def pretrained(name: str) -> Pretrained:
    """A network trained on ImageNet, with its input scaling.

    The weights are those of `$DEFORMLIB_WEIGHTS/FILE.safetensors` where that exists, else of
    torchvision or timm, which download them.

    ValueError for a `name` that is not in PRETRAINED. FileNotFoundError, naming the file, where
    there are neither weights nor a connection.
    """
    check_known("name", name, PRETRAINED)
    source = PRETRAINED[name]
    file = weights_file(name)
    if file is not None and file.exists():
        module = source.build(False)
        module.load_state_dict(_floats(file))
    else:
        module = _downloaded(name, file)
    return Pretrained(Chain(source.chain(module)).eval(), source.scale)


def untrained(name: str, seed: int) -> Pretrained:
    """The same architecture at the paper's initialization (footnote 2), and the same input scaling.

    ValueError for a `name` that is not in PRETRAINED.
    """
    check_known("name", name, PRETRAINED)
    source = PRETRAINED[name]
    module = initialize(source.build(False), generator=stream(seed, "initialization"))
    return Pretrained(Chain(source.chain(module)).eval(), source.scale)


def weights_file(name: str) -> Path | None:
    """Where `pretrained` looks first; None without DEFORMLIB_WEIGHTS."""
    folder = os.environ.get("DEFORMLIB_WEIGHTS")
    return Path(folder).expanduser() / f"{PRETRAINED[name].file}.safetensors" if folder else None


def _floats(file: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return {
        name: value.float() if value.is_floating_point() else value
        for name, value in load_file(file).items()
    }


def _downloaded(name: str, file: Path | None) -> nn.Module:
    try:
        return PRETRAINED[name].build(True)
    except Exception as error:  # each library raises what it likes where there is no connection
        where = "DEFORMLIB_WEIGHTS is not set" if file is None else f"there is no {file}"
        raise FileNotFoundError(
            f"no weights of {name}: {where}, and they could not be downloaded ({error})"
        ) from error


def _vgg16(trained: bool) -> nn.Module:
    from torchvision.models import VGG16_Weights, vgg16

    weights = VGG16_Weights.IMAGENET1K_FEATURES if trained else None
    return vgg16(weights=weights).features


def _squeezenet(trained: bool) -> nn.Module:
    from torchvision.models import SqueezeNet1_1_Weights, squeezenet1_1

    weights = SqueezeNet1_1_Weights.IMAGENET1K_V1 if trained else None
    return squeezenet1_1(weights=weights)


def _efficientnet(trained: bool) -> nn.Module:
    import timm

    return timm.create_model("tf_efficientnet_lite0", pretrained=trained)


def _vgg16_chain(features: nn.Module) -> dict[str, nn.Module]:
    """Named as the paper's ImageNet network: "conv1_1" ends with its ReLU, "down1" pools."""
    parts = iter(features.children())
    stages: dict[str, nn.Module] = {}
    for block, (depth, _) in enumerate(BLOCKS["imagenet_vgg"], 1):
        for conv in range(1, depth + 1):
            stages[f"conv{block}_{conv}"] = nn.Sequential(
                OrderedDict(conv=next(parts), relu=next(parts))
            )
        stages[f"down{block}"] = next(parts)
    return stages


def _squeezenet_chain(model: nn.Module) -> dict[str, nn.Module]:
    """Named as by Iandola et al. (2016, Table 1); a fire module, two branches, is one stage."""
    parts = list(model.get_submodule("features").children())
    _, conv10, relu, pool = model.get_submodule("classifier").children()  # dropout first
    stages: dict[str, nn.Module] = {
        "conv1": nn.Sequential(OrderedDict(conv=parts[0], relu=parts[1]))
    }
    fire = 2
    for part in parts[2:]:
        if isinstance(part, nn.MaxPool2d):
            stages[f"pool{max(1, fire - 1)}"] = part
        else:
            stages[f"fire{fire}"] = part
            fire += 1
    stages["conv10"] = nn.Sequential(OrderedDict(conv=conv10, relu=relu))
    return {**stages, "head": nn.Sequential(pool, nn.Flatten())}


def _efficientnet_chain(model: nn.Module) -> dict[str, nn.Module]:
    """One stage for each inverted residual block (Tan and Le 2019, Table 1).

    "block2_1" is the first of the second group.
    """
    part = model.get_submodule
    stages: dict[str, nn.Module] = {"stem": nn.Sequential(part("conv_stem"), part("bn1"))}
    for group, blocks in enumerate(part("blocks").children(), 1):
        for number, block in enumerate(blocks.children(), 1):
            stages[f"block{group}_{number}"] = block
    stages["top"] = nn.Sequential(part("conv_head"), part("bn2"))
    return {**stages, "pool": part("global_pool"), "head": part("classifier")}


def _less_channel_means(images: Tensor) -> Tensor:
    return 255 * images - images.new_tensor(CHANNEL_MEANS)[:, None, None]


def _signed(images: Tensor) -> Tensor:
    return 2 * images - 1


PRETRAINED: dict[str, Source] = {
    "vgg16": Source("vgg16_features", _vgg16, _vgg16_chain, _less_channel_means, "VGG-16"),
    "squeezenet1_1": Source(
        "squeezenet1_1", _squeezenet, _squeezenet_chain, _less_channel_means, "SqueezeNet 1.1"
    ),
    "efficientnet_lite0": Source(
        "tf_efficientnet_lite0", _efficientnet, _efficientnet_chain, _signed, "EfficientNet-lite0"
    ),
}
