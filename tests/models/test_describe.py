"""A spec and the facts behind it: which kind answers how."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torchvision

from cnncli.arch.net import totals, walk
from cnncli.arch.notation.language import parse
from cnncli.arch.zoo.table import build
from cnncli.errors import UsageError
from cnncli.models.describe import Description, describe, described_net
from cnncli.models.resolve import resolve
from cnncli.models.tracing.trace import trace


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CNN_CACHE", str(tmp_path / "cache"))


# ---- nets as data ----


def test_a_net_of_the_zoo() -> None:
    net = build("resnet20", classes=3)
    assert describe("resnet20", classes=3) == Description("resnet20", net.paper, net.input, 3, walk(net), net)
    assert described_net(resolve("resnet20"), classes=3) == net


def test_settings_of_a_net() -> None:
    described = describe("mlp", input=(1, 200, 200), settings={"hidden": "40000"})
    assert [row.params for row in described.rows if row.name == "fc1"] == [1_600_040_000]
    assert described_net(resolve("mlp"), settings={"hidden": "7"}) == build("mlp", hidden=7)


@pytest.mark.parametrize(
    ("net", "settings", "words"),
    [
        ("mlp", {"hidden": "many"}, "--set hidden=many should be a whole number"),
        ("mlp", {"hidden": "1.5"}, "--set hidden=1.5 should be a whole number"),
        ("mlp", {"hiden": "3"}, "mlp has no setting 'hiden'; did you mean hidden"),
        ("mlp", {"depth": "3"}, r"mlp has no setting 'depth'; mlp takes hidden \(int\)"),
        ("alexnet", {"hidden": "3"}, "alexnet takes none"),
        ("CONV-RELU-FC", {"hidden": "3"}, "--set hidden=3: CONV-RELU-FC is no net of the zoo"),
        ("torchvision/alexnet", {"hidden": "3"}, "--set hidden=3: torchvision/alexnet is no net of the zoo"),
    ],
)
def test_settings_that_are_refused(net: str, settings: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        describe(net, settings=settings)


def test_notation() -> None:
    text = "conv3-8 relu maxpool FC-5 softmax"
    net = parse(text, input=(1, 12, 12))
    assert describe(text, input=(1, 12, 12)) == Description(text, "", (1, 12, 12), 5, walk(net), net)
    assert describe(text).input == (3, 32, 32)
    assert describe("conv relu FC", classes=7).classes == described_net(resolve("conv relu FC"), classes=7).classes == 7
    assert describe("conv3-7 globalpool flatten", classes=7).classes == 7


@pytest.mark.parametrize("text", ["conv3-8 relu", "conv3-8 globalpool", "conv FC-9 relu"])
def test_notation_without_a_classifier(text: str) -> None:
    """What comes out of it are features, whatever their number."""
    assert describe(text).classes is None
    with pytest.raises(UsageError, match="not in 10 classes; end it with SOFTMAX"):
        described_net(resolve(text), classes=10)


def test_a_model_file(model_file: Path) -> None:
    described = describe(str(model_file))
    assert (described.name, described.input, described.classes) == ("tiny", (1, 2, 2), 2)
    assert described.rows == walk(described.net)
    assert describe(str(model_file), input=(1, 3, 2)).rows[0].output == (6,)
    with pytest.raises(UsageError, match="its classes are fixed"):
        describe(str(model_file), classes=3)
    with pytest.raises(UsageError, match="is not described as data"):
        described_net(resolve(str(model_file)))


# ---- models of libraries ----


def test_torchvision() -> None:
    described = describe("torchvision/resnet18")
    assert (described.name, described.input, described.classes, described.net) == ("torchvision/resnet18", (3, 224, 224), 1000, None)
    assert described.paper == f"torchvision {torchvision.__version__.partition('+')[0]}"
    assert described.rows == trace(torchvision.models.resnet18(weights=None).eval(), (3, 224, 224))
    smaller = describe("torchvision/resnet18", input=(3, 64, 64), classes=10)
    assert (smaller.classes, smaller.rows[-1].params, smaller.rows[0].output) == (10, 5130, (64, 32, 32))


def test_a_net_of_the_zoo_and_its_twin() -> None:
    """Two independent ways to the same totals."""
    for ours, theirs in (("resnet50", "resnet50"), ("googlenet", "googlenet"), ("vgg11-bn", "vgg11_bn")):
        net, twin = describe(ours), describe(f"torchvision/{theirs}")
        one, other = totals(net.rows, net.input), totals(twin.rows, twin.input)
        assert (one.params, one.macs, one.depth) == (other.params, other.macs, other.depth)


@pytest.mark.parametrize(("name", "side"), [("inception_v3", 299), ("efficientnet_b1", 240), ("efficientnet_v2_s", 384), ("alexnet", 224)])
def test_torchvision_at_the_size_of_its_weights(name: str, side: int) -> None:
    assert describe(f"torchvision/{name}").input == (3, side, side)


def test_torchvision_models_that_are_made_for_a_size() -> None:
    rows = {row.name: row for row in describe("torchvision/vit_b_32", input=(3, 256, 256)).rows}
    assert rows["encoder.pos_embedding"].params == (8 * 8 + 1) * 768
    for name, size in (("vit_b_32", (3, 224, 256)), ("vit_b_32", (3, 230, 230)), ("resnet18", (1, 28, 28)), ("alexnet", (3, 9, 9))):
        with pytest.raises(UsageError, match=f"torchvision/{name} does not take --input {'x'.join(map(str, size))}: "):
            describe(f"torchvision/{name}", input=size)


def test_torchvision_models_that_are_none() -> None:
    with pytest.raises(UsageError, match="torchvision has no model 'resnt18'; did you mean torchvision/resnet18"):
        describe("torchvision/resnt18")
    for name in ("r3d_18", "raft_small", "fasterrcnn_resnet50_fpn"):
        with pytest.raises(UsageError, match=f"torchvision/{name} does not classify or segment single images"):
            describe(f"torchvision/{name}")
    with pytest.raises(UsageError, match="torchvision/quantized_resnet18 is quantised") as caught:
        describe("torchvision/quantized_resnet18")
    assert caught.value.hint == "try torchvision/resnet18"
    for classes in (0, 10**12):
        with pytest.raises(UsageError, match=f"--classes {classes} should be"):
            describe("torchvision/resnet18", classes=classes)


def test_torchvision_segmentation_downloads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *_, **__: pytest.fail("downloaded"))
    described = describe("torchvision/lraspp_mobilenet_v3_large")
    assert described.classes is None
    assert described.rows[-1].output[0] == 21


def test_timm() -> None:
    timm = pytest.importorskip("timm", reason="timm is an extra")
    described = describe("timm/test_resnet.r160_in1k", classes=5)
    assert (described.input, described.classes) == ((3, 160, 160), 5)
    model = timm.create_model("test_resnet", num_classes=5)
    assert sum(row.params for row in described.rows) == sum(p.numel() for p in model.parameters())
    grey = describe("timm/test_vit", input=(1, 96, 96))
    assert (grey.input, grey.rows[0].output[1:]) == ((1, 96, 96), (6, 6))
    for name in ("test_resnt", "test_resnet.nothing"):
        with pytest.raises(UsageError, match=f"timm has no model {re.escape(repr(name))}"):
            describe(f"timm/{name}")


def test_notes_say_what_the_numbers_do_not() -> None:
    assert describe("torchvision/resnet18").notes == ("Traced in evaluation mode, without weights.",)
    assert any("softmax is not" in note for note in describe("torchvision/vit_b_32").notes)
    assert any("field -" in note for note in describe("torchvision/swin_t").notes)
    unused = "3,326,696 parameters are not used in the forward pass: AuxLogits."
    assert unused in describe("torchvision/inception_v3").notes
