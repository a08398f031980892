"""Downloads, from a server on this machine that behaves and misbehaves; and the cache that makes them unnecessary."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from cnncli.errors import EnvironmentFault, InputError
from cnncli.models import download
from cnncli.models.download import fetch

CONTENT = os.urandom(1_000_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
NAME = f"net-{DIGEST[:8]}.pth"


@dataclass
class Server:
    """What it sends for each request in turn (the last one from then on), and what it was asked."""

    answers: list[bytes | int | str] = field(default_factory=lambda: [CONTENT])
    asked: list[str] = field(default_factory=list)
    address: str = ""
    release: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = state.answers[min(len(state.asked), len(state.answers) - 1)]
            state.asked.append(self.path)
            if isinstance(answer, int):
                self.send_error(answer)
                return
            if answer == "silence":
                state.release.wait(20)
                return
            cut = answer == "cut off"
            body = CONTENT if isinstance(answer, str) else answer
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if cut or answer == "stall" else body)
            if answer == "stall":
                self.wfile.flush()
                state.release.wait(20)

        def log_message(self, *arguments: object) -> None:
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.daemon_threads = True
    threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
    state.address = f"http://127.0.0.1:{running.server_port}"
    yield state
    state.release.set()
    running.shutdown()
    running.server_close()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "home" / "hub" / "checkpoints"


def fails(url: str, cache: Path, *told: str) -> list[str]:
    """fetch must end as an EnvironmentFault that names file, address and folder; and leave nothing behind."""
    talk: list[str] = []
    begun = time.monotonic()
    with pytest.raises(EnvironmentFault) as caught:
        fetch(url, talk.append)
    assert time.monotonic() - begun < 20
    message = str(caught.value)
    assert "\n" not in message
    for part in (url.rsplit("/", 1)[1], url, str(cache), *told):
        assert part in message, message
    assert not cache.exists() or list(cache.iterdir()) == []
    return talk


def test_downloaded_once_and_then_never_again(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    talk: list[str] = []
    url = f"{server.address}/models/{NAME}"
    assert fetch(url, talk.append) == cache / NAME
    assert (cache / NAME).read_bytes() == CONTENT
    assert os.listdir(cache) == [NAME]
    assert talk == [f"downloading {url} to {cache / NAME}"]
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *a, **k: pytest.fail("the network was asked"))
    monkeypatch.setattr(socket, "create_connection", lambda *a, **k: pytest.fail("the network was asked"))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: pytest.fail("a name server was asked"))
    assert fetch(url, talk.append) == cache / NAME
    assert len(talk) == 1
    assert server.asked == [f"/models/{NAME}"]
    assert capfd.readouterr() == ("", ""), "standard output is for results, and standard error is no terminal here"


def test_torch_itself_takes_the_file(server: Server, cache: Path) -> None:
    """The cache is torch's: what was fetched here is not fetched again by torchvision."""
    torch.save({"x": torch.ones(3)}, cache.parent.parent.parent / "x.pth")
    body = (cache.parent.parent.parent / "x.pth").read_bytes()
    server.answers = [body]
    url = f"{server.address}/x-{hashlib.sha256(body).hexdigest()[:8]}.pth"
    fetch(url, print)
    assert torch.equal(torch.hub.load_state_dict_from_url(url, check_hash=True, weights_only=True)["x"], torch.ones(3))
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [404, 403, 429, 500])
def test_an_error_of_the_server(status: int, server: Server, cache: Path) -> None:
    server.answers = [status]
    fails(f"{server.address}/{NAME}", cache, f"HTTP {status} ")


@pytest.mark.parametrize("bad", [b"<html>log in first</html>", "cut off"])
def test_damaged_on_the_way(bad: bytes | str, server: Server, cache: Path) -> None:
    """Once more, and not a third time."""
    server.answers = [bad, CONTENT]
    talk: list[str] = []
    assert fetch(f"{server.address}/{NAME}", talk.append).read_bytes() == CONTENT
    assert os.listdir(cache) == [NAME]
    assert "arrived damaged" in talk[1]
    (cache / NAME).unlink()
    server.asked.clear()
    server.answers = [bad]
    fails(f"{server.address}/{NAME}", cache, DIGEST[:8])
    assert len(server.asked) == 2


@pytest.mark.parametrize("kind", ["silence", "stall"])
def test_a_server_that_stops_talking(kind: str, server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PATIENCE", 0.5)
    server.answers = [kind]
    fails(f"{server.address}/{NAME}", cache, "no answer")


def test_patience_is_below_twenty_seconds() -> None:
    assert download.PATIENCE < 18


def test_a_name_server_that_never_answers(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PATIENCE", 0.5)
    asleep = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: asleep.wait(20) or [])
    fails(f"http://models.example/{NAME}", cache, "no answer")
    asleep.set()


def test_no_network(cache: Path) -> None:
    fails(f"http://models.invalid/{NAME}", cache)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        fails(f"http://127.0.0.1:{closed.getsockname()[1]}/{NAME}", cache, "refused")


def test_a_server_that_speaks_something_else(cache: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            connection, _ = listening.accept()
            connection.recv(1000)
            connection.sendall(b"220 mail\r\n")
            connection.close()

        threading.Thread(target=answer, daemon=True).start()
        fails(f"http://127.0.0.1:{listening.getsockname()[1]}/{NAME}", cache, "220 mail")


def test_a_full_disk(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(url: str, target: str, *rest: object, **options: object) -> None:
        Path(f"{target}.partial").write_bytes(b"x" * 100)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch.hub, "download_url_to_file", full)
    with pytest.raises(EnvironmentFault, match=rf"cannot write {cache}/{NAME}: No space left on device; .*TORCH_HOME"):
        fetch(f"http://models.invalid/{NAME}", print)
    assert list(cache.iterdir()) == []


def test_a_cache_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "file"))
    with pytest.raises(EnvironmentFault, match=r"cannot write .*TORCH_HOME"):
        fetch(f"http://models.invalid/{NAME}", print)


def test_ctrl_c_leaves_nothing(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.answers = ["stall"]
    seen: list[int] = []

    def interrupt(folder: Path) -> int:
        seen.append(sum(file.stat().st_size for file in folder.iterdir()))
        if seen[-1] > 0:
            raise KeyboardInterrupt
        return seen[-1]

    monkeypatch.setattr("cnncli.watched._bytes_in", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch(f"{server.address}/{NAME}", print)
    assert seen[-1] > 0
    assert list(cache.iterdir()) == []


def test_two_at_once(server: Server, cache: Path) -> None:
    url = f"{server.address}/{NAME}"
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(fetch(url, lambda _: None))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [cache / NAME] * 4
    assert os.listdir(cache) == [NAME]
    assert (cache / NAME).read_bytes() == CONTENT


def test_a_cached_file_is_checked_at_every_use(cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / NAME).write_bytes(CONTENT[:-1])
    found = hashlib.sha256(CONTENT[:-1]).hexdigest()[:8]
    with pytest.raises(InputError, match=rf"sha256 differs \(expected {DIGEST[:8]}, got {found}\): {cache}/{NAME}; remove that file"):
        fetch(f"http://models.invalid/{NAME}", print)
    assert (cache / NAME).read_bytes() == CONTENT[:-1], "a file of the user's is not removed"
    (cache / NAME).unlink()
    (cache / NAME).mkdir()
    with pytest.raises(InputError, match="should be a file of weights"):
        fetch(f"http://models.invalid/{NAME}", print)
    (cache / "plain.pth").write_bytes(b"anything")
    assert fetch("http://models.invalid/plain.pth", print) == cache / "plain.pth"
