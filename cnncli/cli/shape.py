"""`cnn shape`: explain a net's arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from cnncli.arch.fit import all_misfits
from cnncli.arch.folding import fold, fold_repeats
from cnncli.arch.net import Net, Row, totals
from cnncli.cli.options import Json, Overwrite, Set, parse_input, parse_settings
from cnncli.errors import ExitCode, UsageError
from cnncli.models.describe import Description, describe
from cnncli.models.resolve import resolve
from cnncli.reports.model_info import ModelFacts, model_json, model_text
from cnncli.reports.shape import Heading, misfit_error, print_shape, shape_json
from cnncli.reports.terminal import print_json, print_result, write_result

MOST_ROWS = 60  # what a reader still scrolls through; longer tables are folded unless --depth or --all says otherwise


Nets = Annotated[
    list[str],
    typer.Argument(
        help="A net's name (`cnn models` lists them), torchvision/NAME, timm/NAME, file.py:Name, a trained model, or a net in the "
        "lecture's notation, in quotes."
    ),
]
Input = Annotated[str | None, typer.Option("--input", help="Input as channels x height x width, 3x227x227. (default: the net's own)")]
Classes = Annotated[int | None, typer.Option("--classes", help="Number of classes. (default: the net's own)")]
Explain = Annotated[bool, typer.Option("--explain", help="The arithmetic of every layer, with its numbers in place.")]
EquivalentMlp = Annotated[
    bool, typer.Option("--equivalent-mlp", help="The size of the fully connected layer that would replace each convolution.")
]
Compare = Annotated[bool, typer.Option("--compare", help="Several nets side by side.")]
Notation = Annotated[bool, typer.Option("--notation", help="Print the net in the lecture's notation and nothing else.")]
Diagram = Annotated[Path | None, typer.Option("--diagram", help="Draw the net into a .png, .svg or .pdf file.")]
Strict = Annotated[bool, typer.Option("--strict", help="Refuse a net with a window that does not tile its input.")]
Layout = Annotated[str, typer.Option("--layout", help="Order of the printed sizes: chw (torch) or hwc (the lecture).")]
Depth = Annotated[int | None, typer.Option("--depth", help="Open blocks to this many levels. (default: as many as fit in 60 rows)")]
All = Annotated[bool, typer.Option("--all", help="Every layer, nothing folded.")]
Timeout = Annotated[float, typer.Option("--timeout", help="Seconds that the code of file.py:Name may take.")]


def command(
    nets: Nets,
    input: Input = None,
    classes: Classes = None,
    set: Set = None,
    explain: Explain = False,
    equivalent_mlp: EquivalentMlp = False,
    compare: Compare = False,
    notation: Notation = False,
    diagram: Diagram = None,
    overwrite: Overwrite = False,
    strict: Strict = False,
    layout: Layout = "chw",
    depth: Depth = None,
    all: All = False,
    timeout: Timeout = 60.0,
    json: Json = False,
) -> int:
    """Explain a net: output sizes, parameters, MACs and receptive field of every layer, and their totals.

    JSON: {"net", "input": [C, H, W], "classes", "layers": [{"name", "operation", "output": [...], "params", "macs",
    "receptive_field", "jump", "start"}], "totals": {"params", "macs", "flops", "weight_bytes", "activation_bytes", "depth"}}.
    JSON folds nothing unless --depth is given. A field, jump or start is a list of height and width where they differ, null where
    it is not known. A layer that does not tile its input has "misfits", with --explain every layer has "explanation", a list of
    [what, arithmetic], and the net has "stacks". With --equivalent-mlp: {"net", "input", "convolutions": [{"name", "input", "pad",
    "output", "conv_weights", "connected_weights"}]}; with --compare: {"nets": [...]}; with --notation: {"net", "notation"}.
    Of a model file or run folder also "model": {"path", "name", "spec", "classes", "data", "val_fraction", "test_fraction", "metrics",
    "preprocess", "cnncli"}.
    """
    if layout not in ("chw", "hwc"):
        raise UsageError(f"--layout {layout!r} should be chw or hwc", path="--layout")
    if depth is not None and all:
        raise UsageError("--depth and --all exclude each other", "leave out one of them", path="--depth")
    views = {"--explain": explain, "--equivalent-mlp": equivalent_mlp, "--compare": compare, "--notation": notation}
    _check_one_view(views | {"--diagram": diagram is not None})
    if len(nets) > 1 and not compare:
        raise UsageError(f"{len(nets)} nets", f"one after the other, or side by side: cnn shape --compare {' '.join(nets[:3])}")
    size, settings = parse_input(input), parse_settings(set)
    described = [describe(net, input=size, classes=classes, settings=settings, timeout=timeout) for net in nets]
    if strict:
        for one in described:
            _refuse_misfits(one)
    if compare:
        return _print_comparison(described, layout=layout, as_json=json)
    (net,) = described
    if diagram is not None:
        return _draw(_wiring(net, "--diagram"), diagram, depth=depth, all_layers=all, overwrite=overwrite)
    if notation:
        return _print_notation(_wiring(net, "--notation"), as_json=json)
    if equivalent_mlp:
        return _print_equivalents(net, layout=layout, as_json=json)
    model = model_facts(nets[0])
    if explain:
        return _print_explanations(net, model, depth=depth, all_layers=all, layout=layout, as_json=json)
    return _print_shape(net, model, depth=depth, all_layers=all, layout=layout, as_json=json)


def model_facts(text: str) -> ModelFacts | None:
    """What the model file that `text` names says of itself; None for a bare net."""
    spec = resolve(text)
    if spec.kind != "file":
        return None
    from cnncli.models.modelfile import read_info

    info = read_info(spec.path)
    shares = info.val_fraction, info.test_fraction
    how = info.preprocess.to_json()
    return ModelFacts(str(spec.path), info.name, info.spec, info.classes, info.data, *shares, info.metrics, how, info.cnncli)


def epilog() -> str:
    """What the help says below the options."""
    from cnncli.arch.notation.language import GRAMMAR  # late: it is wanted for the help alone

    return GRAMMAR


def _check_one_view(views: dict[str, bool]) -> None:
    asked = [flag for flag, given in views.items() if given]
    if len(asked) > 1:
        raise UsageError(f"{asked[0]} and {asked[1]} exclude each other", "ask for one after the other", path=asked[1])


def _wiring(net: Description, flag: str) -> Net:
    """The net as data; UsageError for a traced model, of which only the rows are known."""
    if net.net is None:
        raise UsageError(
            f"{flag} needs a net that is described as data, and {net.name} is traced", "`cnn models` lists the described ones", path=flag
        )
    return net.net


def _heading(net: Description) -> Heading:
    return Heading(net.name, net.paper, net.input, net.classes, net.notes)


def _refuse_misfits(net: Description) -> None:
    if unfitting := all_misfits(net.rows):
        message, hint = misfit_error(unfitting[0])
        raise UsageError(f"{net.name}: {message}", hint, path="--strict")


def _print_shape(net: Description, model: ModelFacts | None, *, depth: int | None, all_layers: bool, layout: str, as_json: bool) -> int:
    sums = totals(net.rows, net.input)
    if as_json:
        found = shape_json(_heading(net), net.rows if depth is None else fold(net.rows, depth), sums, explained=False)
        print_json(found | _model_json(model))
        return ExitCode.DONE
    if depth is not None:
        rows: Sequence[Row] = fold(net.rows, depth)
    else:
        rows = net.rows if all_layers else fitting(net.rows)
    _print_model(model)
    print_shape(_heading(net), rows, sums, all_misfits(net.rows), layout=layout, folded=len(rows) < len(net.rows))
    return ExitCode.DONE


def _model_json(model: ModelFacts | None) -> dict[str, Any]:
    return {} if model is None else {"model": model_json(model)}


def _print_model(model: ModelFacts | None) -> None:
    if model is not None:
        print_result(model_text(model))
        write_result("\n")


def fitting(rows: Sequence[Row]) -> Sequence[Row]:
    """All rows where they are at most MOST_ROWS; else with equal blocks folded, and opened to as many levels as fit."""
    if len(rows) <= MOST_ROWS:
        return rows
    deepest = max(row.name.count(".") + 1 for row in rows)
    candidates = (fold_repeats(rows, depth) for depth in range(deepest, 1, -1))
    return next((folded for folded in candidates if len(folded) <= MOST_ROWS), fold_repeats(rows, 1))


def _print_explanations(
    net: Description, model: ModelFacts | None, *, depth: int | None, all_layers: bool, layout: str, as_json: bool
) -> int:
    from cnncli.arch.explain import stacks
    from cnncli.reports.explanation import print_explanations, stacks_json

    sums, found = totals(net.rows, net.input), stacks(net.rows)
    if as_json:
        rows = net.rows if depth is None else fold(net.rows, depth)
        print_json(shape_json(_heading(net), rows, sums, explained=True) | {"stacks": stacks_json(found)} | _model_json(model))
        return ExitCode.DONE
    if depth is not None:
        shown: Sequence[Row] = fold(net.rows, depth)
    else:
        deepest = max((row.name.count(".") + 1 for row in net.rows), default=1)
        shown = net.rows if all_layers else fold_repeats(net.rows, deepest)
    _print_model(model)
    print_explanations(_heading(net), shown, sums, found, layout=layout)
    return ExitCode.DONE


def _print_equivalents(net: Description, *, layout: str, as_json: bool) -> int:
    from cnncli.arch.explain import equivalents
    from cnncli.reports.explanation import equivalents_json, print_equivalents

    found = equivalents(net.rows)
    if as_json:
        print_json({"net": net.name, "input": list(net.input), "convolutions": equivalents_json(found)})
    else:
        print_equivalents(_heading(net), found, layout=layout)
    return ExitCode.DONE


def _print_comparison(nets: Sequence[Description], *, layout: str, as_json: bool) -> int:
    from cnncli.reports.compare import Compared, comparison_json, print_comparison

    compared = [Compared(_heading(net), net.rows, totals(net.rows, net.input)) for net in nets]
    if as_json:
        print_json(comparison_json(compared))
    else:
        print_comparison(compared, layout=layout)
    return ExitCode.DONE


def _draw(net: Net, path: Path, *, depth: int | None, all_layers: bool, overwrite: bool) -> int:
    from cnncli.reports.diagram.write import write_diagram

    write_diagram(net, path, depth=depth, all_layers=all_layers, overwrite=overwrite)
    write_result(f"{path}\n")
    return ExitCode.DONE


def _print_notation(net: Net, *, as_json: bool) -> int:
    from cnncli.arch.notation.language import write

    text = write(net)
    if as_json:
        print_json({"net": net.name, "notation": text})
    else:
        write_result(text + "\n")
    return ExitCode.DONE
