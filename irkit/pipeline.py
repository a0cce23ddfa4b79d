"""The only place with an order: from a model to a compiled model."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import irkit.passes  # noqa: F401  (registers the passes)
from irkit.errors import CalibrationError, IRError, ModelError
from irkit.ir.graph import Graph
from irkit.ir.passes import Instrument, Pass, PassManager, parse_pipeline
from irkit.ir.types import Array
from irkit.passes.sparsify import Sparsify
from irkit.target import Target

#: Float clean-up: what every later pass may rely on.
SIMPLIFY = "canonicalize,fold-constants,fold-bn,canonicalize,fold-constants,cse,dce"
#: After calibrate has put quantize/dequantize pairs into the graph.
INTEGERIZE = "integerize,canonicalize,fold-constants,cse,dce"
#: Of float targets: other roundings for fewer multiplications.
FLOAT = "winograd"
#: How, never what: sparse storage, fused regions, storage orders.
LOWER = "sparsify,fuse,layout,dce"


def is_keras_model(model: Any) -> bool:
    """True for Keras models, found without importing Keras (with the torch backend they are torch modules too)."""
    return any(c.__module__.split(".")[0] == "keras" for c in type(model).__mro__)


def is_torch_model(model: Any) -> bool:
    """True for torch modules and exported programs, found without importing torch."""
    return any(c.__module__.split(".")[0] == "torch" for c in type(model).__mro__)


def import_model(model: Any, example_inputs: Any = None) -> Graph:
    """The model as a float graph, by the frontend that knows it. ModelError for anything else."""
    if isinstance(model, Graph):
        return model.clone()
    if is_keras_model(model):
        from irkit.frontends.keras import from_keras

        return from_keras(model, example_inputs)
    if is_torch_model(model):
        from irkit.frontends.torch import from_torch

        return from_torch(model, example_inputs)
    raise ModelError(
        "model: expected a torch.nn.Module, torch.export.ExportedProgram, keras.Model or irkit Graph, "
        f"got {type(model).__name__}"
    )


def optimize(graph: Graph, pipeline: str | Sequence[Pass] = SIMPLIFY, instruments: Sequence[Instrument] = ()) -> Graph:
    """Run passes on ``graph``, in place, verifying after each; returns it.

    ``pipeline`` is text such as ``"fold-bn,prune{sparsity=0.8},dce"`` or a list of passes.
    """
    passes = parse_pipeline(pipeline) if isinstance(pipeline, str) else list(pipeline)
    PassManager(passes, instruments).run(graph)
    return graph


def prepare(
    graph: Graph,
    target: Target,
    calibration: Iterable[Any] | None = None,
    keep_float: Sequence[str] = (),
    instruments: Sequence[Instrument] = (),
    winograd: bool = True,
) -> list[tuple[str, str]]:
    """Bring a float graph to what int8 and Winograd's method make of it, in place; ``lowering`` remains to be run.

    ``winograd``: a float target may compute 3x3 convolutions by Winograd's method.
    Returns (layer, reason) of what stayed in float although int8 was asked for.
    """
    optimize(graph, SIMPLIFY, instruments)
    notes: list[tuple[str, str]] = []
    if target.precision == "int8":
        if calibration is None:
            raise CalibrationError(
                f"target {target} needs calibration data: pass calibration=<iterable of batches>, each one input or a "
                f"tuple of inputs as the model takes them; a hundred real samples are a good start"
            )
        from irkit.passes.calibrate import Calibrate

        calibrate = Calibrate(batches=calibration, execute=_Runner(), keep_float=tuple(keep_float))
        optimize(graph, [calibrate], instruments)
        notes = list(calibrate.notes)
        optimize(graph, INTEGERIZE, instruments)
    elif winograd:
        optimize(graph, FLOAT, instruments)
    return notes


def lowering(storage: Mapping[str, Any]) -> list[Pass]:
    """The passes of ``LOWER``, with these options of ``sparsify``."""
    return [Sparsify(**storage) if isinstance(p, Sparsify) else p for p in parse_pipeline(LOWER)]


class _Runner:
    """Runs float graphs on the native runtime for calibration; compiles each graph once."""

    def __init__(self) -> None:
        self._graph: Graph | None = None
        self._model: Any = None

    def __call__(self, graph: Graph, batch: Sequence[Array]) -> list[Array]:
        if graph is not self._graph:
            from irkit.backend.executable import instantiate
            from irkit.backend.plan import make_plan

            g = graph.clone()
            optimize(g, LOWER)
            self._model, self._graph = instantiate(g, make_plan(g)), graph
        return list(self._model.run_flat(batch))


def compile_model(
    model: Any,
    example_inputs: Any = None,
    target: str = "native-fp32",
    calibration: Iterable[Any] | None = None,
    threads: int | None = None,
    strict: bool = False,
    keep_float: str | Sequence[str] = (),
    instruments: Sequence[Instrument] = (),
    winograd: bool = True,
    bands: bool = True,
    tune: float = 0.0,
) -> Any:
    """See :func:`irkit.compile`."""
    from irkit.backend.executable import check_threads, instantiate
    from irkit.backend.forms import Storage, check_seconds, fastest_plan, fastest_storage
    from irkit.backend.plan import make_plan

    goal = Target.parse(target)
    check_seconds(tune, goal)
    if threads is not None:
        check_threads(threads)
    patterns = (keep_float,) if isinstance(keep_float, str) else tuple(keep_float)
    if goal.precision == "fp32" and calibration is not None:
        raise CalibrationError(f"calibration was given but target {goal} is float; did you mean {goal.arch}-int8?")
    graph = import_model(model, example_inputs)
    if not len(graph):
        raise IRError("the model is empty")
    notes = prepare(graph, goal, calibration, patterns, instruments, winograd)
    end, storage = time.monotonic() + tune, Storage()
    if tune:
        storage = fastest_storage(lambda options: optimize(graph.clone(), lowering(options)), goal, threads, tune / 2)
    optimize(graph, lowering(storage.options), instruments)
    if tune and bands:
        plan = fastest_plan(graph, goal, notes, threads, end - time.monotonic(), storage.remarks)
    else:
        plan = make_plan(graph, goal, notes, bands, remarks=storage.remarks)
    return instantiate(graph, plan, threads=threads, strict=strict, target=goal)
