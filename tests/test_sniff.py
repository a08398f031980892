"""What a file is by its bytes, and that nothing but a regular file is opened."""

from __future__ import annotations

import io
import os
import pickle
import socket
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from cnncli.errors import printable
from cnncli.sniff import IMAGE_KINDS, sniff, sniff_bytes, what_is_wrong


@pytest.mark.parametrize(
    ("form", "kind"),
    [("JPEG", "jpeg"), ("PNG", "png"), ("GIF", "gif"), ("BMP", "bmp"), ("WEBP", "webp"), ("TIFF", "tiff"), ("PPM", "ppm"), ("ICO", "icon")],
)
def test_what_pillow_writes_is_recognised(form: str, kind: str) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 20)).save(buffer, form)
    assert sniff_bytes(buffer.getvalue()[:512]) == kind


def zip_bytes() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a", "b")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"", "empty"),
        (b"\n <!DOCTYPE HTML><html>", "html"),
        (b"\xef\xbb\xbf<html lang=en>", "html"),
        (b"<!-- saved --><html>", "html"),
        (b"<?xml version='1.0'?><svg xmlns=''>", "svg"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "git-lfs pointer"),
        (zip_bytes(), "zip"),
        (pickle.dumps([1]), "pickle"),
        ((20).to_bytes(8, "little") + b'{"__metadata__":{}  }', "safetensors"),
        (b"%PDF-1.7", "pdf"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "postscript"),
        (b"\x00\x05\x16\x07\x00", "appledouble"),
        (b"\0" * 257 + b"ustar", "tar"),
        ("path,label\nä,".encode() + "é".encode()[:1], "text"),  # cut inside a character
        (b"BMW and Audi are cars", "text"),
        (b"RIFF\0\0\0\0WAVE", "unknown"),
        (os.urandom(8).replace(b"P", b"Q") and b"\xfe\xdc\x01\x02", "unknown"),
    ],
)
def test_kinds(head: bytes, kind: str) -> None:
    assert sniff_bytes(head) == kind
    assert what_is_wrong(kind)
    assert "\n" not in what_is_wrong(kind)


def test_every_prefix_of_anything_has_a_kind() -> None:
    for length in range(40):
        for value in (0, 0x50, 0x80, 0xFF):
            assert sniff_bytes(bytes([value]) * length)


def test_d14_special_files_are_told_and_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "x.jpg")
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s.jpg")
        assert sniff(tmp_path / "x.jpg") == "fifo"  # would block for ever if opened
        assert sniff("s.jpg") == "socket"
    assert sniff("/dev/null") == "device"
    assert sniff(tmp_path) == "folder"
    assert sniff(tmp_path / "nothing") == "missing"
    assert sniff("a\0b") == "unreadable"
    (tmp_path / "loop").symlink_to("loop")
    assert sniff(tmp_path / "loop") == "unreadable"
    assert not {"fifo", "socket", "device", "folder"} & IMAGE_KINDS


def test_printable_is_one_safe_line() -> None:
    assert printable("cat ö 한국.jpg") == "cat ö 한국.jpg"
    assert printable("a\nb\x1b[1m\u202e") == "a\\nb\\x1b[1m\\u202e"
    assert printable(os.fsdecode(b"x\xff.jpg")) == "x\\udcff.jpg"
