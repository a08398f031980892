"""Running a trained model on images: the fastest forward pass that gives its scores.

What makes it fast: batch norms folded into the layers before them, images with channels last, batches in parts that stay in the
processor's caches, and, where that keeps the labels, numbers of 16 bits.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import cast

import torch
from torch import Tensor, nn

from cnncli.engine.config import ComputeConfig, InferConfig
from cnncli.engine.folding import LAYERS, copied, fold, norms
from cnncli.engine.precision import DTYPES, Numbers, candidates
from cnncli.engine.tta import averaged
from cnncli.errors import CnnError, EnvironmentFault

PREPARED_FROM = 128  # images; folding takes as long as some ten, and gains a tenth
VERIFIED_IMAGES = 4  # of the example, by which a folded net is compared with the plain one
ROUNDING = 1e-4  # by which scores may differ after folding, as a share of the largest score; rounding makes 1e-6 to 1e-5
TRIED_IMAGES = 16
TRIED_RUNS = 3  # the first warms up
COMPARED_IMAGES = 64  # at most, by which the labels of a faster way are compared with those of float32
WORTH_TRYING = 10.0  # seconds of computing in float32 below which looking for something faster costs more than it gains
TRIED_SHARE = 0.1  # of the images to come that the trials may take the time of
FASTER = 1.5  # how many times numbers of 16 bits must be, to be worth their rounding; and the clock cannot choose one way now and then
MARGIN = 1.25  # times the largest change of an image's lead among those compared; with 64 of them, three standard deviations
CLOSE = 0.05  # by which a probability may differ from that in float32
CHUNK_NUMBERS = 3 * 224 * 224 * 8  # of the images that a CPU computes at a time, for each thread: so that activations stay in its caches


@dataclass(frozen=True)
class Forward:
    """A model made ready: float32 images [N, C, H, W] -> float32 scores [N, classes], on the same device.

    model: the one it was made from. runner: what is run in its place, in `numbers`. how: what was chosen and why, in one line.
    chunk: images that are computed at a time. fixed: whether runner takes no other number of them. exact: computes anew the images whose
    two best scores lie within `margin`, so that labels do not hang on the rounding of 16 bits.
    """

    model: nn.Module
    runner: nn.Module
    numbers: Numbers = field(default_factory=Numbers)
    how: str = "fp32"
    chunk: int | None = None
    fixed: bool = False
    exact: Forward | None = None
    margin: float = 0.0

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        scores = torch.cat([self._scores(part) for part in self.parts(images)])
        if self.exact is not None:
            doubtful = _lead(scores) < self.margin
            if doubtful.any():
                scores[doubtful] = self.exact(images[doubtful])
        return scores

    def parts(self, images: Tensor) -> tuple[Tensor, ...]:
        """The images that are computed at a time."""
        return torch.split(images, self.chunk or max(1, len(images)))

    def _scores(self, images: Tensor) -> Tensor:
        count = len(images)
        if self.fixed and self.chunk and count < self.chunk:
            images = torch.cat([images, images.new_zeros(self.chunk - count, *images.shape[1:])])
        return self.numbers.scores(self.runner, images)[:count].float()


def prepare(
    model: nn.Module, example: Callable[[], Tensor], config: InferConfig, *, device: torch.device, images: int | None = None
) -> Forward:
    """The fastest forward pass of `model`, which is on `device` and stays as it is.

    example: gives a batch [N, C, H, W] of preprocessed images; it is not called where there is nothing to try. images: how many are to
    come, None where that is not known; for few of them nothing is done that takes longer than it gains.
    "fp32" gives the model's own scores: to the bit for few images, else to float error, since sums are taken in another order. So does
    "auto" unless it says in `how` that it took numbers of 16 bits; then images whose label these could change are computed in float32, so
    that the clock, which decides it, decides no figure but by rounding.
    UsageError for numbers that the device lacks; EnvironmentFault where --compile fails.
    """
    ways = candidates(ComputeConfig(precision=config.precision, memory_format="contiguous"), device)
    plain = Forward(model, copied(model) if any(module.training for module in model.modules()) else model)
    as_it_is = ways[0].precision == "fp32" and not config.compile
    if as_it_is and images is not None and images < PREPARED_FROM:
        return plain
    batch = example().to(device)
    if as_it_is and images is None and len(batch) < TRIED_IMAGES:
        return plain  # a stream whose first batch is so short has ended
    chosen = _exact(plain, batch)
    if len(ways) > 1:
        chosen = _faster(chosen, ways[1].precision, batch, images)
    elif ways[0].precision != "fp32":
        chosen = _reduced(chosen, ways[0].precision, batch)
    return _compiled(chosen, batch) if config.compile else chosen


@torch.inference_mode()
def scores(
    model: nn.Module | Forward, batches: Iterable[Tensor], views: str = "none", size: tuple[int, int] | None = None
) -> Iterator[Tensor]:
    """The scores (N, classes), on the CPU in float32, of each batch (N, C, H, W) of preprocessed images; averaged as in `averaged`.

    The model is put in evaluation mode: an image's scores do not depend on the others of its batch.
    CnnError for scores that are not finite; it names the first weight that is not.
    """
    if isinstance(model, nn.Module):
        model.eval()
    for images in batches:
        found = averaged(model, images, views, size).float().cpu()
        if not torch.isfinite(found).all():
            raise _not_finite(model, images)
        yield found


def _not_finite(model: nn.Module | Forward, images: Tensor) -> CnnError:
    """The error for scores that are not finite: the weights' fault, the images', or that of a small range of numbers."""
    numbers = model.numbers if isinstance(model, Forward) else Numbers()
    module = model.model if isinstance(model, Forward) else model
    what = "the model gives scores that are not finite"
    for name, tensor in module.state_dict().items():
        if not torch.isfinite(tensor).all():
            held = "NaN" if torch.isnan(tensor).any() else "infinity"
            return CnnError(f"{what}: its {name} holds {held}", "use a model from before its training went wrong")
    if not torch.isfinite(images).all():
        return CnnError(f"{what}, since its images are not")
    if numbers.precision != "fp32":
        return CnnError(f"{what} in {numbers.precision}", "--precision fp32 has room for larger numbers", path="--precision")
    return CnnError(f"{what}, though its weights are: numbers overflow between its layers", "train it anew with a lower --lr")


def _exact(plain: Forward, batch: Tensor) -> Forward:
    """In float32: with channels last and without the batch norms that can be folded, as far as the scores stay the same."""
    few = batch[:VERIFIED_IMAGES]
    wanted = plain(few)
    chunk = max(1, CHUNK_NUMBERS * torch.get_num_threads() // few[0].numel()) if few.device.type == "cpu" else None
    for make in (_folded, _unfolded):
        made = _verified(make, plain, few, wanted)
        if made is not None:
            return replace(made, chunk=chunk)
    return replace(plain, chunk=chunk)


def _verified(make: Callable[[Forward, Tensor], Forward], plain: Forward, images: Tensor, wanted: Tensor) -> Forward | None:
    """What `make` makes of the plain forward pass, if it gives the same scores."""
    try:
        made = make(plain, images)
        return made if _differ(made(images), wanted) <= ROUNDING else None
    except Exception:  # noqa: BLE001 # a foreign model may do anything when it is copied, watched or changed; as it is, it works
        return None


def _folded(plain: Forward, images: Tensor) -> Forward:
    made, total = _unfolded(plain, images), norms(plain.model)
    runner, count = fold(plain.model, images[:2]) if total else (plain.model, 0)
    if not count:
        return replace(made, how=f"{made.numbers}")
    which = f"{count} of {total}" if count < total else f"{total}"
    return replace(made, runner=_laid_out(runner), how=f"{made.numbers}, {which} batch norms folded")


def _unfolded(plain: Forward, images: Tensor) -> Forward:
    numbers = Numbers(channels_last=images.device.type != "mps")
    why = "; its batch norms cannot be folded" if norms(plain.model) else ""
    return replace(plain, runner=_laid_out(plain.model), numbers=numbers, how=f"{numbers}{why}")


def _laid_out(model: nn.Module) -> nn.Module:
    """A copy that shares the tensors of `model`, but for filters, which have channels last."""
    made = copied(model)
    for module in made.modules():
        for name, tensor in list(module.named_parameters(recurse=False)):
            if tensor.dim() == 4:
                filters = tensor.detach().contiguous(memory_format=torch.channels_last)
                setattr(module, name, nn.Parameter(filters, requires_grad=False))
    return made


def _reduced(exact: Forward, precision: str, images: Tensor) -> Forward:
    """In numbers of 16 bits where they do not harm much (see torch.autocast), the weights of layers stored as such."""
    numbers, how = replace(exact.numbers, precision=precision), exact.how.replace("fp32", precision, 1)
    made = replace(exact, numbers=numbers, how=how)
    try:
        stored = replace(made, runner=_rounded(exact.runner, DTYPES[precision]))
        stored(images[:1])
    except (RuntimeError, TypeError):  # it reads the weights of a layer in its own way, or cannot be copied
        return made
    return stored


def _rounded(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy, the weights of its convolutions and fully connected layers in `dtype`, so that they are not rounded in every run."""
    made = copied(model)
    for module in made.modules():
        if isinstance(module, LAYERS):
            for name, tensor in list(module.named_parameters(recurse=False)):
                setattr(module, name, nn.Parameter(tensor.detach().to(dtype), requires_grad=False))
    return made


def _faster(exact: Forward, precision: str, batch: Tensor, images: int | None) -> Forward:
    """`exact`, or the same in numbers of 16 bits: where there are enough images to try it, it is much faster, and labels stay."""
    few, some, compared = (batch[:count] for count in (VERIFIED_IMAGES, TRIED_IMAGES, COMPARED_IMAGES))
    if images is None or 2 * (TRIED_RUNS * len(some) + len(compared)) > TRIED_SHARE * images:
        return exact
    if _seconds(exact, few, 1) / len(few) * images < WORTH_TRYING:
        return exact
    try:
        tried = _reduced(exact, precision, some)
        seconds = _seconds(exact, some, TRIED_RUNS)
        speed = seconds / _seconds(tried, some, TRIED_RUNS, no_longer_than=seconds)
        if speed < FASTER:
            return replace(exact, how=f"{exact.how} ({precision} is {speed:.1f} times as fast here)")
        wanted, found = exact(compared), tried(compared)
    except RuntimeError:  # an operation that lacks these numbers
        return replace(exact, how=f"{exact.how} ({precision} fails)")
    margin = MARGIN * _rounded_lead(found, wanted)
    doubtful = _lead(found) < margin
    in_all = 1 / (1 / speed + doubtful.float().mean().item())  # times as fast, with the doubtful ones computed twice
    found = torch.where(doubtful[:, None], wanted, found)
    same = torch.equal(found.argmax(1), wanted.argmax(1)) and float((found.softmax(1) - wanted.softmax(1)).abs().max()) <= CLOSE
    if in_all < FASTER or not same:
        return replace(exact, how=f"{exact.how} ({precision} is {speed:.1f} times as fast, but changes the scores)")
    anew = f"{int(doubtful.sum())} of {len(found)}"
    how = f"{tried.how}: {in_all:.1f} times as fast as fp32, in which doubtful images are computed anew ({anew})"
    return replace(tried, exact=exact, margin=margin, how=how)


def _lead(scores: Tensor) -> Tensor:
    """By how much the best score of each image [N] is above its second one; infinite where there is one class."""
    if scores.shape[1] < 2:
        return torch.full_like(scores[:, 0], math.inf)
    best = scores.topk(2).values
    return best[:, 0] - best[:, 1]


def _rounded_lead(found: Tensor, wanted: Tensor) -> float:
    """The most by which the difference of the two best scores of `found` is another one in `wanted`."""
    best = found.topk(min(2, found.shape[1])).indices[:, [0, -1]]
    return float((found.gather(1, best).diff() - wanted.gather(1, best).diff()).abs().max())


def _seconds(forward: Forward, images: Tensor, runs: int, no_longer_than: float = math.inf) -> float:
    """The least of some runs; of several the first warms up. What takes far longer than `no_longer_than` is left early."""
    best = math.inf
    for number in range(runs):
        _wait_for(images.device)
        began = time.perf_counter()
        forward(images)
        _wait_for(images.device)
        seconds = time.perf_counter() - began
        if number or runs == 1 or seconds > 10 * no_longer_than:
            best = min(best, seconds)
        if seconds > 10 * no_longer_than:
            break
    return best


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _differ(found: Tensor, wanted: Tensor) -> float:
    """The largest difference between scores, as a share of the largest score; NaN where one is not finite."""
    return float((found - wanted).abs().max() / wanted.abs().max().clamp_min(1e-30))


def _compiled(forward: Forward, batch: Tensor) -> Forward:
    """The same through torch.compile, its weights as constants."""
    chunk = min(forward.chunk or len(batch), len(batch))
    runner = cast("nn.Module", torch.compile(forward.runner, dynamic=False, options={"freezing": True}))
    made = replace(forward, runner=runner, chunk=chunk, fixed=True, how=f"{forward.how}, compiled")
    try:
        found = made(batch[:chunk])
    except Exception as error:  # a compiler that is missing or fails: torch raises exceptions of many modules
        hint = "leave it out; it needs a C++ compiler"
        raise EnvironmentFault(f"--compile fails: {_first_line(error)}", hint, path="--compile") from error
    close = ROUNDING if forward.numbers.precision == "fp32" else CLOSE
    same = _differ(found, forward(batch[:chunk])) <= close
    return made if same else replace(forward, how=f"{forward.how}; not compiled, since its scores would differ")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200] or type(error).__name__
