"""`--weights`: files that are no weights, weights of another net, and a network that is not there."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import re
import struct
import threading
import time
import zipfile
from collections.abc import Callable
from functools import cache
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import harness
import numpy as np
import pytest
from harness import HTML, LFS_POINTER, Done, assert_failed, run, unchanged

pytestmark = pytest.mark.slow

NET = "squeezenet1_1"  # the smallest: 5 MB


@cache
def state() -> dict[str, object]:
    """Random weights of torchvision's module: what lies in a published file."""
    import torch
    from torchvision.models import get_model

    torch.manual_seed(0)
    return get_model(NET, weights=None).state_dict()


def saved(content: object, **options: object) -> bytes:
    import torch

    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


def predict(here: Path, weights: str, *arguments: str, net: str = NET, **options: object) -> Done:
    (here / "image.png").write_bytes(harness.png())
    return run("predict", net, "--weights", weights, "image.png", "--json", *arguments, cwd=here, **({"warm": True} | options))


def refused(here: Path, name: str, pattern: str, *arguments: str, net: str = NET, code: int = 3) -> Done:
    (here / "image.png").write_bytes(harness.png())
    with unchanged(here):
        done = predict(here, f"./{name}", *arguments, net=net)
    assert_failed(done, code, pattern, json_out=True)
    assert name in done.errors[0]
    assert "weights_only" not in done.err
    return done


def test_C1_weights_saved_on_a_gpu(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    (here / "cpu.pth").write_bytes(saved(state()))
    monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
    for name, options in (("gpu.pth", {}), ("old.pth", {"_use_new_zipfile_serialization": False})):
        (here / name).write_bytes(saved(state(), **options))
        assert b"cuda:0" in (here / name).read_bytes()
        done = predict(here, name)
        assert done.code == 0, done.err
        assert done.json["predictions"] == predict(here, "cpu.pth").json["predictions"]


def test_C2_wrappers_and_prefixes_are_taken_off_and_told(here: Path) -> None:
    (here / "plain.pth").write_bytes(saved(state()))
    nested = {"epoch": 7, "ema": {}, "model": {"state_dict": {f"_orig_mod.module.{key}": tensor for key, tensor in state().items()}}}
    (here / "nested.pth").write_bytes(saved(nested))
    done = predict(here, "nested.pth")
    assert done.code == 0, done.err
    assert "note: nested.pth: the weights are its 'model' > 'state_dict'" in done.err
    assert "note: nested.pth: '_orig_mod.' and 'module.' taken off the names" in done.err
    assert "note: nested.pth also has 'ema', not used" in done.err
    assert done.json["predictions"] == predict(here, "plain.pth").json["predictions"]


def test_C3_another_number_of_classes(here: Path) -> None:
    from torchvision.models import get_model

    (here / "seven.pth").write_bytes(saved(get_model(NET, weights=None, num_classes=7).state_dict()))
    refused(here, "seven.pth", f"seven.pth has 7 outputs, but {NET} has 1000 classes here; --classes 7 builds the net for it")
    done = predict(here, "seven.pth", "--classes", "7", "--top", "7")
    assert done.code == 0, done.err
    assert sorted(guess["class"] for guess in done.json["predictions"]) == list("0123456")
    refused(here, "seven.pth", f"{NET} has 8 classes here", "--classes", "8")
    harness.make_folder(here / "data", {"0": 2, "other": 2})
    done = run("eval", NET, "--weights", "seven.pth", "--classes", "7", "--data", "data", cwd=here, warm=True)
    assert_failed(done, 3, "data has classes that the model does not know: other")
    assert_failed(predict(here, "imagenet", "--classes", "7"), 2, "have 1000 outputs, not 7", json_out=True)


def test_C4_weights_of_another_net(here: Path) -> None:
    content = state()
    (here / "squeeze.pth").write_bytes(saved(content))
    told = refused(here, "squeeze.pth", "does not hold resnet18: tensors", net="resnet18").errors[0]
    assert re.search(r"62 unexpected|\d+ missing \(conv1.weight, ", told)
    assert "its 1,235,496 parameters are those of squeezenet1_1" in told
    (here / "less.pth").write_bytes(saved({key: tensor for key, tensor in content.items() if not key.startswith("features.3.")}))
    refused(here, "less.pth", r"tensors 6 missing \(features.3.squeeze.weight, features.3.squeeze.bias, features.3.expand1x1.weight\)")
    (here / "more.pth").write_bytes(saved(content | {"head.weight": content["classifier.1.weight"]}))
    refused(here, "more.pth", r"tensors 1 unexpected \(head.weight\)")
    (here / "shape.pth").write_bytes(saved(content | {"features.0.weight": content["features.0.weight"][:, :2].clone()}))
    refused(here, "shape.pth", r"1 of 52 tensors do not fit, first conv1.weight 64x3x3x3 would get features.0.weight 64x2x3x3")
    odd = {f"\x1b[31m{key}": tensor for key, tensor in content.items()}
    (here / "odd.pth").write_bytes(saved(odd))
    assert "\\x1b[31m" in refused(here, "odd.pth", "52 missing").errors[0]


NO_WEIGHTS: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "empty file"),
    "text": (lambda: b"these are not weights\n", "text file"),
    "html": (lambda: HTML, "HTML page, not the file itself: download it again"),
    "git-lfs": (lambda: LFS_POINTER, "git-lfs pointer: run git lfs pull"),
    "image": (harness.png, "PNG"),
    "noise": (lambda: bytes(range(255, 0, -1)) * 20, "unknown kind of file"),
    "truncated": (lambda: saved(state())[:1_000_000], "cut off or damaged"),
    "truncated old": (lambda: saved(state(), _use_new_zipfile_serialization=False)[:1_000_000], "damaged"),
    "a number": (lambda: saved(3.5), "holds no tensors under names, but a float"),
    "a history": (lambda: saved({"epoch": 3, "loss": [1.0, 0.5]}), "holds no tensors under names, but a dictionary of epoch, loss"),
    "cut safetensors": (lambda: struct.pack("<Q", 50_000) + b'{"x":', "cut off"),
    "damaged safetensors": (lambda: struct.pack("<Q", 20) + b'{"x": nope' + b"\0" * 40, "damaged"),
}


@pytest.mark.parametrize("extension", ["pth", "safetensors"])
@pytest.mark.parametrize("kind", NO_WEIGHTS)
def test_C5_files_that_are_no_weights(kind: str, extension: str, here: Path) -> None:
    content, reason = NO_WEIGHTS[kind]
    (here / f"w.{extension}").write_bytes(content())
    refused(here, f"w.{extension}", reason)


def test_C5_weights_by_the_other_s_name(here: Path) -> None:
    from safetensors.torch import save

    (here / "a.pth").write_bytes(save(state()))
    (here / "b.safetensors").write_bytes(saved(state()))
    first, second = predict(here, "a.pth"), predict(here, "b.safetensors")
    assert (first.code, second.code) == (0, 0), first.err + second.err
    assert first.json == second.json


def test_C5_odd_places(here: Path) -> None:
    (here / "folder").mkdir()
    os.mkfifo(here / "fifo")
    refused(here, "absent.pth", "no such weights file: './absent.pth'")
    refused(here, "folder", "a folder, not a file")
    refused(here, "fifo", "a FIFO, not a file")


def in_every_process(folder: Path, text: str) -> dict[str, str]:
    """Environment variables under which every Python process runs `text` first."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(text)
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))}


def test_C8_a_torch_that_can_be_made_to_run_code(here: Path, tmp_path: Path) -> None:
    old = in_every_process(tmp_path / "old", "import torch\ntorch.__version__ = '2.9.1'\ntorch.load = None\n")
    (here / "w.pth").write_bytes(saved(state()))
    done = predict(here, "w.pth", warm=False, **old)
    assert_failed(done, 4, "torch 2.9.1 can be made to run code from a .pth file; 2.10 is needed; pip install -U torch", json_out=True)


def archive(*, compression: int = zipfile.ZIP_STORED, extra: tuple[str, ...] = ()) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved({"x": state()["features.0.bias"]}))) as original, zipfile.ZipFile(stream, "w") as made:
        for record in original.infolist():
            made.writestr(record.filename, original.read(record), compression)
        for name in extra:
            made.writestr(name, b"")
    return stream.getvalue()


def bomb() -> bytes:
    stream = io.BytesIO(saved({"x": state()["features.0.bias"]}))
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_DEFLATED) as made, made.open("archive/data/1", "w") as record:
        for _ in range(16):
            record.write(bytes(2**24))
    return stream.getvalue()


ARCHIVES: dict[str, tuple[Callable[[], bytes], str]] = {
    "bomb": (bomb, "is compressed; refused"),
    "compressed": (lambda: archive(compression=zipfile.ZIP_DEFLATED), "is compressed; refused"),
    "twice": (lambda: archive(extra=("archive/data.pkl",)), "one name twice"),
    "upwards": (lambda: archive(extra=("archive/../../evil",)), "names that torch.save never writes"),
}


@pytest.mark.parametrize("kind", ARCHIVES)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_C9_archives_that_are_traps(kind: str, here: Path) -> None:
    content, reason = ARCHIVES[kind]
    (here / "w.pth").write_bytes(content())
    refused(here, "w.pth", reason)
    assert not (here.parent / "evil").exists()


def test_C9_a_record_that_lies(here: Path) -> None:
    data = bytearray(saved(state()))
    struct.pack_into("<II", data, data.rindex(b"PK\x01\x02") + 20, 2**31, 2**31)
    (here / "w.pth").write_bytes(data)
    refused(here, "w.pth", "lists more bytes than its")


def exported(kind: str) -> bytes:
    import torch

    stream = io.BytesIO()
    module, example = torch.nn.Linear(2, 2), (torch.zeros(1, 2),)
    if kind == "ts":
        torch.jit.save(torch.jit.trace(module, example), stream)
    else:
        torch.export.save(torch.export.export(module, example), stream)
    return stream.getvalue()


def array() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return stream.getvalue()


class Canary:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


CODE: dict[str, tuple[Callable[[], bytes], str]] = {
    "ts": (lambda: exported("ts"), "is TorchScript, which is code; not loaded"),
    "pt2": (lambda: exported("pt2"), "is an exported program, which is more than weights; not loaded"),
    "onnx": (lambda: b"\x08\x08\x12\x07pytorch\x1a\x052.0.0:\xff\x01", "is not a file of weights"),
    "h5": (lambda: b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5 file"),
    "npy": (array, "numpy array file"),
    "pkl": (lambda: pickle.dumps({"x": 1}, protocol=2), "pickle that torch.save did not write"),
}


@pytest.mark.parametrize("kind", CODE)
@pytest.mark.filterwarnings("ignore")
def test_C12_programs_and_pickles(kind: str, here: Path) -> None:
    content, reason = CODE[kind]
    (here / f"w.{kind}").write_bytes(content())
    refused(here, f"w.{kind}", reason)


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}])
def test_C12_code_beside_weights_is_not_run(options: dict[str, object], here: Path, tmp_path: Path) -> None:
    (here / "w.pth").write_bytes(saved({"model": state(), "hook": Canary(tmp_path / "canary")}, **options))
    refused(here, "w.pth", r"needs code execution \(posix.system\); refused")
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("command", ["predict", "eval"])
def test_C13_no_network_and_not_cached(command: str, here: Path, tmp_path: Path) -> None:
    """From the installed command. Never random weights in the place of published ones."""
    (here / "image.png").write_bytes(harness.png())
    harness.make_folder(here / "data", {"tench": 1})
    arguments = ("image.png",) if command == "predict" else ("--data", "data")
    begun = time.monotonic()
    with unchanged(here):
        # A proxy that nobody listens at makes the network absent on every machine.
        done = run(
            command,
            "resnet50",
            "--weights",
            "imagenet",
            *arguments,
            "--json",
            cwd=here,
            TORCH_HOME=str(tmp_path / "torch"),
            https_proxy="http://127.0.0.1:9",
        )
    assert time.monotonic() - begun < 20
    assert_failed(done, 4, r"resnet50-0676ba61.pth is not in the cache and cannot be downloaded \(.+\)", json_out=True)
    for told in ("https://download.pytorch.org/models/resnet50-0676ba61.pth", f"put it into {tmp_path}/torch/hub/checkpoints"):
        assert told in done.json["error"]["fix"]
    assert list((tmp_path / "torch/hub/checkpoints").iterdir()) == []


def published(
    folder: Path, content: bytes, address: str = "https://download.pytorch.org/models", digest: str = ""
) -> tuple[str, dict[str, str]]:
    """A name with the right hash, and variables under which it is the published file of the net; the network leaves a trace."""
    name = f"{NET}-{digest or hashlib.sha256(content).hexdigest()[:8]}.pth"
    text = f"""
import sys
import torchvision.models as models

models.SqueezeNet1_1_Weights.IMAGENET1K_V1.value.url = {f"{address}/{name}"!r}


def trace(event, arguments):
    if event in ("socket.getaddrinfo", "socket.connect", "urllib.Request"):
        open({str(folder / "network")!r}, "a").close()


sys.addaudithook(trace)
"""
    return name, {"TORCH_HOME": str(folder / "torch"), **in_every_process(folder / "first", text)}


def test_C14_cached_and_no_network(here: Path, tmp_path: Path) -> None:
    content = saved(state())
    name, variables = published(tmp_path, content)
    cached = tmp_path / "torch/hub/checkpoints" / name
    cached.parent.mkdir(parents=True)
    cached.write_bytes(content)
    done = predict(here, "imagenet", warm=False, **variables)
    assert done.code == 0, done.err
    assert done.err == ""
    assert not (tmp_path / "network").exists()
    (here / "w.pth").write_bytes(content)
    assert done.json == predict(here, "w.pth").json
    from torchvision.models import SqueezeNet1_1_Weights

    assert all(guess["class"] in SqueezeNet1_1_Weights.DEFAULT.meta["categories"] for guess in done.json["predictions"])
    for guess in done.json["predictions"][:2]:
        (here / "data" / guess["class"]).mkdir(parents=True)
        (here / "data" / guess["class"] / "image.png").write_bytes(harness.png())
    arguments = ("--data", "data", "--split", "all", "--classes-subset", "--json")
    judged = run("eval", NET, "--weights", "imagenet", *arguments, cwd=here, **variables)
    assert judged.code == 0, judged.err
    assert judged.json["model"] == f"{NET} --weights imagenet"
    assert (judged.json["count"], judged.json["top1"], judged.json["top5"]) == (2, 0.5, 1.0), "one image under its two best classes"


def test_C14_the_trace_of_the_network_works(here: Path, tmp_path: Path) -> None:
    """Else the test above could not fail."""
    _, variables = published(tmp_path, b"absent")
    assert predict(here, "imagenet", warm=False, **variables).code == 4
    assert (tmp_path / "network").exists()


@pytest.mark.parametrize("kind", ["another file", "cut off"])
def test_C15_damaged_on_the_way(kind: str, here: Path, tmp_path: Path) -> None:
    content = saved(state())
    sent = HTML if kind == "another file" else content[: len(content) // 2]
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(content) if kind == "cut off" else len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, *arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    name, variables = published(tmp_path, content, f"http://127.0.0.1:{server.server_port}")
    (tmp_path / "torch/hub/checkpoints").mkdir(parents=True)
    (tmp_path / "torch/hub/checkpoints/other.pth").write_bytes(b"kept")
    try:
        done = predict(here, "imagenet", warm=False, **variables)
    finally:
        server.shutdown()
        server.server_close()
    digest = hashlib.sha256(sent).hexdigest()[:8]
    assert_failed(done, 4, rf"{name} .*expected .{name[-12:-4]}.*{digest}", json_out=True)
    assert len(asked) == 2, "once more, and not a third time"
    assert os.listdir(tmp_path / "torch/hub/checkpoints") == ["other.pth"]


def test_C17_a_cached_file_that_is_another(here: Path, tmp_path: Path) -> None:
    content = saved(state())
    name, variables = published(tmp_path, content)
    cached = tmp_path / "torch/hub/checkpoints" / name
    cached.parent.mkdir(parents=True)
    changed = bytearray(content)
    changed[len(changed) // 2] ^= 1
    cached.write_bytes(changed)
    done = predict(here, "imagenet", warm=False, **variables)
    assert_failed(done, 3, rf"sha256 differs \(expected {name[-12:-4]}, got .*\): {cached}; remove that file", json_out=True)
    assert json.loads(done.out)["error"]["path"] == str(cached)
    assert cached.read_bytes() == changed
