"""What a word on the command line means as a model."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnncli.arch.zoo.table import ZOO
from cnncli.errors import InputError, UsageError
from cnncli.models.published import check_weights
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


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_a_model_of_a_library(library: str) -> None:
    assert resolve(f"{library}/resnet50") == Spec(library, "resnet50")
    assert resolve(f"{library}/resnet50").library == library
    assert resolve(f"{library}/alexnet").name == "alexnet", "a name that the zoo has, too, is the library's"
    with pytest.raises(UsageError, match=f"should name a model of {library}"):
        resolve(f"{library}/")
    Path(library, "resnet50").mkdir(parents=True)
    with pytest.raises(UsageError, match=rf"also a folder here; write \./{library}/resnet50"):
        resolve(f"{library}/resnet50")
    with pytest.raises(InputError, match=r"holds no best\.safetensors"):
        resolve(f"./{library}/resnet50")


def test_a_name_in_a_python_file() -> None:
    Path("nets").mkdir()
    Path("nets/mine.py").write_text("raise SystemExit('it was run')")
    assert resolve("nets/mine.py:Net") == Spec("python", "Net", Path("nets/mine.py"))
    assert resolve("nets/mine.py:Net").library is None
    with pytest.raises(UsageError, match=r"name a class or function in it, for example nets/mine\.py:Net"):
        resolve("nets/mine.py")
    for text in ("nets/mine.py:", "nets/mine.py:two words", "nets/mine.py:a.b"):
        with pytest.raises(UsageError, match="should end in the name of a class or function"):
            resolve(text)
    with pytest.raises(InputError, match=r"no such file: nets/yours\.py"):
        resolve("nets/yours.py:Net")
    Path("nets/mine.py:Net").touch()
    with pytest.raises(UsageError, match=r"also a file here; write \./nets/mine\.py:Net"):
        resolve("nets/mine.py:Net")


@pytest.mark.parametrize(
    "text", ["[(CONV-RELU)*2-POOL]*3-(FC-RELU)*1-SOFTMAX", "conv3-64 maxpool FC-10", "conv5-16/s2/p2", "(CONV-RELU)*2" * 2000]
)
def test_notation(text: str) -> None:
    assert resolve(text) == Spec("notation", text)


def test_no_net_of_the_zoo_is_taken_for_notation() -> None:
    from cnncli.arch.notation.language import looks_like_notation

    assert not [name for name in ZOO if looks_like_notation(name)]


@pytest.mark.parametrize("folder", [True, False])
def test_notation_that_is_also_there(folder: bool) -> None:
    Path("conv3-64").mkdir() if folder else Path("conv3-64").touch()
    with pytest.raises(UsageError, match=r"also a (folder|file) here; write \./conv3-64"):
        resolve("conv3-64")


def test_near_misses_of_the_kinds() -> None:
    with pytest.raises(UsageError, match="did you mean torchvision/resnet50"):
        resolve("torchvison/resnet50")
    with pytest.raises(UsageError, match=r"did you mean timm/resnet50d"):
        resolve("tim/resnet50d")


def test_words_that_the_system_does_not_look_for() -> None:
    for text in ("a" * 5000, "zero\0byte", "~nobody-has-this-name/model.safetensors"):
        with pytest.raises(InputError, match="cannot look for a model") as caught:
            resolve(text)
        assert len(str(caught.value)) < 500
    Path("best.safetensors").touch()
    with pytest.raises(UsageError, match="is empty"):  # and not the folder we are in
        resolve("")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("CONV-RELU-FC", 'has no trained weights; train it first: cnn train "CONV-RELU-FC"'),
        ("mine.py:Net", "mine.py:Net has no trained weights that say their classes; --weights FILE takes those of `cnn finetune`"),
    ],
)
def test_what_eval_and_predict_say_of_the_other_kinds(text: str, words: str) -> None:
    Path("mine.py").touch()
    assert resolve(text).text == text
    with pytest.raises(UsageError, match=words):
        check_weights(resolve(text), None)


def test_deeper_paths_and_model_files_are_no_names_of_a_library() -> None:
    for text in ("torchvision/runs/a", "timm/a.safetensors"):
        with pytest.raises(InputError, match="no such model file"):
            resolve(text)
    Path("timm").mkdir()
    Path("timm/a.safetensors").touch()
    Path("timm/best.safetensors").touch()
    assert resolve("timm/a.safetensors").kind == "file"
    assert resolve("timm/").path == Path("timm/best.safetensors")
