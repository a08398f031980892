"""The lecture's notation, `[(CONV-RELU)*2-POOL]*3-(FC-RELU)*1-SOFTMAX`, and VGG's labels, read into a Net.

tree.py reads the text into labels, labels.py says what one label means, net.py makes the net;
text.py is the way back.
"""

from __future__ import annotations

import re

from cnncli.arch.net import Net
from cnncli.arch.notation.labels import Label, match_label
from cnncli.arch.notation.net import DEFAULT_INPUT, make_net
from cnncli.arch.notation.text import write
from cnncli.arch.notation.tree import read_labels
from cnncli.errors import printable

__all__ = ["GRAMMAR", "looks_like_notation", "parse", "write"]

GRAMMAR = """\
A net in the lecture's notation, in quotes; upper and lower case are the same:
  "[(CONV-RELU)*2-POOL]*3-(FC-RELU)*1-SOFTMAX"
  "conv3-64 relu maxpool conv5-16/s2/p2 BN relu FC-100 relu FC-10 softmax"
  "conv3-16 relu ({conv3-16 BN relu conv3-16 BN}+ relu)*3 globalpool softmax"
net    = item item ...   joined by - or , or -> or a space; INPUT may begin it
item   = layer or (net) or [net] or block; with *N behind it: N times
block  = {net | net ...}   the same input through each; outputs concatenated
         {net}+  {net | net}+   outputs added; alone, or with an empty net, to
         the block's input; an activation behind it belongs to the block
layer  = CONV conv3 conv3-64 conv1x7-64   kernel (height x width), filters
         POOL maxpool3 avgpool avgpool/to7 (7x7 whatever the input)
         globalpool globalmaxpool FC FC-4096 BN LRN LRN5 dropout dropout0.3
         relu leaky-relu relu6 elu gelu silu tanh sigmoid flatten
         subsample-32/s2 (every 2nd pixel, channels filled up with zeros)
option = /s2 or /2 stride  /s2x1  /p1 padding  /d2 dilation  /g2 groups
         /nobias  /ceil (a pooling's size is rounded up)  BN/eps0.001
A number directly behind conv3- or FC- belongs to it; elsewhere a - joins.
Where nothing is said: kernel 3; stride 1; padding (F-1)/2, rounded down, at
stride 1, which keeps the size, and 0 at a larger stride; filters as before,
twice as many (up to 512) behind a POOL, 64 at first. POOL: max, 2x2; a pool's
stride is its kernel. FC: 512. FLATTEN goes without saying before an FC.
SOFTMAX or an FC at the end gives the classes. SOFTMAX makes the FC directly
before it the classifier, and stands for one where there is none; the softmax
itself is in the loss. A net that ends otherwise has no classifier."""

LONGEST_NAME = 60  # of a net without a name of its own
LOOKED_AT = 4000  # characters that decide whether a text is meant as notation


def parse(text: str, *, input: tuple[int, int, int] | None = DEFAULT_INPUT, classes: int | None = None, name: str | None = None) -> Net:
    """The net that a notation describes; see GRAMMAR.

    input: (channels, height, width), which the net is checked against; None: DEFAULT_INPUT, checked only where the number
    of outputs depends on it. classes: outputs of a bare classifier, 10 if not given; a classifier of another width is
    refused. name: the net's, if not the text. UsageError, pointing at the character, for what cannot be read; ShapeError,
    naming the layer and the smallest input that fits, for what does not fit.
    """
    return make_net(read_labels(text), input=input, classes=classes, name=short_name(text) if name is None else name)


def short_name(text: str) -> str:
    """The text as a name: one line of at most 60 characters that is safe to print."""
    line = printable(" ".join(text[:1000].split()))
    return line if len(line) <= 60 else line[:57] + "..."


_STRUCTURE = re.compile(r"[)\]}]\s*[*+]|[(\[{]\s*[(\[{]|->|\u2192")
_WORD_START = re.compile(r"(?<![\w./\\])[A-Za-z]")
_PATH = re.compile(r"[./~\\]|.*?(://|\.(py|safetensors|pth?|onnx)(:|$))", re.IGNORECASE | re.DOTALL)


def looks_like_notation(text: str) -> bool:
    """Whether a text is meant as notation, damaged or not, rather than as a net's name or a path.

    True for brackets that are repeated, for a text that begins with a layer or holds two, and for one layer among other words.
    """
    text = text[:LOOKED_AT].strip()
    if _PATH.match(text):
        return False
    if _STRUCTURE.search(text):
        return True
    found = [label for start in _WORD_START.finditer(text) if (label := match_label(text, start.start()))]
    whole = [label for label in found if not _goes_on(text, label.start + len(label.text))]
    several_words = any(c.isspace() or c in ",()[]{}*|" for c in text)
    if "/" in _without(text, whole) and not several_words:
        return False
    return len(whole) > 1 or (len(whole) == 1 and (several_words or not text[: whole[0].start].strip("([{")))


def _goes_on(text: str, end: int) -> bool:
    here = text[end : end + 1]
    return (here.isascii() and here.isalnum()) or here in ("_", ".", "/", "\\")


def _without(text: str, labels: list[Label]) -> str:
    for label in reversed(labels):
        text = text[: label.start] + text[label.start + len(label.text) :]
    return text
