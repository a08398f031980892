"""Feature files of numpy: `.npz`, and `.npy` with a list beside it."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np

from cnncli import atomic
from cnncli.errors import InputError, printable
from cnncli.features.beside import AGAIN, Content, about_of, without_arrays
from cnncli.features.feature_set import UNLABELLED, Array, FeatureSet

LIST = ".jsonl"  # behind the name of a .npy
BESIDE = ("labels", "paths", "splits", "classes", "about")  # arrays that are no space


def _header(file: IO[bytes], shape: tuple[int, ...], dtype: str) -> None:
    described = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_2_0(file, described)


def write_npy(path: Path, content: Content) -> None:
    """The list first: where the array is, its list is."""
    features = content.features
    lines = [about_of(features)]
    for row, (file, label, split) in enumerate(zip(features.paths, features.labels.tolist(), features.splits, strict=True)):
        named = features.classes[label] if label != UNLABELLED else None
        lines.append(json.dumps({"row": row, "path": file, "label": label, "class": named, "split": split}))

    def fill(temporary: Path) -> None:
        with temporary.open("wb") as file:
            _header(file, (len(features), *features.spaces[0].shape), content.dtype)
            for chunk in content.chunks(0):
                file.write(np.ascontiguousarray(chunk).data)

    path.unlink(missing_ok=True)  # it would stand beside the list of another
    atomic.write_text(Path(f"{path}{LIST}"), "\n".join(lines) + "\n")
    atomic.write_with(path, fill)


def read_npy(path: Path) -> FeatureSet:
    """The set of a .npy and its list; see `read_features`."""
    beside = Path(f"{path}{LIST}")
    if not beside.is_file():
        raise InputError(f"{path} has no list of its images beside it, {beside.name}", "keep both files together", path=str(beside))
    first, *lines = beside.read_text(encoding="utf-8").splitlines()
    rows = json.loads(f"[{','.join(lines)}]")  # four times as fast as line by line
    features = without_arrays(
        first, np.array([row["label"] for row in rows], dtype=np.int64), (r["path"] for r in rows), (r["split"] for r in rows)
    )
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    return replace(features, arrays={features.spaces[0].name: array})


def write_npz(path: Path, content: Content) -> None:
    """Arrays as they are, not compressed, so that they can be mapped."""
    features = content.features
    beside = {
        "labels": features.labels,
        "paths": np.array(features.paths, dtype=str),
        "splits": np.array(features.splits, dtype=str),
        "classes": np.array(features.classes, dtype=str),
        "about": np.array(about_of(features)),
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for place, space in enumerate(features.spaces):
            with archive.open(f"{space.name}.npy", "w", force_zip64=True) as file:
                _header(file, (len(features), *space.shape), content.dtype)
                for chunk in content.chunks(place):
                    file.write(np.ascontiguousarray(chunk).data)
        for name, array in beside.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


def read_npz(path: Path) -> FeatureSet:
    """The set of an .npz; see `read_features`."""
    with np.load(path, allow_pickle=False) as file:
        if "about" not in file:
            raise InputError(f"{path} is an .npz, but no feature file of cnn", AGAIN, path=str(path))
        said = {name: file[name] for name in BESIDE}
    features = without_arrays(str(said["about"]), said["labels"], said["paths"].tolist(), said["splits"].tolist())
    return replace(features, arrays={space.name: _mapped(path, f"{space.name}.npy") for space in features.spaces})


def _mapped(path: Path, member: str) -> Array:
    """An array of an .npz as a map of the file; numpy itself would read all of it."""
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(member)
        if info.compress_type != zipfile.ZIP_STORED:
            with archive.open(member) as file:
                return np.lib.format.read_array(file, allow_pickle=False)
    with path.open("rb") as file:
        file.seek(info.header_offset + 26)  # of the local header: the lengths of the name and of what follows it
        name, extra = (int.from_bytes(file.read(2), "little") for _ in range(2))
        file.seek(info.header_offset + 30 + name + extra)
        major, _ = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
        if fortran or dtype.hasobject or dtype.itemsize * int(np.prod(shape, dtype=np.int64)) + file.tell() > path.stat().st_size:
            raise ValueError(f"its array {printable(member)} is not one of numbers, or cut off")
        if 0 in shape:
            return np.zeros(shape, dtype)
        return np.memmap(path, dtype, "r", file.tell(), shape)
