"""Models of torchvision and timm: which there are, the input they are meant for, and the model itself, without or with its weights."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from cnncli.errors import CnnError, EnvironmentFault, UsageError, near_miss
from cnncli.models.description import Size, size_of, size_text
from cnncli.models.installed import version_of
from cnncli.models.resolve import Library

if TYPE_CHECKING:
    from torch import Tensor, nn

DEFAULT_SIDE = 224  # of a model without published weights, which would say
INSTALL = {"torchvision": "pip install torchvision", "timm": "pip install 'cnncli[timm]'"}


class Made(NamedTuple):
    """A model in evaluation mode, the input (channels, height, width) it is described for, and where it comes from.

    again: makes it once more, with memory for its weights, which are drawn.
    """

    model: nn.Module
    input: Size
    source: str
    again: Callable[[], nn.Module]


def make(library: Library, name: str, *, input: Size | None, classes: int | None, classifies: bool = False) -> Made:
    """The model of this name without memory for its weights, for another input or number of classes if asked.

    classifies: it must give a score for each class and nothing else, also while it is trained; auxiliary outputs are left out.

    UsageError for a name that is unknown, or arguments that the model does not take; EnvironmentFault where the library is
    missing or does not fit torch.
    """
    builder, size, arguments = _plan(library, name, input, classes, classifies=classifies)

    from cnncli.models.hollow import make_hollow

    try:
        model: nn.Module = make_hollow(lambda: builder(**arguments))
    except Exception as error:  # the constructor of a foreign model raises anything
        flags = {"--input": input and size_text(input), "--classes": classes}
        asked = {flag: value for flag, value in flags.items() if value is not None}
        if asked:
            message = f"{library}/{name} does not take {' and '.join(f'{flag} {value}' for flag, value in asked.items())}: {_line(error)}"
            raise UsageError(message, "leave it out for the model's own", path=next(iter(asked))) from error
        raise CnnError(f"{library}/{name} cannot be made: {_line(error)}", path=name) from error
    drawn = {"init_weights": True} if "init_weights" in arguments else {}
    return Made(model.eval(), size, f"{library} {version_of(library) or ''}".strip(), lambda: _whole(builder, arguments | drawn))


def check_classifier(library: Library, name: str) -> None:
    """UsageError for what is no classifier of the library; EnvironmentFault where that is missing. Makes nothing."""
    _plan(library, name, None, None, classifies=True)


def _plan(library: Library, name: str, input: Size | None, classes: int | None, *, classifies: bool) -> tuple[Any, Size, dict[str, Any]]:
    """What makes the model, the input it is for, and the arguments."""
    imported, arguments = _import(library), {} if classes is None else {"num_classes": classes}
    return (_timm if library == "timm" else _torchvision)(imported, name, input, arguments, classifies=classifies)


def with_weights(made: Made, tensors: Mapping[str, Tensor]) -> nn.Module:
    """The model with these tensors in the place of its own, all of which they replace: same names, shapes and number types.

    No weights are drawn for it first, unless it computes tensors from others that are not in its state (tables of positions).
    """
    from cnncli.models.hollow import is_hollow

    model = _filled(made.model, tensors, assign=True)
    return (_filled(made.again(), tensors, assign=False) if is_hollow(model) else model).eval()


def _whole(builder: Callable[..., nn.Module], arguments: Mapping[str, Any]) -> nn.Module:
    """The model with drawn weights; torch's random state stays as it is. Warnings about those weights are silenced."""
    import torch

    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        return builder(**arguments).eval()


def _filled(model: nn.Module, tensors: Mapping[str, Tensor], *, assign: bool) -> nn.Module:
    state = model.state_dict()  # it also says of which version each module is: MNASNet refuses a state that does not
    state.update(tensors)
    model.load_state_dict(state, assign=assign)
    return model


def _import(library: Library) -> ModuleType:
    try:
        return import_module(library)
    except ModuleNotFoundError as error:
        package = (error.name or library).partition(".")[0]
        raise EnvironmentFault(
            f"{library} cannot be imported: the package {package} is missing", INSTALL.get(package, f"pip install {package}"), path=package
        ) from error
    except Exception as error:  # builds that do not go together: "operator torchvision::nms does not exist"
        built, fits = f"torchvision {version_of('torchvision')}", f"torch {version_of('torch')}"
        message = f"{built} does not fit {fits}" if "torchvision" in str(error) else f"{library} cannot be imported with {fits}"
        raise EnvironmentFault(
            f"{message}: {_line(error)}", "install a pair that belongs together: pip install --upgrade torch torchvision", path=library
        ) from error


def _torchvision(
    torchvision: Any, name: str, input: Size | None, arguments: dict[str, Any], *, classifies: bool
) -> tuple[Any, Size, dict[str, Any]]:
    models = torchvision.models
    known, marking_pixels = models.list_models(module=models), models.list_models(module=models.segmentation)
    if classifies and name in marking_pixels:
        raise UsageError(
            f"torchvision/{name} marks pixels, and does not classify images", "name a classifier: torchvision/resnet50", path=name
        )
    known = known if classifies else [*known, *marking_pixels]
    if name.startswith("quantized_") and (plain := name.removeprefix("quantized_")) in known and name in models.list_models():
        raise UsageError(
            f"torchvision/{name} is quantised, and only models in floating point can be described", f"try torchvision/{plain}", path=name
        )
    if name in models.list_models() and name not in known:
        raise UsageError(f"torchvision/{name} does not classify or segment single images", "only such models can be described", path=name)
    _check_name("torchvision", name, known)
    builder = models.get_model_builder(name)
    size = input or _published_size(models.get_model_weights(name))
    taken = inspect.signature(builder).parameters
    arguments |= {"weights": None}
    if "weights_backbone" in taken:
        arguments["weights_backbone"] = None
    if name in ("googlenet", "inception_v3"):
        arguments["init_weights"] = False  # saves a warning and, where numbers are needed, half a minute
    if name == "googlenet":
        arguments["aux_logits"] = False  # as in the model that its published weights make
    if name == "inception_v3" and classifies:
        arguments["aux_logits"] = False
    if name.startswith("vit_"):  # the transformer's position embedding fits one size
        arguments["image_size"] = size[1]
    if name.startswith("maxvit"):
        arguments["input_size"] = size[1:]
    return builder, size, arguments


def _published_size(weights: Any) -> Size:
    """The input that the newest published weights are evaluated with."""
    transforms = weights.DEFAULT.transforms()
    side = (getattr(transforms, "crop_size", None) or getattr(transforms, "resize_size", None) or [DEFAULT_SIDE])[0]
    return 3, side, side


def _timm(timm: Any, name: str, input: Size | None, arguments: dict[str, Any], *, classifies: bool) -> tuple[Any, Size, dict[str, Any]]:
    plain = name.partition(".")[0]
    _check_name("timm", plain, timm.list_models())
    if plain != name:  # with the tag of its weights, which may say another input
        _check_name("timm", name, timm.list_pretrained(f"{plain}.*"))
    settings = timm.get_pretrained_cfg(name)
    own = (3, DEFAULT_SIDE, DEFAULT_SIDE) if settings is None else size_of(settings.input_size)
    size = input or own
    if classifies and "num_classes" not in arguments and settings is not None and not settings.num_classes:
        raise UsageError(f"timm/{name} gives features of an image, and no classes", "name a classifier: timm/resnet50", path=name)
    if size[0] != own[0]:
        arguments["in_chans"] = size[0]
    if size[1:] != own[1:] and settings is not None and settings.fixed_input_size:
        arguments["img_size"] = size[1:]
    return timm.create_model, size, arguments | {"model_name": name, "pretrained": False}


def _check_name(library: Library, name: str, known: list[str]) -> None:
    if name in known:
        return
    hint = near_miss(name, known) or (f"it has {len(known)}, such as {', '.join(known[:3])}" if known else "it has none of that kind")
    raise UsageError(
        f"{library} has no model {name!r}", hint.replace(" or ", f" or {library}/").replace("mean ", f"mean {library}/"), path=name
    )


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
