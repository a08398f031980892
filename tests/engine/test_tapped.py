"""The numbers of layers, against hooks written by hand in float64, and against torchvision's own extractor."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from cnncli.arch.zoo.table import build
from cnncli.engine.layers import layers_of
from cnncli.engine.tapped import ROUNDING, Tapped, Wanted, pooled, prepared
from cnncli.models.assemble import assemble


def worn(model: nn.Module, seed: int = 0) -> nn.Module:
    """Batch norms that do something."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            for tensor, low, high in ((module.running_mean, -1.0, 1.0), (module.running_var, 0.5, 2.0)):
                tensor.uniform_(low, high, generator=generator)
            with torch.no_grad():
                module.weight.uniform_(0.5, 2, generator=generator)
                module.bias.uniform_(-1, 1, generator=generator)
    return model.eval()


def by_hand(model: nn.Module, path: str, images: Tensor) -> Tensor:
    """What a module gives, copied as it is given."""
    found: list[Tensor] = []
    handle = model.get_submodule(path).register_forward_hook(lambda _m, _a, output: found.append(output.clone()))
    with torch.no_grad():
        model(images)
    handle.remove()
    return found[-1]


def test_pooling_by_hand() -> None:
    output = torch.arange(24, dtype=torch.float64).view(1, 2, 3, 4)
    assert pooled(output, "avg").tolist() == [[5.5, 17.5]]
    assert pooled(output, "max").tolist() == [[11, 23]]
    assert pooled(output, "flatten").tolist() == [list(range(24))]
    assert pooled(output, "none") is output
    tokens = torch.tensor([[[1.0, 4.0], [3.0, 2.0]]])  # two tokens of two channels
    assert pooled(tokens, "avg").tolist() == [[2, 3]]
    assert pooled(tokens, "max").tolist() == [[3, 4]]
    vector = torch.tensor([[1.0, 2.0]])
    assert pooled(vector, "max").tolist() == pooled(vector, "avg").tolist() == [[1, 2]]


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["after", "before"])
def test_all_layers_of_a_net_at_once(activation: str) -> None:
    """In-place activations overwrite what was before them; what is kept must be from before, or behind, as asked."""
    torch.manual_seed(0)
    net = build("resnet20", input=(3, 16, 16))
    model, images = worn(assemble(net)).double(), torch.randn(3, *net.input, dtype=torch.float64)
    layers = layers_of(model.float(), net.input)
    model.double()
    wanted = [Wanted(layer.name, layers.find(layer.name, activation), "none") for layer in layers.all]
    with torch.no_grad():
        found = Tapped(model, wanted)(images)
    first = 0
    for one in wanted:
        size = int(torch.Size(one.shape).numel())
        own = found[:, first : first + size].view(3, *one.shape)
        assert torch.equal(own, by_hand(model, one.tap.path, images)), one.name
        first += size
    assert first == found.shape[1]


def test_what_comes_behind_is_not_run() -> None:
    ran: list[str] = []
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    model[2].register_forward_hook(lambda *_: ran.append("2"))
    layers = layers_of(nn.Sequential(nn.Flatten(), model), (2, 1, 1))
    ran.clear()
    whole = nn.Sequential(nn.Flatten(), model)
    Tapped(whole, [Wanted("0", layers.find("1.0", "before"), "avg")])(torch.randn(4, 2, 1, 1))
    assert not ran


@pytest.mark.parametrize("activation", ["after", "before"])
def test_folded_batch_norms_change_no_layer(activation: str) -> None:
    """Each layer by itself: a small one beside a large one is not let off."""
    torch.manual_seed(1)
    net = build("resnet20")
    model, images = worn(assemble(net)), torch.randn(140, *net.input)
    layers = layers_of(model, net.input)
    names = ("conv1", "stage1.block1", "stage2.block2", "pool", "fc")
    wanted = [Wanted(name, layers.find(name, activation), "avg") for name in names]  # type: ignore[arg-type]
    forward = prepared(model, wanted, images, "fp32", torch.device("cpu"), count=140)
    assert "folded" in forward.how
    with torch.no_grad():
        exact = Tapped(deepcopy(model).double(), wanted)(images.double())
    first = 0
    for one in wanted:
        last = first + one.shape[0]
        own, true = forward(images)[:, first:last], exact[:, first:last]
        assert float((own - true).abs().max()) <= ROUNDING * float(true.abs().max()), one.name
        first = last


def test_a_folded_norm_that_a_layer_needs_is_left_alone() -> None:
    """conv1 before its batch norm: the norm is not folded into it, or nothing is."""
    torch.manual_seed(2)
    net = build("resnet20")
    model, images = worn(assemble(net)), torch.randn(140, *net.input)
    tap = layers_of(model, net.input).find("conv1", "before")
    forward = prepared(model, [Wanted("conv1", tap, "flatten")], images, "fp32", torch.device("cpu"), count=140)
    true = by_hand(model, "conv1", images).flatten(1)
    assert torch.allclose(forward(images), true, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_torchvisions_extractor_agrees() -> None:
    from torchvision.models import get_model
    from torchvision.models.feature_extraction import create_feature_extractor

    torch.manual_seed(0)
    for name, paths in (("densenet121", ("features.denseblock2", "features.norm5")), ("googlenet", ("inception4a", "avgpool"))):
        model = worn(get_model(name, weights=None, **({"init_weights": False, "aux_logits": False} if name == "googlenet" else {})))
        layers, images = layers_of(model, (3, 64, 64)), torch.randn(2, 3, 64, 64)
        wanted = [Wanted(path, layers.find(path, "before"), "flatten") for path in paths]
        with torch.no_grad():
            theirs = create_feature_extractor(model, list(paths))(images)
            assert torch.equal(Tapped(model, wanted)(images), torch.cat([theirs[path].flatten(1) for path in paths], 1))
