"""Rows of any torch model: one forward pass on the meta device, where tensors have shapes and no numbers.

Modules of torch.nn become one row each, under their path; what runs outside of them becomes a row of the module in which
it runs, so that functional operations are seen, too. Multiply-adds are those of torch.utils.flop_counter, by its own table and its
rule of taking operations apart. Nothing of the model is run, copied or changed: where an operation would read its weights
or write its buffers, it is given tensors of the same sizes without numbers.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter
from torch.utils._pytree import tree_leaves

from cnncli.arch.layers import Shape
from cnncli.arch.net import Row
from cnncli.errors import CnnError
from cnncli.models.tracing.flow import Sight
from cnncli.models.tracing.stand_ins import META
from cnncli.models.tracing.tracer import Tracer

# What torch says when an operation asks a tensor on the meta device for its numbers.
ASKS_FOR_NUMBERS = ("no data", "Tensor.item()", "data-dependent", "_local_scalar_dense", "nonzero", "on meta tensors", "aten::equal")


class Traced(NamedTuple):
    """rows; output: the sizes of the model's first output tensor without the batch, None where it gives none; batch: images it took.

    sights: what a unit of a module's output sees, by the module's path and how often it had run before.
    """

    rows: tuple[Row, ...]
    output: Shape | None
    batch: int
    sights: dict[tuple[str, int], Sight]


def trace(model: nn.Module, input: Sequence[int]) -> tuple[Row, ...]:
    """The rows of a forward pass of `model`, in the mode it is in (training or evaluation), on one image of sizes `input` (no batch).

    Parameters are counted at their first use; a row that uses them again says "(shared)". CnnError for a model whose forward
    pass depends on the numbers in the image, which are not there; what else the model raises is passed on.
    """
    return trace_model(model, input).rows


def trace_model(model: nn.Module, input: Sequence[int]) -> Traced:
    """As `trace`, with what else is learnt. Some models need two images: batch norm while training on a map of 1x1, for one."""
    if any(isinstance(parameter, UninitializedParameter) for parameter in model.parameters()):
        raise CnnError("the model has lazy layers, which have no sizes yet", "run it once on an image, or give its layers their sizes")
    model = _uncompiled(model)
    try:
        return _run(model, input, batch=1)
    except Exception as error:  # noqa: BLE001 - a model's own code raises anything
        try:
            return _run(model, input, batch=2)
        except Exception:  # noqa: BLE001 - the same; what one image led to is told
            if isinstance(error, NotImplementedError | RuntimeError) and any(words in str(error) for words in ASKS_FOR_NUMBERS):
                raise CnnError(
                    "the forward pass depends on the numbers in the image, so its layers cannot be listed without running it"
                ) from error
            if isinstance(error, NotImplementedError) and "fake impl" in str(error):
                operation = str(error).partition(": ")[0]
                raise CnnError(
                    f"{operation} has no form without numbers, so its layers cannot be listed", "describe the model before it is quantised"
                ) from error
            raise error from None


def _uncompiled(model: nn.Module) -> nn.Module:
    """The module that `torch.compile` wrapped: its layers are the same, under their own names."""
    while type(model).__name__ == "OptimizedModule" and isinstance(inside := getattr(model, "_orig_mod", None), nn.Module):
        model = inside
    return model


def _run(model: nn.Module, input: Sequence[int], batch: int) -> Traced:
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.get_default_dtype())
    image = torch.empty(batch, *input, dtype=dtype, device=META)
    tracer = Tracer(model, batch)
    tracer.give(image)
    # Inference mode: without gradients to prepare, operations arrive whole (`linear`), not in the pieces they are made of.
    with untouched(model), torch.inference_mode(), tracer.watching(), tracer:
        output = model(image)
    tracer.ledger.add_unused(model)
    first = next((leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)), None)
    return Traced(tuple(tracer.ledger.rows), None if first is None else tracer.ledger.shape_of(first), batch, tracer.sights)


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Give the modules back the attributes, parameters and buffers they had, and the generators of random numbers their state."""
    kept = []
    for module in model.modules():
        tables = [vars(module).get(name) for name in ("_parameters", "_buffers", "_modules")]
        # Scripted modules keep theirs in C++, where stand-ins do not come.
        kept.append((module, dict(vars(module)), [(table, dict(table)) for table in tables if isinstance(table, dict)]))
    state = random.getstate()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(state)
        for module, attributes, contents in kept:
            vars(module).clear()
            vars(module).update(attributes)
            for table, content in contents:
                table.clear()
                table.update(content)
