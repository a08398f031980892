"""Published weights on our nets: equal outputs for equal weights, tensor by tensor drawn apart, against torchvision's own modules."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights

from cnncli.arch.zoo.table import ZOO, build
from cnncli.errors import InputError, UsageError
from cnncli.models.assemble import assemble
from cnncli.models.imagenet import entry, info_of, preprocess_of, unique_names
from cnncli.models.modelfile import ModelInfo
from cnncli.models.published import TWINS, check_weights, version_of, word_for
from cnncli.models.resolve import Spec
from cnncli.models.weights import load_published, map_state, state_from, twin_module

FIXED_SIZE = ("alexnet-owt", *(name for name in TWINS if name.startswith("vgg")))  # their fully connected layers need 224 x 224
SMALL = ("googlenet", "resnet18", "densenet121", "squeezenet1_1", "mobilenet_v2")


def drawn(module: nn.Module, seed: int = 0) -> nn.Module:
    """Every tensor different in every number, buffers included; scaled so that activations neither vanish nor explode."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        if name.endswith("num_batches_tracked"):
            tensor.random_(1, 10_000, generator=generator)
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 2.0, generator=generator)
        elif tensor.ndim > 1:
            tensor.normal_(std=(2 / tensor[0].numel()) ** 0.5, generator=generator)
        elif name.endswith("weight"):
            tensor.uniform_(0.2, 1.0, generator=generator)
        else:
            tensor.normal_(std=0.3, generator=generator)
    return module.eval()


def twin_of(name: str) -> nn.Module:
    return drawn(twin_module(TWINS[name]).to_empty(device="cpu"))


def ours_with(name: str, state: Mapping[str, Tensor], side: int) -> nn.Module:
    with torch.device("meta"):
        model = assemble(build(name, input=(3, side, side)))
    model.load_state_dict(map_state(model, state), assign=True)
    return model.eval()


@torch.inference_mode()
def difference(one: nn.Module, other: nn.Module, images: Tensor) -> float:
    """The largest difference of two models' outputs, in units of the outputs' standard deviation."""
    expected = one(images)
    assert 1e-2 < expected.std() < 1e2, "the outputs are too small or too large for the comparison to mean anything"
    return float((other(images) - expected).abs().max() / expected.std())


def images(side: int, count: int = 2) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) if name in FIXED_SIZE else name for name in TWINS])
def test_equal_weights_give_equal_outputs(name: str) -> None:
    assert name in ZOO
    side = 224 if name in FIXED_SIZE else 96
    theirs = twin_of(name)
    assert difference(theirs, ours_with(name, theirs.state_dict(), side), images(side)) < 1e-5


@pytest.mark.parametrize("name", SMALL)
def test_a_swapped_pair_is_noticed(name: str) -> None:
    """Any two tensors of one shape exchanged: the comparison above sees each."""
    theirs = twin_of(name)
    state = theirs.state_dict()
    draw = random.Random(0)
    groups: dict[object, list[str]] = {}
    for key, tensor in state.items():
        if tensor.ndim:
            groups.setdefault((key.rpartition(".")[2], tensor.shape), []).append(key)
    groups = {shape: keys for shape, keys in groups.items() if len(keys) > 1}
    for shape in draw.sample(sorted(groups, key=str), 8):
        first, second = draw.sample(groups[shape], 2)
        swapped = state | {first: state[second], second: state[first]}
        assert difference(theirs, ours_with(name, swapped, 64), images(64, 1)) > 1e-4, f"{first} and {second}"


@pytest.mark.parametrize("name", TWINS)
def test_our_module_lists_as_many_tensors_of_the_same_kind(name: str) -> None:
    with torch.device("meta"):
        ours = assemble(build(name)).state_dict()
    theirs = twin_module(TWINS[name]).state_dict()
    assert [(key.rpartition(".")[2], tensor.shape, tensor.dtype) for key, tensor in ours.items()] == [
        (key.rpartition(".")[2], tensor.shape, tensor.dtype) for key, tensor in theirs.items()
    ]


def test_counters_of_batches() -> None:
    theirs = twin_of("mobilenet_v2").state_dict()
    with torch.device("meta"):
        ours = assemble(build("mobilenet_v2"))
    mapped = map_state(ours, theirs)
    numbers = [int(tensor) for name, tensor in mapped.items() if name.endswith("num_batches_tracked")]
    assert numbers == [int(tensor) for name, tensor in theirs.items() if name.endswith("num_batches_tracked")]
    assert len(set(numbers)) > 40
    old = {name: tensor for name, tensor in theirs.items() if not name.endswith("num_batches_tracked")}
    assert {int(tensor) for name, tensor in map_state(ours, old).items() if name.endswith("num_batches_tracked")} == {0}
    first = next(name for name in theirs if name.endswith("num_batches_tracked"))
    with pytest.raises(InputError, match="1 counters of batches for 52 layers"):
        map_state(ours, old | {first: theirs[first]})


def test_what_does_not_fit_is_told_with_count_and_pairs() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))
    state = model.state_dict()
    with pytest.raises(
        InputError, match=r"2 of 4 tensors do not fit, first 0.weight 3x2 would get 0.bias 3, 0.bias 3 would get 0.weight 3x2"
    ):
        map_state(model, {key: state[key] for key in ("0.bias", "0.weight", "1.weight", "1.bias")})
    with pytest.raises(InputError, match=r"1 of 4 tensors do not fit, first 1.bias 4 would get nothing"):
        map_state(model, dict(list(state.items())[:3]))
    with pytest.raises(InputError, match=r"1 of 4 tensors do not fit, first nothing would get extra 1"):
        map_state(model, state | {"extra": torch.zeros(1)})
    norm = nn.BatchNorm2d(3)
    swapped = {key: norm.state_dict()[key] for key in ("weight", "bias", "running_var", "running_mean")}
    with pytest.raises(InputError, match="2 of 4 tensors do not fit, first running_mean 3 would get running_var 3"):
        map_state(norm, swapped)


# ---- what torchvision itself does with a checkpoint ----


@pytest.mark.parametrize("name", ["densenet121", "googlenet"])
def test_a_published_file_goes_the_way_it_goes_in_torchvision(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file as it lies on the server, with DenseNet's old names or GoogLeNet's auxiliary heads: image to scores, theirs and ours."""
    from hashlib import sha256

    weights = get_model_weights(TWINS[name].name).IMAGENET1K_V1
    published = drawn(get_model(TWINS[name].name, weights=None, **({"init_weights": False} if name == "googlenet" else {}))).state_dict()
    if name == "densenet121":  # its dots are older than torch's rule against them, and the counters of batches younger
        published = {key: tensor for key, tensor in published.items() if not key.endswith("num_batches_tracked")}
        published = {key.replace("norm1", "norm.1").replace("norm2", "norm.2"): tensor for key, tensor in published.items()}
        published = {key.replace("conv1", "conv.1").replace("conv2", "conv.2"): tensor for key, tensor in published.items()}
        assert any("denselayer1.norm.1.weight" in key for key in published)
    else:
        assert any(key.startswith("aux2.") for key in published)
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    torch.save(published, cache / "draft")
    digest = sha256((cache / "draft").read_bytes()).hexdigest()[:8]
    (cache / "draft").rename(cache / f"weights-{digest}.pth")
    monkeypatch.setattr(weights.value, "url", f"https://nowhere.invalid/weights-{digest}.pth")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    theirs = get_model(TWINS[name].name, weights=weights).eval()
    told: list[str] = []
    ours, info = load_published(name, "imagenet", tell=told.append)
    assert told == []
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 260, 3), dtype=np.uint8))
    with torch.inference_mode():
        expected = theirs(weights.transforms()(picture)[None])
        found = ours(info.preprocess.normalise(torch.from_numpy(info.preprocess.pixels(picture))[None]))
    assert expected.std() > 0.01
    assert (found - expected).abs().max() / expected.std() < 1e-4  # the two normalise in another order of operations
    assert info.preprocess.mean == ((0.5, 0.5, 0.5) if name == "googlenet" else (0.485, 0.456, 0.406))
    assert not ours.training


@pytest.mark.parametrize("size", [(500, 375), (256, 256), (300, 800), (90, 70)])
def test_preprocessing_is_that_of_torchvision(size: tuple[int, int]) -> None:
    picture = Image.fromarray(np.random.default_rng(sum(size)).integers(0, 256, (*size, 3), dtype=np.uint8))
    seen = set()
    for name, twin in TWINS.items():
        for version, published in get_model_weights(twin.name).__members__.items():
            if version_of(word_for(version)) != version:
                continue
            found = preprocess_of(published)
            assert (found.channels, found.height, found.width) == build(name).input
            if found not in seen:
                seen.add(found)
                ours = found.normalise(torch.from_numpy(found.pixels(picture))[None])[0]
                assert torch.allclose(ours, published.transforms()(picture), atol=1e-6)
    assert {found.crop_fraction for found in seen} == {224 / 256, 224 / 232}


def test_classes() -> None:
    assert unique_names(["crane", "dog", "crane"]) == ("crane (0)", "dog", "crane (2)")
    info = info_of(build("resnet18"), entry(build("resnet18"), "IMAGENET1K_V1"))
    assert isinstance(info, ModelInfo)
    assert len(set(info.classes)) == len(info.classes) == 1000
    assert info.classes[:3] == ("tench", "goldfish", "great white shark")
    assert info.classes[207] == "golden retriever"


# ---- the word after --weights ----


@pytest.mark.parametrize(
    ("word", "version"),
    [
        ("imagenet", "IMAGENET1K_V1"),
        ("ImageNet", "IMAGENET1K_V1"),
        ("imagenet-v1", "IMAGENET1K_V1"),
        ("imagenet-v2", "IMAGENET1K_V2"),
        ("IMAGENET1K_V2", "IMAGENET1K_V2"),
        ("imagenet.pth", None),
        ("./imagenet", None),
        ("imagenet-v", None),
        ("imagenet-v\uff12", None),
        ("", None),
    ],
)
def test_versions(word: str, version: str | None) -> None:
    assert version_of(word) == version


@pytest.mark.parametrize("name", TWINS)
def test_every_twin_has_published_weights(name: str) -> None:
    published = entry(build(name), "IMAGENET1K_V1")
    assert published.url.startswith("https://download.pytorch.org/models/")
    for version in get_model_weights(TWINS[name].name).__members__:
        if version_of(word_for(version)) == version:
            assert (
                entry(build(name), version).meta["num_params"] == sum(p.numel() for p in twin_module(TWINS[name]).parameters())
                or name == "googlenet"
            )


def test_versions_that_do_not_exist() -> None:
    with pytest.raises(UsageError, match=r"no weights IMAGENET1K_V2 for resnet18; --weights imagenet-v1$"):
        entry(build("resnet18"), "IMAGENET1K_V2")
    with pytest.raises(UsageError, match="--weights imagenet-v1 or --weights imagenet-v2"):
        entry(build("resnet50"), "IMAGENET1K_V3")
    with pytest.raises(UsageError, match=r"--weights imagenet-v1$"):  # torchvision also has VGG-16 without its classifier
        entry(build("vgg16"), "IMAGENET1K_V2")
    with pytest.raises(UsageError, match="have 1000 outputs, not 10; leave out --classes"):
        entry(build("resnet18", classes=10), "IMAGENET1K_V1")


def test_what_no_weights_can_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check_weights(Spec("file", "run", tmp_path), None)
    check_weights(Spec("zoo", "resnet18"), "imagenet")
    (tmp_path / "x.pth").touch()
    check_weights(Spec("zoo", "lenet5"), "x.pth", 7)
    for spec, weights, classes, error, told in (
        (Spec("file", "run", tmp_path), "imagenet", None, UsageError, "run has its own weights; leave out --weights"),
        (Spec("file", "run", tmp_path), None, 10, UsageError, "run has its own classes; leave out --classes"),
        (Spec("zoo", "resnet18"), None, None, UsageError, "resnet18 has no trained weights; --weights imagenet takes the published ones"),
        (Spec("zoo", "lenet5"), None, None, UsageError, "lenet5 has no trained weights; train it first: cnn train lenet5$"),
        (Spec("zoo", "lenet5"), "imagenet", None, UsageError, "lenet5 has no published weights; nets that have them: alexnet-owt, vgg11"),
        (Spec("zoo", "resnet18"), "imagnet", None, UsageError, "no such weights file: 'imagnet'; did you mean imagenet"),
        (Spec("zoo", "resnet18"), "no/x.pth", None, InputError, "no such weights file: 'no/x.pth'"),
        (Spec("zoo", "resnet18"), "", None, InputError, "no such weights file: ''"),
        (Spec("zoo", "resnet18"), "x" * 5000, None, InputError, "no such weights file"),
        (Spec("zoo", "resnet18"), "x\0", None, InputError, "no such weights file"),
    ):
        with pytest.raises(error, match=told):
            check_weights(spec, weights, classes)
    (tmp_path / "imagenet").touch()
    with pytest.raises(UsageError, match=r"also a file here; write ./imagenet"):
        check_weights(Spec("zoo", "resnet18"), "imagenet")


# ---- files ----


@pytest.fixture(scope="module")
def published_squeezenet() -> dict[str, Tensor]:
    return twin_of("squeezenet1_1").state_dict()


def test_a_file_in_any_order_and_form(published_squeezenet: dict[str, Tensor], tmp_path: Path) -> None:
    """.pth, .safetensors (which sorts its names), shuffled, in half precision, under our own names: the same model."""
    with torch.device("meta"):
        model = assemble(build("squeezenet1_1"))
    expected = map_state(model, published_squeezenet)
    shuffled = list(published_squeezenet.items())
    random.Random(0).shuffle(shuffled)
    torch.save(dict(shuffled), tmp_path / "shuffled.pth")
    torch.save(published_squeezenet, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    save_file(published_squeezenet, tmp_path / "weights.safetensors")
    torch.save(expected, tmp_path / "ours.pth")
    for name in ("shuffled.pth", "old.pth", "weights.safetensors", "ours.pth"):
        told: list[str] = []
        found, info = load_published("squeezenet1_1", str(tmp_path / name), tell=told.append)
        assert found.state_dict().keys() == expected.keys()
        assert all(torch.equal(tensor, expected[key]) for key, tensor in found.state_dict().items())
        assert info.classes[0] == "tench"
        assert len(told) == 1
        assert "images prepared as for SqueezeNet1_1_Weights.IMAGENET1K_V1" in told[0]
    torch.save({key: tensor.half() for key, tensor in published_squeezenet.items()}, tmp_path / "half.pth")
    found, _ = load_published("squeezenet1_1", str(tmp_path / "half.pth"), tell=told.append)
    for key, tensor in found.state_dict().items():
        assert torch.equal(tensor, expected[key].half().float())


def test_a_file_named_like_a_later_version_is_prepared_like_it(tmp_path: Path) -> None:
    torch.save(twin_of("mobilenet_v2").state_dict(), tmp_path / "mobilenet_v2-7ebf99e0.pth")
    told: list[str] = []
    _, info = load_published("mobilenet_v2", str(tmp_path / "mobilenet_v2-7ebf99e0.pth"), tell=told.append)
    assert info.preprocess.crop_fraction == 224 / 232
    assert "IMAGENET1K_V2" in told[0]


def test_another_number_of_classes(tmp_path: Path) -> None:
    for name, arguments in (("resnet18", {}), ("squeezenet1_1", {}), ("googlenet", {"aux_logits": False, "init_weights": False})):
        path = tmp_path / f"{name}.pth"
        torch.save(get_model(name, weights=None, num_classes=7, **arguments).state_dict(), path)
        with pytest.raises(
            InputError, match=f"{name}.pth has 7 outputs, but {name} has 1000 classes here; --classes 7 builds the net for it"
        ):
            load_published(name, str(path), tell=lambda _: None)
        model, info = load_published(name, str(path), classes=7, tell=lambda _: None)
        assert info.classes == tuple("0123456")
        assert model(torch.zeros(1, 3, 224, 224)).shape == (1, 7)


def test_a_net_without_a_twin_takes_exact_names(tmp_path: Path) -> None:
    model = drawn(assemble(build("lenet5")))
    torch.save(model.state_dict(), tmp_path / "lenet.pth")
    told: list[str] = []
    found, info = load_published("lenet5", str(tmp_path / "lenet.pth"), tell=told.append)
    x = torch.randn(2, 1, 32, 32)
    with torch.inference_mode():
        assert torch.equal(found(x), model(x))
    assert info.classes == tuple("0123456789")
    assert "assumed: classes 0, 1, ..., pixel values from -1 to 1" in told[0]
    torch.save({f"x{key}": tensor for key, tensor in model.state_dict().items()}, tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"does not hold lenet5: tensors 10 missing \(.*\) and 10 unexpected \(x.*\)"):
        load_published("lenet5", str(tmp_path / "other.pth"), tell=told.append)


def test_the_wrong_net_is_named(tmp_path: Path) -> None:
    resnet18 = get_model("resnet18", weights=None).state_dict()
    for name in ("resnet34", "squeezenet1_1"):
        with pytest.raises(InputError, match=rf"x.pth does not hold {name}: .*; its 11,689,512 parameters are those of resnet18"):
            state_from(build(name), resnet18, Path("x.pth"))
    with pytest.raises(InputError, match=r"1 missing .fc.bias.; name the net that it was saved from"):
        state_from(build("resnet18"), {key: tensor for key, tensor in resnet18.items() if key != "fc.bias"}, Path("x.pth"))
    wide = get_model("wide_resnet50_2", weights=None).state_dict()
    with pytest.raises(
        InputError, match=r"x.pth does not fit resnet50: \d+ of 267 tensors do not fit, first .* would get layer1.0.conv1.weight 128x64x1x1"
    ):
        state_from(build("resnet50"), wide, Path("x.pth"))
