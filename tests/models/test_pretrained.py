"""Models of torchvision with weights: the outputs that torchvision's own code gives with the same file, or an error that says why not."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights

from cnncli.errors import EnvironmentFault, InputError, UsageError
from cnncli.models.fitting import current_name
from cnncli.models.imagenet import library_entry
from cnncli.models.pretrained import open_library
from cnncli.models.published import check_weights, entry_of
from cnncli.models.resolve import Spec


def drawn(module: nn.Module) -> nn.Module:
    """Every tensor different in every number, scaled so that activations neither vanish nor explode."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in module.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2.0, generator=generator)
        elif tensor.ndim > 1 and tensor.is_floating_point():
            tensor.normal_(std=(2 / tensor[0].numel()) ** 0.5, generator=generator)
        elif name.endswith("weight"):
            tensor.uniform_(0.2, 1.0, generator=generator)
        elif tensor.is_floating_point():
            tensor.normal_(std=0.3, generator=generator)
    return module.eval()


def in_cache(weights: Any, state: dict[str, Tensor], home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that torchvision would have downloaded for this entry, in a cache of its own; its address leads nowhere."""
    folder = home / "hub" / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state, folder / "draft")
    name = f"weights-{sha256((folder / 'draft').read_bytes()).hexdigest()[:8]}.pth"
    (folder / "draft").rename(folder / name)
    monkeypatch.setattr(weights.value, "url", f"https://nowhere.invalid/{name}")
    monkeypatch.setenv("TORCH_HOME", str(home))
    return folder / name


def opened(spec: str, weights: str | None = None, classes: int | None = None) -> tuple[nn.Module, Any, list[str]]:
    told: list[str] = []
    library, _, name = spec.partition("/")
    model, info = open_library(Spec(library, name), weights, classes=classes, device="cpu", tell=told.append)  # type: ignore[arg-type]
    assert not model.training
    return model, info, told


def picture(height: int = 300, width: int = 260) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


ALL_KINDS = ("mnasnet0_5", "mobilenet_v3_small", "regnet_y_400mf", "resnet18")
SLOW_KINDS = (
    "densenet121",
    "efficientnet_b0",
    "googlenet",
    "inception_v3",
    "maxvit_t",
    "shufflenet_v2_x1_0",
    "swin_v2_t",
    "vgg11",
    "vit_b_32",
)


@pytest.mark.parametrize("name", [*ALL_KINDS, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW_KINDS)])
def test_image_to_scores_as_in_torchvision(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A published file in the cache: torchvision's model and transforms, and ours, give the same scores for a picture."""
    weights = get_model_weights(name).DEFAULT
    arguments = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    in_cache(weights, drawn(get_model(name, weights=None, **arguments)).state_dict(), tmp_path, monkeypatch)
    theirs = get_model(name, weights=weights).eval()
    ours, info, told = opened(f"torchvision/{name}")
    assert told == [f"weights of torchvision/{name}: torchvision's {weights}"]
    with torch.inference_mode():
        expected = theirs(weights.transforms()(picture())[None])
        found = ours(info.preprocess.normalise(torch.from_numpy(info.preprocess.pixels(picture()))[None]))
    assert expected.std() > 1e-3
    assert (found - expected).abs().max() / expected.std() < 1e-3  # the two normalise in another order of operations
    assert (info.name, info.spec, info.net) == (f"torchvision/{name}", f"torchvision/{name}", None)
    assert info.classes[207] == "golden retriever"


def test_the_word_chooses_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing asks for the newest, `imagenet` for the first: other files, prepared otherwise."""
    entries = get_model_weights("mobilenet_v3_large")
    state = drawn(get_model("mobilenet_v3_large", weights=None)).state_dict()
    for version, entry in (("IMAGENET1K_V1", entries.IMAGENET1K_V1), ("IMAGENET1K_V2", entries.IMAGENET1K_V2)):
        in_cache(entry, state | {"classifier.3.bias": torch.full((1000,), float(version[-1]))}, tmp_path, monkeypatch)
    for word, number, resized in ((None, 2, 232), ("imagenet-v2", 2, 232), ("imagenet", 1, 256), ("IMAGENET1K_V1", 1, 256)):
        model, info, told = opened("torchvision/mobilenet_v3_large", word)
        assert set(model.classifier[3].bias.tolist()) == {float(number)}
        assert info.preprocess.crop_fraction == 224 / resized
        assert told[0].endswith(f"IMAGENET1K_V{number}")


def test_weights_that_do_not_exist() -> None:
    with pytest.raises(UsageError, match=r"no weights IMAGENET1K_V2 for resnet18; --weights imagenet-v1$"):
        library_entry("resnet18", "IMAGENET1K_V2")
    with pytest.raises(UsageError, match="--weights imagenet1k_swag_e2e_v1 or --weights imagenet1k_swag_linear_v1"):
        opened("torchvision/vit_h_14", "imagenet")
    assert entry_of("imagenet1k_swag_e2e_v1") == "IMAGENET1K_SWAG_E2E_V1"
    with pytest.raises(UsageError, match="have 1000 outputs, not 7; leave out --classes"):
        opened("torchvision/resnet18", "imagenet", 7)
    with pytest.raises(UsageError, match=r"torchvision has no model 'resnet19'; did you mean torchvision/resnet1[08]"):
        opened("torchvision/resnet19")
    with pytest.raises(UsageError, match="torchvision/fcn_resnet50 marks pixels, and does not classify images"):
        opened("torchvision/fcn_resnet50")


def test_what_is_refused_before_torch_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    resnet, timm = Spec("torchvision", "resnet18"), Spec("timm", "resnet18.a1_in1k")
    for fine in ((resnet, None), (resnet, "imagenet"), (resnet, "imagenet1k_swag_e2e_v1"), (timm, None)):
        check_weights(*fine)
    (tmp_path / "imagenet").touch()
    for spec, weights, classes, error, told in (
        (resnet, None, 7, UsageError, "the published weights of torchvision/resnet18 have their own classes; leave out --classes"),
        (timm, "imagenet", None, UsageError, r"--weights imagenet are torchvision's; leave out --weights .*timm/resnet18.TAG"),
        (resnet, "absent.pth", None, InputError, "no such weights file: 'absent.pth'"),
        (resnet, "imagenet", None, UsageError, "also a file here; write ./imagenet"),
    ):
        with pytest.raises(error, match=told):
            check_weights(spec, weights, classes)


# ---- files ----


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return drawn(get_model("mobilenet_v3_small", weights=None)).state_dict()


SMALL = "torchvision/mobilenet_v3_small"


def test_a_file_in_any_form(state: dict[str, Tensor], tmp_path: Path) -> None:
    theirs = get_model("mobilenet_v3_small", weights=None).eval()
    theirs.load_state_dict(state)
    torch.save({"epoch": 3, "state_dict": {f"module.{key}": tensor for key, tensor in reversed(state.items())}}, tmp_path / "a.pth")
    save_file(state, tmp_path / "b.safetensors")
    torch.save({key: tensor for key, tensor in state.items() if not key.endswith("num_batches_tracked")}, tmp_path / "c.pth")
    x = torch.randn(2, 3, 224, 224)
    for name in ("a.pth", "b.safetensors", "c.pth"):
        model, info, told = opened(SMALL, str(tmp_path / name))
        with torch.inference_mode():
            assert torch.equal(model(x), theirs(x)), name
        assert f"{name} holds tensors alone; assumed: classes those of ImageNet, images prepared as for MobileNet_V3_Small" in told[0]
        assert info.classes[0] == "tench"


def test_another_number_of_classes(tmp_path: Path) -> None:
    path = tmp_path / "seven.pth"
    torch.save(get_model("mobilenet_v3_small", weights=None, num_classes=7).state_dict(), path)
    with pytest.raises(InputError, match=rf"seven.pth has 7 outputs, but {SMALL} has 1000 classes here; --classes 7 builds the net for it"):
        opened(SMALL, str(path))
    model, info, told = opened(SMALL, str(path), 7)
    assert info.classes == tuple("0123456")
    assert "assumed: classes 0, 1, ..., images" in told[0]
    assert model(torch.zeros(1, 3, 224, 224)).shape == (1, 7)


def test_C4_files_of_another_model(state: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    for change, told in (
        (
            {key: tensor for key, tensor in state.items() if not key.startswith("classifier.3.")},
            rf"x.pth does not hold {SMALL}: tensors 2 missing \(classifier.3.weight, classifier.3.bias\)",
        ),
        (state | {"head.weight": torch.zeros(2)}, r"tensors 1 unexpected \(head.weight\)"),
        (
            state | {"features.0.0.weight": torch.zeros(16, 1, 3, 3)},
            r"1 of 210 tensors do not fit, first features.0.0.weight 16x3x3x3 would get features.0.0.weight 16x1x3x3",
        ),
        (get_model("squeezenet1_1", weights=None).state_dict(), r"its 1,235,496 parameters are those of squeezenet1_1"),
    ):
        torch.save(change, path)
        with pytest.raises(InputError, match=told):
            opened(SMALL, str(path))


def test_old_names_of_transformers_are_those_that_torchvision_reads() -> None:
    module = torchvision.models.VisionTransformer(32, 16, 2, 2, 8, 16, num_classes=3)
    state = dict(module.state_dict())
    old = {key.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."): tensor for key, tensor in state.items()}
    assert old.keys() != state.keys()
    renamed = {current_name(key): tensor for key, tensor in old.items()}
    assert renamed.keys() == state.keys()
    module.load_state_dict(old)  # torchvision's own rule for files without a version
    assert all(torch.equal(renamed[key], tensor) for key, tensor in module.state_dict().items())


def test_no_network_and_not_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(EnvironmentFault, match=r"resnet18-f37072fd.pth is not in the cache and cannot be downloaded"):
        opened("torchvision/resnet18")
