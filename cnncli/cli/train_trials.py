"""`cnn train --find-lr` and `--profile`: some steps that tell something, and train nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cnncli import atomic
from cnncli.arch.net import Net, totals, walk
from cnncli.errors import CnnError, ExitCode, UsageError, printable
from cnncli.reports.terminal import write_result

if TYPE_CHECKING:
    from torch import nn

    from cnncli.cli.train import Job
    from cnncli.cli.train_settings import Settings
    from cnncli.cli.training_data import Images
    from cnncli.engine.distributed import World


def try_out(job: Job, settings: Settings, world: World, images: Images, net: Net, model: nn.Module) -> int:
    """Do what `job.task` says."""
    from cnncli.cli.training_plan import planned
    from cnncli.engine.training import Training

    sums = totals(walk(net), net.input)
    plan, (train, _), _ = planned(settings, world, images, model, activations=sums.activations)
    if job.task == "profile":
        from cnncli.engine.stopwatch import profile
        from cnncli.reports.profile import show_profile

        found = profile(Training(model, plan, world), train, macs=sums.macs, activations=sums.activations)
        if world.first:
            show_profile(found)
        return ExitCode.DONE
    from cnncli.engine.range_test import range_test
    from cnncli.reports.range_test import draw_range_test

    path = _picture(job, f"{net.name}-{images.source.name}")
    test = range_test(model, plan, train, world)
    if not world.first:
        return ExitCode.DONE
    if len(test.rates) < 2:
        raise CnnError("the loss is not finite even at a tiny rate", "look at the data with `cnn data`, or try --precision fp32")
    atomic.make_folder(path.parent)
    draw_range_test(path, test, f"{net.name} on {images.source.name}, {plan.optim.optimizer}")
    if test.suggested is None:
        write_result(f"{printable(path)}: the loss never fell; no rate to suggest\n")
    else:
        write_result(
            f"{printable(path)}: suggested --lr {test.suggested:.2g} (the loss is smallest at {test.limit:.2g}, just before it grows)\n"
        )
    return ExitCode.DONE


def _picture(job: Job, name: str) -> Path:
    """Where the picture of the range test goes: --out, which is its file here, or a free name in runs/."""
    from cnncli.engine.runs import check_writable, plain_name

    if job.out is None:
        names = (Path("runs") / f"{plain_name(name)}-lr-{number}.png" for number in range(1, 1_000_000))
        path = next(path for path in names if not path.exists())
    elif job.out.suffix != ".png":
        raise UsageError(f"--out {job.out}: the range test is a picture", "give a name that ends in .png", path="--out")
    else:
        path = job.out
        if path.exists() and not job.overwrite:
            raise UsageError(f"{path} exists", "use --overwrite, or another --out", path=str(path))
    check_writable(path.parent)
    return path
