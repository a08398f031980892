"""`cnn models` as its users meet it: the list, its order, what it leaves out, its JSON and its charts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from harness import run
from PIL import Image

from cnncli.arch.net import totals, walk
from cnncli.arch.zoo.accuracy import PUBLISHED
from cnncli.arch.zoo.table import ZOO, build
from cnncli.cli.models import ORDERS
from cnncli.models.published import TWINS, version_of

KEYS = ["name", "summary", "year", "paper", "input", "classes", "params", "macs", "weight_bytes", "depth", "accuracy"]
UNITS = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    done = run("models", "--json", cwd=tmp_path_factory.mktemp("models"))
    assert (done.code, done.err) == (0, "")
    assert list(done.json) == ["models"]
    return done.json["models"]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    done = run("models", cwd=tmp_path_factory.mktemp("models"), COLUMNS="80")
    assert (done.code, done.err) == (0, "")
    return done.out


def names_in(out: str) -> list[str]:
    """The first column of the table."""
    return [line.split()[0] for line in out.split("─\n", 1)[1].split("\n\n", 1)[0].splitlines() if line and not line.startswith(" ")]


def names_of(*arguments: str, cwd: Path) -> list[str]:
    done = run("models", *arguments, "--json", cwd=cwd)
    assert (done.code, done.err) == (0, "")
    return [entry["name"] for entry in done.json["models"]]


def test_json_has_the_documented_keys(listed: list[dict[str, Any]]) -> None:
    assert [entry["name"] for entry in listed] == list(ZOO)
    for entry in listed:
        assert list(entry) == KEYS
        assert entry["summary"]
        assert entry["paper"]
        assert 1980 < entry["year"] < 2030
        if entry["accuracy"] is not None:
            assert list(entry["accuracy"]) == ["data", "top1", "top5", "source", "url"]
            rates = [entry["accuracy"][key] for key in ("top1", "top5") if entry["accuracy"][key] is not None]
            assert all(0.5 < rate < 1 for rate in rates)
            assert rates


def test_json_agrees_with_the_rows_of_every_net(listed: list[dict[str, Any]]) -> None:
    for entry in listed:
        net = build(entry["name"])
        sums = totals(walk(net), net.input)
        assert (entry["params"], entry["macs"], entry["weight_bytes"]) == (sums.params, sums.macs, 4 * sums.params), net.name
        assert entry["depth"] == sums.depth
        assert (entry["input"], entry["classes"]) == (list(net.input), net.classes)


@pytest.mark.parametrize("net", ["lenet5", "googlenet-v1", "resnet1202", "darts-v2-imagenet"])
def test_shape_says_the_same(net: str, here: Path, listed: list[dict[str, Any]]) -> None:
    shape = run("shape", net, "--json", cwd=here).json
    entry = next(entry for entry in listed if entry["name"] == net)
    assert (entry["params"], entry["macs"]) == (shape["totals"]["params"], shape["totals"]["macs"])
    assert (entry["input"], entry["classes"]) == (shape["input"], shape["classes"])


def test_published_figures_arrive_unrounded(listed: list[dict[str, Any]]) -> None:
    found = {entry["name"]: entry["accuracy"] for entry in listed}
    assert found["resnet50"]["top1"] == 0.7613
    assert found["resnet50"]["top5"] == 0.92862
    assert found["alexnet-owt"]["top1"] == 0.56522
    assert found["googlenet-v1"] | {"source": "", "url": ""} == {"data": "imagenet", "top1": None, "top5": 0.8993, "source": "", "url": ""}
    assert found["darts-v2"]["data"] == "cifar10"
    assert found["plain20"] is None


def test_the_table_lists_all_in_80_columns(text: str) -> None:
    assert names_in(text) == list(ZOO)
    assert max(map(len, text.splitlines())) <= 80
    assert text.splitlines()[0].split() == ["net", "year", "input", "params", "MACs", "MiB", "depth", "top-1", "top-5"]


def test_the_table_tells_what_json_tells(text: str, listed: list[dict[str, Any]]) -> None:
    rows = dict(zip(names_in(text), text.split("─\n", 1)[1].splitlines(), strict=False))
    row_of = re.compile(r"(\S+) +(\d+) +(\S+) +([\d.]+) ([kMG]?) +([\d.]+) ([kMG]?) +([\d.]+) +(\d+) +(\S+) +(\S+)(?: ([a-z]))?\s*")
    legend = dict(re.findall(r"^([a-z])  (\S.*?) *$", text, re.MULTILINE))
    for entry in listed:
        name, year, size, params, params_unit, macs, macs_unit, mebibytes, depth, top1, top5, mark = row_of.fullmatch(
            rows[entry["name"]]
        ).groups()
        assert (name, int(year), int(depth)) == (entry["name"], entry["year"], entry["depth"])
        assert size == "x".join(map(str, entry["input"]))
        for number, unit, told in ((params, params_unit, "params"), (macs, macs_unit, "macs")):
            assert float(number) * UNITS[unit] == pytest.approx(entry[told], rel=6e-3), f"{name}: three digits"
        assert float(mebibytes) * 2**20 == pytest.approx(entry["weight_bytes"], rel=6e-3, abs=0.0051 * 2**20)
        accuracy = entry["accuracy"] or {"top1": None, "top5": None, "source": None}
        for shown, rate in ((top1, accuracy["top1"]), (top5, accuracy["top5"])):
            assert shown == "-" if rate is None else float(shown) == pytest.approx(100 * rate, abs=0.0501)
        assert legend.get(mark) == accuracy["source"], name
    assert set(legend.values()) == {accuracy.source.text for accuracy in PUBLISHED.values()}


def test_a_wide_terminal_shows_what_each_net_is(here: Path) -> None:
    out = run("models", cwd=here, COLUMNS="140").out
    assert names_in(out) == list(ZOO)
    assert max(map(len, out.splitlines())) <= 140
    assert all(" ".join(ZOO[name].summary.split()[:3]) in out for name in ZOO)


def test_a_narrow_terminal_cuts_no_number(here: Path) -> None:
    out = run("models", "--filter", "nasnet", cwd=here, COLUMNS="40").out
    assert max(map(len, out.splitlines())) <= 40
    for fact in ("net: nasnet-a-large", "MACs: 23.8 G", "depth: "):
        assert fact in out


def test_filters(here: Path) -> None:
    assert names_of("--filter", "VGG11", cwd=here) == ["vgg11", "vgg11-lrn", "vgg11-bn"]
    assert names_of("--filter", "resnet?0", cwd=here) == ["resnet50", "resnet20"], "a pattern is for the whole name"
    assert names_of("--filter", "densenet1*", "--filter", "lenet5", cwd=here) == ["lenet5", "densenet121", "densenet169"]
    assert names_of("--filter", "torchvision", cwd=here) == [name for name in ZOO if "torchvision" in ZOO[name].summary]


def test_data_sets_part_the_zoo(here: Path, listed: list[dict[str, Any]]) -> None:
    parts = {data: names_of("--dataset", data, cwd=here) for data in ("imagenet", "cifar10", "mnist")}
    assert sorted(name for names in parts.values() for name in names) == sorted(ZOO)
    assert parts["mnist"] == ["lenet5"]
    assert parts["imagenet"] == [entry["name"] for entry in listed if entry["classes"] == 1000]
    assert names_of("--dataset", "cifar10", "--filter", "darts", cwd=here) == ["darts-v1", "darts-v2"]


@pytest.mark.parametrize(
    ("sort", "key"), [("params", "params"), ("macs", "macs"), ("size", "weight_bytes"), ("depth", "depth"), ("year", "year")]
)
def test_orders_smallest_first(sort: str, key: str, here: Path, listed: list[dict[str, Any]]) -> None:
    facts = {entry["name"]: entry[key] for entry in listed}
    upwards = names_of("--sort", sort, cwd=here)
    assert [facts[name] for name in upwards] == sorted(facts.values())
    downwards = names_of("--sort", sort, "--reverse", cwd=here)
    assert [facts[name] for name in downwards] == sorted(facts.values(), reverse=True)
    assert sorted(upwards) == sorted(downwards) == sorted(ZOO)


@pytest.mark.parametrize("key", ["top1", "top5"])
def test_orders_best_first_and_unknown_last(key: str, here: Path, listed: list[dict[str, Any]]) -> None:
    facts = {entry["name"]: entry["accuracy"] and entry["accuracy"][key] for entry in listed}
    known = sorted((fact for fact in facts.values() if fact is not None), reverse=True)
    unknown = [name for name in ZOO if facts[name] is None]
    assert unknown
    for arguments, figures in ((["--sort", key], known), (["--sort", key, "--reverse"], known[::-1])):
        names = names_of(*arguments, cwd=here)
        assert [facts[name] for name in names[: len(known)]] == figures
        assert names[len(known) :] == unknown


def test_names_are_ordered_by_their_numbers(here: Path) -> None:
    names = names_of("--sort", "name", "--filter", "resnet*", cwd=here)
    assert names[:5] == ["resnet18", "resnet20", "resnet32", "resnet34", "resnet44"]
    assert names[-1] == "resnet1202"


# ---- published weights ----

WEIGHTS_KEYS = ["net", "weights", "top1", "top5", "mebibytes", "cached", "path", "url", "recipe"]


@pytest.mark.slow
def test_published_weights_are_those_of_torchvision(here: Path, tmp_path: Path) -> None:
    """Every version of every net that has a twin, with torchvision's own figures; one file is in the cache."""
    from torchvision.models import get_model_weights

    place = tmp_path / "torch" / "hub" / "checkpoints"
    place.mkdir(parents=True)
    (place / "resnet18-f37072fd.pth").touch()
    done = run("models", "--weights", "--json", cwd=here, warm=True, TORCH_HOME=str(tmp_path / "torch"))
    assert (done.code, done.err, list(done.json)) == (0, "", ["weights"])
    rows = done.json["weights"]
    assert [row["net"] for row in rows] == sorted((row["net"] for row in rows), key=list(ZOO).index)
    assert {row["net"] for row in rows} == set(TWINS)
    for row in rows:
        assert list(row) == WEIGHTS_KEYS
        entry = getattr(get_model_weights(TWINS[row["net"]].name), version_of(row["weights"]))
        assert row["url"] == entry.url
        scores = entry.meta["_metrics"]["ImageNet-1K"]
        assert (100 * row["top1"], 100 * row["top5"]) == pytest.approx((scores["acc@1"], scores["acc@5"]))
        assert row["mebibytes"] == entry.meta["_file_size"]
        assert row["path"] == str(place / row["url"].rpartition("/")[2])
        assert row["cached"] == (row["net"] == "resnet18")
        assert row["recipe"] is None or row["recipe"].startswith("https://github.com/")
    words = {(row["net"], row["weights"]) for row in rows}
    assert {("resnet50", "imagenet"), ("resnet50", "imagenet-v2"), ("mobilenet_v2", "imagenet-v2")} <= words
    assert ("resnet18", "imagenet-v2") not in words


@pytest.mark.slow
@pytest.mark.parametrize("columns", [60, 80, 140])
def test_the_table_of_published_weights(columns: int, here: Path, tmp_path: Path) -> None:
    done = run("models", "--weights", "--filter", "resnet*", cwd=here, warm=True, COLUMNS=str(columns), TORCH_HOME=str(tmp_path))
    assert (done.code, done.err) == (0, "")
    assert names_in(done.out) == ["resnet18", "resnet34", "resnet50", "resnet50", "resnet101", "resnet101", "resnet152", "resnet152"]
    assert re.search(r"^resnet50 +imagenet-v2 +80\.9 +95\.4 +97\.8 +no\b", done.out, re.MULTILINE)
    assert ("resnet50-11ad3fa6.pth" in done.out) == (columns == 140)
    assert max(len(line) for line in done.out.splitlines() if not line.startswith("cache")) <= columns


WRONG = {
    "weights and an order": (["--weights", "--sort", "top1"], 2, "--sort and --weights exclude each other"),
    "weights and data": (["--weights", "--dataset", "imagenet"], 2, "--dataset and --weights exclude each other"),
    "unknown order": (["--sort", "flops"], 2, "--sort 'flops'.*" + ".*".join(ORDERS)),
    "reverse alone": (["--reverse"], 2, "--reverse.*--sort params"),
    "no net": (["--filter", "alexnit"], 2, "'alexnit'.*did you mean alexnet"),
    "one filter of two": (["--filter", "vgg", "--filter", "xyz"], 2, "'xyz'"),
    "unknown data": (["--dataset", "imagenette"], 2, "--dataset 'imagenette'.*imagenet, cifar10 or mnist"),
    "no net for the data": (["--dataset", "mnist", "--filter", "vgg"], 2, "'vgg'.*mnist"),
    "no such format": (["--plot", "chart.jpg"], 2, r"chart\.jpg.*\.png, \.svg or \.pdf"),
    "a folder": (["--plot-depth", "folder.png"], 2, r"folder\.png is a folder.*folder\.png/chart\.png"),
    "no folder": (["--plot", "absent/chart.png"], 4, "absent.*mkdir -p absent"),
    "exists": (["--plot-depth", "there.png"], 2, r"there\.png exists.*--overwrite"),
    "one file for both": (["--plot", "a.png", "--plot-depth", "./a.png"], 2, "--plot and --plot-depth"),
    "nothing to plot": (["--dataset", "cifar10", "--plot", "a.png"], 2, "--plot.*ImageNet.*--dataset imagenet"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_usage_is_one_line_and_no_file(case: str, here: Path) -> None:
    (here / "folder.png").mkdir()
    (here / "there.png").write_text("mine")
    before = sorted(here.rglob("*"))
    arguments, code, pattern = WRONG[case]
    done = run("models", *arguments, cwd=here)
    assert (done.code, done.out) == (code, "")
    assert len(done.err.splitlines()) == 1
    assert re.search(pattern, done.err), done.err
    assert sorted(here.rglob("*")) == before
    assert (here / "there.png").read_text() == "mine"


@pytest.mark.parametrize("folder", ["file/pictures", "/proc/cnn-pictures"])
def test_a_folder_that_cannot_be_written_is_told_before_any_work(folder: str, here: Path) -> None:
    """Where even root may write nothing: below a file, and in a file system of the kernel's."""
    (here / "file").write_text("")
    done = run("models", "--plot", f"{folder}/chart.png", cwd=here)
    assert (done.code, done.out) == (4, "")
    assert folder in done.err


def test_charts_beside_the_list(here: Path) -> None:
    (here / "depth.png").write_text("old")
    done = run("models", "--filter", "resnet*", "--plot", "cost.svg", "--plot-depth", "depth.png", "--overwrite", cwd=here)
    assert (done.code, done.err) == (0, "wrote cost.svg\nwrote depth.png\n")
    assert names_in(done.out) == [name for name in ZOO if name.startswith("resnet")]
    with Image.open(here / "depth.png") as image:
        assert image.size == (1440, 960)
    assert "<svg" in (here / "cost.svg").read_text()
    assert sorted(path.name for path in here.iterdir()) == ["cost.svg", "depth.png"]


def test_json_stays_json_with_a_chart(here: Path) -> None:
    done = run("models", "--filter", "alexnet-owt", "--plot", "cost.png", "--json", cwd=here)
    assert [entry["name"] for entry in done.json["models"]] == ["alexnet-owt"]
    assert (here / "cost.png").read_bytes().startswith(b"\x89PNG")
