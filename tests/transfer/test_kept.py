"""Training from kept features is training on the images; and their batches are those that `Loader` would give."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cnncli.data.keyed import VIEW, keyed_integers
from cnncli.data.loader import Batch
from cnncli.engine.config import OptimConfig, TrainConfig
from cnncli.engine.distributed import World
from cnncli.engine.training import Plan, Training
from cnncli.transfer import kept as kept_module
from cnncli.transfer.chain import structure_of
from cnncli.transfer.kept import Kept, KeptLoader, bytes_needed, compute, prefix_forward, room_for
from cnncli.transfer.partial import Partial, Prefix

ALONE = World()
COUNT = 21


class Shifted:
    """Variation n of an image: moved by n pixels. In its own order, as images are looked at whose features are to be kept."""

    def __init__(self, loader: Any, missing: tuple[int, ...] = ()) -> None:
        self.loader, self.missing = loader, missing

    @property
    def count(self) -> int:
        return self.loader.count

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        for batch in self.loader.epoch(number, start):
            left = batch.only([place for place, index in enumerate(batch.indices.tolist()) if index not in self.missing])
            yield replace(left, images=moved(left.images, number))


def moved(images: Tensor, number: int) -> Tensor:
    return torch.roll(images, number, dims=2)


def pooled(images: Tensor) -> Tensor:
    """A stand-in for a frozen part: [N, 3, 8, 8] to [N, 3, 2, 4]."""
    return nn.functional.avg_pool2d(images, (4, 2))


def kept_of(make_loader: Any, *, views: int = 3, mirror: bool = False, forward: Any = pooled, **options: Any) -> Kept:
    plain = make_loader(batch_size=8)
    return compute(forward, plain, Shifted(plain), views=views, mirror=mirror, world=options.pop("world", ALONE), **options)


def view_of(images: Tensor, view: int, *, mirror: bool) -> Tensor:
    """View `view` of images in their own order, written out."""
    if not mirror:
        return moved(images, view)
    turned = moved(images, view // 2)
    return turned.flip(3) if view % 2 else turned


def all_images(make_loader: Any) -> Tensor:
    return torch.cat([batch.images for batch in make_loader(batch_size=8).epoch(0)])


@pytest.mark.parametrize("mirror", [False, True])
def test_what_is_kept(mirror: bool, make_loader, pixels) -> None:
    told: list[tuple[int, int]] = []
    kept = kept_of(make_loader, mirror=mirror, on_progress=lambda done, of: told.append((done, of)))
    assert kept.views == (6 if mirror else 3)
    assert kept.features.shape == (COUNT, kept.views, 3, 2, 4)
    assert torch.equal(kept.labels, pixels.labels)
    assert kept.samples is None
    for view in range(kept.views):
        torch.testing.assert_close(kept.features[:, view], pooled(view_of(all_images(make_loader), view, mirror=mirror)))
    assert told == sorted(told)
    assert told[-1] == (3 * COUNT, 3 * COUNT)


def test_no_graph_is_kept(make_loader) -> None:
    weight = torch.ones(1, requires_grad=True)
    assert not kept_of(make_loader, forward=lambda images: pooled(images) * weight).features.requires_grad


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("batch_size", [4, 5, 8, 64])
def test_order_is_that_of_loader(batch_size: int, ranks: int, balanced: bool, make_loader) -> None:
    """And every image of a batch is in the part of one rank. 21 images: by fours and fives the last one joins the batch before it."""
    kept = kept_of(make_loader)
    for number in (1, 2, 7):
        parts: list[list[Batch]] = []
        for rank in range(ranks):
            options: dict[str, Any] = {
                "batch_size": batch_size,
                "seed": 3,
                "shuffle": True,
                "balanced": balanced,
                "rank": rank,
                "ranks": ranks,
            }
            loader, own = make_loader(**options), KeptLoader(kept, **options)
            assert (len(own), own.count) == (len(loader), loader.count)
            parts.append(list(own.epoch(number)))
            for mine, other in zip(parts[-1], loader.epoch(number), strict=True):
                assert torch.equal(mine.indices, other.indices)
                assert torch.equal(mine.labels, other.labels)
                assert mine.total == other.total
        whole = KeptLoader(kept, batch_size=batch_size, seed=3, shuffle=True, balanced=balanced)
        if len(whole) == len(parts[0]):
            for batch, *shared in zip(whole.epoch(number), *parts, strict=True):
                assert sorted(torch.cat([part.indices for part in shared]).tolist()) == sorted(batch.indices.tolist())
                assert batch.total == sum(len(part.labels) for part in shared)


def test_in_its_own_order_the_first_view_is_seen(make_loader) -> None:
    kept = kept_of(make_loader)
    for ranks in (1, 2):
        found = []
        for rank in range(ranks):
            options = {"batch_size": 8, "rank": rank, "ranks": ranks}
            batches = list(KeptLoader(kept, **options).epoch(4))
            assert [b.indices.tolist() for b in batches] == [b.indices.tolist() for b in make_loader(**options).epoch(4)]
            found += batches
        for batch in found:
            assert torch.equal(batch.images, kept.features[batch.indices, 0])


def test_resumes_at_any_batch(make_loader) -> None:
    loader = KeptLoader(kept_of(make_loader), batch_size=4, seed=1, shuffle=True)
    whole = list(loader.epoch(2))
    for start in range(len(whole) + 1):
        rest = list(loader.epoch(2, start=start))
        assert len(rest) == len(whole) - start
        for one, other in zip(rest, whole[start:], strict=True):
            assert torch.equal(one.images, other.images)
            assert torch.equal(one.indices, other.indices)


def test_every_view_is_seen_in_as_many_epochs(make_loader) -> None:
    """Each image begins with a view of its own, so that an epoch holds all kinds."""
    kept = kept_of(make_loader, views=4)
    loader = KeptLoader(kept, batch_size=4, seed=5, shuffle=True)
    for first in (1, 6):
        seen: dict[int, list[int]] = {index: [] for index in range(COUNT)}
        for number in range(first, first + 4):
            epoch = set()
            for batch in loader.epoch(number):
                for index, features in zip(batch.indices.tolist(), batch.images, strict=True):
                    (view,) = [view for view in range(4) if torch.equal(kept.features[index, view], features)]
                    seen[index].append(view)
                    epoch.add(view)
            assert len(epoch) > 1
        assert all(sorted(views) == [0, 1, 2, 3] for views in seen.values())
    other = KeptLoader(kept, batch_size=4, seed=6, shuffle=True)
    assert not torch.equal(other.views(1), loader.views(1))


def test_on_disk_as_in_memory_and_nothing_is_left(make_loader, tmp_path) -> None:
    memory, disk = kept_of(make_loader, mirror=True), kept_of(make_loader, mirror=True, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert torch.equal(memory.features, disk.features)
    assert torch.equal(memory.labels, disk.labels)
    for one, other in zip(*(KeptLoader(kept, batch_size=4, shuffle=True).epoch(1) for kept in (memory, disk)), strict=True):
        assert torch.equal(one.images, other.images)
    before = disk.features.clone()
    next(KeptLoader(disk, batch_size=21).epoch(0)).images.fill_(7.0)
    assert torch.equal(disk.features, before), "a batch is a copy: a module may change it in place"


def test_where_there_is_room(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(kept_module, "available_memory", lambda: 1000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10_000))
    folder = tmp_path / "new"
    assert [room_for(size, folder) for size in (399, 401, 3999, 4001)] == ["memory", "disk", "disk", ""]
    assert not folder.exists(), "looking makes nothing"
    assert room_for(401, None) == ""
    assert bytes_needed(torch.zeros(1, 3, 2, dtype=torch.bfloat16), 10, 4) == 480


def test_numbers_of_16_bits(make_loader) -> None:
    """Kept as they come, given as float32."""
    exact, rounded = kept_of(make_loader), kept_of(make_loader, forward=lambda images: pooled(images).bfloat16())
    assert rounded.features.dtype == torch.bfloat16
    assert torch.equal(rounded.features, exact.features.bfloat16())
    batch = next(KeptLoader(rounded, batch_size=4, shuffle=True).epoch(1))
    assert batch.images.dtype == torch.float32
    torch.testing.assert_close(batch.images, next(KeptLoader(exact, batch_size=4, shuffle=True).epoch(1)).images, rtol=0.01, atol=0.0)


def test_processes_share_the_work(make_loader) -> None:
    """Each fills in its part; their sum is what one process computes."""
    parts = []
    for rank in range(2):
        plain = make_loader(batch_size=8, rank=rank, ranks=2)
        world = SimpleNamespace(ranks=2, summed=lambda tensor: tensor)  # what each has before they are added up
        seen: list[int] = []

        def forward(images: Tensor, seen: list[int] = seen) -> Tensor:
            seen.append(len(images))
            return pooled(images)

        found: list[Tensor] = []
        world.summed = lambda tensor, found=found: (found.append(tensor.clone()), tensor)[1]
        compute(forward, plain, Shifted(plain), views=3, mirror=False, world=world)  # type: ignore[arg-type]
        assert sum(seen) == 3 * (11 if rank == 0 else 10)
        parts.append(found)
    whole = kept_of(make_loader)
    features, labels, seen_twice = (one + other for one, other in zip(*parts, strict=True))
    assert torch.equal(features, whole.features)
    assert torch.equal(labels, whole.labels)
    assert seen_twice.tolist() == [3] * COUNT


def test_images_that_cannot_be_read_are_left_out(make_loader) -> None:
    """Nothing learns from zeros in their place."""
    plain = make_loader(batch_size=8)
    kept = compute(pooled, Shifted(plain, missing=(4,)), Shifted(plain, missing=(4, 20)), views=2, mirror=False, world=ALONE)
    left = [index for index in range(COUNT) if index not in (4, 20)]
    assert kept.samples is not None
    assert kept.samples.tolist() == left
    whole = kept_of(make_loader, views=2)
    assert torch.equal(kept.features, whole.features[left])
    assert torch.equal(kept.labels, whole.labels[left])
    loader = KeptLoader(kept, batch_size=4, shuffle=True)
    assert loader.count == 19
    batches = list(loader.epoch(1))
    assert sorted(torch.cat([batch.indices for batch in batches]).tolist()) == left
    for batch in batches:
        assert torch.equal(batch.labels, whole.labels[batch.indices])


def test_a_prefix_is_computed_as_it_is(make_net, make_loader) -> None:
    """float32 up to rounding, norms folded or not; in 16 bits up to theirs."""
    model = make_net("residual", torch.float32).eval()
    structure = structure_of(model, torch.zeros(1, 3, 8, 8))
    prefix = Prefix(model, structure.cut_before(["stage.1.conv1"])).eval()
    images = all_images(make_loader)
    with torch.no_grad():
        wanted = prefix(images)
    found = prefix_forward(prefix, images, "fp32", torch.device("cpu"), count=0)(images)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    rounded = prefix_forward(prefix, images, "bf16", torch.device("cpu"), count=0)(images)
    assert not torch.equal(rounded.float(), wanted)
    torch.testing.assert_close(rounded.float(), wanted, rtol=0.05, atol=0.05)
    torch.testing.assert_close(
        prefix_forward(prefix, images, "auto", torch.device("cpu"), count=0)(images).float(), wanted, rtol=0.05, atol=0.05
    )


@pytest.mark.parametrize("name", ["residual", "reused", "plain"])
def test_training_from_what_is_kept_is_training_on_the_images(name: str, make_net, make_loader, pixels) -> None:
    """Three epochs of the deepest block and the classifier, with batch norm and dropout: the same weights but for rounding."""
    views, seed, mirror = 2, 9, True
    learning_paths = ("4.", "5.", "9.") if name == "plain" else ("stage.1.", "fc.")
    images, labels = all_images(make_loader), pixels.labels

    def made(cut_off: bool) -> tuple[Training, Any]:
        model = make_net(name, torch.float32)
        structure = structure_of(model, torch.zeros(1, 3, 8, 8))
        learning = [key for key, _ in model.named_parameters() if key.startswith(learning_paths)]
        cut = structure.cut_before([key.rpartition(".")[0] for key in learning])
        part = Partial(model, structure, learning, cut if cut_off else None)
        training = Training(part, Plan(TrainConfig(epochs=3, seed=seed), OptimConfig(lr=0.05, warmup=0.0, clip_grad=0.0), 5, 3))
        return training, Prefix(copy.deepcopy(model).eval(), cut)

    cached, prefix = made(True)
    start = {key: tensor.clone() for key, tensor in cached.weights().items()}
    kept = kept_of(make_loader, views=views, mirror=mirror, forward=prefix)
    assert not kept.features.requires_grad
    torch.manual_seed(seed)
    loader = KeptLoader(kept, batch_size=4, seed=seed, shuffle=True)
    cached.model.train()
    for number in (1, 2, 3):
        for batch in loader.epoch(number):
            cached.step(batch)

    def uncached(offset: int) -> Training:
        training, _ = made(False)
        order = make_loader(batch_size=4, seed=seed, shuffle=True)
        begin = keyed_integers(seed, 0, np.arange(COUNT), VIEW, 2 * views)
        training.model.train()
        torch.manual_seed(seed)
        for number in (1, 2, 3):
            for batch in order.epoch(number):
                chosen = [
                    view_of(images[index : index + 1], int((begin[index] + number + offset) % (2 * views)), mirror=mirror)
                    for index in batch.indices.tolist()
                ]
                training.step(Batch(torch.cat(chosen), labels[batch.indices], batch.indices))
        return training

    whole, other = uncached(0).weights(), uncached(1).weights()
    found = cached.weights()
    moved_far = []
    for key, tensor in whole.items():
        torch.testing.assert_close(found[key], tensor, rtol=1e-3, atol=2e-5, msg=key)
        if tensor.is_floating_point():
            moved_far.append(float((tensor - start[key]).abs().max()))
    assert max(moved_far) > 0.05
    assert max(float((found[key] - other[key]).abs().max()) for key in whole if found[key].is_floating_point()) > 0.01, "views matter"
    norm = "5" if name == "plain" else "stage.1.bn1"
    assert int(found[f"{norm}.num_batches_tracked"]) == 3 * len(loader)


def test_batches_must_be_such_that_ranks_can_share(make_loader) -> None:
    kept = kept_of(make_loader, views=1)
    with pytest.raises(ValueError, match="rank 2 of 2"):
        KeptLoader(kept, batch_size=4, rank=2, ranks=2)
    with pytest.raises(ValueError, match="batch_size is 0"):
        KeptLoader(kept, batch_size=0)
