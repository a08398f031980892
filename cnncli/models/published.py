"""Which nets of the zoo have published weights, and what the word after --weights means. Nothing here needs torch.

File names, hashes, class names and preprocessing are torchvision's own and are taken from it when they are needed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cnncli.arch.zoo.table import ZOO
from cnncli.errors import InputError, UsageError, near_miss, printable
from cnncli.models.resolve import Spec

PUBLISHED = "imagenet"


@dataclass(frozen=True)
class Twin:
    """The net of torchvision that equals a net of the zoo.

    name: as `torchvision.models.get_model` knows it. arguments: what builds it with the layers that ours has.
    dropped: prefixes of tensors that its weights hold and evaluation does not use. centre: the mean and the standard
    deviation of every channel that the weights expect, where they are not those that torchvision's transforms apply.
    """

    name: str
    arguments: Mapping[str, object] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()
    centre: float | None = None


# GoogLeNet's weights were converted from TensorFlow, where an image is scaled to -1..1. torchvision normalises it with ImageNet's
# mean and deviation like all others, and its module undoes that when transform_input is set: x * 0.229 / 0.5 + (0.485 - 0.5) / 0.5
# for the first channel is (value - 0.5) / 0.5. Its auxiliary classifiers serve training alone.
_GOOGLENET = Twin("googlenet", {"aux_logits": False, "init_weights": False}, ("aux1.", "aux2."), centre=0.5)

TWINS: dict[str, Twin] = {
    "alexnet-owt": Twin("alexnet"),
    **{f"vgg{layers}": Twin(f"vgg{layers}") for layers in (11, 13, 16, 19)},
    **{f"vgg{layers}-bn": Twin(f"vgg{layers}_bn") for layers in (11, 13, 16, 19)},
    "googlenet": _GOOGLENET,
    **{f"resnet{layers}": Twin(f"resnet{layers}") for layers in (18, 34, 50, 101, 152)},
    **{f"densenet{layers}": Twin(f"densenet{layers}") for layers in (121, 169, 201)},
    "squeezenet1_1": Twin("squeezenet1_1"),
    "mobilenet_v2": Twin("mobilenet_v2"),
}

_ENTRY = re.compile(r"imagenet1k_[a-z0-9_]{1,40}", re.ASCII | re.IGNORECASE)
_VERSION = re.compile(r"imagenet(?:1k)?(?:[-_]v([0-9]{1,2}))?", re.ASCII | re.IGNORECASE)


def version_of(weights: str) -> str | None:
    """The published weights that --weights asks for, as torchvision calls them; None when the word is the path of a file.

    `imagenet` is IMAGENET1K_V1, the recipe of the paper, so that a net scores what its paper lets expect; `imagenet-v2` is
    torchvision's later recipe (longer training, more augmentation), where there is one.
    """
    found = _VERSION.fullmatch(weights)
    return f"IMAGENET1K_V{int(found[1] or 1)}" if found else None


def entry_of(weights: str) -> str | None:
    """As `version_of`, for models of torchvision itself, some of which have others: `imagenet1k_swag_e2e_v1`."""
    return version_of(weights) or (weights.upper() if _ENTRY.fullmatch(weights) else None)


def word_for(version: str) -> str:
    """The inverse of `version_of`: IMAGENET1K_V2 as `imagenet-v2`."""
    return version.lower().replace("imagenet1k_", f"{PUBLISHED}-")


def check_weights(spec: Spec, weights: str | None, classes: int | None = None) -> None:
    """Refuse what no weights can come from, before anything is loaded: UsageError, or InputError for a file that is absent."""
    if spec.kind == "file":
        for flag, given, own in (("--weights", weights, "weights"), ("--classes", classes, "classes")):
            if given is not None:
                raise UsageError(f"{spec.name} has its own {own}", f"leave out {flag}, or name a net of the zoo", path=flag)
        return
    if spec.library is not None:
        _check_library(spec, weights, classes)
        return
    if spec.kind == "python":
        _check_python(spec, weights, classes)
        return
    if spec.kind != "zoo" or spec.name not in ZOO:
        raise UsageError(f"{spec.text} {_why_not(spec)}", path=spec.text)
    if weights is None:
        published = f"--weights {PUBLISHED} takes the published ones, or " if spec.name in TWINS else ""
        raise UsageError(f"{spec.name} has no trained weights", f"{published}train it first: cnn train {spec.name}", path=spec.name)
    version = version_of(weights)
    if version is None:
        _check_file(weights)
    elif spec.name not in TWINS:
        raise UsageError(f"{spec.name} has no published weights", f"nets that have them: {', '.join(TWINS)}", path="--weights")
    else:
        _refuse_file_of_that_name(weights)


def check_adaptable(spec: Spec, weights: str | None) -> None:
    """Refuse what `adapt` cannot start from, before anything is loaded: UsageError, or InputError for a file that is absent or wrong."""
    if spec.kind == "file":
        if weights is not None:
            raise UsageError(f"{spec.name} has its own weights", "leave out --weights, or name a net", path="--weights")
        from cnncli.models.modelfile import read_info, refuse_python

        refuse_python(spec.path, read_info(spec.path), command="finetune")
    elif spec.library is not None:
        _check_library(spec, weights, None)
    elif spec.kind == "python":
        if not spec.text.isprintable():  # the model file will name it, and be refused with such a name
            raise UsageError(
                f"{printable(spec.text)} has characters that cannot be printed", "rename the file or its folder", path=spec.name
            )
        if weights is not None:
            _check_python(spec, weights, None)
    elif spec.kind != "zoo":
        raise UsageError(f"{spec.text} has no weights to start from", f'train it: cnn train "{spec.name}"', path=spec.text)
    elif weights is None or version_of(weights):
        if spec.name not in TWINS:
            hint = f"give a file of them, --weights PATH, or take a net that has them: {', '.join(TWINS)}"
            raise UsageError(f"{spec.name} has no published weights", hint, path=spec.name if weights is None else "--weights")
        if weights is not None:
            _refuse_file_of_that_name(weights)
    else:
        _check_file(weights)


def _check_python(spec: Spec, weights: str | None, classes: int | None) -> None:
    """As `check_weights`, for a model of a user's file, whose weights come with their classes in a model file, or with its code."""
    if weights is None:
        raise UsageError(
            f"{spec.text} has no trained weights that say their classes", "--weights FILE takes those of `cnn finetune`", path="--weights"
        )
    if classes is not None:
        raise UsageError(f"--weights {weights} has its own classes", "leave out --classes", path="--classes")
    if entry_of(weights):
        raise UsageError(f"{spec.text} has no published weights", "give a file: --weights PATH", path="--weights")
    _check_file(weights)


def _check_library(spec: Spec, weights: str | None, classes: int | None) -> None:
    """As `check_weights`, for a model of torchvision or timm; whether the model exists is asked when the library is there."""
    if weights is None:
        if classes is not None:
            raise UsageError(f"the published weights of {spec.text} have their own classes", "leave out --classes", path="--classes")
    elif spec.kind == "timm" and entry_of(weights):
        hint = f"leave out --weights for timm's own; its tags name others: timm/{spec.name.partition('.')[0]}.TAG"
        raise UsageError(f"--weights {weights} are torchvision's", hint, path="--weights")
    elif entry_of(weights):
        _refuse_file_of_that_name(weights)
    else:
        _check_file(weights)


def _refuse_file_of_that_name(weights: str) -> None:
    if Path(weights).exists():
        raise UsageError(f"--weights {weights} means published weights and is also a file here", f"write ./{weights} for the file")


def _why_not(spec: Spec) -> str:
    """Why a model of another kind cannot be run, and what can."""
    if spec.kind == "notation":
        return f'has no trained weights; train it first: cnn train "{spec.name}"'
    return "is only described, by `cnn shape`; name a trained model, or a net of the zoo with --weights"


def _check_file(weights: str) -> None:
    try:
        there = Path(weights).exists()
    except (OSError, ValueError):  # a name that is too long or holds a zero byte
        there = False
    if not weights or not there:
        near = near_miss(weights, [PUBLISHED, f"{PUBLISHED}-v2"]) if "/" not in weights else ""
        hint = near or f"give {PUBLISHED}, {PUBLISHED}-v2 or a .pth or .safetensors file"
        raise (UsageError if near else InputError)(f"no such weights file: {weights[:200]!r}", hint, path="--weights")
