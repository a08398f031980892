"""Published weights from the network: into torch's own cache folder, with torch's own download, checked each time they are used."""

from __future__ import annotations

import errno
import hashlib
import re
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from cnncli.atomic import temporary_folder
from cnncli.errors import EnvironmentFault, InputError
from cnncli.watched import watched

PATIENCE = 12.0  # seconds without a byte (torch reads 128 KiB at a time) until the network counts as absent
ATTEMPTS = 2  # of a download that arrives damaged
ANOTHER_FOLDER = "free space, or set TORCH_HOME to another folder"

_DIGEST = re.compile(r"-([0-9a-f]{8,64})\.")  # resnet50-0676ba61.pth: how torch names a file by the beginning of its sha256
DISK = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.EFBIG, errno.ENOTDIR, errno.EEXIST}

Tell = Callable[[str], None]


def fetch(url: str, tell: Tell) -> Path:
    """The file of `url`, from the cache folder `torch.hub.get_dir()/checkpoints`, downloaded into it where it is absent.

    A file that is there causes no network call. EnvironmentFault when it cannot be had, naming file, address and folder;
    InputError when the file in the cache is not what its name says.
    """
    path = cached(url)
    if not path.exists():
        tell(f"downloading {url} to {path}")
        _download(url, path, tell)
    elif not path.is_file():
        raise InputError(f"{path} should be a file of weights and is none", "remove it, then run this again", path=str(path))
    else:
        check_digest(path)
    return path


def cached(url: str) -> Path:
    """Where the file of `url` lies once it is downloaded: in torch's cache folder."""
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]


def check_digest(path: Path) -> None:
    """The sha256 of the file begins with the digits in its name, else InputError."""
    expected = _DIGEST.search(path.name)
    check_sha256(path, expected and expected[1], "remove that file, then run this again to download it")


def check_sha256(path: Path, expected: str | None, remedy: str) -> None:
    """InputError, with this remedy, unless the sha256 of the file begins with `expected`; None expects nothing."""
    if expected is None:
        return
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise EnvironmentFault(f"cannot read {path}: {error.strerror}", "make it readable", path=str(path)) from error
    if not found.startswith(expected):
        digits = min(len(expected), 16)
        raise InputError(f"sha256 differs (expected {expected[:digits]}, got {found[:digits]}): {path}", remedy, path=str(path))


def _download(url: str, path: Path, tell: Tell) -> None:
    """Download to a temporary folder beside `path`, which is removed whatever happens, then give the file its name."""
    expected = _DIGEST.search(path.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for attempt in range(ATTEMPTS):
            with temporary_folder(path.parent) as part:
                arriving = part / path.name
                try:
                    _transfer(url, arriving, expected[1] if expected else None)
                except RuntimeError as error:  # what torch raises for a wrong hash, also of a file that was cut off
                    if attempt + 1 == ATTEMPTS:
                        raise _unavailable(url, path, str(error)) from error
                    tell(f"note: {url} arrived damaged; once more")
                else:
                    arriving.replace(path)
                    return
    except OSError as error:
        if error.errno in DISK:
            raise EnvironmentFault(f"cannot write {path}: {error.strerror}", ANOTHER_FOLDER, path=str(path)) from error
        raise _unavailable(url, path, _reason(error)) from error


def _transfer(url: str, arriving: Path, digest: str | None) -> None:
    """Download with torch in a thread, so that a name server or a proxy that never answers can be left behind.

    Raises what torch raises: OSError for the network and the disk, RuntimeError for a wrong hash; TimeoutError after
    PATIENCE seconds without a byte.
    """
    try:
        watched(lambda: torch.hub.download_url_to_file(url, str(arriving), digest, progress=sys.stderr.isatty()), arriving.parent, PATIENCE)
    except (OSError, RuntimeError):
        raise
    except Exception as error:  # urllib passes on what its HTTP parser raises, which has no base class of its own
        raise OSError(f"{type(error).__name__}: {error}") from error  # a server that speaks no HTTP


def _reason(error: OSError) -> str:
    """What the server or the network said: HTTP errors have a code and a reason, others often a reason, which may be an error itself."""
    reason = getattr(error, "reason", None) or error
    code = getattr(error, "code", None)
    return f"HTTP {code} {reason}" if code else str(getattr(reason, "strerror", None) or reason)


def _unavailable(url: str, path: Path, reason: str) -> EnvironmentFault:
    return EnvironmentFault(
        f"{path.name} is not in the cache and cannot be downloaded ({' '.join(reason.split())[:200]})",
        f"download {url} where there is a network and put it into {path.parent}",
        path=str(path),
    )
