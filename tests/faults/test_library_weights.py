"""Models of torchvision and timm from the installed command: cached weights need no network, and without both the command says so."""

from __future__ import annotations

import hashlib
import io
import os
import time
from functools import cache
from pathlib import Path
from typing import Any

import harness
import pytest
from harness import Done, assert_failed, run, unchanged

from cnncli.data.wnids import imagenet_wnids

pytestmark = pytest.mark.slow

TORCHVISION = "mobilenet_v3_small"  # 10 MB
TIMM = "mobilenetv3_small_050.lamb_in1k"  # 6 MB
ON_THE_HUB = "dla46_c.in1k"  # and nowhere else
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def drawn(model: Any) -> dict[str, Any]:
    """Random weights under which classes get different scores."""
    import torch

    generator = torch.Generator().manual_seed(0)
    state: dict[str, Any] = model.state_dict()
    for tensor in state.values():
        if tensor.ndim > 1:
            tensor.normal_(std=(2 / tensor[0].numel()) ** 0.5, generator=generator)
        elif tensor.ndim == 1:
            tensor.uniform_(0.5, 1.5, generator=generator)
    return state


@cache
def content(library: str) -> bytes:
    """A file of random weights as it would lie on the server."""
    import torch

    if library == "timm":
        import timm
        from safetensors.torch import save

        return save(drawn(timm.create_model(TIMM)))
    from torchvision.models import get_model

    stream = io.BytesIO()
    torch.save(drawn(get_model(TORCHVISION, weights=None)), stream)
    return stream.getvalue()


def surroundings(folder: Path, *, cached: bool) -> dict[str, str]:
    """Variables under which both caches are in `folder` and every use of the network leaves a trace there; no proxy answers."""
    name = f"{TORCHVISION}-{hashlib.sha256(content('torchvision')).hexdigest()[:8]}.pth"
    (folder / "first").mkdir()
    (folder / "first" / "sitecustomize.py").write_text(f"""
import sys
import torchvision.models as models

models.MobileNet_V3_Small_Weights.IMAGENET1K_V1.value.url = "https://download.pytorch.org/models/{name}"


def trace(event, arguments):
    if event in ("socket.getaddrinfo", "socket.connect", "urllib.Request"):
        open({str(folder / "network")!r}, "a").close()


sys.addaudithook(trace)
""")
    if cached:
        place = folder / "torch" / "hub" / "checkpoints"
        place.mkdir(parents=True)
        (place / name).write_bytes(content("torchvision"))
        repository = folder / "hub" / f"models--timm--{TIMM}"
        blob = repository / "blobs" / hashlib.sha256(content("timm")).hexdigest()
        for part in (blob.parent, repository / "refs", repository / "snapshots" / COMMIT):
            part.mkdir(parents=True)
        blob.write_bytes(content("timm"))
        (repository / "refs" / "main").write_text(COMMIT)
        (repository / "snapshots" / COMMIT / "model.safetensors").symlink_to(f"../../blobs/{blob.name}")
    path = os.pathsep.join(filter(None, (str(folder / "first"), os.environ.get("PYTHONPATH"))))
    caches = {"TORCH_HOME": str(folder / "torch"), "HF_HUB_CACHE": str(folder / "hub"), "HF_HOME": str(folder / "hf")}
    return {"PYTHONPATH": path, "https_proxy": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", **caches}


def predict(here: Path, model: str, *arguments: str, **variables: str) -> Done:
    (here / "image.png").write_bytes(harness.png())
    return run("predict", model, "image.png", "--json", *arguments, cwd=here, **variables)


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_C13_library_weights_without_a_network(library: str, here: Path, tmp_path: Path) -> None:
    """Never random weights in the place of published ones; and the trace of the network works."""
    name = TORCHVISION if library == "torchvision" else ON_THE_HUB
    variables = surroundings(tmp_path, cached=False)
    (here / "image.png").write_bytes(harness.png())
    begun = time.monotonic()
    with unchanged(here):
        done = predict(here, f"{library}/{name}", **variables)
    seconds = time.monotonic() - begun
    if library == "torchvision":
        assert_failed(done, 4, rf"{TORCHVISION}-[0-9a-f]{{8}}.pth is not in the cache and cannot be downloaded \(.+\)", json_out=True)
    else:
        assert_failed(
            done, 4, rf"weights not cached and no network: model.safetensors of https://huggingface.co/timm/{ON_THE_HUB} \(", json_out=True
        )
        assert "give it with --weights PATH" in done.json["error"]["fix"]
    assert (tmp_path / "network").exists()
    assert seconds < 20


def test_C14_library_weights_from_the_cache(here: Path, tmp_path: Path) -> None:
    """Both libraries, and folders named by WNIDs are judged by name."""
    variables = surroundings(tmp_path, cached=True)
    for library, name in (("torchvision", TORCHVISION), ("timm", TIMM)):
        done = predict(here, f"{library}/{name}", **variables)
        assert done.code == 0, done.err
        assert len(done.err.splitlines()) == 1
        assert done.err.startswith(f"weights of {library}/{name}: ")
        guesses = [guess["class"] for guess in done.json["predictions"]]
        assert set(guesses) <= imagenet_wnids().keys()
        assert done.json["predictions"][0]["probability"] > 1.1 * done.json["predictions"][1]["probability"]
    for guess in guesses[:2]:
        folder = here / "data" / imagenet_wnids()[guess]
        folder.mkdir(parents=True)
        (folder / "image.png").write_bytes(harness.png())
    judged = run("eval", f"timm/{TIMM}", "--data", "data", "--split", "all", "--classes-subset", "--json", cwd=here, **variables)
    assert judged.code == 0, judged.err
    assert (judged.json["count"], judged.json["top1"], judged.json["top5"]) == (2, 0.5, 1.0), "one image under its two best classes"
    assert not (tmp_path / "network").exists()


def test_C3_photos_of_one_s_own(here: Path) -> None:
    (here / "w.pth").write_bytes(content("torchvision"))
    harness.make_folder(here / "photos", {"aunt": 2, "uncle": 2})
    done = run("eval", f"torchvision/{TORCHVISION}", "--weights", "w.pth", "--data", "photos", cwd=here, warm=True)
    assert_failed(
        done, 3, r"no class in common: photos has aunt, uncle, the model tench, .* and 995 more; .*`cnn finetune` teaches it yours"
    )
