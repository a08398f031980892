"""`cnn predict`: classify images with a trained model."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnncli.cli.options import Classes, Device, Json, Weights
from cnncli.errors import ExitCode, InputError
from cnncli.models.published import check_weights
from cnncli.models.resolve import resolve
from cnncli.reports.terminal import print_json, talk, write_result

if TYPE_CHECKING:
    import numpy as np

    from cnncli.data.decode import BadImage
    from cnncli.data.inputs import Input
    from cnncli.data.preprocess import Preprocess

DECODING_THREADS = 4


def command(
    model: Annotated[str, typer.Argument(help="A run folder, a model file, or a net of the zoo with --weights.")],
    images: Annotated[
        list[str], typer.Argument(help="Files, folders, patterns in quotes, or - for standard input (an image or a list of paths).")
    ],
    weights: Weights = None,
    classes: Classes = None,
    top: Annotated[int, typer.Option("--top", help="How many classes to name for an image.", min=1)] = 5,
    max_pixels: Annotated[int, typer.Option("--max-pixels", help="An image with more pixels than this counts as unreadable.", min=1)] = 2
    ** 26,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Images per forward pass; does not change the result.", min=1)] = 64,
    device: Device = "auto",
    json: Json = False,
) -> int:
    """Classify images: the most probable classes of each, in the order given.

    JSON: one line an image, {"path", "predictions": ({"class", "probability"})} or {"path", "error"}; probabilities are in
    0..1. Exit code 5 when some images could not be read, 3 when none could.
    """
    spec = resolve(model)
    check_weights(spec, weights, classes)

    from cnncli.data.inputs import expand
    from cnncli.engine.device import choose_device
    from cnncli.models.weights import open_model
    from cnncli.reports.predictions import prediction_json, prediction_line

    place = choose_device(device)
    module, info = open_model(spec, weights, classes=classes, device=str(place), tell=talk)
    good = bad = 0
    for entry, guesses in predict(
        module, info.preprocess, info.classes, expand(images, sys.stdin.buffer), top=top, batch_size=batch_size, max_pixels=max_pixels
    ):
        if isinstance(guesses, InputError):
            bad += 1
            talk(f"cnn: {guesses}")
        else:
            good += 1
        if json:
            print_json(prediction_json(entry.name, guesses), indent=None)
        elif not isinstance(guesses, InputError):
            write_result(prediction_line(entry.name, guesses) + "\n")
    if bad and not good:
        raise InputError("no image could be read" if bad > 1 else "the image could not be read", "see above for the reason", path=images[0])
    return ExitCode.SKIPPED if bad else ExitCode.DONE


Guess = tuple[str, float]


def predict(
    module: Any,
    preprocess: Preprocess,
    classes: Sequence[str],
    inputs: Iterator[Input],
    *,
    top: int,
    batch_size: int,
    max_pixels: int,
) -> Iterator[tuple[Input, list[Guess] | BadImage]]:
    """Each input with its `top` most probable (class, probability), or why it cannot be read; one batch in memory at a time."""
    import numpy as np
    import torch

    from cnncli.data.decode import BadImage
    from cnncli.engine.infer import scores

    device = next(module.parameters()).device
    how = preprocess.decoding(max_pixels)

    def pixels(entry: Input) -> np.ndarray[Any, Any] | BadImage:
        try:
            return preprocess.pixels(entry.read(how))
        except BadImage as error:
            return error

    with ThreadPoolExecutor(DECODING_THREADS) as pool:
        while batch := list(islice(inputs, batch_size)):
            decoded = list(pool.map(pixels, batch))
            readable = [image for image in decoded if not isinstance(image, BadImage)]
            rows: Iterator[list[Guess]] = iter(())
            if readable:
                images = preprocess.normalise(torch.from_numpy(np.stack(readable)).to(device))
                found = next(scores(module, [images])).softmax(dim=1).topk(min(top, len(classes)))
                rows = (
                    [(classes[i], p) for i, p in zip(indices, values, strict=True)]
                    for indices, values in zip(found.indices.tolist(), found.values.tolist(), strict=True)
                )
            for entry, image in zip(batch, decoded, strict=True):
                yield entry, image if isinstance(image, BadImage) else next(rows)
