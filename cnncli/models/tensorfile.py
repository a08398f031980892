"""A file of ours with tensors: a `.safetensors` whose metadata holds a JSON text and a sha256 over that text and every tensor.

Neither torch nor safetensors notices a flipped bit. Nothing in such a file is ever executed or imported.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cnncli import atomic
from cnncli.errors import EnvironmentFault, InputError
from cnncli.models.foreign import refuse_foreign
from cnncli.sniff import sniff

if TYPE_CHECKING:
    from torch import Tensor

Found = TypeVar("Found")

KEY = "cnncli"
DIGEST_KEY = "sha256"
LARGEST_HEADER = 64 * 2**20
RETRAIN = "copy it again or train again"
PIECE = 2**20  # bytes that are read at a time
MOST_READ_AGAIN = 20
# safetensors' words for types: torch's.
TYPES = {
    "F64": "torch.float64", "F32": "torch.float32", "F16": "torch.float16", "BF16": "torch.bfloat16",
    "I64": "torch.int64", "I32": "torch.int32", "I16": "torch.int16", "I8": "torch.int8", "U8": "torch.uint8", "BOOL": "torch.bool",
}  # fmt: skip


def save_tensors(path: Path, tensors: dict[str, Tensor], description: dict[str, Any]) -> None:
    """Write tensors and their description, whole or not at all. EnvironmentFault, with both numbers, when the disk has not enough room."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    check_room(path, sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()))
    text = json.dumps(description, allow_nan=False)
    metadata = {KEY: text, DIGEST_KEY: digest(text, tensors)}
    atomic.write_with(path, lambda temporary: _write(temporary, tensors, metadata))


def check_room(path: Path, needed: int) -> None:
    """EnvironmentFault when the disk of `path` has less than `needed` bytes free."""
    folder = next((folder for folder in path.absolute().parents if folder.is_dir()), None)
    if folder is not None and (free := shutil.disk_usage(folder).free) < needed:
        raise EnvironmentFault(
            f"disk full writing {path} (needs {needed / 1e6:.3g} MB, {free / 1e6:.3g} MB free)",
            "free space or choose another place",
            path=str(path),
        )


def undisturbed(path: Path, read: Callable[[Path], Found]) -> Found:
    """What `read` finds in the file; again where a training replaced it between the reading of its header and of its tensors."""
    for _ in range(MOST_READ_AGAIN):
        before = _identity(path)
        try:
            return read(path)
        except InputError:
            if _identity(path) == before:
                raise
    return read(path)


def _identity(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def load_tensors(path: Path, metadata: dict[str, str]) -> dict[str, Tensor]:
    """The tensors by name, on the CPU. InputError when the file is damaged: its checksum is compared."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{path} is damaged: {one_line(error)}", RETRAIN, path=str(path)) from error
    if digest(metadata[KEY], tensors) != metadata.get(DIGEST_KEY):
        raise InputError(f"checksum differs: {path}", RETRAIN, path=str(path))
    return tensors


def digest(text: str, tensors: dict[str, Tensor]) -> str:
    """sha256 over the description's text and the tensors in the order of their names."""
    import torch

    found = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        found.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def check_file(path: Path, header: dict[str, Any], metadata: dict[str, str]) -> None:
    """InputError when the checksum differs. Reads the whole file, without torch."""
    try:
        found = hashlib.sha256(metadata[KEY].encode())
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            for name in sorted(header.keys() - {"__metadata__"}):
                entry = header[name]
                found.update(f"\0{name}\0{TYPES[entry['dtype']]}\0{tuple(entry['shape'])}\0".encode())
                first, last = entry["data_offsets"]
                last = min(last, path.stat().st_size)  # what a file claims may be endless
                file.seek(8 + length + first)
                for place in range(first, last, PIECE):
                    found.update(file.read(min(PIECE, last - place)))
        same = found.hexdigest() == metadata.get(DIGEST_KEY)
    except (OSError, ValueError, KeyError, TypeError, OverflowError, struct.error):
        same = False
    if not same:
        raise InputError(f"checksum differs: {path}", RETRAIN, path=str(path))


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


def read_metadata(path: Path, header: dict[str, Any]) -> dict[str, str]:
    """What stands beside the tensors. InputError when the file is not one of ours."""
    metadata = header.get("__metadata__")
    if not isinstance(metadata, dict) or not isinstance(metadata.get(KEY), str):
        raise InputError(f"{path} is a safetensors file, but not a model of cnn", "give a file that `cnn train` wrote", path=str(path))
    return metadata


def one_line(error: Exception) -> str:
    """What an error says, in one line of at most 200 characters."""
    return " ".join(str(error).split())[:200]


def _write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(tensors, path, metadata=metadata)
    except SafetensorError as error:  # a full disk or a missing folder, which it tells in its own words
        raise OSError(one_line(error)) from error
