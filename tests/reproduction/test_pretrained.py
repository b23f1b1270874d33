"""Networks that others trained: their chains are their own forward passes, scaled as they
expect.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from deformlib import imagenet_vgg
from reproduction.experiments import pretrained
from reproduction.experiments.pretrained import PRETRAINED

timm = pytest.importorskip("timm")
SIDE = 64  # the smallest at which no stage runs out of pixels


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", PRETRAINED)
def test_a_chain_is_the_librarys_own_forward_pass(name: str, images: Tensor) -> None:
    module = PRETRAINED[name].build(False).eval()
    chain = pretrained.Chain(PRETRAINED[name].chain(module)).eval()
    with torch.no_grad():
        assert torch.equal(chain(images), module(images))
    assert [*dict(chain.named_children())][: len(chain.layers) - 1] == [*chain.layers[1:]]


def test_vgg16_has_the_papers_layout() -> None:
    chain = pretrained.untrained("vgg16", 0).model
    assert chain.layers == imagenet_vgg("max-pool", width=0.01).layers
    kinds = {type(module) for module in chain.modules()}
    assert nn.MaxPool2d in kinds and nn.BatchNorm2d not in kinds


def test_efficientnet_does_not_pool() -> None:
    chain = pretrained.untrained("efficientnet_lite0", 0).model
    pools = [name for name, module in chain.named_modules() if "Pool" in type(module).__name__]
    assert {name.split(".")[0] for name in pools} == {"pool"}


def _of_torchvision(images: Tensor) -> Tensor:
    from torchvision.models import VGG16_Weights

    transforms = VGG16_Weights.IMAGENET1K_FEATURES.transforms()
    mean, std = (images.new_tensor(v)[:, None, None] for v in (transforms.mean, transforms.std))
    return (images - mean) / std


def _of_timm(images: Tensor) -> Tensor:
    config = timm.create_model("tf_efficientnet_lite0").pretrained_cfg
    mean, std = (images.new_tensor(config[key])[:, None, None] for key in ("mean", "std"))
    return (images - mean) / std


@pytest.mark.parametrize(
    ("name", "expected", "apart"),
    [
        ("vgg16", _of_torchvision, 0.7),  # torchvision rounds the channel means; values span 255
        ("efficientnet_lite0", _of_timm, 1e-5),
    ],
)
def test_input_is_scaled_as_the_library_does(
    name: str, expected: Callable[[Tensor], Tensor], apart: float, images: Tensor
) -> None:
    scaled = PRETRAINED[name].scale(images)
    torch.testing.assert_close(scaled, expected(images), atol=apart, rtol=0)


def test_a_seed_decides_an_untrained_network() -> None:
    first, same, other = (pretrained.untrained("squeezenet1_1", seed).model for seed in (0, 0, 1))
    weights = [model.conv1.conv.weight for model in (first, same, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_weights_come_from_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = PRETRAINED["squeezenet1_1"].build(False)
    halved = {name: value.half() for name, value in module.state_dict().items()}
    save_file(halved, tmp_path / "squeezenet1_1.safetensors")
    monkeypatch.setenv("DEFORMLIB_WEIGHTS", str(tmp_path))
    weight = pretrained.pretrained("squeezenet1_1").model.conv1.conv.weight
    assert weight.dtype == torch.float32
    assert torch.equal(weight, halved["features.0.weight"].float())


def test_without_weights_and_connection_the_error_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(trained: bool) -> nn.Module:
        raise OSError("no connection")

    monkeypatch.setenv("DEFORMLIB_WEIGHTS", str(tmp_path))
    monkeypatch.setitem(PRETRAINED, "vgg16", replace(PRETRAINED["vgg16"], build=offline))
    with pytest.raises(FileNotFoundError, match=r"vgg16_features\.safetensors.*no connection"):
        pretrained.pretrained("vgg16")


def test_an_unknown_network_is_named() -> None:
    with pytest.raises(ValueError, match=r"name must be one of vgg16, .*, got 'vgg'"):
        pretrained.pretrained("vgg")
