"""What the processes run that have torch, and fork: the one of `harness`, and how it and that of `ranks` get so far."""

from __future__ import annotations

# All of the package, and a picture, which fills matplotlib's caches: else every child would read, compile and fill anew.
LOADED = r"""
import gc, importlib, io, json, os, pkgutil, socket, sys
from contextlib import suppress

import matplotlib.backends.backend_agg, matplotlib.figure, numpy, safetensors.torch, sklearn.datasets, sklearn.metrics  # noqa
import torch, torch._dynamo, torch.optim  # noqa
import cnncli.__main__, cnncli.cli.main

for found in pkgutil.walk_packages(cnncli.__path__, "cnncli."):
    if not found.name.endswith("__main__"):
        with suppress(Exception):  # what is wrong with it shows where it is used
            importlib.import_module(found.name)
axes = matplotlib.figure.Figure(layout="constrained").subplots()
axes.plot([1, 2], label="x")
axes.set_title("x")
axes.legend()
axes.figure.savefig(io.BytesIO(), format="png")
"""

SERVER = (
    LOADED
    + r"""
FOR_EXPORT = (
    "networkx", "onnx.reference", "onnxruntime", "onnxscript.function_libs.torch_lib.ops", "onnxscript.optimizer", "onnxscript.rewriter",
    "sympy.tensor.tensor", "torch.export._trace", "torch._export.non_strict_utils", "torch._functorch.aot_autograd",
    "torch.onnx._internal.exporter._core", "torch.onnx._internal.exporter._torchlib.ops",
)  # seconds, too, and only for those tests that need it

gc.freeze()  # what is here stays: children need not copy it to look through it
line = socket.socket(fileno=int(sys.argv[1]))
orders = line.makefile("r")
for order in orders:
    job = json.loads(order)
    if job["arguments"][:1] == ["export"]:
        for name in FOR_EXPORT:
            with suppress(ImportError):
                importlib.import_module(name)
        gc.freeze()
    child = os.fork()
    if child == 0:
        break
    line.sendall(json.dumps(child).encode() + b"\n")
    line.sendall(json.dumps(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])).encode() + b"\n")
else:
    os._exit(0)

os.setsid()
os.chdir(job["cwd"])
os.environ.clear()
os.environ.update(job["env"])
for number, (path, flags) in enumerate(
    ((job["in"], os.O_RDONLY), (job["out"], os.O_WRONLY | os.O_CREAT), (job["err"], os.O_WRONLY | os.O_CREAT))
):
    opened = os.open(path, flags, 0o666)
    os.dup2(opened, number)
    os.close(opened)
encoding = os.environ.get("PYTHONIOENCODING", "utf-8")
sys.stdin = sys.__stdin__ = io.TextIOWrapper(open(0, "rb", closefd=False), encoding=encoding)
sys.stdout = sys.__stdout__ = io.TextIOWrapper(open(1, "wb", closefd=False), encoding=encoding)
escaped = {"errors": "backslashreplace", "line_buffering": True}
sys.stderr = sys.__stderr__ = io.TextIOWrapper(open(2, "wb", closefd=False), encoding=encoding, **escaped)
line.close()
if job["first"]:
    exec(job["first"], {})
sys.argv = ["cnn", *job["arguments"]]
try:
    cnncli.__main__.run()
except SystemExit as end:
    code = end.code
sys.stdout.flush()
os._exit(code)  # taking torch down again costs half a second
"""
)
