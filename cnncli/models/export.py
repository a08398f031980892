"""A model as a file for other programs: ONNX, or torch.export's own format. Module in, file out; what it says is checked elsewhere.

Both formats begin with one program that `torch.export` captures from the module, with the number of images left open; ONNX is
translated from that. Beside the numbers the file says what a user needs: classes in order, how images are prepared, which net it is.
"""

from __future__ import annotations

import json
import logging
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.metadata import version
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from cnncli.arch.serial import net_to_json
from cnncli.data.preprocess import Preprocess
from cnncli.errors import InputError, UsageError, printable
from cnncli.models.modelfile import ModelInfo

INPUT = "image"
BATCH = "batch"  # what the number of images is called
# The oldest operator set that torch translates to without a second conversion, and so the one that most runtimes read.
OPSET = 18
# A protobuf file holds less than 2 GiB; beside the weights there are some megabytes of graph.
LARGEST_SINGLE_FILE = 2**31 - 2**26
EXTERNAL_FROM = 1024  # bytes; smaller tensors, shapes above all, stay in the graph, which is not readable without them
_QUOTED = re.compile(r"'([^']*)'")
_OPERATOR = re.compile(r"target=torch\.ops\.([\w.]+)\]|<OpOverload\(op='([\w.]+)'")


class Deployed(nn.Module):
    """A model as it goes into a file.

    pixels: takes uint8 [N, C, H, W] of 0..255 and prepares them as `preprocess` says, (value / 255 - mean) / std, computed as
    `Preprocess.normalise` does; else float32 of that shape, prepared already.
    softmax: gives probabilities instead of scores, [N, classes] both.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, model: nn.Module, preprocess: Preprocess, *, pixels: bool, softmax: bool) -> None:
        super().__init__()
        self.model = model.requires_grad_(False)  # noqa: FBT003 - else gradients are traced as well
        self.pixels = pixels
        self.softmax = softmax
        self.size = preprocess.channels, preprocess.height, preprocess.width
        if pixels:
            scale = torch.tensor([1 / (255 * s) for s in preprocess.std])
            shift = torch.tensor([-m / s for m, s in zip(preprocess.mean, preprocess.std, strict=True)])
            self.register_buffer("scale", scale.view(1, -1, 1, 1))
            self.register_buffer("shift", shift.view(1, -1, 1, 1))

    @property
    def output(self) -> str:
        """What the file calls its output."""
        return "probabilities" if self.softmax else "scores"

    def forward(self, image: Tensor) -> Tensor:
        """Images [N, C, H, W] to [N, classes]."""
        if self.pixels:
            image = image.to(torch.float32) * self.scale + self.shift
        scores: Tensor = self.model(image)
        return scores.softmax(dim=1) if self.softmax else scores


def capture(module: Deployed) -> ExportedProgram:
    """The module's program, for any number of images of its size. InputError naming the layer that cannot be captured."""
    # Two, because torch takes sizes of 0 and 1 for constants.
    example = torch.zeros(2, *module.size, dtype=torch.uint8 if module.pixels else torch.float32)
    try:
        return _captured(module, example)
    except Exception as error:  # anything may go wrong in foreign code; each is a model that cannot be exported
        layer = _layer_of_failure(module, example)
        raise InputError(
            f"{layer or 'the model'} cannot be exported: {_line(error)}", "torch.export has to be able to follow it"
        ) from error


def to_torch_export(program: ExportedProgram, path: Path, described: dict[str, str]) -> None:
    """Write the program as torch.export does, with `described` as its extra file cnncli.json."""
    made = BytesIO()  # torch's own writer ends the process where a disk is full
    with _quiet():
        torch.export.save(program, made, extra_files={"cnncli.json": json.dumps(described, indent=2)})
    path.write_bytes(made.getbuffer())


def check_opset(opset: int) -> None:
    """UsageError for an operator set that torch does not write, or that the installed onnx does not know."""
    from onnx.defs import onnx_opset_version

    if not OPSET <= opset <= onnx_opset_version():
        raise UsageError(f"--opset {opset} is not from {OPSET} to {onnx_opset_version()}", f"{OPSET} is read most widely", path="--opset")


def to_onnx(program: ExportedProgram, module: Deployed, described: dict[str, str], *, opset: int = OPSET) -> Any:
    """The program as an ONNX model in memory (an onnx_ir.Model), with `described` as its metadata.

    InputError naming the layer and operator that ONNX has no words for.
    """
    try:
        with _quiet():
            written = torch.onnx.export(
                program, input_names=[INPUT], output_names=[module.output], opset_version=opset, verbose=False, dynamo=True
            )
    except Exception as error:  # the exporter's exceptions have no common public base
        raise _no_words(program, error) from error
    assert written is not None
    model = written.model
    _undress(model)
    model.producer_name, model.producer_version = "cnncli", version("cnncli")
    model.doc_string = described["preprocessing_text"]
    model.metadata_props.clear()
    model.metadata_props.update(described)
    return model


def data_file_of(module: nn.Module, target: Path, *, most: int = LARGEST_SINGLE_FILE) -> Path | None:
    """Where the weights go that do not fit in the ONNX file `target`: the file of that name with `.data`; None where they fit."""
    size = sum(tensor.nbytes for tensor in module.state_dict().values())
    return target.with_name(f"{target.name}.data") if size > most else None


def save_onnx(model: Any, path: Path, data: Path | None = None) -> None:
    """Write an ONNX model as one file, or with its weights in the file `data` of the same folder."""
    import onnx_ir

    if data is None:
        onnx_ir.save(model, path)
    else:
        onnx_ir.save(model, path, external_data=data.name, size_threshold_bytes=EXTERNAL_FROM)


def point_to(path: Path, data: str) -> None:
    """Change the name under which the ONNX file `path` looks for its weights, beside itself."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = data
    onnx.save(model, path)


def describe(info: ModelInfo, module: Deployed) -> dict[str, str]:
    """What a file says of itself, as text by name.

    classes: JSON list in the order of the outputs. preprocessing: JSON as in the model file; preprocessing_text: the same as a sentence.
    preprocessing_inside: `normalisation` or `none`. net: JSON, or spec: the model's name in its library. input_size: CxHxW.
    """
    model = {"spec": info.spec} if info.net is None else {"net": json.dumps(net_to_json(info.net))}
    return {
        "cnncli": version("cnncli"),
        "name": info.name,
        **model,
        "classes": json.dumps(list(info.classes)),
        "input_size": "x".join(map(str, module.size)),
        "output": module.output,
        "preprocessing": json.dumps(info.preprocess.to_json()),
        "preprocessing_inside": "normalisation" if module.pixels else "none",
        "preprocessing_text": sentence(info.preprocess, inside=module.pixels),
    }


def sentence(preprocess: Preprocess, *, inside: bool) -> str:
    """How an image becomes the input, in words. inside: the file itself does what comes after the pixels."""
    size, share = f"{preprocess.height}x{preprocess.width}", preprocess.crop_fraction
    colour = "grey" if preprocess.channels == 1 else "RGB"
    filter_ = f"a {preprocess.interpolation} filter, antialiased"
    if preprocess.resize == "stretch":
        geometry = f"stretched to {size} with {filter_}"
    else:
        cover = f"{round(preprocess.height / share)}x{round(preprocess.width / share)}"
        geometry = f"resized in proportion with {filter_}, until it just covers {cover}, of which the central {size} is cut out"
    numbers = f"divided by 255, less {_numbers(preprocess.mean)}, divided by {_numbers(preprocess.std)}"
    start = f"The image in {colour} is {geometry}"
    return f"{start}; these pixels, uint8, are the input: inside they are {numbers}." if inside else f"{start}; then it is {numbers}."


def _numbers(values: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value:.6g}" for value in values) + ")"


def _captured(module: nn.Module, example: Tensor) -> ExportedProgram:
    with _quiet(), torch.no_grad():
        return torch.export.export(module, (example,), dynamic_shapes=({0: Dim(BATCH, min=1)},), strict=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporters print, warn and log of their own affairs; what concerns the user is raised."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    unread = StringIO()
    try:
        with redirect_stdout(unread), redirect_stderr(unread), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _undress(model: Any) -> None:
    """Name tensors and operators after the model's layers, and take out what torch writes of itself, this machine's paths among it."""
    graph = model.graph
    graph.metadata_props.clear()
    images = str(graph.inputs[0].shape[0])  # torch's symbol for their number, such as s40
    taken: Counter[str] = Counter()
    for node in graph:
        # ['', 'model', 'model.conv1', 'conv2d']: the modules around the call, and the call
        scopes = _QUOTED.findall(node.metadata_props.get("pkg.torch.onnx.name_scopes", ""))
        layer = scopes[-2].removeprefix("model").removeprefix(".") if len(scopes) > 1 else ""
        name = f"{layer}/{node.op_type}" if layer else node.op_type
        taken[name] += 1
        node.name = name if taken[name] == 1 else f"{name}_{taken[name]}"
        node.metadata_props.clear()
    for value in (*graph.inputs, *(value for node in graph for value in node.outputs)):
        value.metadata_props.clear()
        if value.shape is not None:
            value.shape = type(value.shape)([BATCH if str(size) == images else size for size in value.shape])
    for name in list(graph.initializers):
        value = graph.initializers.pop(name)
        value.metadata_props.clear()
        value.name = name.removeprefix("model.")
        graph.initializers[value.name] = value


def _layer_of_failure(module: Deployed, example: Tensor) -> str:
    """The innermost layer that was running when the capture failed, as `layer conv1 (Conv2d)`; empty where none was."""
    running: list[str] = []
    layers = {name: layer for name, layer in module.model.named_modules() if name}
    hooks = [layer.register_forward_pre_hook(lambda *_, name=name: running.append(name)) for name, layer in layers.items()]
    hooks += [layer.register_forward_hook(lambda *_: running.pop() and None) for layer in layers.values()]
    try:
        _captured(module, example)
    except Exception:  # noqa: BLE001 - the same failure again; this time it is known where
        return f"layer {printable(running[-1])} ({type(layers[running[-1]]).__name__})" if running else ""
    finally:
        for hook in hooks:
            hook.remove()
    return ""


def _no_words(program: ExportedProgram, error: Exception) -> InputError:
    """Which operator of which layer stopped the translation to ONNX."""
    chain: list[BaseException] = [error]
    while following := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(following)
    found = next((match for text in map(str, chain) if (match := _OPERATOR.search(text))), None)
    if found is None:
        return InputError(f"the model cannot be written as ONNX: {_line(chain[-1])}", "try --format torch-export")
    operator, layer = _original(program, found[1] or found[2])
    where = f"layer {printable(layer)} computes {operator}" if layer else f"the model computes {operator}"
    return InputError(f"{where}, which cannot be written as ONNX", "try --format torch-export", path=layer or None)


def _original(program: ExportedProgram, operator: str) -> tuple[str, str]:
    """The operator as the model calls it, and the layer that does.

    What is translated is its parts: prims.bessel_j0 is one of aten.special_bessel_j0.default. Where no call's name holds that of the
    part, it stays as it is, without a layer.
    """
    name = operator.split(".")[1]
    for node in program.graph.nodes:
        if name in str(node.target) and (modules := node.meta.get("nn_module_stack")):
            path, _ = list(modules.values())[-1]
            return str(node.target), str(path).removeprefix("model").removeprefix(".")
    return operator, ""


def _line(error: BaseException) -> str:
    return printable(" ".join(str(error).split())[:200]) or type(error).__name__
