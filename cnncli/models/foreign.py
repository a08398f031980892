"""Files that are not ours: say what they are, and whether they are tensors and nothing else, without running anything in them."""

from __future__ import annotations

import io
import pickletools
import tarfile
import zipfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NoReturn

from cnncli.errors import InputError
from cnncli.sniff import what_is_wrong

LARGEST_PICKLE = 16 * 2**20
MOST_OPCODES = 1_000_000
MOST_RECORDS = 100_000  # of a zip archive; torch.save writes one for a tensor
WANT_MODEL = "give a model file (.safetensors) that `cnn train` wrote"
WANT_WEIGHTS = "give a .safetensors file, or a .pth file of model.state_dict() that torch.save wrote"

# torch's format before 1.6: pickles of a magic number (these bytes), a version, the machine, the object and the names of its storages,
# then raw numbers.
LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
LEGACY_PICKLES = 5

# What torch.save writes for tensors and plain containers. Everything else in a pickle calls code.
HARMLESS_MODULES = ("collections", "torch", "torch._utils", "torch._tensor", "torch.serialization", "numpy", "numpy.core.multiarray")
HARMLESS_NAMES = ("OrderedDict", "dtype", "Size", "device", "Parameter", "_get_layout")


def refuse_foreign(path: Path, kind: str, *, what: str = "a model of cnn", want: str = WANT_MODEL) -> NoReturn:
    """Raise the InputError that says what `path`, of this kind (see `sniff`), really is where `what` was wanted."""
    if kind == "missing":
        raise InputError(f"no such {'model ' if want == WANT_MODEL else ''}file: {path}", want, path=str(path))
    if kind in ("zip", "pickle"):
        call = code_in_pickle(path)
        if call:
            raise InputError(f"{path} is a pickle that needs code execution ({call}); refused", want, path=str(path))
        if kind == "pickle" or _is_torch_zip(path):
            raise InputError(f"{path} is a PyTorch file (pickle), not a model of cnn", want, path=str(path))
    raise InputError(f"{path} is not {what}: {what_is_wrong(kind)}", want, path=str(path))


def check_tensor_file(path: Path, kind: str) -> None:
    """InputError unless `path`, a "zip" or "pickle" (see `sniff`), has one of the two forms in which torch.save writes tensors.

    Reads the archive's directory and the pickle's opcodes, never a tensor, so a bomb costs nothing.
    """
    try:
        wrong = _wrong_with_zip(path) if kind == "zip" else _wrong_with_legacy(path)
    except OSError as error:
        wrong = f"cannot be read: {error.strerror}"
    if (not wrong or kind == "pickle") and (call := code_in_pickle(path)):
        wrong = f"is a pickle that needs code execution ({call}); refused"
    if wrong:
        raise InputError(f"{path} {wrong}", WANT_WEIGHTS, path=str(path))


def _wrong_with_zip(path: Path) -> str:
    """Why torch should not see this zip archive; "" when nothing speaks against it."""
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return "is cut off or damaged: the directory at the end of a zip archive is missing"
    names = [record.filename for record in records]
    inside = {name.partition("/")[2] for name in names}  # torch.save puts all into one folder
    largest = max((record.file_size for record in records if record.filename.endswith(".pkl")), default=0)
    for found, told in (
        ("constants.pkl" in inside or any(name.startswith("code/") for name in inside), "is TorchScript, which is code; not loaded"),
        ("archive_format" in inside.union(names), "is an exported program, which is more than weights; not loaded"),
        ("data.pkl" not in inside, "is not a file of weights: zip archive that torch.save did not write"),
        (_odd_names(names), "lists names that torch.save never writes (`..`, two folders, or one name twice); refused"),
        (any(r.compress_type != zipfile.ZIP_STORED or r.compress_size != r.file_size for r in records), "is compressed; refused"),
        (sum(r.file_size for r in records) > size, f"lists more bytes than its {size}; refused"),
        (any(r.header_offset + r.file_size > size for r in records), f"lists bytes beyond its {size}; refused"),
        (len(records) > MOST_RECORDS, f"has {len(records)} records, more than any weights need; refused"),
        (largest > LARGEST_PICKLE, f"has a pickle of {largest} bytes beside its tensors; refused"),
    ):
        if found:
            return told
    return ""


def _odd_names(names: list[str]) -> bool:
    folders = {name.partition("/")[0] for name in names}
    outside = any(".." in name.split("/") or "\\" in name or name.startswith("/") for name in names)
    return outside or len(folders) != 1 or len(set(names)) != len(names)


def _wrong_with_legacy(path: Path) -> str:
    """Why torch should not see this pickle; "" when nothing speaks against it."""
    with path.open("rb") as file:
        if file.read(len(LEGACY_MAGIC)) != LEGACY_MAGIC:
            return "is not a file of weights: pickle that torch.save did not write"
    # A tar archive may begin like this, and torch would unpack it.
    return "is not a file of weights: tar archive" if tarfile.is_tarfile(path) else ""


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
    for _ in range(LEGACY_PICKLES):
        if stream.tell() >= len(data):
            return
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
