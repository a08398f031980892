"""Names of layers and what they stand for, on nets of the zoo, on torchvision's, and on modules made to mislead."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # torch's own name for it

from cnncli.arch.zoo.table import build
from cnncli.engine.layers import Layers, Tap, layers_of
from cnncli.errors import UsageError
from cnncli.models.assemble import assemble
from cnncli.models.head import find_by_running


def zoo(name: str, **arguments: int) -> Layers:
    net = build(name, **arguments)
    return layers_of(assemble(net), net.input)


@pytest.fixture(scope="module")
def alexnet() -> Layers:
    net = build("alexnet-owt", input=(3, 63, 63))
    return layers_of(assemble(net), net.input)


@pytest.mark.parametrize(
    ("name", "after", "before"),
    [
        ("fc7", "relu7", "fc7"),
        ("conv5", "relu5", "conv5"),
        ("pool1", "pool1", "pool1"),
        ("relu3", "relu3", "relu3"),
        ("fc8", "fc8", "fc8"),
        ("flatten", "flatten", "flatten"),
    ],
)
def test_the_papers_names(alexnet: Layers, name: str, after: str, before: str) -> None:
    assert alexnet.find(name, "after").path == after
    assert alexnet.find(name, "before").path == before


def test_pool5_is_the_pooling_behind_conv5(alexnet: Layers) -> None:
    told: list[str] = []
    assert alexnet.find("pool5", "after").path == "pool3"
    assert alexnet.called("pool5", told.append) == "pool3"
    assert told == ["note: pool5 is pool3 here"]
    assert alexnet.called("pool5#1:input") == "pool3#1:input"


@pytest.mark.parametrize(
    ("net", "name", "path"), [("resnet18", "conv4", "conv4_x"), ("vgg11", "conv5", "conv5_2"), ("vgg11", "pool5", "pool5")]
)
def test_groups_of_layers(net: str, name: str, path: str) -> None:
    layers = zoo(net, input=(3, 32, 32)) if net != "vgg11" else layers_of(assemble(build(net, input=(3, 32, 32))), (3, 32, 32))
    assert layers.find(name, "before").path == path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("conv9", r"no layer 'conv9'; did you mean .*conv5.*\? --list-layers"),
        ("zzzzzz", "no layer 'zzzzzz'; the last ones are .*fc8; --list-layers"),
        ("pool9", "no layer 'pool9'"),
        ("fc7#2", "fc7 runs 1 time, and there is no run '2'; say fc7"),
        ("fc7#x", "there is no run 'x'"),
        ("fc7#0", "there is no run '0'"),
        ("", "no layer ''"),
        (":input", "no layer ':input'"),
    ],
)
def test_what_no_layer_is(alexnet: Layers, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        alexnet.find(text, "after")
    assert caught.value.path == "--layer"


def test_what_a_layer_is_given(alexnet: Layers) -> None:
    assert alexnet.find("fc7:input", "after") == Tap("fc7", 0, (4096,), given=True)
    assert alexnet.find("conv1:input", "after").shape == (3, 63, 63)


@pytest.mark.parametrize(
    ("net", "last"),
    [
        ("alexnet-owt", "fc7"),
        ("resnet18", "pool"),
        ("googlenet", "pool5"),
        ("squeezenet1_1", "fire9"),
        ("lenet5", "f6"),
        ("cifar-speed", "pool"),
    ],
)
def test_the_last_layer_before_the_classifier(net: str, last: str) -> None:
    described = build(net)
    model = assemble(described)
    layers = layers_of(model, described.input)
    name, tap = layers.last(find_by_running(model, described.input, what=net).path)
    assert name == last
    assert tap == layers.find(name, "after")


class Misleading(nn.Module):
    """Functional and reused activations, a residual sum, an activation in place, a normalisation without one, and a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm, self.act = nn.BatchNorm2d(4), nn.ReLU(inplace=True)
        self.pair, self.shared = Pair(), nn.Conv2d(4, 4, 1)
        self.head = nn.Linear(4, 5)

    def forward(self, images: Tensor) -> Tensor:
        one = F.elu(self.one(images), alpha=0.5)
        two = self.act(self.norm(self.two(one)))
        three = self.act(self.three(two) + one)
        first, _ = self.pair(three)
        shared = self.shared(torch.relu_(self.shared(first)))
        return self.head(torch.flatten(F.dropout(shared.mean((2, 3)), training=self.training), 1))


class Pair(nn.Module):
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return images * 2, images


@pytest.fixture(scope="module")
def misleading() -> tuple[nn.Module, Layers]:
    torch.manual_seed(0)
    model = Misleading().eval()
    return model, layers_of(model, (3, 8, 8))


def test_functional_activations_are_found(misleading: tuple[nn.Module, Layers]) -> None:
    tap = misleading[1].find("one", "after")
    numbers = torch.randn(2, 4, 6, 6)
    kept = numbers.clone()
    assert tap.path == "one"
    assert tap.behind is not None
    assert torch.equal(tap.behind(numbers), F.elu(kept, alpha=0.5))
    assert torch.equal(numbers, kept), "the layer's own numbers stay"


def test_activations_behind_a_norm(misleading: tuple[nn.Module, Layers]) -> None:
    assert misleading[1].find("two", "after") == Tap("act", 0, (4, 6, 6))


def test_a_sum_is_no_activation_of_a_branch(misleading: tuple[nn.Module, Layers]) -> None:
    layers = misleading[1]
    assert layers.find("three", "after") == layers.find("three", "before") == Tap("three", 0, (4, 6, 6))


def test_layers_that_run_twice(misleading: tuple[nn.Module, Layers]) -> None:
    layers = misleading[1]
    with pytest.raises(UsageError, match="shared runs 2 times; say which: shared#1 to shared#2"):
        layers.find("shared", "before")
    assert layers.find("shared#1", "before").run == 0
    assert layers.find("shared#2", "before").run == 1
    assert layers.find("shared#1", "after").behind is not None, "relu_ follows the first run alone"
    assert layers.find("shared#2", "after").behind is None


def test_layers_without_a_tensor(misleading: tuple[nn.Module, Layers]) -> None:
    with pytest.raises(UsageError, match="'pair' gives no tensor of one row an image"):
        misleading[1].find("pair", "after")


def test_the_input_of_a_head_that_no_module_made(misleading: tuple[nn.Module, Layers]) -> None:
    assert misleading[1].last("head") == ("head:input", Tap("head", 0, (4,), given=True))


def test_torchvisions_paths() -> None:
    from torchvision.models import get_model

    layers = layers_of(get_model("resnet18", weights=None), (3, 64, 64))
    assert layers.find("layer1.0.conv1", "after") == Tap("layer1.0.relu", 0, (64, 16, 16))
    assert layers.find("layer1.0.relu#2", "after") == Tap("layer1.0.relu", 1, (64, 16, 16))
    assert layers.last("fc")[0] == "avgpool"


def test_the_model_stays_as_it_was() -> None:
    model = Misleading().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    layers_of(model, (3, 8, 8))
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
