"""Tracing leaves the model and the world as they are, and takes models as they come."""

from __future__ import annotations

import random
import warnings

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from cnncli.arch.layers import Flatten
from cnncli.arch.net import Row
from cnncli.errors import CnnError
from cnncli.models.hollow import Hollow
from cnncli.models.tracing.trace import trace, trace_model


def facts(rows: tuple[Row, ...]) -> list[tuple[object, ...]]:
    return [(row.name, row.operation, row.output, row.params, row.macs, row.field, row.memory, row.depth, row.inputs) for row in rows]


def table(model: nn.Module, *input: int) -> dict[str, Row]:
    return {row.name: row for row in trace(model.eval(), input)}


class Layers(nn.Module):
    """Layers in series, as layer0, layer1, ..."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        for number, layer in enumerate(layers):
            self.add_module(f"layer{number}", layer)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.children():
            x = layer(x)
        return x


# ---- the model stays as it is ----


class Stateful(nn.Module):
    """Changes itself in every way it can."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(3)
        self.fc = nn.Linear(3, 2)
        self.register_buffer("steps", torch.zeros(1))
        self.register_buffer("mean", torch.zeros(3))
        self.calls = 0
        self.plain = torch.ones(3)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.steps += 1
        self.steps[0].add_(1)
        x = self.bn(x)
        self.mean = 0.9 * self.mean + 0.1 * x.mean((0, 2, 3))
        self.last = x
        self.register_buffer("late", torch.zeros(1))
        self.plain.mul_(2)
        x = F.dropout(x * self.plain.view(3, 1, 1), 0.5, training=self.training)
        torch.rand(3), random.random()
        return self.fc(x.mean((2, 3)))


def snapshot(model: nn.Module) -> dict[str, object]:
    return {
        "attributes": [sorted(vars(module)) for module in model.modules()],
        "ids": [
            (name, id(tensor), tensor.requires_grad, tensor.device) for name, tensor in [*model.named_parameters(), *model.named_buffers()]
        ],
        "values": [tensor.tolist() for tensor in [*model.parameters(), *model.buffers()]],
        "mode": [module.training for module in model.modules()],
        "hooks": [(len(module._forward_hooks), len(module._forward_pre_hooks)) for module in model.modules()],
        "grad": [parameter.grad for parameter in model.parameters()],
    }


def world() -> tuple[object, ...]:
    from torch.nn.modules import module

    hooks = (len(module._global_forward_hooks), len(module._global_forward_pre_hooks))
    return (
        torch.get_rng_state().tolist(),
        random.getstate(),
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.is_grad_enabled(),
        hooks,
    )


@pytest.mark.parametrize("training", [True, False])
def test_the_model_and_the_world_stay_as_they_are(training: bool) -> None:
    model = Stateful().train(training)
    model.fc.weight.requires_grad_(False)
    ran = []
    model.bn.register_forward_hook(lambda *_: ran.append(1))
    before, around = snapshot(model), world()
    rows = trace(model, (3, 4, 4))
    assert (snapshot(model), world()) == (before, around)
    assert (model.calls, model.plain.tolist(), ran) == (0, [1, 1, 1], [1])
    assert {row.name for row in rows} > {"bn", "fc"}
    assert sum(row.params for row in rows) == 6 + 8


def test_an_exception_leaves_no_hooks_behind() -> None:
    class Fails(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3)
            self.calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            raise KeyError(self.conv(x).shape[1])

    model, before = Fails(), world()
    with pytest.raises(KeyError):
        trace(model, (3, 8, 8))
    assert world() == before
    assert model.calls == 0


def test_a_layer_that_fails_and_is_replaced() -> None:
    """A module that catches its part's exception goes on; rows go on under the right names."""

    class Falls(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wide, self.narrow, self.relu = nn.Conv2d(9, 1, 1), nn.Conv2d(3, 1, 1), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            try:
                return self.wide(x)
            except RuntimeError:
                return self.relu(self.narrow(x)) + 1

    assert [(row.name, row.params) for row in trace(Falls(), (3, 4, 4))] == [("narrow", 4), ("relu", 0), ("add", 0), ("wide", 10)]


def test_a_model_on_the_cpu_and_a_hollow_one_give_the_same_rows() -> None:
    real = torchvision.models.mobilenet_v3_small(weights=None).eval()
    with Hollow():
        hollow = torchvision.models.mobilenet_v3_small(weights=None).eval()
    assert all(parameter.is_meta for parameter in hollow.parameters())
    assert facts(trace(real, (3, 64, 64))) == facts(trace(hollow, (3, 64, 64)))
    assert not any(parameter.is_meta for parameter in real.parameters())


# ---- models with wishes ----


def test_other_forms_of_a_model() -> None:
    """Compiled to TorchScript, to a graph, wrapped, with a weight made of two: the same operations and numbers."""

    def plain() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)).eval()

    want = [(row.operation, row.params, row.macs) for row in trace(plain(), (3, 8, 8))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls TorchScript old
        scripted = torch.jit.script(plain())
    for model in (scripted, torch.fx.symbolic_trace(plain()), nn.DataParallel(plain())):
        assert [(row.operation, row.params, row.macs) for row in trace(model, (3, 8, 8))] == want
        assert not any(parameter.is_meta for parameter in model.parameters())
    compiled = torch.compile(plain())
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns of global hooks on what it compiled
        assert [row.name for row in trace(compiled, (3, 8, 8))] == ["0", "1", "2", "3"]
    normed = plain()
    nn.utils.parametrizations.weight_norm(normed[0])
    assert trace(normed, (3, 8, 8))[0].params == 112 + 4


def test_two_images_where_one_is_refused() -> None:
    model = Layers(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2)).train()
    traced = trace_model(model, (3, 8, 8))
    assert (traced.batch, traced.output) == (2, (2,))
    assert facts(traced.rows) == facts(trace(model.eval(), (3, 8, 8)))


def test_constants_positions_and_devices() -> None:
    class Wishes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.zeros(10, 3))
            self.grid = torch.arange(64).reshape(1, 1, 8, 8) / 64  # neither parameter nor buffer: stays on the CPU

        def forward(self, x: Tensor) -> Tensor:
            count = int(torch.arange(3).sum())
            x = x.to(torch.device("cpu")).float() + self.grid + torch.linspace(0, 1, 8)
            y = torch.zeros_like(x)
            y[:, :, 2:4] = x[:, :, :2] * count
            return (y.cpu() + self.table[torch.arange(3)].sum()).amax((2, 3))

    rows = table(Wishes(), 3, 8, 8)
    assert list(rows) == ["add", "add_2", "multiply", "table", "add_3", "amax"], "zeros are no operation on the image"
    assert rows["table"].params == 30
    assert rows["add_2"].receptive_field == (1, 1)
    assert rows["amax"].field is None  # a part of `y` was written: what its units see differs


def test_a_part_of_a_tensor_that_is_overwritten() -> None:
    """Then its units do not all see what they saw, and it lies as deep as what was written."""

    class Writes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            y = x * 1
            y[:, :, 2:4] = self.conv(x)[:, :, :2]
            return y.relu()

    rows = table(Writes(), 3, 8, 8)
    assert (rows["multiply"].field is None, rows["relu"].field is None, rows["relu"].depth) == (False, True, 1)


def test_weights_that_a_layer_makes() -> None:
    """A layer that reads constants has a row; its parameters are counted there, and what it made is no parameter any more."""

    class Hyper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.seed = nn.Parameter(torch.ones(1, 2))
            self.drop, self.maker = nn.Dropout(0.5), nn.Linear(2, 15)

        def forward(self, x: Tensor) -> Tensor:
            weight = self.maker(self.drop(self.seed)).view(5, 3)
            return F.linear(x.mean((2, 3)), weight)

    rows = table(Hyper(), 3, 8, 8)
    shown = [(row.name, row.operation, row.params, row.macs, row.field is None, row.depth) for row in rows.values()]
    assert shown == [
        ("drop", "dropout 0.5", 0, 0, True, 0),
        ("seed", "parameter 1x2", 2, 0, True, 0),
        ("maker", "fully connected, 15", 45, 30, True, 1),
        ("mean", "mean", 0, 0, False, 0),
        ("linear", "fully connected, 5", 0, 15, False, 1),
    ]


def test_the_numbers_of_the_image_are_not_there() -> None:
    class Decides(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.mean() > 0 else -x

    class Picks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[x > 0]

    for model in (Decides(), Picks()):
        with pytest.raises(CnnError, match="depends on the numbers in the image"):
            trace(model, (3, 4, 4))


def test_operations_that_only_run_on_numbers() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls its quantisation old
        model = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Flatten(), nn.Linear(48, 2)), {nn.Linear})
    with pytest.raises(CnnError, match=r"^quantized::linear_dynamic has no form without numbers") as caught:
        trace(model, (3, 4, 4))
    assert "before it is quantised" in caught.value.hint


def test_lazy_layers_are_refused() -> None:
    model = Layers(nn.LazyConv2d(4, 3))
    with pytest.raises(CnnError, match="lazy layers"):
        trace(model, (3, 8, 8))
    assert isinstance(model.layer0, nn.LazyConv2d), "it is still lazy"


def test_half_precision_and_other_outputs() -> None:
    class Several(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool = nn.MaxPool2d(2, return_indices=True)
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            assert x.dtype == torch.float16
            pooled, _ = self.pool(self.conv(x))
            return {"out": pooled}

    traced = trace_model(Several().half(), (3, 8, 8))
    assert [(row.name, row.output, row.receptive_field) for row in traced.rows] == [
        ("conv", (4, 8, 8), (1, 1)),
        ("pool", (4, 4, 4), (2, 2)),
    ]
    assert traced.output == (4, 4, 4)


def test_a_flatten_by_hand_is_a_flatten() -> None:
    class Hand(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.view(x.size(0), -1)

    (row,) = trace(Hand(), (3, 4, 4))
    assert (row.name, row.part, row.output, row.memory, row.receptive_field) == ("view", Flatten(), (48,), 0, (4, 4))
