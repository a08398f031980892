"""Published and foreign weights onto our nets, by order and shape.

A net of the zoo and its twin in torchvision list the same tensors in the same order under other names. A file's tensors are first
put into the order of torchvision's own module, by name, since a file may list them in any order; then they take our names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from cnncli.arch.net import Net
from cnncli.arch.zoo.table import build
from cnncli.models.assemble import assemble
from cnncli.models.checkpoint import read_checkpoint
from cnncli.models.download import fetch
from cnncli.models.fitting import current_name, fitted, map_state, same_names
from cnncli.models.imagenet import entry, info_of, info_of_file
from cnncli.models.modelfile import ModelInfo, load
from cnncli.models.pretrained import open_library
from cnncli.models.published import TWINS, Twin, version_of

if TYPE_CHECKING:
    from cnncli.models.resolve import Spec

__all__ = ["load_published", "map_state", "open_model", "state_from", "twin_module"]

Tell = Callable[[str], None]


def open_model(
    spec: Spec, weights: str | None, *, classes: int | None = None, device: str = "cpu", tell: Tell
) -> tuple[nn.Module, ModelInfo]:
    """The model that a spec and --weights name together (see `check_weights`), in evaluation mode on `device`, and what is known of it."""
    if spec.library is not None:
        return open_library(spec, weights, classes=classes, device=device, tell=tell)
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
        tensors = read_checkpoint(path, tell)
        state = state_from(net, tensors, path)
        info = info_of_file(net, path, tell)
    else:
        published = entry(net, version)
        info = info_of(net, published)
        path = fetch(published.url, tell)
        state = state_from(net, read_checkpoint(path, tell), path)
    with torch.device("meta"):
        model = assemble(net)
    model.load_state_dict(state, assign=True)
    return model.to(device).eval(), info


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
    twin, wanted = TWINS.get(net.name), list(model.state_dict())
    if twin is not None and not same_names(wanted, tensors):
        tensors = {current_name(name): tensor for name, tensor in tensors.items() if not name.startswith(twin.dropped)}
        wanted = list(twin_module(twin).state_dict())
    return fitted(model, wanted, tensors, name=net.name, classes=net.classes, path=path)
