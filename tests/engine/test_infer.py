"""The fast forward pass gives the scores of the plain one; what is chosen, by fake clocks; and errors for scores that are no numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from cnncli.arch.zoo.table import build
from cnncli.engine import infer
from cnncli.engine.config import InferConfig
from cnncli.engine.infer import Forward, prepare, scores
from cnncli.engine.precision import Numbers
from cnncli.errors import CnnError, EnvironmentFault, UsageError
from cnncli.models.assemble import assemble

CPU = torch.device("cpu")
CHANNELS, SIDE = 3, 16


def net() -> nn.Module:
    """Two convolutions with batch norms that have seen images, and scores that differ."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(CHANNELS, 8, 3, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.BatchNorm2d(8),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 5),
    )
    for _ in range(5):
        model(torch.randn(64, CHANNELS, SIDE, SIDE))
    nn.init.normal_(model[-1].weight)
    return model


def pictures(count: int = 8, side: int = SIDE) -> Tensor:
    return torch.randn(count, CHANNELS, side, side, generator=torch.Generator().manual_seed(1))


def ready(model: nn.Module, config: InferConfig | None = None, *, count: int = 64, images: int | None = 10_000) -> Forward:
    return prepare(model, lambda: pictures(count), config or InferConfig("fp32"), device=CPU, images=images)


def never() -> Tensor:
    pytest.fail("no batch is needed")


def plain(model: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return model.eval()(images)


@pytest.mark.parametrize(("name", "side"), [("resnet20", 32), ("mobilenet_v2", 64), ("densenet121", 32), ("alexnet", 227), ("lenet5", 28)])
def test_the_zoo_in_float32(name: str, side: int) -> None:
    torch.manual_seed(0)
    description = build(name) if name in ("lenet5", "alexnet") else build(name, input=(3, side, side), classes=10)
    model = assemble(description)
    images = torch.randn(3, *description.input)
    forward = prepare(model, lambda: images, InferConfig("fp32"), device=CPU)
    wanted = plain(model, images)
    found = forward(images)
    assert (found.dtype, found.shape) == (torch.float32, wanted.shape)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=2e-5 * float(wanted.abs().max()))
    assert torch.equal(found.argmax(1), wanted.argmax(1))


def test_the_model_stays_as_it_is() -> None:
    model = net().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    strides = [parameter.stride() for parameter in model.parameters()]
    kinds = [type(module) for module in model]
    for precision in ("fp32", "bf16"):
        forward = ready(model, InferConfig(precision))
        forward(pictures())
    assert model.training
    assert kinds == [type(module) for module in model]
    assert strides == [parameter.stride() for parameter in model.parameters()]
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_few_images_are_computed_as_ever() -> None:
    """To the bit, and without a batch to try with."""
    model = net()
    for config in (InferConfig(), InferConfig("fp32")):
        forward = prepare(model, never, config, device=CPU, images=100)
        assert forward.how == "fp32"
        assert torch.equal(forward(pictures()), plain(model, pictures()))


def test_how_it_is_told() -> None:
    assert ready(net()).how == "fp32, channels-last, 2 batch norms folded"
    assert ready(nn.Sequential(nn.Conv2d(CHANNELS, 2, SIDE), nn.Flatten())).how == "fp32, channels-last"
    before = nn.Sequential(nn.BatchNorm2d(CHANNELS), nn.Conv2d(CHANNELS, 2, SIDE), nn.BatchNorm2d(2), nn.Flatten())
    assert ready(before).how == "fp32, channels-last, 1 of 2 batch norms folded"
    assert ready(net(), InferConfig("bf16")).how == "bf16, channels-last, 2 batch norms folded"


def test_parts_of_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(infer, "CHUNK_NUMBERS", 3 * CHANNELS * SIDE * SIDE)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    forward, seen = ready(net()), []
    counted = Forward(
        forward.model, lambda images: seen.append(len(images)) or forward.runner(images), forward.numbers, chunk=forward.chunk
    )
    torch.testing.assert_close(counted(pictures(8)), plain(forward.model, pictures(8)))
    assert seen == [3, 3, 2]


def test_no_images_are_no_scores() -> None:
    assert ready(net())(pictures(0)).shape == (0, 5)


class Foreign(nn.Module):
    """Looks at its batch norm's weight, so that it cannot do without one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(CHANNELS, 2, SIDE), nn.BatchNorm2d(2)

    def forward(self, images: Tensor) -> Tensor:
        return (self.norm(self.conv(images)) * self.norm.weight[:, None, None]).flatten(1)


class Flaky(Foreign):
    """Computes something else without the module of its batch norm."""

    def forward(self, images: Tensor) -> Tensor:
        return (self.norm(self.conv(images)) * (1 if isinstance(self.norm, nn.BatchNorm2d) else 2)).flatten(1)


@pytest.mark.parametrize("kind", [Foreign, Flaky])
def test_what_cannot_be_folded_is_not(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model = kind()
    forward = ready(model)
    assert forward.how == "fp32, channels-last; its batch norms cannot be folded"
    torch.testing.assert_close(forward(pictures()), plain(model, pictures()))


def test_16_bits() -> None:
    model = net()
    wanted, found = plain(model, pictures()), ready(model, InferConfig("bf16"))(pictures())
    assert found.dtype == torch.float32
    assert not torch.equal(found, wanted)
    assert float((found - wanted).abs().max()) < 0.05 * float(wanted.abs().max())


def test_a_layer_whose_weights_are_read_otherwise() -> None:
    """Its weights stay in float32, and it runs all the same."""

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(CHANNELS, 2, SIDE)

        def forward(self, images: Tensor) -> Tensor:
            return torch.einsum("nchw,fchw->nf", images, self.conv.weight.float() if self.training else self.conv.weight)

    torch.manual_seed(0)
    model = Tied()
    wanted, found = plain(model, pictures()), ready(model, InferConfig("bf16"))(pictures())
    assert float((found - wanted).abs().max()) < 0.05 * float(wanted.abs().max())


def test_fp16_needs_a_gpu() -> None:
    with pytest.raises(UsageError, match="fp16 needs a GPU"):
        prepare(net(), never, InferConfig("fp16"), device=CPU, images=1)


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Forward]:
    """tried(fp32=2, bf16=1): what is chosen where an image takes so many seconds."""
    now = 0.0
    monkeypatch.setattr(infer.time, "perf_counter", lambda: now)

    def run(fp32: float, bf16: float | str, *, images: int = 100_000, wrong: float = 0.0, model: nn.Module | None = None) -> Forward:
        as_ever = Numbers.scores

        def slow(numbers: Numbers, runner: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor:
            nonlocal now
            seconds = fp32 if numbers.precision == "fp32" else bf16
            if seconds == "fails":
                raise RuntimeError("not implemented for 'BFloat16'")
            now += seconds * len(batch)
            found = as_ever(numbers, runner, batch)
            if numbers.precision != "fp32":
                found[:, 0] += wrong
            return found

        with monkeypatch.context() as patch:
            patch.setattr(Numbers, "scores", slow)
            return ready(model or net(), InferConfig(), images=images)

    return run


def test_auto_takes_16_bits_where_they_are_much_faster(tried: Callable[..., Forward]) -> None:
    chosen = tried(1.0, 0.25)
    assert chosen.numbers == Numbers("bf16", channels_last=True)
    told = r": (\S+) times as fast as fp32, in which doubtful images are computed anew \((\d+) of 64\)"
    found = re.fullmatch("bf16, channels-last, 2 batch norms folded" + told, chosen.how)
    assert found
    assert float(found[1]) == pytest.approx(1 / (0.25 + int(found[2]) / 64), abs=0.06)


def test_labels_of_16_bits_are_those_of_float32(tried: Callable[..., Forward]) -> None:
    """Of images that were not tried with, among them many near a boundary."""
    model = net()
    chosen, images = tried(1.0, 0.1, model=model), pictures(3000)
    wanted, bare = plain(model, images), ready(model, InferConfig("bf16"))
    changed = [int((run(images).argmax(1) != wanted.argmax(1)).sum()) for run in (chosen, bare)]
    assert changed[0] <= 3, "one in a thousand"
    assert changed[1] > changed[0], "which is no wonder unless rounding changes some"
    lead = wanted.topk(2).values.diff().abs()[:, 0]
    sure = lead > 2 * chosen.margin
    assert 0 < int((~sure).sum()) < 0.5 * len(images)
    assert torch.equal(chosen(images[sure]), bare(images[sure]))


def test_one_class_has_no_second(tried: Callable[..., Forward]) -> None:
    model = nn.Sequential(net(), nn.Linear(5, 1))
    assert tried(1.0, 0.25, model=model).numbers.precision == "bf16"


def test_auto_keeps_float32_where_they_are_not(tried: Callable[..., Forward]) -> None:
    for bf16 in (1.0, 0.7, 100.0):
        assert tried(1.0, bf16).numbers.precision == "fp32"
    assert tried(1.0, 0.7).how == "fp32, channels-last, 2 batch norms folded (bf16 is 1.4 times as fast here)"
    assert tried(1.0, "fails").how == "fp32, channels-last, 2 batch norms folded (bf16 fails)"


def test_auto_keeps_float32_where_scores_change(tried: Callable[..., Forward]) -> None:
    for wrong in (20.0, 0.5, math.nan):
        chosen = tried(1.0, 0.25, wrong=wrong)
        assert chosen.numbers.precision == "fp32"
        assert chosen.how.endswith("(bf16 is 4.0 times as fast, but changes the scores)")


def test_auto_tries_nothing_for_a_short_job(tried: Callable[..., Forward]) -> None:
    assert tried(0.9e-4, 1e-5).how == "fp32, channels-last, 2 batch norms folded", "9 seconds in all"
    assert tried(1.1e-4, 1e-5).numbers.precision == "bf16", "11 seconds in all"
    assert tried(100.0, 1.0, images=1000).numbers.precision == "fp32", "the trial would take a fifth of the time"


def test_auto_tries_nothing_for_an_unknown_number() -> None:
    assert prepare(net(), lambda: pictures(), InferConfig(), device=CPU).numbers.precision == "fp32"


@pytest.mark.slow
def test_compiled() -> None:
    model = net()
    forward = ready(model, InferConfig("fp32", compile=True))
    assert forward.how == "fp32, channels-last, 2 batch norms folded, compiled"
    for count in (64, 7, 70):  # smaller and larger than what it is compiled for
        torch.testing.assert_close(forward(pictures(count)), plain(model, pictures(count)))


def test_a_compiler_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object, **__: object) -> Callable[[Tensor], Tensor]:
        def run(_: Tensor) -> Tensor:
            raise RuntimeError("no C++ compiler\nand so on")

        return run

    monkeypatch.setattr(torch, "compile", failing)
    with pytest.raises(EnvironmentFault, match=r"--compile fails: no C\+\+ compiler; leave it out"):
        ready(net(), InferConfig(compile=True))


def test_scores_of_batches() -> None:
    model = net()
    batches = [pictures(4), pictures(3)]
    for forward in (model, ready(model)):
        found = list(scores(forward, batches))
        assert [tensor.shape for tensor in found] == [(4, 5), (3, 5)]
        for tensor, images in zip(found, batches, strict=True):
            torch.testing.assert_close(tensor, plain(model, images))
    assert not model.training


def test_scores_of_ten_crops() -> None:
    model = net()
    (found,) = scores(ready(model), [pictures(2, side=20)], "ten-crop", (SIDE, SIDE))
    (slow,) = scores(model, [pictures(2, side=20)], "ten-crop", (SIDE, SIDE))
    torch.testing.assert_close(found, slow)
    torch.testing.assert_close(found.exp().sum(1), torch.ones(2))


@pytest.mark.parametrize(("value", "word"), [(math.nan, "NaN"), (math.inf, "infinity")])
@pytest.mark.parametrize("images", [1, 1000])
def test_weights_that_are_not_finite(value: float, word: str, images: int) -> None:
    model = net()
    with torch.no_grad():
        model[3].weight[2, 0, 1, 1] = value
    for run in (model, ready(model, InferConfig(), images=images)):
        with pytest.raises(CnnError, match=f"the model gives scores that are not finite: its 3.weight holds {word}"):
            list(scores(run, [pictures()]))


def test_images_that_are_not_finite() -> None:
    images = pictures()
    images[0, 0, 0, 0] = math.nan
    with pytest.raises(CnnError, match="since its images are not"):
        list(scores(net(), [images]))


def test_numbers_that_overflow() -> None:
    model = nn.Sequential(nn.Conv2d(CHANNELS, 4, SIDE), nn.Flatten(), nn.Linear(4, 4), nn.Linear(4, 5))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1e30)
    with pytest.raises(CnnError, match="numbers overflow between its layers"):
        list(scores(model, [pictures()]))
    small = Forward(net(), lambda _: torch.full((1, 5), math.inf), Numbers("fp16"))
    with pytest.raises(CnnError, match="not finite in fp16; --precision fp32"):
        list(scores(small, [pictures(1)]))
