"""A fitted projection as a file, a `.safetensors` of ours: what puts further images into the same picture."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch

from cnncli.errors import InputError, UsageError
from cnncli.features.feature_set import Origin, Space
from cnncli.features.project import Fit
from cnncli.features.projected import Method
from cnncli.models.tensorfile import KEY, load_tensors, read_header, read_metadata, save_tensors

FORMAT = 1
KIND = "projection"
SUFFIX = ".safetensors"
ARRAYS = ("mean", "components", "explained", "reference", "embedding")
_OF_SPACE = ("kind", "layer", "pool", "activation", "shape")


def check_fit_name(path: Path) -> None:
    """UsageError for a name that does not end in .safetensors."""
    if path.suffix.lower() != SUFFIX:
        raise UsageError(f"a fit is a {SUFFIX} file, and {path} is none", f"--save-fit {path.stem}{SUFFIX}", path="--save-fit")


def save_fit(path: Path, fit: Fit, space: Space, origin: Origin) -> None:
    """Write a fit, whole or not at all. UsageError for UMAP, whose state is a Python object."""
    if fit.method == "umap":
        raise UsageError("a UMAP fit is a Python object, and cnn stores none", "use --method tsne or pca", path="--save-fit")
    tensors = {name: torch.from_numpy(getattr(fit, name)) for name in ARRAYS}
    save_tensors(path, tensors, {"kind": KIND, "format": FORMAT, **_of_features(space, origin), **_of_fit(fit)})


def load_fit(path: Path, space: Space, origin: Origin) -> Fit:
    """The fit in a file, for features of that space. InputError where it is damaged, no fit, or of another model or layer."""
    if not path.is_file():
        raise InputError(f"no such fit: {path}", "`cnn features project ... --save-fit` makes one", path=str(path))
    header = read_header(path)
    metadata = header.get("__metadata__")
    said = json.loads(metadata[KEY]) if isinstance(metadata, dict) and isinstance(metadata.get(KEY), str) else {}
    if not isinstance(said, dict) or said.get("kind") != KIND:
        raise InputError(f"{path} is no fit of cnn features project", "give a file that --save-fit wrote", path=str(path))
    if said.get("format") != FORMAT:
        raise InputError(f"{path} has format {said.get('format')}, and this version reads {FORMAT}", "update cnncli", path=str(path))
    tensors = load_tensors(path, read_metadata(path, header))
    _check_same(path, said, space, origin)
    arrays = {name: tensors[name].numpy() for name in ARRAYS}
    return Fit(cast("Method", said["method"]), **arrays, perplexity=float(said["perplexity"]), seed=int(said["seed"]))


def _of_fit(fit: Fit) -> dict[str, Any]:
    return {"method": fit.method, "perplexity": fit.perplexity, "seed": fit.seed}


def _of_features(space: Space, origin: Origin) -> dict[str, Any]:
    own = asdict(space) | {"shape": list(space.shape)}
    about = {"model": origin.model, "digest": origin.digest, "random": origin.random, "preprocess": origin.preprocess}
    return {"space": own, "origin": json.loads(json.dumps(about))}


def _check_same(path: Path, said: dict[str, Any], space: Space, origin: Origin) -> None:
    here = _of_features(space, origin)
    there_name, here_name = (f"{one['space']['name']} of {_model(one['origin'])}" for one in (said, here))
    same_space = all(said["space"][key] == here["space"][key] for key in _OF_SPACE)
    keys = ("digest", "random", "preprocess") if space.kind in ("layer", "random") else ("preprocess",)
    if not same_space or any(said["origin"][key] != here["origin"][key] for key in keys):
        told = f"{path} was fitted to {there_name} ({_how(said)}), and these features are {here_name} ({_how(here)})"
        raise InputError(told, "project features of the same model and layer", path=str(path))


def _model(origin: dict[str, Any]) -> str:
    random = f", random weights {origin['random']}" if origin["random"] is not None else ""
    return f"{origin['model'] or 'no model'}{random}"


def _how(one: dict[str, Any]) -> str:
    size = "x".join(map(str, one["space"]["shape"]))
    digest = one["origin"]["digest"][:8]
    return ", ".join(word for word in (size, one["space"]["pool"], one["space"]["activation"], digest and f"weights {digest}") if word)
