"""What is kept of traced models: restored exactly, bound to versions, and never in the way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cnncli import atomic
from cnncli.errors import EnvironmentFault
from cnncli.models import row_cache, sources
from cnncli.models.describe import describe
from cnncli.models.row_cache import Key


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CNN_CACHE", str(tmp_path / "cache"))


def entries() -> list[Path]:
    return sorted(path for path in Path("cache").rglob("*") if path.is_file())


def types(value: object) -> object:
    """The types of everything in a row: a whole number and a fraction of equal value are not the same."""
    return (type(value), [types(item) for item in value]) if isinstance(value, tuple) else type(value)


# Parameters and attention; unknown fields; concatenations; unused parameters.
@pytest.mark.parametrize("name", ["vit_b_32", "swin_t", "densenet121", "inception_v3"])
def test_the_second_time_is_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = describe(f"torchvision/{name}", classes=7)
    monkeypatch.setattr(sources, "make", lambda *_, **__: pytest.fail("made again"))
    second = describe(f"torchvision/{name}", classes=7)
    assert second == first
    assert types(second.rows) == types(first.rows)
    assert [entry.name for entry in entries()] == [f"torchvision-{name}-7classes.json"]


def count_makings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    made: list[str] = []
    real = sources.make

    def make(library: sources.Library, name: str, **options: object) -> object:
        made.append(name)
        return real(library, name, **options)

    monkeypatch.setattr(sources, "make", make)
    return made


def test_input_and_classes_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    made = count_makings(monkeypatch)
    asked = ({}, {"classes": 10}, {"input": (3, 227, 227)}, {"input": (3, 227, 227), "classes": 10})
    first = [describe("torchvision/alexnet", **options) for options in asked]
    assert len(made) == len(entries()) == 4
    assert [describe("torchvision/alexnet", **options) for options in asked] == first
    assert len(made) == 4
    assert len({(d.input, d.classes) for d in first}) == 4


@pytest.mark.parametrize("package", ["cnncli", "torch", "torchvision", "format"])
def test_another_version_is_made_again(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = count_makings(monkeypatch)
    describe("torchvision/alexnet")
    if package == "format":
        monkeypatch.setattr(row_cache, "FORMAT", -1)
    else:
        real = row_cache.versions_of
        monkeypatch.setattr(row_cache, "versions_of", lambda packages: {**real(packages), package: "9.9"})
    describe("torchvision/alexnet")
    describe("torchvision/alexnet")
    assert len(made) == 2
    assert len(entries()) == 1, "what is out of date is replaced"


def test_a_version_of_timm_counts_for_timm_alone() -> None:
    assert "timm" not in row_cache._made_with(Key("torchvision/alexnet", None, None))["versions"]
    pytest.importorskip("timm", reason="timm is an extra")
    assert "timm" in row_cache._made_with(Key("timm/alexnet", None, None))["versions"]


def test_without_versions_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_cache, "versions_of", lambda _: None)
    assert describe("torchvision/alexnet").classes == 1000
    assert entries() == []


def damaged(text: bytes) -> dict[str, bytes]:
    other = b'{"made_with": {}}'
    return {
        "empty": b"",
        "cut off": text[: len(text) // 2],
        "a digit": text.replace(b"conv 11x11", b"conv 12x11", 1),
        "not UTF-8": b"\xff" + text,
        "other JSON": b"00000000\n[]",
        "another key": f"{row_cache._checksum(other.decode())}\n".encode() + other,
        "no object": f"{row_cache._checksum('[]')}\n[]".encode(),
        "deep": f"{row_cache._checksum('[' * 100_000)}\n".encode() + b"[" * 100_000,
    }


def test_a_damaged_file_is_made_again() -> None:
    first = describe("torchvision/alexnet")
    (entry,) = entries()
    whole = entry.read_bytes()
    assert b"conv 11x11" in whole
    for what, content in damaged(whole).items():
        entry.write_bytes(content)
        assert row_cache.load(Key("torchvision/alexnet", None, None)) is None, what
        assert describe("torchvision/alexnet") == first, what
        assert entry.read_bytes() == whole, what
    entry.unlink()
    entry.mkdir()
    assert describe("torchvision/alexnet") == first


def test_every_bit_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    first = describe("torchvision/alexnet")
    (entry,) = entries()
    whole = entry.read_bytes()
    for place in range(0, len(whole), 97):
        entry.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 7]) + whole[place + 1 :])
        assert row_cache.load(Key("torchvision/alexnet", None, None)) in (None, first)


def test_a_disk_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise EnvironmentFault("no space")

    monkeypatch.setattr(atomic, "write_text", full)
    assert describe("torchvision/alexnet").classes == 1000
    assert entries() == []
    monkeypatch.setenv("CNN_CACHE", __file__)
    assert describe("torchvision/alexnet").classes == 1000


def test_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert row_cache.folder() == tmp_path / "cache"
    monkeypatch.delenv("CNN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/x")
    assert row_cache.folder() == Path("/var/x/cnncli")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert row_cache.folder() == tmp_path / ".cache/cnncli"
    for home in ("", "/nonexistent/home"):
        monkeypatch.setenv("HOME", home)
        assert row_cache.folder() is None
    monkeypatch.delenv("HOME")
    assert row_cache.folder() is None


def test_the_second_command_needs_no_torch(tmp_path: Path) -> None:
    """The first command is real; in the second, importing torch, torchvision or numpy ends everything."""
    arguments = [sys.executable, "-m", "cnncli", "shape", "torchvision/resnet18", "--json"]
    options = {"capture_output": True, "text": True, "timeout": 100, "check": False}
    first = subprocess.run(arguments, **options)
    poison = tmp_path / "poison"
    poison.mkdir()
    for name in ("torch", "torchvision", "numpy", "timm"):
        (poison / f"{name}.py").write_text(f"raise RuntimeError('{name} was imported')")
    environment = os.environ | {"PYTHONPATH": str(poison)}
    second = subprocess.run(arguments, env=environment, **options)
    assert (second.returncode, second.stderr) == (0, "")
    assert second.stdout == first.stdout
    assert subprocess.run([*arguments, "--classes", "3"], env=environment, **options).returncode == 4, "the poison works"
