"""The images that a command trains on: read, split, varied, and handed out in batches. `train` and its kin share it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnncli.data.config import AugmentConfig, DataConfig
from cnncli.data.named import NEVER_MIRRORED
from cnncli.errors import InputError, printable
from cnncli.reports.terminal import talk

if TYPE_CHECKING:
    import torch

    from cnncli.data.augment import Augment
    from cnncli.data.held import Held
    from cnncli.data.loader import Batches
    from cnncli.data.preprocess import Preprocess
    from cnncli.data.shards.remote import RemoteShards
    from cnncli.data.shards.stream import ShardStream
    from cnncli.data.source import Source
    from cnncli.engine.config import KeepConfig, TrainConfig
    from cnncli.engine.distributed import World

MOST_COMPARED = 200_000  # images that are looked through for leaks before each training, some seconds; `cnn data` looks through any number
MIDDLE = 0.875  # 224 of 256, as in Krizhevsky et al. 2012 and since
SHIFT_SHARE = 8  # 4 pixels for 32: the padding of He et al. 2015, section 4.2


@dataclass(frozen=True)
class Images:
    """The images of a source for a net: those to train on and, where there are any, to validate on; and how they become inputs.

    looked_at: some of the training images, uint8 [N, C, H, W], for statistics.
    """

    source: Source | RemoteShards
    train: Held | ShardStream
    val: Held | ShardStream | None
    preprocess: Preprocess
    augment: AugmentConfig
    looked_at: torch.Tensor

    def bad(self) -> list[str]:
        """A line for each image that was left out so far."""
        return [error.message for pixels in (self.train, self.val) if pixels for error in pixels.bad]

    def paths(self, indices: list[int]) -> list[str]:
        """Which training images these are; their numbers where they have no names."""
        samples = getattr(self.train, "samples", None)
        return [samples[index].path if samples else f"training image {index}" for index in indices]

    def facts(self) -> dict[str, Any]:
        """What a resumed run compares, so as not to go on with other images."""
        from cnncli.data.fingerprint import fingerprint

        splits = {"train": self.train, "val": self.val}
        return {"classes": list(self.source.classes)} | {name: fingerprint(pixels) for name, pixels in splits.items() if pixels}

    def loaders(
        self, config: TrainConfig, data_config: DataConfig, keep: KeepConfig, world: World, batch_size: int
    ) -> tuple[Batches, Batches | None]:
        """Batches to train and to validate on: this process's part of them."""
        from cnncli.data.shards.either import open_loader

        common: dict[str, Any] = {"batch_size": batch_size, "device": world.device, "threads": data_config.workers}
        common |= {"rank": world.rank, "ranks": world.ranks, "stall": keep.stall_timeout}
        train = open_loader(
            self.train,
            self.preprocess,
            seed=config.seed,
            augment=augmentation(self.augment, self.looked_at),
            shuffle=True,
            balanced=config.sampling == "balanced",
            **common,
        )
        return train, open_loader(self.val, self.preprocess, **common) if self.val else None


def read_images(
    source: Source | RemoteShards,
    size: tuple[int, int, int],
    data_config: DataConfig,
    augment_config: AugmentConfig,
    preprocess: Preprocess | None = None,
) -> Images:
    """Decode the training and validation images, and measure them.

    size: (channels, height, width) of the net's input. preprocess: what happens to them, where it is not the data that say so.
    """
    from cnncli.data.preprocess import Preprocess, background_of, measure
    from cnncli.data.shards.either import open_images
    from cnncli.reports.decoding import DecodingReport

    augment = chosen_augment(augment_config, source.name, size)
    background = background_of(data_config.background)
    # Random crops show things larger than they are in whole images; the middle of a validation image does so, too.
    share = MIDDLE if crops(augment) else 1.0
    form = preprocess or Preprocess(*size, share, background=background, exif=not data_config.no_exif)

    def opened(split: str, *, whole: bool) -> Held | ShardStream:
        with DecodingReport(f"decoding {split} images") as report:
            return open_images(source, split, form, data_config, whole=whole, tell=talk, on_progress=report.show)

    train = opened("train", whole=crops(augment))
    val = opened("val", whole=False) if source.splits.get("val") else None
    looked_at = train.some()
    if preprocess is None:
        mean, std = measure(looked_at)
        form = replace(form, mean=mean, std=std)
    return Images(source, train, val, form, augment, looked_at)


def tell_leaks(source: Source | RemoteShards, *, strict: bool) -> None:
    """Say which images are in train and in another split too, byte for byte; with `strict` an InputError."""
    from cnncli.data.duplicates import leaks
    from cnncli.data.source import Source

    if not isinstance(source, Source):
        return  # what is streamed is not compared with itself
    samples = source.samples("all")
    # Sets that come as arrays have their publishers' splits, which nobody here can mend; hashing CIFAR-10 took 6 s.
    if not samples or len(samples) > MOST_COMPARED or not isinstance(source.locate(samples[0]), Path | bytes):
        return
    found = leaks(source)
    if not found:
        return
    one, split, other = found[0]
    message = f"{len(found)} image{'s' if len(found) > 1 else ''} of {printable(source.name)} for training also in another split:"
    message += f" {printable(one.path)} is {printable(other.path)} of {split}"
    hint = "`cnn data SOURCE --fix clean.csv` writes a list without them"
    if strict:
        raise InputError(message, hint, path=source.name)
    talk(f"warning: {message}; {hint}")


def crops(config: AugmentConfig) -> bool:
    """Whether training images are random crops of whole ones."""
    return config.crop_scale not in (None, 1)


def chosen_augment(config: AugmentConfig, source: str, size: tuple[int, int, int]) -> AugmentConfig:
    """The augmentation with its defaults filled in for this source and input size."""
    flip = config.alternate_flip or source not in NEVER_MIRRORED if config.flip is None else config.flip
    crop_scale = 1.0 if config.crop_scale is None else config.crop_scale
    # A random crop moves what it shows, so that a shift would add nothing.
    shift = (0 if crop_scale < 1 else min(size[1:]) // SHIFT_SHARE) if config.shift is None else config.shift
    return replace(config, flip=flip, shift=shift, crop_scale=crop_scale)


def augmentation(config: AugmentConfig, images: torch.Tensor) -> Augment:
    """What varies images; what a shift uncovers is filled with the usual border of `images`, uint8 [N, C, H, W]."""
    from cnncli.data.augment import Augment, usual_border

    chosen = {name: value for name, value in asdict(config).items() if value is not None}
    return Augment(**chosen, fill=usual_border(images))
