"""Rules of a training that the catalogue names: seeds, settings out of range, memory, a loss that is not finite."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness import Done, assert_failed, make_folder, run, start

NET = "conv3-4 relu maxpool FC-10"
TINY = (NET, "--input", "1x16x16", "--limit-per-class", "6", "--batch-size", "16")


def weights(folder: Path) -> dict[str, object]:
    from safetensors.torch import load_file

    return load_file(folder / "last.safetensors")


def same(one: Path, other: Path) -> bool:
    import torch

    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)  # type: ignore[arg-type]


def trained(here: Path, *arguments: str) -> Done:
    done = run("train", *TINY, *arguments, cwd=here, warm=True)
    assert done.code == 0, done.err
    return done


@pytest.mark.slow
def test_T16_one_seed_governs_all(here: Path) -> None:
    make_folder(here / "data", {"train/a": 12, "train/b": 12, "val/a": 4, "val/b": 4})
    common = (
        "conv3-4 relu maxpool FC-2",
        "--input",
        "3x16x16",
        "--data",
        "data",
        "--epochs",
        "2",
        "--batch-size",
        "8",
        "--store",
        "stream",
    )
    common += ("--crop-scale", "0.4", "--auto-augment", "trivial", "--mixup", "0.2")
    for name, flags in {"one": ["--workers", "1"], "two": ["--workers", "2"], "four": ["--workers", "4"], "seed": ["--seed", "1"]}.items():
        done = run("train", *common, *flags, "-o", name, cwd=here, warm=True)
        assert done.code == 0, done.err
    assert same(here / "one", here / "two")
    assert same(here / "one", here / "four")
    assert not same(here / "one", here / "seed")


@pytest.mark.parametrize(
    ("flag", "value", "told"),
    [
        ("--steps", "0", "a number from 1 to"),
        ("--minutes", "-1", "a number from 0.001"),
        ("--accumulate", "0", "a number from 1 to"),
        ("--ema", "1", "a number from 0 to 0.999999"),
        ("--dropout", "1", "a number from 0 to 0.99"),
        ("--stochastic-depth", "nan", "a number from 0 to 0.99"),
        ("--patience", "0", "a number from 1 to"),
        ("--batch-size", "many", "auto or a whole number"),
        ("--batch-size", "0", "auto or a number from 1 to"),
        ("--bias-lr-factor", "-1", "a number from 0 to"),
        ("--milestones", "0.7,0.5", "rising shares of the training below 1, or epochs"),
        ("--save-every", "-1", "a number from 0 to"),
        ("--monitor", "accuracy", "did you mean"),
        ("--optimizer", "adamm", "did you mean adam"),
        ("--schedule", "cosinus", "did you mean cosine"),
    ],
)
def test_T18_settings_out_of_range(here: Path, flag: str, value: str, told: str) -> None:
    assert_failed(run("train", "lenet5", flag, value, cwd=here), 2, rf"{flag}.*{told}")
    assert not list(here.iterdir())


OUT_OF_MEMORY = """
import importlib.abc, importlib.util, sys
class Late(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "cnncli.engine.training":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        run = spec.loader.exec_module
        def exec_module(module):
            run(module)
            step = module.Training.step
            def limited(self, batch, *a, **k):
                if len(batch.labels) / self.accumulate > LARGEST or self.position.steps >= LATER:
                    raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: 9 bytes")
                return step(self, batch, *a, **k)
            module.Training.step = limited
        spec.loader.exec_module = exec_module
        return spec
sys.meta_path.insert(0, Late())
"""


@pytest.mark.slow
@pytest.mark.parametrize(("largest", "later"), [(4, 10**9), (10**9, 5)])
def test_T11_T12_out_of_memory(here: Path, tmp_path: Path, largest: int, later: int) -> None:
    """At the first step the batch goes through the net in parts, which is told; later the run ends, with what it had reached."""
    (tmp_path / "site").mkdir()
    code = OUT_OF_MEMORY.replace("LARGEST", str(largest)).replace("LATER", str(later))
    (tmp_path / "site" / "sitecustomize.py").write_text(code)
    done = start("train", *TINY, "--epochs", "2", "-o", "run", cwd=here, PYTHONPATH=str(tmp_path / "site")).wait()
    if later > 5:
        assert done.code == 0, done.err
        assert "batches of 16 go through the net in 4 parts" in done.err
        trained(here, "--epochs", "2", "-o", "plain")
        import torch

        close = [
            torch.allclose(a, b, atol=1e-5) for a, b in zip(weights(here / "run").values(), weights(here / "plain").values(), strict=True)
        ]  # type: ignore[arg-type]
        assert all(close), "the parts are one step"
        return
    assert done.code == 1
    assert done.err.splitlines()[-1].startswith(
        "cnn: error: out of memory on cpu at batch 16; --accumulate 2 or --batch-size 8 needs about half"
    )
    assert (here / "run" / "state.safetensors").is_file()
    resumed = run("train", "--resume", "run", cwd=here, warm=True)
    assert resumed.code == 0, resumed.err


@pytest.mark.slow
def test_T13_a_rate_of_a_million(here: Path) -> None:
    done = run("train", "lenet5", "--lr", "1e6", "--clip-grad", "0", "--warmup", "0", "--epochs", "3", "-o", "run", cwd=here, warm=True)
    assert done.code == 1
    last = done.err.splitlines()[-1]
    assert "lower --lr" in last
    assert "epoch 1" in last
    assert not (here / "run" / "best.safetensors").exists()
    assert (here / "run" / "state.safetensors").is_file()


@pytest.mark.slow
def test_T13_a_loss_that_grows_without_end(here: Path) -> None:
    """Finite, but far beyond that of guessing: `--keep-going` skips single steps, and does not save what has diverged."""
    import torch

    net = ("conv3-8 relu conv3-8 relu maxpool FC-10", "--input", "1x16x16", "--epochs", "1", "--batch-size", "16")
    wild = ("--lr", "1e9", "--warmup", "1", "--clip-grad", "0", "--keep-going")
    done = run("train", *net, *wild, "-o", "run", cwd=here, warm=True)
    assert done.code == 1
    assert "times that of guessing" in done.err.splitlines()[-1]
    assert (here / "run" / "bad_batch.txt").read_text()
    for name in ("best", "last"):
        if (here / "run" / f"{name}.safetensors").is_file():
            from safetensors.torch import load_file

            assert all(torch.isfinite(tensor).all() for tensor in load_file(here / "run" / f"{name}.safetensors").values())
