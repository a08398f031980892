"""What a word on the command line means as a model."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnncli.errors import InputError, UsageError
from cnncli.models.resolve import Spec, resolve


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_net_of_the_zoo() -> None:
    assert resolve("alexnet") == Spec("zoo", "alexnet")


def test_a_run_folder_is_its_best_model_or_else_its_last() -> None:
    run = Path("runs/a")
    run.mkdir(parents=True)
    with pytest.raises(InputError, match=r"runs/a holds no best\.safetensors"):
        resolve("runs/a")
    (run / "last.safetensors").touch()
    assert resolve("runs/a").path == run / "last.safetensors"
    (run / "best.safetensors").touch()
    assert resolve("runs/a").path == resolve("runs/a/").path == run / "best.safetensors"


def test_a_file() -> None:
    Path("m.bin").touch()
    assert resolve("m.bin") == Spec("file", "m.bin", Path("m.bin"))


@pytest.mark.parametrize("folder", [True, False])
def test_two_meanings_are_refused(folder: bool) -> None:
    Path("alexnet").mkdir() if folder else Path("alexnet").touch()
    with pytest.raises(UsageError, match=r"also a (folder|file) here; write \./alexnet"):
        resolve("alexnet")
    assert folder or resolve("./alexnet").kind == "file"


def test_near_misses() -> None:
    with pytest.raises(UsageError, match="unknown net or model 'rsnet20'; did you mean resnet20"):
        resolve("rsnet20")
    with pytest.raises(UsageError, match="`cnn models` lists"):
        resolve("qqqqqq")
    for path in ("runs/none", "x.safetensors", "./alexnet"):
        with pytest.raises(InputError, match="no such model file or run folder"):
            resolve(path)


def test_words_that_the_system_does_not_look_for() -> None:
    for text in ("a" * 5000, "~nobody-has-this-name/model.safetensors"):
        with pytest.raises(InputError, match="cannot look for a model") as caught:
            resolve(text)
        assert len(str(caught.value)) < 500
    Path("best.safetensors").touch()
    with pytest.raises(UsageError, match="is empty"):  # and not the folder we are in
        resolve("")
