"""What torchvision knows of published weights: their address, their classes, how their images are prepared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from cnncli.arch.net import Net
from cnncli.data.preprocess import Preprocess
from cnncli.errors import UsageError
from cnncli.models.modelfile import ModelInfo
from cnncli.models.published import TWINS, version_of, word_for
from cnncli.models.resolve import Spec

FIRST_VERSION = "IMAGENET1K_V1"
# Models of torchvision whose weights were converted from TensorFlow: see the note in `published` on GoogLeNet.
CENTRES = {"googlenet": 0.5, "inception_v3": 0.5}


def entry(net: Net, version: str) -> Any:
    """The entry of torchvision for the published weights of this version: url, meta, transforms.

    `net` is one of TWINS (see `check_weights`). UsageError when the version does not exist, or when the net has another number of classes.
    """
    known = entries(net)
    if version not in known:
        words = " or ".join(f"--weights {word_for(name)}" for name in known)
        raise UsageError(f"torchvision has no weights {version} for {net.name}", words, path="--weights")
    outputs = len(known[version].meta["categories"])
    if net.classes != outputs:
        raise UsageError(f"the published weights of {net.name} have {outputs} outputs, not {net.classes}", "leave out --classes")
    return known[version]


def library_entry(name: str, version: str | None) -> Any:
    """The entry for the published weights of a model of torchvision; None asks for the newest, which torchvision calls DEFAULT.

    UsageError when there are none, or not this version.
    """
    from torchvision.models import get_model_weights

    members = get_model_weights(name).__members__
    if not members:
        raise UsageError(f"torchvision/{name} has no published weights", "give a file: --weights PATH", path=name)
    if version is None:
        return members["DEFAULT"]
    if version not in members:
        words = " or ".join(f"--weights {_word(one)}" for one in members if one != "DEFAULT")
        raise UsageError(f"torchvision has no weights {version} for {name}", words, path="--weights")
    return members[version]


def _word(version: str) -> str:
    return word_for(version) if version_of(word_for(version)) == version else version.lower()


def library_info(spec: Spec, published: Any, outputs: int) -> ModelInfo:
    """Classes and preprocessing of the entry `published` of a model of torchvision; classes are numbered where it has others."""
    names = unique_names(published.meta["categories"])
    centre = CENTRES.get(spec.name)
    preprocess = _centred(preprocess_of(published), centre)
    return ModelInfo(None, names if len(names) == outputs else numbers(outputs), preprocess, "ImageNet", spec=spec.text)


def info_of(net: Net, published: Any) -> ModelInfo:
    """Classes and preprocessing of `published`, an entry for the twin of `net`; classes are numbered where their number differs."""
    preprocess = _centred(preprocess_of(published), TWINS[net.name].centre)
    names = unique_names(published.meta["categories"])
    return ModelInfo(net, names if len(names) == net.classes else numbers(net.classes), preprocess, "ImageNet")


def info_of_file(net: Net, path: Path, tell: Callable[[str], None]) -> ModelInfo:
    """What a file of tensors does not say is taken from the published weights with its name, else from version 1; and told."""
    if net.name not in TWINS:
        tell(f"note: {path} holds tensors alone; assumed: classes 0, 1, ..., pixel values from -1 to 1")
        return ModelInfo(net, numbers(net.classes), Preprocess(*net.input))
    known = entries(net)
    published = next((found for found in known.values() if found.url.endswith(f"/{path.name}")), known[FIRST_VERSION])
    info = info_of(net, published)
    classes = "0, 1, ..." if info.classes == numbers(net.classes) else "those of ImageNet"
    tell(f"note: {path} holds tensors alone; assumed: classes {classes}, images prepared as for {published}")
    return info


def preprocess_of(published: Any) -> Preprocess:
    """The evaluation transform of published weights: resize, central crop, mean and standard deviation."""
    transform = published.transforms()
    (crop,), (resize,) = transform.crop_size, transform.resize_size
    return Preprocess(
        len(transform.mean),
        crop,
        crop,
        crop_fraction=crop / resize,
        interpolation=transform.interpolation.value,
        mean=tuple(transform.mean),
        std=tuple(transform.std),
    )


def unique_names(names: Iterable[str]) -> tuple[str, ...]:
    """Names that occur twice get their index: `crane (134)`. Older lists of ImageNet's classes have two cranes, bird and machine."""
    names = list(names)
    count = Counter(names)
    return tuple(f"{name} ({index})" if count[name] > 1 else name for index, name in enumerate(names))


def entries(net: Net) -> dict[str, Any]:
    """The entries of torchvision for the published weights of `net`, one of TWINS, by version, oldest first."""
    from torchvision.models import get_model_weights

    members = get_model_weights(TWINS[net.name].name).__members__
    return {name: members[name] for name in sorted(members) if version_of(word_for(name)) == name}


def _centred(preprocess: Preprocess, centre: float | None) -> Preprocess:
    return preprocess if centre is None else replace(preprocess, mean=(centre,) * 3, std=(centre,) * 3)


def numbers(count: int) -> tuple[str, ...]:
    """Classes without names: 0, 1, ..."""
    return tuple(map(str, range(count)))
