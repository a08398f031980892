"""What a kernel or a pooling made of a picture, and what the grey levels of the result mean; as text and as JSON."""

from __future__ import annotations

from typing import Any, NamedTuple

from cnncli.arch.byhand import CONVOLUTION, POOLING
from cnncli.arch.matrix import Matrix, flip, plain_matrix
from cnncli.arch.window import Window
from cnncli.reports.byhand import NETWORKS, folded, matrix_block, print_lines, side_by_side, size_lines, what_it_does


class Filtered(NamedTuple):
    """A picture that was filtered.

    image, output: paths. kernel, applied: as given, and as it slid over the picture; () for pooling. input_size, output_size:
    (height, width) or (height, width, channels). way, black, white, least, greatest, cut: how results became grey levels, as
    cnncli.data.filtering tells it.
    """

    operation: str
    image: str
    output: str
    kernel: Matrix
    applied: Matrix
    down: Window
    across: Window
    input_size: tuple[int, ...]
    output_size: tuple[int, ...]
    way: str
    black: float
    white: float
    least: float
    greatest: float
    cut: float

    @property
    def pooling(self) -> bool:
        return self.operation in POOLING.values()

    @property
    def channels(self) -> int:
        return self.input_size[2] if len(self.input_size) > 2 else 1


def filtered_json(filtered: Filtered) -> dict[str, Any]:
    """The documented JSON of `cnn convolve` on an image file."""
    window = filtered.down
    found: dict[str, Any] = {"operation": filtered.operation, "image": filtered.image}
    if filtered.pooling:
        found |= {"size": window.kernel, "stride": window.stride, "pad": window.padding, "ceil": window.ceil}
    else:
        flipped = plain_matrix(filtered.applied) if filtered.operation == CONVOLUTION else None
        found |= {"kernel": plain_matrix(filtered.kernel), "flipped": flipped}
        found |= {"stride": window.stride, "pad": window.padding, "dilation": window.dilation}
    return found | {
        "output": filtered.output,
        "input_size": [*filtered.input_size[:2], filtered.channels],
        "output_size": [*filtered.output_size[:2], filtered.channels],
        "least": filtered.least,
        "greatest": filtered.greatest,
        "shown": filtered.way,
        "black": filtered.black,
        "white": filtered.white,
        "cut": filtered.cut,
    }


def print_filtered(filtered: Filtered) -> None:
    """What was done, with which kernel, to which size, and how the results are shown."""
    height, width = filtered.input_size[:2]
    lines = folded(f"{filtered.image}: {height}x{width} pixels (height x width), {_channels(filtered)}")
    lines += folded(what_it_does(filtered.operation, filtered.down))
    if not filtered.pooling:
        blocks = [matrix_block("kernel", filtered.kernel)]
        blocks += [matrix_block("flipped", filtered.applied)] if filtered.operation == CONVOLUTION else []
        lines += ["", *side_by_side(blocks)]
    most_padding = filtered.down.kernel // 2 if filtered.pooling else max(filtered.down.span, filtered.across.span)
    lines += ["", *size_lines(filtered.down, filtered.across, height, width, most_padding=most_padding)]
    lines += folded(how_it_is_shown(filtered))
    if filtered.down.padding and not filtered.pooling:
        lines += folded("The padding is black: results along the border show its edge.")
    if not filtered.pooling:
        lines += ["", *folded(_flip_note(filtered))]
    print_lines(lines)


def _channels(filtered: Filtered) -> str:
    if filtered.channels == 1:
        return "grey"
    own = f"{filtered.channels} channels, each on its own"
    return own if filtered.pooling else own + " (a network's convolution has a kernel for each and adds them up)"


def how_it_is_shown(filtered: Filtered) -> str:
    """What a grey level of the picture stands for."""
    told = f"results from {filtered.least:.6g} to {filtered.greatest:.6g}"
    cut = f"{filtered.cut:.2%} of them lie beyond" if filtered.cut else "none lies beyond"
    if filtered.way == "signed":
        return (
            f"{told}, shown around mid-grey: {filtered.black:.6g} is black (1), 0 is grey (128), {filtered.white:.6g} is white (255); {cut}"
        )
    if filtered.way == "stretch":
        return f"{told}, stretched: {filtered.black:.6g} is black (0), {filtered.white:.6g} is white (255)"
    if filtered.way == "clip":
        return f"{told}, cut off at 0 and 255: {cut} (--show stretch keeps them apart)"
    return f"{told}, shown as they are, rounded to grey levels 0 to 255"


def _flip_note(filtered: Filtered) -> str:
    if filtered.kernel == flip(filtered.kernel):
        return "This kernel equals its flip, so convolution and cross-correlation are the same here."
    opposite = all(
        a == -b for row, other in zip(filtered.kernel, flip(filtered.kernel), strict=True) for a, b in zip(row, other, strict=True)
    )
    change = "Turning the flip on or off changes the sign of every result of this kernel." if opposite else ""
    if filtered.operation == CONVOLUTION:
        return f"Networks compute the cross-correlation (--correlate) and {NETWORKS} {change}".rstrip()
    return f"Networks compute this and {NETWORKS} {change}".rstrip()
