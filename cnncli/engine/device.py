"""Which device computes."""

from __future__ import annotations

import torch

from cnncli.errors import EnvironmentFault, UsageError


def choose_device(text: str) -> torch.device:
    """`auto` (the first GPU, else the CPU), `cpu`, `cuda`, `cuda:1`, `mps`.

    UsageError for another word; EnvironmentFault, listing what there is, for a device that is absent: never silently the CPU.
    """
    there = devices()
    if text == "auto":
        return torch.device(there[0])
    kind, _, number = text.partition(":")
    if (
        kind not in ("cpu", "cuda", "mps")
        or (number and not (number.isascii() and number.isdigit() and kind == "cuda"))
        or text.endswith(":")
    ):
        raise UsageError(f"--device {text!r} should be auto, cpu, cuda, cuda:1 or mps", path="--device")
    wanted = "cuda:0" if text == "cuda" else text
    if wanted not in there:
        raise EnvironmentFault(f"--device {text}: no such device here", f"there is {', '.join(there)}", path="--device")
    return torch.device(wanted)


def devices() -> list[str]:
    """Every device of this machine, the preferred one first."""
    found = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    if torch.backends.mps.is_available():
        found.append("mps")
    return [*found, "cpu"]
