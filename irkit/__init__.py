"""irkit: compile PyTorch and Keras models for edge CPUs; fast, small, and explainable.

exe = irkit.compile(model, example_inputs=x, target="arm64-int8", calibration=batches)
y = exe(x)
exe.save("model.irk")
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from irkit import errors
from irkit.backend.artifact import load as _load  # with all that loading needs, so that it is quick; no compiler
from irkit.errors import IrkitError
from irkit.target import targets

if TYPE_CHECKING:
    from irkit.backend.executable import CompiledModel
    from irkit.backend.tuning import Tuning
    from irkit.ir.graph import Graph
    from irkit.ir.passes import Pass
    from irkit.ir.types import Array

__version__ = "0.1.0"
__all__ = [
    "IrkitError",
    "compile",
    "errors",
    "from_keras",
    "from_torch",
    "load",
    "optimize",
    "parse",
    "targets",
    "tune",
]


def compile(
    model: Any,
    example_inputs: Any = None,
    target: str = "native-fp32",
    calibration: Iterable[Any] | None = None,
    threads: int | None = None,
    strict: bool = False,
    keep_float: str | Sequence[str] = (),
    winograd: bool = True,
    bands: bool = True,
    tune: float = 0.0,
) -> CompiledModel:
    """Compile a model as it is.

    model: a ``torch.nn.Module`` in eval mode, an exported program, a ``keras.Model``, or a Graph.
    example_inputs: one array or tensor, or a tuple of them; fixes shapes and dtypes.
    target: ``<arch>-<precision>``, see :func:`targets`. Steers cost decisions; the result runs on every CPU.
    calibration: for int8, an iterable of batches, each one input or a tuple of inputs.
    threads: threads of a call; default ``IRKIT_THREADS`` or all cores. Never changes the result.
    strict: raise FallbackError when a step has no native kernel.
    keep_float: layer names or patterns (``"features.0.*"``) that int8 leaves in float.
    winograd: let fp32 targets compute 3x3 convolutions with fewer multiplications where that is predicted to be faster.
        Results are rounded in other places, within a bound (``irkit.ops.winograd``); near infinities and NaN, and for
        values above 1e36, they may be NaN for a whole tile of pixels.
    bands: run layers together, some rows at a time, where what is between them is larger than a cache; the plan shows
        the bytes saved. Never changes the result.
    tune: seconds within which to measure, here and with these threads, which of these lines of layers are faster one
        by one, and which weights sparse or dense; the plan tells, the artifact keeps it. 0: only predict. Never
        changes the result.

    Raises UnsupportedModelError (everything unsupported at once), ModelError, InputError, CalibrationError,
    TargetError, FallbackError.
    """
    from irkit.pipeline import compile_model

    return compile_model(  # type: ignore[no-any-return]
        model, example_inputs, target, calibration, threads, strict, keep_float,
        winograd=winograd, bands=bands, tune=tune,
    )  # fmt: skip


def load(path: str | os.PathLike[str], threads: int | None = None) -> CompiledModel:
    """Load an artifact made by ``exe.save``; safe on files from strangers: the worst outcome is ArtifactError."""
    return _load(path, threads=threads)


def tune(
    path: str | os.PathLike[str], inputs: Sequence[Any] | None = None, threads: int | None = None, seconds: float = 4.0
) -> Tuning:
    """Measure how the steps of an artifact run fastest here, and keep that for this machine; never required.

    Tries each step with every set of instructions of this CPU that there are kernels for, on one thread and on all.
    What is clearly faster, and makes the whole call so, is used by every later :func:`load` and :func:`compile` of this
    plan with as many threads, whose plans say ``chosen by measurement``. Results stay the same, bit for bit.

    inputs: arrays of a call; made up by default. threads: as for :func:`load`. seconds: time limit; when it is too
    short to measure well, nothing changes. The file is in ``IRKIT_CACHE_DIR``, else in the user's cache folder; where
    it can't be written, the choices hold for the returned model only.

    Returns a Tuning: model, before_ns, after_ns, steps (with the times of all that was tried), path. Raises
    ArtifactError, InputError.
    """
    from irkit.backend.tuning import tune as measure

    return measure(path, inputs, threads, seconds)


def from_torch(module: Any, example_inputs: Any) -> Graph:
    """A torch module (eval mode) as a float graph; UnsupportedModelError lists all that can't be lowered."""
    from irkit.frontends.torch import from_torch as convert

    return convert(module, example_inputs)


def from_keras(model: Any, example_inputs: Any = None) -> Graph:
    """A Keras model as a float graph; UnsupportedModelError lists all that can't be lowered."""
    from irkit.frontends.keras import from_keras as convert

    return convert(model, example_inputs)


def parse(text: str, constants: Mapping[str, Array] | None = None) -> Graph:
    """A graph from its text form; ``constants`` holds the arrays it names with ``@key``."""
    import irkit.ops
    from irkit.ir.parse import parse_graph

    assert irkit.ops
    return parse_graph(text, dict(constants or {}))


def optimize(graph: Graph, pipeline: str | Sequence[Pass] = "") -> Graph:
    """Run passes on a graph in place, verified after each one; default: the float clean-up. Returns the graph."""
    from irkit.pipeline import SIMPLIFY
    from irkit.pipeline import optimize as run

    return run(graph, pipeline or SIMPLIFY)
