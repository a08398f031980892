"""Any model made ready for other classes: every tensor but the classifier's is the source's to the bit, or an error that says why not."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights

from cnncli.arch.blocks import chain
from cnncli.arch.layers import Conv, Flatten, Linear
from cnncli.arch.net import Net
from cnncli.arch.outputs import with_classes
from cnncli.arch.pointwise import Activation
from cnncli.arch.regularise import with_dropout
from cnncli.arch.zoo.table import build
from cnncli.data.preprocess import Preprocess
from cnncli.errors import CnnError, EnvironmentFault, InputError, UsageError
from cnncli.models.adapt import Adapted, adapt, check_adaptable, untrained
from cnncli.models.assemble import assemble
from cnncli.models.download import cached
from cnncli.models.modelfile import ModelInfo, is_model_file, load, read_info, save
from cnncli.models.published import check_weights
from cnncli.models.resolve import Spec, resolve
from cnncli.models.weights import open_model

CLASSES = ("daisy", "rose", "tulip")
DATA = Path(os.environ.get("CNNCLI_TEST_DATA", Path(__file__).parents[2] / "../shared/data"))
SQUEEZENET = DATA / "weights" / "squeezenet1_1_imagenet.pth"


def drawn(module: nn.Module, seed: int = 0) -> nn.Module:
    """Every tensor different in every number."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            fan_in = tensor[0].numel() if tensor.ndim > 1 else 4
            tensor.normal_(std=fan_in**-0.5, generator=generator)
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2.0, generator=generator)
    return module.eval()


def adapted(spec: str, weights: Path | str | None = None, classes: tuple[str, ...] = CLASSES, **options: object) -> Adapted:
    found = adapt(resolve(spec), None if weights is None else str(weights), classes, tell=lambda line: told.append(line), **options)  # type: ignore[arg-type]
    assert not found.model.training
    assert found.info.classes == classes
    return found


told: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_told() -> None:
    told.clear()


def check_carried(found: Adapted, source: dict[str, Tensor], names: dict[str, str] | None = None) -> None:
    """All tensors but the head's equal the source's, those of the head do not, and gradients flow into every parameter."""
    state = found.model.state_dict()
    own = [name for name in state if name.rpartition(".")[0] not in found.head.paths]
    assert len(own) >= len(state) - 2 * len(found.head.paths)
    for name in own:
        theirs = source[name if names is None else names[name]]
        assert torch.equal(state[name], theirs), name
        assert state[name].dtype == theirs.dtype
    for path in found.head.paths:
        assert len(state[f"{path}.weight"]) == len(found.info.classes)
        assert 0 < state[f"{path}.weight"].abs().max() < 0.06, "N(0, 0.01^2)"
    assert found.head.params == sum(state[n].numel() for n in state if n not in own)
    assert all(parameter.requires_grad and not parameter.is_meta for parameter in found.model.parameters())


# ---- nets of the zoo ----


def test_a_net_of_the_zoo_from_torchvisions_file(tmp_path: Path) -> None:
    theirs = drawn(get_model("resnet18", weights=None))
    torch.save(dict(reversed(theirs.state_dict().items())), path := tmp_path / "w.pth")
    found = adapted("resnet18", path)
    check_carried(found, theirs.state_dict(), dict(zip(found.model.state_dict(), theirs.state_dict(), strict=True)))
    assert found.info.net == build("resnet18", classes=3)
    assert found.info.preprocess.crop_fraction == 224 / 256
    assert (found.head.before, found.head.after, found.head.features, found.weights) == (1000, 3, 512, f"a file: {path}")
    assert [line.partition(":")[0] for line in told] == ["note"]
    assert found.info.data == ""
    with torch.no_grad():  # the features are those of the source
        x = torch.randn(2, 3, 64, 64)
        theirs.fc, other = nn.Identity(), found.model
        other.get_submodule(found.head.path).weight.copy_(torch.eye(512)[:3])
        assert torch.allclose(other(x), theirs(x)[:, :3], rtol=1e-4, atol=1e-3)


def test_a_file_with_its_own_number_of_outputs(tmp_path: Path) -> None:
    for name, state in (
        ("theirs.pth", drawn(get_model("squeezenet1_1", weights=None, num_classes=11)).state_dict()),
        ("ours.pth", drawn(assemble(build("squeezenet1_1", classes=11))).state_dict()),
    ):
        torch.save(state, tmp_path / name)
        found = adapted("squeezenet1_1", tmp_path / name)
        assert (found.head.before, found.head.after, found.head.kind) == (11, 3, "Conv2d")
        check_carried(found, state, dict(zip(found.model.state_dict(), state, strict=True)))
    save_file(assemble(build("lenet5", classes=26)).state_dict(), tmp_path / "l.safetensors")
    assert adapted("lenet5", tmp_path / "l.safetensors").head == replace(
        found.head, path="output", kind="Linear", features=84, before=26, params=255
    )


def test_a_file_of_another_net(tmp_path: Path) -> None:
    torch.save(get_model("squeezenet1_1", weights=None).state_dict(), path := tmp_path / "w.pth")
    for spec in ("resnet18", "torchvision/resnet18"):
        with pytest.raises(
            InputError, match=rf"w.pth does not hold {spec}: tensors \d+ missing .* its 1,235,496 parameters are those of squeeze"
        ):
            adapted(spec, path)
    state = get_model("squeezenet1_1", weights=None).state_dict()
    torch.save(state | {"features.0.weight": torch.zeros(64, 1, 3, 3)}, path)
    with pytest.raises(InputError, match=r"first conv1.weight 64x3x3x3 would get features.0.weight 64x1x3x3"):
        adapted("squeezenet1_1", path)


@pytest.mark.skipif(not SQUEEZENET.is_file(), reason=f"real weights are absent: {SQUEEZENET} (set CNNCLI_TEST_DATA)")
def test_real_weights() -> None:
    found = adapted("squeezenet1_1", SQUEEZENET, tuple("abcde"))
    theirs = torch.load(SQUEEZENET, weights_only=True)
    check_carried(found, theirs, dict(zip(found.model.state_dict(), theirs, strict=True)))
    assert (found.head.path, found.head.before, found.head.after, found.head.params) == (found.head.path, 1000, 5, 5 * 513)


def test_published_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in the cache under the published name; without it and without a network, the error of `fetch`."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    for spec, weights in (
        ("resnet18", None),
        ("resnet18", "imagenet"),
        ("torchvision/resnet18", None),
        ("torchvision/resnet18", "imagenet"),
    ):
        with pytest.raises(EnvironmentFault, match=r"is not in the cache and cannot be downloaded"):
            adapted(spec, weights)
    theirs = drawn(get_model("squeezenet1_1", weights=None))
    torch.save(theirs.state_dict(), draft := tmp_path / "draft")
    from hashlib import sha256

    entry = get_model_weights("squeezenet1_1").IMAGENET1K_V1
    monkeypatch.setattr(entry.value, "url", f"https://nowhere.invalid/w-{sha256(draft.read_bytes()).hexdigest()[:8]}.pth")
    cached(entry.url).parent.mkdir(parents=True, exist_ok=True)
    draft.rename(cached(entry.url))
    ours = adapted("squeezenet1_1")
    assert ours.weights == "ImageNet (torchvision's IMAGENET1K_V1)"
    library = adapted("torchvision/squeezenet1_1")
    assert library.weights == ours.weights
    assert library.info.spec == "torchvision/squeezenet1_1"
    check_carried(library, theirs.state_dict())
    check_carried(ours, theirs.state_dict(), dict(zip(ours.model.state_dict(), theirs.state_dict(), strict=True)))
    assert library.info.preprocess == ours.info.preprocess


# ---- libraries ----


def test_a_model_of_torchvision(tmp_path: Path) -> None:
    theirs = drawn(get_model("resnet18", weights=None, num_classes=20)).state_dict()
    torch.save(theirs, path := tmp_path / "w.pth")
    found = adapted("torchvision/resnet18", path)
    check_carried(found, theirs)
    assert (found.head.path, found.head.before, found.info.net, found.info.spec) == ("fc", 20, None, "torchvision/resnet18")
    kept = tmp_path / "kept.safetensors"
    save(kept, found.model, found.info)
    again = adapted("torchvision/resnet18", kept, ("x",))  # a model file that holds the same
    check_carried(again, theirs)
    assert again.weights == f"{kept} (3 classes)"
    with pytest.raises(InputError, match=r"holds torchvision/resnet18, not torchvision/resnet34; name the file in the place of the net"):
        adapted("torchvision/resnet34", kept)
    with pytest.raises(InputError, match=r"holds torchvision/resnet18, not resnet18; name the file"):
        adapted("resnet18", kept)


@pytest.mark.parametrize("name", ["resnet18", pytest.param("levit_128s", marks=pytest.mark.slow)])
def test_a_model_of_timm(name: str, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    theirs = drawn(timm.create_model(name)).state_dict()
    torch.save(theirs, path := tmp_path / "w.pth")
    found = adapted(f"timm/{name}", path, seed=5)
    check_carried(found, theirs)
    assert found.head.before == 1000
    x = torch.randn(2, 3, 224, 224)
    save(tmp_path / "kept.safetensors", found.model, found.info)
    loaded, _ = load(tmp_path / "kept.safetensors")
    with torch.inference_mode():
        assert torch.equal(loaded(x), scores := found.model(x))
    assert scores.isfinite().all()
    again = adapted(str(tmp_path / "kept.safetensors"), None, tuple("ab"))
    check_carried(again, theirs)
    assert again.info.spec == found.info.spec


# ---- model files ----


@pytest.fixture
def small(tmp_path: Path) -> Path:
    net = Net("small", chain(conv=Conv(4, kernel=3), relu=Activation(), flatten=Flatten(), hidden=Linear(8), fc=Linear(5)), (3, 8, 8), 5)
    info = ModelInfo(net, tuple("vwxyz"), Preprocess(3, 8, 8, mean=(0.1, 0.2, 0.3), std=(1, 2, 3)), "photos", 0.3, None, {"epoch": 1.0})
    (tmp_path / "run").mkdir()
    save(tmp_path / "run" / "best.safetensors", drawn(assemble(net)), info)
    return tmp_path / "run"


def test_a_run_folder(small: Path) -> None:
    source, known = load(small / "best.safetensors")
    found = adapted(str(small))
    check_carried(found, source.state_dict())
    assert known.net is not None
    assert found.info == ModelInfo(with_classes(known.net, 3), CLASSES, known.preprocess)
    assert found.weights == f"{small / 'best.safetensors'} (photos, 5 classes)"
    assert (found.head.path, found.head.before, found.head.after) == ("fc", 5, 3)
    assert adapted(str(small), None, tuple("vwxyz")).head.after == 5  # as many as before: a new head all the same
    check_carried(adapted(str(small), None, tuple("12345")), source.state_dict())


def test_a_net_of_the_zoo_with_the_weights_of_a_run(tmp_path: Path) -> None:
    """Trained on another size and with another rate of dropout: the net, its size and its colours are those of the file."""
    net = with_dropout(build("squeezenet1_1", input=(3, 64, 64), classes=10), 0.1)
    source = drawn(assemble(net))
    save(
        path := tmp_path / "best.safetensors",
        source,
        ModelInfo(net, tuple("0123456789"), Preprocess(3, 64, 64, mean=(0.1,) * 3), "cifar10"),
    )
    for weights in (path, tmp_path):
        found = adapted("squeezenet1_1", weights)
        check_carried(found, source.state_dict())
        assert found.info.net == with_classes(net, 3)
        assert found.info.preprocess == Preprocess(3, 64, 64, mean=(0.1,) * 3)
        assert found.weights == f"{path} (cifar10, 10 classes)"
    with pytest.raises(
        InputError, match=r"best.safetensors holds squeezenet1_1, not lenet5; name the file in the place of the net, without --w"
    ):
        adapted("lenet5", path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty holds no best.safetensors"):
        adapted("lenet5", tmp_path / "empty")


# ---- another size, a seed ----


def test_another_size(small: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"size of input: hidden.weight 8x144 would be 8x400; keep --input 3x8x8"):
        adapted(str(small), input=(3, 12, 12))
    with pytest.raises(InputError, match=r"conv.weight 4x3x3x3 would be 4x1x3x3; keep --input 3x8x8"):
        adapted(str(small), input=(1, 8, 8))
    with pytest.raises(UsageError, match=r"the smallest input that fits is 3x3x3"):
        adapted(str(small), input=(3, 1, 1))
    torch.save(state := drawn(get_model("resnet18", weights=None)).state_dict(), path := tmp_path / "w.pth")
    for spec in ("resnet18", "torchvision/resnet18"):
        found = adapted(spec, path, input=(3, 64, 96))
        assert (found.info.preprocess.height, found.info.preprocess.width, found.info.preprocess.mean[0]) == (64, 96, 0.485)
        assert found.info.net is None or found.info.net.input == (3, 64, 96)
        assert all(torch.equal(a, b) for (n, a), b in zip(found.model.state_dict().items(), state.values(), strict=True) if "fc" not in n)


@pytest.mark.slow
def test_a_table_of_positions_fits_one_size(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    torch.save(timm.create_model("vit_tiny_patch16_224").state_dict(), path := tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"pos_embed 1x197x192 would be 1x50x192; keep --input 3x224x224"):
        adapted("timm/vit_tiny_patch16_224", path, input=(3, 112, 112))


def test_the_seed_alone_draws_the_head(small: Path) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    weights = [adapted(str(small), seed=seed).model.get_submodule("fc").weight for seed in (0, 0, 1)]
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("spec", ["run", "torchvision/mobilenet_v3_small", "mine.py:Small"])
def test_from_scratch(spec: str, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same names and shapes, other numbers; drawn by the seed, and by nothing else."""
    monkeypatch.chdir(tmp_path)
    weights = None
    if spec == "torchvision/mobilenet_v3_small":
        torch.save(get_model("mobilenet_v3_small", weights=None).state_dict(), weights := tmp_path / "w.pth")
    if spec == "mine.py:Small":
        (tmp_path / "mine.py").write_text(FILE)
    found = adapted(spec, weights)
    before = torch.get_rng_state()
    one, same, other = (untrained(found, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    own = found.model.state_dict()
    assert [(name, tensor.shape) for name, tensor in one.items()] == [(name, tensor.shape) for name, tensor in own.items()]
    assert all(torch.equal(one[name], same[name]) for name in one)
    wide = [name for name in one if one[name].ndim > 1]
    assert not any(torch.equal(one[name], other[name]) or torch.equal(one[name], own[name]) for name in wide)


# ---- a user's file ----

FILE = """
import sys, torch
from torch import nn

print("the file runs")
sys.argv.append("--mine")

class Small(nn.Module):
    input_shape = (3, 8, 8)

    def __init__(self, classes=7):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, classes)

    def forward(self, x):
        return self.fc(self.norm(self.conv(x)).mean((2, 3)))

class Needs(Small):
    def __init__(self, classes):
        super().__init__(classes)

class Plain(Small):
    input_shape = None

class Lazy(Small):
    def __init__(self):
        super().__init__()
        self.conv = nn.LazyConv2d(4, 3)

class Pairs(Small):
    def forward(self, x):
        x = super().forward(x)
        return torch.cat((x, x), 1)

class Raises(Small):
    def forward(self, x):
        raise ValueError("never")

class Leaves(nn.Module):
    def __init__(self):
        raise SystemExit(3)

def last_norm():
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 7), nn.BatchNorm1d(7))

last_norm.input_shape = (3, 8, 8)
ready = Small(6)
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(FILE)
    return tmp_path


def test_a_module_with_the_weights_it_is_made_with(mine: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = list(sys.argv)
    found = adapted("mine.py:ready")
    from cnncli.models.foreign_code import make_whole

    again = make_whole(Path("mine.py"), "ready", classes=3).model
    check_carried(found, again.state_dict())
    assert again.fc.out_features == 6, "the file's own module stays as it is"
    assert found.info == ModelInfo(None, CLASSES, Preprocess(3, 8, 8), spec="mine.py:ready")
    assert (found.head.path, found.head.before, found.head.after, found.weights) == ("fc", 6, 3, "as mine.py:ready makes them")
    assert any("no --weights: those that mine.py:ready is made with are used, which may be random" in line for line in told)
    with pytest.raises(UsageError, match=r"mine.py:ready is a finished module: there is none with weights drawn anew"):
        untrained(found, 0)
    out, err = capfd.readouterr()
    assert (out, err.count("the file runs")) == ("", 1), "once, and not on standard output"
    assert sys.argv == arguments
    assert sys.path[-1] == str(mine), "what stands beside the file hides no package"


@pytest.mark.parametrize("name", ["Small", "Needs", "Lazy"])
def test_a_modules_file_of_weights_and_its_model_file(name: str, mine: Path) -> None:
    namespace: dict[str, type[nn.Module]] = {"__name__": "elsewhere"}
    exec(FILE, namespace)
    theirs = namespace[name](9) if name != "Lazy" else namespace["Small"](9)
    torch.save({"state_dict": drawn(theirs).state_dict()}, "w.pth")
    found = adapted(f"mine.py:{name}", "w.pth")
    check_carried(found, theirs.state_dict())
    assert (found.head.before, found.weights) == (9, "a file: w.pth")
    with torch.no_grad():
        found.model.fc.weight.normal_()
    save(Path("best.safetensors"), found.model, replace(found.info, data="photos", preprocess=Preprocess(3, 8, 8, mean=(0.3,) * 3)))
    # It is opened by its own name, and the new classes are those of the file.
    spec = resolve(f"mine.py:{name}")
    check_weights(spec, "best.safetensors")
    x = torch.randn(2, 3, 8, 8)
    opened, info = open_model(spec, "best.safetensors", tell=told.append)
    with torch.inference_mode():
        assert torch.equal(opened(x), found.model(x))
    assert (info.classes, info.spec, info.net, info.preprocess.mean[0], opened.training) == (CLASSES, f"mine.py:{name}", None, 0.3, False)
    Path("run").mkdir()
    Path("best.safetensors").rename("run/best.safetensors")
    check_weights(spec, "run")
    assert open_model(spec, "run", tell=told.append)[1] == info
    Path("run/best.safetensors").rename("best.safetensors")
    # And learns others in its turn.
    again = adapted(f"mine.py:{name}", "best.safetensors", tuple("abcd"))
    check_carried(again, found.model.state_dict())
    assert again.weights == "best.safetensors (photos, 3 classes)"
    assert again.info.preprocess == info.preprocess


def test_a_model_file_of_code_runs_nothing_by_itself(mine: Path) -> None:
    found = adapted("mine.py:Small")
    Path("evil.py").write_text("open('it ran', 'w')\nfrom mine import Small as Net\n")
    path = Path("x.safetensors")
    for name in ("evil.py:Net", str(mine / "evil.py") + ":Net"):
        save(path, found.model, replace(found.info, spec=name))
        assert read_info(path).spec == name
        assert is_model_file(path)
        with pytest.raises(
            InputError, match=r"holds weights of .*; code runs only when it is named; `cnn eval .*evil.py:Net --weights x.safe"
        ):
            load(path)
        with pytest.raises(InputError, match=r"code runs only when it is named; `cnn finetune .*evil.py:Net --weights x.safetensors`"):
            check_adaptable(resolve(str(path)), None)
        for spec in ("resnet18", "torchvision/resnet18"):
            with pytest.raises(InputError, match=r"code runs only when it is named"):
                adapted(spec, path)
        # Named beside another module, it is that which runs, and which is named from then on.
        _, info = open_model(resolve("mine.py:Small"), str(path), tell=told.append)
        assert info.spec == "mine.py:Small"
        assert adapted("mine.py:Small", path).info.spec == "mine.py:Small"
    assert not Path("it ran").exists()


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("last_norm", {}, UsageError, "the last layer with weights, 2, is of type BatchNorm1d; name the layer .*: --head LAYER"),
        ("last_norm", {"head": "1"}, UsageError, None),
        ("Small", {"head": "conv"}, UsageError, "--head conv gives 4 outputs, and the net 7 scores; layers with 7 outputs: fc"),
        ("Small", {"head": "fcc"}, UsageError, "--head 'fcc': mine.py:Small has no such layer; did you mean fc"),
        ("Pairs", {}, UsageError, "fc, gives 7 outputs, and the net 14 scores; name the layer that gives the scores: --head LAYER"),
        ("Raises", {}, CnnError, r"mine.py:\d+: ValueError: never; its input was taken as 3x8x8: --input says another"),
        ("Leaves", {}, CnnError, r"mine.py:\d+: the file called exit\(3\)"),
        ("Nope", {}, UsageError, "mine.py has no Nope; models in mine.py"),
        ("Small", {"input": (1, 8, 8)}, CnnError, "its input was taken as 1x8x8"),
    ],
)
def test_a_module_that_cannot_be_adapted(
    name: str, options: dict[str, object], error: type[CnnError], message: str | None, mine: Path
) -> None:
    if message is None:  # batch norm of seven scores behind three
        error, message = CnnError, "RuntimeError: running_mean should contain 3 elements not 7"
    with pytest.raises(error, match=message):
        adapted(f"mine.py:{name}", **options)


def test_a_module_that_does_not_say_its_input(mine: Path) -> None:
    found = adapted("mine.py:Plain")
    assert found.info.preprocess == Preprocess(3, 224, 224)
    assert told[0] == "note: mine.py does not say its input; taken as 3x224x224: --input says another, or input_shape in the class"
    assert "pixel values from -1 to 1" in told[1]
    told.clear()
    assert adapted("mine.py:Plain", input=(3, 9, 9)).info.preprocess == Preprocess(3, 9, 9)
    assert "does not say its input" not in told[0]


def test_files_that_do_not_fit_a_module(mine: Path) -> None:
    state = drawn(adapted("mine.py:Small").model).state_dict()
    for change, message in (
        (
            {name: tensor for name, tensor in state.items() if name != "conv.bias"},
            r"w.pth does not hold mine.py:Small: tensors 1 missing \(conv.bias",
        ),
        (state | {"more": torch.zeros(2)}, r"tensors 1 unexpected \(more\)"),
        (state | {"conv.weight": torch.zeros(4, 1, 3, 3)}, r"first conv.weight 4x3x3x3 would get conv.weight 4x1x3x3"),
    ):
        torch.save(change, "w.pth")
        with pytest.raises(InputError, match=message):
            adapted("mine.py:Small", "w.pth")
    with pytest.raises(InputError, match=r"w.pth holds tensors, and not which classes they tell apart; give what `cnn finetune` wrote"):
        open_model(resolve("mine.py:Small"), "w.pth", tell=told.append)
    net = build("lenet5")
    save(Path("l.safetensors"), assemble(net), ModelInfo(net, tuple("0123456789"), Preprocess(1, 32, 32)))
    with pytest.raises(InputError, match=r"l.safetensors does not hold mine.py:Small"):
        open_model(resolve("mine.py:Small"), "l.safetensors", tell=told.append)


# ---- refused at once ----


def test_what_is_refused_before_torch_is_imported(small: Path, mine: Path) -> None:
    for spec, weights, error, message in (
        (
            "alexnet",
            None,
            UsageError,
            "alexnet has no published weights; give a file of them, --weights PATH, or take .*: alexnet-owt, vgg11",
        ),
        ("alexnet", "imagenet", UsageError, "alexnet has no published weights"),
        ("resnet18", "nope.pth", InputError, "no such weights file: 'nope.pth'"),
        ("run", "w.pth", UsageError, "run has its own weights; leave out --weights, or name a net"),
        ("CONV-RELU-FC", None, UsageError, 'CONV-RELU-FC has no weights to start from; train it: cnn train "CONV-RELU-FC"'),
        ("mine.py:Small", "imagenet", UsageError, "mine.py:Small has no published weights; give a file: --weights PATH"),
        ("mine.py:Small", "nope.pth", InputError, "no such weights file"),
        ("timm/resnet18", "imagenet", UsageError, "--weights imagenet are torchvision's"),
    ):
        with pytest.raises(error, match=message):
            check_adaptable(resolve(spec), weights)
    for spec, weights in (("resnet18", None), ("resnet18", "run"), ("run", None), ("mine.py:Small", None), ("torchvision/resnet18", None)):
        check_adaptable(resolve(spec), weights)
    Path("a\nb.py").touch()
    with pytest.raises(UsageError, match=r"a.nb.py:Net has characters that cannot be printed; rename the file"):
        check_adaptable(resolve("a\nb.py:Net"), None)
    (mine / "imagenet").touch()
    with pytest.raises(UsageError, match=r"also a file here; write ./imagenet"):
        check_adaptable(Spec("zoo", "resnet18"), "imagenet")
    for weights, classes, message in (
        (None, None, "mine.py:Small has no trained weights that say their classes; --weights FILE"),
        ("run", 4, "--weights run has its own classes; leave out --classes"),
    ):
        with pytest.raises(UsageError, match=message):
            check_weights(resolve("mine.py:Small"), weights, classes)


def test_the_check_needs_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None; from cnncli.models.resolve import resolve;"
        "from cnncli.models.adapt import check_adaptable; check_adaptable(resolve('resnet18'), None)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
