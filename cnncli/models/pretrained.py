"""Models of torchvision and timm with weights: those that the library publishes, or those of a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from cnncli.errors import UsageError
from cnncli.models.checkpoint import read_checkpoint
from cnncli.models.download import fetch
from cnncli.models.fitting import current_name, fitted, outputs_in
from cnncli.models.head import find_head
from cnncli.models.imagenet import library_entry, library_info
from cnncli.models.modelfile import ModelInfo
from cnncli.models.published import entry_of
from cnncli.models.sources import Made, check_classifier, make, with_weights
from cnncli.models.timm_weights import open_timm, timm_info

if TYPE_CHECKING:
    from cnncli.models.resolve import Spec

Tell = Callable[[str], None]

OTHER = 977  # a number of classes that no published model has, and no other size in one

# Prefixes of the auxiliary classifiers, which serve training alone.
DROPPED = {"googlenet": ("aux1.", "aux2."), "inception_v3": ("AuxLogits.",)}


def open_library(spec: Spec, weights: str | None, *, classes: int | None, device: str, tell: Tell) -> tuple[nn.Module, ModelInfo]:
    """The model of a library in evaluation mode on `device`, and what is known of it; see `check_weights`.

    weights: None for what the library publishes as its default, a word such as `imagenet-v2` for other weights of torchvision, else
    the path of a file, of which every tensor must fit. classes: how many outputs the file has. tell: receives each line of talk.
    UsageError when model or weights do not exist, InputError when a file does not hold this model, EnvironmentFault without a network
    or the library.
    """
    if weights is not None and entry_of(weights) is None:
        model, info = _from_file(spec, Path(weights), classes, tell)
    elif spec.library == "timm":
        model, info = open_timm(spec, tell)
    else:
        model, info = _from_torchvision(spec, weights, classes, tell)
    return model.to(device).eval(), info


def _from_torchvision(spec: Spec, weights: str | None, classes: int | None, tell: Tell) -> tuple[nn.Module, ModelInfo]:
    check_classifier("torchvision", spec.name)
    published = library_entry(spec.name, weights and entry_of(weights))
    outputs = len(published.meta["categories"])
    if classes not in (None, outputs):
        raise UsageError(f"the published weights of {spec.text} have {outputs} outputs, not {classes}", "leave out --classes")
    info = library_info(spec, published, outputs)
    made = _made_for(spec, info)
    tell(f"weights of {spec.text}: torchvision's {published}")
    return _filled(spec, made, fetch(published.url, tell), outputs, tell), info


def _from_file(spec: Spec, path: Path, classes: int | None, tell: Tell) -> tuple[nn.Module, ModelInfo]:
    """What a file of tensors does not say is taken from the weights that the library publishes; and told."""
    assert spec.library is not None
    check_classifier(spec.library, spec.name)
    if spec.library == "timm":
        info, assumed = timm_info(spec, classes, tell), "timm's own weights"
    else:
        published = _entry_for(spec.name, path)
        info, assumed = library_info(spec, published, classes or len(published.meta["categories"])), str(published)
    named = "those of ImageNet" if info.classes[0] != "0" else "0, 1, ..."
    tell(f"note: {path} holds tensors alone; assumed: classes {named}, images prepared as for {assumed}")
    return _filled(spec, _made_for(spec, info), path, len(info.classes), tell), info


def load_library_file(spec: Spec, path: Path, tell: Tell) -> tuple[nn.Module, ModelInfo]:
    """As `open_library` for a file of tensors, with as many outputs as the file has."""
    assert spec.library is not None
    model, other = (make(spec.library, spec.name, input=None, classes=classes, classifies=True).model for classes in (None, OTHER))
    head = find_head(model, other, before=OTHER, after=OTHER, what=spec.text)
    wanted = list(model.state_dict())
    classes = outputs_in(wanted, wanted, _tensors(spec, path, lambda _: None), head=head.path)
    model, info = _from_file(spec, path, classes, tell)
    return model.eval(), info


def _entry_for(name: str, path: Path) -> Any:
    """The published weights that the file is named like, else the newest."""
    from torchvision.models import get_model_weights

    alike = (entry for entry in get_model_weights(name) if entry.url.endswith(f"/{path.name}"))
    return next(alike, None) or library_entry(name, None)


def _made_for(spec: Spec, info: ModelInfo) -> Made:
    assert spec.library is not None
    size = (info.preprocess.channels, info.preprocess.height, info.preprocess.width)
    return make(spec.library, spec.name, input=size, classes=len(info.classes), classifies=True)


def _filled(spec: Spec, made: Made, path: Path, outputs: int, tell: Tell) -> nn.Module:
    wanted = list(made.model.state_dict())
    return with_weights(made, fitted(made.model, wanted, _tensors(spec, path, tell), name=spec.text, classes=outputs, path=path))


def _tensors(spec: Spec, path: Path, tell: Tell) -> dict[str, Tensor]:
    """A file's tensors under the names that the library uses today, without those that serve training alone."""
    tensors = read_checkpoint(path, tell)
    if spec.library != "torchvision":
        return tensors
    dropped = DROPPED.get(spec.name, ())
    return {current_name(name): tensor for name, tensor in tensors.items() if not name.startswith(dropped)}
