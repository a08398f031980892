"""The model file: one `.safetensors` with the weights and, in its header, all that is needed to use them.

The header's metadata holds one JSON text under the key `cnncli`: format number, version, net, classes in order,
preprocessing, data, metrics. A sha256 over that text and every tensor's name, type, shape and bytes stands beside it,
because neither torch nor safetensors notices a flipped bit. Nothing in the file is ever executed or imported.

A model of torchvision or timm is no net of ours: its file names it, `torchvision/resnet18`, in the place of a net. That is
no import by a name from a file: the word before the slash chooses between the two libraries that this package knows, and the name
has to be in that library's own list of models, so a file can ask for nothing that the command line does not offer as well.

A model of a user's Python file is named as it was spelled, `nets/mine.py:Net`. These are words to show: its code runs when the user
spells it again, with the file as --weights, and `load` refuses.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnncli.arch.net import Net, walk
from cnncli.arch.serial import net_from_json, net_to_json
from cnncli.data.preprocess import Preprocess
from cnncli.errors import CnnError, InputError, UsageError, printable
from cnncli.models.resolve import library_spec, stored_spec
from cnncli.models.tensorfile import KEY, RETRAIN, load_tensors, read_header, read_metadata, save_tensors, undisturbed
from cnncli.sniff import sniff

if TYPE_CHECKING:
    from torch import Tensor, nn

    from cnncli.models.sources import Made

FORMAT = 1
MOST_CLASSES = 1_000_000
LONGEST_CLASS = 1000


@dataclass(frozen=True)
class ModelInfo:
    """What a model file says of itself.

    net: the net as data; None for a model of a library or a Python file, which `spec` then names: `torchvision/resnet18`,
    `nets/mine.py:Net`. classes: names in the order of the outputs. data: the source it was trained on, by name; val_fraction and
    test_fraction: the shares by which that was split where asked for, so that a later evaluation splits it alike. metrics: name ->
    value, at the epoch whose weights these are.
    """

    net: Net | None
    classes: tuple[str, ...]
    preprocess: Preprocess
    data: str = ""
    val_fraction: float | None = None
    test_fraction: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    cnncli: str = ""
    spec: str = ""

    @property
    def name(self) -> str:
        """What to call the model: its net's name, or the spec."""
        return self.spec if self.net is None else self.net.name


def save(path: Path, model: nn.Module, info: ModelInfo) -> None:
    """Write a model file, whole or not at all. EnvironmentFault when the disk does not allow it."""
    save_weights(path, model.state_dict(), info)


def save_weights(path: Path, weights: dict[str, Tensor], info: ModelInfo) -> None:
    """As `save`, for weights by name."""
    save_tensors(path, weights, info_to_json(info))


def read_info(path: Path) -> ModelInfo:
    """What the file says of itself; reads the header alone, without torch. InputError when it is not a model file."""
    return _info(path, read_metadata(path, read_header(path)))


def is_model_file(path: Path) -> bool:
    """Whether this is a model file of cnn, and not tensors alone; reads the header. InputError when that is damaged."""
    if sniff(path) != "safetensors":
        return False
    metadata = read_header(path).get("__metadata__")
    return isinstance(metadata, dict) and isinstance(metadata.get(KEY), str)


def read_model(path: Path) -> tuple[ModelInfo, dict[str, Tensor]]:
    """What the file says of itself and its tensors by name, on the CPU; whether they are those of its model is not asked. InputError."""
    return undisturbed(path, _read)


def load(path: Path, *, device: str = "cpu") -> tuple[nn.Module, ModelInfo]:
    """The model, in evaluation mode on `device`, and what its file says of it.

    InputError when the file is damaged, foreign or does not hold the weights that its net needs, and when its model is in a Python
    file; EnvironmentFault when it holds a model of a library that is missing. Weights are compared with the net before anything is
    allocated, so a hostile header cannot ask for memory.
    """
    import torch

    from cnncli.models.assemble import assemble

    info, tensors = read_model(path)
    if info.net is None:
        refuse_python(path, info)
        return _load_library(path, info, tensors).to(device).eval(), info
    try:
        with torch.device("meta"):
            model = assemble(info.net)
    except UsageError as error:
        raise InputError(f"{path}: {error.message}", RETRAIN, path=str(path)) from None
    _check_names(path, model, tensors)
    model.load_state_dict(tensors, assign=True)
    return model.to(device).eval(), info


def refuse_python(path: Path, info: ModelInfo, *, command: str = "eval") -> None:
    """InputError where the model of the file `path` is code: that runs only when it is named, as in `command`."""
    if info.net is None and stored_spec(info.spec).kind == "python":
        shown = printable(info.spec)
        raise InputError(
            f"{path} holds weights of {shown}; code runs only when it is named", f"`cnn {command} {shown} --weights {path}`", path=str(path)
        )


def _load_library(path: Path, info: ModelInfo, tensors: dict[str, Tensor]) -> nn.Module:
    """The model of torchvision or timm that the file names, with its weights. Made without memory first, and compared with them."""
    from cnncli.models.sources import with_weights

    try:
        made = make_for(info)
    except UsageError as error:
        raise InputError(f"{path}: {error.message}", "it needs the version of the library that it was saved with", path=str(path)) from None
    _check_names(path, made.model, tensors)
    return with_weights(made, tensors)


def make_for(info: ModelInfo) -> Made:
    """The model of a library that `info` names, for its input and its classes. UsageError where the library does not make it."""
    from cnncli.models.sources import make

    spec, preprocess = library_spec(info.spec), info.preprocess
    assert spec.library is not None
    size, classes = (preprocess.channels, preprocess.height, preprocess.width), len(info.classes)
    try:
        return make(spec.library, spec.name, input=size, classes=classes, classifies=True)
    except UsageError:
        plain, _, tag = spec.name.partition(".")  # timm's tags say where weights come from; they come and go, the model stays
        if not tag:
            raise
        return make(spec.library, plain, input=size, classes=classes, classifies=True)


def _read(path: Path) -> tuple[ModelInfo, dict[str, Tensor]]:
    header = read_header(path)
    metadata = read_metadata(path, header)
    info = _info(path, metadata)
    if len(header) > MOST_CLASSES:
        raise InputError(f"{path} holds {len(header)} tensors", RETRAIN, path=str(path))
    if info.net is not None:
        _check_net(path, info.net)
    return info, load_tensors(path, metadata)


def info_to_json(info: ModelInfo) -> dict[str, Any]:
    """What the file says of itself, as JSON."""
    return {
        "format": FORMAT,
        "cnncli": info.cnncli or version("cnncli"),
        **({"spec": info.spec} if info.net is None else {"net": net_to_json(info.net)}),
        "classes": list(info.classes),
        "preprocess": info.preprocess.to_json(),
        "data": info.data,
        "val_fraction": info.val_fraction,
        "test_fraction": info.test_fraction,
        "metrics": info.metrics,
    }


def _info(path: Path, metadata: dict[str, str]) -> ModelInfo:
    try:
        stored = json.loads(metadata[KEY])
        if isinstance(stored, dict) and "position" in stored:
            raise InputError("it is the state of a training, not a model", "give best.safetensors of that folder, or the folder")
        if not isinstance(stored, dict) or type(stored.get("format")) is not int or stored["format"] < 1:
            raise InputError("its description is not a JSON object with a format")
        if stored["format"] > FORMAT:
            raise InputError(f"its format is {stored['format']}, this version reads {FORMAT}", "pip install -U cnncli")
        spec = stored_spec(stored["spec"]) if "spec" in stored else None
        net = None if spec else net_from_json(stored.get("net"))
        return ModelInfo(
            net=net,
            spec=spec.text if spec else "",
            classes=_classes(stored.get("classes"), net),
            preprocess=_preprocess(stored.get("preprocess"), net),
            data=str(stored.get("data", ""))[:LONGEST_CLASS],
            val_fraction=_share(stored.get("val_fraction")),
            test_fraction=_share(stored.get("test_fraction")),
            metrics=_metrics(stored.get("metrics")),
            cnncli=str(stored.get("cnncli", ""))[:100],
        )
    except CnnError as error:
        raise InputError(f"{path}: {error.message}", error.hint or RETRAIN, path=str(path)) from None
    except (ValueError, OverflowError, RecursionError) as error:
        raise InputError(f"{path} is damaged: its description cannot be read", RETRAIN, path=str(path)) from error


def _classes(value: object, net: Net | None) -> tuple[str, ...]:
    if (
        not isinstance(value, list)
        or len(value) > MOST_CLASSES
        or not all(isinstance(name, str) and len(name) <= LONGEST_CLASS for name in value)
    ):
        raise InputError("its classes are not a list of names")
    outputs = max(1, len(value)) if net is None else net.classes  # a model of a library is made with as many as the file lists
    if len(value) != outputs or len(set(value)) != len(value):
        raise InputError(f"it lists {len(set(value))} different classes for a net with {outputs}")
    return tuple(value)


def _preprocess(value: object, net: Net | None) -> Preprocess:
    preprocess = Preprocess.from_json(value)
    if net is not None and (preprocess.channels, preprocess.height, preprocess.width) != net.input:
        raise InputError("its preprocessing does not give the net's input size")
    return preprocess


def _share(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise InputError("its shares of validation and test images are not numbers from 0 to 1")
    return float(value)


def _metrics(value: object) -> dict[str, float]:
    if not isinstance(value, dict) or len(value) > 1000:
        return {}
    return {
        str(key)[:100]: float(number) for key, number in value.items() if isinstance(number, int | float) and not isinstance(number, bool)
    }


def _check_net(path: Path, net: Net) -> None:
    """The net must fit its input and its classes, and the file hold its parameters; else a small file could ask for endless memory."""
    try:
        rows = walk(net)
    except UsageError as error:
        raise InputError(f"{path}: {error.message}", RETRAIN, path=str(path)) from None
    if not rows or rows[-1].output != (net.classes,):
        raise InputError(f"{path}: its net does not end in {net.classes} scores, one for each class", RETRAIN, path=str(path))
    declared = sum(row.params for row in rows)
    held = path.stat().st_size
    if declared > held:  # a number takes more than a byte
        raise InputError(f"{path} has {held} bytes, but its net {net.name} has {declared} parameters", RETRAIN, path=str(path))


def _check_names(path: Path, model: nn.Module, tensors: dict[str, Tensor]) -> None:
    wanted = {name: (tensor.dtype, tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()}
    wrong = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if wrong:
        raise InputError(f"{path}: {len(wrong)} tensors do not fit its net, first {', '.join(wrong[:3])[:200]}", RETRAIN, path=str(path))
