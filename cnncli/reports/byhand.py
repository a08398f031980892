"""A convolution or a pooling worked by hand: matrices side by side, one line per output entry, the size's arithmetic; or JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from cnncli.arch.byhand import CONVOLUTION, CORRELATION, POOLING, Step, Worked, correlate
from cnncli.arch.fit import size_arithmetic
from cnncli.arch.matrix import Matrix, Number, flip, number_text, plain, plain_matrix, size
from cnncli.arch.window import Window
from cnncli.errors import printable
from cnncli.reports.terminal import print_result, width

if TYPE_CHECKING:
    from cnncli.arch.kernels import Kernel

MOST_STEPS = 40  # entries of the output up to which each gets its line
FIRST_STEPS = 10  # how many get one in a larger output
MOST_LINES = 32  # of a matrix: an MNIST digit, 28x28, is shown whole
GAP = 4  # columns between two matrices
PADDING = "."

PRODUCTS_SHOWN = 81  # of one entry: a 9x9 kernel

NETWORKS = "call it convolution: their kernels are learned, and without the flip they learn the flipped kernel."


class Block(NamedTuple):
    """A titled piece of text whose lines have one width; blocks stand side by side."""

    title: str
    lines: tuple[str, ...]

    @property
    def width(self) -> int:
        return max(map(len, (self.title, *self.lines)))


def print_worked(worked: Worked, *, all_steps: bool) -> None:
    """The whole of it on standard output; `all_steps` gives every entry of a large output its line."""
    shown = worked.steps if all_steps or len(worked.steps) <= MOST_STEPS else worked.steps[:FIRST_STEPS]
    lines = [*folded(what_it_does(worked.operation, worked.down)), "", *side_by_side(_blocks(worked)), "", *folded(_rule(worked))]
    for step in shown:
        lines += _step_lines(step, worked.operation)
    if len(shown) < len(worked.steps):
        lines.append(f"... {len(worked.steps) - len(shown):,} more entries; --all shows them, --json has them as data")
    lines += ["", *size_lines(worked.down, worked.across, *size(worked.image), most_padding=_most_padding(worked))]
    if not worked.operation.endswith("pooling"):
        lines += ["", *folded(_why(worked))]
    print_lines(lines)


def worked_json(worked: Worked) -> dict[str, Any]:
    """The documented JSON of `cnn convolve` on matrices. Fractions such as 1/3 are the nearest numbers."""
    found: dict[str, Any] = {"operation": worked.operation, "image": plain_matrix(worked.image)}
    pooling = worked.operation in POOLING.values()
    if pooling:
        found |= {"size": worked.down.kernel, "stride": worked.down.stride, "pad": worked.down.padding, "ceil": worked.down.ceil}
    else:
        found |= {
            "kernel": plain_matrix(worked.kernel),
            "flipped": plain_matrix(worked.applied) if worked.operation == CONVOLUTION else None,
        }
        found |= {"stride": worked.down.stride, "pad": worked.down.padding, "dilation": worked.down.dilation}
    found["output"] = plain_matrix(worked.output)
    found["steps"] = [_step_json(step, pooling=pooling) for step in worked.steps]
    return found


def _step_json(step: Step, *, pooling: bool) -> dict[str, Any]:
    where = {"row": step.row, "column": step.column}
    if pooling:
        return where | {"values": [plain(value) for value in step.values], "result": plain(step.result)}
    terms = [[plain(value), plain(weight)] for value, weight in zip(step.values, step.weights, strict=True)]
    return where | {"terms": terms, "sum": plain(step.result)}


def what_it_does(operation: str, window: Window) -> str:
    """One sentence: the operation and its settings."""
    if operation == CONVOLUTION:
        text = "convolution: the kernel is flipped upside down and left to right, then it slides over the image"
    elif operation == CORRELATION:
        text = "cross-correlation: the kernel slides over the image as it is, not flipped"
    else:
        text = f"{operation}: windows of {window.kernel}x{window.kernel}"
    settings = [f"stride {window.stride}"] if window.stride > 1 or operation.endswith("pooling") else []
    settings += [f"pad {window.padding}"] if window.padding else []
    settings += [f"dilation {window.dilation}"] if window.dilation > 1 else []
    settings += ["sizes rounded up"] if window.ceil else []
    return ", ".join([text, *settings])


def _rule(worked: Worked) -> str:
    of = "each entry of the output, (row, column) counted from 0, is"
    if worked.operation == CONVOLUTION:
        return f"{of} the sum of image numbers times the flipped kernel's"
    if worked.operation == CORRELATION:
        return f"{of} the sum of image numbers times the kernel's"
    if worked.operation == POOLING["max"]:
        return f"{of} the greatest number in its window" + (", the padding left out" if worked.down.padding else "")
    return f"{of} the mean of its window" + (", the padding counted as zeros" if worked.down.padding else "")


def _why(worked: Worked) -> str:
    """What the flip changes here, and why networks do without."""
    if worked.applied == flip(worked.applied):
        return "This kernel equals its flip, so convolution and cross-correlation are the same here."
    stride, padding, dilation = worked.down.stride, worked.down.padding, worked.down.dilation
    other = correlate(worked.image, flip(worked.applied), stride=stride, padding=padding, dilation=dilation).output
    whole = "; ".join(" ".join(map(number_text, row)) for row in other)
    if worked.operation == CONVOLUTION:
        told, change = f"Networks compute the cross-correlation (--correlate) and {NETWORKS}", "Without the flip"
    else:
        told, change = f"Networks compute this and {NETWORKS}", "With the kernel flipped (without --correlate)"
    return f"{told} {change} the output here would be {whole}." if len(whole) <= width() else told


def _blocks(worked: Worked) -> list[Block]:
    padding = worked.down.padding
    title = f"image ({PADDING} is padding)" if padding else "image"
    blocks = [matrix_block(title, worked.image, padding)]
    if worked.kernel:
        blocks.append(matrix_block("kernel", worked.kernel))
    if worked.operation == CONVOLUTION:
        blocks.append(matrix_block("flipped", worked.applied))
    return [*blocks, matrix_block("output", worked.output)]


def matrix_block(title: str, matrix: Matrix, padding: int = 0) -> Block:
    """A matrix with aligned columns. What is longer or wider than the screen ends in dots."""
    cells = [[number_text(number) for number in row] for row in matrix]
    margin = [PADDING] * padding
    around = [[PADDING] * (len(cells[0]) + 2 * padding)] * padding
    cells = [*around, *([*margin, *row, *margin] for row in cells), *around]
    lines = [row[: width() // 2] for row in cells[:MOST_LINES]]  # a column takes two characters at least
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    fitting = _fitting(widths)
    more = " ..." if fitting < len(cells[0]) else ""
    text = ["  ".join(cell.rjust(w) for cell, w in zip(row[:fitting], widths[:fitting], strict=True)) + more for row in lines]
    if len(cells) > MOST_LINES:
        text.append("...")
    cut = len(cells) > MOST_LINES or more
    return Block(f"{title}, {len(matrix)}x{len(matrix[0])}" if cut else title, tuple(text))


def _fitting(widths: Sequence[int]) -> int:
    """How many columns of these widths fit on a line, with dots behind them where not all do; at least one."""
    if sum(widths) + 2 * (len(widths) - 1) <= width():
        return len(widths)
    used = -2
    for count, w in enumerate(widths):
        used += w + 2
        if used + len(" ...") > width():
            return max(1, count)
    return len(widths)


def side_by_side(blocks: Sequence[Block]) -> list[str]:
    """Blocks next to each other, as many as fit; the others below them."""
    lines: list[str] = []
    row: list[Block] = []
    for block in blocks:
        if row and sum(b.width + GAP for b in row) + block.width > width():
            lines += [*_joined(row), ""]
            row = []
        row.append(block)
    return lines + _joined(row)


def _joined(row: Sequence[Block]) -> list[str]:
    height = max(len(block.lines) for block in row)
    columns = [[block.title, *block.lines, *[""] * (height - len(block.lines))] for block in row]
    return [
        (" " * GAP).join(cell.ljust(block.width) for cell, block in zip(cells, row, strict=True)).rstrip()
        for cells in zip(*columns, strict=True)
    ]


def _step_lines(step: Step, operation: str) -> list[str]:
    """`(0, 0)  0*1 + 80*0.5 + 20*0.25 + 40*0 = 45`, folded below its first product."""
    start = f"({step.row}, {step.column})  "
    values = [number_text(value) for value in step.values[:PRODUCTS_SHOWN]]
    more = [f"({len(step.values) - PRODUCTS_SHOWN:,} more)"] if len(step.values) > PRODUCTS_SHOWN else []
    if operation == POOLING["max"]:
        text = f"max({', '.join(values + more)})"
    elif operation == POOLING["average"]:
        text = f"({_sum(_bracketed(step.values[:PRODUCTS_SHOWN]) + more)})/{len(step.values)}"
    else:
        pairs = zip(_bracketed(step.values[:PRODUCTS_SHOWN]), step.weights, strict=False)
        text = _sum([f"{value}*{_in_brackets(weight)}" for value, weight in pairs] + more)
    return folded(f"{start}{text}\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{_result(step.result)}", indent=len(start))


def _sum(terms: Iterable[str]) -> str:
    """Terms joined by plus signs that stay with what follows them when the line is folded."""
    return " +\N{NO-BREAK SPACE}".join(terms)


def _bracketed(values: Sequence[Number]) -> list[str]:
    """Numbers as terms of a sum: a minus sign within it stands in brackets."""
    return [number_text(value) if index == 0 else _in_brackets(value) for index, value in enumerate(values)]


def _in_brackets(number: Number) -> str:
    return f"({number_text(number)})" if number < 0 else number_text(number)


def _result(number: Number) -> str:
    """The number exactly, and about where it is a fraction."""
    text = number_text(number)
    return f"{text} (about {float(number):.6g})" if "/" in text else text


def _most_padding(worked: Worked) -> int:
    return worked.down.kernel // 2 if worked.operation.endswith("pooling") else max(worked.down.span, worked.across.span)


def size_lines(down: Window, across: Window, height: int, wide: int, *, most_padding: int) -> list[str]:
    """The arithmetic of the output's size with its numbers, and what does not fit; more than `most_padding` is no remedy."""
    formula = "output size: (N - F + 2P)/S + 1 = "
    if (down, height) == (across, wide):
        return folded(f"{formula}{size_arithmetic(height, down)} for height and width") + _misfit(
            down, height, "height and width", most_padding
        )
    lines = folded(f"{formula}{size_arithmetic(height, down)} for the height, {size_arithmetic(wide, across)} for the width")
    return lines + _misfit(down, height, "height", most_padding) + _misfit(across, wide, "width", most_padding)


def _misfit(window: Window, n: int, axis: str, most_padding: int) -> list[str]:
    if window.fits(n):
        return []
    fitting = [
        ("stride", window.nearest_strides(n)),
        ("pad", tuple(p for p in window.nearest_paddings(n) if p <= most_padding)),
        (f"{axis} of", window.nearest_inputs(n)),
    ]
    told = ", with ".join(f"{name} {' or '.join(map(str, values))}" for name, values in fitting if values)
    unseen, of = window.remainder(n), f"(of {n + 2 * window.padding}, the padding counted)" if window.padding else f"of {n}"
    rest = "the last window reaches past the end"
    if unseen:
        rest = f"the last pixel {of} is in no window" if unseen == 1 else f"the last {unseen} pixels {of} are in no window"
    return folded(f"The windows do not tile the {axis}, the lecture's \"doesn't fit\": {rest}. It would fit with {told}.")


def print_kernels(kernels: dict[str, Kernel]) -> None:
    """Every named kernel: what it shows, its matrix and its source."""
    lines: list[str] = []
    for name, kernel in kernels.items():
        block = matrix_block(name, kernel.matrix)
        lines += [*folded(f"{name}: {kernel.meaning}", 2), *(f"  {line}" for line in block.lines), *folded(f"  {kernel.source}", 2), ""]
    print_lines(lines[:-1])


def kernels_json(kernels: dict[str, Kernel]) -> dict[str, Any]:
    """The documented JSON of `cnn convolve --list-kernels`."""
    entries = [
        {"name": name, "kernel": plain_matrix(kernel.matrix), "meaning": kernel.meaning, "source": kernel.source}
        for name, kernel in kernels.items()
    ]
    return {"kernels": entries}


def folded(text: str, indent: int = 0) -> list[str]:
    """Lines no wider than the screen, where words allow; numbers are never cut. Further lines are indented."""
    lines = textwrap.wrap(text, width(), subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]


def print_lines(lines: Sequence[str]) -> None:
    """On a terminal, titles and results stand out; the text is the same without."""
    from rich.text import Text

    text = Text("\n".join(map(printable, lines)), overflow="fold")
    text.highlight_regex(r"(?m)= \S+( \(about \S+\))?$", "bold green")
    text.highlight_regex(r"(?m)^(image|kernel|flipped|output)\b(?! size).*$", "bold")
    print_result(text)
