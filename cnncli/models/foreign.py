"""Files that are given as a model but are not ours: say what they are, without running anything in them."""

from __future__ import annotations

import io
import pickletools
import zipfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NoReturn

from cnncli.errors import InputError
from cnncli.sniff import what_is_wrong

LARGEST_PICKLE = 16 * 2**20
MOST_OPCODES = 1_000_000

# What torch.save writes for tensors and plain containers. Everything else in a pickle calls code.
HARMLESS_MODULES = ("collections", "torch", "torch._utils", "torch._tensor", "torch.serialization", "numpy", "numpy.core.multiarray")
HARMLESS_NAMES = ("OrderedDict", "dtype", "Size", "device", "Parameter")


def refuse_foreign(path: Path, kind: str) -> NoReturn:
    """Raise the InputError that says what `path`, of this kind (see `sniff`), really is."""
    want = "give a model file (.safetensors) that `cnn train` wrote"
    if kind == "missing":
        raise InputError(f"no such model file: {path}", want, path=str(path))
    if kind in ("zip", "pickle"):
        call = code_in_pickle(path)
        if call:
            raise InputError(f"{path} is a pickle that needs code execution ({call}); refused", want, path=str(path))
        if kind == "pickle" or _is_torch_zip(path):
            raise InputError(f"{path} is a PyTorch file (pickle), not a model of cnn", want, path=str(path))
    raise InputError(f"{path} is not a model of cnn: {what_is_wrong(kind)}", want, path=str(path))


def code_in_pickle(path: Path) -> str:
    """The first name that unpickling `path` would import beyond what tensors need, as `module.name`; "" if none is found.

    The pickle is read as a list of opcodes, never loaded.
    """
    for data in _pickles(path):
        if call := _first_call(data):
            return call
    return ""


def _pickles(path: Path) -> list[bytes]:
    try:
        if not zipfile.is_zipfile(path):
            with path.open("rb") as file:
                return [file.read(LARGEST_PICKLE)]
        with zipfile.ZipFile(path) as archive:
            records = [record for record in archive.infolist() if record.filename.endswith(".pkl") and record.file_size <= LARGEST_PICKLE]
            return [archive.open(record).read(LARGEST_PICKLE) for record in records[:4] if record.compress_type == zipfile.ZIP_STORED]
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError, RuntimeError):
        return []


def _opcodes(data: bytes) -> Iterator[tuple[str, object]]:
    """(name, argument) of every opcode; torch's old format has several pickles one behind the other, then raw numbers."""
    stream = io.BytesIO(data)
    while stream.tell() < len(data):
        yield from ((opcode.name, argument) for opcode, argument, _ in pickletools.genops(stream))


def _first_call(data: bytes) -> str:
    texts: list[str] = []  # STACK_GLOBAL takes module and name from the two texts before it
    try:
        for opcode, argument in islice(_opcodes(data), MOST_OPCODES):
            if isinstance(argument, str):
                texts.append(argument)
            if opcode in ("GLOBAL", "INST"):
                module, _, name = str(argument).partition(" ")
            elif opcode == "STACK_GLOBAL":
                module, name = (texts[-2], texts[-1]) if len(texts) > 1 else ("?", "?")
            else:
                continue
            if not _harmless(module, name):
                return f"{module}.{name}"[:100]
    except Exception:  # noqa: BLE001 - a damaged pickle fails in many ways, and none of them matters: it is refused anyway
        return ""
    return ""


def _harmless(module: str, name: str) -> bool:
    if module not in HARMLESS_MODULES:
        return False
    return name in HARMLESS_NAMES or name.startswith(("_rebuild_", "_reconstruct", "ndarray")) or name.endswith("Storage")


def _is_torch_zip(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("data.pkl") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile, ValueError):
        return False
