"""The text of a notation, read into its labels: brackets matched, repeats written out, and every error at its character."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from cnncli.arch.notation.labels import DASHES, WORDS, Label, match_label
from cnncli.errors import UsageError, near_miss, printable

MOST_LAYERS = 10_000  # after repetition; resnet1202 has 4,200 rows
LONGEST_TEXT = 200_000  # characters
DEEPEST = 12  # brackets in brackets; a stored net may be 32 blocks deep, and a block here makes two
SHOWN_BEFORE, SHOWN, SHOWN_AFTER = 24, 40, 16  # characters of the text in an error message

_SPACE = re.compile(r"\s*")
_JOINER = re.compile(f"->|=>|\u2192|,|[{DASHES}]")
_REPEAT = re.compile(r"\s*\*\s*([0-9]+)(?![\w.])", re.ASCII)
_WRONG_WORD = re.compile(r"[^\W\d]\w*")
_PAIRS = {"(": ")", "[": "]", "{": "}"}
KNOWN = [word.lower() for word in WORDS] + ["pool"]  # what a misspelt word may have meant
EXAMPLES = "such as CONV, POOL, FC-10 or SOFTMAX"
HINTS_BEHIND = {
    "*": "write a number behind the *, such as *2",
    "?": "POOL? leaves open whether there is a pooling: write POOL or leave it out",
    "+": "a + stands only behind braces: {conv3-64 relu conv3-64}+",
    "/": "an option is /s2, /p1, /d2, /g2, /to7, /nobias or /ceil",
}


class Group(NamedTuple):
    """Items in brackets, how often they stand there, and how many layers that makes."""

    items: tuple[Item, ...]
    times: int
    size: int


@dataclass(frozen=True, eq=False)  # compared and hashed by identity: it stands for a place in the text
class Braces:
    """Branches that read one input: concatenated, or added where a + stands behind them. `place` is the text's brace."""

    branches: tuple[tuple[Label | Braces, ...], ...]
    added: bool
    place: Label
    size: int


Item = Label | Group | Braces


def read_labels(text: str) -> list[Label | Braces]:
    """The labels and blocks of a notation in the order in which they run.

    UsageError, in one line that points at the character, for a text that is too long or that GRAMMAR does not allow.
    """
    if len(text) > LONGEST_TEXT:
        raise UsageError(f"notation: {len(text):,} characters are more than {LONGEST_TEXT:,}", "write repeated parts as (...)*N")
    return list(expand(_Parser(text).net()))


def expand(items: Iterable[Item]) -> Iterator[Label | Braces]:
    """The labels and blocks in the order in which they run, every repetition written out."""
    for item in items:
        if isinstance(item, Group):
            once = list(expand(item.items))
            for _ in range(item.times):
                yield from once
        else:
            yield item


def point_at(text: str, start: int, end: int) -> str:
    """The place in its surroundings, in one line that is safe to print: `[(CONV->>>*<<<RELU)*2-PO...`."""
    before, place, after = text[max(0, start - SHOWN_BEFORE) : start], text[start : min(end, start + SHOWN)], text[end:]
    left = "..." if start > SHOWN_BEFORE else ""
    if len(after) > SHOWN_AFTER:
        after = after[: SHOWN_AFTER - 3] + "..."
    return printable(f"{left}{before}>>>{place}<<<{after}")


class _Parser:
    """Recursive descent, one method for each rule of GRAMMAR. `at` is the character that is read next.

    Layers are counted, repetition included, before anything is repeated.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.opened: list[int] = []  # where the brackets stand that are open here

    def net(self) -> tuple[Item, ...]:
        items, _, _ = self.items("", 0)
        return items

    def items(self, closers: str, size: int) -> tuple[tuple[Item, ...], str, int]:
        """Items up to one of `closers` ("" is the end), the closer, and how many layers there are now if there were `size`."""
        items: list[Item] = []
        after_joiner = False
        while True:
            self.skip(_SPACE)
            start, here = self.at, self.text[self.at : self.at + 1]
            if not here and self.opened:
                place, opened = self.opened[-1], self.innermost
                raise self.error(f"a {opened} that is never closed", place, place + 1, hint=f"add a {_PAIRS[opened]}")
            ends = here in closers if here else not closers
            if ends and not after_joiner and (items or self.innermost == "{"):
                self.at += len(here)
                return tuple(items), here, size
            items.append(self.item())
            size += _size(items[-1])
            if size > MOST_LAYERS:
                raise self.error(f"more than {MOST_LAYERS:,} layers", start, self.at)
            self.skip(_SPACE)
            after_joiner = self.skip(_JOINER)

    def item(self) -> Item:
        here = self.text[self.at : self.at + 1]
        item: Item = self.group() if here in ("(", "[") else self.braces() if here == "{" else self.label()
        if repeat := _REPEAT.match(self.text, self.at):
            digits = repeat[1].lstrip("0")
            if not 0 < len(digits) <= len(str(MOST_LAYERS)):
                raise self.error(f"the number of repetitions should be from 1 to {MOST_LAYERS:,}", repeat.start(1), repeat.end())
            self.at = repeat.end()
            item = Group((item,), int(digits), int(digits) * _size(item))
        self.check_behind()
        return item

    def group(self) -> Group:
        self.open()
        items, _, size = self.items(_PAIRS[self.innermost], 0)
        self.opened.pop()
        return Group(items, 1, size)

    def braces(self) -> Braces:
        start = self.at
        self.open()
        branches: list[tuple[Label | Braces, ...]] = []
        closer, size = "|", 1
        while closer == "|":
            items, closer, size = self.items("|}", size)
            branches.append(tuple(expand(items)))
        self.opened.pop()
        added = self.text.startswith("+", self.at)
        self.at += added
        if not any(branches):
            raise self.error("there is no layer between these braces", start, self.at)
        if added and len(branches) > 2:
            raise self.error("only two branches can be added", start, self.at, hint="put braces into braces, or leave the + out")
        return Braces(tuple(branches), added, Label("block", "", "", "", self.text[start : self.at], start), size)

    @property
    def innermost(self) -> str:
        """The bracket that was opened last, or the empty string."""
        return self.text[self.opened[-1]] if self.opened else ""

    def open(self) -> None:
        """Step over an opening bracket."""
        if len(self.opened) >= DEEPEST:
            raise self.error(f"brackets are nested more than {DEEPEST} deep", self.at, self.at + 1)
        self.opened.append(self.at)
        self.at += 1

    def label(self) -> Label:
        label = match_label(self.text, self.at)
        if label is None:
            raise self.no_layer()
        self.at += len(label.text)
        return label

    def check_behind(self) -> None:
        """Behind an item stands a joiner, a bracket or the end; `POOL?`, `CONV*N` and `conv3-64b` get their own words."""
        here = self.text[self.at : self.at + 1]
        if not here or here.isspace() or here in "()[]{}|" or _JOINER.match(self.text, self.at):
            return
        hint = HINTS_BEHIND.get(here, "put a space or a - between layers")
        raise self.error(f'unexpected "{printable(here)}"', self.at, self.at + 1, hint=hint)

    def no_layer(self) -> UsageError:
        """What stands where a layer should: nothing, a stray character, or an unknown word."""
        here = self.text[self.at : self.at + 1]
        if not here:
            return self.error("expected a layer", self.at, found="the end", hint=EXAMPLES)
        word = _WRONG_WORD.match(self.text, self.at)
        if word is None:
            return self.error("expected a layer", self.at, self.at + 1, found=f'"{printable(here)}"', hint=self.hint_for(here))
        shown = word[0][:SHOWN]
        letters = shown.rstrip("0123456789")
        hint = near_miss(shown, KNOWN) or near_miss(letters, KNOWN) or EXAMPLES
        return self.error(f'unknown layer "{printable(shown)}"', self.at, word.end(), hint=hint)

    def hint_for(self, here: str) -> str:
        """What to do about a character that stands where a layer should."""
        if here.isdigit():
            return "a number belongs directly behind its word, as in conv3-64 or FC-10"
        if here in _PAIRS.values():
            wanted = _PAIRS.get(self.innermost, "")
            return (
                "there is no layer before it" if here == wanted else f"a {wanted} is wanted" if wanted else "nothing is open that it closes"
            )
        return EXAMPLES

    def skip(self, pattern: re.Pattern[str]) -> bool:
        """Step over what matches here; whether something did."""
        found = pattern.match(self.text, self.at)
        if found is None:
            return False
        self.at = found.end()
        return True

    def error(self, what: str, start: int, end: int | None = None, *, found: str = "", hint: str = "") -> UsageError:
        found = f", found {found}" if found else ""
        end = start if end is None else end
        return UsageError(f"notation: {what} at character {start + 1}{found}: {point_at(self.text, start, end)}", hint)


def _size(item: Item) -> int:
    """Layers, every repetition counted."""
    return 1 if isinstance(item, Label) else item.size
