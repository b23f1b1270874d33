"""The figures: values in, a Matplotlib figure out.

`images` draws pixels and filters, `layers` curves over the layers of a network, `training` over its
epochs, `points` networks against each other, `choices` what depends on which choice; `published`
puts our curves over the paper's. `style` and `curves` are what these share.
"""

from reproduction.pages.figures.choices import specification_curve, survival_of_claims
from reproduction.pages.figures.images import deformation_steps, filters, image_rows
from reproduction.pages.figures.layers import (
    panels_by_layer,
    rows_of_panels,
    sensitivity_by_depth,
    sensitivity_by_layer,
    smoothness_by_layer,
)
from reproduction.pages.figures.points import networks_as_points
from reproduction.pages.figures.published import over_published
from reproduction.pages.figures.style import STYLE, WIDTH
from reproduction.pages.figures.training import course_of_training

__all__ = [
    "STYLE",
    "WIDTH",
    "course_of_training",
    "deformation_steps",
    "filters",
    "image_rows",
    "networks_as_points",
    "over_published",
    "panels_by_layer",
    "rows_of_panels",
    "sensitivity_by_depth",
    "sensitivity_by_layer",
    "smoothness_by_layer",
    "specification_curve",
    "survival_of_claims",
]
