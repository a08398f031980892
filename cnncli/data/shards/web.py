"""Files from a server, read as they arrive: https alone, by way of a proxy where the environment names one, and watched."""

from __future__ import annotations

import http.client
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from email.message import Message
from functools import cache
from typing import IO, BinaryIO, cast

from cnncli.data.retrieve import network_variable, reason_of
from cnncli.data.shards.addresses import SECURE, allowed, may_lead_to
from cnncli.errors import EnvironmentFault, printable
from cnncli.sniff import HEAD_BYTES, sniff_bytes
from cnncli.watched import PATIENCE

AGENT = "cnncli"
FAILURES = (OSError, http.client.HTTPException, ValueError)  # what urllib raises for servers, proxies and addresses of every kind


class Missing(EnvironmentFault):
    """The server says that it has no such file."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects that stay on https; others end in an error that says where they led."""

    def redirect_request(  # noqa: PLR0917 - urllib's
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        if not may_lead_to(req.full_url, newurl):
            raise OSError(f"leads to {newurl[:100]}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


@cache
def _trusted() -> ssl.SSLContext:
    """The certificates of the machine, or of SSL_CERT_FILE: 40 ms to read."""
    return ssl.create_default_context()


def _opener(address: str) -> urllib.request.OpenerDirector:
    """Without what urllib would add by itself: files, FTP, data: addresses."""
    director = urllib.request.OpenerDirector()
    secure = [urllib.request.HTTPSHandler(context=_trusted())] if address.lower().startswith(SECURE) else []
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        *secure,
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
        urllib.request.UnknownHandler(),
    ):
        director.add_handler(handler)
    director.addheaders = [("User-Agent", AGENT)]
    return director


class Arriving:
    """A stream whose first bytes have been looked at. Its errors are OSError."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.head = stream.read(HEAD_BYTES)
        self.kind = sniff_bytes(self.head)

    def read(self, count: int) -> bytes:
        """At most so many bytes; none at the end."""
        if self.head:
            data, self.head = self.head[:count], self.head[count:]
            return data
        try:
            return self.stream.read(count)
        except http.client.HTTPException as error:
            raise OSError(f"the answer broke off ({type(error).__name__})") from error


@contextmanager
def arriving(address: str) -> Iterator[BinaryIO]:
    """The file at an address, to be read once from its beginning.

    EnvironmentFault, with the host and the variable of the proxy or of the certificates: it cannot be had. Missing: HTTP 404 or 410.
    """
    assert allowed(address), address
    try:
        response = _opener(address).open(address, timeout=PATIENCE)
    except urllib.error.HTTPError as error:
        error.close()
        raise _failed(address, reason_of(error), missing=error.code in {404, 410}) from error
    except FAILURES as error:
        raise _failed(address, reason_of(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}") from error
    with closing(response):
        try:
            stream = Arriving(response)
        except FAILURES as error:
            raise _failed(address, str(error) or type(error).__name__) from error
        if stream.kind == "html":
            raise _failed(address, "an HTML page came in its place, perhaps the login page of a network")
        yield cast("BinaryIO", stream)


def whole(address: str, most: int) -> bytes:
    """A small file. EnvironmentFault as in `arriving`, and when it is larger than `most` bytes."""
    pieces, size = [], 0
    with arriving(address) as stream:
        try:
            while piece := stream.read(2**16):
                pieces.append(piece)
                size += len(piece)
                if size > most:
                    raise _failed(address, f"more than {most:,} bytes")
        except OSError as error:
            raise _failed(address, reason_of(error)) from error
    return b"".join(pieces)


def _failed(address: str, reason: str, *, missing: bool = False) -> EnvironmentFault:
    reason = printable(" ".join(reason.split())[:300])
    host = address.split("/")[2]
    hint = f"check the address, the network and {network_variable(reason)}; the host is {printable(host)}"
    return (Missing if missing else EnvironmentFault)(f"cannot read {printable(address)} ({reason})", hint, path=address)
