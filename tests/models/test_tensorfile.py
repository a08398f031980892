"""Files with tensors: what goes in comes out, and damage of any kind is an error that names the file, with torch or without."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cnncli.errors import EnvironmentFault, InputError
from cnncli.models import tensorfile
from cnncli.models.tensorfile import (
    DIGEST_KEY,
    KEY,
    TYPES,
    check_file,
    digest,
    load_tensors,
    read_header,
    read_metadata,
    save_tensors,
    undisturbed,
)

DTYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
]
DESCRIPTION = {"format": 1, "name": "Ünï 😀", "numbers": [1, 2.5, None]}


def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    whole = {str(dtype): torch.randint(0, 2, (2, 3)).to(dtype) for dtype in DTYPES}
    layouts = {"channels-last": torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last), "transposed": torch.randn(3, 4).T}
    return whole | layouts | {"number": torch.tensor(3.5), "empty": torch.zeros(0, 2), "one": torch.tensor([7]), "näme": torch.randn(2)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_tensors(tmp_path / "a b.safetensors", tensors(), DESCRIPTION)
    return tmp_path / "a b.safetensors"


def read(path: Path) -> dict[str, torch.Tensor]:
    return load_tensors(path, read_metadata(path, read_header(path)))


def check(path: Path) -> None:
    header = read_header(path)
    check_file(path, header, read_metadata(path, header))


def test_what_goes_in_comes_out(path: Path) -> None:
    found, expected = read(path), tensors()
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor)
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape)
    assert json.loads(read_metadata(path, read_header(path))[KEY]) == DESCRIPTION
    check(path)


def test_both_checksums_are_one() -> None:
    assert set(TYPES.values()) == set(map(str, DTYPES))


def test_the_same_content_is_the_same_file(path: Path) -> None:
    again = path.with_name("again.safetensors")
    save_tensors(again, dict(reversed(tensors().items())), DESCRIPTION)
    assert digest("x", read(again)) == digest("x", read(path))


@pytest.mark.parametrize("reader", [read, check])
def test_flipped_bits(reader, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"a": torch.arange(5.0), "b": torch.tensor(3)}, {"text": "abc"})
    whole = path.read_bytes()
    for bit in range(0, 8 * len(whole), 7):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        with pytest.raises(InputError) as caught:
            reader(path)
        assert "\n" not in str(caught.value), bit
        assert "x.safetensors" in str(caught.value)


@pytest.mark.parametrize("reader", [read, check])
def test_truncations(reader, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"a": torch.arange(5.0)}, {"text": "abc"})
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError):
            reader(path)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [1], "data_offsets": [0, 10**18]},
        {"dtype": "F32", "shape": [1], "data_offsets": [-9, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [0]},
        {"dtype": "F4", "shape": [1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": 3, "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": ["0", 4]},
        {"shape": [1], "data_offsets": [0, 4]},
        [],
        None,
    ],
    ids=str,
)
def test_a_hostile_header(entry: object, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    text = json.dumps({"__metadata__": {KEY: "{}", DIGEST_KEY: "0" * 64}, "a": entry}).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"\0\0\0\0")
    for reader in (read, check):
        with pytest.raises(InputError, match=r"x\.safetensors"):
            reader(path)


def test_others_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    for metadata in (None, {"other": "x"}):
        save_file({"a": torch.zeros(1)}, path, metadata=metadata)
        with pytest.raises(InputError, match="not a model of cnn"):
            read(path)


def test_what_is_no_number_is_no_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        save_tensors(tmp_path / "x.safetensors", {}, {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_says_how_much_is_missing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()
    monkeypatch.setattr(tensorfile.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1_000_000})())
    with pytest.raises(EnvironmentFault, match=r"disk full writing .*a b\.safetensors \(needs 4 MB, 1 MB free\)") as caught:
        save_tensors(path, {"a": torch.zeros(10**6)}, {})
    assert caught.value.path == str(path)
    assert path.read_bytes() == before


def test_a_disk_that_fails_leaves_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()

    def failing(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(EnvironmentFault, match="No space left on device"):
        save_tensors(path, {"a": torch.zeros(1)}, {})
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_the_check_needs_no_torch(path: Path) -> None:
    code = f"""
import sys
sys.modules["torch"] = sys.modules["safetensors"] = None
from pathlib import Path
from cnncli.models.tensorfile import check_file, read_header, read_metadata
path = Path({str(path)!r})
header = read_header(path)
check_file(path, header, read_metadata(path, header))
print("sound")
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "sound\n"


def test_weights_that_learn(tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.randn(3, 4))
    save_tensors(tmp_path / "x.safetensors", {"a": weight}, {})
    assert torch.equal(read(tmp_path / "x.safetensors")["a"], weight)


def test_a_file_that_is_replaced_while_it_is_read(path: Path) -> None:
    """A training writes a new one between the header and the tensors of another reader."""
    others = [{"a": torch.full((2,), float(number))} for number in range(3)]

    def slowly(path: Path) -> dict[str, torch.Tensor]:
        metadata = read_metadata(path, read_header(path))
        if others:
            save_tensors(path, others.pop(0), {"left": len(others)})
        return load_tensors(path, metadata)

    assert torch.equal(undisturbed(path, slowly)["a"], torch.full((2,), 2.0))
    assert not others


def test_a_damaged_file_is_read_once(path: Path) -> None:
    flipped = bytearray(path.read_bytes())
    flipped[-1] ^= 1
    path.write_bytes(flipped)
    times = []

    def counted(path: Path) -> dict[str, torch.Tensor]:
        times.append(path)
        return read(path)

    with pytest.raises(InputError, match="checksum differs"):
        undisturbed(path, counted)
    assert len(times) == 1
