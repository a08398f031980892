"""Feature files: `.npz`, `.npy` with a list beside it, `.safetensors` and Parquet; written as a stream, whole or not at all, and mapped.

What stands beside the arrays is the same in each: the images' paths, labels and splits, and one JSON text that says what the numbers are.
In an `.npz` the spaces are arrays under their names, beside `labels`, `paths`, `splits`, `classes` and `about`. A `.npy` holds one space;
NAME.npy.jsonl beside it has the JSON text in its first line and an image in each of the others. Nothing in any of them is executed.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from cnncli import atomic
from cnncli.errors import EnvironmentFault, InputError, UsageError
from cnncli.features.beside import AGAIN, KEY, Content, check
from cnncli.features.feature_set import FeatureSet
from cnncli.features.numpy_files import read_npy, read_npz, write_npy, write_npz
from cnncli.features.table_files import pyarrow, read_parquet, read_safetensors, safetensors_metadata, write_parquet, write_safetensors
from cnncli.models.tensorfile import check_room

SUFFIXES = (".npz", ".npy", ".safetensors", ".parquet")


def check_target(path: Path, spaces: int, *, overwrite: bool) -> None:
    """Before any work: UsageError for a suffix that is none of SUFFIXES, a file that exists, or more spaces than it holds;
    EnvironmentFault for Parquet without pyarrow.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"--out {path} should end in {', '.join(SUFFIXES)}", f"for example -o {path.stem or 'features'}.npz", path="--out")
    if path.is_dir():
        raise UsageError(f"--out {path} is a folder", f"give a file: -o {path / 'features.npz'}", path="--out")
    if os.path.lexists(path) and not overwrite:
        raise UsageError(f"{path} exists", "use --overwrite, or another --out", path=str(path))
    if suffix == ".npy" and spaces != 1:
        raise UsageError(f"a .npy file holds one layer, and these are {spaces}", f"use -o {path.with_suffix('.npz')}", path="--out")
    if suffix == ".parquet":
        pyarrow()


def write_features(path: Path, content: Content) -> None:
    """Write a feature file in the form that its suffix says, whole or not at all. EnvironmentFault when the disk does not allow it."""
    atomic.make_folder(path.parent)
    needed = sum(space.size for space in content.features.spaces) * len(content.features) * np.dtype(content.dtype).itemsize
    check_room(path, needed)
    suffix = path.suffix.lower()
    if suffix == ".npy":
        write_npy(path, content)
    else:
        write = {".npz": write_npz, ".safetensors": write_safetensors, ".parquet": write_parquet}[suffix]
        atomic.write_with(path, lambda temporary: write(temporary, content))


def is_feature_file(text: str) -> bool:
    """Whether a word on the command line names a feature file. A `.safetensors` may also be a model: its header tells."""
    path = Path(text)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES or not path.is_file():
        return False
    return suffix != ".safetensors" or KEY in safetensors_metadata(path)


def read_features(path: Path) -> FeatureSet:
    """The set in a feature file. Its arrays are mapped, except those of Parquet, and read as rows are used.

    InputError for a file that is damaged or was written by something else.
    """
    try:
        read = {".npz": read_npz, ".npy": read_npy, ".safetensors": read_safetensors, ".parquet": read_parquet}[path.suffix.lower()]
        features = read(path)
        check(features)
    except (InputError, EnvironmentFault):
        raise
    except Exception as error:  # a file that is damaged makes its reader fail in any way
        raise InputError(f"{path} is no feature file, or damaged: {' '.join(str(error).split())[:120]}", AGAIN, path=str(path)) from error
    return features
