"""Finds int8 ranges on real data and writes them into the graph as dequantize(quantize(v)) pairs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from irkit.errors import CalibrationError
from irkit.ir.graph import Graph, Operation, Value, const_array
from irkit.ir.interp import run as interpret
from irkit.ir.passes import Effect, Pass
from irkit.ir.rewrite import erase_dead, unique_names
from irkit.ir.text import type_text
from irkit.ir.types import Array, Literal, QArray, Quant, TensorType
from irkit.ops import const, dequantize, quantize, return_
from irkit.quant.correct import Moments, output_shift, round_compensated
from irkit.quant.decide import ANCHORS, Decision, Point, decide
from irkit.quant.ranges import METHODS, choose_range, quant_of_range
from irkit.quant.tables import table_operand
from irkit.quant.weights import quantize_weights

if TYPE_CHECKING:
    from irkit.quant.observe import Histogram

Execute = Callable[[Graph, Sequence[Array]], Sequence[Array]]
FEW_SAMPLES = 32


def _interpreted(graph: Graph, inputs: Sequence[Array]) -> Sequence[Array]:
    return interpret(graph, *inputs)


@dataclass(frozen=True)
class Calibrate(Pass):
    """Static post-training quantization: which operations go to int8, and at which scales.

    ``batches``: an iterable of batches, each one input or a tuple of inputs of the graph's shapes; the leading axis
    may hold any multiple of the graph's. Seen once, one batch at a time; memory does not grow with their number.
    ``execute(graph, inputs)`` computes a graph's outputs (default: the NumPy interpreter). ``keep_float``: names or
    patterns (fnmatch) of layers that stay in float; a module's name covers what is in it. ``method``: "mse", "minmax",
    "percentile" (with ``percentile``) or "entropy".

    After it ran, ``notes`` lists (layer, why it stays in float). CalibrationError for missing, empty or unusable data;
    a warning for few samples.
    """

    effect: ClassVar[Effect] = Effect.LOSSY
    keep_float: tuple[str, ...] = ()
    method: str = "mse"
    percentile: float = 99.99
    batches: Iterable[Any] | None = field(default=None, compare=False, repr=False)
    execute: Execute = field(default=_interpreted, compare=False, repr=False)
    notes: list[tuple[str, str]] = field(default_factory=list, compare=False, repr=False)

    def describe(self) -> str:
        """The options without the data, which has no text form."""
        return "calibrate" + super(Calibrate, replace(self, batches=None, execute=_interpreted)).describe()[9:]

    def run(self, graph: Graph) -> bool:
        """Insert the pairs and the int8 weights; True when anything went to int8."""
        if self.method not in METHODS:
            raise CalibrationError(f"calibration method: expected one of {', '.join(METHODS)}, got {self.method!r}")
        if self.batches is None:
            raise CalibrationError(
                "int8 needs calibration data: pass an iterable of batches, each one input or a tuple of inputs "
                f"({_wanted(graph)}); a hundred real samples are a good start"
            )
        decision = decide(graph, self.keep_float)
        self.notes[:] = decision.notes
        histograms, moments = self._observe(graph, decision)
        if not decision.int8:
            return False
        _insert(graph, decision, self._quants(decision, histograms), moments)
        erase_dead(graph)
        unique_names(graph)
        return True

    def _observe(self, graph: Graph, decision: Decision) -> tuple[dict[Value, Histogram], dict[Operation, Moments]]:
        """Stream the batches through the graph: what each point sees, and what layers with weights take in."""
        from irkit.quant.observe import Histogram  # compiled; only calibration needs it

        watched = list(dict.fromkeys(p.observe for p in decision.points.values() if p.fixed is None))
        moments = {op: Moments(op) for op in decision.int8 if op.opdef in ANCHORS}
        fed: dict[Value, list[Moments]] = {}
        for op, m in moments.items():
            fed.setdefault(op.operand("x"), []).append(m)
        inner = [v for v in dict.fromkeys([*watched, *fed]) if v.producer is not None]
        observed = _with_outputs(graph, inner)
        histograms = {v: Histogram() for v in watched}
        samples = 0
        for inputs in split_batches(graph, self.batches):
            samples += inputs[0].shape[0] if inputs and inputs[0].ndim else 1
            seen = list(zip(graph.inputs, inputs, strict=True))
            if inner:
                seen += zip(inner, self.execute(observed, inputs), strict=True)
            for v, a in seen:
                if v in histograms:
                    histograms[v].add(a)
                    if histograms[v].bad:
                        raise CalibrationError(
                            f"calibration sample {samples}: %{v.name} of layer {_layer(v)} has NaN or infinite values"
                        )
                for m in fed.get(v, ()):
                    m.add(a)
        if samples == 0:
            raise CalibrationError(f"calibration: the iterable gave no batches; expected batches of {_wanted(graph)}")
        if samples < FEW_SAMPLES:
            warnings.warn(
                f"calibration saw {samples} sample{'s' if samples > 1 else ''} only; ranges may miss values of other "
                f"inputs: {FEW_SAMPLES} or more, better some hundreds, are advised",
                stacklevel=2,
            )
        return histograms, moments

    def _quants(self, decision: Decision, histograms: Mapping[Value, Histogram]) -> dict[Value, Quant]:
        quants: dict[int, Quant] = {}
        for point in decision.points.values():
            if id(point) not in quants:
                quants[id(point)] = point.fixed or self._quant(point, histograms[point.observe])
        return {v: quants[id(p)] for v, p in decision.points.items()}

    def _quant(self, point: Point, h: Histogram) -> Quant:
        lo, hi = choose_range(h, self.method, self.percentile)
        return quant_of_range(min([lo, *point.also]), max([hi, *point.also]))


def _wanted(graph: Graph) -> str:
    return ", ".join(f"%{v.name}: {type_text(v.type)}" for v in graph.inputs)


def _layer(v: Value) -> str:
    return repr((v.producer.loc or v.producer.name) if v.producer is not None else v.name)


def _with_outputs(graph: Graph, values: Sequence[Value]) -> Graph:
    """A copy of ``graph`` that returns these values."""
    mapping: dict[Value, Value] = {}
    g = graph.clone(mapping)
    g.erase(g.terminator)
    g.emit(return_, *(mapping[v] for v in values))
    erase_dead(g)
    return g


# ---- data


def split_batches(graph: Graph, batches: Iterable[Any] | None) -> Iterator[list[Array]]:
    """The data in pieces of the graph's input shapes; CalibrationError names batch, input, expected, got."""
    try:
        it = iter(batches if batches is not None else ())
    except TypeError:
        raise CalibrationError(
            f"calibration: expected an iterable of batches, got {type(batches).__name__}; wrap a single one in a list"
        ) from None
    for n, batch in enumerate(it):
        parts = list(batch) if isinstance(batch, (tuple, list)) else [batch]
        if len(parts) != len(graph.inputs):
            hint = " (leave labels out)" if len(parts) > len(graph.inputs) else ""
            raise CalibrationError(
                f"calibration batch {n}: expected {len(graph.inputs)} input(s) ({_wanted(graph)}), "
                f"got {len(parts)}{hint}"
            )
        pieces = [_pieces(_array(p, n, v), n, v.name, v.type) for p, v in zip(parts, graph.inputs, strict=True)]
        counts = {len(p) for p in pieces}
        if len(counts) > 1:
            raise CalibrationError(f"calibration batch {n}: its inputs hold different numbers of samples")
        for i in range(counts.pop() if counts else 1):
            yield [p[i] for p in pieces]


def _array(x: Any, n: int, v: Value) -> Array:
    if isinstance(x, np.ndarray):
        return x
    try:
        return np.asarray(x.detach().cpu().numpy() if hasattr(x, "detach") else x)
    except Exception as e:
        raise CalibrationError(
            f"calibration batch {n}, input %{v.name}: expected an array {type_text(v.type)}, "
            f"got {type(x).__name__} that does not convert: {e}"
        ) from None


def _pieces(x: Array, n: int, name: str, t: TensorType) -> list[Array]:
    where = f"calibration batch {n}, input %{name}: expected {type_text(t)}"
    if x.dtype != t.dtype.numpy:
        raise CalibrationError(f"{where}, got dtype {x.dtype}")
    if t.rank and t.shape[0] == 1 and x.shape == t.shape[1:]:
        x = x[None]
    fits = x.shape == t.shape or (
        t.rank > 0
        and x.ndim == t.rank
        and x.shape[1:] == t.shape[1:]
        and t.shape[0] > 0
        and x.shape[0] % t.shape[0] == 0
    )
    if not fits or x.size == 0:
        raise CalibrationError(f"{where} (or a multiple of it along axis 0), got shape {list(x.shape)}")
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        raise CalibrationError(f"{where}, got NaN or infinite values")
    if x.shape == t.shape:
        return [np.ascontiguousarray(x)]
    return [np.ascontiguousarray(p) for p in np.split(x, x.shape[0] // t.shape[0])]


# ---- writing the decision into the graph


def _insert(
    graph: Graph, decision: Decision, quants: Mapping[Value, Quant], moments: Mapping[Operation, Moments]
) -> None:
    for chosen in decision.int8:
        if chosen.opdef in ANCHORS:
            x = chosen.operand("x")
            _quantize_parameters(graph, chosen, quants[x], moments[chosen])
        elif table_operand(chosen) is None:
            _quantize_constants(graph, chosen)
    ops = graph.ops
    after = dict(pairwise(ops))
    for v, q in quants.items():
        op = v.producer
        if op is not None and op in decision.int8 and "same_scale" in op.opdef.tags:
            continue  # moves numbers that are on the grid already
        # what an int8 operation gives exists in int8 only; a float value stays what it is for float users
        users = [(u, i) for u, i in v.uses if op in decision.int8 or u in decision.int8]
        paired = _pair(graph, v, q, ops[0] if op is None else after[op])
        for u, i in users:
            u.set_operand(i, paired)
    for join, i in decision.rescale:
        source = join.operands[i]
        assert source is not None
        join.set_operand(i, _pair(graph, source, quants[join.result], join))


def _pair(graph: Graph, v: Value, q: Quant, before: Operation) -> Value:
    loc = v.producer.loc if v.producer is not None else ""
    names = [f"{v.name}_q"] if v.name else []
    stored = graph.emit(quantize, v, quant=q, before=before, loc=loc, names=names).result
    return graph.emit(dequantize, stored, before=before, loc=loc).result


def _stored_const(graph: Graph, old: Value, data: Array, quant: Quant, before: Operation) -> Value:
    loc = old.producer.loc if old.producer is not None else ""
    c = graph.emit(const, value=Literal(data), quant=quant, before=before, loc=loc, names=[old.name]).result
    return graph.emit(dequantize, c, before=before, loc=loc).result


def _quantize_parameters(graph: Graph, op: Operation, x: Quant, moments: Moments) -> None:
    """Weights of an anchor to int8; its bias takes back the shift and stays float until integerize."""
    w, old = op.operand("w"), op.get("bias")
    array, bias = const_array(w), const_array(old)
    assert array is not None
    data, quant = quantize_weights(array, bias, x.scale[0])
    covariance = moments.covariance
    if covariance is not None:
        data = round_compensated(array, quant, covariance)
    op.set_operand(1, _stored_const(graph, w, data, quant, op))
    shift = output_shift(op, QArray(data, quant).real() - array, moments.mean)
    fixed = (0.0 if bias is None else bias.astype(np.float64)) - shift
    names = [old.name if old is not None else ""]
    op.set_operand(2, graph.emit(const, value=fixed.astype(np.float32), before=op, loc=op.loc, names=names).result)


def _quantize_constants(graph: Graph, op: Operation) -> None:
    for i, v in enumerate(op.operands):
        array = const_array(v)
        if v is None or array is None:
            continue
        q = quant_of_range(float(array.min(initial=0.0)), float(array.max(initial=0.0)))
        op.set_operand(i, _stored_const(graph, v, quantize.fn(array, quant=q), q, op))
