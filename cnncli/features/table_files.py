"""Feature files for other programs: `.safetensors` and Parquet."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cnncli import atomic
from cnncli.errors import EnvironmentFault, InputError, printable
from cnncli.features.beside import AGAIN, KEY, Content, about_of, without_arrays
from cnncli.features.feature_set import UNLABELLED, Array, FeatureSet


def write_safetensors(path: Path, content: Content) -> None:
    """Texts as tensors of bytes: a header of many paths would be too long. The tensors are put together in a file without a name."""
    from safetensors.numpy import save_file

    features = content.features
    listed = {"paths": list(features.paths), "splits": list(features.splits)}
    with atomic.temporary_folder(path.parent) as folder:
        arrays: dict[str, Array] = {}
        for place, space in enumerate(features.spaces):
            shape = (len(features), *space.shape)
            array = np.memmap(folder / str(place), content.dtype, "w+", shape=shape) if len(features) else np.zeros(shape, content.dtype)
            first = 0
            for chunk in content.chunks(place):
                array[first : first + len(chunk)] = chunk
                first += len(chunk)
            arrays[space.name] = array
        texts = {name: np.frombuffer(json.dumps(text).encode("utf-8", "surrogatepass"), dtype=np.uint8) for name, text in listed.items()}
        save_file({**arrays, "labels": features.labels, **texts}, path, metadata={KEY: about_of(features)})


def safetensors_metadata(path: Path) -> dict[str, str]:
    """What stands beside the tensors of any safetensors file; nothing where it cannot be read."""
    from cnncli.models.tensorfile import read_header

    try:
        metadata = read_header(path).get("__metadata__")
    except InputError:
        return {}
    return metadata if isinstance(metadata, dict) else {}


def read_safetensors(path: Path) -> FeatureSet:
    """The set of a .safetensors; see `read_features`."""
    from cnncli.models.tensorfile import read_header

    header, about = read_header(path), safetensors_metadata(path).get(KEY)
    if about is None:
        raise InputError(f"{path} is a .safetensors, but no feature file of cnn", AGAIN, path=str(path))
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))

    def array(name: str) -> Array:
        entry = header[name]
        dtype = {"F32": np.float32, "F16": np.float16, "I64": np.int64, "U8": np.uint8}[entry["dtype"]]
        first, last = entry["data_offsets"]
        shape = tuple(map(int, entry["shape"]))
        if last - first != np.dtype(dtype).itemsize * int(np.prod(shape, dtype=np.int64)) or 8 + length + last > path.stat().st_size:
            raise ValueError(f"its tensor {printable(name)} is cut off")
        return np.memmap(path, dtype, "r", 8 + length + first, shape) if last > first else np.zeros(shape, dtype)

    paths, splits = (json.loads(bytes(array(name)).decode("utf-8", "surrogatepass")) for name in ("paths", "splits"))
    features = without_arrays(about, np.array(array("labels")), paths, splits)
    return replace(features, arrays={space.name: array(space.name) for space in features.spaces})


def pyarrow() -> Any:
    """The package. EnvironmentFault where it is missing."""
    try:
        import pyarrow as pa
        import pyarrow.parquet  # a submodule is there once it has been imported
    except ImportError as error:
        raise EnvironmentFault("Parquet files need the package pyarrow", 'pip install "cnncli[parquet]"', path="pyarrow") from error
    return pa


def write_parquet(path: Path, content: Content) -> None:
    """A row an image: path, class, label, split, and a list of numbers for each space."""
    arrow, features = pyarrow(), content.features
    number = arrow.float32() if content.dtype == "float32" else arrow.float16()
    texts = [(name, arrow.string()) for name in ("path", "class", "split")]
    lists = [(space.name, arrow.list_(number, space.size)) for space in features.spaces]
    schema = arrow.schema([*texts, ("label", arrow.int64()), *lists], metadata={KEY: about_of(features)})
    streams = [iter(content.chunks(place)) for place in range(len(features.spaces))]
    first = 0
    with arrow.parquet.ParquetWriter(path, schema) as writer:
        for chunks in zip(*streams, strict=True):
            last = first + len(chunks[0])
            labels = features.labels[first:last]
            named = [features.classes[label] if label != UNLABELLED else None for label in labels.tolist()]
            columns = [
                arrow.array([_text(one) for one in features.paths[first:last]], arrow.string()),
                arrow.array([None if one is None else _text(one) for one in named], arrow.string()),
                arrow.array(features.splits[first:last], arrow.string()),
                arrow.array(labels),
                *(
                    arrow.FixedSizeListArray.from_arrays(arrow.array(np.ascontiguousarray(chunk).reshape(-1)), space.size)
                    for space, chunk in zip(features.spaces, chunks, strict=True)
                ),
            ]
            writer.write_table(arrow.Table.from_arrays(columns, schema=schema))
            first = last


def _text(name: str) -> str:
    """Bytes that are not UTF-8 escaped: Parquet's texts are UTF-8."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def read_parquet(path: Path) -> FeatureSet:
    """The set of a Parquet file; see `read_features`."""
    arrow = pyarrow()
    table = arrow.parquet.read_table(path)
    about = (table.schema.metadata or {}).get(KEY.encode())
    if about is None:
        raise InputError(f"{path} is a Parquet file, but no feature file of cnn", AGAIN, path=str(path))
    features = without_arrays(about.decode(), table["label"].to_numpy(), table["path"].to_pylist(), table["split"].to_pylist())
    arrays = {}
    for space in features.spaces:
        flat = table[space.name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        arrays[space.name] = flat.reshape(len(features), *space.shape)
    return replace(features, arrays=arrays)
