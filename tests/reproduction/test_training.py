"""The training loop against a plain one written out, and what it says at checkpoints."""

import dataclasses
import math
from collections import OrderedDict
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deformlib import models
from reproduction.experiments import hardware, training
from reproduction.experiments.recipes import Recipe
from reproduction.experiments.records import Epoch
from reproduction.experiments.tasks import Task, batches
from reproduction.experiments.training import State, train

RECIPE = Recipe(epochs=3, batch_size=8, learning_rate=0.1, weight_decay=0.01, label_smoothing=0.1)


def network(seed: int = 0, width: float = 0.05) -> models.VGG:
    generator = torch.Generator().manual_seed(seed)
    return models.cifar10_vgg("strided-relu", 4, 3, width, generator=generator)


def smooth_network() -> nn.Sequential:
    """Without ReLU or pooling by maxima, so that rounding is not amplified."""
    torch.manual_seed(0)
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(3, 4, 3, bias=False),
            norm=nn.BatchNorm2d(4),
            tanh=nn.Tanh(),
            pool=nn.AvgPool2d(7),
            flat=nn.Flatten(),
            head=nn.Linear(16, 4),
        )
    )


def made_up(n: int = 44) -> Task:
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.integers(0, 256, (n, 3, 16, 16), dtype=np.uint8))
    y = torch.from_numpy(rng.integers(0, 4, n))
    return Task(x, y, x[:4], y[:4], list("abcd"), "")


@pytest.fixture
def float32(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hardware, "fast_bfloat16", lambda: False)


def plain(model: nn.Module, task: Task, recipe: Recipe, seed: int) -> list[dict[str, float]]:
    """Each epoch's means. SGD with Nesterov momentum as Sutskever et al. and PyTorch's manual write
    it, AdamW as Loshchilov and Hutter (2019), Algorithm 2, with the decay times the rate."""
    steps = recipe.epochs * (len(task.images) // recipe.batch_size)
    velocity = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    square = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    rise, step, summaries = recipe.warmup * steps, 0, []
    model.train()
    for epoch in range(recipe.epochs):
        losses, hits = [], []
        for x, y in batches(task, recipe, seed, epoch):
            rate = recipe.learning_rate * (
                (step + 1) / rise if step + 1 <= rise else (steps - step) / (steps - rise)
            )
            logits = model(x)
            logs = logits.log_softmax(1)
            true, mean = logs[torch.arange(len(y)), y], logs.mean(1)
            loss = -((1 - recipe.label_smoothing) * true + recipe.label_smoothing * mean).mean()
            gradients = torch.autograd.grad(loss, list(model.parameters()))
            with torch.no_grad():
                for (name, p), gradient in zip(model.named_parameters(), gradients):
                    decay = (
                        recipe.weight_decay * p
                        if name.endswith(("conv.weight", "head.weight"))
                        else 0.0
                    )
                    if recipe.optimizer == "adamw":
                        velocity[name] = (
                            recipe.momentum * velocity[name] + (1 - recipe.momentum) * gradient
                        )
                        square[name] = 0.999 * square[name] + 0.001 * gradient**2
                        first, second = (
                            velocity[name] / (1 - recipe.momentum ** (step + 1)),
                            square[name] / (1 - 0.999 ** (step + 1)),
                        )
                        p -= rate * (first / (second.sqrt() + 1e-8) + decay)
                        continue
                    gradient = gradient + decay
                    velocity[name] = recipe.momentum * velocity[name] + gradient
                    p -= rate * (gradient + recipe.momentum * velocity[name])
            losses.append(loss.item())
            hits.append((logits.argmax(1) == y).float().mean().item())
            step += 1
        summaries.append({"loss": np.mean(losses), "accuracy": np.mean(hits)})
    return summaries


def values(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize(
    "recipe",
    [
        RECIPE,
        dataclasses.replace(RECIPE, momentum=0.0),
        dataclasses.replace(
            RECIPE, flip=True, crop=2, pixels="standardized", warmup=0.4, weight_decay=0.0
        ),
        dataclasses.replace(RECIPE, optimizer="adamw", momentum=0.8),
    ],
)
def test_training_is_a_plain_loop(recipe: Recipe, float32):
    task, state, reference, said = (
        made_up(),
        State.start(smooth_network(), recipe),
        smooth_network(),
        [],
    )
    state.model.eval()  # as a measurement may leave it
    train(state, task, recipe, 7, after_epoch=said.append)
    expected = plain(reference, task, recipe, 7)
    for name, value in reference.state_dict().items():
        np.testing.assert_allclose(
            state.model.state_dict()[name], value, rtol=1e-4, atol=2e-5, err_msg=name
        )
    assert state.step == 15 and any(
        not torch.equal(p, q)
        for p, q in zip(smooth_network().parameters(), state.model.parameters())
    )
    for found, wanted in zip(said, expected, strict=True):
        assert found.loss == pytest.approx(wanted["loss"], rel=1e-4)
        assert found.accuracy == pytest.approx(wanted["accuracy"])


def test_one_step_is_pytorchs_own_to_the_bit(float32):
    recipe = dataclasses.replace(
        RECIPE, epochs=1, batch_size=44, warmup=1.0, label_smoothing=0.0, weight_decay=0.0
    )
    task, state = made_up(), State.start(network(), recipe)
    train(state, task, recipe, 0)
    reference = network().to(memory_format=torch.channels_last).train()
    [(x, y)] = batches(task, recipe, 0, 0)
    F.cross_entropy(reference(x.contiguous(memory_format=torch.channels_last)), y).backward()
    torch.optim.SGD(reference.parameters(), lr=0.1, momentum=0.9, nesterov=True).step()
    for name, value in reference.state_dict().items():
        assert torch.equal(value, state.model.state_dict()[name]), name


def test_decay_spares_batch_norm_and_bias():
    groups = State.start(model := network(), RECIPE).optimizer.param_groups
    names = {id(p): name for name, p in model.named_parameters()}
    decayed, spared = ({names[id(p)] for p in group["params"]} for group in groups)
    assert decayed == {
        name for name in names.values() if name.endswith(("conv.weight", "head.weight"))
    }
    assert (
        spared == set(names.values()) - decayed
        and "head.bias" in spared
        and "conv1_1.norm.weight" in spared
    )
    assert [group["weight_decay"] for group in groups] == [0.01, 0.0]
    assert all(group["nesterov"] for group in groups)


@pytest.mark.parametrize("warmup", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 50])
def test_the_rate_rises_and_falls_linearly(steps: int, warmup: float):
    recipe = dataclasses.replace(RECIPE, warmup=warmup, learning_rate=3.0)
    rates = np.array([recipe.rate(step, steps) for step in range(steps)])
    assert (rates > 0).all() and rates.max() <= 3.0
    rise = warmup * steps
    if rise > 1:
        assert rates[0] == pytest.approx(3.0 / rise)
    if steps == 50:
        peak = int(max(rise, 1)) - 1
        assert rates.argmax() == peak and rates[peak] == pytest.approx(3.0)
        np.testing.assert_allclose(np.diff(rates[: peak + 1], 2), 0, atol=1e-9)
        if warmup < 1:
            assert rates[-1] == pytest.approx(3.0 / (50 - max(rise, 1)))
            np.testing.assert_allclose(np.diff(rates[peak + 1 :], 2), 0, atol=1e-9)


@pytest.mark.parametrize("warmup", [0.0, 0.2, 1.0])
def test_a_constant_rate_stays_after_the_warm_up(warmup: float):
    fields = {"warmup": warmup, "learning_rate": 3.0}
    constant = dataclasses.replace(RECIPE, schedule="constant", **fields)
    falling = dataclasses.replace(RECIPE, **fields)
    rise = max(1, round(50 * warmup))
    rates = [constant.rate(step, 50) for step in range(50)]
    assert rates[:rise] == pytest.approx([falling.rate(step, 50) for step in range(rise)])
    assert rates[rise - 1 :] == [3.0] * (51 - rise)


def test_a_step_is_taken_at_the_rate_of_the_schedule(monkeypatch: pytest.MonkeyPatch):
    recipe = dataclasses.replace(RECIPE, schedule="constant")
    rates, step = [], torch.optim.SGD.step

    def noted(optimizer: torch.optim.SGD, *args: object) -> object:
        rates.append({group["lr"] for group in optimizer.param_groups})
        return step(optimizer, *args)

    monkeypatch.setattr(torch.optim.SGD, "step", noted)
    train(State.start(network(), recipe), made_up(), recipe, 0)
    assert len(rates) == 15 and rates[3:] == [{0.1}] * 12


def scales(model: nn.Module) -> list[nn.Parameter]:
    return [m.weight for m in model.modules() if isinstance(m, nn.BatchNorm2d)]


@pytest.mark.parametrize("optimizer", training.OPTIMIZERS)
def test_a_scale_that_is_not_trained_stays_at_one(optimizer: str):
    """It is in the state all the same, so a run that resumes has it."""
    recipe = dataclasses.replace(RECIPE, norm_scale=False, optimizer=optimizer)
    task, state = made_up(), State.start(network(), recipe)
    seen = []

    def look(step: int) -> None:
        seen.extend(
            bool((scale == 1).all()) and scale.grad is None for scale in scales(state.model)
        )

    train(state, task, recipe, 0, after_step=look)
    assert len(seen) == 15 * 12 and all(seen)
    assert not (state.model.conv1_1.norm.bias == 0).any(), "the shift is trained"

    parts = State.start(network(), recipe)
    train(parts, task, dataclasses.replace(recipe, epochs=1), 0)
    again = State.start(network(), recipe)
    assert "model/conv1_1.norm.weight" in parts.tensors()
    assert {name for name in parts.tensors() if name.endswith("norm.weight")} == {
        name
        for name in parts.tensors()
        if name.startswith("model") and name.endswith("norm.weight")
    }
    again.restore({name: value.clone() for name, value in parts.tensors().items()}, parts.step)
    assert all((scale == 1).all() and not scale.requires_grad for scale in scales(again.model))


@pytest.mark.parametrize("fields", [{"norm_scale": False}, {"schedule": "constant"}])
def test_other_recipes_go_on_as_never_having_stopped(fields: dict):
    """Killed at the first epoch's end, and restored from what a file would hold."""
    recipe = dataclasses.replace(RECIPE, **fields)
    task, whole, first = made_up(), State.start(network(), recipe), State.start(network(), recipe)
    train(whole, task, recipe, 0)

    class Killed(Exception):
        pass

    def kill(epoch: Epoch) -> None:
        raise Killed

    with pytest.raises(Killed):
        train(first, task, recipe, 0, after_epoch=kill)
    kept = {name: value.detach().contiguous().clone() for name, value in first.tensors().items()}
    second = State.start(network(), recipe)
    second.restore(kept, first.step)
    train(second, task, recipe, 0)
    tensors = second.tensors()
    assert all(torch.equal(value, tensors[name]) for name, value in whole.tensors().items())


def test_steps_per_epoch():
    assert [RECIPE.steps_per_epoch(n) for n in (8, 15, 16)] == [1, 1, 2]
    with pytest.raises(
        ValueError, match="batch_size must be at most the number of examples, 7, got 8"
    ):
        RECIPE.steps_per_epoch(7)


@pytest.mark.parametrize(
    "recipe, moments",
    [
        (RECIPE, {"momentum"}),
        (dataclasses.replace(RECIPE, optimizer="adamw"), {"exp_avg", "exp_avg_sq", "step"}),
    ],
)
def test_a_state_is_its_tensors(recipe: Recipe, moments: set[str]):
    """Another network's state that takes them over is the same, with the optimizer's moments."""
    task, state = made_up(), State.start(network(), recipe)
    of_model = {f"model/{name}" for name in state.model.state_dict()}
    assert set(state.tensors()) == of_model, "before the first step there are no moments"
    train(state, task, dataclasses.replace(recipe, epochs=1), 0)
    tensors = {name: value.contiguous().clone() for name, value in state.tensors().items()}
    assert of_model < set(tensors)
    of_bias = {name.split("/")[0] for name in tensors if name.endswith("/head.bias")}
    assert of_bias == moments | {"model"}
    assert all(
        any(value.any() for name, value in tensors.items() if name.startswith(f"{moment}/"))
        for moment in moments
    )
    other = State.start(network(seed=1), recipe)
    other.restore(tensors, 5)
    assert other.step == state.step == 5
    for each in (state, other):
        train(each, task, recipe, 0)
    assert all(torch.equal(value, other.tensors()[name]) for name, value in state.tensors().items())


@pytest.mark.parametrize("optimizer", training.OPTIMIZERS)
def test_going_on_at_an_epoch_is_as_never_having_stopped(optimizer: str):
    recipe = dataclasses.replace(RECIPE, optimizer=optimizer)
    task, whole, parts = made_up(), State.start(network(), recipe), State.start(network(), recipe)
    train(whole, task, recipe, 0)

    class Killed(Exception):
        pass

    def kill(epoch: Epoch) -> None:
        raise Killed

    for _ in range(2):
        with pytest.raises(Killed):
            train(parts, task, recipe, 0, after_epoch=kill)
    said = []
    train(parts, task, recipe, 0, {0, 5, 10, 12}, said.append)
    assert said == [12], "checkpoints of the epochs before come again"
    assert all(torch.equal(value, parts.tensors()[name]) for name, value in whole.tensors().items())


def test_checkpoints_come_at_their_steps_and_in_order():
    state, calls = State.start(network(), RECIPE), []
    initial = values(state.model)

    def at_checkpoint(step: int) -> None:
        assert state.step == step
        assert (step == 0) == all(
            torch.equal(value, initial[name]) for name, value in state.model.state_dict().items()
        )
        state.model.eval()  # whatever a measurement leaves, the next epoch trains
        calls.append(step)

    train(
        state,
        made_up(),
        RECIPE,
        0,
        {0, 1, 4, 5, 15, 99},
        at_checkpoint,
        lambda epoch: calls.append(f"epoch {sum('epoch' in str(call) for call in calls)}"),
        lambda step: calls.append(f"step {step}") if step < 6 else None,
    )
    assert calls == [
        *[0, "step 1", 1, "step 2", "step 3", "step 4", 4, "step 5", 5, "epoch 0", "step 6"][:-1],
        "epoch 1",
        15,
        "epoch 2",
    ]


def test_a_seed_decides_everything():
    def weights(seed: int) -> Tensor:
        state = State.start(network(), RECIPE)
        torch.manual_seed(torch.seed() % 1000)  # the global state must not matter
        train(state, made_up(), dataclasses.replace(RECIPE, flip=True, crop=1, epochs=1), seed)
        return state.model.head.weight.detach()

    assert torch.equal(weights(0), weights(0)) and not torch.equal(weights(0), weights(1))


@pytest.mark.parametrize("checkpoints", [(), (3, 5)])
def test_a_run_that_diverges_says_so(checkpoints: tuple):
    recipe = dataclasses.replace(RECIPE, learning_rate=1e30)

    def measure(step: int) -> None:
        assert all(p.isfinite().all() for p in state.model.parameters()), (
            "measured although it has diverged"
        )

    with pytest.raises(
        FloatingPointError, match=r"training diverged in epoch 1, .*lower learning_rate"
    ):
        train(state := State.start(network(), recipe), made_up(), recipe, 0, checkpoints, measure)


def test_a_parameter_that_is_not_finite_is_divergence_though_the_loss_is():
    def spoil(step: int) -> None:
        if step == 5:  # the epoch's last: no loss has seen it
            state.model.head.bias.data[0] = math.nan

    with pytest.raises(
        FloatingPointError, match="training diverged in epoch 1, step 5; lower learning_rate"
    ):
        train(
            state := State.start(smooth_network(), RECIPE),
            made_up(),
            dataclasses.replace(RECIPE, epochs=1),
            0,
            after_step=spoil,
        )


def test_it_learns():
    """In float32, whatever is the default of the processor."""
    recipe = Recipe(epochs=15, batch_size=8, learning_rate=0.05)
    task = made_up()
    x = task.images // 8 + (task.labels * 60).to(torch.uint8)[:, None, None, None]
    task = dataclasses.replace(task, images=x)
    said: list[Epoch] = []
    state = State.start(network(width=0.2), recipe)
    train(state, task, recipe, 0, after_epoch=said.append, precision="float32")
    assert said[-1].accuracy > 0.75, "three seeds gave 0.85 to 0.93"
    assert said[-1].loss < said[0].loss / 2 and math.isfinite(said[-1].loss)


def test_a_precision_holds_for_training_steps_alone(monkeypatch: pytest.MonkeyPatch):
    def flags() -> tuple:
        return (
            torch.get_float32_matmul_precision(),
            torch.backends.cudnn.allow_tf32,
            torch.is_autocast_enabled("cpu"),
        )

    seen, taken, take = {}, [], training._step
    before = flags()
    monkeypatch.setattr(training, "_step", lambda *args: taken.append(flags()) or take(*args))
    for precision in hardware.precisions():
        train(
            State.start(smooth_network(), RECIPE),
            made_up(8),
            dataclasses.replace(RECIPE, epochs=1),
            0,
            [1],
            lambda step: seen.update(measured=flags()),
            precision=precision,
        )
        seen[precision] = taken.pop()
        assert seen["measured"] == before == flags()
    assert seen["float32"] == ("highest", False, False) and seen["bfloat16"] == (
        "highest",
        False,
        True,
    )
    with hardware.arithmetic("tensorfloat32"):
        assert flags() == ("high", True, False)
    assert flags() == before


@pytest.mark.parametrize(
    "capability, expected",
    [((7, 5), "float32"), ((8, 0), "tensorfloat32"), ((9, 0), "tensorfloat32")],
)
def test_tensorfloat32_is_for_gpus_that_have_it(
    capability: tuple[int, int], expected: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
    assert hardware.fastest("cuda") == expected and (expected in hardware.precisions("cuda"))
    assert ("tensorfloat32" in hardware.precisions("cuda")) == (capability >= (8, 0))


@pytest.mark.parametrize("supported", [False, True])
def test_bfloat16_is_for_processors_that_have_it(supported: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: supported)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert hardware.fast_bfloat16() is supported
    asked = []
    monkeypatch.setattr(
        torch,
        "autocast",
        lambda *options, enabled: asked.append((*options, enabled)) or nullcontext(),
    )
    train(
        State.start(smooth_network(), RECIPE), made_up(8), dataclasses.replace(RECIPE, epochs=1), 0
    )
    assert asked == [("cpu", torch.bfloat16, supported)]
