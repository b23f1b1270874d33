"""A name to images and labels: five sets, one code path, through the `datasets` library.

A folder ROOT/NAME with Parquet files is read in place and nothing is written; otherwise the set comes from the
Hugging Face hub and is kept in that library's own cache. ROOT is $DEFORMLIB_DATA when not given. `photos` needs
neither: it is made from the public-domain photographs inside the scikit-image package.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from deformlib.validation import check_known, is_whole, require

Loaded = tuple[Tensor, Tensor, list[str]]


@dataclass(frozen=True)
class Source:
    """Where a set lies and how it is laid out; `splits` maps our split names to the source's own."""

    hub: str
    folders: tuple[str, ...]
    image: str = "image"
    splits: dict[str, str] = field(default_factory=lambda: {"train": "train", "test": "test"})
    mode: str = "RGB"
    pad: int = 0
    side: int | None = (
        32  # of its images, as they are loaded; None where they differ, and a size must be asked for
    )


DATASETS: dict[str, Source | None] = {
    "photos": None,
    "cifar10": Source("uoft-cs/cifar10", ("cifar10",), image="img"),
    # 28 is not a multiple of 16, the size at which the downsampling layers would disagree.
    "mnist": Source("ylecun/mnist", ("mnist",), mode="L", pad=2),
    "tiny-imagenet": Source(
        "zh-plus/tiny-imagenet",
        ("tiny-imagenet",),
        splits={"train": "train", "test": "valid"},
        side=64,
    ),
    "imagenet": Source(
        "ILSVRC/imagenet-1k",
        ("imagenet", "imagenet-sample"),
        splits={"train": "train", "test": "validation"},
        side=None,
    ),
}


def load(
    name: str,
    split: str,
    root: str | Path | None = None,
    size: int | None = None,
    resize: str = "crop",
    classes: int | None = None,
) -> Loaded:
    """Images and labels of a set: (uint8 (N, C, H, W), int64 (N,), class names).

    name   one of DATASETS
    split  "train" or "test"
    root   the folder that holds the sets' folders; when None $DEFORMLIB_DATA, or without that `data` in the current one
    size   resizes the short side to `size` pixels (bilinear) and crops the center; required for imagenet. When None,
           images are as they are, but mnist's have a black edge of 2 pixels: 32x32
    resize another way to get there, one of RESIZES
    classes only the images of the first so many classes, so that memory holds no others; None: of all

    ValueError for an argument out of range; FileNotFoundError, naming the folder and the hub id, when the set is
    neither in the folder nor within reach.
    """
    _check(name, split, size, resize)
    source = DATASETS[name]
    if source is None:
        from reproduction.experiments.photos import views

        x, labels, names = views(split, size)
        chosen = labels < _number(classes, names, name)
        return x[chosen], labels[chosen], names[:classes]
    rows, count = _rows(source, name, source.splits[split], root)
    names = list(rows.features["label"].names)
    x, labels, k, number = (
        torch.empty(0),
        torch.empty(count, dtype=torch.int64),
        0,
        _number(classes, names, name),
    )
    for row in tqdm(
        rows, total=count, desc=f"{name} {split}", unit="image", leave=False, disable=None
    ):
        if row["label"] >= number:
            continue
        pixels = torch.from_numpy(_pixels(row[source.image], source.mode, size, resize)).permute(
            2, 0, 1
        )
        x = (
            x if k else torch.empty(count, *pixels.shape, dtype=torch.uint8)
        )  # (N, C, H, W), so that memory holds them once
        x[k], labels[k] = pixels, row["label"]
        k += 1
    x, labels = x[:k], labels[:k]  # what was not written to takes no memory
    if size is None and source.pad:  # it copies
        x = torch.nn.functional.pad(x, [source.pad] * 4)
    return x, labels, names[:classes]


def side_of(name: str) -> int | None:
    """The height and width of a set's images where no size is asked for, in pixels; None where one must be. ValueError for
    an unknown set."""
    check_known("name", name, DATASETS)
    return getattr(
        DATASETS[name], "side", 32
    )  # the photographs' views are as large as CIFAR-10's images


def origin(name: str, root: str | Path | None = None) -> str:
    """Where `load` reads a set, in words. FileNotFoundError, as `load` raises it, if that is nowhere."""
    check_known("name", name, DATASETS)
    source, root = DATASETS[name], _folder(root)
    if source is None:
        return "photographs inside scikit-image"
    found = [
        files[0].parent
        for split in source.splits.values()
        if (files := _files(source, split, root))
    ]
    if found:
        return " and ".join(map(str, dict.fromkeys(found)))
    return _hub(
        source.hub,
        f"{name}: no Parquet files in {root / source.folders[0]} (set DEFORMLIB_DATA or root)",
    )


def identity(*tensors: Tensor) -> str:
    """What the data are, whatever file they came from: 12 hex digits of the sha256 of the decoded tensors."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()[:12]


def _check(name: str, split: str, size: int | None, resize: str) -> None:
    check_known("name", name, DATASETS)
    own_size = size is None or DATASETS[name] is None
    which = "crop for photos and for images of their own size, else one of " + ", ".join(RESIZES)
    require(resize in RESIZES and (resize == "crop" or not own_size), "resize", which, repr(resize))
    require(split in ("train", "test"), "split", "train or test", repr(split))
    require(size is None or is_whole(size, 1), "size", "an integer >= 1, in pixels", repr(size))
    if size is None and DATASETS[name] and DATASETS[name].side is None:
        raise ValueError(
            f"size must be given for {name}, whose photographs differ in size (the paper uses 224)"
        )


def _number(classes: int | None, names: list[str], name: str) -> int:
    require(
        classes is None or is_whole(classes, 1) and classes <= len(names),
        "classes",
        f"in 1..{len(names)} for {name}",
        classes,
    )
    return len(names) if classes is None else classes


def _folder(root: str | Path | None) -> Path:
    return Path(root or os.environ.get("DEFORMLIB_DATA") or "data").expanduser()


def _files(source: Source, split: str, root: Path) -> list[Path]:
    """The Parquet files of a split, called as the source calls it, in the first of its folders that has any."""
    shards = (sorted((root / folder).glob(f"{split}-*.parquet")) for folder in source.folders)
    return next(filter(None, shards), [])


def _rows(
    source: Source, name: str, split: str, root: str | Path | None
) -> tuple[Iterable[dict[str, Any]], int]:
    import datasets

    root = _folder(root)
    if files := _files(source, split, root):
        import pyarrow.parquet as parquet

        if (whole := re.search(r"-of-(\d+)$", files[0].stem)) and len(files) != int(whole[1]):
            raise FileNotFoundError(
                f"{name}: {len(files)} of the {int(whole[1])} files {split}-*.parquet are in {files[0].parent}; all are needed"
            )
        count = sum(parquet.ParquetFile(file).metadata.num_rows for file in files)
        # Streaming reads the files in place; without it, datasets writes a copy into its cache.
        return datasets.load_dataset(
            "parquet", data_files={split: [*map(str, files)]}, split=split, streaming=True
        ), count
    missing = (
        f"{name}: no {split}-*.parquet in {root / source.folders[0]} (set DEFORMLIB_DATA or root)"
    )
    _hub(source.hub, missing)
    try:
        rows = datasets.load_dataset(source.hub, split=split)
    except ConnectionError as error:  # offline, and not in the cache
        raise FileNotFoundError(
            f"{missing}, and {source.hub} is not in the cache of `datasets` ({error})"
        ) from error
    return rows, len(rows)


def _hub(hub: str, missing: str) -> str:
    """Where the hub's copy is read, in words; an error at once where the hub is out of reach.

    Left alone, `datasets` retries for half a minute.
    """
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE:  # then `datasets` looks nowhere else, and says so itself
        return f"{hub} in the cache of `datasets`"
    try:
        HfApi().dataset_info(hub, timeout=5)
    except Exception as error:
        reason = type(error).__name__
        raise FileNotFoundError(
            f"{missing}, and {hub} on the Hugging Face hub is out of reach ({reason}); "
            "HF_HUB_OFFLINE=1 reads a copy downloaded earlier"
        ) from error
    return f"{hub} on the Hugging Face hub"


def _fit(image: Any, size: int, filter: str) -> Any:
    from PIL import Image, ImageOps

    return ImageOps.fit(image, (size, size), Image.Resampling[filter])


def _squash(image: Any, size: int) -> Any:
    from PIL import Image

    return image.resize((size, size), Image.Resampling.BILINEAR)


def _centre(image: Any, size: int) -> Any:
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))


# How a photograph becomes a square of `size` pixels: the middle square of it, resized with this filter; all of it,
# whatever its proportions; or its middle, cut out at its own scale (black beyond its edges).
RESIZES: dict[str, Callable[[Any, int], Any]] = {
    "crop": partial(_fit, filter="BILINEAR"),
    "bicubic": partial(_fit, filter="BICUBIC"),
    "nearest": partial(_fit, filter="NEAREST"),
    "squash": _squash,
    "centre": _centre,
}


def _pixels(image: Any, mode: str, size: int | None, resize: str) -> np.ndarray:
    image = image.convert(mode)
    if size is not None:
        image = RESIZES[resize](image, size)
    return np.array(image).reshape(image.height, image.width, -1)
