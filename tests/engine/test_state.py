"""The state's file: whole at any instant, the one before it kept, and what is damaged noticed."""

from __future__ import annotations

import errno
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cnncli import atomic
from cnncli.engine.state import BEFORE, STATE, State, drop_damaged, load_state, read_description, save_state
from cnncli.errors import EnvironmentFault, InputError
from cnncli.models import tensorfile


def state(number: int) -> State:
    facts = {"position": {"epoch": number, "step": 7}, "history": []}
    return State({"train": {"seed": number}}, {"count": 9}, facts, {"a": torch.full((5,), float(number)), "b": torch.tensor(number)})


def number_of(folder: Path, **settings) -> int:
    found = load_state(folder, **settings)
    expected = state(int(found.tensors["b"]))
    assert found.tensors.keys() == expected.tensors.keys()
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in expected.tensors.items())
    assert (found.settings, found.data, found.facts) == (expected.settings, expected.data, expected.facts)
    return int(found.tensors["b"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With states 1 and 2."""
    save_state(tmp_path, state(1))
    save_state(tmp_path, state(2))
    return tmp_path


def test_what_goes_in_comes_out_and_the_one_before_is_kept(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [BEFORE, STATE]
    assert number_of(folder) == 2
    (folder / STATE).unlink()
    assert number_of(folder) == 1
    assert load_state(folder).where == "epoch 1 step 7"


def test_a_file_system_without_links_keeps_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    for number in (1, 2, 3):
        save_state(tmp_path, state(number))
    assert number_of(tmp_path) == 3
    assert [path.name for path in tmp_path.iterdir()] == [STATE]


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes) -> bytes:
    """One bit of a tensor."""
    return data[:-3] + bytes([data[-3] ^ 4]) + data[-2:]


def flipped_text(data: bytes) -> bytes:
    """One character of the settings: still JSON, of the same length."""
    return data.replace(rb"\"seed\": 2", rb"\"seed\": 3")


DAMAGES: list[Callable[[bytes], bytes]] = [cut, flipped, flipped_text, lambda _: b"", lambda data: b"\0" * len(data), lambda data: data[:8]]


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_one_before_is_taken_where_the_newest_is_damaged(damage, folder: Path) -> None:
    whole = (folder / STATE).read_bytes()
    damaged = damage(whole)
    assert damaged != whole
    (folder / STATE).write_bytes(damaged)
    told: list[str] = []
    assert number_of(folder, tell=told.append) == 1
    assert len(told) == 1
    assert told[0].startswith("warning: ")
    assert told[0].endswith("; the state before it is taken, from epoch 1 step 7")
    assert "\n" not in told[0]
    with pytest.raises(InputError, match=STATE):
        load_state(folder, strict=True)
    assert read_description(folder)["settings"] == {"train": {"seed": 1}}, "what it says of itself is that of the same file"
    with pytest.raises(InputError, match=STATE):
        read_description(folder, strict=True)


@pytest.mark.parametrize("damage", DAMAGES)
def test_both_damaged(damage, folder: Path) -> None:
    (folder / STATE).write_bytes(cut((folder / STATE).read_bytes()))
    (folder / BEFORE).write_bytes(damage((folder / BEFORE).read_bytes()).replace(rb"\"seed\": 1", rb"\"seed\": 7"))
    with pytest.raises(InputError, match=STATE) as caught:
        load_state(folder)
    assert "\n" not in str(caught.value)
    drop_damaged(folder)
    assert (folder / STATE).exists()


def test_every_bit(tmp_path: Path) -> None:
    save_state(tmp_path, state(1))
    path = tmp_path / STATE
    whole = path.read_bytes()
    for bit in range(0, 8 * len(whole), 41):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        for read in (load_state, read_description):
            with pytest.raises(InputError):
                read(tmp_path)


def test_a_folder_without_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no state\.safetensors"):
        load_state(tmp_path)
    with pytest.raises(InputError, match="is not there"):
        load_state(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file"):
        load_state(tmp_path / "file")


def test_a_newer_format_is_not_passed_over(folder: Path) -> None:
    tensorfile.save_tensors(folder / STATE, {}, {"format": 2, "settings": {}, "data": {}, "facts": {}, "position": {}})
    with pytest.raises(InputError, match=r"its format is 2, this version reads 1; pip install -U"):
        load_state(folder)


def test_a_model_is_no_state(folder: Path) -> None:
    tensorfile.save_tensors(folder / STATE, {"w": torch.zeros(1)}, {"format": 1, "net": {}})
    (folder / BEFORE).unlink()
    with pytest.raises(InputError, match="is no state of a training"):
        load_state(folder)


def test_reading_the_description_needs_no_torch(folder: Path) -> None:
    import subprocess
    import sys

    code = f"""
import sys
sys.modules["torch"] = None
from pathlib import Path
from cnncli.engine.state import read_description
print(read_description(Path({str(folder)!r}))["settings"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "{'train': {'seed': 2}}\n"


class Crash(BaseException):
    """The machine stops: nothing after it is done, no handler tidies up."""


# What a save does to the disk, one after another.
CALLS = [(os, "link"), (os, "replace"), (os, "rename"), (os, "fsync"), (os, "unlink"), (os, "chmod")]


def crashing(monkeypatch: pytest.MonkeyPatch, at: int, error: Callable[[], BaseException]) -> list[str]:
    """From the `at`-th call that changes the disk on, every one raises; the names of those before it and of this one."""
    calls: list[str] = []

    def shim(name: str, real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **settings: object) -> object:
            calls.append(name)
            if len(calls) > at:
                raise error()
            return real(*args, **settings)

        return call

    for module, name in CALLS:
        monkeypatch.setattr(module, name, shim(name, getattr(module, name)))
    real = tensorfile._write

    def write(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
        calls.append("write")
        real(path, tensors, metadata)
        if len(calls) > at:
            path.write_bytes(path.read_bytes()[:50])
            raise error()

    monkeypatch.setattr(tensorfile, "_write", write)
    return calls


@pytest.mark.parametrize("damaged", [False, True], ids=["whole", "newest damaged before"])
@pytest.mark.parametrize("error", [Crash, lambda: OSError(errno.EIO, "Input/output error")], ids=["crash", "disk error"])
def test_a_crash_at_any_point_leaves_one_that_loads(error, damaged: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at, seen = 0, set()
    while True:
        folder = tmp_path / str(at)
        folder.mkdir()
        save_state(folder, state(1))
        save_state(folder, state(2))
        if damaged:
            (folder / STATE).write_bytes(flipped((folder / STATE).read_bytes()))
            drop_damaged(folder)
        with monkeypatch.context() as patched:
            calls = crashing(patched, at, error)
            try:
                save_state(folder, state(3))
            except (Crash, EnvironmentFault, OSError):
                crashed = True
            else:
                crashed = False
        found = number_of(folder)
        assert found in ({1, 3} if damaged else {2, 3}), calls
        seen.add(found)
        if at >= len(calls):
            break
        assert crashed or isinstance(error(), OSError), calls
        save_state(folder, state(4))
        assert number_of(folder) == 4
        atomic.remove_stale(folder)
        assert {path.name for path in folder.iterdir()} <= {STATE, BEFORE}
        at += 1
    assert at >= 4, "the shim sees the steps of a save"
    assert found == 3
    assert len(seen) == 2


def test_the_description_stands_before_the_tensors(folder: Path) -> None:
    with (folder / STATE).open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        found = json.loads(json.loads(file.read(length))["__metadata__"][tensorfile.KEY])
    assert found["position"] == {"epoch": 2, "step": 7}
