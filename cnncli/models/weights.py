"""Published and foreign weights onto our nets, by order and shape.

A net of the zoo and its twin in torchvision list the same tensors in the same order under other names. A file's tensors are first
put into the order of torchvision's own module, by name, since a file may list them in any order; then they take our names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from cnncli.arch.net import Net
from cnncli.arch.zoo.table import build
from cnncli.errors import InputError
from cnncli.models.assemble import assemble
from cnncli.models.checkpoint import read_checkpoint
from cnncli.models.download import fetch
from cnncli.models.fitting import current_name, fitted, map_state, outputs_in, same_names
from cnncli.models.foreign_code import make_whole, running
from cnncli.models.head import find_head, resize_to, scores_of
from cnncli.models.imagenet import entry, info_of, info_of_file
from cnncli.models.modelfile import ModelInfo, is_model_file, load, read_model
from cnncli.models.pretrained import open_library
from cnncli.models.published import TWINS, Twin, version_of
from cnncli.models.resolve import model_file

if TYPE_CHECKING:
    from cnncli.models.resolve import Spec

__all__ = ["load_file", "load_published", "map_state", "open_model", "state_from", "twin_module"]

Tell = Callable[[str], None]


def open_model(
    spec: Spec, weights: str | None, *, classes: int | None = None, device: str = "cpu", tell: Tell
) -> tuple[nn.Module, ModelInfo]:
    """The model that a spec and --weights name together (see `check_weights`), in evaluation mode on `device`, and what is known of it."""
    if spec.library is not None:
        return open_library(spec, weights, classes=classes, device=device, tell=tell)
    if spec.kind == "python":
        assert weights is not None
        return _open_python(spec, model_file(Path(weights)), device)
    if weights is None:
        return load(spec.path, device=device)
    return load_published(spec.name, weights, classes=classes, device=device, tell=tell)


def load_published(name: str, weights: str, *, classes: int | None = None, device: str = "cpu", tell: Tell) -> tuple[nn.Module, ModelInfo]:
    """A net of the zoo with published weights (`imagenet`, `imagenet-v2`) or with those of a file; see `fetch` and `read_checkpoint`.

    classes: how many outputs the net is built with, its own number by default. tell: receives each line of talk.
    UsageError when the version does not exist, InputError when a file does not hold this net, EnvironmentFault without a network.
    """
    net = build(name, classes=classes)
    version = version_of(weights)
    if version is None:
        path = Path(weights)
        return _filled(net, read_checkpoint(path, tell), path, device), info_of_file(net, path, tell)
    published = entry(net, version)
    info = info_of(net, published)
    path = fetch(published.url, tell)
    return _filled(net, read_checkpoint(path, tell), path, device), info


def load_file(name: str, path: Path, tell: Tell) -> tuple[nn.Module, ModelInfo]:
    """As `load_published` for a file of tensors, with as many outputs as the file has."""
    net, tensors = build(name), read_checkpoint(path, tell)
    with torch.device("meta"):
        model, other = assemble(net), assemble(build(name, classes=net.classes + 1))
    head = find_head(model, other, before=net.classes, after=net.classes, what=name)
    outputs = outputs_in(list(model.state_dict()), *_in_order(net, model, tensors), head=head.path)
    net = build(name, classes=outputs or net.classes)
    return _filled(net, tensors, path, "cpu"), info_of_file(net, path, tell)


def _filled(net: Net, tensors: Mapping[str, Tensor], path: Path, device: str) -> nn.Module:
    state = state_from(net, tensors, path)
    with torch.device("meta"):
        model = assemble(net)
    model.load_state_dict(state, assign=True)
    return model.to(device).eval()


def _open_python(spec: Spec, path: Path, device: str) -> tuple[nn.Module, ModelInfo]:
    """The model that the user's code makes, with the weights of a model file and as many outputs. What the file says is run by none."""
    if not is_model_file(path):
        raise InputError(f"{path} holds tensors, and not which classes they tell apart", "give what `cnn finetune` wrote", path=str(path))
    info, tensors = read_model(path)
    own = make_whole(spec.path, spec.name, classes=len(info.classes))
    size, outputs = (info.preprocess.channels, info.preprocess.height, info.preprocess.width), len(info.classes)
    if any(is_lazy(parameter) for parameter in own.model.parameters()):
        with running(spec.path):
            scores_of(own.model, size, spec.text)
    resize_to(own.model, tensors)
    state = fitted(own.model, list(own.model.state_dict()), tensors, name=spec.text, classes=outputs, path=path)
    own.model.load_state_dict(state)
    return own.model.to(device).eval(), replace(info, net=None, spec=spec.text)


def twin_module(twin: Twin) -> nn.Module:
    """The module of torchvision, without memory for its weights."""
    from torchvision.models import get_model

    with torch.device("meta"):
        module: nn.Module = get_model(twin.name, weights=None, **twin.arguments)
    return module


def state_from(net: Net, tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The tensors of the file `path` as the state of the assembled `net`: under our own names, or under torchvision's.

    InputError with what is missing, unexpected or of another shape, and the net that the file is likely from.
    """
    with torch.device("meta"):
        model = assemble(net)
    wanted, tensors = _in_order(net, model, tensors)
    return fitted(model, wanted, tensors, name=net.name, classes=net.classes, path=path)


def _in_order(net: Net, model: nn.Module, tensors: Mapping[str, Tensor]) -> tuple[list[str], Mapping[str, Tensor]]:
    """The names that a file's tensors must have, in the order of those of `model`, and the tensors under such names."""
    twin, wanted = TWINS.get(net.name), list(model.state_dict())
    if twin is None or same_names(wanted, tensors):
        return wanted, tensors
    tensors = {current_name(name): tensor for name, tensor in tensors.items() if not name.startswith(twin.dropped)}
    return list(twin_module(twin).state_dict()), tensors
