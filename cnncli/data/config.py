"""What can be chosen about data, with flags: which images, and what is done to those that train."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from cnncli.settings import check, setting

DATA = "Data"
AUGMENTATION = "Augmentation"
DECODED_FIRST = 1000  # images, of those that are looked at once


def pixel_limit(panel: str) -> Any:
    """The setting `max_pixels`, of every configuration that says how images are read. panel: its heading in --help."""
    # The default is cnncli.data.decode.MAX_PIXELS, which says where it comes from; a test holds the two together.
    return setting(2**26, "An image with more pixels than this counts as unreadable.", panel=panel, low=1, high=2**40)


@dataclass(frozen=True)
class DataConfig:
    """How a source is read and split."""

    val_fraction: float | None = setting(
        None,
        "Share of each class for validation where the source has no such split (default: 0.2; data sets by name 0.1).",
        panel=DATA,
        low=0,
        high=0.9,
    )
    test_fraction: float | None = setting(
        None,
        "Share of each class for testing where the source has no such split (default: 0; data sets by name without splits 0.2).",
        panel=DATA,
        low=0,
        high=0.9,
    )
    subset: float | None = setting(
        None, "Keep this share of each class's training images, chosen by hash (default: all).", panel=DATA, low=1e-6, high=1
    )
    limit_per_class: int | None = setting(
        None, "Keep at most this many training images of each class, chosen by hash (default: all).", panel=DATA, low=1, high=2**31
    )
    data_root: str | None = setting(
        None, "Folder in which named data sets lie or are downloaded to (default: data, in the cache folder).", panel=DATA
    )
    bad_images: str = setting("skip", "What to do with images that cannot be read.", panel=DATA, choices=("skip", "error"))
    max_pixels: int = pixel_limit(DATA)
    background: str = setting("white", "Colour behind transparent pixels: a name, or #rrggbb.", panel=DATA)
    no_exif: bool = setting(False, "Leave images as they lie in the file, whatever their EXIF orientation says.", panel=DATA)
    store: str = setting(
        "auto",
        "Where decoded images are kept: memory, disk (a cache that runs share), or nowhere (stream: decoded anew each epoch).",
        panel=DATA,
        choices=("auto", "memory", "disk", "stream"),
    )
    cache_limit: float = setting(50.0, "GB that all caches of decoded images may take on the disk.", panel=DATA, low=0, high=1e6)
    workers: int | None = setting(None, "Threads that decode images (default: one a core, at most 8).", panel=DATA, low=1, high=256)
    strict: bool = setting(False, "Refuse data of which a validation or test image is also a training image.", panel=DATA)
    allow_empty: bool = setting(False, "Go on although a class folder holds no training image.", panel=DATA)
    include_hidden: bool = setting(False, "Take folders whose name begins with a dot as classes too.", panel=DATA)

    def __post_init__(self) -> None:
        check(self)

    def for_one_pass(self, images: int) -> DataConfig:
        """The same for so many images that are looked at once: by itself it decodes each of many when it is needed, so that no time passes
        before the first.
        """
        return replace(self, store="memory" if images <= DECODED_FIRST else "stream") if self.store == "auto" else self


@dataclass(frozen=True)
class AugmentConfig:
    """How training images are varied."""

    flip: bool | None = setting(
        None, "Mirror half of the training images left to right (default: yes, but not digits).", panel=AUGMENTATION
    )
    alternate_flip: bool = setting(
        False, "Flip each image in every second epoch instead of at random, which of them by its index.", panel=AUGMENTATION
    )
    shift: int | None = setting(
        None,
        "Shift training images by up to this many pixels each way (default: an eighth of the side; 0 with --crop-scale).",
        panel=AUGMENTATION,
        low=0,
        high=512,
    )
    reflect: bool = setting(
        False, "Fill what a shift uncovers with the image mirrored at its border, instead of its background.", panel=AUGMENTATION
    )
    crop_scale: float | None = setting(
        None,
        "Random resized crops: the least share of an image's area that is seen, 0.08 for ImageNet (default: 1, no crops).",
        panel=AUGMENTATION,
        low=0.01,
        high=1,
    )
    auto_augment: str = setting(
        "off",
        "Random operations on shape and colour: TrivialAugment or RandAugment.",
        panel=AUGMENTATION,
        choices=("off", "trivial", "rand"),
    )
    rand_ops: int = setting(2, "RandAugment: operations an image.", panel=AUGMENTATION, low=1, high=16)
    rand_magnitude: int = setting(9, "RandAugment: strength of each operation, 0 to 30.", panel=AUGMENTATION, low=0, high=30)
    jitter: float = setting(
        0.0,
        "Multiply brightness, contrast and saturation by 1 minus to 1 plus this, each at random; 0.4 is usual.",
        panel=AUGMENTATION,
        low=0,
        high=1,
    )
    hue: float = setting(0.0, "Turn hues by up to this share of the colour circle, either way.", panel=AUGMENTATION, low=0, high=0.5)
    erase: float = setting(
        0.0, "Share of the training images in which a random rectangle becomes noise; 0.25 is usual.", panel=AUGMENTATION, low=0, high=1
    )
    mixup: float = setting(
        0.0, "Mixup: alpha of the Beta distribution of an image's share, its partner taking the rest.", panel=AUGMENTATION, low=0, high=100
    )
    cutmix: float = setting(
        0.0,
        "CutMix: alpha of the Beta distribution of an image's share, a box of its partner taking the rest.",
        panel=AUGMENTATION,
        low=0,
        high=100,
    )

    def __post_init__(self) -> None:
        check(self)
