"""What `cnn eval` and `cnn report` are told of a judged model: each row is the image that its name says."""

from __future__ import annotations

import gc
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from harness import HTML, Trained, make_folder
from PIL import Image

from cnncli.cli.judging import JudgeJob, judge_model, judge_models
from cnncli.data import cache
from cnncli.data.config import DataConfig
from cnncli.engine.config import InferConfig
from cnncli.errors import InputError
from cnncli.models.modelfile import load, save

pytestmark = pytest.mark.slow


def judged_slowly(model: Path, data: Path, files: list[str]) -> tuple[torch.Tensor, list[int]]:
    """Scores and labels, one image after the other, read by Pillow alone."""
    module, info = load(model)
    scores, labels = [], []
    for name in files:
        with Image.open(data / name) as image:
            pixels = info.preprocess.pixels(image.convert("L" if info.preprocess.channels == 1 else "RGB"))
        with torch.inference_mode():
            scores.append(module(info.preprocess.normalise(torch.from_numpy(pixels.copy())[None]))[0])
        labels.append(info.classes.index(Path(name).parent.name))
    return torch.stack(scores), labels


@pytest.mark.parametrize(("store", "threads", "batch"), [("memory", 1, 256), ("memory", 4, 7), ("stream", 4, 5), ("disk", 2, 16)])
def test_rows_are_the_images(store: str, threads: int, batch: int, folder_run: tuple[Trained, Path], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data = make_folder(tmp_path / "data", {"bus": 90, "cat": 85, "dog": 80})
    (data / "cat" / "003.png").write_bytes(HTML)
    (data / "dog" / "079.png").write_bytes(b"")
    job = JudgeJob(str(folder_run[0].best), data=str(data), split="all", batch_size=batch)
    found = judge_model(job, DataConfig(store=store, workers=threads, val_fraction=0.3), InferConfig(precision="fp32"))
    assert sorted(found.names) == sorted(
        str(p.relative_to(data)) for p in data.rglob("*.png") if p.stat().st_size > 0 and p.read_bytes() != HTML
    )
    scores, labels = judged_slowly(folder_run[0].best, data, list(found.names))
    assert found.labels.tolist() == labels
    assert torch.allclose(found.scores, scores, atol=1e-4)
    assert found.judgement.count == 253
    assert len(found.left_out) == 2
    assert any("cat/003.png" in line and "HTML page" in line for line in found.left_out)
    assert (found.split, found.source_name, found.tta, found.pictured) == ("all", "data", "none", True)
    assert found.how
    for row in (0, 100, 252):
        with Image.open(data / found.names[row]) as image:
            shown = found.thumbnail(row, 64)
            assert shown.mode == "RGB"
            assert np.array_equal(np.asarray(shown)[4::8, 4::8, 0], np.asarray(image.convert("L"))), "8x8 pixels, each 8x8 large"


def test_a_cache_is_left_closed_and_free(folder_run: tuple[Trained, Path], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        judge_model(JudgeJob(str(folder_run[0].best), data=str(folder_run[1]), split="all"), DataConfig(store="disk"), InferConfig())
        gc.collect()
    assert [str(entry.message) for entry in told if entry.category is ResourceWarning] == []
    (cached,) = cache.caches()
    lock = cache.locked(cached / cache.LOCK, shared=False, wait=False)
    assert lock is not None, "no run uses it any more"
    lock.close()


def test_thumbnails_keep_shape_and_colour(folder_run: tuple[Trained, Path], tmp_path: Path) -> None:
    data = make_folder(tmp_path / "data", {"bus": 4, "cat": 4, "dog": 4})
    Image.new("RGB", (300, 100), (200, 30, 30)).save(data / "bus" / "wide.png")
    found = judge_model(JudgeJob(str(folder_run[0].best), data=str(data), split="all"), DataConfig(), InferConfig())
    shown = found.thumbnail(found.names.index("bus/wide.png"), 90)
    assert shown.size == (90, 30)
    assert shown.getpixel((45, 15)) == (200, 30, 30)


def reordered(model: Path, path: Path, order: list[int]) -> Path:
    """The same model with its classes, and the outputs of its last layer, in another order."""
    from dataclasses import replace

    module, info = load(model)
    state = module.state_dict()
    weight, bias = list(state)[-2:]
    state[weight].copy_(state[weight][order].clone())
    state[bias].copy_(state[bias][order].clone())
    save(path, module, replace(info, classes=tuple(info.classes[i] for i in order)))
    return path


def test_models_with_their_classes_in_another_order(folder_run: tuple[Trained, Path], tmp_path: Path) -> None:
    from cnncli.cli.eval import compared

    other = reordered(folder_run[0].best, tmp_path / "other.safetensors", [2, 0, 1])
    jobs = [JudgeJob(str(path), data=str(folder_run[1]), split="all") for path in (folder_run[0].best, other)]
    first, second = judge_models(jobs, DataConfig(), InferConfig())
    assert second.classes == tuple(first.classes[i] for i in (2, 0, 1))
    assert torch.allclose(second.scores, first.scores[:, [2, 0, 1]], atol=1e-5)
    assert [second.classes[i] for i in second.labels] == [first.classes[i] for i in first.labels]
    assert second.judgement.top1 == first.judgement.top1
    (comparison,) = compared([first, second])
    assert (comparison.paired.difference, comparison.paired.only_a, comparison.paired.only_b, comparison.p) == (0, 0, 0, 1)


def test_images_are_opened_once_for_models_that_decode_alike(folder_run: tuple[Trained, Path], tmp_path: Path, monkeypatch) -> None:
    from cnncli.data.shards import either

    opened = []
    monkeypatch.setattr(either, "open_images", lambda *a, _open=either.open_images, **k: opened.append(a[2]) or _open(*a, **k))
    other = reordered(folder_run[0].best, tmp_path / "other.safetensors", [1, 0, 2])
    jobs = [JudgeJob(str(path), data=str(folder_run[1]), split="all") for path in (folder_run[0].best, other)]
    judge_models(jobs, DataConfig(), InferConfig())
    assert len(opened) == 1


def test_models_of_other_classes_are_refused(folder_run: tuple[Trained, Path], tmp_path: Path) -> None:
    from dataclasses import replace

    module, info = load(folder_run[0].best)
    save(tmp_path / "other.safetensors", module, replace(info, classes=("bus", "cat", "horse")))
    jobs = [JudgeJob(str(path), data=str(folder_run[1]), split="all") for path in (folder_run[0].best, tmp_path / "other.safetensors")]
    with pytest.raises(InputError, match=r"cannot be compared: only .*run/best.safetensors knows dog"):
        judge_models(jobs, DataConfig(), InferConfig())


def test_ten_crops_are_cut_out_of_larger_images(folder_run: tuple[Trained, Path], tmp_path: Path) -> None:
    """Against the ten crops one by one."""
    from dataclasses import replace

    module, info = load(folder_run[0].best)
    info = replace(info, preprocess=replace(info.preprocess, crop_fraction=0.8, resize="crop"))
    save(tmp_path / "crop.safetensors", module, info)
    data = make_folder(tmp_path / "data", {"bus": 4, "cat": 4, "dog": 4})
    for path in data.rglob("*.png"):
        with Image.open(path) as image:
            image.resize((80, 80)).save(path)
    found = judge_model(
        JudgeJob(str(tmp_path / "crop.safetensors"), data=str(data), split="all", tta="ten-crop"), DataConfig(), InferConfig()
    )
    size = info.preprocess.height
    big = replace(info.preprocess, height=round(size / 0.8), width=round(size / 0.8), crop_fraction=1.0)
    room = big.height - size
    for row, name in enumerate(found.names):
        with Image.open(data / name) as image:
            pixels = big.normalise(torch.from_numpy(big.pixels(image))[None])
        crops = [
            pixels[:, :, top : top + size, left : left + size]
            for top, left in ((0, 0), (0, room), (room, 0), (room, room), (round(room / 2), round(room / 2)))
        ]
        with torch.inference_mode():
            scores = module(torch.cat([*crops, *(crop.flip(3) for crop in crops)]))
        assert torch.allclose(found.scores[row].softmax(0), scores.softmax(1).mean(0), atol=1e-5)


def test_remote_shards_have_names_and_no_pictures(folder_run: tuple[Trained, Path], tmp_path: Path) -> None:
    pytest.importorskip("webdataset")
    from dataclasses import replace

    from sharding import serving, shard_set

    module, info = load(folder_run[0].best)
    save(tmp_path / "colours.safetensors", module, replace(info, classes=("red", "green", "blue")))
    with serving(shard_set({"val-000.tar": 5, "val-001.tar": 4})) as server:
        data = f"{server.address}val-{{000..001}}.tar"
        found = judge_model(JudgeJob(str(tmp_path / "colours.safetensors"), data=data, batch_size=4), DataConfig(), InferConfig())
    assert found.names == (*(f"val-000.tar#{n}" for n in range(5)), *(f"val-001.tar#{n}" for n in range(4)))
    assert not found.pictured
    with pytest.raises(InputError, match="streamed"):
        found.thumbnail(0, 64)
