"""Named data sets from the network: servers, proxies and disks that fail. USPS stands for all: two small files, each with its md5 sum."""

from __future__ import annotations

import bz2
import errno
import hashlib
import io
import os
import shutil
import signal
import ssl
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from harness import HTML, assert_failed, run, unchanged

from cnncli import watched
from cnncli.data import retrieve
from cnncli.data.source import open_source
from cnncli.errors import CnnError, EnvironmentFault, InputError


def usps(label: int) -> bytes:
    line = f"{label} " + " ".join(f"{pixel}:{(pixel * 7919 % 200) / 100 - 1}" for pixel in range(1, 257))
    return bz2.compress((line + "\n").encode() * 40)


FILES = {"/usps.bz2": usps(1), "/usps.t.bz2": usps(10)}
PLACES = ["usps.bz2", "usps.t.bz2"]


@dataclass
class Server:
    """What it answers for each path: bytes, a status, or a word for how it misbehaves. asked: the paths, in order."""

    answers: dict[str, bytes | int | str] = field(default_factory=lambda: dict(FILES))
    asked: list[str] = field(default_factory=list)
    address: str = ""
    release: threading.Event = field(default_factory=threading.Event)

    def use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """torchvision's USPS lies here."""
        from torchvision.datasets import USPS

        rows = {
            split: [f"{self.address}{path}", path[1:], hashlib.md5(FILES[path]).hexdigest()]
            for split, path in zip(("train", "test"), FILES, strict=True)
        }
        monkeypatch.setattr(USPS, "split_list", rows)


def serve(state: Server, context: ssl.SSLContext | None = None) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(self.path)
            answer = state.answers.get(self.path, 404)
            if isinstance(answer, int):
                self.send_error(answer)
                return
            if isinstance(answer, str) and answer.startswith("http"):
                self.send_response(302)
                self.send_header("Location", answer)
                self.end_headers()
                return
            body = FILES[self.path] if isinstance(answer, str) else answer
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if isinstance(answer, str) else body)
            if answer == "stall":
                self.wfile.flush()
                state.release.wait(20)

        def log_message(self, *arguments: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *arguments: object) -> None:
            pass

    running = Quiet(("127.0.0.1", 0), Handler)
    if context:
        running.socket = context.wrap_socket(running.socket, server_side=True)
    threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
    return running


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server without TLS, which is let through for these tests alone."""
    monkeypatch.setattr(retrieve, "SECURE", ("http://127.0.0.1",))
    monkeypatch.setattr(retrieve._Fetcher, "_address", lambda self, url: url)
    state = Server()
    running = serve(state)
    state.address = f"http://127.0.0.1:{running.server_port}"
    state.use(monkeypatch)
    yield state
    state.release.set()
    running.shutdown()
    running.server_close()


def opened(root: Path, told: list[str] | None = None) -> list[str]:
    source = open_source("usps", val_fraction=0, data_root=str(root), tell=(told if told is not None else []).append)
    return [source.classes[s.label] for s in source.samples("all")]


def fails(root: Path, pattern: str, kind: type[CnnError] = EnvironmentFault) -> CnnError:
    """One line, and nothing is left in the data root that was not there."""
    before = sorted(root.rglob("*")) if root.exists() else []
    with pytest.raises(kind, match=pattern) as caught:
        opened(root)
    assert "\n" not in str(caught.value)
    assert (sorted(root.rglob("*")) if root.exists() else []) == before
    return caught.value


def test_D25_a_download(server: Server, tmp_path: Path) -> None:
    """The tests below could not fail without it: the fake is what the class reads. The second time asks nobody."""
    told: list[str] = []
    assert opened(tmp_path / "new/root", told) == ["0"] * 40 + ["9"] * 40
    assert sorted(os.listdir(tmp_path / "new/root")) == PLACES
    assert told[0] == f"downloading usps (8 MB) to {tmp_path}/new/root"
    assert told[1:] == [f"downloading {server.address}{path}" for path in FILES]
    server.asked.clear()
    assert len(opened(tmp_path / "new/root")) == 80
    assert server.asked == []


@pytest.mark.parametrize("status", [403, 404, 429, 500])
def test_D25_the_server_refuses(status: int, server: Server, tmp_path: Path) -> None:
    server.answers["/usps.bz2"] = status
    error = fails(tmp_path, rf"download failed \(HTTP {status} .+\): {server.address}/usps.bz2; place file at {tmp_path}/usps.bz2")
    assert error.path == str(tmp_path / "usps.bz2")


def test_D25_the_first_file_is_kept_out_when_the_second_fails(server: Server, tmp_path: Path) -> None:
    server.answers["/usps.t.bz2"] = 403
    fails(tmp_path, r"HTTP 403 .*place file at .*/usps.t.bz2")


@pytest.mark.parametrize("kind", ["cut off", "another file"])
def test_D25_damaged_on_the_way(kind: str, server: Server, tmp_path: Path) -> None:
    """Once more, and not a third time; then the sum is told."""
    server.answers["/usps.t.bz2"] = "cut off" if kind == "cut off" else b"other bytes"
    md5 = hashlib.md5(FILES["/usps.t.bz2"]).hexdigest()
    fails(tmp_path, rf"download failed \(damaged on the way: md5 sum [0-9a-f]{{32}}, expected {md5}\): .*/usps.t.bz2; place file at")
    assert server.asked.count("/usps.t.bz2") == 2 * len(set(server.asked)), "torchvision asks each time where the address leads first"


def test_D25_damaged_once(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.answers["/usps.bz2"] = "cut off"
    told: list[str] = []

    def tell(line: str) -> None:
        told.append(line)
        if "arrived damaged" in line:
            server.answers["/usps.bz2"] = FILES["/usps.bz2"]

    source = open_source("usps", val_fraction=0, data_root=str(tmp_path), tell=tell)
    assert len(source.samples("all")) == 80
    assert any("arrived damaged; once more" in line for line in told)


def test_D25_a_file_that_the_user_placed(server: Server, tmp_path: Path) -> None:
    (tmp_path / "usps.bz2").write_bytes(FILES["/usps.bz2"])
    assert len(opened(tmp_path)) == 80
    assert set(server.asked) == {"/usps.t.bz2"}
    assert not (tmp_path / "usps.bz2").is_symlink()


def test_D25_another_file_that_the_user_placed(server: Server, tmp_path: Path) -> None:
    (tmp_path / "usps.bz2").write_bytes(b"not it")
    fails(tmp_path, rf"{tmp_path}/usps.bz2 is not the file of {server.address}/usps.bz2: its md5 sum is .*; remove it", InputError)
    assert (tmp_path / "usps.bz2").read_bytes() == b"not it"


def test_D25_killed_while_it_arrives(server: Server, tmp_path: Path) -> None:
    """The next run never reads the part, and clears it away."""
    server.answers["/usps.t.bz2"] = "stall"
    child = os.fork()
    if child == 0:
        try:
            opened(tmp_path)
        finally:
            os._exit(0)
    deadline = time.monotonic() + 20
    while server.asked.count("/usps.t.bz2") < 2 and time.monotonic() < deadline:  # where does it lead, and what is it
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    left = [path.name for path in tmp_path.iterdir()]
    assert len(left) == 1
    assert left[0].startswith(".cnn-part-")
    server.answers.update(FILES)
    assert len(opened(tmp_path)) == 80
    assert sorted(os.listdir(tmp_path)) == PLACES, "and nothing of the part"


def test_D25_ctrl_c_leaves_nothing(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(work: Callable[[], None], folder: Path) -> None:
        (folder / "file.partial").write_bytes(b"x" * 100)
        raise KeyboardInterrupt

    monkeypatch.setattr(watched, "watched", interrupt)
    with pytest.raises(KeyboardInterrupt):
        opened(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_D25_two_at_once(server: Server, tmp_path: Path) -> None:
    children = []
    for _ in range(2):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = 0 if len(opened(tmp_path)) == 80 else 2
            finally:
                os._exit(code)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]
    assert sorted(os.listdir(tmp_path)) == PLACES
    assert server.asked.count("/usps.bz2") == server.asked.count("/usps.t.bz2") == 2, "one of the two has waited"


def test_D25_an_archive_is_unpacked_and_removed(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Aircraft's archive has no sum in torchvision: cut off, it is refused, and a path that leads out of the folder is not followed."""
    from torchvision.datasets import FGVCAircraft

    def archive(name: str) -> bytes:
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w:gz") as made:
            for path, text in {
                "variants.txt": b"A\nB\n",
                **{f"images_variant_{split}.txt": b"1 A\n2 B\n" for split in ("train", "val", "test")},
                "images/1.jpg": os.urandom(5000),
                "images/2.jpg": b"",
            }.items():
                entry = tarfile.TarInfo(f"{name}/data/{path}")
                entry.size = len(text)
                made.addfile(entry, io.BytesIO(text))
        return stream.getvalue()

    monkeypatch.setattr(FGVCAircraft, "_URL", f"{server.address}/aircraft.tar.gz")
    root = tmp_path / "root"
    root.mkdir()
    for bad in (archive("fgvc-aircraft-2013b")[:-3000], archive("../../evil")):
        server.answers["/aircraft.tar.gz"] = bad
        with pytest.raises(EnvironmentFault, match=rf"damaged on the way: .*place file at {root}/aircraft.tar.gz"):
            open_source("fgvc-aircraft", data_root=str(root))
        assert os.listdir(tmp_path) == ["root"]
        assert os.listdir(root) == []
    server.answers["/aircraft.tar.gz"] = archive("fgvc-aircraft-2013b")
    assert open_source("fgvc-aircraft", data_root=str(root)).classes == ("A", "B")
    assert os.listdir(root) == ["fgvc-aircraft-2013b"]


def test_D25_https_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision names http for this set, and tries http again where https fails: neither is asked."""
    from torchvision.datasets import USPS

    state = Server()
    running = serve(state)
    state.address = f"http://127.0.0.1:{running.server_port}"
    state.use(monkeypatch)
    try:
        fails(tmp_path, rf"download failed \(.*SSL.*\): https://127.0.0.1:{running.server_port}/usps.bz2")
        assert state.asked == []
        assert USPS.split_list["train"][0].startswith("http:")
    finally:
        running.shutdown()
        running.server_close()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate for 127.0.0.1, in one file."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("certificate")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -keyout key.pem -out certificate.pem"
    subprocess.run(
        [*command.split(), "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return folder


@pytest.fixture
def secure(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "certificate.pem", certificate / "key.pem")
    state = Server()
    running = serve(state, context)
    state.address = f"https://127.0.0.1:{running.server_port}"
    state.use(monkeypatch)
    yield state
    running.shutdown()
    running.server_close()


def test_D25_redirected_away_from_https(
    secure: Server, server: Server, certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "certificate.pem"))
    monkeypatch.setattr(retrieve, "SECURE", ("https://",))
    secure.use(monkeypatch)
    assert len(opened(tmp_path / "a")) == 80
    secure.answers["/usps.bz2"] = f"{server.address}/usps.bz2"
    fails(tmp_path / "b", rf"download failed \(leads to {server.address}/usps.bz2, which is not https\): {secure.address}/usps.bz2")


def test_D26_an_intercepted_connection(secure: Server, tmp_path: Path) -> None:
    fails(
        tmp_path, r"download failed \(the host's certificate is not trusted: .+\): .*; check the network and SSL_CERT_FILE, or place file"
    )
    assert secure.asked == []


def test_D26_a_login_page_is_not_stored(server: Server, tmp_path: Path) -> None:
    server.answers["/usps.bz2"] = HTML
    fails(
        tmp_path, r"download failed \(an HTML page came in its place.*\): .*; check the network and HTTPS_PROXY \(not set\), or place file"
    )


def test_D26_no_such_host(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieve, "SECURE", ("http://",))
    server.address = "http://data.invalid"
    server.use(monkeypatch)
    fails(
        tmp_path,
        r"download failed \(the host's name cannot be looked up: .+\): http://data.invalid/usps.bz2; check the network and HTTPS_P",
    )


def test_D26_nobody_listens(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.address = "http://127.0.0.1:9"
    server.use(monkeypatch)
    fails(tmp_path, r"download failed \(Connection refused\): http://127.0.0.1:9/usps.bz2; check the network")


def test_D26_a_server_that_stops_talking(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert watched.PATIENCE < 18
    monkeypatch.setattr(watched.watched, "__defaults__", (0.4,))
    server.answers["/usps.bz2"] = "stall"
    fails(tmp_path, r"download failed \(no answer in 0.4 s\): ")


def test_D26_a_full_disk(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(work: Callable[[], None], folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(watched, "watched", full)
    fails(tmp_path, rf"cannot write the data folder {tmp_path}: No space left on device; free space, or .* --data-root DIR")


@pytest.mark.slow
def test_D26_a_proxy_that_refuses(here: Path, tmp_path: Path) -> None:
    """From the installed command; a password stays out of the message."""
    root = tmp_path / "root"
    with unchanged(here):
        done = run(
            *("train", "lenet5", "--data", "usps", "--data-root", root),
            cwd=here,
            warm=True,
            https_proxy="http://me:secret@127.0.0.1:9",
        )
    assert_failed(done, 4, r"download failed \(.*Connection refused\): https://www.csie.ntu.edu.tw/.*/usps.bz2; check the network and")
    assert f"https_proxy=127.0.0.1:9, or place file at {root}/usps.bz2" in done.errors[0]
    assert "secret" not in done.err
    assert list(root.iterdir()) == []


@pytest.mark.slow
def test_G10_no_home_and_no_cache_for_data(here: Path, tmp_path: Path) -> None:
    arguments = ("train", "lenet5", "--data", "mnist")
    done = run(*arguments, cwd=here, warm=True, HOME="/nonexistent")
    assert_failed(done, 4, "there is no home folder to keep data sets in; set CNN_CACHE, or use --data-root DIR")
    (tmp_path / "file").touch()
    done = run(*arguments, cwd=here, warm=True, CNN_CACHE=str(tmp_path / "file"))
    assert_failed(done, 4, rf"cannot write the data folder {tmp_path}/file/data: Not a directory; .*--data-root DIR")
    done = run(*arguments, "--data-root", tmp_path / "file", cwd=here, warm=True)
    assert_failed(done, 4, rf"cannot write the data folder {tmp_path}/file: File exists")


@pytest.mark.slow
def test_G14_torchvision_of_another_torch(here: Path, tmp_path: Path) -> None:
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision/__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')\n")
    (tmp_path / "root").mkdir()
    for place in PLACES:
        (tmp_path / "root" / place).touch()
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    done = run("train", "lenet5", "--data", "usps", "--data-root", tmp_path / "root", cwd=here, PYTHONPATH=path)
    assert_failed(done, 4, "torchvision cannot be imported .*torchvision::nms does not exist; pip install --upgrade torch torchvision")
