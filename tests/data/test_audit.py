"""The audit: counts against a slow recount, statistics against numpy, every finding, twin names, and what --fix would keep."""

from __future__ import annotations

import csv
import io
import math
import os
import shutil
from dataclasses import replace
from pathlib import Path

import harness
import numpy as np
import pytest
from harness import HTML, make_folder, picture, png
from PIL import Image

from cnncli.data.audit import audit
from cnncli.data.cleaned import cleaned, csv_text
from cnncli.data.decode import BadImage
from cnncli.data.examine import Examined, examine, look
from cnncli.data.facts import Audit
from cnncli.data.lenient import open_anyway
from cnncli.data.source import Source, open_source
from cnncli.data.twins import meant, merged, twins
from cnncli.errors import InputError, UsageError


def audited(root: Path | str, **options: object) -> Audit:
    source, refused = open_anyway(str(root), lambda: open_source(str(root), allow_empty=True))
    return audit(source, look(source), refused=refused, **options)


def kinds(found: Audit, grade: str) -> list[str]:
    return [finding.kind for finding in found.findings if finding.grade == grade]


def good(root: Path, count: int = 10) -> Path:
    """Two classes, no two pictures alike."""
    for kind, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for n in range(count):
            picture(n + 1000 * kind, size=(40, 30)).save(root / name / f"{n:03d}.png")
    return root


def test_a_good_folder(tmp_path: Path) -> None:
    found = audited(good(tmp_path / "data"))
    assert (found.findings, found.spoiled, found.refused) == ((), False, "")
    assert found.counts == {"train": (8, 8), "val": (2, 2)}
    assert found.totals == (10, 10)
    assert (found.formats, found.modes) == ({"PNG": 20}, {"L": 20})
    assert (found.input, found.bytes) == ((1, 30, 40), 20 * 30 * 40)
    assert audited(tmp_path / "data", input=(3, 8, 8)).bytes == 20 * 3 * 8 * 8


def test_facts_against_a_slow_second_way(flowers: Path) -> None:
    """40 photos: counts, sizes, mean and deviation as numpy gives them in float64."""
    source = open_source(str(flowers), limit_per_class=8, val_fraction=0)
    found = audit(source, look(source))
    samples = source.samples("all")
    images = [np.asarray(Image.open(source.locate(sample)).convert("RGB"), dtype=np.float64) / 255 for sample in samples]
    pixels = np.concatenate([image.reshape(-1, 3) for image in images])
    assert found.mean == pytest.approx(pixels.mean(axis=0).tolist(), rel=1e-9)
    assert found.std == pytest.approx(pixels.std(axis=0).tolist(), rel=1e-9)
    for split, counts in found.counts.items():
        for index, name in enumerate(found.classes):
            assert counts[index] == sum(sample.path.startswith(name + "/") for sample in source.samples(split))
    widths, heights = sorted(i.shape[1] for i in images), sorted(i.shape[0] for i in images)
    for percent, (width, height) in found.sizes.percentiles.items():
        index = math.ceil(len(images) * percent / 100) - 1
        assert (width, height) == (widths[index], heights[index])
    areas = [image.shape[0] * image.shape[1] for image in images]
    assert found.sizes.smallest.width * found.sizes.smallest.height == min(areas)
    assert found.sizes.largest.width * found.sizes.largest.height == max(areas)
    ratios = [image.shape[1] / image.shape[0] for image in images]
    assert found.sizes.widest.width / found.sizes.widest.height == max(ratios)
    assert found.sizes.tallest.width / found.sizes.tallest.height == min(ratios)


def test_the_result_does_not_depend_on_threads(tmp_path: Path) -> None:
    source = open_source(str(good(tmp_path / "data", 40)))
    one, many = look(source, threads=1), look(source, threads=5)
    assert one.seen == many.seen
    assert one.sums == many.sums


def test_progress_counts_every_image(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    look(open_source(str(good(tmp_path / "data", 30))), on_progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (60, 60)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_unreadable_files_are_named_with_their_reason(tmp_path: Path) -> None:
    root = good(tmp_path / "data")
    (root / "cat" / "web.jpg").write_bytes(HTML)
    (root / "cat" / "empty.jpg").write_bytes(b"")
    (root / "dog" / "half.png").write_bytes(png(3)[:-30])
    found = audited(root)
    assert {item.spot.path: item.reason for item in found.unreadable} == {
        "cat/web.jpg": "HTML page, not the file itself: download it again",
        "cat/empty.jpg": "empty file",
        "dog/half.png": "truncated PNG",
    }
    assert kinds(found, "spoils") == ["unreadable"]
    assert "13.0%" in found.findings[0].message


def test_few_unreadable_files_are_worth_knowing_but_not_all_of_a_class(tmp_path: Path) -> None:
    root = good(tmp_path / "data", 60)
    (root / "cat" / "x.jpg").write_bytes(b"")
    found = audited(root)
    assert (kinds(found, "spoils"), kinds(found, "note")) == ([], ["unreadable"])
    (root / "eel").mkdir()
    (root / "eel" / "x.jpg").write_bytes(b"")
    assert "unreadable-class" in kinds(audited(root), "spoils")


def saved(path: Path, image: Image.Image, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


def test_what_is_converted_is_told(tmp_path: Path) -> None:
    root = good(tmp_path / "data")
    colour = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8))
    deep = np.random.default_rng(1).integers(0, 65536, (30, 40)).astype(np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 6
    see_through = colour.convert("RGBA")
    see_through.putalpha(100)
    for number, (name, image, options) in enumerate(
        (
            ("deep.png", Image.fromarray(deep), {}),
            ("cmyk.jpg", colour.convert("CMYK"), {}),
            ("palette.png", colour.quantize(7), {}),
            ("alpha.png", see_through, {}),
            ("frames.gif", colour, {"save_all": True, "append_images": [colour.rotate(180)]}),
            ("turned.jpg", colour, {"exif": exif}),
        )
    ):
        saved(root / "cat" / name, image.rotate(0 if number == 0 else 10 * number), **options)
    found = audited(root)
    assert found.converted == {"deep": 1, "cmyk": 1, "palette": 2, "alpha": 1, "animated": 1, "turned": 1}
    assert set(found.converted) <= set(kinds(found, "note"))
    assert found.modes["CMYK"] == 1
    assert found.formats["GIF"] == 1
    assert not found.spoiled


def test_deep_colour_that_pillow_opens_as_8_bits(tmp_path: Path) -> None:
    """16-bit RGB: Pillow shows mode RGB, the file's own header says 16."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes(range(24)) for _ in range(4))
    data = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    root = good(tmp_path / "data")
    (root / "cat" / "deep.png").write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    assert audited(root).converted == {"deep": 1}


def test_turned_images_are_measured_upright_and_only_if_wanted(tmp_path: Path) -> None:
    from cnncli.data.decode import Decoding

    exif = Image.Exif()
    exif[0x0112] = 6
    saved(tmp_path / "data" / "a" / "x.jpg", picture(1, size=(40, 30)).convert("RGB"), exif=exif)
    saved(tmp_path / "data" / "b" / "y.jpg", picture(2, size=(40, 30)).convert("RGB"))
    source = open_source(str(tmp_path / "data"), val_fraction=0)
    sample = source.samples("train")[0]
    upright, _ = examine(source, sample, Decoding())
    as_it_lies, _ = examine(source, sample, Decoding(exif=False))
    assert (upright.width, upright.height, upright.conversions) == (30, 40, ("turned",))
    assert (as_it_lies.width, as_it_lies.height, as_it_lies.conversions) == (40, 30, ())


def test_names_that_lie(tmp_path: Path) -> None:
    root = good(tmp_path / "data")
    saved(root / "cat" / "lie.png", picture(50, size=(40, 30)), format="JPEG")
    saved(root / "cat" / "fine.JPEG", picture(51, size=(40, 30)), format="JPEG")
    saved(root / "cat" / "none", picture(52, size=(40, 30)), format="JPEG")
    found = audited(root)
    assert [(item.spot.path, item.suffix, item.kind) for item in found.misnamed] == [("cat/lie.png", ".png", "jpeg")]
    assert kinds(found, "note") == ["misnamed"]


def test_tiny_and_constant_images(tmp_path: Path) -> None:
    root = good(tmp_path / "data")
    saved(root / "cat" / "tiny.png", picture(77, size=(3, 5)))
    saved(root / "dog" / "black.png", Image.new("RGB", (40, 30), "navy"))
    found = audited(root)
    assert [spot.path for spot in found.tiny] == ["cat/tiny.png"]
    assert [spot.path for spot in found.constant] == ["dog/black.png"]
    assert audited(make_folder(tmp_path / "small", {"a": 5, "b": 5})).tiny == ()  # all are 8 x 8


def test_imbalance(tmp_path: Path) -> None:
    found = audited(make_folder(tmp_path / "data", {"train/a": 40, "train/b": 4, "val/a": 1, "val/b": 1}))
    assert [f.message for f in found.findings if f.kind == "imbalance"] == [
        "the largest class has 10 times the training images of the smallest; always guessing it would be right on 91% of them"
    ]


def test_classes_of_the_splits(tmp_path: Path) -> None:
    """Everything that open_source refuses at its first sight is told at once."""
    root = make_folder(tmp_path / "data", {"train/a": 5, "train/b": 5, "train/c": 1, "val/a": 2, "val/new": 2})
    (root / "train" / "empty").mkdir()
    with pytest.raises(InputError):
        open_source(str(root))
    found = audited(root)
    assert "classes that train lacks: new" in found.refused
    told = {finding.kind: finding.message for finding in found.findings}
    assert told["empty-class"] == "class folders without images: empty"
    assert told["unknown-class"] == "classes outside train that train lacks: new"
    assert told["missing-class"] == "val has no images of b, c"


def test_one_class(tmp_path: Path) -> None:
    found = audited(make_folder(tmp_path / "data", {"cat": 5}))
    assert kinds(found, "spoils") == ["few-classes"]
    assert "one class only" in found.refused


def test_what_is_refused_for_another_reason_is_told(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data", {"train/a": 5, "train/b": 5, "val/a": 2, "valid/b": 2})
    found = audited(root)
    assert "refused" in kinds(found, "spoils")
    assert found.counts == {"train": (5, 5), "val": (2, 2)}


def test_nothing_to_look_at_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for spec in ("empty", "absent"):
        with pytest.raises(InputError):
            audited(tmp_path / spec)


def test_a_list_with_lost_files_and_unknown_splits(tmp_path: Path) -> None:
    good(tmp_path / "data")
    rows = ["path,label,split"] + [f"data/{c}/{n:03d}.png,{c},{'train' if n < 8 else 'val'}" for c in ("cat", "dog") for n in range(10)]
    (tmp_path / "list.csv").write_text(
        "\n".join([*rows, "data/lost.png,cat,train", "data/cat/000.png,dog,val", "data/x.png,,train", "y.png,cat,never"])
    )
    with pytest.raises(InputError):
        open_source(str(tmp_path / "list.csv"))
    found = audited(tmp_path / "list.csv")
    assert [item.spot.path for item in found.unreadable] == ["data/lost.png"]
    assert found.images == 22
    assert {"unreadable", "label-conflicts", "leaks"} <= set(kinds(found, "spoils"))
    assert any("line 24" in notice for notice in found.notices)


TWINS = (
    ("Cat", "cat"),
    ("cat ", "cat"),
    ("red rose", "red_rose"),
    ("red-rose", "red  rose"),
    ("caf\u00e9", "cafe\u0301"),
    ("Straße", "STRASSE"),
)


@pytest.mark.parametrize("pair", TWINS)
def test_twin_names(pair: tuple[str, str]) -> None:
    assert twins([*pair, "other"]) == (tuple(sorted(pair)),)


@pytest.mark.parametrize("pair", [("cat", "cats"), ("a", "b"), ("-", "_"), ("1", "10"), ("caf\u00e9", "cafe"), ("redrose", "red rose")])
def test_names_that_are_no_twins(pair: tuple[str, str]) -> None:
    assert twins(pair) == ()
    assert meant(pair[0]) != meant(pair[1])


def test_twins_become_one_only_where_that_is_unambiguous() -> None:
    classes = ("A", "Bus", "a", "bus", "red rose", "red_rose", "pear ", "pear")
    counts = {"train": (9, 0, 9, 5, 2, 7, 9, 1), "val": (2, 3, 2, 0, 0, 0, 0, 0)}
    becomes, alone = merged(twins(classes), classes, counts)
    assert becomes == {"Bus": "bus", "red rose": "red_rose", "pear ": "pear"}
    assert alone == (("A", "a"),)


def dirty(root: Path) -> Path:
    """Leaks, conflicts, repeats, bad files and twins, each once."""
    make_folder(root, {"train/cat": 0, "train/dog": 0, "val/cat": 0, "val/dog": 0, "val/Cat": 0, "test/cat": 0})
    for number, path in enumerate(
        ("train/cat/0", "train/cat/1", "train/cat/2", "train/dog/3", "train/dog/4", "val/cat/5", "val/dog/6", "val/Cat/7", "test/cat/8")
    ):
        picture(number, size=(40, 30)).save(root / f"{path}.png")
    for old, new in (
        ("val/cat/5", "train/cat/leak"),
        ("train/cat/0", "train/cat/twice"),
        ("train/cat/1", "train/dog/conflict"),
        ("val/Cat/7", "val/cat/same"),
        ("val/dog/6", "test/cat/conflict2"),
        ("val/cat/5", "test/cat/kept"),
    ):
        shutil.copy(root / f"{old}.png", root / f"{new}.png")
    (root / "train/dog/bad.jpg").write_bytes(HTML)
    return root


def test_cleaned(tmp_path: Path) -> None:
    root = dirty(tmp_path / "data")
    before = harness.tree(root)
    source, refused = open_anyway(str(root), lambda: open_source(str(root), allow_empty=True))
    assert "Cat" in refused
    clean = cleaned(source, look(source))
    rows = {path.relative_to(root).as_posix(): (label, split) for path, label, split in clean.rows}
    assert rows == {
        "train/cat/0.png": ("cat", "train"),
        "train/cat/2.png": ("cat", "train"),
        "train/dog/3.png": ("dog", "train"),
        "train/dog/4.png": ("dog", "train"),
        "val/cat/5.png": ("cat", "val"),
        "val/Cat/7.png": ("cat", "val"),
        "test/cat/8.png": ("cat", "test"),
        "test/cat/kept.png": ("cat", "test"),
    }
    assert clean.told == (
        "left out 1 image that cannot be read",
        "left out 4 images with conflicting labels",
        "left out 1 image of train that another split holds too",
        "left out 2 images that the same split holds twice",
        "class 'Cat' became 'cat'",
    )
    assert clean.left == ()
    (tmp_path / "clean.csv").write_text(csv_text(clean.rows, tmp_path / "clean.csv"))
    again = audited(tmp_path / "clean.csv")
    assert not again.spoiled
    assert sum(again.totals) == 8
    assert harness.tree(root) == before


def test_cleaned_tells_what_no_row_can_repair(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data", {"train/a": 4, "val/a": 1, "val/new": 1})
    (root / "train" / "b").mkdir()
    (root / "train/b/x.jpg").write_bytes(b"")
    source, _ = open_anyway(str(root), lambda: open_source(str(root), allow_empty=True))
    clean = cleaned(source, look(source))
    assert clean.left == (
        "train still lacks classes that other splits have: new",
        "classes without an image that is left: b",
        "fewer than two classes have training images",
    )


def test_only_files_can_be_listed() -> None:
    digits = open_source("digits")
    source = replace(digits, splits={"train": digits.samples("train")[:20]})
    with pytest.raises(UsageError, match="no files"):
        cleaned(source, look(source))


HOSTILE = (
    "a,b.png",
    'say "x".png',
    "two\nlines.png",
    "=cmd().png",
    " space.png",
    "tab\t.png",
    "\udcff\udcfe.png",
    "ünï😀.png",
    "#hash.png",
    "semi;.png",
)


def test_hostile_names_survive_the_csv(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for name in ("cat, the", '"dog"'):
        (root / name).mkdir(parents=True)
        for number, file in enumerate(HOSTILE):
            picture(number + 100 * len(name), size=(20, 20)).save(root / name / file)
    source = open_source(str(root), val_fraction=0)
    clean = cleaned(source, look(source))
    text = csv_text(clean.rows, tmp_path / "clean.csv")
    data = text.encode("utf-8", "surrogateescape")
    (tmp_path / "clean.csv").write_bytes(data)
    with (tmp_path / "clean.csv").open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
        rows = list(csv.reader(stream, strict=True))
    assert rows[0] == ["path", "label", "split"]
    assert [tuple(row) for row in rows[1:]] == [(f"data/{s.path}", source.classes[s.label], "train") for s in source.samples("train")]
    again = open_source(str(tmp_path / "clean.csv"), val_fraction=0)
    assert {os.path.realpath(again.locate(s)) for s in again.samples("train")} == {
        os.path.realpath(root / s.path) for s in source.samples("train")
    }


def test_paths_outside_the_folder_of_the_csv_are_absolute(tmp_path: Path) -> None:
    source = open_source(str(good(tmp_path / "data", 2)), val_fraction=0)
    text = csv_text(cleaned(source, look(source)).rows, tmp_path / "other" / "clean.csv")
    paths = [row[0] for row in csv.reader(io.StringIO(text))][1:]
    assert paths
    assert all(Path(path).is_absolute() and Path(path).is_file() for path in paths)


def test_damaged_bytes_never_end_the_audit(tmp_path: Path) -> None:
    """Flipped and cut files are either read or named; nothing else is raised."""
    random = np.random.default_rng(0)
    whole = dict.fromkeys(("JPEG", "PNG", "GIF", "WEBP", "TIFF"), b"")
    for form in whole:
        stream = io.BytesIO()
        picture(1, size=(30, 30)).convert("RGB").save(stream, form)
        whole[form] = stream.getvalue()
    root = tmp_path / "data" / "a"
    root.mkdir(parents=True)
    for number in range(200):
        data = bytearray(whole[list(whole)[number % 5]])
        for place in random.integers(0, len(data), 5):
            data[place] = random.integers(0, 256)
        (root / f"{number:03d}.jpg").write_bytes(bytes(data[: int(random.integers(1, len(data) + 1))] if number % 3 else data))
    make_folder(tmp_path / "data", {"b": 2})
    looks = look(open_source(str(tmp_path / "data")))
    assert all(isinstance(seen, Examined | BadImage) for seen in looks.seen)
    assert 0 < sum(isinstance(seen, BadImage) for seen in looks.seen) < 200


def test_source_type() -> None:
    assert isinstance(open_anyway("digits", lambda: open_source("digits"))[0], Source)
