"""Traced rows against described ones on the whole zoo, against torch's own flop counter on torchvision and timm, and
receptive fields against the pixels that a gradient reaches."""

from __future__ import annotations

import pytest
import torch
import torchvision
from randomnets import random_net
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from cnncli.arch.blocks import Add
from cnncli.arch.layers import Conv, Linear, Pool, SubsamplePad
from cnncli.arch.net import Net, Row, walk
from cnncli.arch.pointwise import Activation, LocalResponseNorm
from cnncli.arch.zoo.table import ZOO, build
from cnncli.models.assemble import assemble
from cnncli.models.hollow import Hollow
from cnncli.models.tracing.trace import trace

MANY_ROWS = 600  # nets beyond take some tenths of a second


def facts(rows: tuple[Row, ...]) -> list[tuple[object, ...]]:
    return [(r.name, r.operation, r.output, r.params, r.macs, r.field, r.memory, r.depth, r.inputs) for r in rows]


def check_net(net: Net) -> None:
    with torch.device("meta"):
        model = assemble(net).eval()
    traced, described = trace(model, net.input), walk(net)
    assert facts(traced) == facts(described)
    for one, other in zip(traced, described, strict=True):
        assert type(one.part) is type(other.part), one.name


SLOW_NETS = {name for name in ZOO if len(walk(build(name))) > MANY_ROWS}


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW_NETS else ()) for name in ZOO])
def test_traced_rows_are_the_described_ones(name: str) -> None:
    check_net(build(name))


@pytest.mark.parametrize("seed", range(25))
def test_random_nets(seed: int) -> None:
    check_net(random_net(seed))


# ---- torchvision and timm, by torch's flop counter ----


def check_counts(model: nn.Module, input: tuple[int, int, int]) -> tuple[Row, ...]:
    rows = trace(model, input)
    assert sum(row.params for row in rows) == sum(p.numel() for p in model.parameters())
    on_meta = model.to("meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        on_meta(torch.empty(1, *input, device="meta"))
    assert 2 * sum(row.macs for row in rows) == counter.get_total_flops()
    assert len({row.name for row in rows}) == len(rows)
    return rows


def published(name: str) -> tuple[nn.Module, tuple[int, int, int], dict[str, float]]:
    """A torchvision model without its weights, the input of its newest weights, and what is published of those."""
    weights = torchvision.models.get_model_weights(name).DEFAULT
    (side,) = set(weights.transforms().crop_size)
    arguments = {"image_size": side} if name.startswith("vit_") else {}
    arguments |= {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    with Hollow():
        return torchvision.models.get_model(name, weights=None, **arguments).eval(), (3, side, side), weights.meta


CLASSIFIERS = torchvision.models.list_models(module=torchvision.models)
QUICK = {
    "alexnet",
    "mobilenet_v3_small",
    "resnet18",
    "shufflenet_v2_x0_5",
    "swin_v2_t",
    "vit_b_32",
    "convnext_tiny",
    "googlenet",
    "maxvit_t",
}


SAMPLED = [name for number, name in enumerate(CLASSIFIERS) if name in QUICK or number % 3 == 0]


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in SAMPLED])
def test_classifiers_of_torchvision(name: str) -> None:
    """MACs and parameters are torch's; and what torchvision publishes of the model at its own input, GMACs with three decimals."""
    model, size, meta = published(name)
    rows = check_counts(model, size)
    if name not in ("googlenet", "inception_v3"):  # published without their auxiliary classifiers
        assert sum(row.params for row in rows) == meta["num_params"]
    assert sum(row.macs for row in rows) / 1e9 == pytest.approx(meta["_ops"], abs=0.0006)


def test_there_are_classifiers_to_test() -> None:
    assert len(CLASSIFIERS) >= 80
    assert set(CLASSIFIERS) >= QUICK


TIMM = ("resnet50d", "xcit_nano_12_p16_224", "coat_lite_tiny", "efficientformer_l1", "convit_tiny", "ghostnet_100", "resnetv2_50x1_bit")
TIMM += (
    "gcvit_xxtiny",
    "mobilevitv2_050",
    "nf_regnet_b0",
    "visformer_tiny",
    "volo_d1_224",
    "vit_relpos_small_patch16_224",
    "tnt_s_patch16_224",
)


@pytest.mark.slow
@pytest.mark.parametrize("name", TIMM)
def test_timm(name: str) -> None:
    timm = pytest.importorskip("timm", reason="timm is an extra")
    with Hollow():
        model = timm.create_model(name).eval()
    check_counts(model, model.pretrained_cfg["input_size"])


@pytest.mark.slow
def test_nothing_of_the_weights_is_allocated() -> None:
    """regnet_y_128gf has 2.6 GB of weights; making and tracing it needs a fraction."""
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model, size, _ = published("regnet_y_128gf")
    assert sum(row.params for row in trace(model, size)) == 644_812_894
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KiB


# ---- what a row says ----


def table(model: nn.Module, *input: int) -> dict[str, Row]:
    return {row.name: row for row in trace(model.eval(), input)}


class Functional(nn.Module):
    """Everything that is no module: operators, methods, functions, bare parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 3, 3, 3))
        self.scale = nn.Parameter(torch.ones(4, 1, 1))
        self.forgotten = nn.Parameter(torch.ones(5))
        self.fc = nn.Linear(4, 2)
        self.head = nn.Linear(7, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(x, self.weight, stride=2, padding=1).relu_()
        x = x * self.scale + x
        x = torch.cat([x, F.max_pool2d(x, 3, 1, 1)], 1)[:, ::2]
        x = torch.softmax(x.flatten(2) @ x.flatten(2).transpose(1, 2), -1).mean(1)
        return F.linear(x, self.fc.weight, self.fc.bias) / 2


def test_functional_operations_are_rows() -> None:
    rows = trace(Functional(), (3, 8, 8))
    shown = [(row.name, row.operation, row.output, row.params, row.macs, row.memory) for row in rows]
    assert shown == [
        ("conv2d", "conv 3x3, 4, /2, pad 1", (4, 4, 4), 108, 108 * 16, 64),
        ("relu", "relu", (4, 4, 4), 0, 0, 0),
        ("scale", "parameter 4x1x1", (4, 1, 1), 4, 0, 0),
        ("multiply", "multiply", (4, 4, 4), 0, 0, 64),
        ("add", "add", (4, 4, 4), 0, 0, 64),
        ("max_pool2d", "max pool 3x3, pad 1", (4, 4, 4), 0, 0, 64),
        ("concat", "concat", (8, 4, 4), 0, 0, 128),
        ("matmul", "matrix product", (4, 4), 0, 4 * 4 * 16, 16),
        ("softmax", "softmax", (4, 4), 0, 0, 16),
        ("mean", "mean", (4,), 0, 0, 4),
        ("fc", "fully connected, 2", (2,), 10, 8, 2),
        ("divide", "divide by 2", (2,), 0, 0, 2),
        ("forgotten", "not used in the forward pass", (), 5, 0, 0),
        ("head", "not used in the forward pass", (), 56, 0, 0),
    ]
    parts = {row.name: row.part for row in rows}
    assert parts["conv2d"] == Conv(4, kernel=3, stride=2, padding=1, bias=False)
    assert parts["max_pool2d"] == Pool("max", kernel=3, stride=1, padding=1)
    assert parts["fc"] == Linear(2)
    assert parts["matmul"] is None
    assert [row.depth for row in rows][-4:-2] == [3, 3]  # conv2d, matmul and fc lie behind one another


class Reused(nn.Module):
    """One convolution twice, and a classifier tied to an embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.first = nn.Linear(3, 3, bias=False)
        self.tied = nn.Linear(3, 3)
        self.tied.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.tied(self.first(self.conv(self.conv(x)).amax((2, 3))))


def test_tied_and_reused_layers_are_counted_once() -> None:
    rows = table(Reused(), 3, 8, 8)
    assert [(row.name, row.params) for row in rows.values()] == [("conv", 84), ("conv_2", 0), ("amax", 0), ("first", 9), ("tied", 3)]
    assert rows["conv_2"].operation == "conv 3x3, 3, pad 1 (shared)"
    assert rows["conv_2"].macs == rows["conv"].macs == 81 * 64
    assert rows["tied"].operation == "fully connected, 3 (shared)"
    assert rows["conv_2"].receptive_field == (5, 5)


class Layers(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        for number, layer in enumerate(layers):
            self.add_module(f"layer{number}", layer)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.children():
            x = layer(x)
        return x


WORDS = {
    "transposed conv 2x2, 4, /2": nn.ConvTranspose2d(4, 4, 2, stride=2),
    "conv 3x3, 8, pad 1, groups 4": nn.Conv2d(4, 8, 3, padding="same", groups=4),
    "conv 2x2, 4, pad same": nn.Conv2d(4, 4, 2, padding="same"),
    "conv 3x3, 4, pad 1, dilation 1x2": nn.Conv2d(4, 4, 3, padding=1, dilation=(1, 2)),
    "pad 1,1,1,1; conv 3x3, 4": nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"),
    "layer norm": nn.LayerNorm(8),
    "group norm, 2 groups": nn.GroupNorm(2, 4),
    "instance norm": nn.InstanceNorm2d(4),
    "leaky-relu 0.2": nn.LeakyReLU(0.2),
    "leaky-relu": nn.LeakyReLU(),
    "relu6": nn.ReLU6(),
    "gelu": nn.GELU(),
    "hardswish": nn.Hardswish(),
    "dropout2d 0.3": nn.Dropout2d(0.3),
    "dropout 0.3": nn.Dropout(0.3),
    "pixel shuffle": nn.PixelShuffle(2),
    "resize to 16x16, nearest": nn.Upsample(scale_factor=2),
    "resize to 16x16, bilinear": nn.Upsample(scale_factor=2, mode="bilinear"),
    "average pool to 2x3": nn.AdaptiveAvgPool2d((2, 3)),
    "max pool 3x3, /2, ceil": nn.MaxPool2d(3, 2, ceil_mode=True),
    "softmax": nn.Softmax(1),
    "prelu": nn.PReLU(),
    "shift 1 up and left": nn.ZeroPad2d((-1, 1, -1, 1)),
    "local response norm 3": nn.LocalResponseNorm(3),
    "fully connected, 5": nn.Linear(8, 5),
    "flatten": nn.Flatten(),
    "unflatten": nn.Unflatten(1, (2, 2)),
}


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("words", WORDS)
def test_layers_of_torch_are_one_row_each(words: str) -> None:
    rows = trace(Layers(WORDS[words]).eval(), (4, 8, 8))
    assert [(row.name, row.operation) for row in rows] == [("layer0", words)]
    assert rows[0].params == sum(p.numel() for p in WORDS[words].parameters())


def test_numbers_of_layers_that_are_several_operations() -> None:
    (norm,) = trace(Layers(nn.LocalResponseNorm(3, alpha=0.75, beta=0.5, k=1.5)), (4, 8, 8))
    assert norm.part == LocalResponseNorm(size=3, alpha=0.25, beta=0.5, k=1.5)
    padded = nn.Sequential(nn.AvgPool2d(1, 2), nn.ZeroPad3d((0, 0, 0, 0, 0, 2)))
    assert [(row.name, row.part) for row in trace(Layers(padded), (4, 8, 8))] == [("layer0", SubsamplePad(6, stride=2))]
    for other in (nn.ZeroPad3d((1, 1, 0, 0, 0, 2)), nn.ZeroPad3d((0, 0, 0, 0, 0, -2))):
        rows = trace(Layers(nn.Sequential(nn.AvgPool2d(1, 2), other)), (4, 8, 8))
        assert [row.name for row in rows] == ["layer0.0", "layer0.1"]


def test_a_weighted_sum_is_no_sum_of_ours() -> None:
    class Weighted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.add(x, x.relu(), alpha=2) + x.relu()

    parts = [row.part for row in trace(Weighted(), (3, 4, 4))]
    assert parts == [Activation("relu"), None, Activation("relu"), Add()]


def test_what_moves_numbers_only_has_no_row() -> None:
    class Views(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            x = x.permute(0, 2, 3, 1).contiguous().view(x.shape[0], 64, 3).transpose(1, 2).reshape(-1, 3, 8, 8)
            a, b = x.chunk(2, 2)
            return F.pad(F.dropout(torch.stack((a, b), 2)[:, :, 0], training=self.training), (0, 0)).unsqueeze(0).squeeze(0)

    assert [row.name for row in trace(Views().eval(), (3, 8, 8))] == ["stack"]


class Attention(nn.Module):
    """A transformer's first steps: patches, a class token, positions, attention."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.token = nn.Parameter(torch.zeros(1, 1, 8))
        self.position = nn.Parameter(torch.zeros(1, 17, 8))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.position
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return self.head(x[:, 0])


def test_attention() -> None:
    """2 heads of 4 numbers on 17 tokens: q k^T and the product with v are 17 * 17 * 8 multiply-adds each."""
    rows = table(Attention(), 3, 16, 16)
    names = [
        "patches",
        "token",
        "concat",
        "position",
        "add",
        "attention.in_proj",
        "attention.attention",
        "attention.out_proj",
        "add_2",
        "head",
    ]
    assert list(rows) == names
    product = rows["attention.attention"]
    assert (product.operation, product.macs, product.params) == ("attention, 2 heads", 2 * 17 * 17 * 8, 0)
    assert (rows["attention.in_proj"].params, rows["attention.in_proj"].macs) == (8 * 24 + 24, 17 * 8 * 24)
    assert (rows["attention.out_proj"].params, rows["attention.out_proj"].macs) == (8 * 8 + 8, 17 * 8 * 8)
    assert rows["position"].operation == "parameter 1x17x8"
    assert [row.receptive_field for row in rows.values() if row.depth] == [(4, 4)] * 4 + [(16, 16)] * 4
    assert rows["token"].field is None


def test_depth_is_the_longest_path() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c, self.d = (nn.Conv2d(3, 3, 1) for _ in range(4))

        def forward(self, x: Tensor) -> Tensor:
            return self.d(self.a(x) + self.c(self.b(x)))

    assert {name: row.depth for name, row in table(Branches(), 3, 4, 4).items()} == {"a": 1, "b": 1, "c": 2, "add": 2, "d": 3}
