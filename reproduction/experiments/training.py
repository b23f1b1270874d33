"""One training loop that calls back at checkpoints, and the recipes it follows.

The loop knows nothing of what is measured. It is deterministic on one machine: every random draw comes from
(seed, purpose, epoch), so a run that resumes at an epoch's beginning goes on exactly as if it had not stopped. (Not on a
GPU where a variant has an operation that has no deterministic backward pass there, as Blur-pool's edge.)
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deformlib.validation import check_known, require
from reproduction.experiments.specs import Recipe
from reproduction.experiments.tasks import Task, batches


class Optimizer(NamedTuple):
    """How an optimizer is made of parameter groups, and the tensors that it keeps for each parameter."""

    make: Callable[[list[dict], Recipe], torch.optim.Optimizer]
    moments: tuple[str, ...]


OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": Optimizer(
        lambda groups, recipe: torch.optim.SGD(
            groups, lr=recipe.learning_rate, momentum=recipe.momentum, nesterov=recipe.momentum > 0
        ),
        ("momentum_buffer",),
    ),
    "adamw": Optimizer(
        lambda groups, recipe: torch.optim.AdamW(
            groups, lr=recipe.learning_rate, betas=(recipe.momentum, 0.999)
        ),
        ("step", "exp_avg", "exp_avg_sq"),
    ),
}


@dataclass
class State:
    """All that a run in progress is: the network, the optimizer, and how many steps they have taken."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0

    @classmethod
    def start(cls, model: nn.Module, recipe: Recipe) -> "State":
        """A run's beginning; `model` goes to channels-last, in which convolutions are fastest."""
        model = model.to(memory_format=torch.channels_last)
        if recipe.norm_scale is False:
            for module in model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.weight.requires_grad_(False)
        trained = [p for p in model.parameters() if p.requires_grad]
        decayed = [p for p in trained if p.ndim > 1]
        others = [p for p in trained if p.ndim <= 1]
        groups = [
            dict(params=decayed, weight_decay=recipe.weight_decay),
            dict(params=others, weight_decay=0.0),
        ]
        make, moments = OPTIMIZERS[recipe.optimizer or "sgd"]
        optimizer = make(groups, recipe)
        for group in (
            optimizer.param_groups
        ):  # from the first step on, so that a state always has the same tensors
            for parameter in group["params"]:
                optimizer.state[parameter] |= {
                    name: torch.zeros(()) if name == "step" else torch.zeros_like(parameter)
                    for name in moments
                }
        return cls(model, optimizer)

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the state by name; copying into them restores it."""
        moments = {
            f"{moment.removesuffix('_buffer')}/{name}": value
            for name, parameter in self.model.named_parameters()
            if parameter.requires_grad
            for moment, value in self.optimizer.state[parameter].items()
        }
        return {f"model/{name}": value for name, value in self.model.state_dict().items()} | moments


def train(
    state: State,
    task: Task,
    recipe: Recipe,
    seed: int,
    checkpoints: Collection[int] = (),
    at_checkpoint: Callable[[int], None] = lambda step: None,
    after_epoch: Callable[[int, dict[str, float]], None] = lambda epoch, summary: None,
    after_step: Callable[[int], None] = lambda step: None,
    precision: str | None = None,
) -> None:
    """Train `state` in place from where it stands (the beginning of an epoch) to the recipe's last step.

    at_checkpoint(step)          after `step` steps (0: before the first), for each of `checkpoints`
    after_epoch(epoch, summary)  after each epoch, with its mean training loss and accuracy
    after_step(step)             after every step, for progress

    `precision` is one of `precisions`; None is `fastest`.

    FloatingPointError if the loss or a parameter is not finite at a checkpoint or an epoch's end: it has diverged.
    """
    per_epoch = recipe.steps_per_epoch(len(task.images))
    require(
        state.step % per_epoch == 0,
        "state.step",
        f"a multiple of {per_epoch}, the beginning of an epoch",
        state.step,
    )
    precision = precision or fastest(task.images.device)
    check_known("precision", precision, precisions(task.images.device))
    if state.step == 0 and 0 in checkpoints:
        at_checkpoint(0)
    for epoch in range(state.step // per_epoch, recipe.epochs):
        state.model.train()
        totals = torch.zeros(2, dtype=torch.float64, device=task.images.device)
        for images, labels in batches(task, recipe, seed, epoch):
            with arithmetic(precision, images.device):
                totals += _step(state, images, labels, recipe, per_epoch * recipe.epochs)
            after_step(state.step)
            if state.step in checkpoints:
                _check_finite(state, totals[0], epoch)
                at_checkpoint(state.step)
        _check_finite(state, totals[0], epoch)
        loss, accuracy = (totals / (per_epoch * recipe.batch_size)).tolist()
        after_epoch(epoch, {"loss": loss, "accuracy": accuracy})


def precisions(device: torch.device | str = "cpu") -> tuple[str, ...]:
    """How the products of a training step can be computed on `device`: as they are written, under autocast with factors and
    results of 8 bits, and on GPUs from Ampere on with factors of 11 bits (TensorFloat-32)."""
    coarse = torch.device(device).type == "cuda" and torch.cuda.get_device_capability(device) >= (
        8,
        0,
    )
    return ("float32", "bfloat16", *["tensorfloat32"] * coarse)


def fastest(device: torch.device | str = "cpu") -> str:
    """The precision in which networks are trained on `device` if none is asked for: TensorFloat-32 on a GPU and bfloat16 on
    a CPU, where they are in hardware, else float32. (On a GPU bfloat16 makes networks as narrow as these no faster.)"""
    coarse = (
        "bfloat16" if torch.device(device).type == "cpu" and fast_bfloat16() else "tensorfloat32"
    )
    return coarse if coarse in precisions(device) else "float32"


@contextmanager
def arithmetic(precision: str, device: torch.device | str = "cpu") -> Iterator[None]:
    """Training steps inside are computed in one of `precisions`; afterwards PyTorch does as it did before."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    coarse = precision == "tensorfloat32"
    torch.set_float32_matmul_precision("high" if coarse else "highest")
    torch.backends.cudnn.allow_tf32 = coarse
    try:
        with torch.autocast(
            torch.device(device).type, torch.bfloat16, enabled=precision == "bfloat16"
        ):
            yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def fast_bfloat16() -> bool:
    """Whether the processor computes in bfloat16 in hardware; emulated, it is slower than float32."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def _check_finite(state: State, loss: Tensor, epoch: int) -> None:
    if not all(value.isfinite().all() for value in (loss, *state.model.parameters())):
        raise FloatingPointError(
            f"training diverged in epoch {epoch + 1}, step {state.step}; lower learning_rate"
        )


def _step(state: State, images: Tensor, labels: Tensor, recipe: Recipe, steps: int) -> Tensor:
    for group in state.optimizer.param_groups:
        group["lr"] = recipe.rate(state.step, steps)
    logits = state.model(images.contiguous(memory_format=torch.channels_last))
    loss = F.cross_entropy(logits.float(), labels, label_smoothing=recipe.label_smoothing)
    state.optimizer.zero_grad()
    loss.backward()
    state.optimizer.step()
    state.step += 1
    correct = (logits.detach().argmax(1) == labels).sum()
    return torch.stack([loss.detach().double() * len(labels), correct.double()])
