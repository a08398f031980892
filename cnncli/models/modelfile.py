"""The model file: one `.safetensors` with the weights and, in its header, all that is needed to use them.

The header's metadata holds one JSON text under the key `cnncli`: format number, version, net, classes in order,
preprocessing, data, metrics. A sha256 over that text and every tensor's name, type, shape and bytes stands beside it,
because neither torch nor safetensors notices a flipped bit. Nothing in the file is ever executed or imported.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnncli import atomic
from cnncli.arch.net import Net, walk
from cnncli.arch.serial import net_from_json, net_to_json
from cnncli.data.preprocess import Preprocess
from cnncli.errors import CnnError, InputError, UsageError
from cnncli.models.foreign import refuse_foreign
from cnncli.sniff import sniff

if TYPE_CHECKING:
    from torch import Tensor, nn

FORMAT = 1
KEY = "cnncli"
DIGEST_KEY = "sha256"
LARGEST_HEADER = 64 * 2**20
MOST_CLASSES = 1_000_000
LONGEST_CLASS = 1000
RETRAIN = "copy it again or train again"


@dataclass(frozen=True)
class ModelInfo:
    """What a model file says of itself.

    classes: names in the order of the outputs. data: the source it was trained on, by name; val_fraction and test_fraction:
    the shares by which that was split where asked for, so that a later evaluation splits it alike. metrics: name -> value,
    at the epoch whose weights these are.
    """

    net: Net
    classes: tuple[str, ...]
    preprocess: Preprocess
    data: str = ""
    val_fraction: float | None = None
    test_fraction: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    cnncli: str = ""


def save(path: Path, model: nn.Module, info: ModelInfo) -> None:
    """Write a model file, whole or not at all. EnvironmentFault when the disk does not allow it."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    text = json.dumps(_to_json(info), allow_nan=False)
    metadata = {KEY: text, DIGEST_KEY: _digest(text, tensors)}
    atomic.write_with(path, lambda temporary: _write(temporary, tensors, metadata))


def read_info(path: Path) -> ModelInfo:
    """What the file says of itself; reads the header alone, without torch. InputError when it is not a model file."""
    return _info(path, _metadata(path, read_header(path)))


def load(path: Path, *, device: str = "cpu") -> tuple[nn.Module, ModelInfo]:
    """The model, in evaluation mode on `device`, and what its file says of it.

    InputError when the file is damaged, foreign or does not hold the weights that its net needs. Weights are compared with
    the net before anything is allocated, so a hostile header cannot ask for memory.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from cnncli.models.assemble import assemble

    header = read_header(path)
    metadata = _metadata(path, header)
    info = _info(path, metadata)
    _check_net(path, header, info.net)
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{path} is damaged: {_one_line(error)}", RETRAIN, path=str(path)) from error
    if _digest(metadata[KEY], tensors) != metadata.get(DIGEST_KEY):
        raise InputError(f"checksum differs: {path}", RETRAIN, path=str(path))
    try:
        with torch.device("meta"):
            model = assemble(info.net)
    except UsageError as error:
        raise InputError(f"{path}: {error.message}", RETRAIN, path=str(path)) from None
    _check_names(path, model, tensors)
    model.load_state_dict(tensors, assign=True)
    return model.to(device).eval(), info


def _write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(tensors, path, metadata=metadata)
    except SafetensorError as error:  # a full disk or a missing folder, which it tells in its own words
        raise OSError(_one_line(error)) from error


def _to_json(info: ModelInfo) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "cnncli": info.cnncli or version("cnncli"),
        "net": net_to_json(info.net),
        "classes": list(info.classes),
        "preprocess": info.preprocess.to_json(),
        "data": info.data,
        "val_fraction": info.val_fraction,
        "test_fraction": info.test_fraction,
        "metrics": info.metrics,
    }


def _digest(text: str, tensors: dict[str, Tensor]) -> str:
    """sha256 over the metadata text and the tensors in the order of their names."""
    import torch

    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_header(path: Path) -> dict[str, Any]:
    """The JSON header of any safetensors file: 8 bytes of length, then the text. InputError when it cannot be read."""
    kind = sniff(path)
    if kind != "safetensors":
        refuse_foreign(path, kind)
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            size = path.stat().st_size
            if length > min(LARGEST_HEADER, size - 8):
                raise InputError(f"{path} is cut off: {size} bytes, but its header alone has {length}", RETRAIN, path=str(path))
            header = json.loads(file.read(length))
    except (OSError, ValueError, RecursionError, struct.error) as error:
        raise InputError(f"{path} is damaged: its header cannot be read", RETRAIN, path=str(path)) from error
    if not isinstance(header, dict):
        raise InputError(f"{path} is damaged: its header is not a JSON object", RETRAIN, path=str(path))
    return header


def _metadata(path: Path, header: dict[str, Any]) -> dict[str, str]:
    metadata = header.get("__metadata__")
    if not isinstance(metadata, dict) or not isinstance(metadata.get(KEY), str):
        raise InputError(f"{path} is a safetensors file, but not a model of cnn", "give a file that `cnn train` wrote", path=str(path))
    return metadata


def _info(path: Path, metadata: dict[str, str]) -> ModelInfo:
    try:
        stored = json.loads(metadata[KEY])
        if not isinstance(stored, dict) or type(stored.get("format")) is not int or stored["format"] < 1:
            raise InputError("its description is not a JSON object with a format")
        if stored["format"] > FORMAT:
            raise InputError(f"its format is {stored['format']}, this version reads {FORMAT}", "pip install -U cnncli")
        net = net_from_json(stored.get("net"))
        return ModelInfo(
            net=net,
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


def _classes(value: object, net: Net) -> tuple[str, ...]:
    if (
        not isinstance(value, list)
        or len(value) > MOST_CLASSES
        or not all(isinstance(name, str) and len(name) <= LONGEST_CLASS for name in value)
    ):
        raise InputError("its classes are not a list of names")
    if len(value) != net.classes or len(set(value)) != len(value):
        raise InputError(f"it lists {len(set(value))} different classes for a net with {net.classes}")
    return tuple(value)


def _preprocess(value: object, net: Net) -> Preprocess:
    preprocess = Preprocess.from_json(value)
    if (preprocess.channels, preprocess.height, preprocess.width) != net.input:
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


def _check_net(path: Path, header: dict[str, Any], net: Net) -> None:
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
    if len(header) > MOST_CLASSES:
        raise InputError(f"{path} holds {len(header)} tensors", RETRAIN, path=str(path))


def _check_names(path: Path, model: nn.Module, tensors: dict[str, Tensor]) -> None:
    wanted = {name: (tensor.dtype, tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()}
    wrong = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if wrong:
        raise InputError(f"{path}: {len(wrong)} tensors do not fit its net, first {', '.join(wrong[:3])[:200]}", RETRAIN, path=str(path))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
