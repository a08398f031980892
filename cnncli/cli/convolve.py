"""`cnn convolve`: work a convolution or a pooling by hand, or over a picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from cnncli.arch.byhand import CONVOLUTION, CORRELATION, POOLING, Worked, convolution_windows, convolve, correlate, pool, pooling_window
from cnncli.arch.kernels import KERNELS
from cnncli.arch.matrix import Matrix, flip
from cnncli.cli.operands import EXAMPLE, read_operand
from cnncli.cli.options import Json, Overwrite
from cnncli.errors import ExitCode, UsageError, near_miss
from cnncli.reports.byhand import kernels_json, print_kernels, print_worked, worked_json
from cnncli.reports.filtered import Filtered, filtered_json, print_filtered
from cnncli.reports.terminal import print_json, talk

MOST = 10_000  # of stride, pad, dilation and size: beyond any image that is looked at here
DEFAULT_SIZE = 2  # the lecture's pooling, 2x2 with stride 2
AUTO = "auto"
WAYS = (AUTO, "clip", "signed", "stretch")


def command(
    image: Annotated[
        str | None, typer.Option("--image", help='A matrix, "1 2; 3 4" or [[1,2],[3,4]]; a .txt, .csv or .json file of one; an image file.')
    ] = None,
    kernel: Annotated[str | None, typer.Option("--kernel", help="A matrix, a file of one, or a name such as sobel-x.")] = None,
    correlate: Annotated[
        bool, typer.Option("--correlate", help="Do not flip the kernel: cross-correlation, which networks call convolution.")
    ] = False,
    stride: Annotated[
        int | None, typer.Option("--stride", help="Step between windows. (default: 1, for pooling --size)", min=1, max=MOST)
    ] = None,
    pad: Annotated[int, typer.Option("--pad", help="Rows and columns of zeros around the image.", min=0, max=MOST)] = 0,
    dilation: Annotated[int, typer.Option("--dilation", help="Pixels from one weight of the kernel to the next.", min=1, max=MOST)] = 1,
    pool: Annotated[str | None, typer.Option("--pool", help="Pool in place of a kernel: max or average.")] = None,
    size: Annotated[
        int | None, typer.Option("--size", help="Height and width of the pooling window. (default: 2)", min=1, max=MOST)
    ] = None,
    ceil: Annotated[bool, typer.Option("--ceil", help="Pooling: round the output size up, with a last window over the edge.")] = False,
    grey: Annotated[bool, typer.Option("--grey", help="Turn a colour picture grey first. (default: each channel on its own)")] = False,
    show: Annotated[
        str,
        typer.Option(
            "--show", help="Results of a picture as grey levels: clip to 0..255, signed around mid-grey, stretch; auto goes by the kernel."
        ),
    ] = AUTO,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="PNG to write, for an image file.")] = None,
    overwrite: Overwrite = False,
    max_pixels: Annotated[int, typer.Option("--max-pixels", help="An image with more pixels than this is refused.", min=1)] = 2**26,
    all: Annotated[bool, typer.Option("--all", help="A line for every entry of a large output.")] = False,
    list_kernels: Annotated[bool, typer.Option("--list-kernels", help="List the named kernels with their matrices.")] = False,
    json: Json = False,
) -> int:
    """Work a convolution by hand: the flipped kernel, every product and sum, and the arithmetic of the output's size.

    The kernel is flipped, as in mathematics; --correlate does what networks compute. --pool max or average pools. An image file
    becomes a PNG.

    JSON: {"operation", "image", "kernel", "flipped" (null for --correlate), "stride", "pad", "dilation", "output", "steps": one per
    entry, {"row", "column", "terms": pairs of image and kernel, "sum"}}; rows and columns count from 0. Pooling: {"operation", "image",
    "size", "stride", "pad", "ceil", "output", "steps": {"row", "column", "values", "result"}}. An image file: no steps, "image" and
    "output" are paths, and "input_size", "output_size" (height, width, channels), "least", "greatest", "shown", "black", "white" (the
    results that are black and white), "cut" (share of them beyond, 0..1). --list-kernels: {"kernels": {"name", "kernel", "meaning",
    "source"}}.
    """
    if list_kernels:
        return _list_kernels(as_json=json)
    job = Job(image, kernel, pool, correlate, stride, pad, dilation, size, ceil, grey, show, out, overwrite, max_pixels)
    job.check()
    source = read_operand(job.image or "", "--image")
    if isinstance(source, Path):
        return _picture(job, source, as_json=json)
    if out is not None or grey or show != AUTO:
        flag = "--out" if out is not None else "--grey" if grey else "--show"
        raise UsageError(f"{flag} is for an image file, and --image is a matrix", f"leave {flag} out: the result is printed", path=flag)
    worked = work(job, source)
    if json:
        print_json(worked_json(worked), indent=None)
    else:
        print_worked(worked, all_steps=all)
    return ExitCode.DONE


@dataclass(frozen=True)
class Job:
    """What is done to which image; the flags in their order."""

    image: str | None
    kernel: str | None
    pool: str | None
    correlate: bool
    stride: int | None
    pad: int
    dilation: int
    size: int | None
    ceil: bool
    grey: bool
    show: str
    out: Path | None
    overwrite: bool
    max_pixels: int

    def check(self) -> None:
        """UsageError for flags that are missing, unknown or exclude each other, before anything is read."""
        if self.image is None:
            raise UsageError("--image is missing", f"try: {EXAMPLE}", path="--image")
        if self.pool is None:
            if self.kernel is None:
                raise UsageError("--kernel or --pool is missing", f"try: {EXAMPLE}", path="--kernel")
            if self.size is not None or self.ceil:
                flag = "--ceil" if self.ceil else "--size"
                raise UsageError(f"{flag} is for pooling, and --pool is not given", "add --pool max or --pool average", path=flag)
        else:
            excluded = {"--kernel": self.kernel is not None, "--correlate": self.correlate, "--dilation": self.dilation != 1}
            for flag in (flag for flag, given in excluded.items() if given):
                raise UsageError(f"--pool and {flag} exclude each other", "leave out one of them", path="--pool")
            _check_word("--pool", self.pool, tuple(POOLING))
        _check_word("--show", self.show, WAYS)

    @property
    def operation(self) -> str:
        return POOLING[self.pool] if self.pool is not None else CORRELATION if self.correlate else CONVOLUTION

    def read_kernel(self) -> Matrix:
        found = read_operand(self.kernel or "", "--kernel")
        if isinstance(found, Path):
            raise UsageError(f"--kernel {found} is an image", "give a matrix, a file of numbers or a name: --list-kernels", path="--kernel")
        return found


def _check_word(flag: str, word: str, known: tuple[str, ...]) -> None:
    if word not in known:
        raise UsageError(f"{flag} {word!r} is not known", near_miss(word, list(known)) or f"one of {', '.join(known)}", path=flag)


def work(job: Job, image: Matrix) -> Worked:
    """The job on a matrix, worked step by step."""
    if job.pool is not None:
        return pool(image, job.pool, kernel=job.size or DEFAULT_SIZE, stride=job.stride, padding=job.pad, ceil=job.ceil)
    slide = correlate if job.correlate else convolve
    return slide(image, job.read_kernel(), stride=job.stride or 1, padding=job.pad, dilation=job.dilation)


def _list_kernels(*, as_json: bool) -> int:
    if as_json:
        print_json(kernels_json(KERNELS), indent=None)
    else:
        print_kernels(KERNELS)
    return ExitCode.DONE


def _picture(job: Job, path: Path, *, as_json: bool) -> int:
    """The job on an image file: a PNG, and what its grey levels mean."""
    out = _target(job, path)
    kernel = job.read_kernel() if job.pool is None else ()
    applied = kernel if job.correlate else flip(kernel)
    if job.pool is None:
        down, across = convolution_windows(kernel, stride=job.stride or 1, padding=job.pad, dilation=job.dilation)
    else:
        down = across = pooling_window(job.size or DEFAULT_SIZE, job.stride, job.pad, ceil=job.ceil)

    import numpy as np

    from cnncli import atomic
    from cnncli.data.decode import Decoding, decode
    from cnncli.data.filtering import filter_picture, pool_picture, show, way_for

    picture = decode(path, how=Decoding(max_pixels=job.max_pixels))
    pixels = np.asarray(picture.convert("L") if job.grey else picture)
    if job.pool is None:
        values, way = filter_picture(pixels, applied, job.operation, down, across), way_for(applied)
    else:
        values, way = pool_picture(pixels, job.pool, down, across), "clip"
    shown = show(values, way if job.show == AUTO else job.show)
    atomic.make_folder(out.parent)
    atomic.write_with(out, lambda temporary: shown.picture.save(temporary, "PNG"))
    filtered = Filtered(
        operation=job.operation,
        image=str(path),
        output=str(out),
        kernel=kernel,
        applied=applied,
        down=down,
        across=across,
        input_size=pixels.shape,
        output_size=values.shape,
        way=shown.way,
        black=shown.black,
        white=shown.white,
        least=shown.least,
        greatest=shown.greatest,
        cut=shown.cut,
    )
    if as_json:
        print_json(filtered_json(filtered), indent=None)
    else:
        print_filtered(filtered)
    talk(f"wrote {out}")
    return ExitCode.DONE


def _target(job: Job, image: Path) -> Path:
    """The PNG to write, checked before any work."""
    out = job.out
    if out is None:
        raise UsageError(f"{image} is a picture, and so is its result: -o is missing", "add -o result.png", path="--out")
    if out.suffix.lower() != ".png":
        raise UsageError(f"--out {out} should end in .png", f"for example -o {out.stem or 'result'}.png", path="--out")
    if out.is_dir():
        raise UsageError(f"--out {out} is a folder", "give a file that ends in .png", path=str(out))
    if out.exists() and out.samefile(image):
        raise UsageError(f"--out {out} is the image itself", "it is never written over: give another name", path=str(out))
    if out.exists() and not job.overwrite:
        raise UsageError(f"{out} exists", "use --overwrite, or another --out", path=str(out))
    return out
