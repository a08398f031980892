"""Remote shards: the same samples as local ones, grouped as webdataset groups them; orders, ranks, resumption, losses."""

from __future__ import annotations

import io
import json
import tarfile
import threading
import time
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import pytest
import torch
from sharding import Server, png, samples, serving, shard_set, tar, write

from cnncli.data.augment import Augment
from cnncli.data.classes import match_classes
from cnncli.data.form import Form
from cnncli.data.loader import Batch, Loader
from cnncli.data.pixels import load_pixels
from cnncli.data.preprocess import Preprocess
from cnncli.data.shards import loader as shard_loader
from cnncli.data.shards import stream as shard_stream
from cnncli.data.shards import web
from cnncli.data.shards.either import open_loader
from cnncli.data.shards.loader import ShardLoader
from cnncli.data.shards.remote import RemoteShards, open_remote, read_shard
from cnncli.data.shards.stream import ShardStream
from cnncli.data.source import open_source
from cnncli.data.threads import Stalled
from cnncli.errors import CnnError, EnvironmentFault, InputError, UsageError

webdataset = pytest.importorskip("webdataset.tariterators")

SMALL = Preprocess(3, 8, 8)
SIZES = {"train-000.tar": 30, "train-001.tar": 7, "train-002.tar": 25, "train-003.tar": 20, "val-000.tar": 9}
SETS = shard_set(SIZES)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(SETS) as state:
        yield state


def opened(server: Server, pattern: str = "train-{000..003}.tar", **options) -> RemoteShards:
    return open_remote("::".join(server.address + part for part in pattern.split("::")), **options)


def loader(server: Server, *, whole: bool = False, **options) -> ShardLoader:
    source = opened(server, val_fraction=0)
    options = {"batch_size": 8, "seed": 3, "shuffle": True} | options
    return ShardLoader(ShardStream(source, "train", Form(SMALL, whole), threads=2), SMALL, **options)


def equal(one: list[Batch], two: list[Batch]) -> bool:
    return len(one) == len(two) and all(
        torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels) and torch.equal(a.indices, b.indices)
        for a, b in zip(one, two, strict=True)
    )


def indices(batches: list[Batch]) -> list[int]:
    return [index for batch in batches for index in batch.indices.tolist()]


def test_local_remote_and_webdataset_itself_give_the_same_samples(tmp_path: Path) -> None:
    """Three readers: ours of files, ours of streams, and webdataset's, with tarfile's, on plain streams."""
    odd = [
        *samples(0, 5),
        ("d.x/a.b.png", b"not plain"),
        ("e.PNG", png(30)),
        ("e.cls", b"1"),
        ("f.png", png(31)),
        ("g.png", png(32)),
        ("g.jpg", b"second"),
        ("g.cls", b"2"),
        ("h.cls", b"2"),
        ("dir.d/i.png", png(33)),
        ("dir.d/i.json", b"{}"),
        ("dir.d/i.cls", b"0"),
    ]
    made = {f"{form}.tar": tar(odd, form) for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)}
    more = {"classes.txt": b"a\nb\nc", "sizes.json": json.dumps(dict.fromkeys(made, 8)).encode()}
    local = open_source(str(write(tmp_path / "s", made | more)), val_fraction=0)
    with serving(made | more) as server:
        remote = opened(server, "{0..2}.tar", val_fraction=0)
        for name, data in made.items():
            ours = [(found.name, found.label, found.image) for found in read_shard(remote, name)]
            files = [(s.path, s.label, local.locate(s)) for s in local.samples("train") if s.path.startswith(name)]
            theirs = []
            for found in webdataset.group_by_keys(webdataset.tar_file_expander([{"url": name, "stream": io.BytesIO(data)}])):
                images = [extension for extension in found if extension in {"png", "jpg"}]
                if images and "cls" in found:
                    theirs.append((f"{name}/{found['__key__']}.{images[0]}", int(found["cls"]), found[images[0]]))
            assert ours == files == theirs
            assert len(ours) == 8


def test_unshuffled_batches_are_those_of_the_local_loader(tmp_path: Path, server: Server) -> None:
    write(tmp_path / "s", SETS)
    local = open_source(str(tmp_path / "s"))
    for split in ("train", "val"):
        want = Loader(load_pixels(local, split, SMALL), SMALL, batch_size=8)
        remote = ShardStream(opened(server, "train-{000..003}.tar::val-000.tar"), split, Form(SMALL))
        got = ShardLoader(remote, SMALL, batch_size=8)
        assert (len(got), got.count) == (len(want), want.count)
        assert equal(list(got.epoch(0)), list(want.epoch(0)))
    assert sorted(remote.some().flatten(1).sum(1).tolist()) == sorted(want.pixels.images.flatten(1).sum(1).tolist())


def test_seed_and_epoch_decide_the_order(server: Server) -> None:
    one = indices(list(loader(server).epoch(1)))
    assert sorted(one) == list(range(82))
    assert indices(list(loader(server, batch_size=20).epoch(1))) == one
    assert indices(list(loader(server, threads=5).epoch(1))) == one
    assert one != indices(list(loader(server).epoch(2)))
    assert one != indices(list(loader(server, seed=4).epoch(1)))


@pytest.mark.parametrize("buffer", [2000, 10])
@pytest.mark.parametrize("start", [1, 5, 11])
def test_w2_resumed_mid_epoch(server: Server, start: int, buffer: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_loader, "BUFFER", buffer)
    augment = Augment(flip=True, shift=1, crop_scale=0.3, mixup=0.4)
    whole = list(loader(server, whole=True, augment=augment).epoch(2))
    assert len(whole) == 11
    server.asked.clear()
    assert equal(list(loader(server, whole=True, augment=augment).epoch(2, start)), whole[start:])
    if start == 11:
        assert not [name for name in server.asked if name.endswith(".tar")]
    elif buffer == 10 and start == 5:
        assert len([name for name in server.asked if name.endswith(".tar")]) < 4  # what was seen is not asked for


def test_the_buffer_bounds_what_waits(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_loader, "BUFFER", 10)
    data = loader(server)
    shards, order = data._order(1)
    arriving = [index for shard in shards for index in range(data.pixels.starts[shard], data.pixels.starts[shard + 1])]
    place = {index: number for number, index in enumerate(arriving)}
    assert sorted(order.tolist()) == list(range(82))
    assert order.tolist() != arriving
    assert max(abs(place[index] - number) for number, index in enumerate(order.tolist())) <= 10


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_ranks_read_different_shards_and_make_as_many_batches(server: Server, ranks: int) -> None:
    data = [loader(server, rank=rank, ranks=ranks, batch_size=9) for rank in range(ranks)]
    assert len({len(own) for own in data}) == 1
    for epoch in (1, 2):
        seen = [list(own.epoch(epoch)) for own in data]
        assert {len(batches) for batches in seen} == {len(data[0])}
        told = [index for batches in seen for index in indices(batches)]
        assert len(told) == len(set(told))
    judged = [index for rank in range(ranks) for index in indices(list(loader(server, rank=rank, ranks=ranks, shuffle=False).epoch(0)))]
    assert sorted(judged) == list(range(82))


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("shuffle", [True, False])
def test_batches_know_how_many_images_the_whole_batch_has(server: Server, ranks: int, *, shuffle: bool) -> None:
    shares = [list(loader(server, rank=rank, ranks=ranks, batch_size=10, shuffle=shuffle).epoch(2)) for rank in range(ranks)]
    for parts in zip_longest(*shares):
        there = [batch for batch in parts if batch]
        assert {batch.total for batch in there} == {sum(len(batch.labels) for batch in there)}
    resumed = loader(server, ranks=ranks, batch_size=10, shuffle=shuffle).epoch(2, 3)
    assert [batch.total for batch in resumed] == [batch.total for batch in shares[0][3:]]


def test_a_server_that_stalls_is_an_error_that_names_the_shard(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = threading.Event()
    read = ShardStream.read

    def hangs(self: ShardStream, number: int) -> Iterator[tuple[int, object]]:
        for place, found in enumerate(read(self, number)):
            if (self.shards[number], place) == ("train-002.tar", 20):
                ends.wait(20)
            yield found

    monkeypatch.setattr(ShardStream, "read", hangs)
    source = opened(server, val_fraction=0)
    began = time.monotonic()
    try:
        with pytest.raises(Stalled, match=r"reading images stalls: train-002\.tar takes longer than 0\.4 s"):
            list(open_loader(ShardStream(source, "train", Form(SMALL)), SMALL, batch_size=8, stall=0.4).epoch(0))
        assert time.monotonic() - began < 8
    finally:
        ends.set()


def test_shards_cannot_be_balanced(server: Server) -> None:
    with pytest.raises(UsageError, match="no class can be drawn more often") as told:
        open_loader(ShardStream(opened(server), "train", Form(SMALL)), SMALL, batch_size=8, shuffle=True, balanced=True)
    assert told.value.path == "--sampling"


def test_what_is_at_hand_is_balanced_by_the_same_call(tmp_path: Path) -> None:
    local = load_pixels(open_source(str(write(tmp_path / "s", SETS))), "train", SMALL)
    data = open_loader(local, SMALL, batch_size=8, shuffle=True, balanced=True, stall=3)
    assert isinstance(data, Loader)
    assert (data.balanced, data.stall) == (True, 3)


def test_too_few_shards_for_the_ranks(server: Server) -> None:
    with pytest.raises(UsageError, match="4 shards are too few for 5"):
        loader(server, rank=0, ranks=5)


def test_validation_shards_that_no_name_gives(server: Server) -> None:
    source = opened(server)
    assert {split: len(shards) for split, shards in source.splits.items()} == {"train": 3, "val": 1}
    assert "val is made of 1 of the 4 shards: " + source.splits["val"][0] in source.notices[0]
    assert opened(server).splits == source.splits
    assert opened(server, test_fraction=0.25).splits["test"]
    assert "val" not in opened(server, "train-000.tar").splits
    assert opened(server, "train-{000..001}.tar::val-000.tar").splits["val"] == ("val-000.tar",)


def test_classes_are_matched_by_name(server: Server) -> None:
    source = match_classes(("blue", "green", "red", "white"), opened(server), subset=True)
    assert [found.label for found in read_shard(source, "train-000.tar")][:3] == [2, 1, 0]
    with pytest.raises(InputError, match="does not know"):
        match_classes(("blue", "green"), opened(server))


def test_d4_a_shard_that_breaks_off_is_read_again(server: Server) -> None:
    want = list(loader(server).epoch(1))
    server.cut = {"train-000.tar": [3000, 9000], "train-002.tar": [0]}
    data = loader(server)
    assert equal(list(data.epoch(1)), want)
    assert data.pixels.bad == []
    assert server.asked.count("train-000.tar") == 1 + 3


def test_lost_and_bad_samples_are_left_out_and_counted_up_to_a_hundredth(monkeypatch: pytest.MonkeyPatch) -> None:
    files = samples(0, 120)
    files[20] = ("00010.png", b"\x89PNG\r\n\x1a\nbroken")
    made = shard_set({"a.tar": 300, "b.tar": 120}) | {"b.tar": tar(files)}
    with serving(made) as server:
        pixels = ShardStream(opened(server, "{a,b}.tar", val_fraction=0), "train", Form(SMALL), threads=2)
        data = ShardLoader(pixels, SMALL, batch_size=50, seed=1, shuffle=True)
        for epoch in (1, 2):
            seen = indices(list(data.epoch(epoch)))
            assert sorted(seen) == [index for index in range(420) if index != 310]
            assert [bad.name for bad in pixels.bad] == ["b.tar/00010.png"]
        server.files["a.tar"] = tar(samples(0, 297))  # fewer than sizes.json tells
        seen = indices(list(data.epoch(3)))
        assert sorted(seen) == [index for index in range(420) if index not in (297, 298, 299, 310)]
        assert "3 of 300 samples did not arrive" in pixels.bad[1].reason
        server.files["a.tar"] = tar(samples(0, 310))  # more: the rest is left alone
        assert len(indices(list(data.epoch(3)))) == 419
        server.cut = {"a.tar": [100_000] * 3}
        with pytest.raises(CnnError, match=r"more than 1%.*breaks off") as told:
            list(data.epoch(4))
        assert told.value.code == 1
        del server.files["a.tar"]
        with pytest.raises(EnvironmentFault, match="HTTP 404"):
            list(ShardLoader(ShardStream(pixels.source, "train", Form(SMALL)), SMALL, batch_size=50).epoch(0))
    strict = ShardStream(pixels.source, "train", Form(SMALL), skip_bad=False)
    monkeypatch.setattr(shard_stream, "read_shard", lambda *_: iter([]))
    with pytest.raises(CnnError, match="did not arrive"):
        strict.some()


def test_an_unknown_label_names_the_sample() -> None:
    made = shard_set({"a.tar": 3}) | {"a.tar": tar([("x/1.png", png(1)), ("x/1.cls", b"7")])}
    with serving(made) as server, pytest.raises(InputError, match=r"a\.tar/x/1\.png has the label 7"):
        list(ShardLoader(ShardStream(opened(server, "a.tar"), "train", Form(SMALL)), SMALL, batch_size=2).epoch(0))


def test_an_epoch_that_is_left_leaves_no_thread(server: Server) -> None:
    epoch = loader(server).epoch(1)
    next(epoch)
    epoch.close()
    ends = time.monotonic() + 5
    while any(thread.name == "cnn-shards" for thread in threading.enumerate()) and time.monotonic() < ends:
        time.sleep(0.02)
    assert not [thread for thread in threading.enumerate() if thread.name == "cnn-shards"]


def test_batches_can_be_made_while_a_model_is_judged(server: Server) -> None:
    with torch.inference_mode():
        assert len(list(loader(server, shuffle=False).epoch(0))) == 11


def test_redirects_stay_secure(server: Server) -> None:
    server.files |= {"here": f"{server.address}classes.txt", "there": "http://example.com/x", "file": "file:///etc/passwd"}
    assert web.whole(server.address + "here", 1000) == SETS["classes.txt"]
    for name in ("there", "file"):
        with pytest.raises(EnvironmentFault, match=r"not https|HTTP 302"):
            web.whole(server.address + name, 1000)
    with pytest.raises(EnvironmentFault, match="more than 3 bytes"):
        web.whole(server.address + "classes.txt", 3)
