"""Convolution and pooling by hand: the lecture's numbers, scipy, and torch on random small cases; matrices as people type them."""

from __future__ import annotations

import json
from fractions import Fraction
from itertools import product
from random import Random

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d, correlate2d
from torch.nn import functional as F

from cnncli.arch.byhand import CONVOLUTION, Worked, convolve, correlate, pool
from cnncli.arch.kernels import KERNELS
from cnncli.arch.matrix import MOST_NUMBERS, Matrix, flip, number_text, parse_matrix, plain_matrix
from cnncli.errors import CnnError, InputError, UsageError

LECTURE = parse_matrix("0 80 40; 20 40 0; 0 0 40", "image"), parse_matrix("0 .25; .5 1", "kernel")
RANDOM_CASES = 300


def random_matrix(random: Random, height: int, width: int) -> Matrix:
    return tuple(tuple(random.randint(-9, 9) for _ in range(width)) for _ in range(height))


def tensor(matrix: Matrix) -> torch.Tensor:
    return torch.tensor(plain_matrix(matrix), dtype=torch.float64)[None, None]


def rows(found: torch.Tensor) -> list[list[float]]:
    return found[0, 0].tolist()


# ---- the lecture ----


def test_the_lecture_s_convolution() -> None:
    worked = convolve(*LECTURE)
    assert worked.operation == CONVOLUTION
    assert worked.applied == ((1, Fraction(1, 2)), (Fraction(1, 4), 0))
    assert worked.output == ((45, 110), (40, 40))
    first = worked.steps[0]
    assert (first.row, first.column, first.result) == (0, 0, 45)
    assert first.values == (0, 80, 20, 40)
    assert first.weights == (1, Fraction(1, 2), Fraction(1, 4), 0)


def test_the_lecture_s_max_pooling() -> None:
    image = parse_matrix("[[1,1,2,4],[5,6,7,8],[3,2,1,0],[1,2,3,4]]", "image")
    assert pool(image, "max", kernel=2, stride=2).output == ((6, 8), (3, 4))
    assert pool(image, "average", kernel=2).output == ((Fraction(13, 4), Fraction(21, 4)), (2, 2))


# ---- against scipy and torch ----


def test_against_scipy() -> None:
    random = Random(1)
    for _ in range(RANDOM_CASES):
        image = random_matrix(random, random.randint(3, 7), random.randint(3, 7))
        kernel = random_matrix(random, random.randint(1, 3), random.randint(1, 3))
        padding = random.randint(0, 2)
        padded = np.pad(np.array(image), padding)
        assert plain_matrix(convolve(image, kernel, padding=padding).output) == convolve2d(padded, kernel, mode="valid").tolist()
        assert plain_matrix(correlate(image, kernel, padding=padding).output) == correlate2d(padded, kernel, mode="valid").tolist()


def test_correlation_against_torch() -> None:
    random, seen = Random(2), set()
    for _ in range(RANDOM_CASES):
        image = random_matrix(random, random.randint(1, 8), random.randint(1, 8))
        kernel = random_matrix(random, random.randint(1, 3), random.randint(1, 3))
        stride, padding, dilation = random.randint(1, 4), random.randint(0, 3), random.randint(1, 3)
        try:
            want = F.conv2d(tensor(image), tensor(kernel), stride=stride, padding=padding, dilation=dilation)
        except RuntimeError:  # the kernel is larger than the padded image
            with pytest.raises(UsageError, match="below 1"):
                correlate(image, kernel, stride=stride, padding=padding, dilation=dilation)
            seen.add("refused")
            continue
        seen.add((stride, dilation))
        assert plain_matrix(correlate(image, kernel, stride=stride, padding=padding, dilation=dilation).output) == rows(want)
        assert plain_matrix(convolve(image, flip(kernel), stride=stride, padding=padding, dilation=dilation).output) == rows(want)
    assert seen == {"refused", *product(range(1, 5), range(1, 4))}


def test_pooling_against_torch() -> None:
    random, seen = Random(3), set()
    for _ in range(2 * RANDOM_CASES):
        image = random_matrix(random, random.randint(1, 8), random.randint(1, 8))
        kernel, stride, ceil = random.randint(1, 4), random.choice((None, 1, 2, 3, 4)), random.random() < 0.5
        padding = random.randint(0, kernel // 2)
        options = {"stride": stride, "padding": padding, "ceil_mode": ceil}
        try:
            greatest, mean = F.max_pool2d(tensor(image), kernel, **options), F.avg_pool2d(tensor(image), kernel, **options)
        except RuntimeError:
            with pytest.raises(UsageError, match="below 1"):
                pool(image, "max", kernel=kernel, stride=stride, padding=padding, ceil=ceil)
            seen.add("refused")
            continue
        seen.add((ceil, padding > 0))
        found = [pool(image, kind, kernel=kernel, stride=stride, padding=padding, ceil=ceil).output for kind in ("max", "average")]
        assert plain_matrix(found[0]) == rows(greatest)
        assert np.allclose(plain_matrix(found[1]), rows(mean), rtol=1e-14, atol=1e-14)
    assert seen == {"refused", *product((False, True), (False, True))}


def test_the_maximum_of_negative_numbers_is_never_the_padding() -> None:
    image = parse_matrix("-1 -2; -3 -4", "image")
    assert pool(image, "max", kernel=2, stride=1, padding=1).output == ((-1, -1, -2), (-1, -1, -2), (-3, -3, -4))


def check_steps(worked: Worked) -> None:
    """Every step, added up anew, is its entry of the output; steps come row by row."""
    places = [(step.row, step.column) for step in worked.steps]
    assert places == list(product(range(len(worked.output)), range(len(worked.output[0]))))
    for step in worked.steps:
        assert worked.output[step.row][step.column] == step.result
        assert sum(v * w for v, w in zip(step.values, step.weights, strict=True)) == step.result


def test_steps_add_up() -> None:
    random = Random(4)
    for _ in range(50):
        image, kernel = random_matrix(random, 5, 6), random_matrix(random, 2, 3)
        for worked in (convolve(image, kernel, padding=1), correlate(image, kernel, stride=2)):
            check_steps(worked)
            assert {step.weights for step in worked.steps} == {tuple(n for row in worked.applied for n in row)}


def test_fractions_stay_exact() -> None:
    worked = convolve(parse_matrix("1 1 1; 1 1 1; 1 1 0", "image"), KERNELS["box3"].matrix)
    assert worked.output == ((Fraction(8, 9),),)
    assert convolve(parse_matrix("0.1 0.2", "image"), parse_matrix("1 1", "kernel")).output == ((Fraction(3, 10),),)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: convolve(((1, 2), (3, 4)), ((1,) * 3,) * 3), r"\(2 - 3 \+ 2\*0\)/1 \+ 1 = 0, below 1; --pad 1"),
        (lambda: convolve(((1, 2), (3, 4)), ((1, 2), (3, 4)), dilation=3), r"\(2 - \(3\*\(2 - 1\) \+ 1\) \+ 2\*0\)/1 \+ 1 = -1"),
        (lambda: pool(((1, 2), (3, 4)), "max", kernel=3), r"\(2 - 3 \+ 2\*0\)/3 \+ 1 = 0.67, below 1; --size 2 fits"),
        (lambda: pool(((1, 2), (3, 4)), "max", kernel=2, padding=2), "--pad 2 is more than half of --size 2; pooling pads by at most 1"),
        (lambda: pool(((1,),), "median", kernel=1), "median"),
        (lambda: convolve(((1,),), ((1,),), stride=0), "stride=0"),
        (lambda: convolve(((1,),), ((1,),), stride=-1), "stride=-1"),
        (lambda: convolve(((1,),), ((1,),), padding=-1), "pad=-1"),
        (lambda: convolve(((1,),), ((1,),), dilation=0), "dilation=0"),
        (lambda: convolve(((1,),), ((1,),), padding=5000), "products are too many"),
    ],
)
def test_what_cannot_be_worked(call, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        call()


def test_the_padding_that_is_named_makes_room() -> None:
    for side, span in product(range(1, 5), range(2, 9)):
        image, kernel = ((1,) * side,) * side, ((1,) * span,) * span
        if span > side:
            with pytest.raises(UsageError) as error:
                convolve(image, kernel)
            padding = int(error.value.hint.split()[1])
            assert convolve(image, kernel, padding=padding).output
            if padding > 1:
                with pytest.raises(UsageError):
                    convolve(image, kernel, padding=padding - 1)


# ---- matrices as text ----

ONE_TO_FOUR = ((1, 2), (3, 4))


@pytest.mark.parametrize(
    "text",
    [
        "1 2; 3 4",
        "1,2;3,4",
        "1 2\n3 4\n",
        " 1\t2 \r\n\r\n3 , 4",
        "1 2;\n3 4;",
        "[[1, 2], [3, 4]]",
        "[[1 2]\n [3 4]]",
        "[1 2; 3 4]",
        "1.0 2e0; 30e-1 +4",
        "1/1 4/2;3 4.",
        str(np.array(ONE_TO_FOUR)),
        repr(torch.tensor(ONE_TO_FOUR).tolist()),
        json.dumps(ONE_TO_FOUR, indent=2),
    ],
)
def test_ways_to_type_a_matrix(text: str) -> None:
    assert parse_matrix(text, "--image") == ONE_TO_FOUR


def test_one_row_one_column_one_number() -> None:
    assert parse_matrix("1 2 3", "m") == ((1, 2, 3),)
    assert parse_matrix("1;2", "m") == ((1,), (2,))
    assert parse_matrix("-.5", "m") == ((Fraction(-1, 2),),)
    assert parse_matrix("[1, 2]", "m") == ((1, 2),)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1 2; 3", "m: row 1 has 2 numbers but row 2 has 1 number"),
        ("", "no number"),
        (" ;\n; ", "no number"),
        ("[]", "no number"),
        ("1 nan; 2 3", "row 1, column 2: 'nan' is not a number"),
        ("1 2; inf 3", "row 2, column 1: 'inf'"),
        ("1 2; 3 -Infinity", "row 2, column 2: '-Infinity'"),
        ("[[1, null]]", "row 1, column 2: 'null'"),
        ("1 2; 3 x", "'x'"),
        ("1,,2", "row 1, column 2: no number between two commas"),
        ("1,2,", "column 3: no number"),
        ("1/0", "'1/0'"),
        ("1e999999999", "'1e999999999'"),
        ("1" * 5000, "'1111"),
        ("\uff11 2", "is not a number"),
        ("1_000", "'1_000'"),
        ("[[[1]]]", "'"),
        ("1;2\n3;4", "line breaks and semicolons"),
        ("1 " * (MOST_NUMBERS + 1), "more than 10,000 numbers"),
        ("1 " * 10**6, "more than 10,000 numbers"),
    ],
)
def test_text_that_is_no_matrix(text: str, told: str) -> None:
    with pytest.raises(InputError) as error:
        parse_matrix(text, "m")
    assert told in str(error.value)
    assert len(str(error.value)) < 250


def test_random_text_is_a_matrix_or_an_error() -> None:
    random = Random(5)
    good = 0
    for _ in range(3000):
        text = "".join(random.choice("0123456789 ;,.[]-+/e\nnx") for _ in range(random.randint(0, 12)))
        try:
            found = parse_matrix(text, "m")
        except CnnError:
            continue
        good += 1
        assert {len(row) for row in found} == {len(found[0])}
        assert parse_matrix("; ".join(" ".join(map(number_text, row)) for row in found), "m") == found, "what is printed can be typed"
    assert good > 100


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (45, "45"),
        (-3, "-3"),
        (Fraction(1, 4), "0.25"),
        (Fraction(-1, 4), "-0.25"),
        (Fraction(1, 3), "1/3"),
        (Fraction(-140, 3), "-140/3"),
        (Fraction(1, 256), "0.00390625"),
        (Fraction(1, 65536), "1/65536"),
        (Fraction(12345, 100), "123.45"),
        (Fraction("0.123456789012345"), "0.123456789012345"),
        (Fraction(1, 10), "0.1"),
        (10**30, "1" + "0" * 30),
    ],
)
def test_numbers_are_written_exactly(number: Fraction, text: str) -> None:
    assert number_text(number) == text
    assert Fraction(text) == number


# ---- named kernels ----


@pytest.mark.parametrize("name", KERNELS)
def test_every_kernel_is_a_matrix_with_a_meaning(name: str) -> None:
    kernel = KERNELS[name]
    assert len({len(row) for row in kernel.weights}) == 1
    assert kernel.meaning
    assert kernel.source
    total = sum(n for row in kernel.matrix for n in row)
    plain = ("identity", "shift-right", "box3", "box5", "gaussian3", "gaussian5", "sharpen", "unsharp", "emboss")
    assert total == (1 if name in plain else 0), "flat areas stay as they are, or vanish"


def test_kernels_do_what_they_say() -> None:
    def by(name: str, image: Matrix) -> Matrix:
        return convolve(image, KERNELS[name].matrix).output

    spot = tuple(tuple(1 if (y, x) == (2, 2) else 0 for x in range(5)) for y in range(5))
    assert by("identity", spot) == ((0, 0, 0), (0, 1, 0), (0, 0, 0))
    assert by("shift-right", spot) == ((0, 0, 0), (0, 0, 1), (0, 0, 0))
    assert by("gaussian3", spot) == KERNELS["gaussian3"].matrix, "a spot is spread into the kernel"
    to_the_right = ((0, 1, 2),) * 3
    downwards = ((0,) * 3, (1,) * 3, (2,) * 3)
    for operator in ("sobel", "prewitt", "scharr"):
        assert by(f"{operator}-x", to_the_right)[0][0] > 0 == by(f"{operator}-x", downwards)[0][0]
        assert by(f"{operator}-y", downwards)[0][0] > 0 == by(f"{operator}-y", to_the_right)[0][0]
    down_right = ((0, 1, 2), (1, 2, 3), (2, 3, 4))
    down_left = tuple(tuple(reversed(row)) for row in down_right)
    assert by("roberts-1", down_right)[0][0] > 0 == by("roberts-1", down_left)[0][0]
    assert by("roberts-2", down_left)[0][0] > 0 == by("roberts-2", down_right)[0][0]
    assert by("emboss", down_right)[0][0] > down_right[1][1] == by("emboss", down_left)[0][0]


def test_sharpening_is_the_picture_minus_a_filter() -> None:
    identity = np.array(KERNELS["identity"].weights)
    assert np.array_equal(identity - np.array(KERNELS["laplacian4"].weights), KERNELS["sharpen"].weights)
    assert np.allclose(2 * identity - plain(KERNELS["gaussian3"].matrix), plain(KERNELS["unsharp"].matrix))


def test_smoothing_is_binomial() -> None:
    for name, line, deviation in (("gaussian3", [1, 2, 1], 0.71), ("gaussian5", [1, 4, 6, 4, 1], 1.0)):
        found = plain(KERNELS[name].matrix)
        assert np.allclose(found, np.outer(line, line) / sum(line) ** 2)
        offsets = np.arange(len(line)) - len(line) // 2
        assert np.sqrt((offsets**2 * found.sum(axis=0)).sum()) == pytest.approx(deviation, abs=0.01)


def plain(matrix: Matrix) -> np.ndarray:
    return np.array(plain_matrix(matrix))
