"""Several processes on this machine, started by torch's own launcher."""

from __future__ import annotations

import logging
import os
import signal
import sys
import uuid

from cnncli.errors import CnnError, EnvironmentFault, ExitCode, UsageError

RANK = "RANK"
LAUNCHED = "CNN_LAUNCHED"  # in the environment of processes that were started here: the process number of the one that started them


def is_first() -> bool:
    """Whether this is the one that talks, of all processes that train together. Asked before torch is there."""
    if RANK in os.environ:
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")  # read when torch is loaded: what it logs about others, we say in one line
    return os.environ.get(RANK, "0") == "0"


def started_elsewhere() -> bool:
    """Whether torchrun, and not `launch`, has started this process."""
    return RANK in os.environ and LAUNCHED not in os.environ


def chosen_gpus(text: str, count: int) -> list[int]:
    """`0,2` or `all` as numbers of the `count` GPUs of this machine.

    UsageError for another word; EnvironmentFault for one that is absent.
    """
    there = ", ".join(map(str, range(count))) if count else "none"
    if text == "all":
        if not count:
            raise EnvironmentFault("--gpus all: there is no GPU here", "leave it out to train on the CPU", path="--gpus")
        return list(range(count))
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 0 or len(set(numbers)) < len(numbers):
        raise UsageError(f"--gpus {text!r} should be different numbers, for example --gpus 0,1, or all", path="--gpus")
    if max(numbers) >= count:
        raise EnvironmentFault(f"--gpus {text}: no such GPU here", f"GPUs there are: {there}", path="--gpus")
    return numbers


def launch(arguments: list[str], processes: int, gpus: list[int] | None = None) -> int:
    """Run `python -m cnncli ARGUMENTS` in several processes that find each other, one per GPU where `gpus` are given; the exit code.

    When one fails, the others are ended, and its code is the answer. They listen on this machine's own address alone.
    """
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for name in list(logging.root.manager.loggerDict):  # each has a level of its own
        if name.startswith("torch.distributed.elastic"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # what ends a training is said once, and by us
    os.environ[LAUNCHED] = str(os.getpid())
    if gpus is not None:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(visible[gpu] if visible != [""] else str(gpu) for gpu in gpus)
    # Each process its share of the cores; without it torch gives each one.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        max_restarts=0,
        monitor_interval=0.2,
        logs_specs=DefaultLogsSpecs(os.devnull),  # else each start leaves a folder in the system's temporary one
    )
    try:
        elastic_launch(config, sys.executable)("-P", "-m", "cnncli", *arguments)  # -P: no module of the folder that it runs in
    except ChildFailedError as error:
        code = error.get_first_failure()[1].exitcode
        if code > 0:
            return code
        raise CnnError(f"a process of the training died (signal {-code})", "often for want of memory; --resume RUN goes on") from None
    except SignalException as error:
        return ExitCode.INTERRUPTED if error.sigval == signal.SIGINT else ExitCode.TERMINATED
    return ExitCode.DONE
