"""Files given as a model that are none, or damaged, or hostile; through every command that takes one."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from pathlib import Path

import harness
import pytest
from harness import HTML, LFS_POINTER, Trained, assert_failed, run, unchanged

pytestmark = pytest.mark.slow

EACH_COMMAND = {
    "eval": ("eval", "FILE", "--json"),
    "predict": ("predict", "FILE", "image.png", "--json"),
    "shape": ("shape", "FILE", "--json"),
}


def refused(here: Path, name: str, pattern: str, *, commands: tuple[str, ...] = tuple(EACH_COMMAND)) -> None:
    (here / "image.png").write_bytes(harness.png())
    with unchanged(here):
        for command in commands:
            done = run(*(f"./{name}" if word == "FILE" else word for word in EACH_COMMAND[command]), cwd=here, warm=True)
            assert_failed(done, 3, pattern, json_out=True)
            assert name in done.errors[0]
            assert done.json["error"]["path"] is not None
            assert "weights_only" not in done.err
            assert "unexpected" not in done.err


def zipped(**records: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in records.items():
            archive.writestr(name, data)
    return stream.getvalue()


def foreign_safetensors() -> bytes:
    header = json.dumps({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return struct.pack("<Q", len(header)) + header + b"\0" * 4


NO_MODELS = {
    "empty": (b"", "empty file"),
    "text": (b"these are not weights\n", "text file"),
    "html": (HTML, "HTML page"),
    "git-lfs": (LFS_POINTER, "git-lfs pointer: run git lfs pull"),
    "zip": (zipped(readme=b"hello"), "zip archive"),
    "image": (harness.png(), "PNG"),
    "other safetensors": (foreign_safetensors(), "safetensors file, but not a model of cnn"),
    "noise": (bytes(range(255, 0, -1)) * 20, "unknown kind of file"),
    "header alone": (struct.pack("<Q", 50_000) + b'{"__metadata__":', "cut off"),
    "damaged header": (struct.pack("<Q", 20) + b'{"__metadata__": nope' + b"\0" * 40, "damaged"),
    "list as header": (struct.pack("<Q", 8) + b'{"a":[]}' + b"\0" * 40, "not a model of cnn"),
}


@pytest.mark.parametrize("extension", ["safetensors", "pth"])
@pytest.mark.parametrize("kind", NO_MODELS)
def test_C5_no_model(kind: str, extension: str, here: Path) -> None:
    content, reason = NO_MODELS[kind]
    (here / f"model.{extension}").write_bytes(content)
    refused(here, f"model.{extension}", reason)


def test_C5_missing_and_odd_places(here: Path) -> None:
    (here / "folder").mkdir()
    os.mkfifo(here / "fifo")
    refused(here, "absent.safetensors", "no such model file")
    refused(here, "folder", "holds no best.safetensors")
    refused(here, "fifo", "a FIFO, not a file")


@pytest.mark.parametrize("share", [0.0001, 0.003, 0.01, 0.5, 0.999])
def test_C5_truncated(share: float, here: Path, digits_run: Trained) -> None:
    data = digits_run.best.read_bytes()
    cut = int(len(data) * share)
    (here / "cut.safetensors").write_bytes(data[:cut])
    commands = tuple(EACH_COMMAND) if share < 0.005 else ("eval", "predict")  # shape reads the header alone
    refused(here, "cut.safetensors", "cut off|damaged|not a model of cnn|checksum|bytes, but its net", commands=commands)


def test_C5_state_dict_of_torch(here: Path) -> None:
    import torch

    torch.save({"weight": torch.zeros(3)}, here / "weights.pth")
    torch.save({"weight": torch.zeros(3)}, here / "old.pth", _use_new_zipfile_serialization=False)
    refused(here, "weights.pth", r"PyTorch file \(pickle\), not a model of cnn")
    refused(here, "old.pth", "pickle")


def test_C5_last_of_a_run_without_best(here: Path, digits_run: Trained) -> None:
    (here / "run").mkdir()
    (here / "run" / "last.safetensors").write_bytes(digits_run.best.read_bytes())
    assert run("shape", "run", cwd=here).code == 0


def header_end(data: bytes) -> int:
    return 8 + struct.unpack("<Q", data[:8])[0]


def test_C6_flipped_bit_in_the_weights(here: Path, digits_run: Trained) -> None:
    data = digits_run.best.read_bytes()
    first = header_end(data)
    for place in (first, first + 1, (first + len(data)) // 2, len(data) - 1):
        for bit in (0, 7):
            changed = bytearray(data)
            changed[place] ^= 1 << bit
            (here / "flipped.safetensors").write_bytes(changed)
            refused(here, "flipped.safetensors", "checksum differs: .*flipped.safetensors", commands=("predict",))
    refused(here, "flipped.safetensors", "checksum differs: .*flipped.safetensors", commands=("eval",))


def test_C6_flipped_bits_in_the_header(digits_run: Trained, tmp_path: Path) -> None:
    """Every 97th bit of the header: none of them may go unnoticed, and each must end as an InputError."""
    from cnncli.errors import InputError
    from cnncli.models.modelfile import load

    data = digits_run.best.read_bytes()
    path = tmp_path / "x.safetensors"
    for bit in range(0, 8 * header_end(data), 97):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        with pytest.raises(InputError):
            load(path)


def swapped(data: bytes, change: object) -> bytes:
    """The file with `change` applied to its description, and nothing else."""
    end = header_end(data)
    header = json.loads(data[8:end])
    stored = json.loads(header["__metadata__"]["cnncli"])
    change(stored)
    header["__metadata__"]["cnncli"] = json.dumps(stored)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data[end:]


EDITS = {
    "classes swapped": (lambda stored: stored["classes"].reverse(), "checksum differs"),
    "a class less": (lambda stored: stored["classes"].pop(), "9 different classes for a net with 10"),
    "a newer format": (lambda stored: stored.update(format=99), "format is 99, this version reads 1; pip install -U"),
    "no net": (lambda stored: stored.pop("net"), "net"),
    "preprocessing": (lambda stored: stored["preprocess"].update(height=31), "preprocessing"),
    "hostile preprocessing": (lambda stored: stored["preprocess"].update(height=10**9), "preprocessing"),
    "class names that are numbers": (lambda stored: stored.update(classes=list(range(10))), "classes"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_C6_edited_description(edit: str, here: Path, digits_run: Trained) -> None:
    change, pattern = EDITS[edit]
    (here / "edited.safetensors").write_bytes(swapped(digits_run.best.read_bytes(), change))
    refused(here, "edited.safetensors", pattern, commands=("predict", "eval") if "checksum" in pattern else tuple(EACH_COMMAND))


class Canary:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


class EvalCanary(Canary):
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, (f"open({str(self.path)!r}, 'w')",)


@pytest.mark.parametrize("kind", [Canary, EvalCanary])
@pytest.mark.parametrize("container", ["torch zip", "torch legacy", "plain pickle", "nested", "protocol 0", "as safetensors"])
def test_C7_pickle_that_runs_code(kind: type[Canary], container: str, here: Path, tmp_path: Path) -> None:
    import torch

    canary = tmp_path / "canary"
    value = kind(canary)
    path = here / ("evil.safetensors" if container == "as safetensors" else "evil.pth")
    if container in ("torch zip", "as safetensors"):
        torch.save(value, path)
    elif container == "torch legacy":
        torch.save(value, path, _use_new_zipfile_serialization=False)
    elif container == "nested":
        torch.save({"model": {"w": torch.zeros(2)}, "optimizer": {"state": [{"x": value}]}}, path)
    else:
        path.write_bytes(pickle.dumps(value, protocol=0 if container == "protocol 0" else 4))
    told = (
        "not a model of cnn" if container in ("protocol 0", "torch legacy") else r"needs code execution \((posix\.system|builtins\.eval)\)"
    )
    refused(here, path.name, f"{told}|needs code execution")
    assert not canary.exists()


def test_C7_strings_are_only_strings(here: Path, digits_run: Trained) -> None:
    """Names in a model file that look like code or commands are names."""
    names = ["os.system", "__reduce__", "file.py:Net", "$(touch canary)", "`touch canary`", "\x1b[31mred", "../../x", "=1+1", "%s", "{0}"]
    import dataclasses

    from cnncli.models.modelfile import load, save

    model, info = load(digits_run.best)
    save(here / "odd.safetensors", model, dataclasses.replace(info, classes=tuple(names), data="$(touch canary)"))
    (here / "image.png").write_bytes(harness.png())
    with unchanged(here):
        done = run("predict", "odd.safetensors", "image.png", "--top", "10", cwd=here, warm=True)
        assert done.code == 0, done.err
        assert "\x1b" not in done.out
        assert "\\x1b[31mred" in done.out
        done = run("predict", "odd.safetensors", "image.png", "--top", "10", "--json", cwd=here, warm=True)
        assert {guess["class"] for guess in done.json["predictions"]} == set(names)
        assert_failed(run("eval", "odd.safetensors", cwd=here, warm=True), 3, r"odd.safetensors was trained on \$\(touch canary\)")
