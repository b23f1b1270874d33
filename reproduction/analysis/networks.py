"""The book's own networks, from the weights that are kept with the records, and tables of their
filters."""

from collections.abc import Callable, Mapping
from typing import cast

import pandas as pd
import torch
from torch import Tensor

from deformlib.models import VGG
from deformlib.validation import check_known, is_whole, require
from reproduction.analysis.evidence import store_for
from reproduction.analysis.study_arrays import COLUMNS
from reproduction.experiments import networks, studies
from reproduction.experiments.protocol import banks_of
from reproduction.experiments.specs import Training
from reproduction.experiments.store import load_tensors


def load_trained(study: str, variant: str | float, seed: int = 0, mode: str = "full") -> VGG:
    """A trained network of the book, in eval mode, from the weights that are kept with the records
    (in bfloat16).

    >>> load_trained("cifar10", "max-pool", seed=0)  # doctest: +SKIP

    It takes images (N, 3, H, W) with values in [0, 1], H and W multiples of 16, as all but the
    recipe "augmented" do. The weights are in the project's own checkout, `book/results/weights`.

    ValueError for an unknown variant or mode, and for a study or a seed whose weights are not kept;
    FileNotFoundError, with the command that makes it, if the file is missing."""
    return networks.restore(*_kept(study, variant, seed, mode))


def load_initial(study: str, variant: str | float, seed: int = 0, mode: str = "full") -> VGG:
    """The same network before its training. Errors as for `load_trained`."""
    spec, tensors = _kept(study, variant, seed, mode)
    return networks.build(spec, *networks.sides(tensors)).eval()


def _kept(
    name: str, variant: str | float, seed: int, mode: str
) -> tuple[Training, dict[str, Tensor]]:
    """The spec of a training, and its final weights."""
    study, store = studies.study(name), store_for(mode)
    keeping = ", ".join(name for name, each in studies.STUDIES.items() if each.weights)
    require(bool(study.weights), "study", f"one that keeps weights: {keeping}", repr(name))
    require(is_whole(seed, 0), "seed", "an integer >= 0", repr(seed))
    specs = {getattr(spec, study.variant): spec for spec in study.specs(mode, [seed])}
    check_known("variant", variant, specs)
    kept = ", ".join(map(str, study.weights))
    require(seed in study.weights, "seed", f"one of {kept}, whose weights {name} keeps", seed)
    spec = cast(Training, specs[variant])
    if not store.weights_path(spec).exists():
        delete = f"delete {store.path(spec)} and " if spec in store else ""
        of_mode = "" if mode == "full" else f" --mode {mode}"
        raise FileNotFoundError(
            f"no weights of {name}, {variant}, seed {seed}; to make them {delete}run "
            f"python -m reproduction run {name} --seeds {seed}{of_mode}"
        )
    return spec, load_tensors(store.weights_path(spec))[0]


def over_filters(
    networks: Mapping[str | float, torch.nn.Module],
    measure: Callable[[Tensor], Tensor],
    seed: int = 0,
) -> pd.DataFrame:
    """Columns as of `Evidence.banks`: `measure` of the filters of every convolution, (out, in, kh,
    kw) -> (out, in), as the mean over kernels; kernels for which it is not a number are left
    out."""
    rows = []
    for variant, network in networks.items():
        for number, (name, weight) in enumerate(banks_of(network).items(), 1):
            rows.append((variant, seed, number, name, float(measure(weight).nanmean())))
    return pd.DataFrame(rows, columns=COLUMNS)
