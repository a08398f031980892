"""Nets out of named parts: chains, residual blocks, branches, dense blocks.

Every block says in `steps` how its parts are wired: a step has a name, a part and the names of the steps that it reads.
Walking, assembling, drawing and mutating a net need nothing else, so a new kind of block is one class here.
Names become the paths of torch modules and the keys of saved weights: a renamed part breaks every saved model.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

from cnncli.arch.layers import Layer, Shape, ShapeError
from cnncli.arch.pointwise import Activation
from cnncli.errors import UsageError

INPUT = "input"  # the name by which the steps of a block read what the block is given
PART_NAME = re.compile(r"[A-Za-z0-9_]{1,64}")


class Merge:
    """A layer with several inputs."""

    def output(self, shapes: tuple[Shape, ...]) -> Shape:
        """The output shape for inputs of these shapes; ShapeError when they do not go together."""
        raise NotImplementedError

    def operation(self) -> str:
        """What it does, in the words of a table cell."""
        raise NotImplementedError


@dataclass(frozen=True)
class Add(Merge):
    """The sum of its inputs, unit by unit. Not counted as MACs: it does not multiply."""

    def output(self, shapes: tuple[Shape, ...]) -> Shape:
        if len(set(shapes)) != 1:
            texts = " and ".join("x".join(map(str, shape)) for shape in shapes)
            raise ShapeError(f"add needs inputs of one shape, but has {texts}")
        return shapes[0]

    def operation(self) -> str:
        return "add"


@dataclass(frozen=True)
class Concatenate(Merge):
    """Its inputs behind one another along the channels."""

    def output(self, shapes: tuple[Shape, ...]) -> Shape:
        if len({shape[1:] for shape in shapes}) != 1:
            texts = " and ".join("x".join(map(str, shape)) for shape in shapes)
            raise ShapeError(f"concat needs inputs of one height and width, but has {texts}")
        return (sum(shape[0] for shape in shapes), *shapes[0][1:])

    def operation(self) -> str:
        return "concat"


class Step(NamedTuple):
    """One part of a block: its name, what it is, and the steps that it reads (INPUT is the block's own input)."""

    name: str
    part: Part
    inputs: tuple[str, ...]


class Block:
    """A part made of parts. The output of its last step is its own; a block without steps passes its input on."""

    @property
    def sources(self) -> tuple[str, ...]:
        """The names by which the steps read what the block is given; one input, unless the block says otherwise."""
        return (INPUT,)

    def steps(self) -> tuple[Step, ...]:
        """The steps in the order in which they run."""
        raise NotImplementedError

    def _check_steps(self) -> None:
        names = [step.name for step in self.steps()]
        for name in names:
            if not PART_NAME.fullmatch(name) or name in self.sources:
                raise UsageError(f"part name {name!r} should be letters, digits and underscores, and not {' or '.join(self.sources)}")
        if len(set(names)) < len(names):
            ((twice, _),) = Counter(names).most_common(1)
            raise UsageError(f"part name {twice!r} stands twice in one block")
        for name, part, read in self.steps():
            if isinstance(part, Block) and len(part.sources) != len(read):
                raise UsageError(f"part {name!r} has {len(part.sources)} inputs and is given {len(read)}")


@dataclass(frozen=True)
class Chain(Block):
    """Parts in series."""

    parts: tuple[tuple[str, Part], ...] = ()

    def __post_init__(self) -> None:
        self._check_steps()

    def steps(self) -> tuple[Step, ...]:
        before = (INPUT, *(name for name, _ in self.parts))
        return tuple(Step(name, part, (before[i],)) for i, (name, part) in enumerate(self.parts))


def chain(**parts: Part) -> Chain:
    """`chain(conv1=Conv(96, kernel=11), relu1=Activation())`: a Chain whose names are the keywords, in order."""
    return Chain(tuple(parts.items()))


@dataclass(frozen=True)
class Residual(Block):
    """y = then(body(x) + shortcut(x)); without a `shortcut` x itself is added (He et al. 2015, equations 1 and 2).

    The body's parts belong to the block directly: `block1.conv1`, not `block1.body.conv1`.
    """

    body: Chain
    _: KW_ONLY
    shortcut: Part | None = None
    then: Activation | None = Activation("relu")

    def __post_init__(self) -> None:
        self._check_steps()

    def steps(self) -> tuple[Step, ...]:
        steps = list(self.body.steps())
        end = steps[-1].name if steps else INPUT
        if self.shortcut is not None:
            steps.append(Step("shortcut", self.shortcut, (INPUT,)))
        steps.append(Step("add", Add(), (end, INPUT if self.shortcut is None else "shortcut")))
        if self.then is not None:
            steps.append(Step("out", self.then, ("add",)))
        return tuple(steps)


@dataclass(frozen=True)
class Concat(Block):
    """Branches that read the same input, their outputs concatenated along the channels (Inception)."""

    branches: tuple[tuple[str, Part], ...]

    def __post_init__(self) -> None:
        self._check_steps()
        if not self.branches:
            raise UsageError("a concat block needs at least one branch")

    def steps(self) -> tuple[Step, ...]:
        names = tuple(name for name, _ in self.branches)
        return (*(Step(name, part, (INPUT,)) for name, part in self.branches), Step("concat", Concatenate(), names))


@dataclass(frozen=True)
class Dense(Block):
    """Each layer reads the concatenation of the block's input and all layers before it (Huang et al. 2016, equation 2)."""

    layers: tuple[tuple[str, Part], ...]

    def __post_init__(self) -> None:
        self._check_steps()

    def steps(self) -> tuple[Step, ...]:
        steps: list[Step] = []
        features = INPUT
        for number, (name, part) in enumerate(self.layers, start=1):
            steps.append(Step(name, part, (features,)))
            steps.append(Step(f"concat{number}", Concatenate(), (features, name)))
            features = f"concat{number}"
        return tuple(steps)


@dataclass(frozen=True)
class Graph(Block):
    """Any wiring without cycles: each node is (name, part, names of what it reads), in the order in which they run.

    What is read is an earlier node or one of `inputs`, the names of what the graph itself is given. A cell that reads
    the outputs of the two cells before it is a graph with two inputs; the net of such cells is a graph, too.
    """

    nodes: tuple[tuple[str, Part, tuple[str, ...]], ...]
    _: KW_ONLY
    inputs: tuple[str, ...] = (INPUT,)

    def __post_init__(self) -> None:
        if not self.inputs or len(set(self.inputs)) < len(self.inputs) or not all(PART_NAME.fullmatch(name) for name in self.inputs):
            raise UsageError(f"graph: inputs={self.inputs!r} should be names, each once")
        known = set(self.inputs)
        for name, part, read in self.nodes:
            if unknown := [source for source in read if source not in known]:
                raise UsageError(f"graph: {name} reads {unknown[0]!r}, which is no input and no earlier node")
            if not read or (isinstance(part, Layer) and len(read) > 1):
                raise UsageError(f"graph: {name} reads {len(read)} inputs and should read {'one' if isinstance(part, Layer) else 'some'}")
            known.add(name)
        self._check_steps()

    @property
    def sources(self) -> tuple[str, ...]:
        return self.inputs

    def steps(self) -> tuple[Step, ...]:
        return tuple(Step(name, part, read) for name, part, read in self.nodes)


Part = Layer | Merge | Block
