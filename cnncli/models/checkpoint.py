"""Weights that others saved: a `.pth` or `.safetensors` file to its tensors by name, without running anything in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cnncli.errors import EnvironmentFault, InputError, printable
from cnncli.models.foreign import WANT_WEIGHTS, check_tensor_file, refuse_foreign
from cnncli.models.tensorfile import KEY, read_header
from cnncli.sniff import sniff

# Training scripts wrap the tensors in a dictionary, and wrappers of modules put a word before each name.
WRAPPERS = ("state_dict", "model", "model_state", "model_state_dict", "net", "ema", "model_ema", "state_dict_ema")
PREFIXES = ("module.", "_orig_mod.", "model.")  # DataParallel; torch.compile; Lightning
AVERAGES_COUNTER = "n_averaged"  # torch.optim.swa_utils.AveragedModel: how many models it averaged
DEEPEST = 8
MOST_TENSORS = 100_000
SAFE_TORCH = (2, 10)  # earlier ones can be made to run code in spite of weights_only (CVE-2025-32434, CVE-2026-24747)

Tell = Callable[[str], None]


def read_checkpoint(path: Path, tell: Tell) -> dict[str, Tensor]:
    """The tensors of a file by name, on the CPU, in the file's order; wrappers and prefixes are taken off, and told.

    The file is known by its content, not its name. InputError for anything that is not tensors under names.
    """
    kind = sniff(path)
    if kind == "safetensors":
        return _without_prefixes(_read_safetensors(path), path, tell)
    if kind not in ("zip", "pickle"):
        refuse_foreign(path, kind, what="a file of weights", want=WANT_WEIGHTS)
    check_tensor_file(path, kind)
    return _without_prefixes(_unwrap(_read_torch(path), path, tell), path, tell)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    metadata = read_header(path).get("__metadata__")
    if isinstance(metadata, dict) and KEY in metadata:
        raise InputError(f"{path} is a model of cnn, net and all", "give it in the place of the net, without --weights", path=str(path))
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise _damaged(path, error) from error


def _read_torch(path: Path) -> object:
    found = tuple(int(digits) for digits in torch.__version__.split("+")[0].split(".")[:2] if digits.isdigit())
    if found < SAFE_TORCH:
        need = ".".join(map(str, SAFE_TORCH))
        raise EnvironmentFault(
            f"torch {torch.__version__} can be made to run code from a .pth file; {need} is needed", "pip install -U torch"
        )
    try:
        with path.open("rb") as file:  # not the path: some versions of torch choose another reader by its ending
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file fails in many ways, and torch's advice to trust it must not be shown
        raise InputError(f"{path} is damaged, or holds more than tensors under names", WANT_WEIGHTS, path=str(path)) from error


def _unwrap(value: object, path: Path, tell: Tell) -> dict[str, Tensor]:
    """The dictionary of tensors in nested ones, by the keys that training scripts use for it."""
    keys: list[str] = []
    for _ in range(DEEPEST):
        if not isinstance(value, Mapping):
            break
        inner = [key for key in WRAPPERS if isinstance(value.get(key), Mapping)]
        if any(isinstance(item, Tensor) for item in value.values()) or not inner:
            break
        keys.append(inner[0])
        if len(inner) > 1:
            tell(f"note: {path} also has {', '.join(map(repr, inner[1:]))}, not used")
        value = value[inner[0]]
    if keys:
        tell(f"note: {path}: the weights are its {' > '.join(map(repr, keys))}")
    return _only_tensors(value, path)


def _only_tensors(value: object, path: Path) -> dict[str, Tensor]:
    if not isinstance(value, Mapping) or not any(isinstance(item, Tensor) for item in value.values()):
        held = f"a dictionary of {_some(value)}" if isinstance(value, Mapping) else f"a {type(value).__name__}"
        raise InputError(f"{path} holds no tensors under names, but {held}", WANT_WEIGHTS, path=str(path))
    if len(value) > MOST_TENSORS:
        raise InputError(f"{path} holds {len(value)} entries, more than any net has tensors", WANT_WEIGHTS, path=str(path))
    odd = [name for name, item in value.items() if not isinstance(name, str) or not _is_plain(item)]
    if odd:
        raise InputError(f"{path}: {len(odd)} of its entries are no plain tensors, first {_some(odd)}", WANT_WEIGHTS, path=str(path))
    return dict(value)


def _is_plain(item: object) -> bool:
    """A tensor of numbers that has them: not sparse, quantized, complex or on torch's meta device."""
    if not isinstance(item, Tensor) or item.layout != torch.strided or item.is_meta or item.is_quantized or item.is_complex():
        return False
    return item.numel() * item.element_size() <= item.untyped_storage().nbytes()  # an expanded tensor asks for memory it does not hold


def _without_prefixes(tensors: dict[str, Tensor], path: Path, tell: Tell) -> dict[str, Tensor]:
    taken: list[str] = []
    for _ in range(DEEPEST):
        if AVERAGES_COUNTER in tensors:
            tensors = {name: tensor for name, tensor in tensors.items() if name != AVERAGES_COUNTER}
            tell(f"note: {path}: {AVERAGES_COUNTER!r} left out")
        prefix = next((prefix for prefix in PREFIXES if tensors and all(name.startswith(prefix) for name in tensors)), None)
        if prefix is None:
            break
        taken.append(prefix)
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    if taken:
        tell(f"note: {path}: {' and '.join(map(repr, taken))} taken off the names")
    return tensors


def _some(names: Any) -> str:
    listed = [printable(str(name))[:60] for name in list(names)[:3]]
    return ", ".join(listed) or "nothing"


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(f"{path} is damaged: {' '.join(str(error).split())[:200]}", "copy it again", path=str(path))
