"""The data sets that are opened by name: those that torchvision knows, as a table. Listing them imports nothing.

To add one: a row in NAMED, a reader in `cnncli.data.readers` if none fits, and its layout on the disk in tests/data/test_named.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

VAL_FRACTION = 0.1  # of train, where a set has no validation split of its own
TEST_FRACTION = 0.2  # of a set that has no splits at all


@dataclass(frozen=True)
class NamedSet:
    """One data set.

    about: one line for listings.
    loader: its class in torchvision.datasets.
    splits: each split it has, under our name, as the arguments that make the class read it.
    reader: how the images and labels are taken from the class; see `cnncli.data.readers`.
    places: what lies below the data root when it is there, and not before; the first is its folder or file.
    megabytes: size of the download. 0: it cannot be downloaded, and `by_hand` says what to put into the data root.
    classes: names in the order of the labels, where the class in torchvision has none, or others than we want.
    first_label: the label of the first class.
    mirrored: whether an image mirrored left to right is still one of its class.
    arguments: further arguments of the class, the same for every split.
    addresses: (beginning of an address in torchvision, what to put in its place), where that server speaks no https.
    """

    about: str
    loader: str
    splits: dict[str, dict[str, Any]]
    reader: str
    places: tuple[str, ...]
    megabytes: int
    by_hand: str = ""
    classes: tuple[str, ...] = ()
    first_label: int = 0
    mirrored: bool = True
    addresses: tuple[str, str] | None = None
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def test_fraction(self) -> float:
        """The share for testing when none is asked for: none where there is a test split, or at least a validation split."""
        return TEST_FRACTION if list(self.splits) == ["train"] else 0.0

    def is_here(self, root: Path) -> bool:
        """Whether all its places are there below the data root."""
        return all((root / place).exists() for place in self.places)


DIGITS = tuple("0123456789")
LETTERS = "abcdefghijklmnopqrstuvwxyz"
STL10 = (
    "airplane",
    "bird",
    "car",
    "cat",
    "deer",
    "dog",
    "horse",
    "monkey",
    "ship",
    "truck",
)  # the order of its labels (its class_names.txt)

# In the order of the class numbers; the files themselves name the classes 00000 to 00042.
TRAFFIC_SIGNS = (
    *(f"speed limit {limit}" for limit in (20, 30, 50, 60, 70, 80)),
    *("end of speed limit 80", "speed limit 100", "speed limit 120", "no passing", "no passing for trucks"),
    *("right of way at the next intersection", "priority road", "yield", "stop", "no vehicles", "no trucks", "no entry"),
    *("danger", "dangerous curve left", "dangerous curve right", "double curve", "bumpy road", "slippery road"),
    *("road narrows on the right", "road work", "traffic signals", "pedestrians", "children crossing", "bicycles crossing"),
    *("ice or snow", "wild animals crossing", "end of all limits", "turn right ahead", "turn left ahead", "ahead only"),
    *("straight ahead or right", "straight ahead or left", "keep right", "keep left", "roundabout", "end of no passing"),
    "end of no passing for trucks",
)

_BY_TRAIN: dict[str, dict[str, Any]] = {"train": {"train": True}, "test": {"train": False}}
_TWO: dict[str, dict[str, Any]] = {"train": {"split": "train"}, "test": {"split": "test"}}
_THREE: dict[str, dict[str, Any]] = {"train": {"split": "train"}, "val": {"split": "val"}, "test": {"split": "test"}}
_TRAIN_VAL: dict[str, dict[str, Any]] = {"train": {"split": "train"}, "val": {"split": "val"}}
_WHOLE: dict[str, dict[str, Any]] = {"train": {}}


def _idx(about: str, loader: str, megabytes: int, **more: Any) -> NamedSet:
    """A set in MNIST's file format."""
    parts = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    return NamedSet(about, loader, _BY_TRAIN, "grey", tuple(f"{loader}/raw/{part}-ubyte" for part in parts), megabytes, **more)


def _emnist(part: str, about: str, classes: tuple[str, ...], first_label: int = 0) -> NamedSet:
    files = (f"emnist-{part}-{split}-{kind}-ubyte" for split in ("train", "test") for kind in ("images-idx3", "labels-idx1"))
    places = tuple(f"EMNIST/raw/{file}" for file in files)
    more: dict[str, Any] = {"classes": classes, "first_label": first_label, "mirrored": False, "arguments": {"split": part}}
    return NamedSet(f"{about}, 28x28 grey", "EMNIST", _BY_TRAIN, "grey sideways", places, 562, **more)


def _imagenette(about: str, size: str, folder: str, megabytes: int) -> NamedSet:
    places = (f"{folder}/train", f"{folder}/val")
    return NamedSet(about, "Imagenette", _TRAIN_VAL, "paths", places, megabytes, arguments={"size": size})


_DIGITS: dict[str, Any] = {"classes": DIGITS, "mirrored": False}
_CASES = (*DIGITS, *LETTERS.upper(), *LETTERS)
# Where a capital looks like its small letter, the two are one class (Cohen et al. 2017, "EMNIST").
_MERGED = tuple(name for name in _CASES if name not in "cijklmopsuvwxyz")
_PETS = {"train": {"split": "trainval"}, "test": {"split": "test"}}
_COUNTRIES = _THREE | {"val": {"split": "valid"}}
# Zalando's own repository: the address in torchvision cannot be reached through https.
_ZALANDO = (
    "https://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
)


def _in(folder: str, *places: str) -> tuple[str, ...]:
    return tuple(f"{folder}/{place}" for place in places)


_QMNIST = _in("QMNIST/raw", *(f"qmnist-{part}-{kind}" for part in ("train", "test") for kind in ("images-idx3-ubyte", "labels-idx2-int")))
_FLOWERS = _in("flowers-102", "jpg", "imagelabels.mat", "setid.mat")
_SIGNS = _in("gtsrb", "GTSRB/Training", "GTSRB/Final_Test/Images", "GT-final_test.csv")
_CARS = ("devkit/cars_meta.mat", "devkit/cars_train_annos.mat", "cars_train", "cars_test", "cars_test_annos_withlabels.mat")
_NO_CARS = f"its address is gone; where you have the files, put {', '.join(_CARS)} into {{root}}/stanford_cars"
_NO_IMAGENET = (
    "fetch it from https://image-net.org/download yourself and put ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and "
    "ILSVRC2012_devkit_t12.tar.gz, or the folders train/WNID and val/WNID, into {root}/imagenet"
)

NAMED: dict[str, NamedSet] = {
    "mnist": _idx("70,000 handwritten digits, 28x28 grey", "MNIST", 12, **_DIGITS),
    "fashion-mnist": _idx("70,000 pictures of clothes in 10 classes, 28x28 grey", "FashionMNIST", 31, addresses=_ZALANDO),
    "kmnist": _idx("70,000 cursive Japanese characters in 10 classes, 28x28 grey", "KMNIST", 21, mirrored=False),
    "qmnist": NamedSet("MNIST's digits with 60,000 test images, 28x28 grey", "QMNIST", _BY_TRAIN, "grey", _QMNIST, 20, **_DIGITS),
    "emnist-letters": _emnist("letters", "145,600 handwritten letters in 26 classes", tuple(LETTERS), 1),
    "emnist-balanced": _emnist("balanced", "131,600 handwritten letters and digits in 47 classes", _MERGED),
    "emnist-digits": _emnist("digits", "280,000 handwritten digits", DIGITS),
    "emnist-byclass": _emnist("byclass", "814,255 handwritten letters and digits in 62 classes", _CASES),
    "emnist-bymerge": _emnist("bymerge", "814,255 handwritten letters and digits in 47 classes", _MERGED),
    "usps": NamedSet("9,298 digits of envelopes, 16x16 grey", "USPS", _BY_TRAIN, "grey", ("usps.bz2", "usps.t.bz2"), 8, **_DIGITS),
    "semeion": NamedSet("1,593 handwritten digits, 16x16 grey", "SEMEION", _WHOLE, "grey", ("semeion.data",), 3, **_DIGITS),
    "cifar10": NamedSet(
        "60,000 photos in 10 classes, 32x32", "CIFAR10", _BY_TRAIN, "colour", _in("cifar-10-batches-py", "data_batch_1", "test_batch"), 170
    ),
    "cifar100": NamedSet(
        "60,000 photos in 100 classes, 32x32", "CIFAR100", _BY_TRAIN, "colour", _in("cifar-100-python", "train", "test"), 169
    ),
    "svhn": NamedSet(
        "99,289 digits of house numbers, 32x32", "SVHN", _TWO, "planes", ("train_32x32.mat", "test_32x32.mat"), 246, **_DIGITS
    ),
    "stl10": NamedSet(
        "13,000 photos in 10 classes, 96x96", "STL10", _TWO, "planes", _in("stl10_binary", "train_X.bin", "test_X.bin"), 2640, classes=STL10
    ),
    "flowers102": NamedSet("8,189 photos of 102 flowers", "Flowers102", _THREE, "paths", _FLOWERS, 345),
    "oxford-pets": NamedSet(
        "7,349 photos of 37 breeds of cats and dogs", "OxfordIIITPet", _PETS, "pets", _in("oxford-iiit-pet", "images", "annotations"), 811
    ),
    "food101": NamedSet("101,000 photos of 101 dishes", "Food101", _TWO, "paths", _in("food-101", "images", "meta"), 4996),
    "caltech101": NamedSet("8,677 photos in 101 classes", "Caltech101", _WHOLE, "caltech", ("caltech101/101_ObjectCategories",), 137),
    "caltech256": NamedSet("30,607 photos in 257 classes", "Caltech256", _WHOLE, "caltech", ("caltech256/256_ObjectCategories",), 1183),
    "dtd": NamedSet("5,640 photos of textures in 47 classes", "DTD", _THREE, "paths", ("dtd/dtd",), 625),
    "eurosat": NamedSet("27,000 satellite images in 10 classes, 64x64", "EuroSAT", _WHOLE, "paths", ("eurosat/2750",), 94),
    "gtsrb": NamedSet(
        "39,270 photos of 43 German traffic signs", "GTSRB", _TWO, "signs", _SIGNS, 277, classes=TRAFFIC_SIGNS, mirrored=False
    ),
    "stanford-cars": NamedSet(
        "16,185 photos of 196 cars", "StanfordCars", _TWO, "paths", _in("stanford_cars", *_CARS), 0, by_hand=_NO_CARS
    ),
    "fgvc-aircraft": NamedSet("10,000 photos of 100 aircraft", "FGVCAircraft", _THREE, "paths", ("fgvc-aircraft-2013b/data",), 2753),
    "country211": NamedSet(
        "63,300 photos from 211 countries", "Country211", _COUNTRIES, "paths", _in("country211", "train", "valid", "test"), 11100
    ),
    "sun397": NamedSet("108,754 photos of 397 kinds of places", "SUN397", _WHOLE, "paths", ("SUN397/ClassName.txt",), 39100),
    "imagenette": _imagenette("13,394 photos in 10 classes of ImageNet", "full", "imagenette2", 1557),
    "imagenette-320": _imagenette("imagenette with the shorter side at 320 pixels", "320px", "imagenette2-320", 342),
    "imagenette-160": _imagenette("imagenette with the shorter side at 160 pixels", "160px", "imagenette2-160", 99),
    "imagenet": NamedSet(
        "1,331,167 photos in 1,000 classes (ILSVRC 2012)",
        "ImageNet",
        _TRAIN_VAL,
        "",
        _in("imagenet", "train", "val"),
        0,
        by_hand=_NO_IMAGENET,
    ),
}

# A mirrored digit is another sign or none. Every other source, folders too, is taken for photos.
NEVER_MIRRORED = ("digits", *(name for name, known in NAMED.items() if not known.mirrored))
