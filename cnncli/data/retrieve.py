"""Named data sets from the network, with torchvision's own download and its checks; whole or not at all.

torchvision writes files under their final names and unpacks them there, tries http where https fails, and takes what a proxy
answers for the file. So it is given a temporary folder inside the data root, and a transfer of ours in the place of its own:
https alone, watched, and never an HTML page. When its checks have passed, everything moves to where it belongs.
"""

from __future__ import annotations

import errno
import os
import re
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cnncli import watched
from cnncli.atomic import remove_stale, temporary_folder
from cnncli.data.named import NamedSet
from cnncli.errors import CnnError, EnvironmentFault, InputError, printable
from cnncli.sniff import sniff

Tell = Callable[[str], None]

SECURE = ("https://",)
ANOTHER_FOLDER = "free space, or choose another folder: --data-root DIR"
ARCHIVES = (".tar.gz", ".tgz", ".tar", ".zip", ".gz")  # of what is downloaded, these are unpacked and then no longer needed

_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.EFBIG, errno.ENOTDIR, errno.EEXIST}


def obtain(name: str, known: NamedSet, root: Path, make: Callable[[str, Path], object], tell: Tell) -> None:
    """Download the data set `name` into the data root. One process at a time downloads there; others wait and find it done.

    make: lets torchvision download and check a split below a folder. Files that the user has put where torchvision would have
    downloaded them are taken as they are, if their md5 sum is right.

    EnvironmentFault: no network, a server's refusal, damage on the way, a full disk. InputError: such a file of the user's is another.
    """
    if known.by_hand:
        raise EnvironmentFault(
            f"{name} is not in {printable(root)} and cannot be downloaded", known.by_hand.format(root=printable(root)), path=str(root)
        )
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _alone(root, tell):
            remove_stale(root)
            if known.is_here(root):
                return
            tell(f"downloading {name} ({known.megabytes:,} MB) to {root}")
            with temporary_folder(root) as part:
                fetcher = _Fetcher(part, root, known, tell)
                with fetcher.in_torchvision():
                    for split in known.splits:
                        make(split, part)
                fetcher.remove_archives()
                _move(part, root)
    except OSError as error:
        raise EnvironmentFault(
            f"cannot write the data folder {printable(root)}: {error.strerror or error}", ANOTHER_FOLDER, path=str(root)
        ) from error


@contextmanager
def replaced(thing: Any, **values: Any) -> Iterator[None]:
    """Attributes of a module or class with other values for a while."""
    before = {name: getattr(thing, name) for name in values}
    for name, value in values.items():
        setattr(thing, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(thing, name, value)


class _Fetcher:
    """Stands in torchvision.datasets.utils for what it downloads and checks with, while a data set is made.

    part: the temporary folder that torchvision takes for the data root. root: the real one.
    """

    def __init__(self, part: Path, root: Path, known: NamedSet, tell: Tell) -> None:
        self.part, self.root, self.known, self.tell = part, root, known, tell
        self.addresses: dict[Path, str] = {}

    @contextmanager
    def in_torchvision(self) -> Iterator[None]:
        """Whatever goes wrong inside is an EnvironmentFault or InputError that names the file."""
        from torchvision.datasets import utils

        self.resolve, self.is_intact, self.md5 = utils._get_redirect_url, utils.check_integrity, utils.calculate_md5  # noqa: SLF001
        ours = {"_urlretrieve": self.retrieve, "_get_redirect_url": lambda url, **_: url, "check_integrity": self.check}
        # An archive whose sum is not known (FGVC-Aircraft's) must not write outside its folder either.
        safely = {"extraction_filter": staticmethod(tarfile.data_filter)} if hasattr(tarfile.TarFile, "extraction_filter") else {}
        try:
            with replaced(utils, **ours), replaced(tarfile.TarFile, **safely):
                yield
        except CnnError:
            raise
        except Exception as error:  # damaged archives make tarfile, zlib, scipy and torchvision raise anything
            if isinstance(error, OSError) and error.errno in _DISK:
                raise
            told = printable(" ".join(str(error).split())[:200] or type(error).__name__)
            last = next(reversed(self.addresses), self.part)
            raise self._failed(f"damaged on the way: {told}", self.addresses.get(last, "nothing"), self._final(last)) from error

    def retrieve(self, url: str, filename: str | os.PathLike[str], *_: Any, **__: Any) -> None:
        """Put the file of `url` at `filename`: the user's, where it lies at its place in the data root, else from the network."""
        target, address = Path(filename), self._address(url)
        self.addresses[target] = address
        placed = self._final(target)
        if placed.is_file():
            target.symlink_to(placed)
        else:
            self._fetch(address, target)

    def check(self, path: str | os.PathLike[str], md5: str | None = None) -> bool:
        """Whether the file at `path` is there and has this sum. One that was downloaded and has not is downloaded once more."""
        target = Path(path)
        if target not in self.addresses or self.is_intact(path, md5):
            return bool(self.is_intact(path, md5))
        address, placed = self.addresses[target], self._final(target)
        if target.is_symlink():
            raise InputError(
                f"{printable(placed)} is not the file of {address}: its md5 sum is {self.md5(path)}, expected {md5}",
                "remove it, then run this again to download it",
                path=str(placed),
            )
        self.tell(f"note: {address} arrived damaged; once more")
        target.unlink()
        self._fetch(address, target)
        if not self.is_intact(path, md5):
            raise self._failed(f"damaged on the way: md5 sum {self.md5(path)}, expected {md5}", address, placed)
        return True

    def remove_archives(self) -> None:
        """Remove what was downloaded and then unpacked. Files of the user's stay."""
        for target in self.addresses:
            if target.name.endswith(ARCHIVES) and target.is_file() and not target.is_symlink():
                target.unlink()

    def _final(self, target: Path) -> Path:
        return self.root / target.relative_to(self.part)

    def _address(self, url: str) -> str:
        url = re.sub("^http://", "https://", url)
        old, new = self.known.addresses or ("", "")
        return new + url.removeprefix(old) if old and url.startswith(old) else url

    def _fetch(self, address: str, target: Path) -> None:
        """Download `address` to `target`, in a folder of its own, so that what is still arriving has no name that anybody reads."""
        import torch

        self.tell(f"downloading {address}")
        arriving = Path(tempfile.mkdtemp(dir=self.part)) / "file"

        def work() -> None:
            if not address.startswith(SECURE):
                raise OSError("not an https address")
            where = self.resolve(address)  # redirects are followed by name: one that leaves https is not
            if not where.startswith(SECURE):
                raise OSError(f"leads to {where}, which is not https")
            torch.hub.download_url_to_file(where, str(arriving), progress=sys.stderr.isatty())

        final = self._final(target)
        try:
            watched.watched(work, arriving.parent)
        except OSError as error:
            if error.errno in _DISK:
                raise
            raise self._failed(reason_of(error), address, final) from error
        except Exception as error:  # a server that speaks no HTTP
            raise self._failed(f"{type(error).__name__}: {error}", address, final) from error
        if sniff(arriving) == "html":
            raise self._failed("an HTML page came in its place, perhaps the login page of a network", address, final)
        arriving.replace(target)
        arriving.parent.rmdir()

    def _failed(self, reason: str, address: str, final: Path) -> EnvironmentFault:
        reason = printable(" ".join(reason.split())[:300])
        network = "" if reason.startswith(("HTTP ", "damaged")) else f"check the network and {network_variable(reason)}, or "
        return EnvironmentFault(f"download failed ({reason}): {address}", f"{network}place file at {printable(final)}", path=str(final))


def reason_of(error: OSError) -> str:
    """What the server or the network said: HTTP errors have a code and a reason, others often a reason, which may be an error itself."""
    reason = getattr(error, "reason", None) or error
    code = getattr(error, "code", None)
    if code:
        return f"HTTP {code} {reason}"
    if type(reason).__name__ == "gaierror":
        return f"the host's name cannot be looked up: {getattr(reason, 'strerror', None) or reason}"
    if type(reason).__name__ == "SSLCertVerificationError":
        return f"the host's certificate is not trusted: {getattr(reason, 'verify_message', reason)}"
    return str(getattr(reason, "strerror", None) or reason)


def network_variable(reason: str) -> str:
    """The environment variable to look at after a failure: that of the certificates, or of the proxy, without its password."""
    if "certificate" in reason:
        return "SSL_CERT_FILE"
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        if value := os.environ.get(name):
            return f"{name}={printable(value.rpartition('@')[2])}"
    return "HTTPS_PROXY (not set)"


@contextmanager
def _alone(root: Path, tell: Tell) -> Iterator[None]:
    """One process at a time inside; the operating system lets go when a process ends in whatever way."""
    try:
        import fcntl
    except ImportError:  # not a Unix
        yield
        return
    descriptor = os.open(root, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell(f"waiting for another process that downloads to {root}")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:
            pass  # a file system that knows no locks
        yield
    finally:
        os.close(descriptor)


def _move(part: Path, root: Path) -> None:
    """Everything below `part` to the same place below `root`; a folder that is new there moves in one step. Links are left out."""
    for entry in sorted(part.iterdir()):
        place = root / entry.name
        if entry.is_symlink():
            continue
        if entry.is_dir() and place.is_dir():
            _move(entry, place)
        else:
            entry.replace(place)
