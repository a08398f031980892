"""A model of which a part learns: what is frozen stays as it is to the bit, and where it comes first it need not be computed again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from cnncli.transfer.chain import Cut, Structure


class Prefix(nn.Module):
    """The part of a model before a cut: images [N, C, H, W] to what the module at the cut is given, [N, ...]."""

    def __init__(self, model: nn.Module, cut: Cut) -> None:
        super().__init__()
        self.model, self.cut = model, cut

    def forward(self, images: Tensor) -> Tensor:
        """Run the model until it comes to the cut."""

        def reach(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
            raise _Reached(args[0])

        handle = self.model.get_submodule(self.cut.path).register_forward_pre_hook(reach)
        try:
            self.model(images)
        except _Reached as reached:
            return reached.value
        finally:
            handle.remove()
        raise AssertionError(f"the model did not come to {self.cut.path}")


class _Reached(Exception):  # no error: the way out of a run
    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = value


class Partial(nn.Module):
    """A model whose weights named in `learning` learn, and no others.

    What runs before the first of them stays in evaluation mode, so that dropout does nothing there and batch norms neither use a batch's
    statistics nor change their own. With `cut`, the model is called with what `Prefix` gives; nothing before the cut is computed. Its state
    is that of the model, under the model's names.
    """

    def __init__(self, model: nn.Module, structure: Structure, learning: Iterable[str], cut: Cut | None = None) -> None:
        super().__init__()
        self.model, self.structure, self.cut = model, structure, cut
        names = set(learning)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in names)
        owners = {name.rpartition(".")[0] for name in names}
        modules = [path for path in owners if path in structure.ran]
        self.first = structure.first(modules) if modules else 0
        self.still = tuple(path for path, _ in model.named_modules() if path and self._is_still(path, owners))
        self.train(self.model.training)

    def _is_still(self, path: str, owners: set[str]) -> bool:
        learns = any(owner == path or owner.startswith(f"{path}.") for owner in owners)
        return not learns and self.structure.ran.get(path, -1) < self.first

    def train(self, mode: bool = True) -> Partial:  # noqa: FBT001, FBT002 # torch's own signature
        """Training mode for what learns and what comes behind it."""
        super().train(mode)
        for path in self.still:  # each by itself: what is in a list of modules may run later than others in it
            self.model.get_submodule(path).training = False
        return self

    def forward(self, given: Tensor) -> Tensor:
        """Images, or with a cut what `Prefix` makes of them, to scores [N, classes]."""
        if self.cut is None:
            scores: Tensor = self.model(given)
            return scores
        return run_from(self.model, self.structure, self.cut, given)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override] # torch's own has overloads
        """That of the model."""
        found: dict[str, Any] = self.model.state_dict(*args, **kwargs)
        return found

    def load_state_dict(self, state: Any, strict: bool = True, assign: bool = False) -> Any:  # noqa: FBT001, FBT002 # torch's own signature
        """That of the model."""
        return self.model.load_state_dict(state, strict=strict, assign=assign)


def run_from(model: nn.Module, structure: Structure, cut: Cut, given: Tensor) -> Tensor:
    """The scores [N, classes] of a model, computed from its cut on. given: what `Prefix` makes of images, [N, ...].

    ValueError or RuntimeError where what lies behind the cut needs more than that.
    """
    images = torch.empty(len(given), *structure.image, device="meta")
    with _replayed(model, cut, given):
        scores: Tensor = model(images)
    if scores.is_meta:
        raise ValueError(f"what lies behind {cut.path} does not depend on it alone")
    return scores


@contextmanager
def _replayed(model: nn.Module, cut: Cut, given: Tensor) -> Iterator[None]:
    """Within, `model` runs from the cut on: the module there is given `given`, whatever it is called with.

    What comes before is replaced by tensors without memory, with which the model's own code between the modules costs nothing. Should
    anything behind the cut need one of these, torch refuses to compute with it.
    """
    batch, undo = len(given), []
    shapes: dict[str, list[Any]] = {}
    for path, shape in cut.before:
        shapes.setdefault(path, []).append(shape)
    try:
        for path, made in shapes.items():
            module = model.get_submodule(path)
            undo.append(_replace(module, _hollow(module, made, batch)))
        place = model.get_submodule(cut.path)
        compute = place.forward
        undo.append(_replace(place, lambda _: compute(given)))
        undo += [_hide_weights(model.get_submodule(path)) for path in cut.around]
        yield
    finally:
        for back in reversed(undo):
            back()


def _replace(module: nn.Module, forward: Callable[..., Any]) -> Callable[[], None]:
    own = vars(module).get("forward")
    module.forward = forward

    def back() -> None:
        if own is None:
            del module.forward
        else:
            module.forward = own

    return back


def _hollow(module: nn.Module, shapes: list[Any], batch: int) -> Callable[..., Any]:
    """A forward pass that returns tensors of these shapes on its first calls, and computes after them."""
    left, compute = iter(shapes), module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        shape = next(left, None)
        return compute(*args, **kwargs) if shape is None else _made(shape, batch)

    return forward


def _made(shape: Any, batch: int) -> Any:
    if isinstance(shape, torch.Size):
        return torch.empty(batch, *shape[1:], device="meta")
    return type(shape)(_made(one, batch) for one in shape)


def _hide_weights(module: nn.Module) -> Callable[[], None]:
    """Put tensors without memory in the place of those that a module itself holds, such as a class token."""
    held: list[tuple[dict[str, Any], dict[str, Any]]] = []
    for own in (vars(module)["_parameters"], vars(module)["_buffers"]):
        held.append((own, dict(own)))
        own.update({name: tensor.detach().to("meta") for name, tensor in own.items() if tensor is not None})

    def back() -> None:
        for own, before in held:
            own.update(before)

    return back


@torch.no_grad()
def is_faithful(model: nn.Module, structure: Structure, cut: Cut, images: Tensor) -> bool:
    """Whether the two parts of a model, one after the other, give what it gives: images [N, C, H, W], N of 2 or more."""
    was = model.training
    try:
        wanted = model.eval()(images)
        features = Prefix(model, cut)(images)
        if len(features) != len(images):
            return False
        found = run_from(model, structure, cut, features)
        return bool(torch.allclose(found, wanted, rtol=1e-4, atol=1e-5))
    except Exception:  # noqa: BLE001 # a foreign model may refuse in any way; then it is computed whole
        return False
    finally:
        model.train(was)
