"""Files of tensors that others saved: what is taken off, what is refused, and that nothing in them runs."""

from __future__ import annotations

import argparse
import io
import os
import pickle
import struct
import tarfile
import time
import tracemalloc
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from cnncli.errors import EnvironmentFault, InputError
from cnncli.models.assemble import assemble
from cnncli.models.checkpoint import read_checkpoint
from cnncli.models.foreign import LEGACY_MAGIC
from cnncli.models.modelfile import ModelInfo, save

STATE = OrderedDict((key, tensor.detach()) for key, tensor in nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).state_dict().items())


def read(path: Path) -> tuple[dict[str, torch.Tensor], list[str]]:
    told: list[str] = []
    return read_checkpoint(path, told.append), told


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read(path)
    told = str(caught.value)
    assert "\n" not in told
    assert str(path) in told
    assert "weights_only" not in told
    return told


def prefixed(prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + key: tensor for key, tensor in STATE.items()}


WRAPPED: dict[str, tuple[object, list[str]]] = {
    "bare": (STATE, []),
    "DataParallel": (prefixed("module."), ["'module.' taken off"]),
    "compiled": (prefixed("_orig_mod."), ["'_orig_mod.' taken off"]),
    "both": (prefixed("_orig_mod.module."), ["'_orig_mod.' and 'module.' taken off"]),
    "and again": (prefixed("module._orig_mod.module."), ["'module.' and '_orig_mod.' and 'module.' taken off"]),
    "state_dict": ({"epoch": 3, "state_dict": STATE, "optimizer": {"lr": 0.1}}, ["the weights are its 'state_dict'"]),
    "model": ({"model": STATE, "best": 0.9}, ["the weights are its 'model'"]),
    "model_state": ({"model_state": STATE}, ["the weights are its 'model_state'"]),
    "ema": ({"ema": STATE}, ["the weights are its 'ema'"]),
    "two": ({"ema": {key: tensor + 1 for key, tensor in STATE.items()}, "model": STATE}, ["also has 'ema', not used", "its 'model'"]),
    "nested": ({"model": {"state_dict": prefixed("module.")}}, ["its 'model' > 'state_dict'", "'module.' taken off"]),
    "Lightning": ({"state_dict": prefixed("model."), "hparams": {"lr": 1e-3}}, ["its 'state_dict'", "'model.' taken off"]),
    "averaged": ({"n_averaged": torch.tensor(7)} | prefixed("module."), ["'n_averaged' left out", "'module.' taken off"]),
}


@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize("case", WRAPPED)
def test_wrappers_and_prefixes(case: str, new_format: bool, tmp_path: Path) -> None:
    content, notes = WRAPPED[case]
    torch.save(content, tmp_path / "x.pth", _use_new_zipfile_serialization=new_format)
    found, told = read(tmp_path / "x.pth")
    assert list(found) == list(STATE)
    assert all(torch.equal(found[key], tensor) for key, tensor in STATE.items())
    assert len(told) == len(notes)
    assert all(note in line for note, line in zip(notes, told, strict=True)), told


def test_a_prefix_of_some_names_alone_stays(tmp_path: Path) -> None:
    content = prefixed("module.") | {"head.weight": torch.zeros(1)}
    torch.save(content, tmp_path / "x.pth")
    found, told = read(tmp_path / "x.pth")
    assert list(found) == list(content)
    assert told == []


def test_safetensors_whatever_it_is_called(tmp_path: Path, info: ModelInfo) -> None:
    save_file(prefixed("module."), tmp_path / "x.pth")
    found, told = read(tmp_path / "x.pth")
    assert found.keys() == STATE.keys()
    assert len(told) == 1
    torch.save(STATE, tmp_path / "y.safetensors")
    assert list(read(tmp_path / "y.safetensors")[0]) == list(STATE)
    save(tmp_path / "model.safetensors", assemble(info.net), info)
    assert "is a model of cnn, net and all; give it in the place of the net" in refused(tmp_path / "model.safetensors")
    whole = (tmp_path / "x.pth").read_bytes()
    for length in (9, 60, len(whole) - 1):
        (tmp_path / "x.pth").write_bytes(whole[:length])
        refused(tmp_path / "x.pth")


CONTENTS = {
    "number": 3,
    "list": [torch.zeros(2)],
    "no tensors": {"epoch": 3, "lr": 0.1},
    "empty": {},
    "empty state": {"state_dict": {}},
    "mixed": dict(STATE) | {"epoch": 3},
    "numbered": {0: torch.zeros(2)},
    "sparse": {"x": torch.eye(3).to_sparse()},
    "complex": {"x": torch.zeros(2, dtype=torch.complex64)},
    "expanded": {"x": torch.zeros(1).expand(10**12)},
    "too deep": {"model": {"model": {"model": {"model": {"model": {"model": {"model": {"model": {"model": STATE}}}}}}}}},
}


@pytest.mark.parametrize("case", CONTENTS)
def test_what_is_no_dictionary_of_tensors(case: str, tmp_path: Path) -> None:
    torch.save(CONTENTS[case], tmp_path / "x.pth")
    assert "holds no tensors under names" in refused(tmp_path / "x.pth") or "of its entries are no plain tensors" in refused(
        tmp_path / "x.pth"
    )


class Call:
    """Unpickling this makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("new_format", [True, False])
def test_code_is_refused_and_never_run(new_format: bool, tmp_path: Path) -> None:
    path, canary = tmp_path / "x.pth", tmp_path / "canary"
    for content in (Call(canary), {"model": STATE, "optimizer": [{"hook": Call(canary)}]}):
        torch.save(content, path, _use_new_zipfile_serialization=new_format)
        assert "needs code execution (posix.system); refused" in refused(path)
    torch.save({"model": STATE, "arguments": argparse.Namespace(lr=0.1)}, path, _use_new_zipfile_serialization=new_format)
    assert "needs code execution (argparse.Namespace); refused; give a .safetensors file, or a .pth" in refused(path)
    torch.save(nn.Linear(2, 2), path, _use_new_zipfile_serialization=new_format)  # a whole module
    assert "needs code execution (torch.nn.modules.linear.Linear); refused" in refused(path)
    for protocol in range(6):
        path.write_bytes(pickle.dumps({"x": Call(canary)}, protocol=protocol))
        refused(path)
    path.write_bytes(pickle.dumps({"x": 1}, protocol=2))
    assert "pickle that torch.save did not write" in refused(path)
    assert not canary.exists()


def rezipped(path: Path, change: object) -> None:
    """Write the archive again record by record; `change` gives the (name, data, compression) of each, or several."""
    with zipfile.ZipFile(path) as archive:
        records = [(record.filename, archive.read(record)) for record in archive.infolist()]
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in records:
            for new_name, new_data, compression in change(name, data):
                archive.writestr(new_name, new_data, compression)


STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
ARCHIVES = {
    "compressed record": (lambda n, d: [(n, d, DEFLATED if "data/0" in n else STORED)], "is compressed"),
    "compressed pickle": (lambda n, d: [(n, d, DEFLATED if n.endswith("data.pkl") else STORED)], "is compressed"),
    "one name twice": (lambda n, d: [(n, d, STORED)] * (2 if n.endswith("data.pkl") else 1), "one name twice"),
    "upwards": (lambda n, d: [(n, d, STORED), ("x/../../../evil", b"", STORED)] if "data.pkl" in n else [(n, d, STORED)], "never writes"),
    "absolute": (lambda n, d: [(n, d, STORED), ("/evil", b"", STORED)] if "data.pkl" in n else [(n, d, STORED)], "never writes"),
    "two folders": (lambda n, d: [(n, d, STORED), (f"y{n}", d, STORED)], "two folders"),
    "TorchScript": (
        lambda n, d: [(n, d, STORED), (f"{n.split('/')[0]}/constants.pkl", b"", STORED)] if "data.pkl" in n else [],
        "TorchScript",
    ),
    "program": (lambda n, d: [(n, d, STORED), (f"{n.split('/')[0]}/archive_format", b"", STORED)] if "data.pkl" in n else [], "exported"),
    "no pickle": (lambda n, d: [] if "data.pkl" in n else [(n, d, STORED)], "zip archive that torch.save did not write"),
}


@pytest.mark.parametrize("case", ARCHIVES)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archives_that_torch_never_writes(case: str, tmp_path: Path) -> None:
    change, told = ARCHIVES[case]
    torch.save(STATE, tmp_path / "x.pth")
    rezipped(tmp_path / "x.pth", lambda n, d: [(n, d, STORED)])
    assert list(read(tmp_path / "x.pth")[0]) == list(STATE), "the archive written again is one of torch's"
    rezipped(tmp_path / "x.pth", change)
    assert told in refused(tmp_path / "x.pth")


def test_a_record_that_lies_about_its_size(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save(STATE, path)
    data = bytearray(path.read_bytes())
    entry = data.rindex(b"PK\x01\x02")  # of the archive's directory: sizes at 20 and 24
    struct.pack_into("<II", data, entry + 20, 2**31, 2**31)
    path.write_bytes(data)
    assert "lists more bytes than its" in refused(path)


def test_a_bomb_costs_nothing(tmp_path: Path) -> None:
    """A tensor of 256 MiB of zeros, compressed to a quarter of a megabyte: refused from the directory, nothing unpacked."""
    path = tmp_path / "x.pth"
    torch.save({"x": torch.zeros(2)}, path)
    with zipfile.ZipFile(path, "a", DEFLATED) as archive, archive.open("x/data/1", "w") as record:
        for _ in range(16):
            record.write(bytes(2**24))
    assert path.stat().st_size < 2**19
    tracemalloc.start()
    begun = time.perf_counter()
    assert "is compressed" in refused(path)
    assert time.perf_counter() - begun < 0.2
    assert tracemalloc.get_traced_memory()[1] < 2**21
    tracemalloc.stop()


def test_a_tar_that_begins_like_torch_s_old_format(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("0123456789abcde"), io.BytesIO())
    data = bytearray(stream.getvalue())
    data[: len(LEGACY_MAGIC)] = LEGACY_MAGIC
    data[257:265] = bytes(8)  # as tar was before it had a magic number
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    (tmp_path / "x.pth").write_bytes(data)
    assert tarfile.is_tarfile(tmp_path / "x.pth")
    assert "tar archive" in refused(tmp_path / "x.pth")


def test_truncated(tmp_path: Path) -> None:
    for new_format in (True, False):
        path = tmp_path / "x.pth"
        torch.save({"x": torch.randn(1000)}, path, _use_new_zipfile_serialization=new_format)
        whole = path.read_bytes()
        for length in (20, 100, len(whole) // 2, len(whole) - 3):
            path.write_bytes(whole[:length])
            refused(path)


def test_flipped_bits_end_in_an_error_of_ours(tmp_path: Path) -> None:
    """The pickle and the directory at every byte; tensors may change unseen, since torch keeps no checksum that it compares."""
    path = tmp_path / "x.pth"
    for new_format in (True, False):
        torch.save(STATE, path, _use_new_zipfile_serialization=new_format)
        whole = path.read_bytes()
        for place in range(0, len(whole), 7):
            changed = bytearray(whole)
            changed[place] ^= 1 << place % 8
            path.write_bytes(changed)
            try:
                read(path)
            except InputError as error:
                assert "weights_only" not in str(error)


def test_numbers_behind_the_old_pickle_are_no_code(tmp_path: Path) -> None:
    """The raw numbers of the old format may look like an instruction to import; they are never read as one."""
    raw = torch.frombuffer(bytearray(b"cos\nsystem\n.." + b"." * 86), dtype=torch.uint8).clone()
    torch.save({"x": raw}, tmp_path / "x.pth", _use_new_zipfile_serialization=False)
    assert torch.equal(read(tmp_path / "x.pth")[0]["x"], raw)


def test_a_torch_that_can_be_made_to_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(STATE, tmp_path / "x.pth")
    save_file(STATE, tmp_path / "x.safetensors")
    monkeypatch.setattr(torch, "load", lambda *a, **k: pytest.fail("torch.load was called"))
    for old in ("2.9.1+cpu", "2.5.0", "1.13.1"):
        monkeypatch.setattr(torch, "__version__", old)
        with pytest.raises(
            EnvironmentFault, match=rf"torch {old.replace('+', '.')} can be made to run code .* 2.10 is needed; pip install -U torch"
        ):
            read(tmp_path / "x.pth")
        assert list(read(tmp_path / "x.safetensors")[0])
    monkeypatch.undo()
    for new in ("2.10.0", "2.10.0a0+git1", "3.0.1"):
        monkeypatch.setattr(torch, "__version__", new)
        assert list(read(tmp_path / "x.pth")[0]) == list(STATE)
