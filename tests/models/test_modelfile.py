"""The model file: what goes in comes out, and nothing damaged or hostile gets through."""

from __future__ import annotations

import json
import os
import resource
import struct
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from cnncli.arch.blocks import Part, chain
from cnncli.arch.layers import Flatten, Linear
from cnncli.arch.net import Net
from cnncli.arch.serial import net_to_json
from cnncli.arch.zoo.table import build
from cnncli.data.preprocess import Preprocess
from cnncli.errors import EnvironmentFault, InputError
from cnncli.models import modelfile, tensorfile
from cnncli.models.assemble import assemble
from cnncli.models.modelfile import ModelInfo, load, read_info, save
from cnncli.models.tensorfile import DIGEST_KEY, KEY


def refused(path: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)
    return caught.value


def rewrite(path: Path, change, *, digest: bool = True) -> None:
    """Change (tensors, description) and write the file again, with the right checksum unless told otherwise."""
    tensors = load_file(path)
    header = path.read_bytes()
    (length,) = struct.unpack("<Q", header[:8])
    stored = json.loads(json.loads(header[8 : 8 + length])["__metadata__"][KEY])
    tensors, stored = change(tensors, stored)
    text = json.dumps(stored)
    save_file(tensors, path, metadata={KEY: text, DIGEST_KEY: tensorfile.digest(text, tensors) if digest else "0" * 64})


def net_of(**parts: Part) -> dict[str, Any]:
    return net_to_json(Net("tiny", chain(**parts), (1, 2, 2), 2))


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = build("resnet20", classes=3)
    info = ModelInfo(net, ("b", "ä b", "c😀"), Preprocess(3, 32, 32), "digits", 0.1, 0.2, {"val_accuracy": 0.5, "epoch": 3.0}, "9.9")
    model = assemble(net).train()
    model(torch.randn(8, 3, 32, 32))  # running statistics that are not the initial ones
    model.eval()
    path = tmp_path / "a b.safetensors"
    save(path, model, info)
    loaded, told = load(path)
    assert told == info == read_info(path)
    assert not loaded.training
    x = torch.randn(4, 3, 32, 32)
    assert torch.equal(loaded(x), model(x))


def flips(path: Path, step: int) -> None:
    whole = path.read_bytes()
    damaged = path.with_name("damaged.safetensors")
    for bit in range(0, len(whole) * 8, step):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        damaged.write_bytes(data)
        with pytest.raises(InputError) as caught:
            load(damaged)
        assert "\n" not in str(caught.value), bit


def test_flipped_bits(model_file: Path) -> None:
    flips(model_file, 37)


@pytest.mark.slow
def test_every_flipped_bit(model_file: Path) -> None:
    flips(model_file, 1)


def test_every_truncation(model_file: Path) -> None:
    whole = model_file.read_bytes()
    cut = model_file.with_name("cut.safetensors")
    for length in range(len(whole)):
        cut.write_bytes(whole[:length])
        refused(cut)


def test_a_wrong_checksum(model_file: Path) -> None:
    rewrite(model_file, lambda t, s: (t, s), digest=False)
    assert "checksum differs" in str(refused(model_file))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t, s: ({"fc2.weight": t["fc.weight"], "fc.bias": t["fc.bias"]}, s), "do not fit its net"),
        (lambda t, s: (t | {"more": torch.zeros(1)}, s), "1 tensors do not fit its net, first more"),
        (lambda t, s: (t | {"fc.bias": torch.zeros(3)}, s), "do not fit its net, first fc.bias"),
        (lambda t, s: (t, s | {"format": 2}), "format is 2, this version reads 1; pip install -U"),
        (lambda t, s: (t, s | {"format": "1"}), "format"),
        (lambda t, s: (t, s | {"classes": ["cat"]}), "1 different classes for a net with 2"),
        (lambda t, s: (t, s | {"classes": ["cat", "cat"]}), "1 different classes for a net with 2"),
        (lambda t, s: (t, s | {"classes": ["cat", 3]}), "classes are not a list of names"),
        (lambda t, s: (t, s | {"classes": ["cat", "x" * 10**6]}), "classes are not a list of names"),
        (lambda t, s: (t, s | {"preprocess": s["preprocess"] | {"height": 4}}), "does not give the net's input size"),
        (lambda t, s: (t, s | {"preprocess": None}), "preprocessing"),
        (lambda t, s: (t, s | {"net": {}}), "net"),
        (lambda t, s: (t, s | {"val_fraction": 7}), "shares"),
        (lambda t, _: (t, []), "not a JSON object"),
        (lambda t, s: (t, s | {"format": True}), "a format"),
        (lambda t, s: (t, s | {"format": 0}), "a format"),
        (lambda t, s: (t, s | {"metrics": {"loss": 10**400}}), "description cannot be read"),
        (lambda t, s: (t | {"fc.bias": t["fc.bias"].double()}, s), "1 tensors do not fit its net, first fc.bias"),
        (lambda t, s: ({name: tensor.to(torch.int8) for name, tensor in t.items()}, s), "2 tensors do not fit its net"),
        (lambda t, s: (t, s | {"net": net_of(fc=Linear(2))}), "layer fc: fully connected, 2 needs a vector"),
        (lambda t, s: (t, s | {"net": net_of(flatten=Flatten(), fc=Linear(3))}), "does not end in 2 scores"),
        (lambda t, s: (t, s | {"net": net_of()}), "does not end in 2 scores"),
        (lambda t, s: (t, s | {"net": net_of(flatten=Flatten(), forward=Linear(2))}), "a name that torch does not allow"),
        (lambda t, s: (t, s | {"net": net_of() | {"root": {"part": "Add"}}}), "root has several inputs"),
    ],
)
def test_what_does_not_fit_together(model_file: Path, change, told: str) -> None:
    rewrite(model_file, change)
    assert told in str(refused(model_file))


def test_a_net_too_large_for_its_file_costs_nothing(model_file: Path, info: ModelInfo) -> None:
    huge = replace(info.net, root=chain(flatten=Flatten(), fc1=Linear(10**7), fc2=Linear(10**7), fc3=Linear(2)))
    rewrite(model_file, lambda t, s: (t, s | {"net": modelfile.net_to_json(huge)}))
    began = time.perf_counter()
    assert "100000080000002 parameters" in str(refused(model_file)).replace(",", "")
    assert time.perf_counter() - began < 2


def test_a_header_that_claims_a_gigabyte(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", 99_999_999) + b'{"a"')
    assert "cut off" in str(refused(path))


def test_a_safetensors_file_that_is_not_ours(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(2)}, path)
    assert "not a model of cnn" in str(refused(path))


def test_permissions_follow_the_umask(model_file: Path, info: ModelInfo) -> None:
    old = os.umask(0o027)
    try:
        save(model_file, assemble(info.net), info)
    finally:
        os.umask(old)
    assert model_file.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("failing", ["replace", "fsync"])
def test_a_write_that_fails_leaves_the_old_file(model_file: Path, info: ModelInfo, failing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = model_file.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(EnvironmentFault, match="No space left on device"):
        save(model_file, assemble(info.net), info)
    assert model_file.read_bytes() == before
    assert list(model_file.parent.iterdir()) == [model_file]


def test_a_disk_that_is_full_leaves_the_old_file(model_file: Path, info: ModelInfo) -> None:
    before = model_file.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, hard))
    try:
        with pytest.raises(EnvironmentFault, match="cannot write") as caught:
            save(model_file, assemble(info.net), info)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert model_file.read_bytes() == before
    assert list(model_file.parent.iterdir()) == [model_file]


def test_a_folder_that_is_not_there(tmp_path: Path, info: ModelInfo) -> None:
    with pytest.raises(EnvironmentFault, match="cannot write"):
        save(tmp_path / "nowhere" / "m.safetensors", assemble(info.net), info)


def test_reading_what_a_file_says_needs_no_torch(model_file: Path, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise RuntimeError('torch was imported')")
    code = f"from pathlib import Path; from cnncli.models.modelfile import read_info; print(read_info(Path({str(model_file)!r})).classes)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=True
    )
    assert done.stdout == "('cat', 'dog')\n"


def test_the_checksum_covers_text_name_type_shape_and_bytes() -> None:
    zeros = torch.zeros(2, 3)
    told = [
        tensorfile.digest("text", {"a": zeros}),
        tensorfile.digest("Text", {"a": zeros}),
        tensorfile.digest("text", {"b": zeros}),
        tensorfile.digest("text", {"a": zeros.int()}),
        tensorfile.digest("text", {"a": zeros.T}),
        tensorfile.digest("text", {"a": zeros + 1}),
        tensorfile.digest("text", {"a": zeros, "b": torch.zeros(0)}),
    ]
    assert len(set(told)) == len(told)
    assert tensorfile.digest("text", {"a": torch.zeros(3, 2).T}) == told[0]  # however it lies in memory
