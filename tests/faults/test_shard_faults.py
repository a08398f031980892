"""Shards that are cut off, forged or elsewhere: one line each, and never a byte written."""

from __future__ import annotations

import errno
import io
import os
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import HTML, Done, assert_failed, run, unchanged
from sharding import png, samples, serving, shard_set, tar, write

from cnncli.data import decode
from cnncli.data.shards import local
from cnncli.data.shards.archive import Damaged, FileCursor, StreamCursor, members
from cnncli.data.source import open_source
from cnncli.errors import CnnError, InputError

TRAIN = ("train", "lenet5", "--input", "1x32x32", "--epochs", "1", "--data")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNN_CACHE", str(tmp_path / "cache"))


def refused(folder: Path, made: dict[str, bytes], pattern: str, **options) -> InputError:
    """Opening must fail with one line that fits, and write nothing beside the cache."""
    write(folder, made)
    with unchanged(folder), pytest.raises(InputError, match=pattern) as told:
        open_source(str(folder), **options)
    assert "\n" not in str(told.value)
    return told.value


def test_D1_a_shard_that_breaks_off_at_any_block(tmp_path: Path) -> None:
    whole = tar([*samples(0, 4), ("n" * 120 + ".txt", b"x")], tarfile.PAX_FORMAT)
    end = whole.rstrip(b"\0")
    end_mark = -(-len(end) // 512) * 512
    for cut in range(0, end_mark + 1, 512):
        for odd in (0, 100):
            data = whole[: min(cut + odd, end_mark)]
            made = {"train-0.tar": tar(samples(9, 3)), "train-1.tar": data}
            told = refused(tmp_path / f"{cut}-{odd}", made, r"train-1\.tar is (damaged|no tar archive): (it breaks off after|empty file)")
            assert told.code == 3
    folder = write(tmp_path / "whole", {"train-1.tar": whole[: end_mark + 512]})
    assert len(open_source(str(folder), val_fraction=0).samples("train")) == 4


def test_D1_a_flipped_byte_in_a_header_is_told(tmp_path: Path) -> None:
    whole = tar(samples(0, 3))
    for place in (0, 3, 110, 130, 148, 156, 257, 344, 1024 + 5, 2048 + 156):
        data = bytearray(whole)
        data[place] ^= 0x15
        refused(tmp_path / str(place), {"a.tar": bytes(data)}, r"damaged: (its header at byte|it is not a tar archive)")


HEADERS: dict[str, Callable[[tarfile.TarInfo], None]] = {
    "up": lambda m: setattr(m, "name", "../../up.png"),
    "inside": lambda m: setattr(m, "name", "a/../../b.png"),
    "absolute": lambda m: setattr(m, "name", "/tmp/cnn-absolute.png"),
    "link": lambda m: (setattr(m, "type", tarfile.SYMTYPE), setattr(m, "linkname", "/etc/passwd")),
    "hard link": lambda m: (setattr(m, "type", tarfile.LNKTYPE), setattr(m, "linkname", "00000.png")),
    "device": lambda m: (setattr(m, "type", tarfile.BLKTYPE), setattr(m, "devmajor", 8)),
    "FIFO": lambda m: setattr(m, "type", tarfile.FIFOTYPE),
    "sparse": lambda m: setattr(m, "pax_headers", {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "x.png"}),
    "setuid": lambda m: setattr(m, "mode", 0o6777),
    "unknown": lambda m: setattr(m, "type", b"Q"),
}


@pytest.mark.parametrize("kind", HEADERS)
def test_D14_links_devices_and_names_that_lead_out_are_skipped_and_told(tmp_path: Path, kind: str) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in [*samples(0, 3), ("evil.png", png(9)), ("evil.cls", b"1"), *samples(3, 3)]:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            if name == "evil.png":
                HEADERS[kind](member)
                if not member.isreg() and kind != "unknown":
                    member.size = 0
            archive.addfile(member, io.BytesIO(data))
    folder = write(tmp_path / "in" / "s", {"a.tar": stream.getvalue()})
    with unchanged(tmp_path / "in"):
        source = open_source(str(folder), val_fraction=0)
        for sample in source.samples("train"):
            source.read(sample)
    assert len(source.samples("train")) == (7 if kind == "setuid" else 6)
    assert not Path("/tmp/cnn-absolute.png").exists()
    if kind != "setuid":
        assert any(word in source.notices[0] for word in (kind.removeprefix("hard "), "..", "unknown kinds"))


def header(name: bytes, size: bytes, kind: bytes = b"0") -> bytes:
    block = bytearray(struct.pack("100s8s8s8s12s12s8sc100s8s", name, b"644", b"0", b"0", size, b"0", b" " * 8, kind, b"", b"ustar\x0000"))
    block += bytes(512 - len(block))
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize(
    "data",
    [
        header(b"x", b"77777777777\0", b"x"),  # an extended header of 8 GB
        header(b"x", b"77777777777\0", b"L") + bytes(2048),
        header(b"x.png", b"77777777777\0") + bytes(2048),
        header(b"x.png", b"\x80" + b"\xff" * 11) + bytes(2048),  # 2**88 bytes
        header(b"x.png", b"\xff" * 12) + bytes(2048),
        header(b"x.png", b"99999999999\0") + bytes(2048),
        header(b"x", b"00000000024\0", b"x") + b"99999 path=x\n".ljust(512, b"\0") + bytes(2048),
        header(b"x", b"00000000024\0", b"x") + b"0 path=x\n".ljust(512, b"\0") + bytes(2048),
        header(b"x", b"00000000024\0", b"x") + b"15 size=-10000\n".ljust(512, b"\0") + bytes(2048),
        header(b"x", b"00000000024\0", b"x") + b"\xff\xfe not a record".ljust(512, b"\0") + bytes(2048),
        header(b"x.png", b"00000000000\0", b"S") + bytes(100),
        b"\x1f\x8b\x08" + bytes(1000),
        b"no tar at all, but long enough to hold a header" * 20,
        b"",
    ],
)
def test_D20_forged_headers_end_in_one_line_and_take_no_memory(tmp_path: Path, data: bytes) -> None:
    import tracemalloc

    tracemalloc.start()
    refused(tmp_path / "s", {"a.tar": data}, r"a\.tar is (damaged|no tar archive)")
    with pytest.raises(Damaged):
        list(members(StreamCursor(io.BytesIO(data)), __import__("collections").Counter()))
    assert tracemalloc.get_traced_memory()[1] < 4_000_000
    tracemalloc.stop()


@pytest.mark.slow
def test_D20_two_thousand_forged_archives(tmp_path: Path) -> None:
    """L12: whatever bytes change, an archive is read or refused, files and streams alike, and nothing is written."""
    import random
    from collections import Counter

    rng = random.Random(12)
    base = [tar([*samples(0, 2), ("n" * 80 + "/" + "n" * 80 + ".png", png(3))], form) for form in (0, 1, 2)]
    place = tmp_path / "x.tar"
    before = sorted(tmp_path.iterdir())
    for _ in range(2_000):
        data = bytearray(rng.choice(base))
        for _ in range(rng.randint(1, 6)):
            at = rng.randrange(len(data) // 512) * 512 + rng.choice([0, 1, 99, 124, 130, 135, 156, 157, 257, 345, rng.randrange(512)])
            data[at] = rng.choice([0, 0x2E, 0x2F, 0x30, 0x37, 0x80, 0xFF, rng.randrange(256), *b"12345LKxgS"])
        if rng.random() < 0.9:  # sums that are right again let the rest of the header through
            for at in range(0, len(data), 512):
                if data[at + 257 : at + 262] == b"ustar":
                    data[at + 148 : at + 156] = b"%06o\0 " % (sum(data[at : at + 148]) + 256 + sum(data[at + 156 : at + 512]))
        found: list[object] = []
        place.write_bytes(data)
        descriptor = os.open(place, os.O_RDONLY)
        for cursor in (FileCursor(descriptor), StreamCursor(io.BytesIO(data))):
            try:
                found.append([(m.name, m.offset, m.size) for m in members(cursor, Counter())])
            except Damaged:
                found.append("damaged")
        os.close(descriptor)
        assert found[0] == found[1]
    place.unlink()
    assert sorted(tmp_path.iterdir()) == before


def test_D10_shards_without_samples_classes_or_labels(tmp_path: Path) -> None:
    def with_labels(*labels: bytes, **more: bytes) -> dict[str, bytes]:
        files = [item for n, label in enumerate(labels) for item in ((f"{n}.png", png(n)), (f"{n}.cls", label))]
        return {"train.tar": tar(files)} | {name.replace("_", "."): data for name, data in more.items()}

    apart = tar(sorted(samples(0, 4), key=lambda file: file[0][-3:]))
    for number, (made, pattern) in enumerate(
        [
            ({"a.tar": tar([])}, "holds no samples"),
            ({"a.tar": apart}, "4 .cls files without an image.*one behind the other"),
            (with_labels(b"1", b"1"), "one class only"),
            (with_labels(b"cat", b"Cat"), "differ only in case"),
            (with_labels(b"0", b"2", classes_txt=b"a\nb\n"), "has the label 2, which is none of the 2 classes"),
            (with_labels(b"0", b"bird", classes_txt=b"a\nb\n"), "has the label bird"),
            (with_labels(b"0", b"1", classes_txt=b"a\nb\nc\n"), "classes without training images: c; .*--allow-empty"),
            (with_labels(b"0", b"1", classes_txt=b"a\n\nc\n"), "line 2 is no class name"),
            (with_labels(b"0", b"1", classes_txt=b"a\na\n"), "names a twice"),
            (with_labels(b"0", b"1", classes_txt=b"\xff\xfea"), "not UTF-8"),
            (with_labels(b"0", b"1") | {"val.tar": tar([("9.png", png(9)), ("9.cls", b"5")])}, "val has classes that train lacks: 5"),
            (with_labels(b"0", b"1") | {"other.tar": tar([])}, "other.tar .*is in no split"),
        ]
    ):
        refused(tmp_path / str(number), made, pattern)


def test_D4_a_shard_that_changes_or_vanishes_after_it_was_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path / "s", {"a.tar": tar(samples(0, 6))})
    source = open_source(str(folder), val_fraction=0)
    sample = source.samples("train")[4]
    good = source.locate(sample)
    fails = [2]
    real = os.open

    def shaky(path, *more, **options):
        if str(path).endswith("a.tar") and fails[0]:
            fails[0] -= 1
            raise OSError(errno.EIO, "Input/output error")
        return real(path, *more, **options)

    monkeypatch.setattr(local, "PAUSES", (0.0, 0.0))
    monkeypatch.setattr(local.os, "open", shaky)
    assert source.locate(sample) == good  # two failures are forgiven
    fails[0] = 3
    with pytest.raises(decode.BadImage, match=r"a\.tar/00004\.png: Input/output error"):
        source.read(sample)
    monkeypatch.undo()
    (folder / "a.tar").write_bytes(tar(samples(1, 6)))
    os.utime(folder / "a.tar", ns=(1, 1))
    with pytest.raises(decode.BadImage, match="has changed since it was opened"):
        source.read(sample)
    (folder / "a.tar").unlink()
    with pytest.raises(decode.BadImage, match="No such file"):
        source.read(sample)


def failed(arguments: tuple[str, ...], here: Path, code: int, pattern: str, **variables: str) -> Done:
    with unchanged(here):
        done = run(*TRAIN, *arguments, cwd=here, warm=True, **variables)
    assert_failed(done, code, pattern)
    return done


@pytest.mark.parametrize(
    "address",
    ["pipe:touch here", "http://example.com/a.tar", "file:///etc/a.tar", "ftp://host/a.tar", "https://me:secret@host/a.tar",
     "https://host/a.tar?key=1", "https://host/a.zip", "https://host/a.tar::https://other/b.tar", "gs://bucket/a.tar"],
)  # fmt: skip
def test_D26_addresses_that_are_not_taken(here: Path, address: str) -> None:
    done = failed((address,), here, 2, "--data 'https://host/folder")
    assert "secret" not in done.err


def test_D26_networks_that_fail(here: Path) -> None:
    pytest.importorskip("webdataset")
    failed(
        ("https://no-such-host.invalid/a.tar",), here, 4, r"cannot be looked up.*HTTPS_PROXY \(not set\); the host is no-such-host\.invalid"
    )
    proxied = {"https_proxy": "http://me:secret@127.0.0.1:9", "SSL_CERT_FILE": ""}
    done = failed(("https://no-such-host.invalid/a.tar",), here, 4, r"https_proxy=127\.0\.0\.1:9", **proxied)
    assert "secret" not in done.err
    with serving({"classes.txt": HTML if isinstance(HTML, bytes) else HTML.encode()}) as server:
        failed((server.address + "a.tar",), here, 4, "an HTML page came in its place")
    failed((server.address + "a.tar",), here, 4, r"Connection refused.*127\.0\.0\.1")


def test_D25_servers_that_refuse(here: Path) -> None:
    pytest.importorskip("webdataset")
    made = shard_set({"train-0.tar": 30, "val-0.tar": 10})
    with serving(made) as server:
        spec = f"{server.address}train-0.tar::{server.address}val-0.tar"
        del server.files["sizes.json"]
        failed((spec,), here, 3, r"sizes\.json is missing; put there how many samples each shard holds: \{\"train-0\.tar\": 1000")
        server.files["sizes.json"] = b'{"train-0.tar": 30}'
        failed((spec,), here, 3, r"sizes\.json lacks val-0\.tar")
        for wrong in (b"[1]", b'{"train-0.tar": "x"}', b"{", b'{"train-0.tar": 0, "val-0.tar": 0}'):
            server.files["sizes.json"] = wrong
            failed((spec,), here, 3, r"sizes\.json (is no|says that)")
        server.files |= made | {"classes.txt": 403}
        failed((spec,), here, 4, "HTTP 403")
        del server.files["classes.txt"]
        failed((spec,), here, 3, r"classes\.txt is missing; put there the class names")
        server.files |= made | {"train-0.tar": 500}
        failed((spec,), here, 4, r"train-0\.tar \(HTTP 500")
        server.files |= made | {"train-0.tar": made["train-0.tar"][:5000]}
        failed((spec,), here, 1, r"of 30 samples .*could not be read.*breaks off after 5,000 bytes")


def test_G14_the_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    from cnncli.data.shards import remote

    monkeypatch.setattr(remote, "find_spec", lambda _: None)
    with pytest.raises(CnnError, match=r"pip install 'cnncli\[webdataset\]'") as told:
        remote.open_remote("https://host/a.tar")
    assert told.value.code == 4
