"""Tar shards for tests, honest and hostile, and a server for them that can be told how to misbehave."""

from __future__ import annotations

import io
import json
import tarfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from harness import picture

Files = list[tuple[str, bytes]]
CLASSES = ("red", "green", "blue")


@cache
def png(number: int, kind: int = 0) -> bytes:
    stream = io.BytesIO()
    picture(number, kind=kind).save(stream, "PNG")
    return stream.getvalue()


def samples(first: int, count: int, classes: int = 3) -> Files:
    """The files of `count` samples: 00007.png, 00007.cls."""
    found = []
    for number in range(first, first + count):
        found += [(f"{number:05d}.png", png(number, number % classes)), (f"{number:05d}.cls", str(number % classes).encode())]
    return found


def tar(files: Files, form: int = tarfile.USTAR_FORMAT) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as archive:
        for name, data in files:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return stream.getvalue()


def shard_set(counts: Mapping[str, int]) -> dict[str, bytes]:
    """Every file of a set of shards: {"train-000.tar": 5} holds five samples; with classes.txt and sizes.json."""
    made, first = {}, 0
    for name, count in counts.items():
        made[name] = tar(samples(first, count))
        first += count
    return made | {"classes.txt": "\n".join(CLASSES).encode(), "sizes.json": json.dumps(dict(counts)).encode()}


def write(folder: Path, made: Mapping[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in made.items():
        (folder / name).write_bytes(data)
    return folder


@dataclass
class Server:
    """files: by name; bytes are given, a number is a status, a text an address to go to. cut: how many bytes of a file arrive, by name;
    the first so many times, where that is a list. asked: the names, in order.
    """

    files: dict[str, bytes | int | str]
    cut: dict[str, list[int]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    address: str = ""


@contextmanager
def serving(files: Mapping[str, bytes | int | str]) -> Iterator[Server]:
    state = Server(dict(files))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.lstrip("/")
            state.asked.append(name)
            answer = state.files.get(name, 404)
            if isinstance(answer, int):
                self.send_error(answer)
                return
            if isinstance(answer, str):
                self.send_response(302)
                self.send_header("Location", answer)
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            cuts = state.cut.get(name)
            self.wfile.write(answer[: cuts.pop(0)] if cuts else answer)

        def log_message(self, *arguments: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *arguments: object) -> None:
            pass

    server = Quiet(("127.0.0.1", 0), Handler)
    state.address = f"http://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
