"""What is an address and not a path, and which addresses shards are read from: https alone. Nothing here reaches for the network."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from cnncli.data.shards.naming import BETWEEN, expand, refuse_twice
from cnncli.errors import UsageError, printable

SECURE, BARE = "https://", "http://"
EXAMPLE = "for example --data 'https://host/folder/train-{000..099}.tar'"

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_OWN = re.compile(r"http://(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?/", re.IGNORECASE)
_SECRET = re.compile(r"//[^/]*@")
_WHOLE = re.compile(r"https?://[^/?#@\s]+/[^?#\s]+", re.IGNORECASE)


class Shards(NamedTuple):
    """Remote shards: the address of their folder, with its slash, and their names in it."""

    folder: str
    names: list[str]


def is_address(spec: str) -> bool:
    """Whether `spec` is meant as an address: `https://...`, and whatever else begins like one."""
    found = _SCHEME.match(spec)
    return found is not None and not spec.startswith(BETWEEN, found.end() - 1) and not os.path.lexists(spec)


def refuse_address(spec: str) -> UsageError:
    """The error where only data that lie here can be taken."""
    if spec.lower().startswith((SECURE, BARE)):
        return UsageError(
            f"'{printable(spec)}' is only streamed, by `cnn train` and `cnn eval`: remote shards are not audited, nothing of them is kept",
            "download some of them and give their files: 'shards/train-{000..009}.tar'",
            path=spec,
        )
    return _refused(spec, "is no address that data are read from")


def remote_shards(spec: str) -> Shards:
    """The shards that `spec` names. UsageError for anything but https addresses of .tar files in one folder.

    http is taken from this machine alone, for tests. `pipe:` and every other scheme is refused: the first would be a shell command.
    Passwords and queries are refused too: the address is written into run folders.
    """
    names = [name for pattern in spec.split(BETWEEN) for name in expand(pattern)]
    for name in names:
        if not allowed(name):
            raise _refused(name, "is not an https address")
        if not _WHOLE.fullmatch(name) or not name.isprintable():
            raise _refused(name, "is no plain address: it should have a host and a path, and neither a password nor a query")
        if not name.lower().endswith(".tar"):
            raise _refused(name, "is no .tar")
    refuse_twice(names)
    folders = sorted({name.rpartition("/")[0] + "/" for name in names})
    if len(folders) > 1:
        raise _refused(folders[1], f"is another folder than {printable(folders[0])}: all shards should lie in one")
    return Shards(folders[0], [name.rpartition("/")[2] for name in names])


def allowed(address: str) -> bool:
    """https, or http from this machine."""
    return address.lower().startswith(SECURE) or bool(_OWN.match(address))


def may_lead_to(address: str, new: str) -> bool:
    """Whether a redirect is followed: to https, and on this machine to itself."""
    return new.lower().startswith(SECURE) or bool(_OWN.match(address) and _OWN.match(new))


def _refused(spec: str, what: str) -> UsageError:
    return UsageError(f"'{printable(_SECRET.sub('//...@', spec))}' {what}", EXAMPLE, path="--data")
