"""Finetuning, measured: what transfer gives on real photos, and how much time is saved by computing what is frozen once.

    python tests/benchmarks/bench_finetune.py transfer PHOTOS SQUEEZENET.pth [FOLDS]
    python tests/benchmarks/bench_finetune.py speed PHOTOS [ROUNDS]

transfer: five-fold cross-validation of SqueezeNet 1.1 with ImageNet weights: the classifier alone (in steps, and solved), the deepest
block, the full recipe in two stages, the same net from scratch for the same time, and scikit-learn's logistic regression on the same
features; paired on the same images. speed: ten epochs of a new classifier on a frozen ResNet-18 (weights drawn: speed does not depend on
them) against the usual loop, in which the frozen net runs in every epoch on images that torchvision's transforms read; and with the deepest
block learning, against the same training that recomputes the frozen part. Rounds are interleaved, medians shown.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command does

import torch

from cnncli.cli import finetune_compare
from cnncli.cli.finetune import Tuning, planned_stages
from cnncli.cli.finetune_data import read_photos, settled_augment
from cnncli.cli.train_settings import new_settings
from cnncli.data.config import AugmentConfig, DataConfig
from cnncli.data.folds import folds
from cnncli.data.source import open_source
from cnncli.engine.distributed import World
from cnncli.engine.intervals import wilson
from cnncli.engine.paired import compare_hits
from cnncli.models.resolve import resolve
from cnncli.transfer.config import DEFAULTS, FinetuneConfig

WORLD = World()


def tuning(net: str, data: Path, weights: str, **finetune: object) -> Tuning:
    settings = new_settings(net, str(data), None, {}, name=None, file=None, given={}, defaults=DEFAULTS)
    return Tuning(settings, FinetuneConfig(**finetune), weights, {})


def transfer(photos: Path, weights: str, count: int) -> None:
    base = tuning("squeezenet1_1", photos, weights)
    sources = folds(open_source(str(photos)), count, val_fraction=finetune_compare.USUAL_SHARE)
    planned = planned_stages(resolve("squeezenet1_1"), base, sources[0])
    hits: dict[str, list[torch.Tensor]] = {}
    seconds: dict[str, list[float]] = {}
    for number, source in enumerate(sources, start=1):
        for method, tally in finetune_compare.measured(planned, base, source, None, WORLD):
            hits.setdefault(method, []).extend(tally.hits)
            seconds.setdefault(method, []).extend(tally.seconds)
        for name, found, taken in (solved(planned, base, source), *logistic_regression(planned, base, source)):
            hits.setdefault(name, []).append(found)
            seconds.setdefault(name, []).append(taken)
        print(f"fold {number}:", {name: f"{float(found[-1].double().mean()):.3f}" for name, found in hits.items()}, flush=True)
    whole = {name: torch.cat(found) for name, found in hits.items()}
    reference = whole["scikit-learn"]
    print(f"\n{'method':<36} accuracy  95 % interval    less scikit-learn, paired 95 %   seconds a fold")
    for name, found in whole.items():
        right, against = wilson(int(found.sum()), len(found)), compare_hits(reference, found)
        difference = f"{against.difference:+.2%} ({against.interval.low:+.2%} to {against.interval.high:+.2%})"
        interval = f"{right.low:.1%} to {right.high:.1%}"
        print(f"{name:<36} {float(found.double().mean()):7.2%}  {interval}   {difference:<32} {statistics.mean(seconds[name]):.1f}")


def photos_of(planned: tuple, base: Tuning, source: object) -> object:  # type: ignore[type-arg]
    form = planned[0].info.preprocess
    augment = settled_augment(base.settings.of(AugmentConfig), (form.channels, form.height, form.width))
    return read_photos(source, form, base.settings.of(DataConfig), augment, vary=False)  # type: ignore[arg-type]


def solved(planned: tuple, base: Tuning, source: object) -> tuple[str, torch.Tensor, float]:  # type: ignore[type-arg]
    """The classifier solved as a logistic regression."""
    import copy

    own = replace(base, finetune=FinetuneConfig(freeze=True, solver="lbfgs"))
    adapted = replace(planned[0], model=copy.deepcopy(planned[0].model))
    photos = photos_of(planned, base, source)
    stages = finetune_compare.stages_of(adapted, planned, own)
    began = time.perf_counter()
    model = finetune_compare.trained((adapted, planned[1], stages), photos, own, WORLD)
    taken = time.perf_counter() - began
    tests = finetune_compare.tests_of(source, photos.plain.preprocess, base.settings.of(DataConfig))  # type: ignore[attr-defined]
    return "classifier, solved", finetune_compare.hits_of(model, tests, photos.plain.preprocess, WORLD), taken  # type: ignore[attr-defined]


def logistic_regression(planned: tuple, base: Tuning, source: object) -> list[tuple[str, torch.Tensor, float]]:  # type: ignore[type-arg]
    """scikit-learn's, on the mean over positions of what comes before the classifier.

    Once as ours: on the training images, C by the validation images; once on both, C by cross-validation within them.
    """
    from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
    from sklearn.metrics import log_loss
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from cnncli.data.shards.either import open_images, open_loader
    from cnncli.transfer.partial import Prefix

    adapted, structure, _ = planned
    cut = structure.cut_before([adapted.head.path])
    prefix, form = Prefix(adapted.model, cut).eval(), adapted.info.preprocess
    began, found = time.perf_counter(), {}
    for split in ("train", "val", "test"):
        pixels = open_images(source, split, form, base.settings.of(DataConfig))  # type: ignore[arg-type]
        with torch.inference_mode():
            batches = [prefix(batch.images).flatten(2).mean(2) for batch in open_loader(pixels, form, batch_size=64).epoch(1)]
        found[split] = torch.cat(batches).double().numpy(), pixels.labels
    taken = time.perf_counter() - began
    x, y = found["train"]
    scale = StandardScaler().fit(x)
    tried = [LogisticRegression(C=10.0**power, max_iter=5000).fit(scale.transform(x), y) for power in range(-5, 2)]
    alike = min(tried, key=lambda one: log_loss(found["val"][1], one.predict_proba(scale.transform(found["val"][0]))))
    hits = torch.from_numpy(alike.predict(scale.transform(found["test"][0]))) == found["test"][1]
    both = [torch.cat([torch.as_tensor(found[split][part]) for split in ("train", "val")]).numpy() for part in (0, 1)]
    whole = make_pipeline(StandardScaler(), LogisticRegressionCV(Cs=10, cv=5, max_iter=2000, scoring="accuracy")).fit(*both)
    more = torch.from_numpy(whole.predict(found["test"][0])) == found["test"][1]
    return [("scikit-learn", hits, taken), ("scikit-learn, a quarter more images", more, taken)]


def speed(photos: Path, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        from torchvision.models import get_model

        weights = Path(folder) / "resnet18.pth"
        torch.save(get_model("resnet18", weights=None).state_dict(), weights)
        source = open_source(str(photos))
        ways = {
            "usual loop, classifier": lambda: usual(photos, source, 10),
            "cnn finetune --freeze": lambda: ours(photos, source, str(weights), freeze=True, head_epochs=10),
            "the same, no mirror images": lambda: ours(photos, source, str(weights), flip=False, freeze=True, head_epochs=10),
            "deepest block, recomputed": lambda: ours(photos, source, str(weights), unfreeze=1, head_epochs=0, features="off"),
            "deepest block, computed once": lambda: ours(photos, source, str(weights), unfreeze=1, head_epochs=0),
        }
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(rounds):
            for name, way in ways.items():
                began = time.perf_counter()
                way()
                taken[name].append(time.perf_counter() - began)
                print(f"round {number + 1}: {name} {taken[name][-1]:.1f} s", flush=True)
        middle = {name: statistics.median(values) for name, values in taken.items()}
        first, block = middle["usual loop, classifier"], middle["deepest block, recomputed"]
        for name, value in middle.items():
            against = block if name.startswith("deepest") else first
            print(f"{name:<30} {value:7.1f} s  {against / value:5.1f} times")


def ours(photos: Path, source: object, weights: str, *, flip: bool = True, **finetune: object) -> None:
    """Ten epochs, from reading the images to the end; with a flip two views of each image are computed."""
    base = tuning("resnet18", photos, weights, **finetune)
    values = base.settings.values | {"epochs": 10, "patience": None, "flip": flip, "crop_scale": 1.0, "shift": 0}
    base = replace(base, settings=replace(base.settings, values=values))
    planned = planned_stages(resolve("resnet18"), base, source)  # type: ignore[arg-type]
    photos_read = photos_of(planned, base, source)
    finetune_compare.trained(planned, photos_read, base, WORLD)


def usual(photos: Path, source: object, epochs: int) -> None:
    """The frozen net in every epoch, images by torchvision's transforms in a DataLoader with two workers; a validation after each."""
    from torch import nn
    from torchvision import transforms
    from torchvision.datasets import ImageFolder
    from torchvision.models import get_model

    normal = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    plain = [transforms.Resize(256), transforms.CenterCrop(224)]
    vary = transforms.Compose([*plain, transforms.RandomHorizontalFlip(), transforms.ToTensor(), normal])
    still = transforms.Compose([*plain, transforms.ToTensor(), normal])
    train_paths = {sample.path for sample in source.samples("train")}  # type: ignore[attr-defined]

    def loader(transform: object, *, train: bool) -> torch.utils.data.DataLoader:  # type: ignore[type-arg]
        data = ImageFolder(str(photos), transform)  # type: ignore[arg-type]
        keep = [place for place, (path, _) in enumerate(data.samples) if (str(Path(path).relative_to(photos)) in train_paths) == train]
        return torch.utils.data.DataLoader(torch.utils.data.Subset(data, keep), batch_size=32, shuffle=train, num_workers=2)

    model = get_model("resnet18", weights=None)
    model.requires_grad_(requires_grad=False)
    model.fc = nn.Linear(512, 5)
    optimizer = torch.optim.AdamW(model.fc.parameters(), 1e-3)
    train, val = loader(vary, train=True), loader(still, train=False)
    for _ in range(epochs):
        model.train()
        for images, labels in train:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            sum(int((model(images).argmax(1) == labels).sum()) for images, labels in val)


if __name__ == "__main__":
    what, photos_folder, *rest = sys.argv[1:]
    if what == "transfer":
        transfer(Path(photos_folder), rest[0], int(rest[1]) if rest[1:] else 5)
    else:
        speed(Path(photos_folder), int(rest[0]) if rest else 3)
