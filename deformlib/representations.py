"""The representations of a network, layer by layer, in one forward pass: the only hooks in this package.

>>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(inplace=True))
>>> visit(model, torch.rand(2, 3), fn=lambda r: tuple(r.shape))
{'input': (2, 3), '0': (2, 4), '1': (2, 4)}
"""

import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from itertools import chain
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Result = TypeVar("Result")
SHOWN = 20  # names in an error
HELD = {"parametrizations", "_packed_params"}  # children that make a module's weights, or hold them


def visit(
    model: nn.Module,
    x: Tensor,
    layers: Iterable[str] | None = None,
    fn: Callable[[Tensor], Result] = torch.clone,
) -> dict[str, Result]:
    """One forward pass of `x` through `model`; returns {layer: fn(representation)} in execution order.

    `fn` sees each representation the moment it is computed, before a later in-place operation can overwrite it,
    and whatever it does not keep is let go.

    `layers` holds names or fnmatch patterns ("*.norm"; "*" crosses dots) over the names of `model.named_modules()`,
    "input", which is `x` itself, and "output", what the model returns. By default: the input and every module without
    children (attention has some: ask for it). A submodule called "input" is "input#2". A module executed again gets its
    number, "relu", "relu#2", "relu#3": "relu" asks for all of them, "relu#2" for one. A module registered under two names
    goes by the first.

    An output must hold one tensor: on its own, or alone in a tuple, list, dict or dataclass (attention returns (tensor,
    None)). A layer whose output does not is an error if it was asked for by name; otherwise, by default or by a pattern,
    it is left out with a warning.

    Mode, gradients, autocast and random state are the caller's (in training mode batch norm learns from the pass: call
    `model.eval()` before); compiled models run eagerly. ValueError names a
    layer that `model` lacks, that the pass never reached, or whose output holds several tensors; and says so if `x`
    is empty or has NaN values, or if model and `x` are on different devices, or fail together and are of different
    types. A ValueError out of `fn` is raised again with the layer's name.
    """
    patterns = patterns_of(layers)
    modules = named_layers(model, output="output" in (patterns or ()))
    wanted = _wanted(patterns, modules)
    check_input(model, x)
    executions: Counter[str] = Counter()
    results: dict[str, Result] = {}
    reached: dict[str, None] = {}

    def see(name: str, output: Any) -> None:
        executions[name] += 1
        label = name if executions[name] == 1 else f"{name}#{executions[name]}"
        if any(_matches(name, pattern) or _matches(label, pattern) for pattern in wanted[name]):
            reached[label] = None
            with fitting(label, patterns):
                results[label] = named(label, fn, only_tensor(f"layer {label!r}", output))

    if "input" in wanted:
        see("input", x)
    with ExitStack() as stack:
        if (
            "torch._dynamo" in sys.modules
        ):  # something may be compiled, and compiled code may not run hooks that were added after it
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        for name in wanted.keys() & modules.keys():
            if isinstance(
                modules[name], torch.jit.ScriptModule
            ):  # it takes no hooks, and then was never called
                continue
            hook = modules[name].register_forward_hook(
                lambda module, args, output, name=name: see(name, output)
            )
            stack.callback(hook.remove)
        forward(model, x)
    if patterns is None and (never := [name for name in wanted if name not in executions]):
        warnings.warn(
            f"left out: {', '.join(never)}, which the forward pass never called", stacklevel=2
        )
    _check_visited(patterns or [], reached)
    if not results and "input" not in wanted:
        raise ValueError(
            f"layers: nothing that {', '.join(map(repr, patterns or ['None']))} asks for can be measured, as warnings said"
        )
    return results


class Unfit(ValueError):
    """An output that is not what is measured. Other layers' may be."""


@contextmanager
def fitting(label: str, layers: Iterable[str] | None) -> Iterator[None]:
    """Leaves out, with a warning, a layer that turns out to be Unfit; raises instead if `layers` names it or it is the input."""
    try:
        yield
    except Unfit as error:
        names = patterns_of(layers) or ()
        if label == "input" or label in names or label.partition("#")[0] in names:
            raise
        warnings.warn(f"left out: {error}", stacklevel=3)


def named_layers(
    model: nn.Module, layers: Iterable[str] | None = None, output: bool = False
) -> dict[str, nn.Module]:
    """Submodules by name, all or those that `layers` asks for as in `visit`, without the wrappers of `torch.compile`; the
    model itself is its "output", if that is wanted or it has no submodules."""
    check_model(model)
    modules: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        modules[".".join(part for part in name.split(".") if part != "_orig_mod")] = module
    root = modules.pop("")
    if output or not modules:
        modules.setdefault("output", root)
    return (
        modules
        if layers is None
        else {
            name: modules[name] for name in _wanted(patterns_of(layers), modules) if name in modules
        }
    )


def _wanted(patterns: list[str] | None, modules: dict[str, nn.Module]) -> dict[str, list[str]]:
    """{name: the patterns that ask for it or for one of its executions}."""
    if patterns is None:
        leaves = (
            name
            for name, module in modules.items()
            if not _inner(module) and not HELD.intersection(name.split("."))
        )
        return {name: [name] for name in ("input", *leaves)}
    names = ("input", *modules)
    asking = {
        name: [p for p in patterns if _matches(name, p) or _matches(name, p.partition("#")[0])]
        for name in names
    }
    for missing in set(patterns).difference(*asking.values()):
        known = get_close_matches(missing, names) or names
        more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
        raise ValueError(
            f"layers must name layers of the model: {missing!r} is none; there are {', '.join(known[:SHOWN])}{more}"
        )
    return {name: entries for name, entries in asking.items() if entries}


def _inner(module: nn.Module) -> list[str]:
    return [name for name, _ in module.named_children() if name not in HELD]


def _matches(name: str, pattern: str) -> bool:
    return name == pattern or fnmatchcase(name, pattern)  # "conv[0]" is a name as well as a pattern


def patterns_of(layers: Iterable[str] | None) -> list[str] | None:
    """Names and patterns as a list; None for all. ValueError for anything else."""
    if layers is None:
        return None
    patterns = (
        [layers]
        if isinstance(layers, str)
        else list(layers)
        if isinstance(layers, Iterable)
        else []
    )
    if not patterns or not all(isinstance(pattern, str) for pattern in patterns):
        raise ValueError(
            f"layers must be one or more names or patterns, or None for all, got {layers!r}"
        )
    return patterns


def only_tensor(what: str, output: Any) -> Tensor:
    """The tensor that an output is or holds. Unfit, naming `what` returned it, if it holds none or several."""
    tensors = list(_tensors(output))
    if len(tensors) != 1:
        raise Unfit(
            f"{what} returns {len(tensors)} tensors in a {type(output).__name__}, and a representation is one: name another "
            "layer, or put an nn.Identity() on the tensor that is wanted"
        )
    return tensors[0]


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif is_dataclass(output) and not isinstance(output, type | Mapping):
        yield from chain.from_iterable(
            _tensors(getattr(output, field.name)) for field in fields(output)
        )
    elif isinstance(output, Mapping | list | tuple):
        parts = output.values() if isinstance(output, Mapping) else output
        yield from chain.from_iterable(map(_tensors, parts))


def named(label: str, fn: Callable[[Tensor], Result], tensor: Tensor) -> Result:
    """fn(tensor); a ValueError out of it, or an Unfit, is raised again with the layer's name."""
    try:
        return fn(tensor)
    except ValueError as error:
        raise (Unfit if isinstance(error, Unfit) else ValueError)(
            f"layer {label!r}: {error}"
        ) from error


def forward(model: nn.Module, x: Tensor) -> Any:
    """model(x), with a ValueError that explains a model and images of different types."""
    try:
        return model(x)
    except RuntimeError as error:  # not checked before: a model may well convert its input
        types = {str(tensor.dtype) for tensor in model.parameters() if tensor.is_floating_point()}
        if types and str(x.dtype) not in types and "type" in str(error):
            message = f"x must be of the model's type, {' or '.join(sorted(types))}, got {x.dtype}; or use torch.autocast"
            raise ValueError(message) from error
        raise


def check_model(model: nn.Module) -> None:
    """ValueError unless `model` is a module in which hooks run."""
    if not isinstance(model, nn.Module) or isinstance(model, torch.jit.ScriptModule):
        kind = type(model).__name__
        raise ValueError(
            f"model must be a torch.nn.Module, and not TorchScript, in which no hook runs, got {kind}"
        )


def check_input(model: nn.Module, x: Tensor) -> None:
    """ValueError unless `x` is a tensor with values, none of them NaN, on the model's device."""
    if not isinstance(x, Tensor):
        raise ValueError(f"x must be a tensor, got {type(x).__name__}")
    devices = {str(tensor.device) for tensor in chain(model.parameters(), model.buffers())}
    if devices and str(x.device) not in devices:
        raise ValueError(
            f"x must be on the model's device, {' or '.join(sorted(devices))}, got {x.device}"
        )
    if not x.numel():
        raise ValueError(f"x must not be empty, got {tuple(x.shape)}")
    # Infinite values may mean something to a network. A sum costs no copy; only where it is NaN all have to be looked at.
    if not x.is_meta and x.detach().sum().isnan() and (count := int(x.isnan().sum())):
        raise ValueError(f"x must have no NaN, got {count} of {x.numel()}")


def _check_visited(patterns: list[str], results: dict[str, Any]) -> None:
    labels = {label for result in results for label in (result, result.partition("#")[0])}
    for pattern in patterns:
        if not any(_matches(label, pattern) for label in labels):
            others = f"; of those asked for it reached {', '.join(results)}" if results else ""
            raise ValueError(f"layers: the forward pass never reached {pattern!r}{others}")
