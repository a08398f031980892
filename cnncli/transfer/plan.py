"""The plan of a finetuning: stages, one after another, each with what is frozen in it and what learns at which rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING

from cnncli.engine.config import OptimConfig, TrainConfig
from cnncli.errors import UsageError, near_miss
from cnncli.transfer.config import BACKBONE_FACTOR, CLASSIFIER, HEAD_EPOCHS, FinetuneConfig

if TYPE_CHECKING:
    from cnncli.models.head import Head
    from cnncli.transfer.chain import Block, Cut, Structure


@dataclass(frozen=True)
class Group:
    """Layers next to each other that are treated alike. rate: the peak with which they learn; None where they are frozen."""

    first: str
    last: str
    params: int
    rate: float | None

    @property
    def name(self) -> str:
        """`conv1 to fire5`, or `fc`."""
        return self.first if self.first == self.last else f"{self.first} to {self.last}"


@dataclass(frozen=True)
class Stage:
    """One training of several: the classifier alone, some of the deepest blocks, or everything.

    learning: names of the weights that learn. rates: of these, as shares of the peak rate, where they are not 1. cut: where the model can
    be cut so that all before it is frozen. train: how long. solver: `lbfgs` where the classifier is solved for.
    """

    number: int
    name: str
    learning: tuple[str, ...]
    rates: Mapping[str, float]
    groups: tuple[Group, ...]
    train: TrainConfig
    cut: Cut | None = field(repr=False)
    solver: str = "sgd"

    @property
    def trained(self) -> int:
        """How many numbers learn."""
        return sum(group.params for group in self.groups if group.rate is not None)

    @property
    def frozen(self) -> int:
        """How many do not."""
        return sum(group.params for group in self.groups if group.rate is None)


def plan_stages(
    structure: Structure, head: Head, sizes: Mapping[str, int], finetune: FinetuneConfig, *, train: TrainConfig, optim: OptimConfig
) -> tuple[Stage, ...]:
    """The stages that the settings ask for.

    sizes: how many numbers each weight of the model has, by name. train: of the last stage; the classifier learns alone for
    `finetune.head_epochs`, or, where it never does anything else, as long as either says.
    UsageError for a layer that there is not, for more blocks than there are, and for what contradicts itself.
    """
    parts = _Parts(structure, head, sizes)
    number = _blocks_learning(parts, finetune)
    if not number and finetune.head_epochs == 0:
        raise UsageError("nothing is left to learn: all but the classifier is frozen, and --head-epochs is 0", path="--head-epochs")
    stages = []
    if finetune.solver == "lbfgs" or finetune.head_epochs != 0 or not number:
        stages.append(_stage(parts, 0, finetune, _head_training(finetune, train, only=not number), optim, solver=finetune.solver))
    if number:
        stages += [_stage(parts, blocks, finetune, own, optim) for blocks, own in _unfrozen(number, finetune, train)]
    return tuple(replace(stage, number=place) for place, stage in enumerate(stages))


class _Parts:
    """blocks: those before the classifier, each without what belongs to that, in the order in which they run.

    A norm in the classifier's own block belongs to the block before it, as norms do everywhere.
    """

    def __init__(self, structure: Structure, head: Head, sizes: Mapping[str, int]) -> None:
        self.structure, self.head, self.sizes = structure, head, sizes
        self.head_names = tuple(name for name in sizes if any(name.startswith(f"{path}.") for path in head.paths))
        self.blocks: list[tuple[Block, tuple[str, ...]]] = []
        for block in structure.blocks:
            names = tuple(name for name in block.parameters if name not in self.head_names)
            if self.blocks and len(names) < len(block.parameters) and all(sizes[name] <= head.features for name in names):
                before, others = self.blocks.pop()
                self.blocks.append((before, others + names))
            elif names:
                self.blocks.append((block, names))


def _blocks_learning(parts: _Parts, finetune: FinetuneConfig) -> int:
    """How many of the deepest blocks learn in the end."""
    depth = len(parts.blocks)
    names = [block.name for block, _ in parts.blocks]
    if finetune.freeze:
        return 0
    if finetune.unfreeze is not None:
        if finetune.unfreeze > depth:
            raise UsageError(
                f"--unfreeze {finetune.unfreeze}: there are {depth} blocks before the classifier, {names[0]} to {names[-1]}",
                "leave it out to let all of them learn",
                path="--unfreeze",
            )
        return finetune.unfreeze
    if finetune.freeze_until is None:
        return depth
    return depth - _place_of(parts, finetune.freeze_until)


def _place_of(parts: _Parts, wanted: str) -> int:
    """The number of the first block in which this layer is, or which follows it; that behind the last one stands for the classifier."""
    if wanted in parts.head.paths:
        return len(parts.blocks)
    ran = parts.structure.ran
    in_head = any(_is_within(path, wanted) for path in parts.head.paths)
    for place, (block, names) in enumerate(parts.blocks):
        if block.name == wanted or any(wanted != path and _is_within(wanted, path) for path in block.modules if wanted in ran):
            return place
        # What holds the classifier, too, begins where it begins: VGG's `classifier` does with a block, a norm in a `head` does not.
        if any(_is_within(name, wanted) for name in (block.modules[:1] if in_head else names)):
            return place
    if in_head:
        return len(parts.blocks)
    if wanted not in ran or not wanted:  # "" is the whole model
        known = [block.name for block, _ in parts.blocks] + [parts.head.path]
        near = near_miss(wanted, list(dict.fromkeys([*known, *filter(None, ran)])))
        raise UsageError(
            f"--freeze-until: there is no layer {wanted!r}", near or f"its blocks are {', '.join(known)}", path="--freeze-until"
        )
    later = (place for place, (block, _) in enumerate(parts.blocks) if parts.structure.first(block.modules) >= ran[wanted])
    return next(later, len(parts.blocks))  # it has no weights of its own


def _head_training(finetune: FinetuneConfig, train: TrainConfig, *, only: bool) -> TrainConfig:
    if only and (train.steps is not None or train.minutes is not None):
        return train
    return replace(train, epochs=finetune.head_epochs or HEAD_EPOCHS, steps=None, minutes=None)


def _unfrozen(number: int, finetune: FinetuneConfig, train: TrainConfig) -> list[tuple[int, TrainConfig]]:
    """For each part of the way: how many blocks learn, and for how long."""
    parts = min(finetune.gradual, number)
    if parts == 1:
        return [(number, train)]
    epochs = train.passes
    if epochs is None or epochs < parts:
        raise UsageError(
            f"--gradual {finetune.gradual} shares out epochs, of which there are {epochs or 'none'}", "give --epochs", path="--gradual"
        )
    ends = [epochs * part // parts for part in range(parts + 1)]
    return [
        (-(-number * part // parts), replace(train, epochs=ends[part] - ends[part - 1], steps=None, minutes=None))
        for part in range(1, parts + 1)
    ]


def _stage(parts: _Parts, number: int, finetune: FinetuneConfig, train: TrainConfig, optim: OptimConfig, *, solver: str = "sgd") -> Stage:
    """A stage in which the `number` deepest blocks learn, and the classifier."""
    depth, decay = len(parts.blocks), finetune.layer_decay or 1.0
    factor = finetune.backbone_lr_factor
    if factor is None:
        factor = 1.0 if finetune.layer_decay is not None else BACKBONE_FACTOR
    rates: dict[str, float] = {}
    shares: list[tuple[str, int, float | None]] = []
    for place, (block, names) in enumerate(parts.blocks):
        share = factor * decay ** (depth - place) if place >= depth - number else None
        if share is not None:
            rates |= dict.fromkeys(names, share)
        shares.append((block.name, sum(parts.sizes[name] for name in names), share))
    shares.append((parts.head.path, sum(parts.sizes[name] for name in parts.head_names), 1.0))
    learning = (*rates, *parts.head_names)
    modules = [owner for owner in {name.rpartition(".")[0] for name in learning} if owner in parts.structure.ran]
    return Stage(
        number=0,
        name=CLASSIFIER if not number else "everything" if number == depth else f"from {parts.blocks[depth - number][0].name}",
        learning=learning,
        rates={name: share for name, share in rates.items() if share != 1},
        groups=_grouped(shares, optim.peak_lr, _rest(parts)),
        train=train,
        cut=parts.structure.cut_before(modules) if number < depth and modules else None,
        solver=solver,
    )


def _is_within(name: str, path: str) -> bool:
    return name == path or name.startswith(f"{path}.")


def _rest(parts: _Parts) -> int:
    """Numbers of modules that do not run when the model is used."""
    return (
        sum(parts.sizes.values())
        - sum(parts.sizes[name] for _, names in parts.blocks for name in names)
        - sum(parts.sizes[name] for name in parts.head_names)
    )


def _grouped(shares: Sequence[tuple[str, int, float | None]], peak: float, rest: int) -> tuple[Group, ...]:
    groups = []
    *backbone, head = shares
    for share, members in groupby(backbone, key=lambda one: one[2]):
        own = list(members)
        groups.append(Group(own[0][0], own[-1][0], sum(params for _, params, _ in own), None if share is None else peak * share))
    if rest:
        groups.append(Group("not used", "not used", rest, None))
    return (*groups, Group(head[0], head[0], head[1], peak))
