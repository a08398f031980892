"""The three rules against the papers' formulas, written slowly, on nets that call their ReLUs in every way there is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnncli.arch.zoo.table import build
from cnncli.engine.relu_rules import RULES, Rule, Ruled
from cnncli.models.assemble import assemble

RELUS = {
    "module": nn.ReLU(),
    "module in place": nn.ReLU(inplace=True),
    "functional": F.relu,
    "functional in place": lambda x: F.relu(x, inplace=True),
    "functional in place, by position": lambda x: F.relu(x, True),
    "torch": torch.relu,
    "torch in place": torch.relu_,
    "method": lambda x: x.relu(),
    "method in place": lambda x: x.relu_(),
    "clamp": lambda x: x.clamp(min=0),
    "clamp by position": lambda x: torch.clamp(x, 0),
    "clamp in place": lambda x: x.clamp_(min=0),
    "clamp_min": lambda x: x.clamp_min(0),
    "clamp by a tensor": lambda x: x.clamp(min=torch.tensor(0.0)),
    "clip": lambda x: x.clip(0),
    "clip in place": lambda x: x.clip_(min=0),
    "threshold": lambda x: F.threshold(x, 0.0, 0.0),
    "threshold module in place": nn.Threshold(0.0, 0.0, inplace=True),
    "maximum": lambda x: torch.maximum(x, torch.zeros_like(x)),
    "maximum, turned round": lambda x: torch.maximum(torch.zeros(()), x),
    "max": lambda x: torch.max(x, torch.tensor(0.0)),
    "where": lambda x: torch.where(x > 0, x, 0.0),
    "where, zeros": lambda x: torch.where(x >= 0, x, torch.zeros_like(x)),
    "times its sign": lambda x: x * (x > 0),
    "its sign times it": lambda x: (x > 0) * x,
}
CUTS = {
    "module": nn.ReLU6(),
    "module in place": nn.ReLU6(inplace=True),
    "functional": F.relu6,
    "functional in place": lambda x: F.relu6(x, inplace=True),
    "hardtanh": lambda x: F.hardtanh(x, 0, 6),
    "hardtanh by name": lambda x: F.hardtanh(x, min_val=0.0, max_val=6.0),
    "hardtanh module": nn.Hardtanh(0, 6),
    "clamp": lambda x: x.clamp(0, 6),
    "clip by name": lambda x: torch.clip(x, min=0, max=6.0),
    "clamp in place": lambda x: x.clamp_(0, 6),
}
BY_HAND = {
    "gradient": lambda f, r: r * (f > 0),
    "deconvnet": lambda _f, r: r * (r > 0),
    "guided": lambda f, r: r * (f > 0) * (r > 0),
}


def back(relu: object, rule: Rule, before: Tensor, signal: Tensor) -> tuple[Tensor, Tensor, Ruled]:
    """(what came out, what comes back, the mode) for a signal that comes to a ReLU behind a multiplication by 1."""
    given = before.clone().requires_grad_()
    with Ruled(rule) as ruled:
        out = relu(given * 1)  # type: ignore[operator]
    (found,) = torch.autograd.grad(out, given, signal)
    return out.detach(), found, ruled


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("called", RELUS)
def test_the_formulas(called: str, rule: Rule) -> None:
    generator = torch.Generator().manual_seed(0)
    before, signal = (torch.randn(50, dtype=torch.float64, generator=generator) for _ in range(2))
    if rule != "gradient" or called.startswith(("module", "functional", "torch", "method")):  # at 0 others have a gradient of their own
        before[:3] = 0
    out, found, ruled = back(RELUS[called], rule, before, signal)
    assert torch.equal(out, before.clamp(min=0))
    assert torch.equal(found, BY_HAND[rule](before, signal))
    assert (ruled.relus, dict(ruled.others)) == (1, {})


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("called", CUTS)
def test_what_cuts_off_above(called: str, rule: Rule) -> None:
    """Nothing passes back through what stands at 6: there the output does not move."""
    before = torch.tensor([-1.0, 0.0, 1.0, 5.9, 6.1, 9.0, 2.0, -2.0, 7.0], dtype=torch.float64)
    if rule == "gradient" and called.startswith("cl"):  # at 0 they have torch's own gradient
        before[1] = -0.5
    signal = torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, -1.0, -1.0, -1.0], dtype=torch.float64)
    out, found, ruled = back(CUTS[called], rule, before, signal)
    assert torch.equal(out, before.clamp(0, 6))
    assert torch.equal(found, BY_HAND[rule](before, signal) * (before < 6))
    assert ruled.relus == 1


@pytest.mark.parametrize("rule", RULES)
def test_an_overwritten_tensor_stays_overwritten(rule: Rule) -> None:
    """Whoever reads it later sees what the ReLU left, as without the rule."""

    def net(images: Tensor) -> Tensor:
        kept = images * 2
        F.relu(kept, inplace=True)
        return kept + kept.sum()

    images = torch.tensor([-1.0, 2.0], dtype=torch.float64, requires_grad=True)
    with Ruled(rule):
        out = net(images)
    assert torch.equal(out, net(images))


WITHOUT_RULE = {
    "prelu": nn.PReLU(),
    "threshold": nn.Threshold(0.1, 0.0),
    "log_sigmoid": F.logsigmoid,
    "hardshrink": F.hardshrink,
    "softshrink": F.softshrink,
    "tanhshrink": F.tanhshrink,
    "glu": F.glu,
    "abs": torch.abs,
}


@pytest.mark.parametrize("called", WITHOUT_RULE)
def test_activations_without_a_rule_are_counted(called: str) -> None:
    with Ruled("guided") as ruled:
        WITHOUT_RULE[called](torch.randn(8, requires_grad=True))
    assert ruled.relus == 0
    assert called in ruled.others


def test_other_activations_are_counted_and_left() -> None:
    given = torch.randn(8, requires_grad=True)
    with Ruled("guided") as ruled:
        out = (
            F.gelu(given)
            + torch.sigmoid(given)
            + given.tanh()
            + F.leaky_relu(given)
            + F.hardtanh(given)
            + given.clamp(-1, 1)
            + given.clamp(min=0.1)
        )
    assert ruled.relus == 0
    assert dict(ruled.others) == {"gelu": 1, "sigmoid": 1, "tanh": 1, "leaky_relu": 1, "hardtanh": 1}
    (found,) = torch.autograd.grad(out.sum(), given)
    again = (
        F.gelu(given)
        + torch.sigmoid(given)
        + given.tanh()
        + F.leaky_relu(given)
        + F.hardtanh(given)
        + given.clamp(-1, 1)
        + given.clamp(min=0.1)
    )
    assert torch.equal(found, torch.autograd.grad(again.sum(), given)[0])


@pytest.mark.parametrize(("name", "count"), [("googlenet", 57), ("resnet18", 17), ("densenet121", 121), ("squeezenet1_1", 26)])
def test_every_relu_of_torchvisions_nets(name: str, count: int) -> None:
    """Functional ones among them: 57 in GoogLeNet, where hooks on modules see none."""
    from torchvision.models import get_model

    arguments = {"init_weights": False, "aux_logits": False} if name == "googlenet" else {}
    model = get_model(name, weights=None, **arguments).eval()
    with Ruled("guided") as ruled, torch.no_grad():
        model(torch.zeros(1, 3, 64, 64))
    assert ruled.relus == count
    assert not ruled.others


@pytest.mark.parametrize("rule", RULES)
def test_a_net_undone_by_hand(rule: Rule) -> None:
    """Convolution, ReLU, overlapping max pooling, convolution, ReLU, a neuron: layer by layer, from the papers' words.

    Pooling is undone by its switches: each signal goes to where the maximum was, and signals that meet there add up, as windows overlap.
    """
    torch.manual_seed(1)
    first, second = nn.Conv2d(2, 3, 3, padding=1).double(), nn.Conv2d(3, 4, 3).double()
    images = torch.randn(1, 2, 9, 9, dtype=torch.float64)
    f1 = F.conv2d(images, first.weight, first.bias, padding=1)
    pooled, switches = F.max_pool2d(f1.clamp(min=0), 3, 2, return_indices=True)
    f2 = F.conv2d(pooled, second.weight, second.bias)
    signal = torch.zeros_like(f2)
    neuron = (0, 2, 1, 0)
    signal[neuron] = 1.0
    signal = BY_HAND[rule](f2, signal)
    signal = F.conv_transpose2d(signal, second.weight)
    unpooled = torch.zeros_like(f1).flatten(2)
    for channel in range(3):
        for value, place in zip(signal[0, channel].flatten(), switches[0, channel].flatten(), strict=True):
            unpooled[0, channel, place] += value
    by_hand = F.conv_transpose2d(BY_HAND[rule](f1, unpooled.view_as(f1)), first.weight, padding=1)

    given = images.clone().requires_grad_()
    net = nn.Sequential(first, nn.ReLU(inplace=True), nn.MaxPool2d(3, 2), second, nn.ReLU())
    with Ruled(rule):
        out = net(given)
    (found,) = torch.autograd.grad(out[neuron], given)
    assert float((found - by_hand).abs().max()) < 1e-12
    assert float(found.abs().max()) > 0 or rule != "deconvnet"


def test_the_rules_differ_on_a_net_of_the_zoo() -> None:
    torch.manual_seed(0)
    net = build("alexnet-owt", input=(3, 63, 63), classes=10)
    model, images = assemble(net).eval(), torch.randn(1, 3, 63, 63)
    found = {}
    for rule in RULES:
        given = images.clone().requires_grad_()
        with Ruled(rule):
            score = model(given)[0, 3]
        (found[rule],) = torch.autograd.grad(score, given)
    assert not torch.allclose(found["gradient"], found["guided"])
    assert not torch.allclose(found["deconvnet"], found["guided"])
    given = images.clone().requires_grad_()
    assert torch.equal(torch.autograd.grad(model(given)[0, 3], given)[0], found["gradient"])
