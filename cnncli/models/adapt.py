"""Any model with weights, made ready to tell other classes apart: the same layers and numbers up to the classifier, and a new one behind.

The model is made for the new classes the way that it is always made (a net as data, a library's model by the library, a user's module by
replacing its last layer), and takes every tensor but the classifier's from the source, to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cnncli.arch.net import Net, walk
from cnncli.arch.outputs import with_classes
from cnncli.arch.zoo.table import build
from cnncli.data.preprocess import Preprocess
from cnncli.errors import InputError, UsageError
from cnncli.models.description import Size, size_text
from cnncli.models.modelfile import ModelInfo, is_model_file, load, make_for, read_model
from cnncli.models.published import PUBLISHED, check_adaptable, entry_of, version_of
from cnncli.models.resolve import Spec, model_file, stored_spec

if TYPE_CHECKING:
    from torch import Tensor, nn

    from cnncli.models.head import Head
    from cnncli.models.sources import Made

__all__ = ["Adapted", "adapt", "check_adaptable", "untrained"]

Tell = Callable[[str], None]
DEFAULT_INPUT = (3, 224, 224)  # of a user's model that does not say; ImageNet's


@dataclass(frozen=True)
class Adapted:
    """A model with a new classifier.

    model: on the CPU, in evaluation mode, with len(info.classes) outputs; every tensor but the head's is the source's, to the bit.
    info: the new classes, the net with as many outputs (or the spec of a library's model or Python file), the source's preprocessing.
    head: the classifier. weights: what the weights are, in words: "ImageNet (torchvision's IMAGENET1K_V1)".
    """

    model: nn.Module
    info: ModelInfo
    head: Head
    weights: str


@dataclass(frozen=True)
class _Source:
    """A model with weights as it was before, what is known of it, and what its weights are, in words."""

    model: nn.Module
    info: ModelInfo
    weights: str

    @property
    def size(self) -> Size:
        return _size(self.info.preprocess)


def adapt(
    spec: Spec,
    weights: str | None,
    classes: tuple[str, ...],
    *,
    head: str | None = None,
    input: Size | None = None,
    seed: int = 0,
    tell: Tell,
) -> Adapted:
    """The model that a spec and --weights name together (see `check_adaptable`), for `classes` instead of its own.

    weights: None for the published ones of a net that has them, those of a model file, or those that a user's code gives its model; a word
    such as `imagenet-v2`; the path of a file of tensors, a model file or a run folder. head: the path of the classifier, where the model's
    structure does not show it. input: (channels, height, width) for another size than the source's. seed: of the classifier's weights,
    which are drawn from N(0, 0.01^2). tell: receives each line of talk.

    UsageError where no classifier is found; InputError for weights that do not fit the model or the size of input; and what
    `open_model` raises.
    """
    check_adaptable(spec, weights)
    if spec.kind == "python":
        return _adapt_module(spec, weights, classes, head=head, input=input, seed=seed, tell=tell)
    source = _source(spec, weights, tell)
    preprocess = source.info.preprocess
    if input is not None and input != source.size:
        preprocess = _resized(preprocess, input)
    info = ModelInfo(source.info.net, classes, preprocess, spec=source.info.spec)
    target = _target(spec, info, len(source.info.classes), head)
    _check_finite(source.model, source.weights)
    return Adapted(_filled(target, source, seed), target.info, target.head, source.weights)


def untrained(adapted: Adapted, seed: int) -> nn.Module:
    """The same architecture with all its weights drawn anew, as `assemble` or the library draws them; on the CPU, in evaluation mode.

    A user's model is made once more by its code, with a new classifier. UsageError for one that the file holds ready made.
    """
    import torch

    from cnncli.models.foreign_code import make_whole, running
    from cnncli.models.head import replace_head, scores_of
    from cnncli.models.looking import drawn

    info = adapted.info
    if info.net is not None or (spec := stored_spec(info.spec)).kind != "python":
        return drawn(info, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        own = make_whole(spec.path, spec.name, classes=len(info.classes))
        if own.finished:
            raise UsageError(
                f"{info.spec} is a finished module: there is none with weights drawn anew", "name its class, or leave out --compare"
            )
        with running(spec.path):
            scores_of(own.model, _size(info.preprocess), info.spec)  # layers that wait for their input get their weights
        replace_head(own.model, adapted.head, len(info.classes))
        return own.model.eval()


# ---- where the weights come from ----


def _source(spec: Spec, weights: str | None, tell: Tell) -> _Source:
    """The model of a net, a library or a file as it was, and its weights in words."""
    from cnncli.models.pretrained import load_library_file, open_library
    from cnncli.models.weights import load_file, load_published

    if spec.kind == "file":
        model, info = load(spec.path)
        return _Source(model, info, _trained_words(spec.path, info))
    word = weights or (PUBLISHED if spec.kind == "zoo" else None)
    if word is None or (version_of(word) if spec.kind == "zoo" else entry_of(word)):
        if spec.library is not None:
            model, info = open_library(spec, word, classes=None, device="cpu", tell=tell)
        else:
            model, info = load_published(spec.name, word or PUBLISHED, tell=tell)
        return _Source(model, info, _published_words(spec, info, word))
    path = model_file(Path(word))
    if is_model_file(path):
        model, info = load(path)
        _check_same(spec, info, path)
        return _Source(model, info, _trained_words(path, info))
    model, info = load_file(spec.name, path, tell) if spec.library is None else load_library_file(spec, path, tell)
    return _Source(model, info, f"a file: {path}")


def _check_same(spec: Spec, info: ModelInfo, path: Path) -> None:
    """InputError unless the model file holds this model; a tag of timm's says where weights come from and makes no other model."""
    if info.net is None:
        same = info.spec.partition(".")[0] == spec.text.partition(".")[0]
    else:
        same = spec.kind == "zoo" and _is_like(spec.name, info.net)
    if not same:
        raise InputError(
            f"{path} holds {info.name}, not {spec.text}", "name the file in the place of the net, without --weights", path=str(path)
        )


def _is_like(name: str, net: Net) -> bool:
    """Whether the net has the tensors of the zoo's, made for the same input and classes."""
    try:
        own = with_classes(build(name, input=net.input), net.classes)
    except UsageError:  # it cannot be made for these
        return False
    return _shapes(own) == _shapes(net)


def _shapes(net: Net) -> dict[str, tuple[int, ...]]:
    """The names and shapes of the net's tensors, which rates of dropout and the like leave as they are."""
    import torch

    from cnncli.models.assemble import assemble

    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in assemble(net).state_dict().items()}


def _trained_words(path: Path, info: ModelInfo) -> str:
    data = f"{info.data}, " if info.data else ""
    return f"{path} ({data}{len(info.classes)} classes)"


def _published_words(spec: Spec, info: ModelInfo, word: str | None) -> str:
    data = info.data or "published"
    if spec.library == "timm":
        tag = info.spec.partition(".")[2]
        return f"{data} (timm's {tag})" if tag else f"{data} (timm)"
    if spec.library is None:
        return f"{data} (torchvision's {version_of(word or PUBLISHED)})"

    from cnncli.models.imagenet import library_entry

    return f"{data} (torchvision's {library_entry(spec.name, word and entry_of(word)).name})"


# ---- the model for the new classes ----


@dataclass(frozen=True)
class _Target:
    """The model for the new classes, without memory for its weights; made: how its library made it."""

    model: nn.Module
    info: ModelInfo
    head: Head
    made: Made | None = None


def _target(spec: Spec, info: ModelInfo, before: int, name: str | None) -> _Target:
    """What the weights go into: the model for the input and the classes of `info`, whose net may have another number of outputs."""
    import torch

    from cnncli.models.assemble import assemble
    from cnncli.models.head import find_head

    made, count = None, len(info.classes)
    if info.net is None:
        made = make_for(info)
        model, other = made.model, make_for(replace(info, classes=tuple(map(str, range(count + 1))))).model
    else:
        net = replace(info.net, input=_size(info.preprocess))
        walk(net)  # an input that is too small is told with the smallest that fits
        info = replace(info, net=with_classes(net, count))
        with torch.device("meta"):
            model, other = assemble(with_classes(net, count)), assemble(with_classes(net, count + 1))
    return _Target(model, info, find_head(model, other, before=before, after=count, what=spec.text, name=name), made)


def _filled(target: _Target, source: _Source, seed: int) -> nn.Module:
    """The model with the source's tensors, and new ones for the classifier."""
    import torch

    from cnncli.models.fitting import check_carried
    from cnncli.models.head import fresh_head
    from cnncli.models.sources import with_weights

    model, own, theirs = target.model, target.model.state_dict(), source.model.state_dict()
    check_carried(own, theirs, target.head.paths, input=size_text(source.size))
    new = {name: torch.zeros(own[name].shape, dtype=own[name].dtype) for name in own if name.rpartition(".")[0] in target.head.paths}
    tensors = {name: new[name] if name in new else theirs[name] for name in own}
    if target.made is None:
        model.load_state_dict(tensors, assign=True)
    else:
        model = with_weights(target.made, tensors)
    fresh_head(model, target.head, seed)
    return model.eval()


# ---- a model that the user's code makes ----


def _adapt_module(
    spec: Spec, weights: str | None, classes: tuple[str, ...], *, head: str | None, input: Size | None, seed: int, tell: Tell
) -> Adapted:
    """As `adapt`, by replacing the model's last layer."""
    from cnncli.models.foreign_code import make_whole, running
    from cnncli.models.head import HINT, find_by_running, fresh_head, replace_head, scores_of

    own = make_whole(spec.path, spec.name, classes=len(classes))
    path = None if weights is None else model_file(Path(weights))
    known = read_model(path) if path is not None and is_model_file(path) else None
    preprocess = _preprocess_of(spec, known and known[0], input, own.input_shape, tell)
    model, size = own.model, _size(preprocess)
    with running(spec.path, f"its input was taken as {size_text(size)}: --input says another"):
        found = find_by_running(model, size, what=spec.text, name=head)
    if path is None:
        tell(f"note: no --weights: those that {spec.text} is made with are used, which may be random")
        words = f"as {spec.text} makes them"
    else:
        found = replace(found, before=_take(model, spec, path, known and known[1], head=found.path, tell=tell))
        words = f"a file: {path}" if known is None else _trained_words(path, known[0])
    _check_finite(model, words)
    found = replace_head(model, found, len(classes))
    fresh_head(model, found, seed)
    with running(spec.path, f"the layers behind {found.path} do not take its {len(classes)} outputs: end the net in its classifier"):
        scores = scores_of(model, size, spec.text)
    if scores != len(classes):
        told = f"{spec.text} gives {scores} scores where {found.path} gives {len(classes)}, which is thus not its classifier"
        raise UsageError(told, HINT, path="--head")
    return Adapted(model.eval(), ModelInfo(None, classes, preprocess, spec=spec.text), found, words)


def _preprocess_of(spec: Spec, known: ModelInfo | None, input: Size | None, says: Size | None, tell: Tell) -> Preprocess:
    """How images are prepared: as the model file `known` says, for the size `input`; or of the size that the code says, from -1 to 1."""
    if known is not None:
        return known.preprocess if input is None else _resized(known.preprocess, input)
    size = input or says or DEFAULT_INPUT
    if input is None and says is None:
        tell(f"note: {spec.path} does not say its input; taken as {size_text(size)}: --input says another, or input_shape in the class")
    tell(f"note: {spec.text} does not say how images are prepared; assumed: pixel values from -1 to 1")
    return Preprocess(*size)


def _take(model: nn.Module, spec: Spec, path: Path, tensors: Mapping[str, Tensor] | None, *, head: str, tell: Tell) -> int:
    """Put the tensors of a file into the module, its classifier with as many outputs as the file has: how many that are."""
    from cnncli.models.checkpoint import read_checkpoint
    from cnncli.models.fitting import fitted
    from cnncli.models.head import resize_to

    if tensors is None:
        tensors = read_checkpoint(path, tell)
    resize_to(model, tensors)
    outputs = len(model.state_dict()[f"{head}.weight"])
    model.load_state_dict(fitted(model, list(model.state_dict()), tensors, name=spec.text, classes=outputs, path=path))
    return outputs


def _check_finite(model: nn.Module, words: str) -> None:
    """InputError for weights of which nothing can be learned. Said here, it is not mistaken for a rate that is too high."""
    wrong = [name for name, tensor in model.state_dict().items() if tensor.is_floating_point() and not bool(tensor.isfinite().all())]
    if wrong:
        told = f"the weights are not finite in {len(wrong)} tensor{'' if len(wrong) == 1 else 's'}, the first {wrong[0]}: {words}"
        raise InputError(told, "take those of an earlier epoch, or of another file")


def _resized(preprocess: Preprocess, size: Size) -> Preprocess:
    """The same for another size of input; for other colours with values from -1 to 1, as nothing is known of them."""
    channels, height, width = size
    if channels != preprocess.channels:
        preprocess = replace(preprocess, channels=channels, mean=(), std=())
    return replace(preprocess, height=height, width=width)


def _size(preprocess: Preprocess) -> Size:
    return preprocess.channels, preprocess.height, preprocess.width
