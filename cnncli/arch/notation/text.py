"""A Net written in the lecture's notation: the reverse of `notation.parse`, as far as the notation has words for it."""

from __future__ import annotations

from collections.abc import Iterator

from cnncli.arch.blocks import Block, Chain, Concat, Concatenate, Dense, Graph, Merge, Part, Residual
from cnncli.arch.layers import Flatten, Layer, Linear
from cnncli.arch.net import Net
from cnncli.arch.notation.labels import write_label
from cnncli.errors import UsageError

LONGEST_PERIOD = 200  # labels that are repeated; longer ones than a stage of any net are not looked for
FIRST_IN_GROUP = ("conv", "{", "FC")  # what a reader expects at the beginning of something repeated


def write(net: Net) -> str:
    """The notation of a net, repeated parts folded: `(conv3-64 relu)*2 maxpool flatten FC-10 softmax`.

    Reading it back with the net's input and classes gives the same layers in the same order; only their names are lost.
    UsageError, naming the part, for what the notation cannot say: cells, and settings that have no word.
    """
    layers = list(_flat(net.root, ""))
    texts = _texts(layers)
    if layers and isinstance(layers[-1][1], Linear):
        texts.append("softmax")  # in the loss: the net itself ends in scores
    return _fold(texts)


def _flat(part: Part, path: str) -> Iterator[tuple[str, Part]]:
    """Path and part, chains in chains undone. A layer of a dense block is a branch beside everything before it."""
    if isinstance(part, Chain):
        for step in part.steps():
            yield from _flat(step.part, _join(path, step.name))
    elif isinstance(part, Graph) and (chain := _series_parallel(part)):
        yield from _flat(chain, path)
    elif isinstance(part, Dense):
        for name, layer in part.layers:
            yield _join(path, name), Concat((("before", Chain()), (name, layer)))
    else:
        yield path, part


def _series_parallel(graph: Graph) -> Chain | None:
    """A graph as series, sums and branches, such as an inception module; None where its wiring is another, as in cells."""
    parts = {name: (part, reads) for name, part, reads in graph.nodes}
    # What every path from the input to a node passes through, in order: its dominators.
    passed: dict[str, tuple[str, ...]] = {graph.inputs[0]: (graph.inputs[0],)}
    for name, part, reads in graph.nodes:
        if not all(read in passed for read in reads) or (isinstance(part, Block) and len(reads) > 1):
            return None
        passed[name] = (*(before for before in passed[reads[0]] if all(before in passed[read] for read in reads)), name)
    visited: list[str] = []

    def between(start: str, end: str) -> Chain:
        chain: list[tuple[str, Part]] = []
        while end != start and len(visited) <= len(parts):  # more: a node was visited twice, and might be without end
            visited.append(end)
            part, reads = parts[end]
            fork = passed[end][-2]
            chain.append((end, _merged(part, [between(fork, read) for read in reads]) if isinstance(part, Merge) else part))
            end = fork
        return Chain(tuple(reversed(chain)))

    end = graph.nodes[-1][0] if graph.nodes else graph.inputs[0]
    whole = between(graph.inputs[0], end)
    return whole if sorted(visited) == sorted(parts) else None


def _merged(merge: Merge, branches: list[Chain]) -> Part:
    """The block that merges these branches; the merge alone where there is none."""
    if isinstance(merge, Concatenate):
        return Concat(tuple((f"branch{number}", branch) for number, branch in enumerate(branches, start=1)))
    if len(branches) != 2:
        return merge
    body, shortcut = branches
    return Residual(body, shortcut=shortcut if shortcut.parts else None, then=None)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _texts(layers: list[tuple[str, Part]], *, image: bool = True) -> list[str]:
    """The texts of layers in series. image: what flows in is one, so that a Flatten before the first FC goes without saying."""
    texts: list[str] = []
    for position, (path, part) in enumerate(layers):
        following = layers[position + 1][1] if position + 1 < len(layers) else None
        if not (image and isinstance(part, Flatten) and isinstance(following, Linear)):
            texts += _part_texts(part, path, image=image)
        if isinstance(part, Flatten | Linear):
            image = False
    return texts


def _part_texts(part: Part, path: str, *, image: bool) -> list[str]:
    """The text of one part; two for a residual block and the activation behind it."""
    if isinstance(part, Residual):
        body = _branch(part.body, path, image=image)
        shortcut = "" if part.shortcut is None else " | " + _branch(part.shortcut, f"{path}.shortcut", image=image)
        if not (body or shortcut.strip("| ")):
            raise UsageError(f"{path}: a residual block without layers cannot be written in the notation")
        return [f"{{{body}{shortcut}}}+", *([] if part.then is None else [write_label(part.then)])]
    if isinstance(part, Concat):
        branches = [_branch(branch, _join(path, name), image=image) for name, branch in part.branches]
        if not any(branches):
            raise UsageError(f"{path}: a concatenation without layers cannot be written in the notation")
        return [f"{{{' | '.join(branches)}}}"]
    if not isinstance(part, Layer):
        kind = type(part).__name__.lower()
        where = path or "the net"
        raise UsageError(f"{where}: this {kind} cannot be written in the notation", "it has series, repetition, sums and branches")
    try:
        return [write_label(part)]
    except UsageError as error:
        raise UsageError(f"{path}: {error.message}", error.hint) from None


def _branch(part: Part, path: str, *, image: bool) -> str:
    return _fold(_texts(list(_flat(part, path)), image=image))


def _fold(texts: list[str]) -> str:
    """The texts with neighbouring repetitions written once: at each place the one that saves most."""
    words: list[str] = []
    position = 0
    while position < len(texts):
        period, times = _best_repeat(texts, position)
        if (
            times > 1
            and not texts[position].startswith(FIRST_IN_GROUP)
            and _saved(_best_repeat(texts, position + 1)) >= _saved((period, times))
        ):
            period, times = 1, 1  # `relu (conv3-64 relu)*2` and not `(relu conv3-64)*2 relu`
        words.append(f"({_fold(texts[position : position + period])})*{times}" if times > 1 else texts[position])
        position += period * times
    return " ".join(words)


def _saved(repeat: tuple[int, int]) -> int:
    period, times = repeat
    return period * (times - 1)


def _best_repeat(texts: list[str], start: int) -> tuple[int, int]:
    """How many texts from `start` on are repeated, and how often they stand there; (1, 1) when nothing is."""
    best = (1, 1)
    for period in range(1, min(LONGEST_PERIOD, (len(texts) - start) // 2) + 1):
        if texts[start] != texts[start + period]:
            continue
        times = 1
        once = texts[start : start + period]
        while texts[start + times * period : start + (times + 1) * period] == once:
            times += 1
        if _saved((period, times)) > _saved(best):
            best = (period, times)
    return best
