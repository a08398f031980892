"""`cnn finetune` told or given what it cannot use: one line, and nothing is written; and images, disks and rates that fail."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import harness
import pytest
from harness import Done, assert_failed, run, start, unchanged
from pretrained import HEAD, THREE, changed_tensors, digit_images, finetuned, owners, pretrained_digits, rows, tensors
from ranks import wait_until

pytestmark = pytest.mark.slow
ALONE = ("--freeze", "--epochs", "1")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`data` has three digits in train/ and val/, `source` leads to a net that has learned ten, and `run` is a finished finetuning."""
    folder = tmp_path_factory.mktemp("finetune-faults")
    made = pretrained_digits()
    digit_images(folder / "data", THREE)
    (folder / "source").symlink_to(made.folder)
    finetuned("source", "--data", "data", *ALONE, cwd=folder)
    yield folder
    assert harness.tree(made.folder) == made.hashes, "the model that it began with is changed"


def refused(place: Path, words: str | tuple[str | Path, ...], code: int, pattern: str, **variables: str | None) -> Done:
    """`cnn finetune` fails by the rules, and writes nothing where it runs."""
    with unchanged(place):
        done = run("finetune", *(words.split() if isinstance(words, str) else words), cwd=place, warm=True, **variables)
    assert_failed(done, code, pattern)
    return done


# ---- words ----

WORDS = {
    "--data data": r"which net\?; for example: cnn finetune resnet18 --data photos",
    "source": r"which images\?",
    "source --data data --freeze --unfreeze 2": r"--freeze and --unfreeze both say what is frozen",
    "source --data data --freeze-until conv2_1 --unfreeze 1": "--freeze-until and --unfreeze both say what is frozen",
    "source --data data --freeze --gradual 3": "--gradual says how to unfreeze, and --freeze keeps all frozen",
    "source --data data --freeze --epochs 2 --head-epochs 3": "--epochs and --head-epochs are the same, and two are given",
    "source --data data --solver lbfgs --head-epochs 0": "--solver lbfgs is about the classifier learning alone",
    "source --data data --freeze --head-epochs 0": "nothing is left to learn",
    "source --data data --gradual 3 --epochs 2": "--gradual 3 shares out epochs, of which there are 2",
    "source --data data --weights imagenet": r"source has its own weights; leave out --weights",
    "conv3-4,FC-10 --data data": "conv3-4,FC-10",
}


@pytest.mark.parametrize("words", WORDS)
def test_F1_words_that_contradict_each_other(words: str, place: Path) -> None:
    refused(place, words, 2, WORDS[words])


RANGES = {
    "--unfreeze 0": "--unfreeze 0 should be a number from 1",
    "--head-epochs -1": "--head-epochs -1 should be a number from 0",
    "--epochs 0": "--epochs 0 should be a number from 1",
    "--views 0": "--views 0 should be a number from 1 to 1000",
    "--gradual 0": "--gradual 0 should be",
    "--layer-decay 2": "--layer-decay 2.0 should be a number from 0.01 to 1",
    "--layer-decay nan": "--layer-decay nan should be",
    "--backbone-lr-factor inf": "--backbone-lr-factor inf should be",
    "--lr nan": "--lr nan should be",
    "--solver adam": "--solver 'adam' is not one of sgd, lbfgs",
    "--features gpu": "--features 'gpu' is not one of",
}


@pytest.mark.parametrize("words", RANGES)
def test_T18_settings_out_of_range(words: str, place: Path) -> None:
    refused(place, f"source --data data {words}", 2, RANGES[words])


NEAREST = {
    "--freeze-until conv2_3": "--freeze-until: there is no layer 'conv2_3'; did you mean conv2_[12]",
    "--freeze-until xyzzy": f"its blocks are conv1_1, conv2_1, conv2_2, {HEAD}",
    "--unfreeze 4": r"--unfreeze 4: there are 3 blocks before the classifier, conv1_1 to conv2_2",
    "--head fc4": f"--head 'fc4': source has no such layer; did you mean {HEAD}",
    "--head conv2_2": f"--head conv2_2 gives 8 outputs, and the net 3 scores; layers with 3 outputs: {HEAD}",
    "--unfreze 1": "--unfreeze",
}


@pytest.mark.parametrize("words", NEAREST)
def test_G15_layers_that_there_are_not(words: str, place: Path) -> None:
    refused(place, f"source --data data {words}", 2, NEAREST[words])


@pytest.mark.parametrize("net", ["resnet81", "nothing.safetensors", "torchvision/resnet81"])
def test_G15_nets_that_there_are_not(net: str, place: Path) -> None:
    with unchanged(place):
        done = run("finetune", net, "--data", "data", cwd=place, warm=True)
    assert_failed(done, done.code, net.rsplit("/", maxsplit=1)[-1])
    assert done.code in (2, 3)


def test_G16_a_run_folder_that_exists(place: Path) -> None:
    refused(place, "source --data data -o run", 2, "run folder exists: run; use --resume or --overwrite")


@pytest.mark.parametrize("out", ["/proc/run", "data/train/one/000.png/run"])
def test_G11_out_that_cannot_be_written(out: str, place: Path) -> None:
    with unchanged(place):
        done = run("finetune", "source", "--data", "data", *ALONE, "-o", out, cwd=place, warm=True)
    assert done.code == 4, done.err
    assert len(done.errors) == 1
    assert "epoch 1/1" not in done.err


# ---- weights ----


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of tensors for resnet20: good ones, of other shapes, of another net, and with a value that is not finite."""
    import torch

    from cnncli.arch.zoo.table import build
    from cnncli.models.assemble import assemble

    folder = tmp_path_factory.mktemp("files")
    torch.manual_seed(0)
    good = assemble(build("resnet20")).state_dict()
    torch.save(good, folder / "good.pth")
    torch.save(good | {"conv1.weight": torch.zeros(16, 2, 3, 3)}, folder / "shapes.pth")
    torch.save(assemble(build("resnet32")).state_dict(), folder / "other.pth")
    torch.save(good | {"conv1.weight": torch.full((16, 3, 3, 3), float("nan"))}, folder / "nan.pth")
    (folder / "text.pth").write_text("weights\n")
    return folder


FILES = {
    "shapes.pth": r"does not fit resnet20: .*conv1.weight 16x3x3x3 would get conv1.weight 16x2x3x3",
    "other.pth": r"does not hold resnet20: tensors 60 unexpected \(stage1.block4.conv1.weight, ",
    "nan.pth": r"the weights are not finite in 1 tensor, the first conv1.weight: a file: ",
    "text.pth": r"text.pth",
    "nothing.pth": r"no such weights file",
}


@pytest.mark.parametrize("name", FILES)
def test_C4_weights_that_do_not_fit(name: str, files: Path, place: Path) -> None:
    with unchanged(place):
        done = run("finetune", "resnet20", "--weights", files / name, "--input", "3x8x8", "--data", "data", cwd=place, warm=True)
    assert_failed(done, 3, FILES[name])


def test_C4_weights_of_another_model_file(place: Path) -> None:
    refused(place, "lenet5 --data data --weights source", 3, "holds conv3-4 .*, not lenet5; name the file in the place of the net")


def test_C5_files_that_are_no_model(place: Path) -> None:
    refused(place, "source/state.safetensors --data data", 3, "it is the state of a training, not a model")
    refused(place, "resnet20 --data data --weights source/metrics.jsonl", 3, "metrics.jsonl")


def test_C6_a_flipped_bit(place: Path, here: Path) -> None:
    content = bytearray((place / "source" / "best.safetensors").read_bytes())
    content[-5] ^= 4
    (here / "model.safetensors").write_bytes(content)
    with unchanged(here):
        done = run("finetune", "model.safetensors", "--data", place / "data", cwd=here, warm=True)
    assert_failed(done, 3, "model.safetensors")


def test_C3_another_number_of_classes(place: Path, here: Path, files: Path) -> None:
    """Which is what finetuning is for: a new classifier, and it is said."""
    words = ("--weights", files / "good.pth", "--input", "3x8x8", "--data", place / "data")
    done = finetuned("resnet20", *words, *ALONE, cwd=here)
    assert "classifier fc: Linear 64 -> 10 becomes 64 -> 3, 195 parameters" in done.err


def test_C13_published_weights_without_a_network(place: Path) -> None:
    with unchanged(place):
        done = run("finetune", "resnet18", "--data", "data", cwd=place, warm=True, HTTPS_PROXY="http://127.0.0.1:9")
    assert_failed(done, 4, r"resnet18-f37072fd.pth is not in the cache and cannot be downloaded .* put it into /.*/checkpoints")


def test_C13_nets_without_published_weights(place: Path) -> None:
    refused(place, "lenet5 --data data", 2, "lenet5 has no published weights; give a file of them, --weights PATH, or take a net")


CODE = """
import torch
from torch import nn
class Tail(nn.Module):
    input_shape = (1, 8, 8)
    def __init__(self):
        super().__init__()
        self.conv, self.fc, self.out = nn.Conv2d(1, 4, 3), nn.Linear(144, 10), nn.LayerNorm(10)
    def forward(self, x):
        return self.out(self.fc(torch.relu(self.conv(x)).flatten(1)))
"""
HEADS = {
    "": (2, "its classifier cannot be found: the last layer with weights, out, is of type LayerNorm; .*--head LAYER"),
    "--head fcc": (2, "--head 'fcc': nets.py:Tail has no such layer; did you mean fc"),
    "--head conv": (2, "--head conv gives 4 outputs, and the net 10 scores; layers with 10 outputs: fc"),
    "--head out": (2, "--head out is of type LayerNorm, and a classifier is a Linear or Conv2d layer"),
    "--head fc": (1, "the layers behind fc do not take its 3 outputs"),
}


@pytest.mark.parametrize("words", HEADS)
def test_S7_a_classifier_that_is_not_found(words: str, place: Path, here: Path) -> None:
    (here / "nets.py").write_text(CODE)
    with unchanged(here):
        done = run("finetune", "nets.py:Tail", "--data", place / "data", *words.split(), cwd=here, warm=True)
    assert_failed(done, *HEADS[words])


# ---- images ----


def test_D10_one_class(place: Path, here: Path) -> None:
    digit_images(here / "data", {"one": 5})
    with unchanged(here):
        done = run("finetune", place / "source", "--data", "data", cwd=here, warm=True)
    assert_failed(done, 3, r"data has one class only: one \(5 images\)")


def test_D1_a_bad_image(place: Path, here: Path) -> None:
    digit_images(here / "data", {"one": 60, "two": 60})
    path = here / "data" / "one" / "007.png"
    path.write_bytes(path.read_bytes()[:-30])
    for words in (("--freeze",), ("--head-epochs", "1")):
        done = finetuned(
            place / "source", "--data", "data", *words, "--epochs", "1", "--val-fraction", "0.1", cwd=here, out=words[0][2:], code=5
        )
        assert "data/one/007.png" in (here / words[0][2:] / "bad_images.txt").read_text()
        assert not done.errors


def test_F3_colours_for_a_net_that_sees_grey(place: Path, here: Path) -> None:
    digit_images(here / "data", {"one": 9, "two": 9}, colours=True)
    done = finetuned(place / "source", "--data", "data", *ALONE, cwd=here)
    assert "note: the net takes grey images: colours, if there are any, are not looked at" in done.err
    assert run("eval", "run", "--data", "data", cwd=here, warm=True).code == 0


def test_F3_grey_images_for_a_net_that_sees_colours(files: Path, place: Path, here: Path) -> None:
    words = ("resnet20", "--weights", files / "good.pth", "--input", "3x16x16", *ALONE)
    done = finetuned(*words, "--data", place / "data", cwd=here)
    assert "note: the images of data are grey: all three channels of the net are given the same" in done.err
    digit_images(here / "data", {"one": 9, "two": 9}, colours=True)
    done = finetuned(*words, "--data", "data", cwd=here, out="colours")
    assert "are grey" not in done.err
    assert run("eval", "run", "--data", place / "data", cwd=here, warm=True).code == 0


# ---- what fails while it runs ----


def test_G10_no_place_for_features(place: Path, here: Path) -> None:
    """Asked for a disk, it takes no memory instead."""
    words = ("finetune", place / "source", "--data", place / "data", *ALONE, "--features", "disk", "-o", "run")
    done = run(*words, cwd=here, warm=True, HOME=None)
    assert_failed(done, 4, "there is no home folder to keep features in; set CNN_CACHE, or use --features memory")
    done = run(*words, cwd=here, warm=True, CNN_CACHE="/proc/x")
    assert_failed(done, 4, "features cannot be kept in /proc/x/features")
    assert not (here / "run").exists()


SMALL = """
import collections, shutil
asked = shutil.disk_usage
shutil.disk_usage = lambda path: collections.namedtuple("Usage", "total used free")(9, 9, 2000) if "features" in str(path) else asked(path)
"""


def test_T2_no_room_for_features(place: Path, here: Path) -> None:
    """Asked before: writing to a file that is mapped into memory would end the process where the disk is full."""
    words = ("finetune", place / "source", "--data", place / "data", *ALONE, "--features", "disk", "-o", "run")
    done = run(*words, cwd=here, warm=True, first=SMALL, CNN_CACHE=str(here / "cache"))
    assert_failed(done, 4, "features need 0.0 MB in .*/cache/features, where 0.0 MB are free; set CNN_CACHE")


def test_T13_a_rate_at_which_nothing_is_learned(place: Path, here: Path) -> None:
    """What was best before is kept, and can be used."""
    words = ("--lr", "1e9", "--backbone-lr-factor", "1", "--epochs", "9", "--head-epochs", "0", "--optimizer", "sgd", "--clip-grad", "1e9")
    done = run("finetune", place / "source", "--data", place / "data", *words, "-o", "run", cwd=here, warm=True)
    assert done.code == 1, done.err
    assert len(done.errors) == 1
    assert "lower --lr" in done.errors[0]
    for path in (here / "run").glob("*.safetensors"):
        if not path.name.startswith("state"):
            assert all(bool(tensor.isfinite().all()) for tensor in tensors(path).values()), path.name


COMPUTING = """
import time, cnncli.transfer.kept
def compute(*_, **__):
    open("computing", "w").close()
    time.sleep(60)
cnncli.transfer.kept.compute = compute
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_T4_stopped_before_anything_learns(number: int, code: int, place: Path, here: Path) -> None:
    """While features are computed there is nothing to keep, and nothing is left."""
    started = start("finetune", place / "source", "--data", place / "data", "-o", "run", cwd=here, warm=True, first=COMPUTING)
    wait_until((here / "computing").exists)
    harness.stop(started, number)
    done = started.wait()
    assert done.code == code, done.err
    assert "Traceback" not in done.err
    assert [path.name for path in here.iterdir()] == ["computing"]


def test_T16_the_same_words_twice(place: Path, here: Path) -> None:
    words = (place / "source", "--data", place / "data", "--epochs", "1", "--head-epochs", "1", "--views", "2", "--precision", "fp32")
    finetuned(*words, cwd=here, out="one")
    finetuned(*words, "--workers", "3", cwd=here, out="two")
    assert not changed_tensors(here / "one", here / "two")
    assert rows(here / "one") == rows(here / "two")
    finetuned(*words, "--seed", "1", cwd=here, out="three")
    assert HEAD in owners(changed_tensors(here / "one", here / "three"))


def test_D27_images_changed_before_a_resume(place: Path, here: Path) -> None:
    shutil.copytree(place / "data", here / "data")
    finetuned(place / "source", "--data", "data", *ALONE, cwd=here)
    (here / "run" / "result.json").unlink()  # as if it was stopped behind its last epoch
    (here / "data" / "train" / "one" / "000.png").unlink()
    with unchanged(here):
        done = run("finetune", "--resume", "run", cwd=here, warm=True)
    assert_failed(done, 3, "the images of data have changed since the run began: .*--accept-data-change")
    done = run("finetune", "--resume", "run", "--accept-data-change", cwd=here, warm=True)
    assert done.code == 0, done.err
