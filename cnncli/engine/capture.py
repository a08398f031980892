"""What some layers of a model give for images: taken before anything behind may overwrite it, and no further than needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from torch import Tensor, nn

from cnncli.engine.layers import Tap
from cnncli.errors import CnnError

Keep = Callable[[int, Tensor], Tensor]


def copied(_place: int, tensor: Tensor) -> Tensor:
    """The whole of it, for `capture`; part of the graph of gradients, where there is one."""
    return tensor.clone()


def capture(model: nn.Module, images: Tensor, taps: Sequence[Tap], keep: Keep = copied) -> list[Tensor]:
    """What each tap sees when the model runs on images [N, C, H, W]. What comes behind the last of them is not run.

    keep: (place of the tap, what it sees [N, ...]) -> what is kept of it. What comes behind may overwrite that tensor, as ReLU does in
    place, so it must be copied; a function of it is a copy. CnnError where the model does not come to a layer.
    """
    found: dict[int, Tensor] = {}
    runs: dict[str, int] = {}

    def take(path: str, tensor: Tensor, *, given: bool) -> None:
        for place, tap in enumerate(taps):
            if (tap.path, tap.given, tap.run) == (path, given, runs[path]):
                found[place] = keep(place, tap.behind(tensor) if tap.behind else tensor)
        if len(found) == len(taps):
            raise _Passed

    def before(path: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(_module: nn.Module, args: tuple[Any, ...]) -> None:
            runs[path] = runs.get(path, -1) + 1
            if args and isinstance(args[0], Tensor):
                take(path, args[0], given=True)

        return hook

    def behind(path: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda _module, _args, output: take(path, output, given=False)

    with ExitStack() as hooks:
        for path in {tap.path for tap in taps}:
            module = model.get_submodule(path)
            hooks.callback(module.register_forward_pre_hook(before(path)).remove)
            hooks.callback(module.register_forward_hook(behind(path)).remove)
        try:
            model(images)
        except _Passed:
            return [found[place] for place in range(len(taps))]
    missing = next(tap.path for place, tap in enumerate(taps) if place not in found)
    raise CnnError(
        f"the model does not come to its layer {missing}",
        "its forward pass may depend on the image, or call layers in another way than as its attributes",
    )


class _Passed(Exception):  # no error: the way out of a run
    """All that is wanted has been computed."""
