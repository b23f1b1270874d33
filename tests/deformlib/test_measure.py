"""A network of the user's own, by name, measured on a folder of photographs."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from typer.testing import CliRunner

from deformlib import filters, measure, metrics
from deformlib.__main__ import app
from deformlib.warping import Deformation

NETWORK = """
import torch
from torch import nn
from helper import WIDTH

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.conv, self.relu = nn.Conv2d(3, WIDTH, 3), nn.ReLU(inplace=True)
        self.fc = nn.Linear(WIDTH, 5)
    def forward(self, x):
        return self.fc(self.relu(self.conv(x)).mean((2, 3)))

class Sized(Net):
    def __init__(self, size):
        super().__init__()

class Grey(Net):
    def __init__(self):
        super().__init__()
        self.conv, self.lstm = nn.Conv2d(1, WIDTH, 3), nn.LSTM(2, 2)
        self.unused = nn.Conv2d(2, 2, 3)
        nn.init.zeros_(self.unused.weight)
        self.double()
    def forward(self, x):
        self.lstm(x.flatten(1)[:, :2])
        return super().forward(x)

class Small(Net):
    def forward(self, x):
        assert x.shape[-1] == 8, "images of 8x8"
        return super().forward(x)

def drawn():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten())

def broken():
    return Net() + 1

number, instance = 3, Net()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A network's file, its neighbour, and five photographs in two folders."""
    (tmp_path / "net.py").write_text(NETWORK)
    (tmp_path / "helper.py").write_text("WIDTH = 6")
    rng = np.random.default_rng(0)
    (tmp_path / "photos" / "more").mkdir(parents=True)
    for k, size in enumerate([(40, 50), (60, 40), (41, 41)]):
        Image.fromarray(rng.integers(0, 256, (6, 5, 3), dtype=np.uint8)).resize(size).save(
            tmp_path / "photos" / f"{k}.png"
        )
    for k in (3, 4):
        Image.fromarray(rng.integers(0, 256, (6, 5), dtype=np.uint8)).resize((70, 44)).save(
            tmp_path / "photos" / "more" / f"{k}.jpg"
        )
    (tmp_path / "photos" / "notes.txt").write_text("not an image")
    (tmp_path / "photos" / "._0.png").write_text("what a file system keeps beside an image")
    (tmp_path / "photos" / ".thumbnails").mkdir()
    Image.new("RGB", (40, 40)).save(tmp_path / "photos" / ".thumbnails" / "0.png")
    (tmp_path / "one").mkdir()
    Image.new("RGB", (40, 40)).save(tmp_path / "one" / "0.png")
    for module in ("net", "helper"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def call(*args: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, args)
    assert result.exit_code == code, result.output
    return result.output


@pytest.mark.parametrize("name", ["net.py:Net", "net:Net", "net.py:instance"])
def test_a_network_of_ones_own(name: str, folder: Path):
    output = call(
        "measure",
        name,
        "--images",
        "photos",
        "--size",
        "32",
        "--max-displacement",
        "2",
        "--grid",
        "3",
        "--out",
        "out/mine",
    )
    table = pd.read_csv(folder / "out" / "mine.csv", index_col="layer")
    photos = measure.photographs(measure.image_files(folder / "photos", 128), 32)
    assert photos.shape == (5, 3, 32, 32) and 0 <= photos.min() < photos.max() <= 1
    control = Deformation(3, 2.0).sample(5, generator=torch.Generator().manual_seed(0))
    deformed = Deformation(3, 2.0).spline((32, 32)).warp(photos, control)
    model = measure.network("net.py:Net")
    for column, distance in (("sensitivity", "cosine"), ("euclidean", "euclidean")):
        expected = metrics.sensitivity(model, photos, deformed, distance=distance)
        assert table[column].to_dict() == pytest.approx(expected, rel=1e-4)
    assert list(table.index) == ["input", "conv", "relu", "fc"]
    assert table["smoothness"].dropna().to_dict() == pytest.approx(
        filters.smoothness(model, "kernel"), rel=1e-4
    )
    assert (
        f"{table.loc['relu', 'sensitivity']:.3f}" in output
        and "5 photographs of 32x32, grid 3x3" in output
    )
    assert Image.open(folder / "out" / "mine.png").width > 500


def test_the_paper_s_deformation_in_proportion_and_normalized_channels(folder: Path):
    output = call(
        "measure",
        "net.py:Net",
        "--images",
        "photos",
        "--size",
        "56",
        "--layers",
        "re*",
        "fc",
        "--count",
        "3",
        "--normalize",
    )
    assert "3 photographs of 56x56, grid 5x5, displaced by at most 2.5 px" in output
    table = pd.read_csv(folder / "stability.csv", index_col="layer")
    photos = measure.photographs(measure.image_files(folder / "photos", 3), 56)
    control = Deformation(5, 2.5).sample(3, generator=torch.Generator().manual_seed(0))
    deformed = Deformation(5, 2.5).spline((56, 56)).warp(photos, control)
    clean, moved = (
        (x - torch.tensor([0.485, 0.456, 0.406])[:, None, None])
        / torch.tensor([0.229, 0.224, 0.225])[:, None, None]
        for x in (photos, deformed)
    )
    assert table["sensitivity"].to_dict() == pytest.approx(
        metrics.sensitivity(measure.network("net.py:Net"), clean, moved, ["relu", "fc"]), rel=1e-4
    )


@pytest.mark.parametrize(
    "args, message",
    [
        (("net.py", "--images", "photos"), "must be MODULE:NAME or FILE.py:NAME, got 'net.py'"),
        ((".net:Net", "--images", "photos"), "must be MODULE:NAME or FILE.py:NAME, got '.net:Net'"),
        (("absent.py:Net", "--images", "photos"), "there is no file absent.py"),
        (("absent.module:Net", "--images", "photos"), "there is no module 'absent'"),
        (("net.py:Nett", "--images", "photos"), "net.py has no 'Nett'"),
        (
            ("builtins:dict", "--images", "photos"),
            "builtins:dict must be a torch.nn.Module or give one when called without arguments",
        ),
        (
            ("net.py:number", "--images", "photos"),
            "net.py:number must be a torch.nn.Module or give one when called without arguments",
        ),
        (("net.py:Sized", "--images", "photos"), "missing 1 required positional argument: 'size'"),
        (
            ("net.py:Net", "--images", "photos", "--grey", "--normalize"),
            "--normalize is for three channels",
        ),
        (
            ("net.py:Net", "--images", "photos/none"),
            "--images must be a folder, got photos/none",
        ),
        (
            ("net.py:Net", "--images", "photos/0.png"),
            "--images must be a folder, got photos/0.png",
        ),
        (
            ("net.py:Net", "--images", "one"),
            "images (.bmp, .gif, .jpeg, .jpg, .png, .tif, .tiff, .webp), got one with 1",
        ),
        (
            ("net.py:Net", "--images", "photos", "--grey"),
            "the network fails on images (1, 32, 32); see --size and --grey (Given groups",
        ),
        (
            ("net.py:Small", "--images", "photos"),
            "the network fails on images (3, 32, 32); see --size and --grey (images of 8x8)",
        ),
        (("net.py:Net", "--images", "photos", "--layers", "conv9"), "conv9"),
    ],
)
def test_bad_input_is_one_line(args: tuple[str, ...], message: str, folder: Path):
    output = call("measure", *args, "--size", "32", code=2)
    assert message in " ".join(output.split()) and "Traceback" not in output
    assert not (folder / "stability.csv").exists()


def test_one_seed_one_network(folder: Path):
    tables = [
        call(
            "measure",
            "net.py:drawn",
            "--images",
            "photos",
            "--size",
            "32",
            "--seed",
            seed,
            "--out",
            "found.csv",
        )
        for seed in "001"
    ]
    assert (
        tables[0] == tables[1] != tables[2]
        and (folder / "found.csv").exists()
        and not (folder / "found.csv.csv").exists()
    )


def test_an_error_inside_a_factory_is_its_own(folder: Path):
    with pytest.raises(TypeError, match="unsupported operand"):
        measure.network("net.py:broken")


def test_what_cannot_be_measured_is_left_out_unless_asked_for(folder: Path):
    """Grey images, another floating type, a layer of several outputs, filters that are all zero."""
    output = call(
        "measure", "net.py:Grey", "--images", "photos", "--size", "32", "--grey", "--out", "v1.2"
    ).splitlines()
    for message in (
        "layer 'lstm': it returns 3 tensors in a tuple",
        "unused, which the forward pass never called",
        "layer 'unused': weight must not be all zero",
    ):
        assert sum(line.startswith(f"Warning: left out: {message}") for line in output) == 1
    table = pd.read_csv(folder / "v1.2.csv", index_col="layer")
    assert list(table.index) == ["input", "conv", "relu", "fc"] and (folder / "v1.2.png").exists()
    call(
        "measure",
        "net.py:Grey",
        "--images",
        "photos",
        "--size",
        "32",
        "--grey",
        "--layers",
        "conv",
        "fc",
    )
    assert "'lstm': it returns 3 tensors" in call(
        "measure",
        "net.py:Grey",
        "--images",
        "photos",
        "--size",
        "32",
        "--grey",
        "--layers",
        "lstm",
        code=2,
    )


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_sixteen_bits_are_scaled_and_not_clipped(mode: str, tmp_path: Path):
    ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    for name in ("a.png", "b.png"):
        Image.fromarray(ramp).save(tmp_path / name)
    photos = measure.photographs(measure.image_files(tmp_path, 2), 8, mode)
    assert photos[0].numpy() == pytest.approx(
        np.broadcast_to(ramp / 65535, photos.shape[1:]), abs=1 / 255
    )
    Image.fromarray(np.ones((8, 8), dtype=np.float32)).save(tmp_path / "c.tif")
    with pytest.raises(ValueError, match=r"c\.tif must be of 8 or 16 bits, got Pillow's mode F"):
        measure.photographs(measure.image_files(tmp_path, 3), 8, mode)


@pytest.mark.filterwarnings("ignore:left out")
def test_rows_are_in_execution_order_where_one_distance_leaves_a_layer_out():
    """One positive number an image: of cosine distance 0 from each other, not of Euclidean."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(48, 1), torch.nn.Sigmoid(), torch.nn.Linear(1, 3)
    )
    rows = measure.measured(model, torch.rand(6, 3, 4, 4), Deformation(3, 1.0))
    assert [row.layer for row in rows] == ["input", "0", "1", "2", "3"]
    assert np.isnan(rows[3].sensitivity) and rows[3].euclidean > 0


def test_an_unreadable_photograph_is_named(folder: Path):
    (folder / "photos" / "1.png").write_bytes(b"no image")
    assert "1.png is not an image that can be read" in call(
        "measure", "net.py:Net", "--images", "photos", code=2
    )


def test_files_that_cannot_be_written_are_named_before_any_work(folder: Path):
    (folder / "table.csv").mkdir()
    assert "Error: table.csv cannot be written: it is a folder" in call(
        "measure", "net.py:net", "--images", "photos", "--out", "table", code=2
    )
    (folder / "file").write_text("")
    assert "Error: " in call(
        "measure", "net.py:net", "--images", "photos", "--out", "file/table", code=2
    )


def test_the_table_is_aligned_and_its_file_has_six_digits(tmp_path: Path):
    rows = [
        measure.Row("conv, first", 0.12345678, 12.5, 1.5),
        measure.Row("fc", float("nan"), 0.25, float("nan")),
    ]
    assert measure.printed(rows).splitlines() == [
        "layer        sensitivity  euclidean  smoothness",
        "conv, first        0.123     12.500       1.500",
        "fc                            0.250",
    ]
    measure.write(rows, tmp_path / "table.csv")
    assert (tmp_path / "table.csv").read_text().splitlines() == [
        "layer,sensitivity,euclidean,smoothness",
        '"conv, first",0.123457,12.5,1.5',
        "fc,,0.25,",
    ]


def test_layers_stand_from_the_first_at_the_top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path: figures.append(figure))
    names = ["input", "conv[/2]", "a $broken^ name"]
    rows = [measure.Row(name, k / 10, 0.0, 0.0) for k, name in enumerate(names)]
    measure.draw(rows, tmp_path / "plot.png")
    figures[0].canvas.draw()
    [axes] = figures[0].axes
    [line] = axes.lines
    assert line.get_xdata().tolist() == [0, 0.1, 0.2]
    assert [*line.get_ydata()] == [*axes.get_yticks()] == [0, 1, 2] and axes.yaxis_inverted()
    assert [label.get_text() for label in axes.get_yticklabels()] == names


def test_folders_called_like_images_are_no_images(folder: Path):
    (folder / "photos" / "album.jpg").mkdir()
    Image.new("RGB", (40, 40)).save(folder / "photos" / "album.jpg" / "inside.png")
    (folder / "photos" / "gone.png").symlink_to(folder / "nowhere.png")
    files = [
        str(path.relative_to(folder / "photos"))
        for path in measure.image_files(folder / "photos", 9)
    ]
    assert "album.jpg/inside.png" in files and not {"album.jpg", "gone.png"} & {*files}
    call("measure", "net.py:Net", "--images", "photos", "--size", "32")


def test_a_file_that_may_not_be_read_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(file: Path) -> Image.Image:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Image, "open", refuse)
    output = call("measure", "net.py:Net", "--images", "photos", code=2)
    assert "photos/0.png is not an image that can be read ([Errno 13] Permission denied)" in output


def test_images_too_large_for_memory_are_one_line(folder: Path):
    output = call("measure", "net.py:Net", "--images", "photos", "--size", "10000000", code=2)
    assert output.startswith("Error: not enough memory") and len(output.splitlines()) == 1
