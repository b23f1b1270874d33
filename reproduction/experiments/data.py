"""A name to images and labels: five data sets, one way to read them.

A folder ROOT/NAME with Parquet files is read in place and nothing is written; otherwise the set
comes from the Hugging Face hub and is kept in the cache of `datasets`. ROOT is $DEFORMLIB_DATA when
not given. `photos` needs neither: it is made from photographs inside the scikit-image package.
"""

import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from tqdm import tqdm

from deformlib.photographs import decoded
from deformlib.validation import check_known, is_whole, require

Loaded = tuple[Tensor, Tensor, list[str]]


@dataclass(frozen=True)
class Source:
    """Where a set lies and how it is laid out.

    image: the column of images; that of labels is always `label`
    splits: our names of splits, each with the source's own
    pad: black pixels added on each side of images that keep their size
    side: of the images as they are loaded, in pixels; None where they differ
    """

    hub: str
    folders: tuple[str, ...]
    image: str = "image"
    splits: dict[str, str] = field(default_factory=lambda: {"train": "train", "test": "test"})
    mode: str = "RGB"
    pad: int = 0
    side: int | None = 32


@dataclass(frozen=True)
class Rows:
    """The rows of a split, read one by one: each (where it stands, its image, its label)."""

    names: list[str]
    count: int
    each: Iterator[tuple[str, Any, Any]]


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
    """Images and labels of a set: uint8 (N, C, H, W), int64 (N,), class names.

    Args:
        name: one of DATASETS.
        split: "train" or "test".
        root: the folder that holds the sets' folders; if None $DEFORMLIB_DATA, else `data` here.
        size: the short side is resized to it (bilinear), the center cropped; required for imagenet.
            If None, images keep their size; those of mnist get a black edge of 2 pixels: 32x32.
        resize: another way to that size, one of RESIZES.
        classes: only the images of the first so many classes, so that memory holds no others.

    Raises:
        ValueError: an argument out of range, or a file that is not laid out as the hub's.
        FileNotFoundError: the set is neither in the folder nor within reach.
    """
    _check(name, split, size, resize)
    source = DATASETS[name]
    if source is None:
        return _photos(split, size, classes)
    rows = _rows(source, name, source.splits[split], root)
    _check_classes(classes, rows.names, name)
    read = partial(_pixels, column=source.image, mode=source.mode, size=size, resize=resize)
    images, labels = _stacked(rows, read, classes, f"{name} {split}")
    if size is None and source.pad:
        images = torch.nn.functional.pad(images, [source.pad] * 4)
    return images, labels, rows.names[:classes]


def side_of(name: str) -> int | None:
    """Height and width of a set's images if no size is asked for; None where one must be."""
    check_known("name", name, DATASETS)
    source = DATASETS[name]
    return source.side if source else 32


def origin(name: str, root: str | Path | None = None) -> str:
    """Where `load` reads a set, in words. FileNotFoundError, as of `load`, if that is nowhere."""
    check_known("name", name, DATASETS)
    source = DATASETS[name]
    if source is None:
        return "photographs inside scikit-image"
    splits = source.splits.values()
    files = [file for split in splits for file in _files(source, split, _folder(root))]
    if files:
        return " and ".join(dict.fromkeys(str(file.parent) for file in files))
    place = _folder(root) / source.folders[0]
    return _hub(source.hub, f"{name}: no Parquet files in {place} (set DEFORMLIB_DATA or root)")


def identity(*tensors: Tensor) -> str:
    """12 hex digits of the sha256 of decoded tensors: the same from whatever file they came."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()[:12]


def _check(name: str, split: str, size: int | None, resize: str) -> None:
    check_known("name", name, DATASETS)
    source = DATASETS[name]
    rule = "crop for photos and for images of their own size, else one of " + ", ".join(RESIZES)
    free = source is not None and size is not None
    require(resize == "crop" or (free and resize in RESIZES), "resize", rule, repr(resize))
    require(split in ("train", "test"), "split", "train or test", repr(split))
    require(size is None or is_whole(size, 1), "size", "an integer >= 1, in pixels", repr(size))
    if size is None and source is not None and source.side is None:
        raise ValueError(
            f"size must be given for {name}, whose photographs differ in size (the paper uses 224)"
        )


def _check_classes(classes: int | None, names: list[str], name: str) -> None:
    valid = classes is None or (is_whole(classes, 1) and classes <= len(names))
    require(valid, "classes", f"in 1..{len(names)} for {name}", classes)


def _photos(split: str, size: int | None, classes: int | None) -> Loaded:
    from reproduction.experiments.photos import views

    images, labels, names = views(split, size)
    _check_classes(classes, names, "photos")
    chosen = labels < (classes or len(names))
    return images[chosen], labels[chosen], names[:classes]


def _folder(root: str | Path | None) -> Path:
    return Path(root or os.environ.get("DEFORMLIB_DATA") or "data").expanduser()


def _files(source: Source, split: str, root: Path) -> list[Path]:
    """The Parquet files of a split, in the first of the source's folders that has any."""
    for folder in source.folders:
        if files := sorted((root / folder).glob(f"{split}-*.parquet")):
            return files
    return []


def _rows(source: Source, name: str, split: str, root: str | Path | None) -> Rows:
    files = _files(source, split, _folder(root))
    if not files:
        place = _folder(root) / source.folders[0]
        missing = f"{name}: no {split}-*.parquet in {place} (set DEFORMLIB_DATA or root)"
        return _rows_of_hub(source, split, missing)
    whole = re.search(r"-of-(\d+)$", files[0].stem)
    if whole and len(files) != int(whole[1]):
        raise FileNotFoundError(
            f"{name}: {len(files)} of the {int(whole[1])} files {split}-*.parquet "
            f"are in {files[0].parent}; all are needed"
        )
    return _rows_of_files(files, source.image)


def _rows_of_files(files: list[Path], image: str) -> Rows:
    tables = {file: _parquet(file, image) for file in files}
    names = {file: _class_names(file, table.schema_arrow) for file, table in tables.items()}
    first = files[0]
    for file in files:
        if names[file] != names[first]:
            raise ValueError(f"{file}: column label must name the classes that {first} names")

    def each() -> Iterator[tuple[str, Any, Any]]:
        for file, table in tables.items():
            for number, row in enumerate(_read(file, table, image)):
                yield f"{file}, row {number}", row[image], row["label"]

    count = sum(table.metadata.num_rows for table in tables.values())
    return Rows(names[first], count, each())


def _parquet(file: Path, image: str) -> Any:
    """An open Parquet file that has rows and the columns of images and labels."""
    import pyarrow
    from pyarrow import parquet

    with file.open("rb") as start:
        if start.read(40).startswith(b"version https://git-lfs"):
            raise ValueError(f"{file} is a Git LFS pointer, not a Parquet file: git lfs pull")
    try:
        table = parquet.ParquetFile(file)
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{file} is not a whole Parquet file ({error})") from error
    require(table.metadata.num_rows > 0, str(file), "a Parquet file with rows", "none")
    types = {column.name: column.type for column in table.schema_arrow}
    for column in (image, "label"):
        if column not in types:
            raise ValueError(f"{file} must have a column {column}, got {', '.join(types)}")
    place = f"{file}: column"
    require(_holds_bytes(types[image]), f"{place} {image}", "structs with bytes", types[image])
    integer = pyarrow.types.is_integer(types["label"])
    require(integer, f"{place} label", "integers", types["label"])
    return table


def _holds_bytes(kind: Any) -> bool:
    from pyarrow import types

    return types.is_struct(kind) and kind.get_field_index("bytes") >= 0


def _class_names(file: Path, schema: Any) -> list[str]:
    """The names of the classes, which the hub's files hold in their schema."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        return list(features["label"]["names"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{file}: column label must have names of classes in the schema, as the hub's files do"
        ) from error


def _read(file: Path, table: Any, image: str) -> Iterator[dict[str, Any]]:
    import pyarrow

    try:
        for batch in table.iter_batches(256, columns=[image, "label"]):
            yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{file}: columns {image} and label are damaged ({error})") from error


def _rows_of_hub(source: Source, split: str, missing: str) -> Rows:
    import datasets

    _hub(source.hub, missing)
    try:
        table = datasets.load_dataset(source.hub, split=split)
    except ConnectionError as error:  # offline, and not in the cache
        raise FileNotFoundError(
            f"{missing}, and {source.hub} is not in the cache of `datasets` ({error})"
        ) from error
    table = table.cast_column(source.image, datasets.Image(decode=False))

    def each() -> Iterator[tuple[str, Any, Any]]:
        for number, row in enumerate(table):
            yield f"{source.hub}, row {number}", row[source.image], row["label"]

    return Rows(list(table.features["label"].names), len(table), each())


def _hub(hub: str, missing: str) -> str:
    """Where the hub's copy is read, in words. FileNotFoundError at once if it is out of reach.

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


def _stacked(
    rows: Rows, read: Callable[[Any, str], Tensor], classes: int | None, title: str
) -> tuple[Tensor, Tensor]:
    """Images and labels of the first classes, written into one tensor as they are read."""
    total = len(rows.names)
    images, labels = None, torch.empty(rows.count, dtype=torch.int64)
    k = 0
    bar = tqdm(rows.each, title, rows.count, leave=False, unit="image", disable=None)
    for place, cell, label in bar:
        require(label in range(total), f"{place}: column label", f"in 0..{total - 1}", label)
        if classes is not None and label >= classes:
            continue
        pixels = read(cell, place)  # (C, H, W)
        if images is None:
            images = torch.empty(rows.count, *pixels.shape, dtype=torch.uint8)
        size = tuple(images.shape[1:])
        require(pixels.shape == size, f"{place}: image", f"{size} as the first", pixels.shape)
        images[k], labels[k] = pixels, label
        k += 1
    if images is None:
        raise ValueError(f"{title} has no image of the first {classes} classes")
    return images[:k], labels[:k]  # what was not written to takes no memory


def _pixels(cell: Any, place: str, column: str, mode: str, size: int | None, resize: str) -> Tensor:
    """The image in a cell: uint8 (C, H, W)."""
    if not cell or not cell["bytes"]:
        raise ValueError(f"{place}: column {column} holds no image")
    try:
        image = decoded(io.BytesIO(cell["bytes"])).convert(mode)
    except ValueError as error:
        raise ValueError(
            f"{place}: column {column} is not an image that can be read ({error})"
        ) from error
    if size is not None:
        image = RESIZES[resize](image, size)
    pixels = np.array(image).reshape(image.height, image.width, -1)
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _fit(image: Image.Image, size: int, resampling: Image.Resampling) -> Image.Image:
    return ImageOps.fit(image, (size, size), resampling)


def _squash(image: Image.Image, size: int) -> Image.Image:
    return image.resize((size, size), Image.Resampling.BILINEAR)


def _centre(image: Image.Image, size: int) -> Image.Image:
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))


# How a photograph becomes a square: the middle square of it, resized with this filter; all of it,
# whatever its proportions; or its middle, cut out at its own scale (black beyond its edges).
RESIZES: dict[str, Callable[[Image.Image, int], Image.Image]] = {
    "crop": partial(_fit, resampling=Image.Resampling.BILINEAR),
    "bicubic": partial(_fit, resampling=Image.Resampling.BICUBIC),
    "nearest": partial(_fit, resampling=Image.Resampling.NEAREST),
    "squash": _squash,
    "centre": _centre,
}
