"""Local shards are a source like any other: the same samples as the files in them, in the splits that their names say."""

from __future__ import annotations

import io
import json
import os
import tarfile
import threading
import time
from pathlib import Path

import pytest
import sharding
import torch
from sharding import png, samples, shard_set, tar, write

from cnncli.data.audit import audit
from cnncli.data.examine import look
from cnncli.data.form import Form
from cnncli.data.loader import Loader
from cnncli.data.pixels import load_pixels
from cnncli.data.preprocess import Preprocess
from cnncli.data.shards import index
from cnncli.data.shards.naming import by_split, expand, key_of
from cnncli.data.source import Source, open_source
from cnncli.data.stream import open_stream
from cnncli.errors import InputError, UsageError

SMALL = Preprocess(3, 8, 8)
SETS = {"train-000.tar": 9, "train-001.tar": 6, "val-000.tar": 6}


def opened(folder: Path, made: dict[str, bytes], spec: str = "", **options) -> Source:
    return open_source(str(write(folder, made)) + spec, **options)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a-{000..002}.tar", ["a-000.tar", "a-001.tar", "a-002.tar"]),
        ("a-{9..11}.tar", ["a-9.tar", "a-10.tar", "a-11.tar"]),
        ("{train,val}-{0..1}.tar", ["train-0.tar", "train-1.tar", "val-0.tar", "val-1.tar"]),
        ("plain.tar", ["plain.tar"]),
        ("{,x}.tar", [".tar", "x.tar"]),
    ],
)
def test_patterns(pattern: str, names: list[str]) -> None:
    assert expand(pattern) == names
    assert names == list(pytest.importorskip("braceexpand").braceexpand(pattern))


@pytest.mark.parametrize(
    "pattern", ["a-{0..1.tar", "a}.tar", "{a{b,c}}.tar", "{5..1}.tar", "{abc}.tar", "{0..999999}.tar", "{0..999}{0..999}"]
)
def test_patterns_that_are_none(pattern: str) -> None:
    with pytest.raises(UsageError, match="--data"):
        expand(pattern)


def test_keys_are_webdatasets() -> None:
    base_plus_ext = pytest.importorskip("webdataset.tariterators").base_plus_ext

    for name in ("a.jpg", "d/a.jpg", "d.e/a.b.JPG", "./a.cls", "a", ".hidden", "._a.jpg", "d/e/00.seg.png", "a.", "d/", "é.jpg"):
        key, extension = base_plus_ext(name)
        assert key_of(name) == (None if key is None else (key, extension.lower())), name
    assert key_of("d/.hidden") is None  # there it would be a file of the key "d/"
    assert key_of("../a.jpg") is key_of("/a.jpg") is key_of("d/../../a.jpg") is key_of("__key__/a.jpg") is None


def test_splits_are_words_in_names() -> None:
    assert by_split(["x/train-0.tar", "valid_1.tar", "imagenet.test.tar"], "") == {
        "train": ["x/train-0.tar"],
        "val": ["valid_1.tar"],
        "test": ["imagenet.test.tar"],
    }
    assert by_split(["trainer-0.tar", "b.tar"], "") == {"train": ["trainer-0.tar", "b.tar"]}
    for names in (["train-0.tar", "other.tar"], ["train-val.tar"]):
        with pytest.raises(InputError):
            by_split(names, "")


def test_samples_are_the_files_in_the_shards(tmp_path: Path) -> None:
    source = opened(tmp_path / "clothes", shard_set(SETS))
    assert (source.name, source.classes, source.derived, source.notices) == ("clothes", sharding.CLASSES, False, ())
    assert {split: len(found) for split, found in source.splits.items()} == {"train": 15, "val": 6}
    for sample in source.samples("all"):
        shard, name = sample.path.split("/")
        with tarfile.open(tmp_path / "clothes" / shard) as archive:
            assert source.locate(sample) == archive.extractfile(name).read()
            assert sample.label == int(archive.extractfile(name[:-3] + "cls").read())
        assert source.weigh(sample) == len(source.locate(sample))
    assert [sample.path for sample in source.samples("val")] == [f"val-000.tar/{n:05d}.png" for n in range(15, 21)]


def test_patterns_folders_and_files_open_the_same(tmp_path: Path) -> None:
    folder = write(tmp_path / "s", shard_set(SETS))
    patterns = [f"{folder}/{{train-000,train-001,val-000}}.tar", f"{folder}/train-{{000..001}}.tar::{folder}/val-000.tar", str(folder)]
    found = [open_source(spec).fingerprint() for spec in patterns]
    assert len(set(found)) == 1
    assert open_source(f"{folder}/train-000.tar").derived
    with pytest.raises(InputError, match=r"no such shard.*train-002.tar' \(1 of 3"):
        open_source(f"{folder}/train-{{000..002}}.tar")
    with pytest.raises(UsageError, match="named twice"):
        open_source(f"{folder}/val-000.tar::{folder}/val-000.tar")


def test_other_splits_follow_the_keys_and_not_the_shards(tmp_path: Path) -> None:
    one = opened(tmp_path / "a", {"a.tar": tar(samples(0, 30)), "b.tar": tar(samples(30, 30))}, val_fraction=0.2, test_fraction=0.1)
    two = opened(tmp_path / "b", {"c.tar": tar(samples(0, 60))}, val_fraction=0.2, test_fraction=0.1)
    assert one.derived
    assert one.counts("val") == (4, 4, 4)
    for split in ("train", "val", "test"):
        assert [x.path.split("/")[1] for x in one.samples(split)] == [x.path.split("/")[1] for x in two.samples(split)]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_format_of_tar(tmp_path: Path, form: int) -> None:
    """Long names are told in another way by each; odd bytes survive."""
    long = "d" * 90 + "/" + "e" * 90 + "/f"
    files = []
    for key, kind in ((long, 0), ("kurz/ä", 1), ("odd\udcff", 0)):
        files += [(f"{key}.png", png(1, kind)), (f"{key}.cls", str(kind).encode())]
    source = opened(tmp_path / "s", {"a.tar": tar(files, form)}, val_fraction=0)
    assert [s.path for s in source.samples("train")] == [f"a.tar/{long}.png", "a.tar/kurz/ä.png", "a.tar/odd\udcff.png"]
    assert all(source.read(sample).size == (8, 8) for sample in source.samples("train"))


def test_what_makes_no_sample_is_left_out_and_told(tmp_path: Path) -> None:
    files = [
        *samples(0, 6),
        ("a.png", png(50)),
        ("b.cls", b"1"),
        ("c.png", png(51)),
        ("c.jpg", b"never read"),
        ("c.txt", b"a caption"),
        ("c.cls", b"2"),
        ("d.png", png(52)),
        ("d.cls", b" \n"),
        ("e.png", png(53)),
        ("e.png", png(54)),
        ("e.seg.png", b"a mask"),
        ("e.CLS", b"1"),
        ("f.png", png(55)),
        ("f.cls", b"0\n1"),
        ("__index__", b""),
        ("._g.png", b""),
    ]
    source = opened(tmp_path / "s", {"a.tar": tar(files), "classes.txt": b"x\ny\nz\n"}, val_fraction=0)
    assert [s.path for s in source.samples("train")][6:] == ["a.tar/c.png", "a.tar/e.png"]
    assert source.locate(source.samples("train")[-1]) == png(53)  # the first of two
    (notice,) = source.notices
    for told in (
        "1 images without a .cls",
        "1 .cls files without",
        "1 second images",
        "2 .cls files that hold no label",
        "1 files that are",
    ):
        assert told in notice
    assert open_source(str(tmp_path / "s"), val_fraction=0).notices == (notice,)  # from the cache too


@pytest.mark.parametrize(
    ("labels", "classes", "want"),
    [
        (("cat", "dog", "cat"), None, (("cat", "dog"), (0, 1, 0))),
        (("10", "9", "010"), None, (("9", "10"), (1, 0, 1))),
        (("0", "b", "b"), None, (("0", "b"), (0, 1, 1))),
        (("0", "1", "b"), "a\nb", (("a", "b"), (0, 1, 1))),
        (("1", "001", "0"), "\ufeffzero\r\none\r\n", (("zero", "one"), (1, 1, 0))),
        (("1", "2", "0"), "2\n1\n0", (("2", "1", "0"), (1, 2, 0))),
    ],
)
def test_labels(tmp_path: Path, labels, classes, want) -> None:
    files = [item for n, label in enumerate(labels) for item in ((f"{n}.png", png(n)), (f"{n}.cls", label.encode()))]
    source = opened(tmp_path / "s", {"a.tar": tar(files)} | ({"classes.txt": classes.encode()} if classes else {}), val_fraction=0)
    assert (source.classes, tuple(s.label for s in source.samples("train"))) == want


def test_stores_audit_and_order_are_as_for_files(tmp_path: Path) -> None:
    """The same images in shards and in class folders give the same batches, whatever keeps them."""
    source = opened(tmp_path / "shards", {"train.tar": tar(samples(0, 40))}, val_fraction=0)
    folder = tmp_path / "files"
    for number in range(40):  # sorted by number in both
        (folder / f"{number % 3}").mkdir(parents=True, exist_ok=True)
        (folder / f"{number % 3}" / f"{number:05d}.png").write_bytes(png(number, number % 3))
    files = open_source(str(folder), val_fraction=0)
    in_memory = load_pixels(source, "train", SMALL)
    by_name = {sample.path[-9:]: image for sample, image in zip(in_memory.samples, in_memory.images, strict=True)}
    wanted = load_pixels(files, "train", SMALL)
    assert all(torch.equal(by_name[sample.path[-9:]], image) for sample, image in zip(wanted.samples, wanted.images, strict=True))
    streamed = open_stream(source, "train", Form(SMALL), skip_bad=True)
    loaders = [Loader(p, SMALL, batch_size=8, seed=2, shuffle=True) for p in (in_memory, streamed)]
    for start in (0, 3):
        one, two = ([(b.images, b.labels) for b in loader.epoch(1, start)] for loader in loaders)
        assert len(one) == len(two) == 5 - start
        assert all(torch.equal(a, b) for x, y in zip(one, two, strict=True) for a, b in zip(x, y, strict=True))
    assert audit(source, look(source)).images == 40


def test_the_index_is_kept_until_the_shard_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path / "s", {"a.tar": tar(samples(0, 9))})
    first = open_source(str(folder))
    read = index._read
    monkeypatch.setattr(index, "_read", lambda *_: pytest.fail("read again"))
    assert open_source(str(folder)).fingerprint() == first.fingerprint()
    (kept,) = (tmp_path / "cache" / "shards").iterdir()
    monkeypatch.setattr(index, "_read", read)
    good = kept.read_bytes()
    for damaged in (
        b"",
        b"[]",
        b'{"format": 1}',
        json.dumps(json.loads(good) | {"names": []}).encode(),
        json.dumps(json.loads(good) | {"x": 1}).encode(),
    ):
        kept.write_bytes(damaged)
        assert open_source(str(folder)).fingerprint() == first.fingerprint()
    (folder / "a.tar").write_bytes(tar(samples(0, 12)))
    assert len(open_source(str(folder)).samples("all")) == 12
    monkeypatch.setenv("CNN_CACHE", "/proc/nowhere")
    assert len(open_source(str(folder)).samples("all")) == 12


def test_threads_read_at_once_and_files_stay_few(tmp_path: Path) -> None:
    source = opened(tmp_path / "s", {f"{n}.tar": tar(samples(9 * n, 9)) for n in range(20)}, val_fraction=0)
    want = {sample: png(int(sample.path[-9:-4]), sample.label) for sample in source.samples("train")}
    before, most, wrong = len(os.listdir("/proc/self/fd")), [0], []

    def look() -> None:
        for sample, data in want.items():
            if source.locate(sample) != data:
                wrong.append(sample)
            most[0] = max(most[0], len(os.listdir("/proc/self/fd")))

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert most[0] <= before + 2 * len(threads)
    assert len(os.listdir("/proc/self/fd")) <= before + 1


@pytest.mark.slow
def test_a_hundred_thousand_samples_open_in_three_seconds(tmp_path: Path) -> None:
    data = png(0)
    for shard in range(10):
        with tarfile.open(tmp_path / f"train-{shard}.tar", "w", format=tarfile.USTAR_FORMAT) as archive:
            for number in range(10_000):
                for extension, content in (("png", data), ("cls", str(number % 10).encode())):
                    member = tarfile.TarInfo(f"{shard}{number:05d}.{extension}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        assert len(open_source(str(tmp_path / "train-{0..9}.tar")).samples("all")) == 100_000
        seconds.append(time.perf_counter() - began)
    print(seconds)
    assert seconds[1] < 3
