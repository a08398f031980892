"""The house holds: who imports whom, which commands stay free of torch, what is never used, how long files and functions get."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import cnncli

PACKAGE = Path(cnncli.__file__).parent

# Low to high. A room imports lower ranks and itself; rooms of one rank do not import each other.
RANKS = {
    "errors": 0,
    **dict.fromkeys(("settings", "sniff", "atomic", "cache_folder", "watched"), 0.5),
    "arch": 1,
    "data": 2,
    "data.facts": 2,
    "engine.config": 2,
    "engine.events": 2,
    "visualize.methods": 2,
    "models": 3,
    "engine": 4,
    **dict.fromkeys(("transfer", "features", "visualize"), 5),
    "reports": 7,
    "cli": 8,
    "__main__": 9,
}
# `reports` prints what others computed: it knows their data types, not their doings.
DATA_TYPES_FOR_REPORTS = {"arch", "data.facts", "engine.events", "engine.metrics", "errors", "atomic", "sniff"}
_OF_ENGINE = ("calibration", "intervals", "metrics", "paired", "profiling", "range_test", "run_folders", "slices")
DATA_MODULES_FOR_REPORTS = {f"cnncli.engine.{name}" for name in _OF_ENGINE}
# Of these `reports` takes the types alone, under TYPE_CHECKING: importing them takes torch.
_OF_FEATURES = ("feature_set", "found", "probed", "projected")
TYPES_ALONE_FOR_REPORTS = {"cnncli.models.head", "cnncli.transfer.comparison", "cnncli.engine.layers"}
TYPES_ALONE_FOR_REPORTS |= {f"cnncli.features.{name}" for name in _OF_FEATURES}
DATA_MODULES_FOR_REPORTS |= {*TYPES_ALONE_FOR_REPORTS, "cnncli.transfer.config", "cnncli.transfer.plan"}
TORCH_FREE_FILES = ("errors", "settings", "sniff", "atomic", "cache_folder", "watched", "arch", "cli", "reports", "config", "events")
ALLOWED_IN_ARCH = {"cnncli", "__future__", *sys.stdlib_module_names}
LONGEST_FILE = 350
LONGEST_FUNCTION = 60

FILES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def room_of(module: str) -> str:
    """`engine.config` for cnncli.engine.config, `engine` for cnncli.engine.fit."""
    parts = module.split(".")
    pair = ".".join(parts[:2])
    return pair if pair in RANKS else parts[0]


def imports(tree: ast.AST) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found += [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "cnncli" else [str(node.module)]
    return found


def module_level(tree: ast.Module) -> ast.Module:
    """The tree without functions and without `if TYPE_CHECKING`: what runs on import."""

    class Strip(ast.NodeTransformer):
        def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
            return None

        def visit_If(self, node: ast.If) -> ast.If | None:
            return None if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING" else node

    return Strip().visit(ast.parse(ast.unparse(tree)))


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_ranks(path: Path) -> None:
    own = room_of(name_of(path))
    for imported in imports(ast.parse(path.read_text())):
        if not imported.startswith("cnncli."):
            continue
        other = room_of(imported.removeprefix("cnncli."))
        assert other in RANKS, f"{imported} stands in no room"
        if own == other or other.split(".")[0] == own.split(".")[0]:
            continue
        assert RANKS[other] < RANKS[own], f"{name_of(path)} imports {imported}, which ranks no lower"
        if own == "reports":
            assert other in DATA_TYPES_FOR_REPORTS or imported in DATA_MODULES_FOR_REPORTS, f"reports should not know {imported}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_torch_is_imported_only_where_it_runs(path: Path) -> None:
    parts = name_of(path).split(".")
    tree = ast.parse(path.read_text())
    if parts[0] in TORCH_FREE_FILES or parts[-1] in TORCH_FREE_FILES:
        heavy = {name.split(".")[0] for name in imports(module_level(tree))} & {"torch", "torchvision", "numpy", "sklearn", "matplotlib"}
        assert not heavy, f"{name_of(path)} imports {heavy} when it is imported"
    if parts[0] == "reports":
        heavy = set(imports(module_level(tree))) & TYPES_ALONE_FOR_REPORTS
        assert not heavy, f"{name_of(path)} imports {heavy} when it is imported, and should know their types alone"
    if parts[0] == "arch":
        outside = {name.split(".")[0] for name in imports(module_level(tree))} - ALLOWED_IN_ARCH
        assert not outside, f"arch is standard library only, but imports {outside}"


def test_package_init_files_are_empty() -> None:
    inits = list(PACKAGE.rglob("__init__.py"))
    assert len(inits) >= 8
    assert all(path.read_text() == "" for path in inits)


@pytest.mark.parametrize(
    "arguments", [["--help"], ["models"], ["shape", "alexnet"], ["shape", "resnet110", "--json"], ["train", "--help"], ["runs", "--help"]]
)
def test_commands_that_never_import_torch(arguments: list[str], tmp_path: Path) -> None:
    for name in ("torch", "torchvision", "numpy", "sklearn"):
        (tmp_path / f"{name}.py").write_text(f"raise RuntimeError('{name} was imported')")
    done = subprocess.run(
        [sys.executable, "-m", "cnncli", *arguments],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def calls(tree: ast.AST) -> set[str]:
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "os.system", "pickle.load"}
FORBIDDEN_CALLS |= {"torch.hub.load", "torch.jit.load", "torch.export.load"}
FORBIDDEN_MODULES = {"pickle", "marshal", "dill", "joblib", "shelve", "yaml", "requests", "urllib", "subprocess"}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_nothing_that_runs_code_from_files(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert not calls(tree) & FORBIDDEN_CALLS
    allowed = {"urllib"} if name_of(path) == "data.shards.web" else set()  # it opens addresses by urllib's https and proxy handlers alone
    assert not {name.split(".")[0] for name in imports(tree)} & (FORBIDDEN_MODULES - allowed)
    text = path.read_text()
    assert "shell=True" not in text
    assert "MAX_IMAGE_PIXELS = None" not in text
    if "torch.load(" in text:
        assert text.count("torch.load(") == text.count("weights_only=True")


def test_sizes() -> None:
    """The tail is bounded; the report names what is longest."""
    long_files, long_functions = [], []
    for path in FILES:
        text = path.read_text()
        lines = text.count("\n")
        if lines > LONGEST_FILE:
            long_files.append(f"{name_of(path)} ({lines})")
        functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
        sizes = {f"{name_of(path)}.{node.name}": (node.end_lineno or 0) - node.lineno + 1 for node in functions}
        long_functions += [f"{name} ({size})" for name, size in sizes.items() if size > LONGEST_FUNCTION]
    assert not long_files, f"longer than {LONGEST_FILE} lines: {long_files}"
    assert not long_functions, f"longer than {LONGEST_FUNCTION} lines: {long_functions}"


def test_no_rooms_without_a_name() -> None:
    assert not [path for path in FILES if path.stem in ("utils", "helpers", "common", "misc")]


def test_tests_mirror_the_package() -> None:
    """A test file of a room tests a file or a topic of that room; rooms without tests do not exist."""
    rooms = {path.parent.relative_to(PACKAGE) for path in FILES if path.parent != PACKAGE and path.stem != "__init__"} - {Path("arch/zoo")}
    tests = Path(__file__).parent
    missing = [str(room) for room in sorted(rooms) if not list((tests / room).glob("test_*.py"))]
    assert not missing, f"rooms without tests: {missing}"
