"""The perceptual hash and its search, duplicates and leaks: each against a slow second way, on random numbers and on real photos."""

from __future__ import annotations

import io
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from harness import picture
from PIL import Image, ImageEnhance, ImageFilter

from cnncli.data.duplicates import duplicates, leaks, near_duplicates
from cnncli.data.examine import look, pixels_key
from cnncli.data.perceptual import NEAR_BITS, NEAR_CORRELATION, bits_apart, correlation, near_pairs, perceptual_hash
from cnncli.data.source import Sample, Source, open_source


def slow_hash(image: Image.Image) -> int:
    """The DCT by its definition, in a loop over every cosine."""
    n = 32
    small = np.asarray(image.convert("L").resize((n, n), Image.Resampling.BILINEAR, reducing_gap=3.0), dtype=np.float64)

    def coefficient(u: int, v: int) -> float:
        total = 0.0
        for y in range(n):
            for x in range(n):
                total += small[y, x] * math.cos(math.pi * (2 * y + 1) * u / (2 * n)) * math.cos(math.pi * (2 * x + 1) * v / (2 * n))
        return total * (math.sqrt(1 / n) if u == 0 else math.sqrt(2 / n)) * (math.sqrt(1 / n) if v == 0 else math.sqrt(2 / n))

    kept = [coefficient(8, 0) if u == v == 0 else coefficient(u, v) for u in range(8) for v in range(8)]
    middle = float(np.median(kept))
    return int("".join("1" if value > middle else "0" for value in kept), 2)


@pytest.mark.parametrize("number", range(2))
def test_hash_equals_the_definition(number: int) -> None:
    image = Image.fromarray(np.random.default_rng(number).integers(0, 256, (45, 61, 3)).astype(np.uint8))
    assert perceptual_hash(image)[0] == slow_hash(image)


def test_hash_is_of_64_bits_half_of_them_set() -> None:
    for number in range(20):
        hashed, thumbnail = perceptual_hash(picture(number, size=(40, 30)))
        assert hashed.bit_count() == 32
        assert len(thumbnail) == 256


@pytest.mark.parametrize("most_bits", [0, 1, 3, 4, 8, 11])
def test_search_finds_what_brute_force_finds(most_bits: int) -> None:
    random = np.random.default_rng(most_bits)
    hashes = random.integers(0, 2**64, 900, dtype=np.uint64)
    for place in range(300, 900):  # copies with 0 to 14 bits changed
        for bit in random.choice(64, place % 15, replace=False):
            hashes[place] = hashes[place % 300] ^ np.uint64(1 << int(bit)) if bit == 0 else hashes[place] ^ np.uint64(1 << int(bit))
    hashes[600:700] = hashes[100:200] ^ np.uint64(0b1011)
    hashes[700:720] = hashes[5]  # a crowd of equal ones
    found = [pair for i, j in near_pairs(hashes, most_bits) for pair in zip(i.tolist(), j.tolist(), strict=True)]
    listed = [int(h) for h in hashes]
    expected = {(i, j) for i in range(900) for j in range(i + 1, 900) if (listed[i] ^ listed[j]).bit_count() <= most_bits}
    assert len(expected) > 150
    assert set(found) == expected
    assert len(found) == len(set(found)), "each pair once"


def test_candidates_in_many_batches_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = np.random.default_rng(0).integers(0, 2**10, 400, dtype=np.uint64)  # a few chunks, so crowded buckets
    whole = {pair for i, j in near_pairs(hashes) for pair in zip(i.tolist(), j.tolist(), strict=True)}
    monkeypatch.setattr("cnncli.data.perceptual.CANDIDATES_AT_ONCE", 7)
    assert {pair for i, j in near_pairs(hashes) for pair in zip(i.tolist(), j.tolist(), strict=True)} == whole


def test_bits_apart_and_correlation_against_numpy() -> None:
    random = np.random.default_rng(1)
    a, b = (random.integers(0, 2**64, 50, dtype=np.uint64) for _ in range(2))
    assert bits_apart(a, b).tolist() == [(int(x) ^ int(y)).bit_count() for x, y in zip(a, b, strict=True)]
    x, y = (random.integers(0, 256, (20, 256)).astype(np.uint8) for _ in range(2))
    assert correlation(x, y) == pytest.approx([np.corrcoef(p, q)[0, 1] for p, q in zip(x, y, strict=True)], abs=1e-5)
    assert correlation(np.full((1, 256), 7, np.uint8), y[:1]).tolist() == [0.0]


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(stream).convert("RGB")


def scaled(image: Image.Image, times: float) -> Image.Image:
    return image.resize((round(image.width * times), round(image.height * times)))


def cut(image: Image.Image, share: float) -> Image.Image:
    x, y = int(image.width * share), int(image.height * share)
    return image.crop((x, y, image.width - x, image.height - y))


# Largest share of copies that may be missed; the docstring of cnncli.data.perceptual has what was measured.
MUTATIONS: dict[str, tuple[Callable[[Image.Image], Image.Image], float]] = {
    "half": (lambda i: scaled(i, 0.5), 0),
    "quarter": (lambda i: scaled(i, 0.25), 0),
    "square": (lambda i: i.resize((224, 224)), 0),
    "larger": (lambda i: scaled(i, 1.5), 0),
    "jpeg 30": (lambda i: jpeg(i, 30), 0),
    "jpeg 10": (lambda i: jpeg(i, 10), 0.005),
    "cut 1 %": (lambda i: cut(i, 0.01), 0.005),
    "cut 2 %": (lambda i: cut(i, 0.02), 0.06),
    "darker": (lambda i: ImageEnhance.Brightness(i).enhance(0.7), 0),
    "brighter": (lambda i: ImageEnhance.Brightness(i).enhance(1.2), 0.01),
    "contrast": (lambda i: ImageEnhance.Contrast(i).enhance(1.3), 0),
    "grey": (lambda i: i.convert("L"), 0),
    "blurred": (lambda i: i.filter(ImageFilter.GaussianBlur(2)), 0),
}


def missed(images: list[Image.Image], change: Callable[[Image.Image], Image.Image]) -> float:
    """The share of changed copies that would not be told."""
    pairs = [(perceptual_hash(image), perceptual_hash(change(image))) for image in images]
    bits = np.array([(a[0] ^ b[0]).bit_count() for a, b in pairs])
    sides = [np.frombuffer(b"".join(pair[k][1] for pair in pairs), np.uint8).reshape(-1, 256) for k in (0, 1)]
    return float(1 - ((bits <= NEAR_BITS) & (correlation(*sides) >= NEAR_CORRELATION)).mean())


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTATIONS)
def test_copies_of_real_photos_are_found(name: str, flowers: Path) -> None:
    images = [Image.open(path).convert("RGB") for path in sorted(flowers.glob("*/*.jpg"))]
    change, allowed = MUTATIONS[name]
    assert missed(images, change) <= allowed


def test_copies_of_some_real_photos_are_found(flowers: Path) -> None:
    images = [Image.open(path).convert("RGB") for path in sorted(flowers.glob("*/*.jpg"))[::20]]
    assert missed(images, lambda i: jpeg(scaled(i, 0.5), 50)) == 0


@pytest.mark.slow
def test_different_photos_are_kept_apart(flowers: Path) -> None:
    """Of the 79,800 pairs of the photos, six are of the same scene, which one can see; no other is near."""
    source = open_source(str(flowers), val_fraction=0.5)
    pairs, complete = near_duplicates(source, look(source))
    assert complete
    assert {tuple(sorted(spot.path.split("/")[1][:10] for spot in pair.spots)) for pair in pairs} <= {
        ("1099371003", "1099381804"),
        ("1327952661", "1334282300"),
        ("1016395560", "1016407323"),
        ("1291613541", "1291644122"),
    }


def folder(root: Path, files: dict[str, bytes | Path]) -> Source:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content if isinstance(content, bytes) else content.read_bytes())
    return open_source(str(root), val_fraction=0, allow_empty=True)


def as_bytes(image: Image.Image, form: str = "PNG") -> bytes:
    stream = io.BytesIO()
    image.save(stream, form)
    return stream.getvalue()


def test_kinds_of_duplicates(tmp_path: Path) -> None:
    one, two, three, four = (picture(n, size=(20, 20)) for n in range(4))
    source = folder(
        tmp_path / "data",
        {
            "train/a/1.png": as_bytes(one),
            "train/b/1.bmp": as_bytes(one, "BMP"),
            "train/a/2.png": as_bytes(two),
            "val/a/2.png": as_bytes(two),
            "val/a/3.png": as_bytes(three),
            "test/a/3.png": as_bytes(three),
            "train/b/4.png": as_bytes(four),
            "train/b/5.png": as_bytes(four),
            "train/b/6.png": as_bytes(picture(9, size=(20, 20))),
        },
    )
    found = duplicates(source, look(source))
    told = [([spot.path for spot in d.spots], d.same_bytes, d.conflict, d.leak, d.shared) for d in found]
    assert told == [
        (["train/a/1.png", "train/b/1.bmp"], False, True, False, False),
        (["train/a/2.png", "val/a/2.png"], True, False, True, False),
        (["val/a/3.png", "test/a/3.png"], True, False, False, True),
        (["train/b/4.png", "train/b/5.png"], True, False, False, False),
    ]


def test_one_pixel_makes_another_picture(tmp_path: Path) -> None:
    image = picture(1, size=(20, 20))
    other = image.copy()
    other.putpixel((3, 3), (image.getpixel((3, 3)) + 1) % 256)
    assert pixels_key(image) != pixels_key(other)
    assert pixels_key(image) == pixels_key(image.copy())
    assert pixels_key(image) != pixels_key(image.reshape((10, 40)) if hasattr(image, "reshape") else image.resize((10, 40)))


def test_large_images_are_hashed_in_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    image = picture(1, size=(50, 70))
    whole = pixels_key(image)
    monkeypatch.setattr("cnncli.data.examine.STRIP_PIXELS", 333)
    assert pixels_key(image) == whole


def slow_leaks(source: Source) -> set[tuple[str, str]]:
    """(split, path) of every image outside train whose bytes are those of one in train, by comparing all with all."""

    def content(sample: Sample) -> bytes:
        located = source.locate(sample)
        return located.read_bytes() if isinstance(located, Path) else located.tobytes()

    train = [content(sample) for sample in source.samples("train")]
    return {(split, s.path) for split in source.splits if split != "train" for s in source.samples(split) if content(s) in train}


def test_leaks(tmp_path: Path) -> None:
    same_tail = b"x" * 5000
    files: dict[str, bytes | Path] = {f"train/a/{n}.jpg": bytes([n]) * 10 + same_tail for n in range(6)}
    files |= {f"train/b/{n}.jpg": as_bytes(picture(n)) for n in range(6)}
    files |= {f"val/a/{n}.jpg": bytes([n + 3]) * 10 + same_tail for n in range(6)} | {
        "val/b/x.jpg": as_bytes(picture(2)),
        "val/b/y.jpg": b"",
    }
    files |= {"test/a/z.jpg": as_bytes(picture(4)), "test/a/z2.jpg": as_bytes(picture(4)), "test/b/q.jpg": bytes([9]) * 10 + same_tail}
    source = folder(tmp_path / "data", files)
    found = leaks(source)
    assert {(split, sample.path) for _, split, sample in found} == slow_leaks(source)
    assert len(found) == len(slow_leaks(source)) == 6
    for train, _, other in found:
        assert (tmp_path / "data" / train.path).read_bytes() == (tmp_path / "data" / other.path).read_bytes()


def test_leaks_reads_only_what_it_must(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = folder(
        tmp_path / "data",
        {f"{s}/{c}/{n}.jpg": bytes(100 + n + 50 * (s == "val")) for s in ("train", "val") for c in "ab" for n in range(9)},
    )
    monkeypatch.setattr(Path, "open", lambda *a, **k: pytest.fail("sizes differ, and yet a file was opened"))
    assert leaks(source) == []


def test_leaks_where_files_are_lost_or_no_files(tmp_path: Path) -> None:
    source = folder(tmp_path / "data", {f"{s}/{c}/{n}.png": as_bytes(picture(n)) for s in ("train", "val") for c in "ab" for n in range(2)})
    os.remove(tmp_path / "data/val/a/0.png")
    os.remove(tmp_path / "data/val/b/0.png")
    os.mkfifo(tmp_path / "data/val/b/0.png")
    assert {sample.path for _, _, sample in leaks(source)} == {"val/a/1.png", "val/b/1.png"}
    assert leaks(open_source("digits")) == []


def test_leaks_of_a_list_that_names_a_file_by_two_ways(tmp_path: Path) -> None:
    source = folder(tmp_path / "data", {f"train/{c}/{n}.png": as_bytes(picture(n, kind=ord(c))) for c in "ab" for n in range(4)})
    shutil.copytree(tmp_path / "data/train", tmp_path / "data/val")
    again = open_source(str(tmp_path / "data"))
    assert len(leaks(source)) == 0
    assert len(leaks(again)) == 8
