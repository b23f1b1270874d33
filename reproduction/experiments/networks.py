"""The network of a spec: at its initialization, or with the weights that were kept."""

from dataclasses import replace

from torch import Tensor

from deformlib import models
from deformlib.seeding import stream
from reproduction.experiments.pretrained import Chain, pretrained, untrained
from reproduction.experiments.specs import (
    Initialization,
    Spec,
    Training,
    Worst,
    WorstPretrained,
    network_of,
)
from reproduction.experiments.store import Store, load_tensors

IMAGENET_CLASSES = 1000  # of every network at initialization that is measured and not trained


def build(spec: Training | Initialization, classes: int, in_channels: int) -> models.VGG:
    """The network at its initialization: one seed, the same filters and head in every variant."""
    blocks = models.BLOCKS[spec.architecture]
    model = models.VGG(blocks, spec.downsampling, classes, in_channels, spec.width)
    smoothing = spec.smoothing if isinstance(spec, Initialization) else None
    generator = stream(spec.seed, "initialization")
    return models.initialize(model, generator=generator, smoothing=smoothing or 0.0)


def restore(spec: Training, tensors: dict[str, Tensor]) -> models.VGG:
    """The network with weights that were kept, in eval mode; copied into float32."""
    model = build(spec, *sides(tensors))
    model.load_state_dict(tensors)
    return model.eval()


def sides(tensors: dict[str, Tensor]) -> tuple[int, int]:
    """(classes, input channels) of a network, from its weights."""
    return len(tensors["head.weight"]), tensors["conv1_1.conv.weight"].shape[1]


def at_initialization(spec: Initialization) -> models.VGG:
    """The network of a spec that trains none."""
    return build(spec, IMAGENET_CLASSES, in_channels=3)


def before_and_after(spec: Spec, store: Store) -> dict[str, models.VGG]:
    """{"before": the network at its initialization}, and "after" training as `store` keeps it.

    FileNotFoundError if there are no weights of a network that was trained.
    """
    network = network_of(spec)
    if isinstance(network, Initialization):
        return {"before": at_initialization(network)}
    tensors = kept_weights(spec, store)
    return {"before": build(network, *sides(tensors)), "after": restore(network, tensors)}


def with_others(spec: Worst, store: Store) -> dict[str, models.VGG]:
    """`before_and_after`, and the trained networks of `spec.others`, named "VARIANT-SEED"."""
    networks = before_and_after(spec, store)
    for variant, seed in spec.others or ():
        other = replace(spec.training, downsampling=variant, seed=seed)
        networks[f"{variant}-{seed}"] = restore(other, weights_of(other, spec, store))
    return networks


def trained_by_others(spec: WorstPretrained) -> dict[str, Chain]:
    """{"before": its architecture at the paper's initialization, "after": trained on ImageNet}."""
    before, after = untrained(spec.network, spec.seed), pretrained(spec.network)
    return {"before": before.model, "after": after.model}


def kept_weights(spec: Spec, store: Store) -> dict[str, Tensor]:
    """The weights that a measurement of a trained network starts from. FileNotFoundError if none
    were kept."""
    return weights_of(network_of(spec), spec, store)


def weights_of(network: Training, spec: Spec, store: Store) -> dict[str, Tensor]:
    """The kept weights of a network that `spec` needs. FileNotFoundError if none were kept."""
    path = store.weights_path(network)
    if not path.exists():
        wanted = f"{spec.slug} needs the weights of {network.slug}"
        raise FileNotFoundError(f"{wanted}, and there is no {path}")
    tensors, _ = load_tensors(path)
    return tensors
