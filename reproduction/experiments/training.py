"""One training loop that calls back at checkpoints. It knows nothing of what is measured there.

Deterministic on one machine: every random draw comes from (seed, purpose, epoch), so a run that
resumes at the beginning of an epoch goes on exactly as if it had not stopped. (Not on a GPU where a
variant has no deterministic backward pass, such as Blur-pool's edge.)
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reproduction.experiments.hardware import arithmetic, fastest
from reproduction.experiments.recipes import Recipe
from reproduction.experiments.records import Epoch
from reproduction.experiments.tasks import Task, batches


def _sgd(groups: list[dict], recipe: Recipe) -> torch.optim.Optimizer:
    nesterov = recipe.momentum > 0
    return torch.optim.SGD(groups, recipe.learning_rate, recipe.momentum, nesterov=nesterov)


def _adamw(groups: list[dict], recipe: Recipe) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, recipe.learning_rate, betas=(recipe.momentum, 0.999))


OPTIMIZERS = {"sgd": _sgd, "adamw": _adamw}


@dataclass
class State:
    """State of a run: model, optimizer, and how many steps they have taken."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0

    @classmethod
    def start(cls, model: nn.Module, recipe: Recipe) -> "State":
        """A run's beginning; `model` goes to channels-last, in which convolutions are fastest."""
        model = model.to(memory_format=torch.channels_last)
        if recipe.norm_scale is False:
            freeze_norm_scale(model)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        weights = [parameter for parameter in trained if parameter.ndim > 1]
        others = [parameter for parameter in trained if parameter.ndim <= 1]
        groups = [
            {"params": weights, "weight_decay": recipe.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        return cls(model, OPTIMIZERS[recipe.optimizer or "sgd"](groups, recipe))

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the state: "model/NAME", "MOMENT/PARAMETER" once a step was taken."""
        found = {f"model/{name}": value for name, value in self.model.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            for moment, value in self.optimizer.state[parameter].items():
                found[f"{moment.removesuffix('_buffer')}/{name}"] = value
        return found

    def restore(self, tensors: Mapping[str, Tensor], step: int) -> None:
        """Take over what `tensors()` gave after `step` steps, with the same recipe."""
        parameters = dict(self.model.named_parameters())
        for key, value in tensors.items():
            kind, name = key.split("/", 1)
            if kind == "model":
                self.model.state_dict()[name].copy_(value)
            elif kind == "step":
                self.optimizer.state[parameters[name]][kind] = value
            else:
                moment = "momentum_buffer" if kind == "momentum" else kind
                # In the parameter's memory layout, for the same bits as without an interruption.
                kept = torch.empty_like(parameters[name], requires_grad=False).copy_(value)
                self.optimizer.state[parameters[name]][moment] = kept
        self.step = step


def freeze_norm_scale(model: nn.Module) -> None:
    """Leave the scale of every batch norm as it is."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.requires_grad_(False)


def train(
    state: State,
    task: Task,
    recipe: Recipe,
    seed: int,
    checkpoints: Collection[int] = (),
    at_checkpoint: Callable[[int], None] = lambda step: None,
    after_epoch: Callable[[Epoch], None] = lambda epoch: None,
    after_step: Callable[[int], None] = lambda step: None,
    precision: str | None = None,
) -> None:
    """Train `state` in place, from the beginning of an epoch to the recipe's last step.

    at_checkpoint(step)  after `step` steps (0: before the first), for each of `checkpoints`
    after_epoch(epoch)   with its mean training loss and accuracy
    after_step(step)     after every step, for progress
    precision            one of `hardware.precisions`; None is `hardware.fastest`

    FloatingPointError if the loss or a parameter is not finite at a checkpoint or an epoch's end.
    """
    device = task.images.device
    precision = precision or fastest(device)
    per_epoch = recipe.steps_per_epoch(len(task.images))
    if state.step == 0 and 0 in checkpoints:
        at_checkpoint(0)
    for epoch in range(state.step // per_epoch, recipe.epochs):
        state.model.train()
        totals = torch.zeros(2, dtype=torch.float64, device=device)  # of losses, correct answers
        for images, labels in batches(task, recipe, seed, epoch):
            with arithmetic(precision, device):
                totals += _step(state, images, labels, recipe, per_epoch * recipe.epochs)
            after_step(state.step)
            if state.step in checkpoints:
                _check_finite(state, totals[0], epoch)
                at_checkpoint(state.step)
        _check_finite(state, totals[0], epoch)
        loss, accuracy = (totals / (per_epoch * recipe.batch_size)).tolist()
        after_epoch(Epoch(loss, accuracy))


def _check_finite(state: State, loss: Tensor, epoch: int) -> None:
    if not all(value.isfinite().all() for value in (loss, *state.model.parameters())):
        where = f"epoch {epoch + 1}, step {state.step}"
        raise FloatingPointError(f"training diverged in {where}; lower learning_rate")


def _step(state: State, images: Tensor, labels: Tensor, recipe: Recipe, steps: int) -> Tensor:
    """One step on a batch; (2,) the sum of its losses and the number of correct answers."""
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
