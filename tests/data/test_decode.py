"""Golden pixels for every kind of image, and that nothing but BadImage leaves a file that is broken."""

from __future__ import annotations

import io
import os
import pickle
import random
import resource
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnncli.data.decode import BadImage, Decoding, decode
from cnncli.data.jpeg import decode_array
from cnncli.errors import ExitCode, InputError

# pytest puts its own warning filters in front of cnncli.data.decode's; that nothing leaks is tested in a process of its own below.
pytestmark = pytest.mark.filterwarnings(r"ignore:::PIL\..*")

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
NOISE = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> io.BytesIO:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return io.BytesIO(buffer.getvalue())


def decoded(image: Image.Image, form: str = "PNG", **options: object) -> np.ndarray:
    return np.asarray(decode(encoded(image, form, **options)))


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM", "GIF"])
def test_grey_and_colour_come_back_as_they_are(form: str) -> None:
    np.testing.assert_array_equal(decoded(Image.fromarray(RAMP), form).reshape(16, 16, -1)[..., 0], RAMP)
    if form != "GIF":
        np.testing.assert_array_equal(decoded(Image.fromarray(NOISE), form), NOISE)


def test_d16_sixteen_bit_is_scaled_not_clipped() -> None:
    deep = (np.arange(256 * 256, dtype=np.uint32).reshape(256, 256)).astype(np.uint16)
    want = (deep >> 8).astype(np.uint8)
    np.testing.assert_array_equal(decoded(Image.fromarray(deep)), want)
    np.testing.assert_array_equal(decoded(Image.fromarray(deep), "TIFF"), want)
    np.testing.assert_array_equal(np.asarray(decode(io.BytesIO(b"P5 256 256 65535\n" + deep.astype(">u2").tobytes()))), want)
    dark = np.minimum(deep, 200)  # a dark deep image stays dark: its kind decides, not its brightest pixel
    assert decoded(Image.fromarray(dark)).max() == 0
    assert np.asarray(decode(io.BytesIO(b"P5 256 256 65535\n" + dark.astype(">u2").tobytes()))).max() == 0


def test_integer_tiff_is_scaled_by_its_range() -> None:
    for top, want in ((255, RAMP), (65535, RAMP), (1_000_000, RAMP)):
        values = (RAMP.astype(np.float64) * (257 if top == 65535 else top / 255)).round().astype(np.int32)
        np.testing.assert_array_equal(decoded(Image.fromarray(values), "TIFF"), want)


def test_d17_float_tiff_is_scaled_by_its_range() -> None:
    for scale, shift in ((1 / 255, 0), (1, 0), (40.0, -700.0)):
        values = (RAMP * scale + shift).astype(np.float32)
        np.testing.assert_array_equal(decoded(Image.fromarray(values), "TIFF"), RAMP)
    with pytest.raises(BadImage, match="not finite"):
        decode(encoded(Image.fromarray(np.full((4, 4), np.nan, np.float32)), "TIFF"))
    assert decoded(Image.fromarray(np.full((4, 4), -3.0, np.float32)), "TIFF").max() == 0  # constant: no division by zero


def over_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    weight = alpha.astype(np.float64)[..., None] / 255 if colour.ndim == 3 else alpha.astype(np.float64) / 255
    return np.floor(colour * weight + 255 * (1 - weight) + 0.5).astype(np.uint8)


def test_d17_alpha_lies_over_white() -> None:
    alpha = RAMP[::-1].copy()
    np.testing.assert_array_equal(decoded(Image.fromarray(np.dstack([NOISE, alpha]), "RGBA")), over_white(NOISE, alpha))
    grey = decode(encoded(Image.fromarray(np.dstack([RAMP, alpha]), "LA")))
    assert grey.mode == "L"
    np.testing.assert_array_equal(np.asarray(grey), over_white(RAMP, alpha))
    np.testing.assert_array_equal(
        decoded(Image.fromarray(np.dstack([NOISE, alpha]), "RGBA"), "WEBP", lossless=True, exact=True), over_white(NOISE, alpha)
    )


def test_d17_palette_with_and_without_transparency() -> None:
    palette = np.random.default_rng(1).integers(0, 256, (256, 3), dtype=np.uint8)
    image = Image.fromarray(RAMP, "L")
    image.putpalette(palette.tobytes())
    np.testing.assert_array_equal(decoded(image), palette[RAMP])
    want = palette[RAMP]
    want[RAMP == 7] = 255
    np.testing.assert_array_equal(decoded(image, transparency=7), want)
    np.testing.assert_array_equal(decoded(image, "GIF", transparency=7), want)


def test_transparent_grey_level_becomes_white() -> None:
    np.testing.assert_array_equal(decoded(Image.fromarray(RAMP), transparency=9), np.where(RAMP == 9, 255, RAMP))
    deep = RAMP.astype(np.uint16) * 256
    np.testing.assert_array_equal(decoded(Image.fromarray(deep), transparency=9 * 256), np.where(RAMP == 9, 255, RAMP))


def test_d17_one_bit() -> None:
    bits = RAMP % 3 == 0
    image = decode(encoded(Image.fromarray(bits)))
    assert image.mode == "L"
    np.testing.assert_array_equal(np.asarray(image), bits * np.uint8(255))
    np.testing.assert_array_equal(decoded(Image.fromarray(bits), "TIFF", compression="group4"), bits * np.uint8(255))


def test_d17_cmyk_also_adobes_inverted() -> None:
    ink = np.random.default_rng(2).integers(0, 256, (1, 1, 4), dtype=np.uint8).repeat(16, 0).repeat(16, 1)  # flat: JPEG keeps it
    c, m, y, k = ink[0, 0].astype(float)
    want = [(255 - v) * (255 - k) / 255 for v in (c, m, y)]
    for form in ("TIFF", "JPEG"):  # Pillow writes CMYK JPEGs as Adobe does: inverted, with the marker
        got = decoded(Image.fromarray(ink, "CMYK"), form)
        np.testing.assert_allclose(got[8, 8], want, atol=2 if form == "TIFF" else 4)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_d18_exif_orientation_is_applied(orientation: int, form: str) -> None:
    """EXIF 2.32, tag 0x0112: where the stored row 0 and column 0 lie in the upright picture."""
    upright = np.zeros((16, 24, 3), np.uint8)
    upright[:8, :8] = 255  # white in its top left corner, asymmetric in both directions
    upright[:8, 16:] = 128
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 100, "subsampling": 0} if form == "JPEG" else {"lossless": True} if form == "WEBP" else {}
    got = decoded(Image.fromarray(np.ascontiguousarray(stored)), form, exif=exif, **options)
    np.testing.assert_allclose(got.astype(int), upright.astype(int), atol=3)


def test_damaged_exif_does_not_make_the_pixels_bad() -> None:
    assert decoded(Image.fromarray(NOISE), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + b"\xff" * 20).shape == (16, 16, 3)


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF", "MPO"])
def test_d17_first_frame_of_several(form: str) -> None:
    frames = [Image.new("RGB", (16, 16), (value, value, value)) for value in (40, 200, 90)]
    options = {"lossless": True} if form == "WEBP" else {"quality": 100} if form == "MPO" else {}
    got = decoded(frames[0], form, save_all=True, append_images=frames[1:], **options)
    np.testing.assert_allclose(got.astype(int), 40, atol=1)


def test_d15_the_content_decides_not_the_name(tmp_path: Path) -> None:
    for name in ("a.JPG", "b.jfif", "c", "d.txt"):
        (tmp_path / name).write_bytes(encoded(Image.fromarray(NOISE)).getvalue())
        np.testing.assert_array_equal(np.asarray(decode(tmp_path / name)), NOISE)


def jpeg() -> bytes:
    return encoded(Image.fromarray(NOISE.repeat(4, 0).repeat(4, 1)), "JPEG").getvalue()


def png() -> bytes:
    return encoded(Image.fromarray(NOISE)).getvalue()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"<!DOCTYPE html><html>404", "HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git-lfs pointer: run git lfs pull"),
        (jpeg()[: len(jpeg()) // 2], "truncated JPEG"),
        (png()[: len(png()) // 2], "truncated PNG"),
        (jpeg()[:4], "damaged JPEG"),
        (b"hello\n", "not an image but a text file"),
        (bytes(range(200, 255)) * 9, "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript"),
        (b"%PDF-1.4", "PDF"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"\x00\x05\x16\x07" + b"\0" * 90, "AppleDouble"),
    ],
)
def test_d1_d3_d21_bad_files_are_named_with_the_real_reason(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "odd\nname.jpg"
    path.write_bytes(data)
    with pytest.raises(BadImage) as caught:
        decode(path)
    assert reason in str(caught.value)
    assert "odd\\nname.jpg" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.code is ExitCode.INPUT
    assert isinstance(caught.value, InputError)
    with pytest.raises(BadImage, match="my picture"):
        decode(io.BytesIO(data), name="my picture")


def refused(path: Path, *_: object, **__: object) -> None:
    raise PermissionError(13, "Permission denied", str(path))


def test_d14_d23_what_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "fifo.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "link.jpg").symlink_to("nowhere")
    for name, reason in (("fifo", "FIFO"), ("folder", "a folder"), ("link", "no such file"), ("none", "no such file")):
        with pytest.raises(BadImage, match=reason):
            decode(tmp_path / f"{name}.jpg")
    (tmp_path / "closed.jpg").write_bytes(jpeg())
    monkeypatch.setattr("pathlib.Path.open", refused)  # chmod does not stop root
    with pytest.raises(BadImage, match="permission denied"):
        decode(tmp_path / "closed.jpg")


def test_bad_image_survives_pickling() -> None:
    again = pickle.loads(pickle.dumps(BadImage("a.jpg", "truncated JPEG")))
    assert (again.name, again.reason, str(again)) == ("a.jpg", "truncated JPEG", "cannot read image a.jpg: truncated JPEG")


def bomb(side: int) -> bytes:
    """A black 1-bit PNG of side x side in a few kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(b"\0" * (side // 8 + 1) * side, 9)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
        + chunk(b"IDAT", rows)
        + chunk(b"IEND", b"")
    )


def test_d19_decompression_bombs_cost_nothing(tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for side in (9_000, 20_000):  # below and above Pillow's own limits
        (tmp_path / "bomb.png").write_bytes(bomb(side))
        with pytest.raises(BadImage, match=r"pixels|bomb"):
            decode(tmp_path / "bomb.png")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kilobytes
    assert decode(io.BytesIO(bomb(800)), how=Decoding(max_pixels=640_000)).size == (800, 800)
    with pytest.raises(BadImage, match="--max-pixels"):
        decode(io.BytesIO(bomb(800)), how=Decoding(max_pixels=639_999))


def test_d20_huge_text_in_a_png() -> None:
    data = png()
    text = b"zTXt" + b"k\0\0" + zlib.compress(b"\0" * 50_000_000)
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    with pytest.raises(BadImage):
        decode(io.BytesIO(data[:33] + chunk + data[33:]))


def seeds() -> list[bytes]:
    photo = Image.fromarray(NOISE.repeat(2, 0))
    exif = Image.Exif()
    exif[0x0112] = 6
    return [
        encoded(photo, "JPEG", exif=exif).getvalue(),
        encoded(photo, "JPEG", progressive=True).getvalue(),
        encoded(photo.convert("CMYK"), "JPEG").getvalue(),
        png(),
        encoded(photo.convert("P"), transparency=3).getvalue(),
        encoded(Image.fromarray(RAMP.astype(np.uint16) * 257)).getvalue(),
        encoded(photo, "GIF", save_all=True, append_images=[photo]).getvalue(),
        encoded(photo, "BMP").getvalue(),
        encoded(photo, "WEBP").getvalue(),
        encoded(photo, "TIFF", compression="tiff_lzw").getvalue(),
        encoded(photo, "TIFF", compression="jpeg").getvalue(),
        encoded(Image.fromarray(RAMP.astype(np.float32)), "TIFF").getvalue(),
        encoded(photo, "PPM").getvalue(),
    ]


def mutated(data: bytes, rng: random.Random) -> bytes:
    kind = rng.randrange(4)
    if kind == 0:
        return data[: rng.randrange(len(data))]
    changed = bytearray(data)
    if kind == 1:
        for _ in range(rng.randrange(1, 20)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
    elif kind == 2:  # the header, where sizes and tables are
        changed[rng.randrange(min(60, len(changed)))] ^= 1 << rng.randrange(8)
    else:
        start = rng.randrange(len(changed))
        changed[start : start + 30] = rng.randbytes(30)
    return bytes(changed)


@pytest.mark.parametrize("count", [2000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_fuzz_only_bad_image_escapes(count: int, capfd: pytest.CaptureFixture[str]) -> None:
    """Damaged files of 13 kinds: the same pixels or BadImage by both ways, within a second, on one line, and not a word on standard
    error, from libtiff either."""
    rng, originals, bad = random.Random(count), seeds(), []
    how, longest = Decoding(max_pixels=1_000_000), 0.0
    for number in range(count):
        data = mutated(originals[number % len(originals)], rng)
        began = time.perf_counter()
        try:
            image = decode(io.BytesIO(data), how=how)
            assert image.mode in {"L", "RGB"}
            np.testing.assert_array_equal(decode_array(data, how=how), np.asarray(image.convert("RGB")))
        except BadImage as error:
            bad.append(str(error))
            with pytest.raises(BadImage) as caught:
                decode_array(data, how=how, name="standard input")
            assert str(caught.value) == bad[-1]
        longest = max(longest, time.perf_counter() - began)
    assert longest < 1
    assert count / 4 < len(bad) < count * 0.95
    assert not [text for text in bad if "\n" in text]
    assert capfd.readouterr() == ("", "")


def test_pillows_remarks_do_not_reach_the_user(tmp_path: Path) -> None:
    data = bytearray(seeds()[10])
    code = (
        "import io, sys; from cnncli.data.decode import BadImage, Decoding, decode\n"
        "import random\n"
        f"data = {bytes(data)!r}\n"
        "rng = random.Random(0)\n"
        "for _ in range(200):\n"
        "    m = bytearray(data)\n"
        "    for _ in range(5): m[rng.randrange(len(m))] = rng.randrange(256)\n"
        "    try: decode(io.BytesIO(bytes(m)), how=Decoding(max_pixels=10**6))\n"
        "    except BadImage: pass\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-W", "always", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    # -W always comes before our filter is set, and our filter goes in front of it
    assert done.stderr == ""
