"""Five sets by name: read in place, decoded as PIL does, and an error at once without one."""

import hashlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import datasets
import huggingface_hub
import numpy as np
import pyarrow
import pytest
import torch
from PIL import Image
from pyarrow import parquet

from reproduction.experiments import data, photos

# name: folder, hub id, image column, the source's own splits, shape of a stored image
LAYOUT = {
    "cifar10": ("cifar10", "uoft-cs/cifar10", "img", ("train", "test"), (32, 32, 3)),
    "mnist": ("mnist", "ylecun/mnist", "image", ("train", "test"), (28, 28)),
    "tiny-imagenet": (
        "tiny-imagenet",
        "zh-plus/tiny-imagenet",
        "image",
        ("train", "valid"),
        (64, 64, 3),
    ),
    "imagenet": ("imagenet", "ILSVRC/imagenet-1k", "image", ("train", "validation"), (40, 60, 3)),
}
NAMES = ["cat", "dog", "boat"]
PHOTOGRAPHS = [
    (40, 60, 3),
    (75, 33, 3),
    (32, 32, 3),
    (51, 34),
]  # height, width; the last one is grey


def pixels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def rows(images: list[np.ndarray], labels: list[int], column: str = "image") -> datasets.Dataset:
    features = datasets.Features(
        {column: datasets.Image(), "label": datasets.ClassLabel(names=NAMES)}
    )
    return datasets.Dataset.from_dict(
        {column: [Image.fromarray(x) for x in images], "label": labels}, features=features
    )


def write(
    folder: Path,
    split: str,
    images: list[np.ndarray],
    labels: list[int],
    column: str = "image",
    shard: str = "00000-of-00001",
):
    folder.mkdir(parents=True, exist_ok=True)
    rows(images, labels, column).to_parquet(folder / f"{split}-{shard}.parquet")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The five sets' folders, three images each, as on the hub; and no hub within reach."""
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("DEFORMLIB_DATA", str(tmp_path / "nothing"))
    for name, (folder, _, column, splits, shape) in LAYOUT.items():
        for seed, split in enumerate(splits):
            images = [
                pixels(*(PHOTOGRAPHS[k] if name == "imagenet" else shape), seed=10 * seed + k)
                for k in range(4)
            ]
            write(tmp_path / folder, split, images, [2, 0, 1, 2], column)
    return tmp_path


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("name", ["cifar10", "tiny-imagenet"])
def test_images_and_labels_come_as_they_are(name: str, split: str, root: Path):
    x, y, names = data.load(name, split, root)
    stored = [pixels(*LAYOUT[name][-1], seed=10 * (split == "test") + k) for k in range(4)]
    assert x.dtype == torch.uint8 and y.dtype == torch.int64 and x.is_contiguous()
    np.testing.assert_array_equal(x, np.stack(stored).transpose(0, 3, 1, 2))
    assert y.tolist() == [2, 0, 1, 2] and names == NAMES


def test_mnist_is_padded_to_32_with_zeros(root: Path):
    x, _, _ = data.load("mnist", "train", root)
    expected = np.pad(
        np.stack([pixels(28, 28, seed=k) for k in range(4)])[:, None],
        [(0, 0), (0, 0), (2, 2), (2, 2)],
    )
    np.testing.assert_array_equal(x, expected)


def test_mnist_of_another_size_is_not_padded(root: Path):
    x, _, _ = data.load("mnist", "train", root, size=32)
    expected = np.asarray(
        Image.fromarray(pixels(28, 28)).resize((32, 32), Image.Resampling.BILINEAR)
    )
    assert x.shape == (4, 1, 32, 32) and np.array_equal(x[0, 0], expected)


@pytest.mark.parametrize(
    "resize, filter",
    [
        ("bicubic", Image.Resampling.BICUBIC),
        ("nearest", Image.Resampling.NEAREST),
        ("squash", None),
    ],
)
def test_other_ways_to_resize(resize: str, filter: Image.Resampling | None, root: Path):
    x, _, _ = data.load("imagenet", "test", root, 20, resize)
    photograph = Image.fromarray(pixels(*PHOTOGRAPHS[0], seed=10))  # 60 wide, 40 high
    square = (
        photograph.resize((20, 20), filter, (10, 0, 50, 40))
        if filter is not None
        else photograph.resize((20, 20), Image.Resampling.BILINEAR)
    )
    assert np.array_equal(x[0].permute(1, 2, 0), square)


def test_the_centre_is_cut_out_at_its_own_scale(root: Path):
    x, _, _ = data.load("imagenet", "test", root, 32, "centre")
    assert np.array_equal(x[0].permute(1, 2, 0), pixels(*PHOTOGRAPHS[0], seed=10)[4:36, 14:46])


@pytest.mark.parametrize("size", [32, 48, 20])
def test_size_resizes_the_short_side_and_crops_the_center(size: int, root: Path):
    x, _, _ = data.load("imagenet", "test", root, size)
    assert x.shape == (4, 3, size, size)
    for k, shape in enumerate(PHOTOGRAPHS):
        photograph = Image.fromarray(pixels(*shape, seed=10 + k)).convert("RGB")
        short = min(shape[:2])
        left, top = (shape[1] - short) / 2, (shape[0] - short) / 2
        square = photograph.resize(
            (size, size), Image.Resampling.BILINEAR, (left, top, left + short, top + short)
        )
        np.testing.assert_array_equal(x[k].permute(1, 2, 0), np.asarray(square))


def test_the_sample_stands_in_for_imagenet(root: Path):
    (root / "imagenet").rename(root / "imagenet-sample")
    assert data.load("imagenet", "test", root, 16)[0].shape == (4, 3, 16, 16)


def test_a_set_of_which_files_are_missing_is_refused(tmp_path: Path):
    write(tmp_path / "cifar10", "train", [pixels(32, 32, 3)], [1], "img", "00001-of-00003")
    with pytest.raises(
        FileNotFoundError,
        match=f"cifar10: 1 of the 3 files train-.* are in {tmp_path / 'cifar10'}; all are needed",
    ):
        data.load("cifar10", "train", tmp_path)


def test_shards_are_read_in_order_and_the_environment_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    images = [pixels(32, 32, 3, seed=k) for k in range(5)]
    write(tmp_path / "cifar10", "train", images[3:], [1, 0], "img", "00001-of-00002")
    write(tmp_path / "cifar10", "train", images[:3], [2, 2, 1], "img", "00000-of-00002")
    monkeypatch.setenv("DEFORMLIB_DATA", str(tmp_path))
    x, y, _ = data.load("cifar10", "train")
    np.testing.assert_array_equal(x, np.stack(images).transpose(0, 3, 1, 2))
    assert y.tolist() == [2, 2, 1, 1, 0]


@pytest.mark.parametrize("classes, kept", [(1, [0, 3]), (2, [0, 1, 3]), (None, [0, 1, 2, 3])])
def test_the_first_classes_alone(classes: int | None, kept: list[int], tmp_path: Path):
    images = [pixels(32, 32, 3, seed=k) for k in range(4)]
    write(tmp_path / "cifar10", "train", images, [0, 1, 2, 0], "img")
    x, y, names = data.load("cifar10", "train", tmp_path, classes=classes)
    np.testing.assert_array_equal(x, np.stack([images[k] for k in kept]).transpose(0, 3, 1, 2))
    assert y.tolist() == [[0, 1, 2, 0][k] for k in kept] and names == NAMES[:classes]
    with pytest.raises(ValueError, match=r"classes must be in 1\.\.3 for cifar10, got 0"):
        data.load("cifar10", "train", tmp_path, classes=0)


def test_the_first_classes_of_the_photographs():
    (x, y, names), (every, labels, all_names) = (
        data.load("photos", "test", classes=k) for k in (3, None)
    )
    assert (
        torch.equal(x, every[labels < 3])
        and torch.equal(y, labels[labels < 3])
        and names == all_names[:3]
    )
    with pytest.raises(ValueError, match=r"classes must be in 1\.\.10 for photos, got 11"):
        data.load("photos", "test", classes=11)


def test_a_folder_is_read_in_place(root: Path, tmp_path_factory: pytest.TempPathFactory):
    cache = tmp_path_factory.mktemp("cache")
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    code = """
import sys
from reproduction.experiments import data
print(data.load("cifar10", "train", sys.argv[1])[0].shape)
"""
    environment = {
        **os.environ,
        "HF_HOME": str(cache),
        "HF_DATASETS_CACHE": str(cache / "datasets"),
        "HOME": str(cache),
    }
    run = subprocess.run(
        [sys.executable, "-c", code, str(root)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == "torch.Size([4, 3, 32, 32])"
    assert run.stderr == "", "a progress bar where nobody looks"
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    assert not [path for path in cache.rglob("*") if path.suffix in (".arrow", ".parquet")]


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


def parquet_bytes(images: list[np.ndarray], column: str = "img") -> bytes:
    file = io.BytesIO()
    rows(images, [0] * len(images), column).to_parquet(file)
    return file.getvalue()


def table(**columns: pyarrow.Array) -> bytes:
    """A Parquet file of these columns, whose schema names the three classes."""
    features = {"features": {"label": {"names": NAMES, "_type": "ClassLabel"}}}
    metadata = {"huggingface": json.dumps({"info": features})}
    file = io.BytesIO()
    parquet.write_table(pyarrow.table(columns).replace_schema_metadata(metadata), file)
    return file.getvalue()


def cells(*images: bytes | None) -> pyarrow.Array:
    kind = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
    return pyarrow.array([image and {"bytes": image, "path": None} for image in images], kind)


def png(*shape: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels(*shape)).save(file, "png")
    return file.getvalue()


def without_names() -> bytes:
    file = io.BytesIO()
    parquet.write_table(pyarrow.table({"img": cells(png(32, 32, 3)), "label": [0]}), file)
    return file.getvalue()


def damaged() -> bytes:
    """A file whose rows are overwritten and whose end, which says where they are, is whole."""
    whole = bytearray(parquet_bytes([pixels(32, 32, 3, seed=k) for k in range(40)]))
    whole[4:400] = bytes([255]) * 396
    return bytes(whole)


PNG = png(32, 32, 3)


@pytest.mark.parametrize("content, words", [
    (lambda: POINTER, "is a Git LFS pointer"),
    (lambda: b"", "is not a whole Parquet file"),
    (lambda: parquet_bytes([pixels(32, 32, 3)])[:-100], "is not a whole Parquet file"),
    (damaged, "columns img and label are damaged"),
    (lambda: table(img=cells(), label=pyarrow.array([], "int64")), "with rows, got none"),
    (without_names, "column label must have names of classes in the schema"),
    (lambda: table(image=cells(PNG), label=[0]), "must have a column img, got image, label"),
    (lambda: table(img=cells(PNG), fine=[0]), "must have a column label, got img, fine"),
    (lambda: table(img=["a.png"], label=[0]), "column img must be structs with bytes, got string"),
    (lambda: table(img=cells(PNG), label=["cat"]), "column label must be integers, got string"),
    (lambda: table(img=cells(PNG, PNG), label=[0, 3]), "row 1: column label must be in 0..2, got"),
    (lambda: table(img=cells(PNG), label=[-1]), "row 0: column label must be in 0..2, got -1"),
    (lambda: table(img=cells(PNG, None), label=[0, 1]), "row 1: column img holds no image"),
    (lambda: table(img=cells(b"no image"), label=[0]), "row 0: column img is not an image that"),
    (lambda: table(img=cells(PNG[:90]), label=[0]), "row 0: column img is not an image that"),
    (lambda: table(img=cells(PNG, png(9, 8, 3)), label=[0, 1]), "row 1: image must be (3, 32, 32)"),
])  # fmt: skip
def test_a_file_that_is_not_what_the_layout_says_is_named(
    content: Callable[[], bytes], words: str, tmp_path: Path
):
    file = tmp_path / "cifar10" / "train-00000-of-00001.parquet"
    file.parent.mkdir()
    file.write_bytes(content())
    with pytest.raises(ValueError) as error:
        data.load("cifar10", "train", tmp_path)
    assert str(file) in str(error.value) and words in str(error.value)


def test_files_of_one_set_name_the_same_classes(tmp_path: Path):
    folder = tmp_path / "cifar10"
    write(folder, "train", [pixels(32, 32, 3)], [0], "img", "0-of-2")
    other = {"img": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "cow", "boat"])}
    cell = {"img": [Image.fromarray(pixels(32, 32, 3))], "label": [0]}
    set = datasets.Dataset.from_dict(cell, features=datasets.Features(other))
    set.to_parquet(folder / "train-1-of-2.parquet")
    with pytest.raises(ValueError, match=r"train-1-of-2\.parquet: column label must name"):
        data.load("cifar10", "train", tmp_path)


def test_a_photograph_on_its_side_is_turned_upright(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6  # taken with the camera turned
    file = io.BytesIO()
    Image.fromarray(pixels(32, 32, 3)).save(file, "png", exif=exif)
    (tmp_path / "cifar10").mkdir()
    content = table(img=cells(file.getvalue()), label=[0])
    (tmp_path / "cifar10" / "train-0.parquet").write_bytes(content)
    x, _, _ = data.load("cifar10", "train", tmp_path)
    assert np.array_equal(x[0].permute(1, 2, 0), np.rot90(pixels(32, 32, 3), -1))


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("name", LAYOUT)
def test_without_a_folder_the_hub_is_asked(
    name: str, split: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    _, hub, column, splits, shape = LAYOUT[name]
    asked = []

    def load_dataset(path: str, split: str) -> datasets.Dataset:
        asked.append((path, split))
        return rows([pixels(*shape)], [1], column)

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda self, *args, **options: None)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    x, y, names = data.load(name, split, tmp_path, 32 if name == "imagenet" else None)
    assert asked == [(hub, splits[split == "test"])]
    assert len(x) == 1 and y.tolist() == [1] and names == NAMES


@pytest.mark.parametrize("offline", [False, True])
@pytest.mark.parametrize("name", LAYOUT)
def test_with_neither_the_error_comes_at_once_and_names_both(
    name: str, offline: bool, root: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", offline)
    started, empty = time.monotonic(), root / "empty"
    with pytest.raises(FileNotFoundError) as error:
        data.load(name, "test", empty, 32)
    assert str(empty / LAYOUT[name][0]) in str(error.value) and LAYOUT[name][1] in str(error.value)
    assert time.monotonic() - started < 10


def test_the_origin_is_where_load_reads(root: Path, monkeypatch: pytest.MonkeyPatch):
    assert data.origin("photos", root) == "photographs inside scikit-image"
    assert data.origin("tiny-imagenet", root) == str(root / "tiny-imagenet")
    (root / "imagenet-sample").mkdir()
    (root / "imagenet" / "validation-00000-of-00001.parquet").rename(
        root / "imagenet-sample" / "validation-0.parquet"
    )
    assert data.origin("imagenet", root) == f"{root / 'imagenet'} and {root / 'imagenet-sample'}"
    (root / "mnist" / "train-00000-of-00001.parquet").unlink()
    monkeypatch.setenv("DEFORMLIB_DATA", str(root))
    assert data.origin("mnist") == str(root / "mnist")


def test_the_origin_is_the_hub_or_its_cache_or_an_error(
    root: Path, monkeypatch: pytest.MonkeyPatch
):
    files = {
        path.rename(path.with_name(f"copy-of-{path.name}")) for path in (root / "cifar10").iterdir()
    }
    assert len(files) == 2  # of which `load` reads none
    with pytest.raises(
        FileNotFoundError, match=f"{root / 'cifar10'} .*uoft-cs/cifar10 .* out of reach"
    ):
        data.origin("cifar10", root)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda self, *args, **options: None)
    assert data.origin("cifar10", root) == "uoft-cs/cifar10 on the Hugging Face hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert data.origin("cifar10", root) == "uoft-cs/cifar10 in the cache of `datasets`"
    with pytest.raises(ValueError, match=r"name must be one of photos, .*, got 'cifar'"):
        data.origin("cifar")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ("cifar", "train"),
            "name must be one of photos, cifar10, mnist, tiny-imagenet, imagenet, got 'cifar'",
        ),
        (("mnist", "valid"), "split must be train or test, got 'valid'"),
        (("imagenet", "test"), "size must be given for imagenet"),
        (
            ("imagenet", "test", None, 32, "stretch"),
            "resize must be crop for photos .*one of crop, bicubic, .*got 'stretch'",
        ),
        (("photos", "test", None, 32, "squash"), "resize must be crop for photos .*got 'squash'"),
        (
            ("cifar10", "test", None, None, "squash"),
            "resize must be crop for photos and for images of their own size, .*got 'squash'",
        ),
        (("photos", "test", None, 0), "size must be an integer >= 1, in pixels, got 0"),
        (("photos", "test", None, True), "size must be an integer >= 1, in pixels, got True"),
        (("photos", "test", None, 32.0), "size must be an integer >= 1, in pixels, got 32.0"),
    ],
)
def test_bad_input_is_named_with_what_it_may_be(arguments: tuple, message: str):
    with pytest.raises(ValueError, match=message):
        data.load(*arguments)


def test_identity_is_that_of_the_decoded_tensors():
    x, y = torch.from_numpy(pixels(4, 3, 8, 8)), torch.arange(4)
    expected = hashlib.sha256(
        b"torch.uint8(4, 3, 8, 8)" + x.numpy().tobytes() + b"torch.int64(4,)" + y.numpy().tobytes()
    )
    assert data.identity(x, y) == expected.hexdigest()[:12]
    assert data.identity(x.to(memory_format=torch.channels_last), y) == data.identity(x, y)
    changed = x.clone()
    changed[2, 1, 3, 5] ^= 1
    others = [(changed, y), (x, y.flip(0)), (x.flatten(1), y), (y, x), (x,)]
    assert len({data.identity(*tensors) for tensors in [(x, y), *others]}) == 1 + len(others)


@pytest.mark.skipif(
    "DEFORMLIB_DATA" not in os.environ, reason="DEFORMLIB_DATA names no folder of data sets"
)
@pytest.mark.parametrize(
    "name, shape, classes", [("mnist", (1, 32, 32), 10), ("cifar10", (3, 32, 32), 10)]
)
def test_the_real_sets(name: str, shape: tuple, classes: int):
    x, y, names = data.load(name, "test")
    assert (
        x.shape == (len(y), *shape)
        and len(names) == classes
        and set(y.tolist()) == set(range(classes))
    )
    assert 10 < x.float().mean() < 200


@pytest.fixture(scope="module")
def sets() -> dict[str, data.Loaded]:
    pytest.importorskip("skimage")
    return {split: data.load("photos", split) for split in ("train", "test")}


class TestPhotos:
    def test_ten_places_in_grey(self, sets):
        for split, count in (("train", 4096), ("test", 1024)):
            x, y, names = sets[split]
            assert x.shape == (count, 3, 32, 32) and x.dtype == torch.uint8 and x.is_contiguous()
            assert y.dtype == torch.int64 and len(names) == len(set(names)) == 10
            assert torch.equal(x[:, 0], x[:, 1]) and torch.equal(x[:, 0], x[:, 2])
        assert sets["train"][2] == sets["test"][2]

    def test_classes_are_balanced(self, sets):
        for _, y, _ in sets.values():
            counts = y.bincount(minlength=10)
            assert len(counts) == 10 and counts.max() - counts.min() <= 1

    def test_no_view_comes_twice_but_the_few_that_are_blank(self, sets):
        views = torch.cat([x[:, 0] for x, _, _ in sets.values()]).flatten(1)
        shown = views[views.float().std(1) > 2]
        assert len(shown) > 0.99 * len(views)
        assert len(shown.unique(dim=0)) == len(shown)

    def test_the_same_every_time(self, sets):
        state = torch.random.get_rng_state()
        torch.manual_seed(1)
        x, y, _ = photos.views("test")
        torch.random.set_rng_state(state)
        assert torch.equal(x, sets["test"][0]) and torch.equal(y, sets["test"][1])

    def test_any_size(self):
        pytest.importorskip("skimage")
        assert data.load("photos", "test", size=48)[0].shape == (1024, 3, 48, 48)

    def test_photographs_are_in_colour(self):
        pytest.importorskip("skimage")
        x = photos.photograph("astronaut")
        assert x.shape == (3, 512, 512) and x.dtype == torch.uint8 and not torch.equal(x[0], x[1])
        assert photos.photograph("camera").shape == (3, 512, 512)


def test_typeset_digits_are_ten_shapes_inside_their_image():
    digits = photos.typeset_digits()
    assert digits.shape == (10, 1, 32, 32) and digits.min() == 0 and 0.9 < digits.max() <= 1
    edge = torch.ones(32, 32, dtype=torch.bool)
    edge[4:-4, 4:-4] = False
    assert not digits[:, 0, edge].any(), "room for a deformation of 4 px"
    different = (digits[:, None] - digits[None]).abs().mean((2, 3, 4))
    assert (different + torch.eye(10) > 0.02).all()


def test_crops_are_squares_of_the_photographs_in_turn():
    pytest.importorskip("skimage")
    squares = photos.crops(7, 96)
    assert squares.shape == (7, 3, 96, 96) and squares.min() >= 0 and squares.max() <= 1
    assert torch.equal(squares[:3], photos.crops(3, 96))
    for square, name in zip(squares, photos.PHOTOGRAPHS * 2):
        assert (
            square.mean((1, 2)) - photos.photograph(name).float().mean((1, 2)) / 255
        ).abs().max() < 0.25
    grey = [bool((square.std(0) < 1e-6).all()) for square in squares[:5]]
    assert grey == [False, False, False, False, True]  # camera is the only one without colour
