"""The commands as a user types them: what they print, what they leave, how they fail."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.interpolate import RBFInterpolator
from typer.testing import CliRunner

import deformlib
from deformlib import photographs
from deformlib.__main__ import app
from deformlib.command_line import progress, repeat_options
from deformlib.warping import field_by_rows

RNG = np.random.default_rng(0)
LONG = {"COLUMNS": "200"}


def call(*args: object, code: int = 0) -> str:
    """What a command prints, stdout and stderr."""
    result = CliRunner().invoke(app, [str(arg) for arg in args], env=LONG)
    assert result.exit_code == code, result.output
    return result.output


def complaint(*args: object) -> str:
    """The one line about bad input."""
    [line] = call(*args, code=2).splitlines()
    return line


# both commands


@pytest.mark.parametrize("command", ["", "deform", "measure"])
def test_help_teaches_by_example_without_importing_what_is_slow(command: str):
    slow = {"torch", "numpy", "PIL", "rich", "scipy", "pandas", "tqdm", "matplotlib"}
    code = f"""
import runpy, sys
sys.argv[1:] = {[command, "--help"] if command else []}
try: runpy.run_module("deformlib", run_name="__main__", alter_sys=True)
except SystemExit as end: assert not end.code
print({slow} & {{*sys.modules}})
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("set()\n")
    assert f"Example:\n    python -m deformlib {command}" in result.stdout


def examples() -> list[str]:
    """Every command line that a help text shows as an example."""
    found = []
    for command in ([], ["deform"], ["measure"]):
        text = CliRunner().invoke(app, [*command, "--help"], env=LONG).output
        found += re.findall(r"^ +python -m deformlib (.+)$", text.replace("\\\n", " "), re.M)
    return found


@pytest.mark.parametrize("example", examples())
def test_every_example_of_every_help_runs(
    example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    if "torchvision" in example:
        pytest.importorskip("torchvision")
    monkeypatch.chdir(tmp_path)
    Image.fromarray(noise(60, 80, 3)).save("cat.jpg")
    Path("photos").mkdir()
    for k in range(2):
        Image.fromarray(noise(9, 9, 3)).resize((240, 230)).save(f"photos/{k}.jpg")
    call(*shlex.split(example))


def test_there_are_examples_and_no_command_prints_help():
    assert [line.split()[0] for line in examples()] == ["deform", "deform", "measure"]
    assert all(f" {name} " in call() for name in ("deform", "measure"))


def test_neither_command_imports_more_than_the_instrument_needs(tmp_path: Path):
    """And `measure` draws where there is Matplotlib, and says what it lacks where there is none."""
    (tmp_path / "net.py").write_text("from torch import nn\nnet = nn.Flatten()")
    for k in range(3):
        Image.fromarray(noise(20, 20, 3)).save(tmp_path / f"{k}.png")
    code = """
import sys
foreign = {"scipy", "pandas", "rich", "tqdm", "xarray", "datasets", "matplotlib"}
sys.modules |= dict.fromkeys(foreign)  # importing one of them fails
from deformlib.__main__ import app
app(sys.argv[1:], standalone_mode=False)
"""
    commands = ["deform 0.png out.png", "measure net.py:net --images . --size 8 --grid 3"]
    printed = ""
    for command in commands:
        words = [sys.executable, "-c", code, *command.split()]
        ran = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        printed += ran.stdout
    assert "stability.png was not drawn: it needs Matplotlib" in printed
    assert (tmp_path / "stability.csv").read_text().startswith("layer,sensitivity,euclidean,")
    assert not (tmp_path / "stability.png").exists()


@pytest.mark.parametrize(("args", "words"), [
    ("deform in.png out.png --seed 9223372036854775808", "'--seed': must be at most 9223372036854"),
    ("deform in.png out.png --grid 1", "'--grid': must be 2 or more, got 1"),
    ("deform in.png out.png --grid 300", "'--grid': must be at most 64, got 300"),
    ("measure m:f --images x --grid 300", "'--grid': must be at most 64, got 300"),
    ("measure m:f --images x --batch-size 0", "'--batch-size': must be 1 or more, got 0"),
])  # fmt: skip
def test_a_number_out_of_range_is_named_with_its_option(args: str, words: str):
    assert words in call(*args.split(), code=2)


@pytest.mark.parametrize(("args", "same"), [
    ("x --seeds 0 1 --workers 2", "x --seeds 0 --seeds 1 --workers 2"),
    ("x --seeds 0 1 --variants a b", "x --seeds 0 --seeds 1 --variants a --variants b"),
    ("x --seeds 0 1 --force --seeds 2", "x --seeds 0 --seeds 1 --force --seeds 2"),
    ("x --seeds 0 --seeds 1", "x --seeds 0 --seeds 1"),
    ("--force x --variants a b", "--force x --variants a --variants b"),
    ("--workers 2 x y", "--workers 2 x y"),
    ("--variants a b --workers 2 y", "--variants a --variants b --workers 2 y"),
    ("--seeds", "--seeds"),
])  # fmt: skip
def test_an_option_takes_all_words_up_to_the_next(args: str, same: str):
    assert repeat_options(args.split(), {"--seeds", "--variants"}) == same.split()


@pytest.mark.parametrize(("error", "words"), [
    (MemoryError("Unable to allocate 2 TiB"), "Error: not enough memory"),
    (RuntimeError("can't allocate memory: you tried"), "Error: not enough memory"),
    (OSError(28, "No space left on device"), "Error: [Errno 28] No space left on device"),
    (ValueError("[/red] of \n [bold]"), "Error: [/red] of [bold]"),
])  # fmt: skip
def test_what_is_no_fault_of_the_program_is_one_line(
    error: Exception, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(*args: object) -> None:
        raise error

    Image.fromarray(noise(20, 20, 3)).save(tmp_path / "in.png")
    monkeypatch.setattr(photographs, "deformed", fail)
    assert complaint("deform", tmp_path / "in.png", tmp_path / "out.png").startswith(words)


def test_what_is_a_fault_of_the_program_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    Image.fromarray(noise(20, 20, 3)).save(tmp_path / "in.png")
    monkeypatch.setattr(photographs, "deformed", lambda *args: 1 / 0)
    result = CliRunner().invoke(
        app, ["deform", str(tmp_path / "in.png"), str(tmp_path / "out.png")]
    )
    assert isinstance(result.exception, ZeroDivisionError)


def test_progress_shows_only_where_someone_watches(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    class Watched:
        def isatty(self) -> bool:
            return True

        def __getattr__(self, name: str) -> object:
            return getattr(stream, name)

    stream = sys.stderr
    assert [*progress(range(3), "unseen")] == [0, 1, 2]
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys, "stderr", Watched())
    assert [*progress(range(20), "slow")] == [*range(20)]
    shown = capsys.readouterr().err
    assert "slow" in shown and "100%" in shown


# deform


RNG = np.random.default_rng(0)


def noise(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def reference(
    pixels: np.ndarray, grid: int = 5, displacement: float | None = None, seed: int = 0
) -> np.ndarray:
    """Pixels (H, W, C) deformed by the library, in one piece."""
    deformation = deformlib.Deformation(
        grid, 10 / 224 * min(pixels.shape[:2]) if displacement is None else displacement
    )
    images = torch.from_numpy(pixels.astype(np.float64)).permute(2, 0, 1)[None]
    return (
        deformlib.deform(images, deformation, generator=torch.Generator().manual_seed(seed))[0]
        .permute(1, 2, 0)
        .numpy()
    )


def near(path: Path, expected: np.ndarray, off: float = 0.51) -> bool:
    """Whether a file holds the expected values, rounded (float32 may turn a rounding)."""
    found = np.asarray(Image.open(path)).astype(float).reshape(expected.shape)
    return bool(np.abs(found - expected).max() <= off)


@pytest.mark.parametrize(("size", "options"), [
    ((50, 70), {}), ((70, 50), {"seed": 3}), ((2, 9), {"grid": 2}), ((257, 257), {"seed": 385}),
    ((600, 40), {"max-displacement": 0}),
    ((600, 90), {"grid": 3, "max-displacement": 300.0, "seed": 1}),
])  # fmt: skip
def test_deform_is_the_library_on_a_photograph(
    size: tuple[int, int], options: dict, tmp_path: Path
):
    pixels = noise(*size, 3)
    Image.fromarray(pixels).save(tmp_path / "in.png")
    output = call(
        "deform",
        tmp_path / "in.png",
        tmp_path / "out.png",
        *[w for k, v in options.items() for w in (f"--{k}", v)],
    )
    displacement = options.get("max-displacement")
    assert near(
        tmp_path / "out.png",
        reference(pixels, options.get("grid", 5), displacement, options.get("seed", 0)),
        0.6,
    )
    shown = 10 / 224 * min(size) if displacement is None else displacement
    assert (
        f"{shown:.4g} px" in output
        and f"seed {options.get('seed', 0)}" in output
        and f"{size[1]}x{size[0]}" in output
    )


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "CMYK", "YCbCr", "P", "I;16", "I;16B", "I", "F"])
def test_deform_reads_every_mode(mode: str, tmp_path: Path):
    peak = {"I;16": 65535, "I;16B": 65535, "I": 1 << 30}.get(mode, 255)
    if mode in ("I;16", "I;16B", "I", "F"):
        kind = {"I;16": "<u2", "I;16B": ">u2", "I": "<i4", "F": "<f4"}[mode]
        photo = Image.frombytes(
            mode, (40, 30), RNG.integers(0, peak, (30, 40)).astype(kind).tobytes()
        )
    else:
        photo = Image.fromarray(noise(30, 40, 3)).convert(mode)
    photo.save(tmp_path / "in.tif")
    photo = Image.open(tmp_path / "in.tif")
    call("deform", tmp_path / "in.tif", tmp_path / "out.tif")
    plain = {"1": "L", "P": "RGB", "YCbCr": "RGB"}.get(
        mode, mode.removesuffix("B") if mode == "I;16B" else mode
    )
    saved = Image.open(tmp_path / "out.tif")
    assert saved.mode == plain and saved.size == photo.size
    source = (
        np.asarray(photo if mode == "I;16B" else photo.convert(plain))
        .astype(float)
        .reshape(30, 40, -1)
    )
    assert near(tmp_path / "out.tif", reference(source), 0.51 if peak < 65535 else 1.0)


def test_deform_keeps_transparency_and_its_colours_do_not_bleed(tmp_path: Path):
    pixels = np.concatenate([noise(40, 50, 3) | 128, 255 * noise(40, 50, 1).clip(0, 1)], 2)
    pixels[:, :25] = 0  # transparent black
    Image.fromarray(pixels).save(tmp_path / "in.png")
    call("deform", tmp_path / "in.png", tmp_path / "out.png")
    out = np.asarray(Image.open(tmp_path / "out.png"))
    assert near(tmp_path / "out.png", np.dstack([out[..., :3], reference(pixels)[..., 3]]))
    assert out[..., :3][out[..., 3] > 0].min() >= 128
    assert "JPEG cannot hold RGBA" in call("deform", tmp_path / "in.png", tmp_path / "out.jpg")
    flat = Image.open(tmp_path / "out.jpg")
    assert flat.mode == "RGB" and np.asarray(flat)[:, :10].min() > 230  # on white


@pytest.mark.parametrize(("mode", "suffix", "saved"), [
    ("LA", ".png", "LA"), ("LA", ".jpg", "L"), ("PA", ".png", "RGBA"),
    ("I;16", ".jpg", "L"), ("I;16", ".png", "I;16"), ("CMYK", ".png", "RGB"),
    ("CMYK", ".jpg", "CMYK"), ("RGBA", ".webp", "RGBA"), ("RGB", ".JPEG", "RGB"),
])  # fmt: skip
def test_deform_keeps_what_the_format_can_hold(mode: str, suffix: str, saved: str, tmp_path: Path):
    photo = (
        Image.new(mode, (20, 20), 60000)
        if mode == "I;16"
        else Image.fromarray(noise(20, 20, 3)).convert("L" if mode == "LA" else "RGB").convert(mode)
    )
    if mode in ("LA", "RGBA"):
        photo.putalpha(128)
    photo.save(tmp_path / "in.tif")
    call("deform", tmp_path / "in.tif", tmp_path / f"out{suffix}")
    out = Image.open(tmp_path / f"out{suffix}")
    assert out.mode == saved
    assert (mode, saved) != ("I;16", "L") or out.getpixel((5, 5)) == 60000 // 257


def test_deform_turns_a_photograph_upright_and_keeps_its_profile(tmp_path: Path):
    pixels = noise(30, 50, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # taken with the camera turned
    Image.fromarray(pixels).save(
        tmp_path / "in.png", exif=exif, icc_profile=b"profile", dpi=(300, 300)
    )
    call("deform", tmp_path / "in.png", tmp_path / "out.png")
    out = Image.open(tmp_path / "out.png")
    assert (
        out.size == (30, 50)
        and out.getexif().get(0x0112, 1) == 1
        and out.info["icc_profile"] == b"profile"
    )
    assert near(tmp_path / "out.png", reference(np.rot90(pixels, -1).copy()), 0.6)


def test_deform_overwrites_only_when_told(tmp_path: Path):
    Image.fromarray(noise(20, 20, 3)).save(path := tmp_path / "in.png")
    before = path.read_bytes()
    assert "--force" in complaint("deform", path, path) and path.read_bytes() == before
    call("deform", path, path, "--force")
    assert path.read_bytes() != before and [file.name for file in tmp_path.iterdir()] == ["in.png"]


@pytest.mark.parametrize(("image", "out", "words"), [
    ("none.png", "out.png", "none.png is not an image that can be read ([Errno 2]"),
    ("text.png", "out.png", "text.png is not an image"),
    ("cut.png", "out.png", "cut.png is not an image"),
    (".", "out.png", "is not an image"),
    ("in.png", "none/out.png", "there is no such folder"),
    ("in.png", "out.xyz", "suffix"),
    ("in.png", "out", "suffix"),
    ("in.png", "out.psd", "suffix"),
    ("thin.png", "out.png", "at least 2x2 pixels, got 1x9"),
    ("float.tif", "out.png", "mode F as PNG"),
])  # fmt: skip
def test_deform_says_in_one_line_what_is_wrong(image: str, out: str, words: str, tmp_path: Path):
    Image.fromarray(noise(20, 20, 3)).save(tmp_path / "in.png")
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "cut.png").write_bytes((tmp_path / "in.png").read_bytes()[:300])
    Image.new("L", (1, 9)).save(tmp_path / "thin.png")
    Image.new("F", (9, 9)).save(tmp_path / "float.tif")
    files = {*tmp_path.iterdir()}
    assert words in complaint("deform", tmp_path / image, tmp_path / out)
    assert {*tmp_path.iterdir()} == files


@pytest.mark.parametrize("displacement", ["-1", "nan", "inf"])
def test_deform_refuses_an_impossible_displacement(displacement: str, tmp_path: Path):
    Image.fromarray(noise(20, 20, 3)).save(tmp_path / "in.png")
    assert "max_displacement must be a number >= 0 and < 1e30, in pixels" in complaint(
        "deform", tmp_path / "in.png", tmp_path / "out.png", f"--max-displacement={displacement}"
    )


@pytest.mark.parametrize(("size", "grid"), [((300, 500), 5), ((1000, 40), 9), ((2, 700), 2)])
def test_the_field_by_rows_is_scipy_s_spline(size: tuple[int, int], grid: int):
    height, width = size
    lattice = np.meshgrid(np.linspace(0, width - 1, grid), np.linspace(0, height - 1, grid))
    points = np.stack(lattice, -1).reshape(-1, 2)
    control = 40 * torch.rand(grid**2, 2, generator=torch.Generator().manual_seed(1)) - 20
    spline = RBFInterpolator(points, control.double(), kernel="thin_plate_spline", degree=1)
    rows = field_by_rows(size, grid, control)
    for top, bottom in ((0, 2), (height // 2, height // 2 + 1), (0, height)):
        y, x = np.mgrid[top:bottom, :width]
        expected = spline(np.stack([x, y], -1).reshape(-1, 2).astype(float))
        np.testing.assert_allclose(rows(top, bottom).reshape(-1, 2), expected, atol=1e-6)


def test_a_large_photograph_is_deformed_in_little_memory(tmp_path: Path):
    """Twelve megapixels in strips, against SciPy where it looks: ramps show the displacement."""
    height, width = 3000, 4000
    y, x = np.mgrid[:height, :width].astype(np.float32)
    control = torch.from_numpy(RNG.uniform(-100, 100, (25, 2)))
    lattice = np.meshgrid(np.linspace(0, width - 1, 5), np.linspace(0, height - 1, 5))
    points = np.stack(lattice, -1).reshape(-1, 2)
    spline = RBFInterpolator(points, control, kernel="thin_plate_spline", degree=1)
    places = np.stack([RNG.integers(200, width - 200, 500), RNG.integers(200, height - 200, 500)])
    expected = spline(places.T.astype(float))
    for axis, ramp in enumerate((x, y)):
        moved = np.asarray(photographs.deformed(Image.fromarray(ramp), control, 5))
        found = (moved - ramp)[places[1], places[0]]
        np.testing.assert_allclose(found, expected[:, axis], atol=0.01)


def photo_of(mode: str) -> Image.Image:
    """A smooth photograph in a mode, with everything that the mode can hold."""
    colours = Image.fromarray(noise(4, 5, 3)).resize((60, 48), Image.Resampling.BICUBIC)
    grey = colours.convert("L")
    if mode in ("I;16", "I", "F"):
        scale, kind = {"I;16": (257, np.uint16), "I": (100_000, np.int32), "F": (0.3, np.float32)}[
            mode
        ]
        return Image.fromarray((np.asarray(grey) * np.float64(scale)).astype(kind))
    photo = colours.convert(mode)
    if mode in ("LA", "RGBA"):
        photo.putalpha(grey)
    return photo


def formats() -> list[tuple[str, str]]:
    """(a suffix, its format) for all formats that Pillow writes."""
    suffixes = {form: suffix for suffix, form in Image.registered_extensions().items()}
    return sorted((suffix, form) for form, suffix in suffixes.items() if form in Image.SAVE)


def seen(photo: Image.Image) -> np.ndarray:
    """A photograph as a viewer shows it: (H, W, 3) from 0 to 1, transparency on white."""
    if photo.mode[0] == "I":  # 16 bits
        return np.asarray(photo)[..., None].repeat(3, 2) / 65535
    if photo.mode in ("LA", "RGBA"):
        white = Image.new("RGBA", photo.size, "white")
        photo = Image.alpha_composite(white, photo.convert("RGBA"))
    return np.asarray(photo.convert("RGB")) / 255


@pytest.mark.parametrize("mode", photographs.HOLDING)
@pytest.mark.parametrize(("suffix", "form"), formats())
def test_what_a_format_cannot_hold_is_said_or_refused(
    suffix: str, form: str, mode: str, tmp_path: Path
):
    photo, out = photo_of(mode), tmp_path / f"out{suffix}"
    photo.save(tmp_path / "in.tif")
    words = ["deform", str(tmp_path / "in.tif"), str(out), "--max-displacement", "0"]
    result = CliRunner().invoke(app, words)
    if result.exit_code:
        [line] = result.output.splitlines()
        assert line.startswith("Error: ") and suffix in line
        assert {file.name for file in tmp_path.iterdir()} == {"in.tif"}
        return
    kept = photographs.opened(out)
    assert kept.size == photo.size
    if mode in ("I", "F"):
        assert np.array_equal(np.asarray(kept), np.asarray(photo))
        return
    off = np.abs(seen(kept) - seen(photo))
    assert off.mean() < 0.1 if "changed values" in result.output else off.max() < 1.01 / 255
    assert ("cannot hold" in result.output) == (kept.mode not in photographs.HOLDING[mode])


@pytest.mark.parametrize("suffix", [".webp", ".jpg", ".gif"])
def test_sixteen_bits_become_eight_and_not_white(suffix: str, tmp_path: Path):
    ramp = np.linspace(0, 65535, 40 * 40).astype(np.uint16).reshape(40, 40)
    Image.fromarray(ramp).save(tmp_path / "in.png")
    words = ("deform", tmp_path / "in.png", tmp_path / f"out{suffix}", "--max-displacement", 0)
    assert "cannot hold I;16, saved as L" in call(*words)
    saved = np.asarray(Image.open(tmp_path / f"out{suffix}").convert("L")).astype(float)
    assert np.abs(saved - ramp / 257).max() < 8


def test_an_icon_that_would_shrink_is_refused(tmp_path: Path):
    Image.fromarray(noise(300, 300, 3)).save(tmp_path / "in.png")
    line = complaint("deform", tmp_path / "in.png", tmp_path / "out.ico")
    assert "ICO cannot hold RGB (it would become 256x256 pixels)" in line
    assert not (tmp_path / "out.ico").exists()


def test_transparency_is_kept_or_laid_on_white(tmp_path: Path):
    """A GIF holds what is there or not, but nothing in between; a BMP no transparency at all."""
    pixels = np.full((40, 40, 4), 200, dtype=np.uint8)
    for name, left in (("cut", 0), ("glass", 100)):
        pixels[..., 3] = 255
        pixels[:, :20, 3] = left
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    words = ["--max-displacement", 0, "--force"]
    output = call("deform", tmp_path / "cut.png", tmp_path / "out.gif", *words)
    assert "Lost" not in output
    alpha = np.asarray(Image.open(tmp_path / "out.gif").convert("RGBA"))[..., 3]
    assert np.array_equal(alpha, np.repeat([0, 255], 20)[None].repeat(40, 0))
    for name, suffix in (("glass", "gif"), ("cut", "bmp")):
        output = call("deform", tmp_path / f"{name}.png", tmp_path / f"out.{suffix}", *words)
        assert f"{suffix.upper()} cannot hold RGBA, saved as RGB" in output
        on_white = np.asarray(Image.open(tmp_path / f"out.{suffix}").convert("RGB"))[:, :20]
        assert on_white.min() > 225


def test_that_one_frame_of_a_film_is_read_is_said(tmp_path: Path):
    frames = [Image.fromarray(noise(20, 20)) for _ in range(3)]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    output = call("deform", tmp_path / "film.gif", tmp_path / "out.png")
    assert "Lost: film.gif: all frames but the first" in output


@pytest.mark.parametrize("suffix", [".gif", ".tif"])
def test_a_film_that_is_cut_off_is_a_photograph_or_an_error(suffix: str, tmp_path: Path):
    frames = [Image.fromarray(noise(40, 60)) for _ in range(4)]
    film, cut = tmp_path / f"film{suffix}", tmp_path / f"cut{suffix}"
    frames[0].save(film, save_all=True, append_images=frames[1:])
    whole = film.read_bytes()
    for length in range(len(whole) // 8, len(whole), len(whole) // 37):
        cut.write_bytes(whole[:length])
        words = ["deform", str(cut), str(tmp_path / "out.png"), "--force"]
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0 or f"{cut} is not an image" in result.output


def test_sixteen_bits_of_colour_are_read_as_eight_and_that_is_said(tmp_path: Path):
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = b"".join(b"\0" + bytes(20 * 6) for _ in range(20))
    header = struct.pack(">IIBBBBB", 20, 20, 16, 2, 0, 0, 0)  # 16 bits a channel, RGB
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    (tmp_path / "deep.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    output = call("deform", tmp_path / "deep.png", tmp_path / "out.png")
    assert "deep.png: 8 of its 16 bits a channel" in output


def test_an_output_that_cannot_be_written_is_noticed_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    Image.fromarray(noise(20, 20, 3)).save(tmp_path / "in.png")
    (tmp_path / "dir.png").mkdir()
    monkeypatch.setattr(photographs, "opened", lambda path: 1 / 0)
    line = complaint("deform", tmp_path / "in.png", tmp_path / "dir.png", "--force")
    assert "dir.png cannot be written: it is a folder" in line
