"""What is checked of a spec at the door, before any work: that it names what there is, and that it
asks for what can be measured."""

from collections.abc import Iterable
from dataclasses import fields

from deformlib.models import BLOCKS, DOWNSAMPLINGS
from deformlib.validation import check_known, require
from reproduction.experiments.data import DATASETS
from reproduction.experiments.initialization import CALIBRATION_BATCH
from reproduction.experiments.multiverse import MULTIVERSES
from reproduction.experiments.pretrained import PRETRAINED
from reproduction.experiments.protocol import FORWARD_BATCH, PROTOCOLS
from reproduction.experiments.specs import (
    Comparison,
    Initialization,
    Intervention,
    Matching,
    Smoothing,
    Spec,
    Theory,
    Training,
    Variation,
    Worst,
    WorstPretrained,
    network_of,
)
from reproduction.experiments.tasks import TASKS, TEMPLATE_TASKS

TABLES: dict[str, Iterable[str]] = {
    "data": DATASETS,
    "architecture": BLOCKS,
    "downsampling": DOWNSAMPLINGS,
    "protocol": PROTOCOLS,
    "task": TASKS,
}


def check(spec: Spec) -> None:
    """ValueError that names the field of `spec`, or of the run it looks at, that cannot be so."""
    network = network_of(spec)
    own = {field.name for field in fields(network)}
    for name, table in TABLES.items():
        if name in own:
            check_known(name, getattr(network, name), table)
    if isinstance(network, Training):
        _check_task(network)
    if isinstance(spec, WorstPretrained):
        check_known("network", spec.network, PRETRAINED)
    if isinstance(spec, Worst):
        for variant, _ in spec.others or ():
            check_known("others", variant, DOWNSAMPLINGS)
        if spec.calibration is not None:
            _check_full_batches(spec.calibration, FORWARD_BATCH, least=1)
    if isinstance(spec, Intervention | Comparison | Worst | Theory):
        _check_all_classes(spec.training)
    if isinstance(spec, Intervention | Matching | Smoothing):
        _check_full_batches(spec.calibration, FORWARD_BATCH, least=1)
    if isinstance(spec, Initialization):
        _check_full_batches(spec.calibration, CALIBRATION_BATCH, least=0)
    if isinstance(spec, Variation):
        check_known("choices", spec.choices, MULTIVERSES)
        pixels = getattr(network, "recipe", None) is None or network.recipe.pixels == "unit"
        require(pixels, "network", "trained on pixels in [0, 1]", network.slug)


def _check_task(spec: Training) -> None:
    if spec.task in TEMPLATE_TASKS:
        require(spec.strength is not None, "strength", "> 0, in pixels, for templates", None)
        require(spec.classes is not None, "classes", "an integer >= 2 for templates", None)
    else:
        rule = "None unless the task is one of templates"
        require(spec.strength is None, "strength", rule, spec.strength)
    if spec.task == "real":
        rule = "None for the task real, which draws nothing"
        require(spec.label_seed is None, "label_seed", rule, spec.label_seed)


def _check_all_classes(spec: Training) -> None:
    whole = spec.classes is None and spec.task not in TEMPLATE_TASKS
    rule = "of all classes of its data set, whose test images it is measured on"
    require(whole, "training", rule, spec.slug)


def _check_full_batches(calibration: int, batch: int, least: int) -> None:
    full = calibration <= batch or calibration % batch == 0
    rule = f"{least} to {batch} or a multiple of {batch}"
    require(calibration >= least and full, "calibration", rule, calibration)
