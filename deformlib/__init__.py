"""Deform an image, represent it layer by layer, measure the distance.

    from deformlib import Deformation, deform, sensitivity

    deformed = deform(images, Deformation.CIFAR10)  # (N, C, H, W)
    sensitivity(network, images, deformed)  # {layer: value}, for any torch.nn.Module

A name is imported when it is first asked for: `import deformlib` alone waits for nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the same names for type checkers and editors, which run nothing
    from deformlib.filters import normalized_total_variation, smoothness
    from deformlib.metrics import distances, normalized_distance, sensitivity
    from deformlib.models import DOWNSAMPLINGS, cifar10_vgg, imagenet_vgg, initialize
    from deformlib.other_measures import relative_stability, shift_consistency
    from deformlib.representations import visit
    from deformlib.warping import Deformation, ThinPlateSpline, deform, warp

# A name must not be that of a module: importing the module would put it in the name's place.
_NAMES = {
    "filters": ("normalized_total_variation", "smoothness"),
    "metrics": ("distances", "normalized_distance", "sensitivity"),
    "models": ("DOWNSAMPLINGS", "cifar10_vgg", "imagenet_vgg", "initialize"),
    "other_measures": ("relative_stability", "shift_consistency"),
    "representations": ("visit",),
    "warping": ("Deformation", "ThinPlateSpline", "deform", "warp"),
}
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names}
__all__ = list(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        return getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
    if name in _MODULE_OF.values():  # `deformlib.metrics` after nothing but `import deformlib`
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF, *_MODULE_OF.values()})
