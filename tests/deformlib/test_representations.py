import dataclasses
import math
import warnings
from collections import Counter, OrderedDict, UserDict

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.checkpoint import checkpoint

from deformlib.models import DOWNSAMPLINGS, cifar10_vgg
from deformlib.representations import named_layers, visit


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def has_hooks(model):
    return any(module._forward_hooks for module in model.modules())


@pytest.fixture
def vgg():
    return cifar10_vgg("max-pool", width=0.25, generator=seeded()).eval()


@pytest.fixture
def images():
    return torch.rand(4, 3, 32, 32, generator=seeded(1))


class Repeats(nn.Module):
    """A ReLU that runs three times, and a layer that never does."""

    def __init__(self):
        super().__init__()
        self.linear, self.relu, self.unused = (
            nn.Linear(5, 5),
            nn.ReLU(inplace=True),
            nn.Linear(5, 5),
        )

    def forward(self, x):
        x = self.relu(self.linear(x))
        x = self.relu(x - 0.1)
        return self.relu(x - 0.2)


class Returns(nn.Module):
    """A network whose middle layer returns whatever `wrap` makes of a tensor."""

    def __init__(self, wrap):
        super().__init__()
        self.middle, self.wrap = nn.Identity(), wrap
        self.middle.forward = wrap

    def forward(self, x):
        self.middle(x)
        return x


@pytest.mark.parametrize("downsampling", DOWNSAMPLINGS)
def test_hooks_equal_layer_by_layer_evaluation_of_vgg(downsampling, images):
    model = cifar10_vgg(downsampling, width=0.25, generator=seeded()).eval()
    seen = visit(model, images, model.layers)
    assert tuple(seen) == model.layers
    x = images
    for name in model.layers[1:]:
        x = model.get_submodule(name)(x)
        assert torch.equal(seen[name], x), name
    assert torch.equal(seen["input"], images)


def test_hooks_equal_layer_by_layer_evaluation_of_resnet():
    torch.manual_seed(0)
    model, x = torchvision.models.resnet18(num_classes=7).eval(), torch.rand(2, 3, 64, 64)
    seen, logits = visit(model, x), model(x)
    y = model.conv1(x)
    assert torch.equal(seen["conv1"], y)
    y = model.bn1(y)
    assert torch.equal(seen["bn1"], y) and y.min() < 0  # the ReLU after it works in place
    y = model.maxpool(model.relu(y))
    for block in (
        b for group in (model.layer1, model.layer2, model.layer3, model.layer4) for b in group
    ):
        name = next(n for n, m in model.named_modules() if m is block)
        z = block.conv1(y)
        assert torch.equal(seen[f"{name}.conv1"], z)
        z = block.relu(block.bn1(z))
        assert torch.equal(seen[f"{name}.relu"], z)
        z = block.bn2(block.conv2(z))
        assert torch.equal(seen[f"{name}.bn2"], z)
        y = block.relu(z + (block.downsample(y) if block.downsample else y))
        assert torch.equal(seen[f"{name}.relu#2"], y)
    assert torch.equal(seen["fc"], logits)


def test_hooks_equal_layer_by_layer_evaluation_of_a_vision_transformer():
    torch.manual_seed(0)
    model, x = (
        torchvision.models.VisionTransformer(16, 8, 2, 2, 8, 16).eval(),
        torch.rand(2, 3, 16, 16),
    )
    nn.init.normal_(model.heads.head.weight)  # zero by default, and all logits with it
    nn.init.normal_(model.encoder.pos_embedding)
    seen = visit(model, x, ["conv_proj", "encoder*", "heads.head"])
    y = model.conv_proj(x)
    assert torch.equal(seen["conv_proj"], y)
    y = (
        torch.cat([model.class_token.expand(2, -1, -1), y.flatten(2).mT], 1)
        + model.encoder.pos_embedding
    )  # (N, tokens, channels)
    for number, block in enumerate(model.encoder.layers):
        name = f"encoder.layers.encoder_layer_{number}"
        z = block.ln_1(y)
        assert torch.equal(seen[f"{name}.ln_1"], z)
        z, _ = block.self_attention(z, z, z, need_weights=False)  # returns a tensor and None
        assert torch.equal(seen[f"{name}.self_attention"], z)
        y = y + z
        z = block.ln_2(y)
        assert torch.equal(seen[f"{name}.ln_2"], z)
        z = block.mlp[3](block.mlp[1](block.mlp[0](z)))
        assert torch.equal(seen[f"{name}.mlp"], z)
        y = y + z
        assert torch.equal(seen[name], y)
    y = model.encoder.ln(y)
    assert torch.equal(seen["encoder.ln"], y) and torch.equal(seen["encoder"], y)
    assert torch.equal(seen["heads.head"], model.heads(y[:, 0])) and torch.equal(
        seen["heads.head"], model(x)
    )
    assert len(seen["heads.head"].unique()) > 2


def test_default_is_the_input_and_leaf_modules_in_execution_order(vgg, images):
    names = list(visit(vgg, images, fn=lambda r: None))
    assert names[:6] == [
        "input",
        "conv1_1.conv",
        "conv1_1.norm",
        "conv1_1.relu",
        "conv1_2.conv",
        "conv1_2.norm",
    ]
    assert names[-3:] == ["down4", "pool", "head"] and "conv1_1" not in names


def test_each_layer_is_seen_before_an_in_place_relu_overwrites_it(vgg, images):
    least = visit(vgg, images, ["conv1_1", "conv1_1.norm"], fn=lambda r: r.min().item())
    assert least["conv1_1.norm"] < 0 == least["conv1_1"]
    assert (
        visit(vgg, images, ["conv1_1.norm"])["conv1_1.norm"].min() < 0
    )  # the default keeps a copy


def test_an_input_that_the_network_overwrites_is_seen_before():
    x = torch.tensor([[-1.0, 2.0]])
    assert visit(nn.Sequential(nn.ReLU(inplace=True)), x)["input"].tolist() == [[-1, 2]]


def test_patterns_follow_execution_order_not_their_own(vgg, images):
    names = list(visit(vgg, images, ["head", "conv[12]_?", "input", "*2.norm"]))
    norms = [
        "conv1_2.norm",
        "conv1_2",
        "conv2_1",
        "conv2_2.norm",
        "conv2_2",
        "conv3_2.norm",
        "conv4_2.norm",
    ]
    assert names == ["input", "conv1_1", *norms, "head"]
    assert list(visit(vgg, images, "down?")) == ["down1", "down2", "down3", "down4"]
    assert list(visit(vgg, images, (name for name in ("down1",)))) == ["down1"]


def test_repeated_modules_are_numbered():
    model, x = Repeats(), torch.rand(3, 5)
    seen = visit(model, x)
    assert list(seen) == ["input", "linear", "relu", "relu#2", "relu#3"]
    assert torch.equal(seen["relu#2"], (seen["relu"] - 0.1).relu())
    assert list(visit(model, x, ["relu"])) == ["relu", "relu#2", "relu#3"]
    assert list(visit(model, x, ["relu#2"])) == ["relu#2"]
    assert torch.equal(visit(model, x, ["relu#3"])["relu#3"], model(x))


def test_a_module_called_input_is_the_second_input():
    model = nn.Sequential()
    model.add_module("input", nn.Flatten())
    assert list(visit(model, torch.rand(2, 3, 4))) == ["input", "input#2"]


def test_a_model_without_submodules_is_its_output():
    assert visit(nn.Flatten(), torch.rand(2, 3, 4), fn=lambda r: r.shape[1:].numel()) == {
        "input": 12,
        "output": 12,
    }
    assert list(named_layers(nn.ReLU())) == ["output"]


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (["conv1_1", "conv1_3"], r"'conv1_3' is none .* there are conv1_2, conv1_1"),
        (["zzz"], r"'zzz' is none .* there are input, conv1_1, .*, conv3_1 \.\.\."),
        (["zzz*"], r"'zzz\*' is none"),
        ([], r"layers must be one or more names or patterns, or None for all, got \[\]"),
        ([3], r"layers must be .* got \[3\]"),
    ],
)
def test_layers_that_are_not_there_are_named(vgg, images, layers, message):
    with pytest.raises(ValueError, match=message):
        visit(vgg, images, layers)
    assert not has_hooks(vgg)


def test_layers_that_are_never_reached_are_named():
    x = torch.rand(2, 5)
    for layer in ("unused", "relu#4"):
        with pytest.raises(
            ValueError, match=f"never reached '{layer}'; of those asked for it reached linear"
        ):
            visit(Repeats(), x, ["linear", layer])
    with pytest.raises(ValueError, match=r"never reached 'unused'$"):
        visit(Repeats(), x, ["unused"])
    with pytest.warns(UserWarning, match="left out: unused, which the forward pass never called"):
        assert "unused" not in visit(Repeats(), x)


def test_a_layer_whose_weights_are_computed_is_one_layer():
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3)), nn.ReLU())
    assert list(visit(model, torch.rand(2, 3, 8, 8))) == ["input", "0", "1"]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: (x, None),
        lambda x: [x],
        lambda x: {"out": x, "n": 3},
        lambda x: (None, (x,)),
        lambda x: OrderedDict(out=x),
        lambda x: UserDict(out=x),
    ],
)
def test_the_only_tensor_of_a_container_is_taken(wrap):
    x = torch.rand(2, 3)
    assert torch.equal(visit(Returns(wrap), x, ["middle"])["middle"], x)


@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        (lambda x: (x, x), "layer 'middle': it returns 2 tensors in a tuple"),
        (lambda x: {"a": x, "b": x}, "layer 'middle': it returns 2 tensors in a dict"),
        (lambda x: None, "layer 'middle': it returns 0 tensors in a NoneType"),
    ],
)
def test_several_tensors_or_none_are_refused(wrap, message):
    model, x = Returns(wrap), torch.rand(2, 3)
    with pytest.raises(ValueError, match=message):
        visit(model, x, ["middle"])
    with pytest.warns(UserWarning, match=f"left out: {message}"):
        assert list(visit(model, x)) == ["input"], "nobody asked for this one"
    assert not has_hooks(model)


def test_a_name_is_a_name_before_it_is_a_pattern():
    model = nn.Sequential()
    for name in ("conv[0]", "conv0", "act?"):
        model.add_module(name, nn.Identity())
    x = torch.rand(2, 3)
    assert list(visit(model, x)) == ["input", "conv[0]", "conv0", "act?"]
    assert list(visit(model, x, ["conv[0]"])) == ["conv[0]", "conv0"]
    assert list(visit(model, x, ["act?"])) == ["act?"]
    assert list(named_layers(model, "conv*")) == ["conv[0]", "conv0"]


def test_hooks_are_removed_whatever_happens(vgg, images):
    def fails(representation):
        raise RuntimeError("in fn")

    visit(vgg, images, ["down1"], fn=torch.numel)
    assert not has_hooks(vgg)
    for broken, error in (
        (lambda: visit(vgg, images, ["down1"], fails), RuntimeError),
        (lambda: visit(vgg, images[:, :1]), ValueError),
    ):
        with pytest.raises(error):
            broken()
        assert not has_hooks(vgg)


def test_errors_of_fn_name_the_layer(vgg, images):
    def refuses(representation):
        raise ValueError("too large")

    with pytest.raises(ValueError, match="layer 'down1': too large"):
        visit(vgg, images, ["down1"], refuses)


@pytest.mark.parametrize("training", [True, False])
def test_mode_and_gradients_are_the_caller_s(vgg, images, training):
    vgg.train(training)
    seen = visit(vgg, images, ["conv1_1", "head"])
    assert seen["head"].requires_grad and vgg.training is training
    assert (vgg.conv1_1.norm.num_batches_tracked > 0).item() is training
    with torch.no_grad():
        assert not visit(vgg, images, ["head"])["head"].requires_grad


@pytest.mark.parametrize("how", ["wrapped", "in place", "a part", "forward", "forward of a part"])
def test_compiled_models_are_seen(vgg, images, how):
    expected = visit(vgg, images)
    model = vgg
    if how == "wrapped":
        model = torch.compile(vgg, backend="eager")
    elif how == "in place":
        vgg.compile(backend="eager")
    elif how == "forward":
        vgg.forward = torch.compile(vgg.forward, backend="eager")
    elif how == "forward of a part":
        vgg.conv2_1.forward = torch.compile(vgg.conv2_1.forward, backend="eager")
    else:
        vgg.conv2_1 = torch.compile(vgg.conv2_1, backend="eager")
    with torch.no_grad():
        model(images)  # already compiled, without hooks
        seen = visit(model, images)
    assert list(seen) == list(expected)
    assert all(torch.equal(seen[name], expected[name]) for name in expected)
    assert not has_hooks(model)


def test_another_device_is_an_error(vgg):
    with pytest.raises(ValueError, match="x must be on the model's device, cpu, got meta"):
        visit(vgg, torch.rand(2, 3, 32, 32, device="meta"))
    with pytest.raises(ValueError, match="x must be a tensor, got list"):
        visit(vgg, [1.0])


def test_an_input_without_images_or_with_nan_is_an_error_before_any_work():
    class Untouched(nn.Module):
        def forward(self, x):
            raise AssertionError

    with pytest.raises(ValueError, match=r"x must be a tensor with values, got \(0, 3\)"):
        visit(Untouched(), torch.rand(0, 3))
    with pytest.raises(ValueError, match="x must be free of NaN, got 2 of 6"):
        visit(Untouched(), torch.tensor([[1.0, math.nan, 2.0], [math.nan, 0.0, 1.0]]))


@pytest.mark.parametrize("x", [
    torch.tensor([[math.inf, -math.inf]]), torch.tensor([[60000.0, 60000.0]]).half(),
    torch.tensor([[1, 2]]),
])  # fmt: skip
def test_whatever_else_an_input_holds_is_the_networks_affair(x):
    assert list(visit(nn.Sequential(nn.Flatten()), x)) == ["input", "0"]


def test_a_model_may_convert_its_input(vgg, images):
    converts = nn.Sequential(nn.Flatten(), nn.Linear(3, 2))
    converts.register_forward_pre_hook(lambda module, args: args[0].float())
    assert visit(converts, torch.rand(2, 3).half())["1"].dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert visit(vgg, images.bfloat16(), ["head"])["head"].dtype == torch.bfloat16


def test_what_is_no_module_is_refused(images):
    with pytest.raises(ValueError, match=r"model must be a torch.nn.Module, got function"):
        visit(lambda x: x, images)


class Route(nn.Module):
    """Three layers, two of which work in place, run in any order, some of them often and some
    never."""

    def __init__(self, order):
        super().__init__()
        self.order, names = order, ("linear", "relu", "tanh")
        self.linear, self.relu, self.tanh = (
            nn.Linear(3, 3),
            nn.ReLU(inplace=True),
            nn.Hardtanh(-0.3, 0.3, inplace=True),
        )
        self.names = [names[k] for k in order]

    def forward(self, x):
        for name in self.names:
            x = getattr(self, name)(x)
        return x


@settings(max_examples=50, deadline=None)
@given(order=st.lists(st.integers(0, 2), min_size=1, max_size=7), data=st.data())
def test_any_route_is_seen_step_by_step(order, data):
    model, x = Route(order), torch.randn(4, 3, generator=seeded(len(order)))
    y, expected, counts = x.clone(), {"input": x.clone()}, Counter()
    for name in model.names:
        y = getattr(model, name)(y.clone())
        counts[name] += 1
        expected[name if counts[name] == 1 else f"{name}#{counts[name]}"] = y
    seen = visit(model, x.clone())
    assert list(seen) == list(expected) and all(
        torch.equal(seen[label], expected[label]) for label in expected
    )
    wanted = data.draw(st.sets(st.sampled_from(list(expected)), min_size=1))
    labels = [label for label in expected if label in wanted or label.partition("#")[0] in wanted]
    assert list(visit(model, x.clone(), wanted)) == labels
    for never in {"linear", "relu", "tanh"} - counts.keys():
        with pytest.raises(ValueError, match=f"never reached '{never}'"):
            visit(model, x.clone(), [*wanted, never])
    assert not has_hooks(model)


def test_a_pattern_leaves_out_what_a_name_insists_on():
    model = nn.Sequential(nn.Linear(3, 4), nn.LSTM(4, 2, batch_first=True))
    x = torch.rand(2, 5, 3)
    with pytest.raises(
        ValueError,
        match=r"layer '1': it returns 3 tensors in a tuple, .* or put an nn.Identity\(\)",
    ):
        visit(model, x, ["1"])
    with pytest.warns(UserWarning, match="left out: layer '1': it returns 3 tensors"):
        assert list(visit(model, x, ["*"])) == ["input", "0"]
    with (
        pytest.warns(UserWarning),
        pytest.raises(ValueError, match=r"nothing that '\[1\]' asks for can be measured"),
    ):
        visit(model, x, ["[1]"])


def test_the_output_of_a_model_and_one_in_a_dataclass():
    @dataclasses.dataclass
    class Out:
        logits: torch.Tensor
        hidden: object = None

    class Head(nn.Linear):
        def forward(self, x):
            return Out(super().forward(x))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = nn.Linear(3, 4), Head(4, 2)

        def forward(self, x):
            return self.head(self.body(x)).logits.exp()

    model, x = Net(), torch.rand(2, 3)
    seen = visit(model, x, ["head", "output"])
    assert (
        list(seen) == ["head", "output"]
        and torch.equal(seen["output"], seen["head"].exp())
        and torch.equal(model(x), seen["output"])
    )
    assert "output" not in visit(model, x) and "output" not in visit(model, x, ["*"])


def test_what_holds_weights_is_no_layer():
    model = torch.ao.quantization.quantize_dynamic(
        nn.Sequential(nn.Flatten(), nn.Linear(6, 2)), {nn.Linear}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(visit(model, torch.rand(2, 2, 3))) == ["input", "0", "1"]


def test_what_a_backward_pass_computes_again_is_not_seen_twice():
    class Energy(nn.Module):
        """A network whose forward pass holds a backward pass, which computes a layer again."""

        def __init__(self):
            super().__init__()
            self.inner, self.outer = nn.Linear(3, 3), nn.Linear(3, 2)

        def forward(self, x):
            x = x.detach().requires_grad_()
            energy = checkpoint(lambda y: self.inner(y).tanh(), x, use_reentrant=False).sum()
            [force] = torch.autograd.grad(energy, x)
            return self.outer(force)

    with torch.enable_grad():
        assert list(visit(Energy(), torch.rand(2, 3))) == ["input", "inner", "outer"]


def test_the_default_copies_of_a_checkpointed_network_are_differentiable():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = nn.Sequential(nn.Linear(3, 3), nn.Tanh())

        def forward(self, x):
            return checkpoint(self.block, x, use_reentrant=False)

    model, x = Net(), torch.rand(2, 3, requires_grad=True)
    seen = visit(model, x, ["block.*"], fn=lambda r: r.square().sum())
    sum(seen.values()).backward()
    y = x.detach().requires_grad_()
    first = model.block[0](y)
    (first.square().sum() + first.tanh().square().sum()).backward()
    torch.testing.assert_close(x.grad, y.grad)
