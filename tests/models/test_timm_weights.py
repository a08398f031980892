"""Weights that timm publishes: the outputs that timm's own model gives with the same file, prepared as timm prepares images."""

from __future__ import annotations

import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save
from timm.data import ImageNetInfo, create_transform, resolve_data_config
from torch import Tensor, nn

from cnncli.data.wnids import imagenet_names
from cnncli.errors import EnvironmentFault, InputError, UsageError
from cnncli.models import timm_weights
from cnncli.models.modelfile import ModelInfo
from cnncli.models.pretrained import open_library
from cnncli.models.resolve import Spec
from cnncli.models.timm_weights import preprocess_of

NAME = "mobilenetv3_small_050.lamb_in1k"  # the smallest: 6 MB
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def drawn(model: nn.Module) -> nn.Module:
    """As timm draws it, with every scale, bias and average different from its neighbours."""
    for tensor in model.state_dict().values():
        if tensor.ndim == 1:
            tensor.uniform_(0.5, 1.5)
    return model.eval()


def state_of(name: str) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return drawn(timm.create_model(name)).state_dict()


def opened(name: str, weights: str | None = None, classes: int | None = None) -> tuple[nn.Module, ModelInfo, list[str]]:
    told: list[str] = []
    model, info = open_library(Spec("timm", name), weights, classes=classes, device="cpu", tell=told.append)
    assert not model.training
    return model, info, told


def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 260, 3), dtype=np.uint8))


def in_hub_cache(name: str, content: bytes, folder: Path, *, file: str = "model.safetensors") -> Path:
    """The file where the client of the Hugging Face hub keeps it: under its sha256, with a link to it under its name."""
    repository = folder / f"models--timm--{name}"
    blob = repository / "blobs" / sha256(content).hexdigest()
    for place in (blob.parent, repository / "refs", repository / "snapshots" / COMMIT):
        place.mkdir(parents=True)
    blob.write_bytes(content)
    (repository / "refs" / "main").write_text(COMMIT)
    (repository / "snapshots" / COMMIT / file).symlink_to(f"../../blobs/{blob.name}")
    return blob


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folders of both caches, empty; a proxy that nobody listens at makes the network absent on every machine."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for variable in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    return tmp_path / "hub"


def with_address(name: str, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give timm's weights of this name a plain address beside their place on the hub."""
    found = timm.get_pretrained_cfg(name)
    found.url = address
    monkeypatch.setattr(timm, "get_pretrained_cfg", lambda _: found)


@pytest.mark.parametrize("kind", ["safetensors", "pth", "address"])
def test_image_to_scores_as_in_timm(kind: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = state_of(NAME)
    theirs = timm.create_model(NAME).eval()
    theirs.load_state_dict(state)
    if kind == "safetensors":
        in_hub_cache(NAME, save(state), cache)
        place = f"https://huggingface.co/timm/{NAME}"
    else:
        torch.save(state, cache.parent / "w.pth")
        content = (cache.parent / "w.pth").read_bytes()
        place = f"https://nowhere.invalid/w-{sha256(content).hexdigest()[:8]}.pth"
        if kind == "pth":
            in_hub_cache(NAME, content, cache, file="pytorch_model.bin")
            place = f"https://huggingface.co/timm/{NAME}"
        else:
            with_address(NAME, place, monkeypatch)
            cached = cache.parent / "torch" / "hub" / "checkpoints"
            cached.mkdir(parents=True)
            (cached / place.rpartition("/")[2]).write_bytes(content)
    ours, info, told = opened("mobilenetv3_small_050")
    assert told == [f"weights of timm/{NAME}: {place}"]
    transform = create_transform(**resolve_data_config({}, model=theirs))
    with torch.inference_mode():
        expected = theirs(transform(picture())[None])
        found = ours(info.preprocess.normalise(torch.from_numpy(info.preprocess.pixels(picture()))[None]))
    assert expected.std() > 1e-3
    assert (found - expected).abs().max() / expected.std() < 1e-3
    assert (info.name, info.net, info.data) == (f"timm/{NAME}", None, "ImageNet")
    assert info.classes[207] == "golden retriever"
    assert "state_dict" not in ours.pretrained_cfg


def test_C15_a_file_that_is_another(cache: Path) -> None:
    blob = in_hub_cache(NAME, save(state_of(NAME)), cache)
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(content)
    with pytest.raises(InputError, match=rf"sha256 differs \(expected {blob.name[:16]}, got [0-9a-f]{{16}}\).*remove that file"):
        opened(NAME)


def test_C4_no_tensor_is_left_as_it_was_drawn(cache: Path) -> None:
    """DLA is one of timm's models that are loaded without asking for every tensor."""
    state = state_of("dla46_c.in1k")
    in_hub_cache("dla46_c.in1k", save({name: tensor for name, tensor in state.items() if name != "fc.bias"}), cache)
    with pytest.raises(InputError, match=r"does not fit timm/dla46_c: Missing keys \(fc.bias\)"):
        opened("dla46_c")


def test_C4_a_file_of_another_model(cache: Path) -> None:
    in_hub_cache(NAME, save(state_of("mobilenetv3_small_075")), cache)
    with pytest.raises(InputError, match=r"model.safetensors does not fit timm/mobilenetv3_small_050: .*size mismatch"):
        opened("mobilenetv3_small_050")


def test_C13_no_network_and_not_cached(cache: Path) -> None:
    begun = time.monotonic()
    with pytest.raises(
        EnvironmentFault, match=r"weights not cached and no network: model.safetensors of https://huggingface.co/timm/dla46_c"
    ):
        opened("dla46_c")
    with pytest.raises(EnvironmentFault, match=r"mobilenetv3_small_050_lambc-4b7bbe87.pth is not in the cache and cannot be downloaded"):
        opened(NAME)
    assert time.monotonic() - begun < 20


def test_what_has_no_weights_for_classes(cache: Path) -> None:
    for name, told in (
        ("resnet19", r"timm has no model 'resnet19'; did you mean timm/resnet"),
        ("resnet18.nope", r"timm has no model 'resnet18.nope'; did you mean timm/resnet18\."),
        ("vit_small_patch14_dinov2", "gives features of an image, and no classes"),
        ("resnet18.untrained", "no model"),
    ):
        with pytest.raises(UsageError, match=told):
            opened(name)
    bare = next(name for name in timm.list_models() if (c := timm.get_pretrained_cfg(name)) and not c.has_weights and c.num_classes)
    with pytest.raises(UsageError, match=f"timm/{bare} has no published weights"):
        opened(bare)


def test_a_file(tmp_path: Path) -> None:
    theirs = drawn(timm.create_model("mobilenetv3_small_050", num_classes=5))
    torch.save(theirs.state_dict(), tmp_path / "five.pth")
    with pytest.raises(InputError, match=r"five.pth has 5 outputs, but timm/mobilenetv3_small_050 has 1000 classes here; --classes 5"):
        opened("mobilenetv3_small_050", str(tmp_path / "five.pth"))
    model, info, told = opened("mobilenetv3_small_050", str(tmp_path / "five.pth"), 5)
    x = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        assert torch.equal(model(x), theirs(x))
    assert info.classes == tuple("01234")
    assert "assumed: classes 0, 1, ..., images prepared as for timm's own weights" in told[-1]


# ---- classes and preprocessing ----


@pytest.mark.parametrize("outputs", sorted(timm_weights.SUBSETS))
def test_names_of_larger_data_sets(outputs: int) -> None:
    names, data = timm_weights._names(outputs)
    assert len(names) == len(set(names)) == outputs
    assert len(ImageNetInfo(data).label_names()) == outputs
    assert timm_weights._names(7) == ((), "")


def test_names_are_in_timm_s_order() -> None:
    """The WNIDs in the order of timm's outputs, and timm's first word for each is among the words of our name or the reverse."""
    info = ImageNetInfo("imagenet-1k")
    assert list(imagenet_names()) == info.label_names()
    alike = sum(
        bool(set(ours.lower().replace(",", "").split()) & set(theirs.lower().replace(",", "").split()))
        for ours, theirs in zip(imagenet_names().values(), info.label_descriptions(), strict=True)
    )
    assert alike > 950


class Settings:
    """What is asked of timm's PretrainedCfg."""

    def __init__(self, **values: Any) -> None:
        self.values = values

    def to_dict(self) -> dict[str, Any]:
        return self.values


@pytest.mark.parametrize("size", [(500, 375), (256, 256), (90, 70)])
@pytest.mark.parametrize(
    "how",
    [
        {"input_size": (3, 224, 224), "crop_pct": 0.95, "interpolation": "bicubic", "mean": (0.5,) * 3, "std": (0.5,) * 3},
        {"input_size": (3, 288, 288), "crop_pct": 0.9, "interpolation": "bilinear"},
        {"input_size": (3, 160, 160), "crop_pct": 0.875, "interpolation": "bicubic"},
        {"input_size": (3, 100, 100), "crop_pct": 0.96, "interpolation": "bicubic"},
        {"input_size": (3, 224, 224), "crop_pct": 1.0, "crop_mode": "squash", "interpolation": "bicubic"},
    ],
    ids=lambda how: "-".join(map(str, how.values()))[:60] if isinstance(how, dict) else str(how),
)
def test_preprocessing_is_that_of_timm(how: dict[str, Any], size: tuple[int, int]) -> None:
    image = Image.fromarray(np.random.default_rng(sum(size)).integers(0, 256, (*size, 3), dtype=np.uint8))
    ours, notes = preprocess_of(Settings(**how))
    theirs = create_transform(**resolve_data_config({}, pretrained_cfg=how))
    assert notes == []
    assert torch.allclose(ours.normalise(torch.from_numpy(ours.pixels(image))[None])[0], theirs(image), atol=1e-5)


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"interpolation": "lanczos"}, "timm resizes with lanczos; here with bicubic"),
        ({"crop_mode": "border"}, "timm pads images to a square"),
        ({"crop_mode": "squash", "crop_pct": 0.9}, "timm squashes images to 248 pixels and cuts 224 out"),
    ],
)
def test_what_cannot_be_done_is_told(how: dict[str, Any], told: str) -> None:
    _, notes = preprocess_of(Settings(**{"input_size": (3, 224, 224)} | how))
    assert len(notes) == 1
    assert told in notes[0]
