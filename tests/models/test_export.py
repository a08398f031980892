"""What is exported computes what the model does, in onnxruntime and through torch.export; and says all that its user needs.

Weights are random, batch norm's averages included: with the usual 0 and 1 a file that left them out would pass.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from randomnets import random_net
from torch import Tensor, nn
from torch.onnx._internal.exporter._registration import ONNXRegistry

from cnncli.arch.blocks import chain
from cnncli.arch.layers import Conv, Flatten, Linear
from cnncli.arch.net import Net, smallest_side
from cnncli.arch.pointwise import Activation, BatchNorm
from cnncli.arch.zoo.table import build
from cnncli.data.preprocess import Preprocess
from cnncli.errors import InputError, UsageError
from cnncli.models.assemble import assemble
from cnncli.models.export import (
    Deployed,
    capture,
    check_opset,
    describe,
    save_onnx,
    sentence,
    to_onnx,
    to_torch_export,
)
from cnncli.models.exported import run_onnx
from cnncli.models.modelfile import ModelInfo

TOLERANCE = 1e-4


@pytest.fixture(scope="module", autouse=True)
def _one_registry() -> Iterator[None]:
    """The exporter's table of translations, which takes longer to make than a small net to translate, is made once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(cache(ONNXRegistry.from_torchlib)))
        yield


def unsettled(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model as after a training: biases, and batch norm's averages, gains and shifts, all their own."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
                layer.bias.copy_(torch.randn(layer.bias.shape, generator=generator) * 0.1)
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.copy_(torch.randn(layer.running_mean.shape, generator=generator) * 0.2)
                layer.running_var.copy_(torch.rand(layer.running_var.shape, generator=generator) + 0.5)
                if layer.affine:
                    layer.weight.copy_(torch.rand(layer.weight.shape, generator=generator) + 0.5)
                    layer.bias.copy_(torch.randn(layer.bias.shape, generator=generator) * 0.2)
    return model.eval()


def small() -> Net:
    layers = chain(
        conv1=Conv(4, kernel=3, stride=2), norm1=BatchNorm(), relu1=Activation("relu"), flatten=Flatten(), fc=Linear(5)
    )  # fmt: skip
    return Net("small", layers, (3, 9, 11), 5)


def info_of(net: Net, **settings_: object) -> ModelInfo:
    channels = net.input[0]
    preprocess = Preprocess(*net.input, mean=(0.4, 0.5, 0.6)[:channels], std=(0.2, 0.25, 0.3)[:channels], **settings_)
    return ModelInfo(net, tuple(f"class {number}" for number in range(net.classes)), preprocess)


def built(net: Net, *, pixels: bool = False, softmax: bool = False) -> tuple[nn.Module, ModelInfo, Deployed]:
    torch.manual_seed(0)
    model, info = unsettled(assemble(net)), info_of(net)
    return model, info, Deployed(model, info.preprocess, pixels=pixels, softmax=softmax).eval()


def onnx_file(path: Path, module: Deployed, info: ModelInfo, **options: object) -> Path:
    save_onnx(to_onnx(capture(module), module, describe(info, module), **options), path)
    return path


def scores_of(path: Path, images: Tensor) -> Tensor:
    """onnxruntime by itself, as a user calls it."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"image": images.numpy()})[0])


def noise(net: Net, count: int, seed: int = 1) -> Tensor:
    return torch.randn(count, *net.input, generator=torch.Generator().manual_seed(seed))


def assert_equal(found: Tensor, wanted: Tensor) -> None:
    assert found.shape == wanted.shape
    assert found.dtype == torch.float32
    assert wanted.isfinite().all()
    assert len(wanted) == 1 or wanted.std(dim=0).max() > 0, "the scores do not depend on the image"
    assert (found - wanted).abs().max() <= TOLERANCE * max(1, wanted.abs().max())
    assert torch.equal(found.argmax(dim=1), wanted.argmax(dim=1))


# ---- the numbers ----


def shrunk(name: str) -> Net:
    """The net for the smallest input that it takes: every part is there, and little is computed."""
    net = build(name)
    side = smallest_side(net)
    assert side is not None
    return build(name, input=(net.input[0], side, side))


# Few, since translating takes seconds a net; between them they have LRN, groups, whitening, shortcuts, branches, depthwise.
SAMPLED = ("lenet5", "alexnet-two-tower", "cifar-speed", "resnet18", "squeezenet1_1", "mobilenet_v2")


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLED)
def test_nets_of_the_zoo(name: str, tmp_path: Path) -> None:
    net = shrunk(name)
    model, info, module = built(net)
    path = onnx_file(tmp_path / "net.onnx", module, info)
    onnx.checker.check_model(str(path), full_check=True)
    images = noise(net, 3)
    with torch.inference_mode():
        assert_equal(scores_of(path, images), model(images))
        assert_equal(scores_of(path, images[:1]), model(images[:1]))


@pytest.mark.slow
@settings(max_examples=3, deadline=None, derandomize=True, phases=[Phase.generate])
@given(st.integers(0, 10_000))
def test_random_nets(seed: int) -> None:
    """Both formats, in memory: layers in combinations that no paper has."""
    net = random_net(seed)
    torch.manual_seed(0)
    model = unsettled(assemble(net))
    channels = 3 if net.input[0] == 2 else net.input[0]
    info = info_of(Net("like", net.root, (channels, *net.input[1:]), 5))
    module = Deployed(model, info.preprocess, pixels=False, softmax=False).eval()
    module.size = net.input
    program, images = capture(module), noise(net, 3)
    with torch.inference_mode():
        wanted = model(images)
        limit = TOLERANCE * max(1, float(wanted.abs().max()))
        assert (program.module()(images) - wanted).abs().max() <= limit
    try:
        content = _bytes(to_onnx(program, module, describe(info, module)))
    except InputError as error:  # the one part of a net that torch does not translate, but to 1x1
        assert str(error).startswith("layer pool computes aten.adaptive_max_pool2d.default")
        return
    written = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    assert (torch.from_numpy(written.run(None, {"image": images.numpy()})[0]) - wanted).abs().max() <= limit


def _bytes(model: object) -> bytes:
    import onnx_ir

    return onnx_ir.to_proto(model).SerializeToString()


def test_any_number_of_images(tmp_path: Path) -> None:
    model, info, module = built(small())
    path, program = onnx_file(tmp_path / "net.onnx", module, info), capture(module).module()
    for count in (1, 2, 5):
        images = noise(small(), count)
        with torch.inference_mode():
            assert_close(scores_of(path, images), model(images))
            assert_close(program(images), model(images))


def assert_close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_pixels_are_normalised_inside(tmp_path: Path) -> None:
    """By the formula, in float64, for every value that a pixel can have."""
    model, info, module = built(small(), pixels=True)
    count = math.ceil(256 / (9 * 11))
    pixels = (torch.arange(count * 3 * 9 * 11) % 256).to(torch.uint8).view(count, 3, 9, 11)
    mean, std = (torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1) for values in (info.preprocess.mean, info.preprocess.std))
    with torch.inference_mode():
        wanted = model(((pixels.double() / 255 - mean) / std).float())
        path = onnx_file(tmp_path / "net.onnx", module, info)
        assert_close(scores_of(path, pixels), wanted)
        assert_close(capture(module).module()(pixels), wanted)
    (taken,) = onnx.load(path).graph.input
    assert taken.type.tensor_type.elem_type == onnx.TensorProto.UINT8


def test_probabilities(tmp_path: Path) -> None:
    model, info, module = built(small(), softmax=True)
    images = noise(small(), 4)
    path = onnx_file(tmp_path / "net.onnx", module, info)
    with torch.inference_mode():
        scores = model(images).double()
    wanted = scores.exp() / scores.exp().sum(dim=1, keepdim=True)
    assert_close(scores_of(path, images), wanted.float())
    assert [output.name for output in onnx.load(path).graph.output] == ["probabilities"]


# ---- what the file says ----


def shape_of(value: onnx.ValueInfoProto) -> list[object]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


@pytest.mark.parametrize("opset", [18, 20])
def test_names_shapes_and_operator_set(opset: int, tmp_path: Path) -> None:
    _, info, module = built(small())
    written = onnx.load(onnx_file(tmp_path / "net.onnx", module, info, opset=opset))
    assert [(value.name, shape_of(value)) for value in written.graph.input] == [("image", ["batch", 3, 9, 11])]
    assert [(value.name, shape_of(value)) for value in written.graph.output] == [("scores", ["batch", 5])]
    assert [(each.domain, each.version) for each in written.opset_import] == [("", opset)]
    names = {tensor.name for tensor in written.graph.initializer}
    assert {"conv1.weight", "fc.weight", "fc.bias"} <= names, "weights keep their names"
    assert not any(name.startswith("model.") for name in names)
    layers = {node.name.split("/")[0] for node in written.graph.node}
    assert {"norm1", "relu1", "fc"} <= layers, "operators carry their layer's name; conv1 has become one with norm1"


def test_metadata_are_all_that_a_user_needs(tmp_path: Path) -> None:
    """What can be read with onnx alone gives back classes, preprocessing and net."""
    from importlib.metadata import version

    from cnncli.arch.serial import net_from_json

    _, info, module = built(small())
    described = describe(info, module)
    written = onnx.load(onnx_file(tmp_path / "net.onnx", module, info))
    found = {entry.key: entry.value for entry in written.metadata_props}
    assert found == described
    assert tuple(json.loads(found["classes"])) == info.classes
    assert Preprocess.from_json(json.loads(found["preprocessing"])) == info.preprocess
    assert net_from_json(json.loads(found["net"])) == info.net
    assert (found["name"], found["input_size"], found["cnncli"]) == ("small", "3x9x11", version("cnncli"))
    assert (found["output"], found["preprocessing_inside"]) == ("scores", "none")
    assert written.doc_string == found["preprocessing_text"]
    program = capture(module)
    to_torch_export(program, tmp_path / "net.pt2", described)
    extra = {"cnncli.json": ""}
    torch.export.load(tmp_path / "net.pt2", extra_files=extra)
    assert json.loads(extra["cnncli.json"]) == described


def test_a_model_of_a_library_is_named(tmp_path: Path) -> None:
    model, info, _ = built(small())
    info = ModelInfo(None, info.classes, info.preprocess, spec="torchvision/resnet18")
    described = describe(info, Deployed(model, info.preprocess, pixels=True, softmax=True))
    assert (described["spec"], described["name"]) == ("torchvision/resnet18",) * 2
    assert "net" not in described
    assert (described["output"], described["preprocessing_inside"]) == ("probabilities", "normalisation")


def test_the_sentence() -> None:
    usual = Preprocess(3, 224, 224, crop_fraction=0.875, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    assert sentence(usual, inside=False) == (
        "The image in RGB is resized in proportion with a bilinear filter, antialiased, until it just covers 256x256, of which the central"
        " 224x224 is cut out; then it is divided by 255, less (0.485, 0.456, 0.406), divided by (0.229, 0.224, 0.225)."
    )
    grey = Preprocess(1, 32, 28, resize="stretch", interpolation="bicubic")
    assert sentence(grey, inside=True) == (
        "The image in grey is stretched to 32x28 with a bicubic filter, antialiased; these pixels, uint8, are the input: inside they are"
        " divided by 255, less (0.5), divided by (0.5)."
    )


def test_nothing_of_this_machine_is_in_the_file_and_it_is_the_same_again(tmp_path: Path) -> None:
    _, info, module = built(small())
    one, other = (onnx_file(tmp_path / name, module, info).read_bytes() for name in ("a.onnx", "b.onnx"))
    assert one == other
    import cnncli

    for text in (str(Path(cnncli.__file__).parent.parent), "site-packages", "Traceback", "File "):
        assert text.encode() not in one


# ---- what cannot be written ----


@pytest.mark.parametrize("opset", [0, 17, 999])
def test_operator_sets_that_there_are_not(opset: int) -> None:
    with pytest.raises(UsageError, match=f"--opset {opset} is not from 18 to"):
        check_opset(opset)


class Bessel(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(x)


class Choosing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def with_layer(layer: nn.Module) -> tuple[Deployed, ModelInfo]:
    model, info, _ = built(small())
    model.relu1 = layer
    return Deployed(model, info.preprocess, pixels=False, softmax=False).eval(), info


def test_the_layer_without_words_in_onnx_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    module, info = with_layer(Bessel())
    with pytest.raises(InputError, match=r"^layer relu1 computes aten\.special_bessel_j0\.default, which cannot be written as ONNX"):
        to_onnx(capture(module), module, describe(info, module))
    assert capfd.readouterr() == ("", "")


def test_the_layer_that_cannot_be_followed_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    module, _ = with_layer(Choosing())
    with pytest.raises(InputError, match=r"^layer relu1 \(Choosing\) cannot be exported: ") as raised:
        capture(module)
    assert "\n" not in str(raised.value)
    assert capfd.readouterr() == ("", "")


def test_exporting_says_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    _, info, module = built(small())
    run_onnx(onnx_file(tmp_path / "net.onnx", module, info))
    to_torch_export(capture(module), tmp_path / "net.pt2", describe(info, module))
    assert capfd.readouterr() == ("", "")
