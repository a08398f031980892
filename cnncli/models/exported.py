"""Exported files: written under their name only when they compute what the model does.

Both are run on the same images, and the largest difference and the labels are compared; a file that differs is kept as FILE.failed.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor
from torch.export import ExportedProgram

from cnncli import atomic
from cnncli.errors import CnnError, EnvironmentFault
from cnncli.models.export import INPUT, point_to

INSTALL = 'pip install "cnncli[onnx]"'
PACKAGES = ("onnx", "onnxruntime", "onnxscript")
FAILED = ".failed"

Run = Callable[[Tensor], Tensor]


class Differs(CnnError):
    """What was written does not compute what the model does."""


@dataclass(frozen=True)
class Agreement:
    """A file's outputs beside the model's.

    difference: the largest absolute difference of two outputs. largest: the largest absolute output of the model.
    batches: how many images were given at a time. agree: images with the same most probable class, of `images`.
    """

    difference: float
    largest: float
    batches: tuple[int, ...]
    agree: int

    @property
    def images(self) -> int:
        """How many were compared."""
        return sum(self.batches)

    def allowed(self, tolerance: float) -> float:
        """The largest difference that counts as rounding: `tolerance`, times the largest output where that is above 1."""
        return tolerance * max(1.0, self.largest)

    def holds(self, tolerance: float) -> bool:
        """Whether the numbers agree but for rounding, and every label does. Not so where a number is none."""
        return self.difference <= self.allowed(tolerance) and self.agree == self.images


@torch.inference_mode()
def compare(model: Run, exported: Run, images: Tensor, batches: Sequence[int]) -> Agreement:
    """Both on `images`, in batches of these sizes, one after the other; what is over is left out."""
    theirs, ours, done, sizes = [], [], 0, []
    for size in batches:
        batch = images[done : done + size]
        if not len(batch):
            break
        ours.append(model(batch).float())
        theirs.append(exported(batch).float())
        done += len(batch)
        sizes.append(len(batch))
    one, other = torch.cat(ours), torch.cat(theirs)
    if one.shape != other.shape:
        raise CnnError(f"the file gives outputs of shape {list(other.shape)}, the model {list(one.shape)}")
    agree = int((one.argmax(dim=1) == other.argmax(dim=1)).sum())
    return Agreement(float((one - other).abs().max()), float(one.abs().max()), tuple(sizes), agree)


def need_onnx() -> str:
    """The version of onnxruntime, as `onnxruntime 1.20.1`. EnvironmentFault where one of the packages for ONNX is missing."""
    for package in PACKAGES:
        try:
            import_module(package)
        except ImportError as error:
            raise EnvironmentFault(
                f"ONNX needs the package {package}, which cannot be imported ({error})", INSTALL, path=package
            ) from error
    import onnxruntime

    return f"onnxruntime {onnxruntime.__version__}"


def run_onnx(path: Path) -> Run:
    """The ONNX file, checked by onnx and loaded by onnxruntime on the CPU. CnnError when one of them refuses it."""
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; warnings are about its own optimisations
    try:
        onnx.checker.check_model(str(path))
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # both raise classes of their own, made in C++
        raise CnnError(f"onnxruntime does not take the file: {' '.join(str(error).split())[:200]}") from error

    def run(images: Tensor) -> Tensor:
        (scores,) = session.run(None, {INPUT: images.numpy()})
        return torch.from_numpy(scores)

    return run


def run_program(path: Path, program: ExportedProgram) -> Run:
    """The program that was written to `path`, after a look at the file.

    Loading such a file can run code, so this package never does, not even with one of its own. The program that runs is the one in
    memory; of the file it is made sure that it is whole, and that each of its tensors is there, byte for byte.
    CnnError where that is not so.
    """
    with zipfile.ZipFile(path) as archive:
        if broken := archive.testzip():
            raise CnnError(f"{path} is damaged: {broken}")
        names = {name.partition("/")[2]: name for name in archive.namelist()}
        listed = json.loads(archive.read(names["data/weights/model_weights_config.json"]))["config"]
        for name, tensor in program.state_dict.items():
            entry = listed.get(name)
            stored = archive.read(names[f"data/weights/{entry['path_name']}"]) if entry else None
            if stored != tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes():
                raise CnnError(f"{path} does not hold {name} as it is")
    module: Run = program.module()
    return module


def write_checked(target: Path, data: Path | None, save: Callable[[Path, Path | None], object], check: Callable[[Path], object]) -> None:
    """Let `save` write a file beside `target` and `check` look at it, and only then give it its name.

    data: where the weights go that one ONNX file cannot hold; save(path, data) then writes both.
    When `check` raises Differs, what was written is kept as FILE.failed; after anything else nothing is left of it. A file that was
    there before stays until the new one takes its name, but for weights in a file of their own: an old graph must not meet new weights,
    so it goes a moment earlier. EnvironmentFault when the disk does not allow it.
    """
    failed = target.with_name(target.name + FAILED)

    def written(part: Path, weights: Path | None) -> None:
        save(part, weights)
        try:
            check(part)
        except Differs:
            if weights is not None:
                weights_failed = failed.with_name(f"{failed.name}.data")
                point_to(part, weights_failed.name)
                weights.replace(weights_failed)
            part.replace(failed)
            raise

    if data is None:
        atomic.write_with(target, lambda part: written(part, None))
        return

    def both(part: Path) -> None:
        weights = part.with_name(data.name)  # beside the graph, which knows it by this name
        written(part, weights)
        target.unlink(missing_ok=True)
        atomic.write_with(data, weights.replace)

    atomic.write_with(target, both)
