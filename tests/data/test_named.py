"""Data sets by name: a tiny fake of each one's files proves what the table says of its splits, labels and class names.

Each image of a fake has one colour, which tells which it is.
"""

from __future__ import annotations

import bz2
import gzip
import json
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnncli.data import named_source
from cnncli.data.named import DIGITS, NAMED, NEVER_MIRRORED
from cnncli.data.source import SOURCES, open_source
from cnncli.errors import EnvironmentFault, InputError

# {split: (class, colour) of each image}
Expected = dict[str, list[tuple[str, int]]]


@pytest.fixture(autouse=True)
def no_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fakes have other md5 sums; and nothing here may want to download."""
    from torchvision.datasets import utils

    monkeypatch.setattr(utils, "check_md5", lambda path, md5, **_: True)
    monkeypatch.setattr(named_source, "obtain", lambda name, *_: pytest.fail(f"{name} is not recognised as there"))


def picture(path: Path, colour: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:  # PNG under any name: exact, and read by content
        Image.new("RGB", (4, 4), (colour,) * 3).save(file, "PNG")


def idx(path: Path, values: np.ndarray, code: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">BBBB{values.ndim}I", 0, 0, code, values.ndim, *values.shape)
    path.write_bytes(header + values.astype(">i4" if code == 12 else np.uint8).tobytes())


def plain(colours: list[int], *shape: int) -> np.ndarray:
    """uint8 [N, *shape], image i of colours[i]."""
    return np.broadcast_to(np.array(colours, np.uint8).reshape(-1, *[1] * len(shape)), (len(colours), *shape)).copy()


def mnist(names: tuple[str, ...], folder: str) -> Callable[[Path], Expected]:
    def make(root: Path) -> Expected:
        for part, colours, labels in (("train", [10, 20, 30], [1, 0, 2]), ("t10k", [40, 50], [2, 1])):
            idx(root / folder / "raw" / f"{part}-images-idx3-ubyte", plain(colours, 28, 28))
            idx(root / folder / "raw" / f"{part}-labels-idx1-ubyte", np.array(labels))
        return {"train": [(names[1], 10), (names[0], 20), (names[2], 30)], "test": [(names[2], 40), (names[1], 50)]}

    return make


def qmnist(root: Path) -> Expected:
    for part, colours, labels in (("train", [10, 20], [7, 3]), ("test", [30], [9])):
        idx(root / f"QMNIST/raw/qmnist-{part}-images-idx3-ubyte", plain(colours, 28, 28))
        more = np.arange(8 * len(labels)).reshape(-1, 8)
        more[:, 0] = labels
        idx(root / f"QMNIST/raw/qmnist-{part}-labels-idx2-int", more, 12)
    return {"train": [("7", 10), ("3", 20)], "test": [("9", 30)]}


def emnist(part: str, labels: list[int], names: list[str]) -> Callable[[Path], Expected]:
    def make(root: Path) -> Expected:
        for split in ("train", "test"):
            idx(root / f"EMNIST/raw/emnist-{part}-{split}-images-idx3-ubyte", plain([10, 20], 28, 28))
            idx(root / f"EMNIST/raw/emnist-{part}-{split}-labels-idx1-ubyte", np.array(labels))
        return {split: list(zip(names, [10, 20], strict=True)) for split in ("train", "test")}

    return make


def usps(root: Path) -> Expected:
    for name, label in (("usps.bz2", 1), ("usps.t.bz2", 10)):
        line = f"{label} " + " ".join(f"{pixel}:0.0" for pixel in range(1, 257))  # -1..1, so the middle
        (root / name).write_bytes(bz2.compress(line.encode()))
    return {"train": [("0", 127)], "test": [("9", 127)]}


def semeion(root: Path) -> Expected:
    rows = [[1.0] * 256 + [float(digit == label) for digit in range(10)] for label in (3, 8)]
    (root / "semeion.data").write_text("\n".join(" ".join(f"{v:.4f}" for v in row) for row in rows))
    return {"train": [("3", 255), ("8", 255)]}


def cifar(folder: str, files: dict[str, list[str]], key: str, meta: tuple[str, str], names: list[str]) -> Callable[[Path], Expected]:
    def make(root: Path) -> Expected:
        (root / folder).mkdir()
        expected: Expected = {}
        for split, batches in files.items():
            for number, batch in enumerate(batches):
                colour = 10 * number + (5 if split == "test" else 0)
                (root / folder / batch).write_bytes(pickle.dumps({"data": plain([colour], 3072), key: [number % 2]}))
                expected.setdefault(split, []).append((names[number % 2], colour))
        (root / folder / meta[0]).write_bytes(pickle.dumps({meta[1]: names}))
        return expected

    return make


def svhn(root: Path) -> Expected:
    from scipy.io import savemat

    for split, colours, labels in (("train", [10, 20], [10, 1]), ("test", [30, 40], [9, 2])):  # 10 stands for the digit 0
        savemat(root / f"{split}_32x32.mat", {"X": plain(colours, 32, 32, 3).transpose(1, 2, 3, 0), "y": np.array(labels)[:, None]})
    return {"train": [("0", 10), ("1", 20)], "test": [("9", 30), ("2", 40)]}


def stl10(root: Path) -> Expected:
    folder = root / "stl10_binary"
    folder.mkdir()
    for split, labels in (("train", [1, 10]), ("test", [2, 3])):
        (folder / f"{split}_X.bin").write_bytes(plain([10, 20], 3, 96, 96).tobytes())
        (folder / f"{split}_y.bin").write_bytes(bytes(labels))
    (folder / "unlabeled_X.bin").write_bytes(b"")
    return {"train": [("airplane", 10), ("truck", 20)], "test": [("bird", 10), ("car", 20)]}


def flowers102(root: Path) -> Expected:
    from scipy.io import savemat

    for number in range(1, 7):
        picture(root / f"flowers-102/jpg/image_{number:05d}.jpg", 10 * number)
    savemat(root / "flowers-102/imagelabels.mat", {"labels": np.array([[1, 2, 3, 102, 2, 1]])})
    savemat(root / "flowers-102/setid.mat", {"trnid": np.array([[1, 2]]), "valid": np.array([[3, 4]]), "tstid": np.array([[6, 5]])})
    return {
        "train": [("pink primrose", 10), ("hard-leaved pocket orchid", 20)],
        "val": [("canterbury bells", 30), ("blackberry lily", 40)],
        "test": [("pink primrose", 60), ("hard-leaved pocket orchid", 50)],
    }


def pets(root: Path) -> Expected:
    folder = root / "oxford-iiit-pet"
    for number, name in enumerate(("Abyssinian_1", "american_bulldog_3", "Abyssinian_7", "american_bulldog_9")):
        picture(folder / f"images/{name}.jpg", 10 * number)
    (folder / "annotations").mkdir()
    (folder / "annotations/trainval.txt").write_text("Abyssinian_1 1 1 1\namerican_bulldog_3 2 2 1\n")
    (folder / "annotations/test.txt").write_text("american_bulldog_9 2 2 1\nAbyssinian_7 1 1 1\n")
    return {"train": [("Abyssinian", 0), ("American Bulldog", 10)], "test": [("American Bulldog", 30), ("Abyssinian", 20)]}


def food101(root: Path) -> Expected:
    for number, name in enumerate(("waffles/1", "pho/2", "pho/3")):
        picture(root / f"food-101/images/{name}.jpg", 10 * number)
    (root / "food-101/meta").mkdir()
    (root / "food-101/meta/train.json").write_text(json.dumps({"pho": ["pho/2"], "waffles": ["waffles/1"]}))
    (root / "food-101/meta/test.json").write_text(json.dumps({"pho": ["pho/3"]}))
    return {"train": [("pho", 10), ("waffles", 0)], "test": [("pho", 20)]}


def caltech101(root: Path) -> Expected:
    for number, name in enumerate(("BACKGROUND_Google/image_0001", "ant/image_0001", "ant/image_0002", "crab/image_0001")):
        picture(root / f"caltech101/101_ObjectCategories/{name}.jpg", 10 * number)
    return {"train": [("ant", 10), ("ant", 20), ("crab", 30)]}


def caltech256(root: Path) -> Expected:
    for number, name in enumerate(("001.ak47/001_0001", "002.flag/002_0001", "002.flag/002_0002")):
        picture(root / f"caltech256/256_ObjectCategories/{name}.jpg", 10 * number)
    return {"train": [("001.ak47", 0), ("002.flag", 10), ("002.flag", 20)]}


def dtd(root: Path) -> Expected:
    (root / "dtd/dtd/labels").mkdir(parents=True)
    expected: Expected = {}
    for number, split in enumerate(("train", "val", "test")):
        names = ("woven", "banded")
        for kind, name in enumerate(names):
            picture(root / f"dtd/dtd/images/{name}/{name}_{split}.jpg", 10 * number + kind)
        (root / f"dtd/dtd/labels/{split}1.txt").write_text("".join(f"{name}/{name}_{split}.jpg\n" for name in names))
        expected[split] = [(name, 10 * number + kind) for kind, name in enumerate(names)]
    return expected


def folders(*splits: tuple[str, str], names: dict[str, str], suffix: str = "jpg") -> Callable[[Path], Expected]:
    """splits: (ours, folder). names: folder -> class."""

    def make(root: Path) -> Expected:
        expected: Expected = {}
        for number, (split, folder) in enumerate(splits):
            for kind, name in enumerate(names):
                picture(root / folder / name / f"1.{suffix}", 10 * number + kind)
            expected[split] = [(name, 10 * number + kind) for kind, name in enumerate(names.values())]
        return expected

    return make


def gtsrb(root: Path) -> Expected:
    for label in range(43):
        picture(root / f"gtsrb/GTSRB/Training/{label:05d}/1.ppm", label)
    for number, label in enumerate((14, 0)):
        picture(root / f"gtsrb/GTSRB/Final_Test/Images/{number:05d}.ppm", 100 + label)
    (root / "gtsrb/GT-final_test.csv").write_text("Filename;Width;ClassId\n00000.ppm;4;14\n00001.ppm;4;0\n")
    signs = NAMED["gtsrb"].classes
    assert (signs[14], signs[17], signs[33], signs[40]) == ("stop", "no entry", "turn right ahead", "roundabout")
    return {"train": [(sign, label) for label, sign in enumerate(signs)], "test": [("stop", 114), ("speed limit 20", 100)]}


def cars(root: Path) -> Expected:
    from scipy.io import savemat

    folder = root / "stanford_cars"
    (folder / "devkit").mkdir(parents=True)
    savemat(folder / "devkit/cars_meta.mat", {"class_names": np.array(["Audi A", "BMW B"], dtype=object)})
    expected: Expected = {}
    for split, file in (("train", "devkit/cars_train_annos.mat"), ("test", "cars_test_annos_withlabels.mat")):
        rows = [("00001.jpg", 2), ("00002.jpg", 1)]
        savemat(folder / file, {"annotations": np.array(rows, dtype=[("fname", object), ("class", object)])})
        for number, (name, _) in enumerate(rows):
            picture(folder / f"cars_{split}" / name, 10 * number)
        expected[split] = [("BMW B", 0), ("Audi A", 10)]
    return expected


def aircraft(root: Path) -> Expected:
    data = root / "fgvc-aircraft-2013b/data"
    expected: Expected = {}
    for number, split in enumerate(("train", "val", "test")):
        picture(data / f"images/{number}.jpg", 10 * number)
        (data / f"images_variant_{split}.txt").write_text(f"{number} Boeing 737-{number}00\n")
        expected[split] = [(f"Boeing 737-{number}00", 10 * number)]
    (data / "variants.txt").write_text("Boeing 737-000\nBoeing 737-100\nBoeing 737-200\n")
    return expected


def sun397(root: Path) -> Expected:
    for number, name in enumerate(("a/abbey/sun_1", "a/apartment/outdoor/sun_2")):
        picture(root / f"SUN397/{name}.jpg", 10 * number)
    (root / "SUN397/ClassName.txt").write_text("/a/abbey\n/a/apartment/outdoor\n")
    return {"train": [("abbey", 0), ("apartment/outdoor", 10)]}


def imagenette(folder: str) -> Callable[[Path], Expected]:
    splits = (("train", f"{folder}/train"), ("val", f"{folder}/val"))
    return folders(*splits, names={"n01440764": "tench", "n02102040": "English springer", "n03417042": "garbage truck"}, suffix="jpeg")


CIFAR10 = {"train": [f"data_batch_{n}" for n in range(1, 6)], "test": ["test_batch"]}
LAYOUTS: dict[str, Callable[[Path], Expected]] = {
    "mnist": mnist(DIGITS, "MNIST"),
    "fashion-mnist": mnist(("T-shirt/top", "Trouser", "Pullover"), "FashionMNIST"),
    "kmnist": mnist(("o", "ki", "su"), "KMNIST"),
    "qmnist": qmnist,
    "emnist-letters": emnist("letters", [1, 26], ["a", "z"]),
    "emnist-balanced": emnist("balanced", [10, 36], ["A", "a"]),
    "emnist-digits": emnist("digits", [9, 0], ["9", "0"]),
    "emnist-byclass": emnist("byclass", [35, 61], ["Z", "z"]),
    "emnist-bymerge": emnist("bymerge", [46, 0], ["t", "0"]),
    "usps": usps,
    "semeion": semeion,
    "cifar10": cifar("cifar-10-batches-py", CIFAR10, "labels", ("batches.meta", "label_names"), ["airplane", "automobile"]),
    "cifar100": cifar(
        "cifar-100-python", {"train": ["train"], "test": ["test"]}, "fine_labels", ("meta", "fine_label_names"), ["apple", "baby"]
    ),
    "svhn": svhn,
    "stl10": stl10,
    "flowers102": flowers102,
    "oxford-pets": pets,
    "food101": food101,
    "caltech101": caltech101,
    "caltech256": caltech256,
    "dtd": dtd,
    "eurosat": folders(("train", "eurosat/2750"), names={"Forest": "Forest", "River": "River"}),
    "gtsrb": gtsrb,
    "stanford-cars": cars,
    "fgvc-aircraft": aircraft,
    "country211": folders(
        *(("train", "country211/train"), ("val", "country211/valid"), ("test", "country211/test")), names={"AD": "AD", "ZW": "ZW"}
    ),
    "sun397": sun397,
    "imagenette": imagenette("imagenette2"),
    "imagenette-320": imagenette("imagenette2-320"),
    "imagenette-160": imagenette("imagenette2-160"),
}


@pytest.mark.parametrize("name", sorted(set(NAMED) - {"imagenet"}))
def test_splits_labels_and_classes(name: str, tmp_path: Path) -> None:
    expected = LAYOUTS[name](tmp_path)
    before = sorted(tmp_path.rglob("*"))
    source = open_source(name, val_fraction=0, test_fraction=0, data_root=str(tmp_path))
    found = {
        split: sorted((source.classes[s.label], int(np.asarray(source.read(s)).flat[0])) for s in samples)
        for split, samples in source.splits.items()
    }
    assert found == {split: sorted(images) for split, images in expected.items()}
    assert list(found) == list(NAMED[name].splits)
    assert source.name == name
    assert not source.derived
    assert len({s.path for s in source.samples("all")}) == len(source.samples("all"))
    assert len(set(source.classes)) == len(source.classes)
    assert sorted(tmp_path.rglob("*")) == before, "opening writes nothing"
    where = source.locate(source.samples("all")[0])
    assert isinstance(where, Image.Image) or where.is_relative_to(tmp_path), "files stay files, so that our own decoding applies"


@pytest.mark.parametrize("name", sorted(set(NAMED) - {"imagenet"}))
def test_a_place_that_is_missing_is_noticed(name: str, tmp_path: Path) -> None:
    LAYOUTS[name](tmp_path)
    known = NAMED[name]
    assert known.is_here(tmp_path)
    for place in known.places:
        (tmp_path / place).rename(tmp_path / "away")
        assert not known.is_here(tmp_path)
        (tmp_path / "away").rename(tmp_path / place)


def test_the_letters_of_emnist_stand_upright(tmp_path: Path) -> None:
    """Its files hold columns: the stroke that is a row in the file is a column of the letter."""
    images = np.zeros((1, 28, 28))
    images[0, 3, :] = 255
    for split in ("train", "test"):
        idx(tmp_path / f"EMNIST/raw/emnist-letters-{split}-images-idx3-ubyte", images)
        idx(tmp_path / f"EMNIST/raw/emnist-letters-{split}-labels-idx1-ubyte", np.array([9]))
    source = open_source("emnist-letters", data_root=str(tmp_path))
    pixels = np.asarray(source.read(source.splits["test"][0]))
    np.testing.assert_array_equal(pixels, images[0].T)


@pytest.mark.parametrize("name", ["svhn", "stl10"])
def test_pixels_are_torchvisions_own(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows, columns and colours in their order: images of noise, each where torchvision has it."""

    def noise(colours: list[int], *shape: int) -> np.ndarray:
        return np.random.default_rng(colours).integers(0, 256, (len(colours), *shape), dtype=np.uint8)

    monkeypatch.setitem(globals(), "plain", noise)
    LAYOUTS[name](tmp_path)
    source = open_source(name, val_fraction=0, data_root=str(tmp_path))
    for split, samples in source.splits.items():
        theirs = named_source.open_class(NAMED[name], split, tmp_path)
        for index, sample in enumerate(samples):
            np.testing.assert_array_equal(np.asarray(source.read(sample)), np.asarray(theirs[index][0]))
            assert len(np.unique(np.asarray(source.read(sample)))) > 100


def test_what_is_not_given_is_derived(tmp_path: Path) -> None:
    """Validation from train where there is none, a test split only where there are no splits at all; official ones stay."""
    for part, count in (("train", 200), ("t10k", 20)):
        idx(tmp_path / f"MNIST/raw/{part}-images-idx3-ubyte", np.zeros((count, 28, 28)))
        idx(tmp_path / f"MNIST/raw/{part}-labels-idx1-ubyte", np.arange(count) % 2)
    source = open_source("mnist", data_root=str(tmp_path))
    assert {split: source.counts(split)[:2] for split in source.splits} == {"train": (90, 90), "val": (10, 10), "test": (10, 10)}
    assert source.derived
    more = open_source("mnist", data_root=str(tmp_path), val_fraction=0.5, test_fraction=0.3)
    assert {split: len(samples) for split, samples in more.splits.items()} == {"train": 100, "val": 100, "test": 20}
    for number in range(20):
        picture(tmp_path / f"eurosat/2750/Forest/{number}.jpg", 0)
    whole = open_source("eurosat", data_root=str(tmp_path))
    assert {split: len(samples) for split, samples in whole.splits.items()} == {"train": 14, "val": 2, "test": 4}


def imagenet(root: Path, classes: int = 1000, splits: tuple[str, ...] = ("train", "val")) -> Path:
    for split in splits:
        for number in range(classes):
            (root / split / f"n{number:08d}").mkdir(parents=True)
        picture(root / split / "n00000000/a.JPEG", 10)
        picture(root / split / f"n{classes - 1:08d}/b.JPEG", 20)
    return root


def test_imagenet_is_named_as_the_weights_are(tmp_path: Path) -> None:
    from torchvision.models import ResNet18_Weights

    imagenet(tmp_path / "imagenet")
    source = open_source("imagenet", data_root=str(tmp_path))
    assert source.classes == tuple(ResNet18_Weights.IMAGENET1K_V1.meta["categories"])
    assert list(source.splits) == ["train", "val"]
    assert not source.derived
    assert [(source.classes[s.label], s.path) for s in source.splits["val"]] == [
        ("tench", "val/n00000000/a.JPEG"),
        ("toilet tissue", "val/n00000999/b.JPEG"),
    ]
    assert int(np.asarray(source.read(source.splits["train"][1])).flat[0]) == 20
    direct = open_source("imagenet", data_root=str(tmp_path / "imagenet"))
    assert direct.splits == source.splits, "the root may be ImageNet's own folder"


def test_imagenet_alone_says_what_to_put_where(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match=rf"ILSVRC2012_img_train.tar.*train/WNID.*into {tmp_path}/imagenet"):
        open_source("imagenet", data_root=str(tmp_path))
    imagenet(tmp_path, 3)
    with pytest.raises(InputError, match=r"train has 3 class folders n01234567, not ImageNet's 1,000; .*--data"):
        open_source("imagenet", data_root=str(tmp_path))


def test_archives_of_imagenet_are_unpacked_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tarfile

    from cnncli.data import imagenet as ours

    monkeypatch.setattr(ours, "COUNT", 2)  # a thousand archives would take seconds
    place = tmp_path / "imagenet"
    imagenet(tmp_path / "made", 2, splits=("train",))
    place.mkdir()
    with tarfile.open(place / "ILSVRC2012_img_train.tar", "w") as outer:
        for folder in sorted((tmp_path / "made/train").iterdir()):
            with tarfile.open(tmp_path / "made" / f"{folder.name}.tar", "w") as inner:
                for image in folder.iterdir():
                    inner.add(image, image.name)
            outer.add(tmp_path / "made" / f"{folder.name}.tar", f"{folder.name}.tar")
    (place / "ILSVRC2012_img_val.tar").write_bytes(b"cut off")
    told: list[str] = []
    with pytest.raises(InputError, match=r"cannot unpack .*ILSVRC2012_img_val.tar"):
        open_source("imagenet", data_root=str(tmp_path), tell=told.append)
    assert sorted(path.name for path in place.iterdir()) == ["ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "train"]
    (place / "ILSVRC2012_img_val.tar").unlink()
    source = open_source("imagenet", data_root=str(tmp_path), val_fraction=0, tell=told.append)
    assert [s.path for s in source.splits["train"]] == ["train/n00000000/a.JPEG", "train/n00000001/b.JPEG"]
    assert sum("unpacking" in line for line in told) == 2


def test_cars_say_what_to_put_where(tmp_path: Path) -> None:
    from cnncli.data import retrieve

    with pytest.raises(EnvironmentFault, match=rf"cannot be downloaded; .*cars_train.*into {tmp_path}/stanford_cars"):
        retrieve.obtain("stanford-cars", NAMED["stanford-cars"], tmp_path, lambda *_: None, print)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


@pytest.mark.parametrize(
    ("name", "harm", "told"),
    [
        ("mnist", lambda root: cut(root / "MNIST/raw/train-images-idx3-ubyte"), "incomplete or damaged"),
        ("cifar10", lambda root: cut(root / "cifar-10-batches-py/data_batch_3"), "incomplete or damaged"),
        ("svhn", lambda root: cut(root / "test_32x32.mat"), "incomplete or damaged"),
        ("food101", lambda root: (root / "food-101/images/pho/3.jpg").unlink(), "1 of 1 files are absent, first .*pho/3.jpg"),
        ("food101", lambda root: (root / "food-101/meta/train.json").write_text("{"), "incomplete or damaged"),
    ],
)
def test_damage_is_named_with_what_to_do(name: str, harm: Callable[[Path], object], told: str, tmp_path: Path) -> None:
    LAYOUTS[name](tmp_path)
    harm(tmp_path)
    with pytest.raises(InputError, match=rf"{name} in {tmp_path} .*{told}.*; remove {tmp_path}/.*, then run this again") as caught:
        open_source(name, data_root=str(tmp_path))
    assert "\n" not in str(caught.value)


def test_sums_are_torchvisions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import utils

    monkeypatch.undo()
    LAYOUTS["cifar10"](tmp_path)
    with pytest.raises(InputError, match=r"cifar10 in .* is incomplete or damaged: Dataset not found or corrupted"):
        open_source("cifar10", data_root=str(tmp_path))
    assert utils.calculate_md5.__module__ == utils.__name__, "what was replaced for a while is back"


def test_the_default_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    LAYOUTS["usps"](tmp_path / "data")
    monkeypatch.setenv("CNN_CACHE", str(tmp_path))
    assert len(open_source("usps", val_fraction=0).samples("all")) == 2
    monkeypatch.chdir(tmp_path)
    assert len(open_source("usps", val_fraction=0, data_root="data").samples("all")) == 2


def test_a_mirrored_digit_is_none() -> None:
    assert {"digits", "mnist", "svhn", "emnist-letters", "gtsrb"} <= set(NEVER_MIRRORED)
    assert not {"cifar10", "fashion-mnist", "imagenet", "flowers102"} & set(NEVER_MIRRORED)


def test_listing_imports_nothing() -> None:
    code = "import sys, cnncli.data.named; print([m for m in ('torch', 'torchvision', 'numpy', 'PIL') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    assert list(SOURCES) == ["digits", *NAMED]
    assert all(known.about and "\n" not in known.about and len(known.about) < 80 for known in SOURCES.values())


def test_every_class_is_torchvisions() -> None:
    from torchvision import datasets

    for known in NAMED.values():
        assert issubclass(getattr(datasets, known.loader), datasets.VisionDataset)


def test_real_fashion_mnist(fashion_mnist_root: Path) -> None:
    source = open_source("fashion-mnist", data_root=str(fashion_mnist_root))
    assert source.classes[-1] == "Ankle boot"
    assert {split: source.counts(split) for split in source.splits} == {"train": (5400,) * 10, "val": (600,) * 10, "test": (1000,) * 10}
    raw = (fashion_mnist_root / "FashionMNIST/raw/t10k-images-idx3-ubyte.gz").read_bytes()
    first = np.frombuffer(gzip.decompress(raw), np.uint8, 28 * 28, offset=16).reshape(28, 28)
    np.testing.assert_array_equal(np.asarray(source.read(source.splits["test"][0])), first)


def test_real_cifar10(cifar10_root: Path) -> None:
    from torchvision.datasets import CIFAR10

    source = open_source("cifar10", data_root=str(cifar10_root))
    assert {split: source.counts(split) for split in source.splits} == {"train": (4500,) * 10, "val": (500,) * 10, "test": (1000,) * 10}
    theirs = CIFAR10(cifar10_root, train=True)
    for sample in source.splits["val"][::500]:
        image, label = theirs[int(Path(sample.path).stem)]
        assert sample.label == label
        np.testing.assert_array_equal(np.asarray(source.read(sample)), np.asarray(image))
