"""The classifier is found by structure: in libraries' models against their own table of it, in modules by running them."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cnncli.errors import UsageError
from cnncli.models.head import Head, find_by_running, find_head, fresh_head, replace_head, resize_to
from cnncli.models.sources import make

SIZE = (3, 8, 8)


def head_of(spec: str, name: str | None = None) -> Head:
    library, _, model = spec.partition("/")
    one, other = (make(library, model, input=None, classes=classes, classifies=True).model for classes in (7, 8))  # type: ignore[arg-type]
    return find_head(one, other, before=1000, after=7, what=spec, name=name)


@pytest.mark.parametrize(
    ("spec", "path", "kind", "features"),
    [
        ("torchvision/alexnet", "classifier.6", "Linear", 4096),
        ("torchvision/vgg16_bn", "classifier.6", "Linear", 4096),
        ("torchvision/squeezenet1_1", "classifier.1", "Conv2d", 512),
        ("torchvision/resnet18", "fc", "Linear", 512),
        ("torchvision/densenet121", "classifier", "Linear", 1024),
        ("torchvision/googlenet", "fc", "Linear", 1024),
        ("torchvision/mobilenet_v3_small", "classifier.3", "Linear", 1024),
        ("torchvision/convnext_tiny", "classifier.2", "Linear", 768),
        ("torchvision/vit_b_16", "heads.head", "Linear", 768),
        pytest.param("torchvision/inception_v3", "fc", "Linear", 2048, marks=pytest.mark.slow),
        pytest.param("torchvision/maxvit_t", "classifier.5", "Linear", 512, marks=pytest.mark.slow),
        ("torchvision/swin_t", "head", "Linear", 768),
        ("torchvision/regnet_y_400mf", "fc", "Linear", 440),
    ],
)
def test_torchvision(spec: str, path: str, kind: str, features: int) -> None:
    found = head_of(spec)
    bias = 0 if "maxvit" in spec else 7
    assert found == Head(path, kind, features, 1000, 7, 7 * features + bias)


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "convnext_atto",
        "vit_tiny_patch16_224",
        "mobilenetv3_small_050",
        "efficientnet_b0",
        "regnetx_002",
        pytest.param("caformer_s18", marks=pytest.mark.slow),
        pytest.param("nasnetalarge", marks=pytest.mark.slow),
    ],
)
def test_timm_as_its_own_table_says(name: str) -> None:
    """timm lists the path of each model's classifier beside its weights."""
    timm = pytest.importorskip("timm")
    found = head_of(f"timm/{name}")
    assert found.path == timm.get_pretrained_cfg(name).classifier
    assert found.others == ()
    assert found.params == 7 * found.features + 7


def test_models_with_two_classifiers() -> None:
    pytest.importorskip("timm")
    assert head_of("timm/deit_tiny_distilled_patch16_224") == Head("head", "Linear", 192, 1000, 7, 2 * 7 * 193, ("head_dist",))
    assert head_of("timm/deit_tiny_distilled_patch16_224", "head_dist").others == ("head",)
    assert head_of("timm/levit_128s").paths == ("head.linear", "head_dist.linear")


@pytest.mark.slow
def test_a_classifier_of_patches_is_the_second() -> None:
    pytest.importorskip("timm")
    assert head_of("timm/volo_d1_224").paths == ("head", "aux_head")


def test_a_name_that_is_not_the_classifiers() -> None:
    assert head_of("torchvision/alexnet", "classifier.6").path == "classifier.6"
    for name, told in (
        ("classifier.4", r"--head classifier.4 gives 4096 outputs, and the net 7 scores; layers with 7 outputs: classifier.6"),
        ("classifer.6", r"--head 'classifer.6': torchvision/alexnet has no such layer; did you mean classifier.6"),
        ("classifier.5", r"--head classifier.5 is of type ReLU, and a classifier is a Linear or Conv2d layer; layers with 7 outputs"),
        ("", "no such layer"),
    ):
        with pytest.raises(UsageError, match=told):
            head_of("torchvision/alexnet", name)
    one, other = (nn.Sequential(nn.Linear(2, 7), nn.Linear(7, classes)) for classes in (7, 8))
    with pytest.raises(UsageError, match=r"--head 0: x gives its scores in 1; leave it out"):
        find_head(one, other, before=5, after=7, what="x", name="0")


def test_no_layer_depends_on_the_number() -> None:
    class Own(nn.Module):
        def __init__(self, classes: int) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.zeros(classes, 2))

    for one, other in ((nn.Linear(2, 3), nn.Linear(2, 3)), (Own(2), Own(3)), (nn.Sequential(nn.Linear(2, 2)), nn.Linear(2, 3))):
        with pytest.raises(UsageError, match=r"x: no layer with weights depends on the number of classes alone"):
            find_head(one, other, before=2, after=3, what="x")


# ---- modules as they are ----


class Net(nn.Module):
    """The classifier stands first, and the last layer that is written down is another."""

    def __init__(self, last: nn.Module | None = None) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 4, 1, 1))
        self.out = last or nn.Linear(4, 5)
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.norm(self.conv(x)) + self.token)
        return self.out(x.mean((2, 3))) if isinstance(self.out, nn.Linear) else self.out(x).flatten(1)


def test_the_last_one_called() -> None:
    assert find_by_running(Net().eval(), SIZE, what="x") == Head("out", "Linear", 4, 5, 5, 25)
    pooled = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 5, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    assert find_by_running(pooled, SIZE, what="x") == Head("2", "Conv2d", 6, 5, 5, 30)
    lazy = nn.Sequential(nn.Flatten(), nn.LazyLinear(5)).eval()
    assert find_by_running(lazy, SIZE, what="x").features == 192


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(192, 192)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.fc(x.flatten(1)))


class Calls(nn.Module):
    def __init__(self, what: object) -> None:
        super().__init__()
        self.what = what

    def forward(self, x: torch.Tensor) -> object:
        return self.what(x)  # type: ignore[operator]


class Cosine(nn.Linear):
    pass


FLAT = nn.Flatten()


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (nn.Sequential(FLAT, nn.Linear(192, 5), nn.BatchNorm1d(5)), "the last layer with weights, 2, is of type BatchNorm1d"),
        (nn.Sequential(FLAT, Cosine(192, 5)), "the last layer with weights, 1, is of type Cosine"),
        (nn.Sequential(FLAT, nn.Linear(192, 5), nn.Linear(5, 3), nn.ConstantPad1d(1, 0.0)), "2, gives 3 outputs, and the net 5 scores"),
        (nn.Sequential(nn.Conv2d(3, 5, 8), FLAT), "0, is a convolution of more than one pixel or in groups"),
        (Shared(), "fc, is called 2 times"),
        (Calls(lambda x: x.flatten(1)), "it calls no layer with weights"),
    ],
)
def test_it_cannot_be_found(model: nn.Module, told: str) -> None:
    with pytest.raises(
        UsageError, match=rf"x: its classifier cannot be found: .*{told}; name the layer that gives the scores: --head LAYER$"
    ):
        find_by_running(model.eval(), SIZE, what="x")


@pytest.mark.parametrize(
    ("gives", "told"),
    [
        (lambda x: (x, x), "a tuple"),
        (lambda x: x, "a tensor 2x3x8x8"),
        (lambda x: x.sum(), "a tensor "),
        (lambda x: x.flatten(1)[:1], "a tensor 1x192"),
    ],
)
def test_what_gives_no_scores(gives: object, told: str) -> None:
    with pytest.raises(UsageError, match=f"x gives {told} for two images of 3x8x8, and not one row of scores for each"):
        find_by_running(Calls(gives), SIZE, what="x")


def test_a_name_says_what_is_not_found() -> None:
    model = nn.Sequential(FLAT, nn.Linear(192, 5), nn.BatchNorm1d(5)).eval()
    assert find_by_running(model, SIZE, what="x", name="1").path == "1"
    with pytest.raises(UsageError, match=r"--head 2 is of type BatchNorm1d"):
        find_by_running(model, SIZE, what="x", name="2")
    with pytest.raises(UsageError, match=r"--head 'nope': x has no such layer; layers with 5 outputs: 1$"):
        find_by_running(model, SIZE, what="x", name="nope")


def test_running_leaves_no_hook_and_no_trace() -> None:
    model, before = Net().eval(), torch.get_rng_state()
    kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    find_by_running(model, SIZE, what="x")
    assert all(torch.equal(kept[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert torch.equal(before, torch.get_rng_state())


# ---- a new one ----


@pytest.mark.parametrize("last", [nn.Linear(4, 5, bias=False), nn.Conv2d(4, 5, 6, stride=2, padding=0).double(), nn.Linear(4, 5)])
def test_replaced_by_one_like_it(last: nn.Module) -> None:
    model = Net(last).to(last.weight.dtype).eval()
    found = find_by_running(model.float(), SIZE, what="x", name="out")
    model.to(last.weight.dtype)
    now = replace_head(model, found, 9)
    new = model.get_submodule("out")
    assert (now.before, now.after, now.path) == (5, 9, "out")
    assert now.params == sum(parameter.numel() for parameter in new.parameters())
    assert not new.training
    assert list(model.state_dict())[:3] == ["token", "out.weight", "out.bias" if new.bias is not None else "conv.weight"]
    assert model.float()(torch.zeros(2, *SIZE)).shape == (2, 9)


def test_new_weights() -> None:
    """Krizhevsky's: standard deviation 0.01, biases 0; the same for a seed, and of no influence on what is drawn elsewhere."""
    model = nn.Sequential(nn.Linear(500, 400), nn.BatchNorm1d(400), nn.Linear(400, 300)).eval()
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.fill_(7)
    head = Head("0", "Linear", 500, 400, 400, 0, ("1",))
    before = torch.get_rng_state()
    fresh_head(model, head, 3)
    weight = model[0].weight.detach().clone()
    assert weight.std().item() == pytest.approx(0.01, rel=0.01)
    assert abs(weight.mean().item()) < 1e-4
    assert set(model[0].bias.tolist()) == {0.0}
    assert [set(tensor.flatten().tolist()) for tensor in model[1].state_dict().values()] == [{1.0}, {0.0}, {0.0}, {1.0}, {0}]
    assert set(model[2].weight.flatten().tolist()) == {7.0}
    assert torch.equal(before, torch.get_rng_state())
    fresh_head(model, head, 3)
    assert torch.equal(model[0].weight, weight)
    fresh_head(model, head, 4)
    assert not torch.equal(model[0].weight, weight)


def test_as_many_outputs_as_a_file() -> None:
    for other in (nn.Linear(4, 9), nn.Linear(4, 5)):
        model = Net()
        resize_to(model, Net(other).state_dict())
        model.load_state_dict(Net(other).state_dict())
    for tensors in (
        {"out.weight": torch.zeros(9, 3), "out.bias": torch.zeros(9)},
        {"out.weight": torch.zeros(9, 4), "conv.weight": torch.zeros(8, 3, 3, 3)},
        {"norm.weight": torch.zeros(9)},
        {"out.bias": torch.zeros(9)},
        {"out.bias": torch.zeros(())},
        {"token": torch.zeros(2, 4, 1, 1)},
    ):
        model = Net()
        resize_to(model, tensors)
        assert model.out.out_features == 5, "left as it is, for an error that says what does not fit"


def test_a_classifier_deep_inside() -> None:
    model = nn.Sequential(nn.Sequential(nn.Flatten(), nn.Linear(192, 5))).eval()
    found = find_by_running(model, SIZE, what="x")
    assert found.path == "0.1"
    replace_head(model, found, 3)
    assert model(torch.zeros(2, *SIZE)).shape == (2, 3)
