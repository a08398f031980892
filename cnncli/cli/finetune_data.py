"""What each stage of a finetuning learns from: images, or what its frozen part makes of them, computed before anything is trained."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnncli.data.config import AugmentConfig, DataConfig
from cnncli.errors import EnvironmentFault
from cnncli.reports.decoding import DecodingReport

if TYPE_CHECKING:
    from torch import nn

    from cnncli.cli.finetune import Tuning
    from cnncli.cli.train_settings import Settings
    from cnncli.cli.training_data import Images
    from cnncli.data.loader import Batches
    from cnncli.data.preprocess import Preprocess
    from cnncli.data.source import Source
    from cnncli.engine.config import TrainConfig
    from cnncli.engine.distributed import World
    from cnncli.transfer.chain import Cut, Structure
    from cnncli.transfer.kept import Kept
    from cnncli.transfer.plan import Stage

COMPUTED_AT_ONCE = 64  # images
UNEVEN = 2  # how many times the images of the rarest class the commonest has, from where on classes are weighed
SAMPLED = 4  # images, by which the size of features is known and a cut is checked


@dataclass(frozen=True)
class Photos:
    """The images of a finetuning. plain: as validation sees them. varied: as a stage without kept features trains on them."""

    plain: Images
    varied: Images


def read_photos(source: Source, preprocess: Preprocess, data_config: DataConfig, augment: AugmentConfig, *, vary: bool) -> Photos:
    """Decode the images. vary: whether variations are needed; without, both are plain."""
    from cnncli.cli.training_data import crops, read_images

    size = (preprocess.channels, preprocess.height, preprocess.width)
    still = replace(augment, crop_scale=1.0)
    if not vary or not crops(augment):
        images = read_images(source, size, data_config, still if not vary else augment, preprocess)
        return Photos(images, images)
    varied = read_images(source, size, data_config, augment, preprocess)
    plain = read_images(replace(source, splits={"train": source.splits["train"]}), size, data_config, still, preprocess)
    return Photos(replace(plain, source=source, val=varied.val), varied)


@dataclass(frozen=True)
class StageData:
    """kept: features of training and validation images; None where a stage learns from the images. how: says which, in a line."""

    kept: tuple[Kept, Kept | None] | None
    how: str

    def loaders(
        self, photos: Photos, settings: Settings, config: TrainConfig, world: World, batch_size: int
    ) -> tuple[Batches, Batches | None]:
        """Batches to train and to validate on: this process's part of them."""
        if self.kept is None:
            return photos.varied.loaders(config, settings.of(DataConfig), settings.keep, world, batch_size)
        from cnncli.transfer.kept import KeptLoader

        common: dict[str, Any] = {"batch_size": batch_size, "device": world.device, "rank": world.rank, "ranks": world.ranks}
        train, val = self.kept
        shuffled = KeptLoader(train, seed=config.seed, shuffle=True, balanced=config.sampling == "balanced", **common)
        return shuffled, None if val is None else KeptLoader(val, **common)


class Features:
    """Computes what frozen parts make of the images; once for stages that are cut at the same place."""

    def __init__(
        self, model: nn.Module, structure: Structure, photos: Photos, tuning: Tuning, world: World, tell: Callable[[str], None]
    ) -> None:
        self.tell, self.precision = tell, tuning.kept_in
        self.model, self.structure, self.photos = model, structure, photos
        self.settings, self.finetune, self.world = tuning.settings, tuning.finetune, world
        self._known: dict[str, StageData] = {}

    def of(self, stage: Stage) -> StageData:
        """What a stage learns from."""
        cut = stage.cut
        if cut is None or self.finetune.features == "off":
            return StageData(None, "")
        if cut.path not in self._known:
            self._known[cut.path] = self._computed(cut)
        return self._known[cut.path]

    def _computed(self, cut: Cut) -> StageData:
        import torch

        from cnncli.transfer.kept import bytes_needed, prefix_forward
        from cnncli.transfer.partial import Prefix, is_faithful

        plain, device = self.photos.plain, self.world.device
        example = self._loader(plain, "train")
        images = next(iter(example.epoch(1))).images
        if len(images) > 1 and not is_faithful(self.model, self.structure, cut, images[:SAMPLED]):
            return StageData(None, f"it cannot be cut before {cut.path}: all of it is computed in each epoch")
        prefix = Prefix(self.model, cut).eval()
        tried = None
        if self.precision is None:  # the clock decides, in one process for all, and once for a run that is resumed
            asked, count = self.settings.compute.precision, (2 if plain.augment.flip else 1) * self.finetune.views * len(plain.train)
            tried = prefix_forward(prefix, images, asked, device, count=count) if self.world.first else None
            self.precision = str(self.world.from_first(tried and tried.numbers.precision))
        forward = tried or prefix_forward(prefix, images, self.precision, device, count=0)
        with torch.no_grad():
            sample = forward(images[:1])
        mirror, views = bool(plain.augment.flip), self.finetune.views
        size = bytes_needed(sample, len(plain.train), views * (2 if mirror else 1)) + bytes_needed(sample, len(plain.val or ()), 1)
        where = self._place(size)
        if not where:
            told = f"what comes before {cut.path} would take {_bytes(size)}, which neither memory nor disk has room for"
            return StageData(None, f"{told}: it is computed in each epoch")
        folder = _made_folder(size) if where == "disk" else None

        def computed(split: str, views: int, *, mirror: bool) -> Kept:
            from cnncli.transfer.kept import compute

            varied = self._loader(self._variations(), split) if views > 1 else None
            with DecodingReport(f"computing features of {split} images") as report:
                return compute(
                    forward, self._loader(plain, split), varied, views=views, mirror=mirror, world=self.world, folder=folder,
                    on_progress=report.show,
                )  # fmt: skip

        train = computed("train", views, mirror=mirror)
        val = computed("val", 1, mirror=False) if plain.val is not None else None
        seconds = train.seconds + (val.seconds if val else 0.0)
        shown = f"{train.views} view{'s' if train.views > 1 else ''} of each image"
        how = f"computed once in {seconds:.1f} s ({forward.how}): {shown}, {_bytes(size)} {'on disk' if where == 'disk' else 'in memory'}"
        self.tell(f"what comes before {cut.path} is {how}")
        for flag in ("mixup", "cutmix"):
            if getattr(plain.augment, flag):
                self.tell(f"note: --{flag} mixes images, and not features that are kept; --features off has it")
        return StageData((train, val), how)

    def _place(self, size: int) -> str:
        from cnncli.transfer.kept import room_for

        asked = self.finetune.features
        if asked in ("memory", "disk"):
            return asked
        return str(self.world.from_first(room_for(size, _features_folder()) if self.world.first else None))

    def _variations(self) -> Images:
        """Mirror images are made beside them, and what mixes images has no place where each is computed alone."""
        images = self.photos.varied
        return replace(images, augment=replace(images.augment, flip=False, alternate_flip=False, mixup=0.0, cutmix=0.0))

    def _loader(self, images: Images, split: str) -> Any:
        from cnncli.cli.training_data import augmentation
        from cnncli.data.shards.either import open_loader

        pixels = images.train if split == "train" else images.val
        assert pixels is not None
        vary = images is not self.photos.plain
        return open_loader(
            pixels,
            images.preprocess,
            batch_size=max(COMPUTED_AT_ONCE, self.world.ranks),
            seed=self.settings.train.seed,
            augment=augmentation(images.augment, images.looked_at) if vary else None,
            device=self.world.device,
            threads=self.settings.of(DataConfig).workers,
            rank=self.world.rank,
            ranks=self.world.ranks,
            stall=self.settings.keep.stall_timeout,
        )


def _features_folder() -> Path | None:
    from cnncli.cache_folder import cache_folder

    folder = cache_folder()
    return None if folder is None else folder / "features"


def _made_folder(size: int) -> Path:
    """Where features of so many bytes are kept on disk. EnvironmentFault where they cannot be: a file that is mapped may not fail later."""
    folder, hint = _features_folder(), "set CNN_CACHE, or use --features memory"
    if folder is None:
        raise EnvironmentFault("there is no home folder to keep features in", hint, path="--features")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise EnvironmentFault(f"features cannot be kept in {folder}: {error.strerror}", hint, path=str(folder)) from None
    if size > free:
        raise EnvironmentFault(f"features need {_bytes(size)} in {folder}, where {_bytes(free)} are free", hint, path=str(folder))
    return folder


def _bytes(size: float) -> str:
    return f"{size / 2**30:.1f} GB" if size >= 2**30 else f"{size / 2**20:.1f} MB"


def mannered(source: Source, settings: Settings, given: dict[str, Any], tell: Callable[[str], None]) -> Settings:
    """Settings for few and uneven images, where nothing else was asked for; what is unusual about the images is told."""
    counts = dict(zip(source.classes, source.counts("train"), strict=True))
    lonely = [name for name, count in counts.items() if count == 1]
    if lonely:
        which = f"class {lonely[0]} has" if len(lonely) == 1 else f"{len(lonely)} classes, such as {lonely[0]}, have"
        tell(f"note: {which} one image to train on")
    if source.splits.get("val"):
        missing = [name for name, count in zip(source.classes, source.counts("val"), strict=True) if not count]
        if missing:
            tell(f"note: no validation image of {len(missing)} of {len(counts)} classes: {', '.join(missing[:5])}")
    present = {name: count for name, count in counts.items() if count}
    least, most = min(present, key=lambda name: present[name]), max(present, key=lambda name: present[name])
    asked = {"class_weights", "sampling"} & given.keys()
    if present[most] < UNEVEN * present[least] or asked:
        return settings
    tell(
        f"note: class {most} has {present[most]} training images and {least} {present[least]}: the loss is weighed by class, and the best "
        "epoch is that of the best balanced accuracy (--class-weights none: neither)"
    )
    values = {"class_weights": "balanced"} | ({} if "monitor" in given else {"monitor": "val_balanced_accuracy"})
    return replace(settings, values=settings.values | values)


def settled_augment(augment: AugmentConfig, size: tuple[int, int, int]) -> AugmentConfig:
    """Random crops for photos, shifts for small images, where neither was asked for."""
    from cnncli.transfer.config import CROP_SCALE, CROPS_FROM

    values = asdict(augment)
    if values["crop_scale"] is None and values["shift"] is None and min(size[1:]) >= CROPS_FROM:
        return replace(augment, crop_scale=CROP_SCALE)
    return augment
