"""Weights on the Hugging Face hub: from its cache folder, checked each time they are used, or downloaded by its own client."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from cnncli.errors import EnvironmentFault
from cnncli.models.download import ANOTHER_FOLDER, DISK, check_sha256
from cnncli.watched import PATIENCE, watched

_DIGEST = re.compile(r"[0-9a-f]{64}")  # the cache keeps a large file under its sha256, and a link to it under its name

Tell = Callable[[str], None]


def hub_file(repository: str, names: Sequence[str], tell: Tell) -> Path:
    """The first of these files that the repository has, `timm/resnet18.a1_in1k` or `owner/name@revision`.

    A file in the cache causes no network call. EnvironmentFault when none is there and none can be had; InputError when one in the
    cache is not what its name says.
    """
    repository, _, revision = repository.partition("@")
    for name in names:
        if cached := cached_file(f"{repository}@{revision}", name):
            check_sha256(
                cached, _DIGEST.fullmatch(cached.resolve().name) and cached.resolve().name, "remove that file, then run this again"
            )
            return cached
    for name in names:
        tell(f"downloading {name} of https://huggingface.co/{repository}")
        if found := _downloaded(repository, name, revision or None):
            return found
    raise EnvironmentFault(
        f"https://huggingface.co/{repository} has no {' or '.join(names)}", _by_hand(repository, names[0]), path=repository
    )


def cached_file(repository: str, name: str) -> Path | None:
    """Where the cache has this file, without a network; None where it has not."""
    from huggingface_hub import try_to_load_from_cache

    repository, _, revision = repository.partition("@")
    found = try_to_load_from_cache(repository, name, revision=revision or None)
    return Path(found) if isinstance(found, str) else None


def _downloaded(repository: str, name: str, revision: str | None) -> Path | None:
    """The file, brought by the hub's own client, which writes it whole or not at all; None where the repository lacks it."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import RemoteEntryNotFoundError

    asked: list[object] = []
    arrived: list[str] = []
    _quieten()
    blobs = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}" / "blobs"
    try:
        # Asked first, since the client would try an absent network again for half a minute.
        watched(lambda: asked.append(get_hf_file_metadata(hf_hub_url(repository, name, revision=revision))), blobs, PATIENCE)
        watched(lambda: arrived.append(hf_hub_download(repository, name, revision=revision)), blobs, PATIENCE)
    except RemoteEntryNotFoundError:
        return None
    except Exception as error:  # the client and its HTTP library raise classes of their own, without a base in common
        if isinstance(error, OSError) and error.errno in DISK:
            raise EnvironmentFault(f"cannot write {blobs}: {error.strerror}", ANOTHER_FOLDER.replace("TORCH_HOME", "HF_HOME")) from error
        raise EnvironmentFault(
            f"weights not cached and no network: {name} of https://huggingface.co/{repository} ({_reason(error)})",
            _by_hand(repository, name),
            path=repository,
        ) from error
    return Path(arrived[0])


def _quieten() -> None:
    """What the client logs of its attempts is told by the one error that follows; a bar of progress is for terminals."""
    from huggingface_hub.utils.tqdm import disable_progress_bars

    logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)
    if not sys.stderr.isatty():
        disable_progress_bars()


def _by_hand(repository: str, name: str) -> str:
    return f"download https://huggingface.co/{repository}/resolve/main/{name} where there is a network and give it with --weights PATH"


def _reason(error: BaseException) -> str:
    """What the server or the network said: the client wraps it."""
    while error.__cause__ is not None:
        error = error.__cause__
    code = getattr(getattr(error, "response", None), "status_code", None)
    words = " ".join(str(error).split())[:200] or type(error).__name__
    return f"HTTP {code}" if code else words
