"""Exporting where the place, the packages, the operators or the numbers are not as they should be. Under a file's name lies the old file
or a whole new one that was checked, whatever happens."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from pathlib import Path

import harness
import pytest
from harness import Done, Trained, assert_failed, run, unchanged, without_rights

pytestmark = pytest.mark.slow

OLD = b"an older file"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_O1_a_target_that_exists(here: Path, digits_run: Trained) -> None:
    (here / "m.onnx").write_bytes(OLD)
    (here / "folder.onnx").mkdir()
    (here / "file").write_bytes(OLD)
    with unchanged(here):
        done = run("export", digits_run.folder, "-o", "m.onnx", "--json", cwd=here, warm=True)
        assert_failed(done, 2, "m.onnx exists; use --overwrite", json_out=True)
        assert_failed(run("export", digits_run.folder, "-o", "folder.onnx", cwd=here, warm=True), 2, "folder.onnx is a folder")
        assert_failed(run("export", digits_run.folder, "-o", "file/m.onnx", cwd=here, warm=True), 4, "cannot write file/m.onnx")
    done = run("export", digits_run.folder, "-o", "m.onnx", "--overwrite", cwd=here, warm=True)
    assert (done.code, done.err) == (0, "")
    assert (here / "m.onnx").stat().st_size > 100_000


def test_O1_a_folder_that_cannot_be_written(here: Path, digits_run: Trained) -> None:
    (here / "locked").mkdir()
    (here / "locked" / "m.onnx").write_bytes(OLD)
    (here / "locked").chmod(0o555)
    with unchanged(here):
        words = ("-o", "locked/m.onnx", "--overwrite")
        done = run("export", digits_run.folder, *words, cwd=here, front=without_rights())
        assert_failed(done, 4, "cannot write locked/m.onnx: .*locked")
    (here / "locked").chmod(0o755)


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_O1_a_full_disk(suffix: str, here: Path, digits_run: Trained) -> None:
    """250 kB do not fit on a disk of 100."""
    if shutil.which("unshare") is None:
        pytest.skip("unshare (util-linux) is absent")
    (here / "disk").mkdir()
    script = (
        "mount -t tmpfs -o size=100k tmpfs disk || exit 77\n"
        f"echo old >disk/m{suffix}; cnn export {digits_run.folder} -o disk/m{suffix} --overwrite >out 2>err; code=$?\n"
        f"ls -A disk >names; cat disk/m{suffix} >kept; exit $code"
    )
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script],
        cwd=here,
        env=harness.environment(),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("no small file system can be mounted here")
    found = Done(done.returncode, (here / "out").read_text(), (here / "err").read_text())
    assert_failed(found, 4, rf"cannot write disk/m{suffix}: No space left on device")
    assert (here / "names").read_text() == f"m{suffix}\n"
    assert (here / "kept").read_text() == "old\n"


HANG = "import onnx.checker; onnx.checker.check_model = lambda *_: (open('hanging', 'w').close(), __import__('time').sleep(60))"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143)])
def test_O1_stopped_before_the_file_has_its_name(number: int, code: int, here: Path, digits_run: Trained) -> None:
    (here / "m.onnx").write_bytes(OLD)
    started = harness.start("export", digits_run.folder, "-o", "m.onnx", "--overwrite", cwd=here, warm=True, first=HANG)
    deadline = time.monotonic() + 60
    while not (here / "hanging").exists():
        assert time.monotonic() < deadline, started.error_so_far()
        time.sleep(0.05)
    harness.stop(started, number)
    assert started.wait().code == code
    assert (here / "m.onnx").read_bytes() == OLD
    left = [name for name in names(here) if name not in ("m.onnx", "hanging")]
    assert left == [] if number != signal.SIGKILL else all(name.startswith(".cnn-part-") for name in left)


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "onnxscript"])
def test_O2_a_package_is_missing(package: str, here: Path, tmp_path: Path, digits_run: Trained) -> None:
    gone = f"raise ModuleNotFoundError(\"No module named '{package}'\", name='{package}')"
    (tmp_path / "stubs").mkdir()
    (tmp_path / "stubs" / f"{package}.py").write_text(gone)
    stub = {"PYTHONPATH": str(tmp_path / "stubs")}
    with unchanged(here):
        done = run("export", digits_run.folder, "--json", cwd=here, **stub)
    assert_failed(done, 4, rf'ONNX needs the package {package}, .*; pip install "cnncli\[onnx\]"$', json_out=True)
    if package == "onnx":
        done = run("export", digits_run.folder, "-o", "m.pt2", cwd=here, **stub)
        assert (done.code, done.err) == (0, ""), "torch.export needs none of them"


def test_O2_an_operator_without_words(here: Path, digits_run: Trained) -> None:
    """One that torch can export and ONNX does not have; and one that cannot be followed at all. Both name the layer."""
    tanh = "import torch; torch.nn.Tanh.forward = lambda self, x: "
    with unchanged(here):
        done = run("export", digits_run.folder, "-o", "new/m.onnx", cwd=here, warm=True, first=tanh + "torch.special.bessel_j0(x)")
        assert_failed(done, 3, r"layer \S*tanh\S* computes aten\.special_bessel_j0\.default, which cannot be written as ONNX; try")
        done = run("export", digits_run.folder, "-o", "m.pt2", cwd=here, warm=True, first=tanh + "x if x.sum() > 0 else -x")
        assert_failed(done, 3, r"layer \S*tanh\S* \(Tanh\) cannot be exported: ")


def test_O2_an_operator_set_that_there_is_not(here: Path, digits_run: Trained) -> None:
    with unchanged(here):
        for number in ("0", "17", "99"):
            done = run("export", digits_run.folder, "--opset", number, cwd=here, warm=True)
            assert_failed(done, 2, rf"--opset {number} is not from 18 to \d+")
        done = run("export", digits_run.folder, "-o", "m.pt2", "--opset", "18", cwd=here, warm=True)
        assert_failed(done, 2, "--opset 18 is for ONNX")


WRONG = """
import onnx_ir
save = onnx_ir.save
def other(model, *a, **k):
    value = next(value for name, value in model.graph.initializers.items() if name.endswith(".bias"))
    value.const_value = onnx_ir.tensor(value.const_value.numpy() + 0.01, name=value.name)
    return save(model, *a, **k)
onnx_ir.save = other
"""


def test_O3_numbers_that_differ(here: Path, digits_run: Trained) -> None:
    """A file whose weights are not the model's: kept, under a name that nobody takes for the model."""
    (here / "m.onnx").write_bytes(OLD)
    done = run("export", digits_run.folder, "-o", "m.onnx", "--overwrite", "--json", cwd=here, warm=True, first=WRONG)
    assert_failed(done, 1, r"m\.onnx would differ from the model: outputs by up to 0\.\d+ .*; it is kept as m\.onnx\.failed", json_out=True)
    assert names(here) == ["m.onnx", "m.onnx.failed"]
    assert (here / "m.onnx").read_bytes() == OLD


def test_O3_no_tolerance(here: Path, digits_run: Trained) -> None:
    """Rounding alone is more than nothing; and what is exact is exact."""
    done = run("export", digits_run.folder, "-o", "m.onnx", "--tolerance", "0", cwd=here, warm=True)
    assert_failed(done, 1, r"m\.onnx would differ .* labels of 0 of 16 images; it is kept as m\.onnx\.failed")
    assert names(here) == ["m.onnx.failed"]
    done = run("export", digits_run.folder, "-o", "m.pt2", "--tolerance", "0", cwd=here, warm=True)
    assert (done.code, done.err) == (0, "")


def test_O4_nothing_but_the_named_file(here: Path, digits_run: Trained) -> None:
    (here / "a" / "b").mkdir(parents=True)
    done = run("export", digits_run.folder, "-o", "../../x.onnx", cwd=here / "a" / "b", warm=True)
    assert (done.code, done.err) == (0, "")
    assert sorted(str(path.relative_to(here)) for path in here.rglob("*")) == ["a", "a/b", "x.onnx"]


def test_O4_weights_that_a_file_cannot_hold(here: Path, digits_run: Trained) -> None:
    """As if 2 GB were 10 kB: then there are two files, the second is not replaced unasked, and the pair can be moved."""
    small = "import cnncli.models.export; cnncli.models.export.data_file_of.__kwdefaults__['most'] = 10_000"
    done = run("export", digits_run.folder, "-o", "m.onnx", "--json", cwd=here, warm=True, first=small)
    assert (done.code, done.err) == (0, "")
    assert names(here) == ["m.onnx", "m.onnx.data"]
    assert done.json["data_file"] == "m.onnx.data"
    assert done.json["bytes"] == sum((here / name).stat().st_size for name in names(here))
    (here / "m.onnx").unlink()
    with unchanged(here):
        done = run("export", digits_run.folder, "-o", "m.onnx", cwd=here, warm=True, first=small)
        assert_failed(done, 2, "m.onnx.data exists; use --overwrite")
