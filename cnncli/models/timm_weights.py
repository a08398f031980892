"""What timm knows of published weights: where they are, their classes, how their images are prepared; and the model with them."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from cnncli.data.preprocess import Preprocess
from cnncli.data.wnids import imagenet_names
from cnncli.errors import InputError, UsageError
from cnncli.models.checkpoint import read_checkpoint
from cnncli.models.download import cached, fetch
from cnncli.models.hub import cached_file, hub_file
from cnncli.models.imagenet import numbers, unique_names
from cnncli.models.modelfile import ModelInfo
from cnncli.models.sources import check_classifier

if TYPE_CHECKING:
    from cnncli.models.resolve import Spec

Tell = Callable[[str], None]

# What a repository on the hub calls its weights, safest first; and what stands in for each other name that timm gives.
HUB_NAMES = ("model.safetensors", "pytorch_model.bin")
SAFE_NAMES = {"open_clip_pytorch_model.bin": "open_clip_model.safetensors"}
CLOSEST = {"lanczos": "bicubic", "hamming": "bilinear", "box": "bilinear", "nearest": "bilinear", "random": "bilinear"}  # by their width
SUBSETS = {11221: "imagenet-21k-miil", 11821: "imagenet-12k", 21841: "imagenet-22k", 21842: "imagenet-22k-ms", 21843: "imagenet-21k-goog"}


def open_timm(spec: Spec, tell: Tell) -> tuple[nn.Module, ModelInfo]:
    """The model with the weights that timm publishes under its name, loaded by timm's own code, and what is known of it.

    UsageError for a model that does not exist, gives no classes, or has no published weights; EnvironmentFault without a network.
    """
    check_classifier("timm", spec.name)
    settings = _settings(spec)
    info = timm_info(spec, None, tell)
    path, place = _file(spec, settings, tell)
    tell(f"weights of {info.spec}: {place}")
    return _loaded(spec, read_checkpoint(path, tell), path), info


def timm_info(spec: Spec, classes: int | None, tell: Tell) -> ModelInfo:
    """Classes and preprocessing of timm's weights of this name; classes are numbered where the model has another number of them."""
    settings = _settings(spec)
    preprocess, notes = preprocess_of(settings)
    for note in notes:
        tell(f"note: {spec.text}: {note}")
    outputs = classes or settings.num_classes
    names, data = _names(settings.num_classes)
    known = len(names) == outputs
    tag = f".{settings.tag}" if settings.tag and "." not in spec.name else ""
    return ModelInfo(None, names if known else numbers(outputs), preprocess, data, spec=f"{spec.text}{tag}")


def preprocess_of(settings: Any) -> tuple[Preprocess, list[str]]:
    """The preprocessing that timm evaluates with, and what of it cannot be done here, a line each."""
    data: Any = import_module("timm.data")
    how, notes = data.resolve_data_config({}, pretrained_cfg=settings.to_dict()), []
    channels, height, width = how["input_size"]
    interpolation = how["interpolation"]
    if interpolation not in ("bilinear", "bicubic"):
        notes.append(f"timm resizes with {interpolation}; here with {CLOSEST.get(interpolation, 'bicubic')}")
        interpolation = CLOSEST.get(interpolation, "bicubic")
    scaled = math.floor(height / how["crop_pct"])
    squashed = how["crop_mode"] == "squash"
    if squashed and scaled != height:
        notes.append(f"timm squashes images to {scaled} pixels and cuts {height} out; here they are squashed to {height}")
    if how["crop_mode"] == "border":
        notes.append("timm pads images to a square; here what sticks out is cut off")
    made = Preprocess(
        channels,
        height,
        width,
        crop_fraction=1.0 if squashed else height / scaled,
        resize="stretch" if squashed else "crop",
        interpolation=interpolation,
        mean=tuple(how["mean"]),
        std=tuple(how["std"]),
    )
    return made, notes


def _settings(spec: Spec) -> Any:
    """The PretrainedCfg of this name. UsageError where it has none with classes, as for a model without published weights."""
    import timm

    settings = timm.get_pretrained_cfg(spec.name)
    if settings is None:
        raise UsageError(f"{spec.text} has no published weights", "name one that has: timm/resnet50", path=spec.text)
    return settings


def _names(outputs: int) -> tuple[tuple[str, ...], str]:
    """The names of this many classes, and the data that has them; no name for a number that no data set of timm's has."""
    if outputs == len(imagenet_names()):
        return tuple(imagenet_names().values()), "ImageNet"
    if outputs not in SUBSETS:
        return (), ""
    data: Any = import_module("timm.data")
    return unique_names(data.ImageNetInfo(SUBSETS[outputs]).label_descriptions()), SUBSETS[outputs]


def _file(spec: Spec, settings: Any, tell: Tell) -> tuple[Path, str]:
    """The file of the weights and where it comes from: what is cached before what is not, a plain address before the hub."""
    address = settings.url if isinstance(settings.url, str) and settings.url.startswith("https://") and not settings.custom_load else ""
    hub, name = settings.hf_hub_id or "", settings.hf_hub_filename
    names = tuple(dict.fromkeys((SAFE_NAMES.get(name, name), name))) if name else HUB_NAMES
    if not address and not hub:
        import timm

        others = timm.list_pretrained(f"{spec.name.partition('.')[0]}*")[:3]
        hint = f"models that have them: {', '.join(f'timm/{other}' for other in others)}" if others else "give a file: --weights PATH"
        raise UsageError(f"{spec.text} has no published weights", hint, path=spec.text)
    if settings.custom_load == "hf":
        raise UsageError(f"{spec.text} has weights that only timm itself can convert", "name another of timm's models", path=spec.text)
    in_hub_cache = bool(hub) and any(cached_file(hub, one) for one in names)
    if address and (cached(address).is_file() or not in_hub_cache):
        return fetch(address, tell), address
    return hub_file(hub, names, tell), f"https://huggingface.co/{hub}"


def _loaded(spec: Spec, tensors: dict[str, Tensor], path: Path) -> nn.Module:
    """The module of timm with these tensors, put into it by timm's own code, which knows how older files name them.

    InputError when a tensor is missing or does not fit: some of timm's models leave those that are missing as they were drawn.
    """
    import timm

    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]), _complaints() as told:
        warnings.simplefilter("ignore")
        try:
            # Without custom_load, which is about files in formats other than torch's.
            overlay = {"state_dict": tensors, "custom_load": False}
            model: nn.Module = timm.create_model(spec.name, pretrained=True, pretrained_cfg_overlay=overlay)
        except (RuntimeError, KeyError, ValueError, AttributeError) as error:
            words = " ".join(str(error).split())[:300]
            raise InputError(
                f"{path} does not fit {spec.text}: {words}", "remove that file, then run this again", path=str(path)
            ) from error
    if told:
        raise InputError(f"{path} does not fit {spec.text}: {told[0][:300]}", "remove that file, then run this again", path=str(path))
    getattr(model, "pretrained_cfg", {}).pop("state_dict", None)  # else the model would keep the tensors a second time
    return model


@contextmanager
def _complaints() -> Iterator[list[str]]:
    """What timm logs of tensors that are missing, with its log kept from the terminal."""
    told: list[str] = []

    class Listen(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "issing keys" in record.getMessage():
                told.append(" ".join(record.getMessage().split()))

    logger, listener = logging.getLogger("timm.models._builder"), Listen()
    level, passes_on = logger.level, logger.propagate
    logger.addHandler(listener)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield told
    finally:
        logger.removeHandler(listener)
        logger.setLevel(level)
        logger.propagate = passes_on
