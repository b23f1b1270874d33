"""Deform an image, represent it layer by layer, measure the distance.

    from deformlib import Deformation, deform, sensitivity

    deformed = deform(images, Deformation.CIFAR10)  # (N, C, H, W)
    sensitivity(network, images, deformed)  # {layer: value}, for any torch.nn.Module
"""

from .data import load
from .metrics import distances, normalized_distance, normalized_total_variation, sensitivity, smoothness
from .models import DOWNSAMPLINGS, cifar10_vgg, imagenet_vgg, initialize
from .representations import visit
from .warping import Deformation, ThinPlateSpline, deform, warp

__all__ = [
    "DOWNSAMPLINGS",
    "Deformation",
    "ThinPlateSpline",
    "cifar10_vgg",
    "deform",
    "distances",
    "imagenet_vgg",
    "initialize",
    "load",
    "normalized_distance",
    "normalized_total_variation",
    "sensitivity",
    "smoothness",
    "visit",
    "warp",
]
