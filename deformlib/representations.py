"""The representations of a network, layer by layer: the package's only hooks."""

import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from deformlib.validation import require

Result = TypeVar("Result")
backward_task = torch._C._current_graph_task_id  # the backward pass this thread is in, or -1
HELD = {"parametrizations", "_packed_params"}  # children that make a module's weights, or hold them


def visit(
    model: nn.Module,
    x: Tensor,
    layers: Iterable[str] | None = None,
    fn: Callable[[Tensor], Result] = torch.clone,  # type: ignore[assignment]
) -> dict[str, Result]:
    """One forward pass of `x` through `model`: {layer: fn(representation)} in execution order.

    `fn` sees each representation before a later in-place operation can overwrite it.
    `layers` holds names or fnmatch patterns ("*.norm"; "*" crosses dots) over the names of
    `model.named_modules()`, "input", which is `x` itself, and "output", what the model returns. By
    default: the input and every module without children (attention has some: ask for it). A module
    executed again gets its number, "relu", "relu#2": "relu" asks for all of them, "relu#2" for one.
    A module called "input" is "input#2"; one registered under two names goes by the first.
    An output must hold one tensor, on its own or alone in a tuple, list, dict or dataclass. A layer
    whose output does not is an error if asked for by name; otherwise it is left out with a warning.

    Mode, gradients, autocast and random state are the caller's; compiled models run eagerly.
    ValueError names a layer that `model` lacks, that the pass never reached, that is unfit, or for
    which `fn` raises one; or says that `x` is empty, NaN or on another device than the model.
    """
    patterns = patterns_of(layers)
    modules = named_layers(model, output="output" in (patterns or ()))
    wanted = _wanted(patterns, modules)
    check_input(model, x)
    executions: Counter[str] = Counter()
    results: dict[str, Result] = {}
    reached: list[str] = []
    task = backward_task()

    def see(name: str, module: Any, args: Any, output: Any) -> None:
        if backward_task() != task:  # a backward pass computes a checkpointed module again
            return
        executions[name] += 1
        label = name if executions[name] == 1 else f"{name}#{executions[name]}"
        if any(_matches(name, pattern) or _matches(label, pattern) for pattern in wanted[name]):
            reached.append(label)
            # What `fn` does is no part of a checkpointed module: save its tensors as usual.
            with measuring(label, patterns), saved_tensors_hooks(lambda t: t, lambda t: t):
                results[label] = fn(only_tensor(output))

    if "input" in wanted:
        see("input", None, None, x)
    with ExitStack() as stack:
        if "torch._dynamo" in sys.modules:  # compiled code does not run hooks added after it
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        for name in wanted.keys() & modules.keys():
            hook = modules[name].register_forward_hook(partial(see, name))
            stack.callback(hook.remove)
        model(x)
    never = [name for name in wanted if name not in executions]
    if patterns is None and never:
        message = f"left out: {', '.join(never)}, which the forward pass never called"
        warnings.warn(message, stacklevel=2)
    _check_reached(patterns or [], reached)
    if not results and "input" not in wanted:
        asked = ", ".join(map(repr, patterns or ["None"]))
        raise ValueError(f"layers: nothing that {asked} asks for can be measured, as warnings said")
    return results


class Unfit(ValueError):
    """An output that is not what is measured. Other layers' may be."""


@contextmanager
def measuring(label: str, layers: Iterable[str] | None) -> Iterator[None]:
    """Name the layer in a ValueError; only warn of an Unfit that `layers` does not name."""
    try:
        yield
    except ValueError as error:
        message = f"layer {label!r}: {error}"
        if not isinstance(error, Unfit):
            raise ValueError(message) from error
        if {label, label.partition("#")[0]} & {"input", *(patterns_of(layers) or ())}:
            raise Unfit(message) from error
        warnings.warn(f"left out: {message}", stacklevel=3)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """All of `model` in eval mode for a while, then every submodule in the mode it was in."""
    check_model(model)
    modes = {module: module.training for module in model.modules()}
    try:
        for module in modes:
            module.training = False  # not model.eval(), which some modules override
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def named_layers(
    model: nn.Module, layers: Iterable[str] | None = None, output: bool = False
) -> dict[str, nn.Module]:
    """Submodules by name, all or those that `layers` asks for as in `visit`; the model itself is
    "output", if wanted or if it has no submodules."""
    check_model(model)
    modules: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        modules[".".join(part for part in name.split(".") if part != "_orig_mod")] = module
    root = modules.pop("")
    if output or not modules:
        modules.setdefault("output", root)
    wanted = modules if layers is None else _wanted(patterns_of(layers), modules)
    return {name: module for name, module in modules.items() if name in wanted}


def _wanted(patterns: list[str] | None, modules: dict[str, nn.Module]) -> dict[str, list[str]]:
    """{name: the patterns that ask for it or for one of its executions}."""
    if patterns is None:
        leaves = [name for name, module in modules.items() if _is_leaf(name, module)]
        return {name: [name] for name in ("input", *leaves)}
    asking: dict[str, list[str]] = {name: [] for name in ("input", *modules)}
    for name, entries in asking.items():
        for pattern in patterns:
            if _matches(name, pattern) or _matches(name, pattern.partition("#")[0]):
                entries.append(pattern)
    for missing in set(patterns).difference(*asking.values()):
        known = ", ".join(get_close_matches(missing, asking) or list(asking)[:20])
        raise ValueError(f"layers: {missing!r} is none of the model's; there are {known} ...")
    return {name: entries for name, entries in asking.items() if entries}


def _is_leaf(name: str, module: nn.Module) -> bool:
    children = {child for child, _ in module.named_children()}
    return children <= HELD and not HELD.intersection(name.split("."))


def _matches(name: str, pattern: str) -> bool:
    return name == pattern or fnmatchcase(name, pattern)  # "conv[0]" is a name as well as a pattern


def patterns_of(layers: Iterable[str] | None) -> list[str] | None:
    """Names and patterns as a list; None for all. ValueError for anything else."""
    if layers is None:
        return None
    patterns = [layers] if isinstance(layers, str) else list(layers)
    valid = bool(patterns) and all(isinstance(pattern, str) for pattern in patterns)
    require(valid, "layers", "one or more names or patterns, or None for all", patterns)
    return patterns


def only_tensor(output: Any) -> Tensor:
    """The tensor that an output is or holds. Unfit if it holds none or several."""
    tensors = list(_tensors(output))
    if len(tensors) != 1:
        raise Unfit(
            f"it returns {len(tensors)} tensors in a {type(output).__name__}, and must return one: "
            "name another layer, or put an nn.Identity() on the tensor that is wanted"
        )
    return tensors[0]


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        yield from _tensors(list(output.values()))
    elif isinstance(output, list | tuple):
        for part in output:
            yield from _tensors(part)
    elif is_dataclass(output):
        yield from _tensors([getattr(output, field.name) for field in fields(output)])


def check_model(model: nn.Module) -> None:
    """ValueError unless `model` is a module."""
    require(isinstance(model, nn.Module), "model", "a torch.nn.Module", type(model).__name__)


def check_input(model: nn.Module, x: Tensor) -> None:
    """ValueError unless `x` is a tensor with values, none of them NaN, on the model's device."""
    require(isinstance(x, Tensor), "x", "a tensor", type(x).__name__)
    devices = {str(tensor.device) for tensor in (*model.parameters(), *model.buffers())}
    rule = f"on the model's device, {' or '.join(sorted(devices))}"
    require(not devices or str(x.device) in devices, "x", rule, x.device)
    require(x.numel() > 0, "x", "a tensor with values", tuple(x.shape))
    nan = int(x.isnan().sum())  # infinite values may mean something to a network
    require(not nan, "x", "free of NaN", f"{nan} of {x.numel()}")


def _check_reached(patterns: list[str], reached: list[str]) -> None:
    labels = {label for one in reached for label in (one, one.partition("#")[0])}
    for pattern in patterns:
        if not any(_matches(label, pattern) for label in labels):
            others = f"; of those asked for it reached {', '.join(reached)}" if reached else ""
            raise ValueError(f"layers: the forward pass never reached {pattern!r}{others}")
