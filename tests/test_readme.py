"""Every command of the README runs, in order, in one empty folder; what is the same on every machine is compared word for word."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

README = Path(__file__).parent.parent / "README.md"
DETERMINISTIC = ("shape", "models", "convolve")
EXAMPLES_OF_ERRORS = {
    "cnn shape vgg16 --input 3x16x16": 2,
    "cnn shape alexnit": 2,
    'cnn shape "conv3-16 relu maxpol FC-10"': 2,
}


def console_blocks() -> list[list[tuple[str, list[str]]]]:
    """For each ```console block its (command, lines shown below it)."""
    blocks = []
    for block in re.findall(r"```console\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL):
        commands: list[tuple[str, list[str]]] = []
        for line in block.splitlines():
            if line.startswith("$ "):
                commands.append((line[2:], []))
            else:
                commands[-1][1].append(line)
        blocks.append(commands)
    return blocks


def make_photos(folder: Path) -> None:
    for number, name in enumerate(("cat", "dog")):
        (folder / name).mkdir(parents=True)
        for i in range(10):
            patches = np.random.default_rng([number, i]).integers(0, 256, (6, 8, 3), dtype=np.uint8)
            Image.fromarray(patches).resize((80, 60), Image.Resampling.BICUBIC).save(folder / name / f"{i}.jpg")


def shows(lines: list[str], shown: list[str]) -> bool:
    """Whether `shown` is what was printed; a line `...` stands for any number of lines."""
    pattern = "".join(r"(?:.*\n)*?" if line == "..." else re.escape(line) + r"\n" for line in shown)
    return re.fullmatch(pattern, "".join(line + "\n" for line in lines)) is not None


def test_what_the_readme_shows_is_compared() -> None:
    assert shows(["a", "b", "c"], ["a", "...", "c"])
    assert shows(["a", "b"], ["a", "b"])
    assert not shows(["a", "b"], ["a"])
    assert not shows(["a", "b", "c"], ["a", "...", "b"])


@pytest.mark.slow
def test_every_command_of_the_readme_runs(tmp_path: Path) -> None:
    make_photos(tmp_path / "photos")
    subprocess.run([sys.executable, str(README.parent / "tests" / "demo_images.py"), "demo/images"], cwd=tmp_path, check=True)
    commands = [command for block in console_blocks() for command in block]
    assert len(commands) >= 8
    for command, shown in commands:
        words = shlex.split(command)
        assert words[0] == "cnn", f"the README shows {command!r}"
        done = subprocess.run(
            [sys.executable, "-m", "cnncli", *words[1:]],
            cwd=tmp_path,
            env=os.environ | {"COLUMNS": "80"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == EXAMPLES_OF_ERRORS.get(command, 0), f"{command}: {done.stderr}"
        if words[1] in DETERMINISTIC:
            lines = [line.rstrip() for line in (done.stdout + done.stderr).rstrip().splitlines()]
            assert shows(lines, [line.rstrip() for line in shown]), f"the README shows something else for {command}:\n" + "\n".join(lines)


def test_links_and_files_named_in_the_readme_exist() -> None:
    text = README.read_text(encoding="utf-8")
    for path in re.findall(r"`(cnncli/[\w/.]+|tests/[\w/.]+)`", text):
        assert (README.parent / path).exists(), f"the README names {path}"


def test_exit_codes_of_the_readme() -> None:
    from cnncli.errors import ExitCode

    told = {
        int(number)
        for row in re.findall(r"^\| ([\d, ]+) \|", README.read_text(encoding="utf-8"), re.MULTILINE)
        for number in row.split(",")
    }
    assert told == {int(code) for code in ExitCode}


def test_make_help_lists_every_target() -> None:
    makefile = (README.parent / "Makefile").read_text()
    told = subprocess.run(["make", "-C", str(README.parent)], capture_output=True, text=True, check=True).stdout
    targets = set(re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[0].split())
    assert all(f"make {target} " in told for target in targets)
