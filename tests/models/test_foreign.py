"""Files that are no models of ours are named for what they are; nothing in them ever runs."""

from __future__ import annotations

import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from cnncli.errors import InputError
from cnncli.models.modelfile import load, read_info


class Call:
    """Unpickling this calls `function` with `argument`."""

    def __init__(self, function, argument: str) -> None:
        self.function, self.argument = function, argument

    def __reduce__(self):
        return self.function, (self.argument,)


def refused(path: Path) -> str:
    for reader in (load, read_info):
        with pytest.raises(InputError) as caught:
            reader(path)
        told = str(caught.value)
        assert "\n" not in told
        assert str(path) in told
        assert "weights_only" not in told
    return told


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_pickle_that_runs_a_command(tmp_path: Path, protocol: int, wrapped: bool) -> None:
    canary = tmp_path / "canary"
    call = Call(os.system, f"touch {canary}")
    path = tmp_path / "bad.pkl"
    path.write_bytes(pickle.dumps({"optimizer": [{"state": call}]} if wrapped else call, protocol=protocol))
    assert "is a pickle that needs code execution (posix.system); refused" in refused(path)
    assert not canary.exists()


@pytest.mark.parametrize("new_format", [True, False])
def test_a_torch_file_that_runs_code(tmp_path: Path, new_format: bool) -> None:
    canary = tmp_path / "canary"
    path = tmp_path / "bad.pth"
    content = OrderedDict(weight=torch.zeros(2), hook=Call(eval, f"open({str(canary)!r}, 'w')"))
    torch.save(content, path, _use_new_zipfile_serialization=new_format)
    assert "(builtins.eval); refused" in refused(path) or "(__builtin__.eval); refused" in refused(path)
    assert not canary.exists()


@pytest.mark.parametrize("new_format", [True, False])
def test_harmless_weights_of_torch(tmp_path: Path, new_format: bool) -> None:
    path = tmp_path / "weights.pth"
    torch.save(torch.nn.Linear(3, 2).state_dict(), path, _use_new_zipfile_serialization=new_format)
    assert "is a PyTorch file (pickle), not a model of cnn" in refused(path)


CONTENTS = {
    "": "empty file",
    "hello, world\n": "text file",
    "<!DOCTYPE html><html><body>Not found</body></html>": "HTML page",
    "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n": "git-lfs pointer: run git lfs pull",
}


@pytest.mark.parametrize("content", CONTENTS, ids=list(CONTENTS.values()))
def test_text_of_all_kinds(tmp_path: Path, content: str) -> None:
    path = tmp_path / "m.safetensors"
    path.write_text(content)
    assert CONTENTS[content] in refused(path)


def test_other_binary_files(tmp_path: Path) -> None:
    archive = tmp_path / "photos.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("readme.txt", "hello")
    assert "zip archive" in refused(archive)
    array = tmp_path / "a.npy"
    np.save(array, np.zeros(3))
    assert "numpy array" in refused(array)
    picture = tmp_path / "a.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 50)
    assert "PNG file" in refused(picture)
    noise = tmp_path / "noise"
    noise.write_bytes(struct.pack("<Q", 2**60) + bytes(range(256)))
    assert "unknown kind of file" in refused(noise)


def test_a_truncated_torch_file(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(torch.nn.Linear(3, 2).state_dict(), path)
    whole = path.read_bytes()
    for length in (10, len(whole) // 2, len(whole) - 5):
        path.write_bytes(whole[:length])
        refused(path)


def test_what_is_no_file(tmp_path: Path) -> None:
    assert "no such model file" in refused(tmp_path / "nothing.safetensors")
    folder = tmp_path / "folder"
    folder.mkdir()
    assert "a folder, not a file" in refused(folder)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert "a FIFO, not a file" in refused(fifo)  # and is not waited for
