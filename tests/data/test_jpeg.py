"""decode_array gives what `decode` gives, to the bit, in every case: pixels, errors, and never more time than is bounded."""

from __future__ import annotations

import io
import random
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from handmade import scan_bomb, with_segment
from PIL import Image

from cnncli.data import jpeg
from cnncli.data.decode import BadImage, Decoding, decode
from cnncli.data.jpeg import decode_array

pytestmark = pytest.mark.filterwarnings(r"ignore:::PIL\..*")

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8))


def saved(image: Image.Image, form: str = "JPEG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x010F] = "maker of the camera"
    exif[0x0112] = orientation
    return exif


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """For each call, whether the fast way was taken."""
    taken: list[bool] = []
    whole = jpeg._plain_jpeg

    def watched(*arguments: object) -> object:
        found = whole(*arguments)
        taken.append(found is not None)
        return found

    monkeypatch.setattr(jpeg, "_plain_jpeg", watched)
    return taken


def outcome(data: bytes | Path, channels: int, how: Decoding = Decoding(), *, slowly: bool = False) -> np.ndarray | str:  # noqa: B008
    """The pixels, or the error."""
    try:
        if not slowly:
            return decode_array(data, how=how, channels=channels)
        image = np.asarray(decode(data, how=how).convert("L" if channels == 1 else "RGB"))
    except BadImage as error:
        return str(error)
    return image[..., None] if channels == 1 else image


def assert_same(data: bytes | Path, channels: int, how: Decoding = Decoding(), note: str = "") -> bool:  # noqa: B008
    """Whether it is a good image, after the two ways were found equal."""
    want, got = outcome(data, channels, how, slowly=True), outcome(data, channels, how)
    if isinstance(want, str) or isinstance(got, str):
        assert repr(want) == repr(got), note
        return False
    assert got.shape == want.shape, note
    assert got.dtype == np.uint8
    assert got.flags.c_contiguous
    assert (got == want).all(), note
    return True


def test_photos(flowers: Path, fast: list[bool]) -> None:
    for path in sorted(flowers.glob("*/*"))[::8]:
        assert assert_same(path, 3)
        assert assert_same(path, 1)
    assert fast == [True, False] * 50


KINDS = {
    "4:4:4": (NOISE, {"subsampling": 0}),
    "4:2:2": (NOISE, {"subsampling": 1}),
    "4:2:0": (NOISE, {"subsampling": 2}),
    "4:1:1": (NOISE, {"subsampling": "4:1:1"}),
    "progressive": (NOISE, {"progressive": True}),
    "grey": (NOISE.convert("L"), {}),
    "progressive grey": (NOISE.convert("L"), {"progressive": True}),
    "quality 100": (NOISE, {"quality": 100}),
    "restarts": (NOISE, {"restart_marker_rows": 1}),
    "a profile, a comment, a resolution": (NOISE, {"icc_profile": bytes(70_000), "comment": "words", "dpi": (72, 72)}),
    "RGB without a colour transform": (NOISE, {"keep_rgb": True}),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_plain_jpegs_take_the_fast_way(kind: str, channels: int, fast: list[bool]) -> None:
    image, options = KINDS[kind]
    assert assert_same(saved(image, **options), channels)
    assert fast == [channels == 3 or image.mode == "L"]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_d18_orientations(orientation: int, channels: int, fast: list[bool]) -> None:
    for image in (NOISE, NOISE.convert("L")):
        data = saved(image, exif=turned(orientation))
        assert assert_same(data, channels)
        assert assert_same(data, channels, Decoding(exif=False))
    assert fast == [channels == 3, channels == 3, True, True]


XMP = b"http://ns.adobe.com/xap/1.0/\0" + b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
ODD_EXIF = {
    "none": b"Exif\0\0",
    "cut": b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01\x03\0",
    "far": b"Exif\0\0II*\0\xff\xff\xff\x7f",
    "no order": b"Exif\0\0XX*\0\x08\0\0\0\0\0",
    "text for a number": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x01\0\0\0\x36\0\0\0\0\0\0\0",
    "99": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x63\0\0\0\0\0\0\0",
    "XMP alone": XMP,
}


@pytest.mark.parametrize("case", ODD_EXIF)
def test_d18_odd_metadata(case: str) -> None:
    assert assert_same(with_segment(saved(NOISE), 0xE1, ODD_EXIF[case]), 3)
    twice = with_segment(with_segment(saved(NOISE), 0xE1, ODD_EXIF[case]), 0xE1, b"Exif\0\0" + turned(3).tobytes()[6:])
    assert assert_same(twice, 3)


def test_orientation_in_xmp_counts() -> None:
    assert decode_array(with_segment(saved(NOISE), 0xE1, XMP)).shape == (53, 37, 3)


@pytest.mark.parametrize("channels", [1, 3])
def test_everything_else_goes_through_decode(channels: int, fast: list[bool]) -> None:
    others = [
        saved(NOISE.convert("CMYK")),
        saved(NOISE, "PNG"),
        saved(NOISE.convert("RGBA"), "WEBP", lossless=True),
        saved(NOISE.convert("P"), "GIF"),
        saved(NOISE, "TIFF", compression="jpeg"),
        saved(NOISE, "BMP"),
        saved(NOISE)[:-200],
        saved(NOISE) + b"more behind its end",
        b"",
        b"\xff\xd8\xff",
        b"<html>",
    ]
    for data in others:
        assert_same(data, channels)
    assert sum(fast) == (channels == 3)  # what is behind the end does not matter
    assert assert_same(saved(NOISE, "MPO", save_all=True, append_images=[NOISE.rotate(9)]), channels)
    assert fast[-1] == (channels == 3), "phones write MPO"


def test_sources_of_every_kind(tmp_path: Path) -> None:
    data = saved(NOISE, exif=turned(6))
    (tmp_path / "x.jpg").write_bytes(data)
    want = decode_array(data)
    for located in (tmp_path / "x.jpg", io.BytesIO(data), Image.open(io.BytesIO(data))):
        np.testing.assert_array_equal(decode_array(located), want)
    with pytest.raises(BadImage, match=r"none\.jpg: no such file"):
        decode_array(tmp_path / "none.jpg")
    with pytest.raises(BadImage, match="--max-pixels"):
        decode_array(data, how=Decoding(max_pixels=53 * 37 - 1))


def test_without_simplejpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "simplejpeg", None)
    assert assert_same(saved(NOISE), 3)


def test_threads() -> None:
    data = [saved(NOISE.rotate(angle)) for angle in range(20)]
    want = [decode_array(each) for each in data]
    wrong = []

    def work() -> None:
        wrong.extend(n for n, each in enumerate(data) if (decode_array(each) != want[n]).any())

    threads = [Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# ---- smaller than they are ----

PHOTO = Image.fromarray(np.random.default_rng(1).integers(0, 256, (9, 13, 3), dtype=np.uint8)).resize((1021, 683), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"exif": turned(6)}, {"exif": turned(2)}])
@pytest.mark.parametrize(
    ("at_least", "factor"),
    [((683, 1021), 1), ((342, 511), 2), ((343, 100), 1), ((171, 256), 4), ((60, 60), 8), ((86, 128), 8), ((1, 1), 8)],
)
def test_at_least(at_least: tuple[int, int], factor: int, options: dict[str, object], fast: list[bool]) -> None:
    """Where the size is enough the result is smaller, by the largest of 2, 4 and 8; and then it is what Pillow's own reduction gives."""
    data = saved(PHOTO, **options)
    sideways = options.get("exif") is not None and options["exif"][0x0112] == 6  # type: ignore[index]
    want = at_least[::-1] if sideways else at_least
    for channels in (1, 3):
        got = decode_array(data, channels=channels, at_least=want)
        size = -(-683 // factor), -(-1021 // factor)
        assert got.shape == (*(size[::-1] if sideways else size), channels)
        slowly = np.asarray(decode(data, at_least=want).convert("L" if channels == 1 else "RGB"))
        np.testing.assert_array_equal(got.squeeze(2) if channels == 1 else got, slowly)
    assert fast == [False, True]


def test_at_least_more_than_there_is() -> None:
    assert decode_array(saved(PHOTO), at_least=(5000, 10)).shape == (683, 1021, 3)
    assert decode_array(saved(PHOTO, "PNG"), at_least=(10, 10)).shape == (683, 1021, 3)
    assert decode_array(saved(PHOTO.convert("CMYK")), at_least=(80, 80)).shape == (86, 128, 3)


def test_at_least_is_close_to_the_whole_resized(flowers: Path) -> None:
    """Enlarged photos, decoded at half or a quarter but not below twice 96, against the full decode, both squeezed to 96."""
    found = []
    for path in sorted(flowers.glob("*/*"))[::40]:
        photo = decode(path).convert("RGB")
        data = saved(photo.resize((photo.width * 3, photo.height * 3), Image.Resampling.BICUBIC), quality=90)
        whole, part = (Image.fromarray(decode_array(data, at_least=size)) for size in (None, (192, 192)))
        assert part.width <= whole.width // 2 + 1
        a, b = (np.asarray(image.resize((96, 96), Image.Resampling.BILINEAR), np.float64) for image in (whole, part))
        found.append(10 * np.log10(255**2 / np.mean((a - b) ** 2)))
    assert np.median(found) > 42
    assert min(found) > 35  # a photo that is all fine leaves


# ---- damage ----


def seeds() -> list[bytes]:
    made = [saved(image, **options) for image, options in KINDS.values()]
    made += [saved(NOISE, exif=turned(6)), saved(NOISE.convert("CMYK")), with_segment(saved(NOISE), 0xE1, XMP)]
    return [*made, saved(NOISE, "MPO", save_all=True, append_images=[NOISE])]


def mutated(data: bytes, rng: random.Random) -> bytes:
    kind = rng.randrange(6)
    if kind == 0:
        return data[: rng.randrange(len(data))]
    changed = bytearray(data)
    if kind == 1:  # anywhere
        for _ in range(rng.randrange(1, 20)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
    elif kind == 2:  # one bit of the header, where sizes and tables are
        changed[rng.randrange(min(200, len(changed)))] ^= 1 << rng.randrange(8)
    elif kind == 3:  # one bit of the pixels
        changed[rng.randrange(len(changed) * 2 // 3, len(changed))] ^= 1 << rng.randrange(8)
    elif kind == 4:  # a block that comes from elsewhere in the file
        start, source, size = (rng.randrange(len(changed)) for _ in range(3))
        changed[start : start + size % 60] = changed[source : source + size % 60]
    else:
        start = rng.randrange(len(changed))
        changed[start : start + 30] = rng.randbytes(30)
    return bytes(changed)


def damage(count: int, seed: int, fast: list[bool]) -> None:
    rng, originals, good, longest = random.Random(seed), seeds(), 0, 0.0
    how = Decoding(max_pixels=1_000_000)
    for number in range(count):
        data = mutated(originals[number % len(originals)], rng)
        began = time.perf_counter()
        good += assert_same(data, (1, 3)[number % 2], how, f"mutation {number} of seed {seed}")
        longest = max(longest, time.perf_counter() - began)
    assert count * 0.2 < good < count * 0.9
    assert sum(fast) > count * 0.05
    assert longest < 1


def test_damaged_files_end_alike(fast: list[bool]) -> None:
    damage(1000, 1, fast)


@pytest.mark.slow
def test_ten_thousand_damaged_files_end_alike(fast: list[bool]) -> None:
    damage(10_000, 2, fast)


def test_d19_a_jpeg_of_thousands_of_scans() -> None:
    """Each scan goes over all pixels: 64 megapixels and 10,000 scans of 95 bytes would take ten minutes."""
    data = scan_bomb(saved(Image.new("L", (4000, 4000)), progressive=True), 10_000)
    assert len(data) < 1_100_000
    began = time.perf_counter()
    for read in (decode, decode_array):
        with pytest.raises(BadImage, match="progressive JPEG of more than 50 scans"):
            read(data)
    assert time.perf_counter() - began < 1
    few = scan_bomb(saved(NOISE, progressive=True), 20)
    assert assert_same(few, 3)


def test_what_looks_like_scans_in_metadata_is_none() -> None:
    data = with_segment(saved(NOISE, progressive=True), 0xE5, b"\xff\xda" * 500)
    assert assert_same(data, 3)
    assert assert_same(saved(NOISE, progressive=True) + b"\xff\xda\0\0" * 500, 3)
