"""Ops that every graph is made of: constants, the terminator, fused regions, storage order and casts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from irkit.errors import IRError
from irkit.ir.opdef import Case, op
from irkit.ir.types import ROW_MAJOR, Array, DType, Encoding, Literal, QArray, Quant, TensorType
from irkit.ops.check import keep_quant, show

if TYPE_CHECKING:
    from irkit.ir.graph import Graph


def _const_infer(*, value: Any, quant: Quant | None, encoding: Encoding | None) -> TensorType:
    if not isinstance(value, Literal):
        raise IRError(f"attribute value: expected an array, got {type(value).__name__}")
    if quant is not None and not isinstance(quant, Quant):
        raise IRError(f"attribute quant: expected a Quant, got {quant!r}")
    a = value.array
    return TensorType(a.shape, DType.of(a.dtype), quant, encoding or ROW_MAJOR)


def _const_cases() -> Iterator[Case]:
    yield Case((), {"value": Literal(np.arange(6, dtype=np.float32).reshape(2, 3))}, "f32")
    yield Case((), {"value": Literal(np.float32(2.5))}, "scalar")
    yield Case((), {"value": Literal(np.arange(4, dtype=np.int8)), "quant": Quant((0.5, 1, 2, 3), (0,) * 4, 0)}, "i8")


@op(infer=_const_infer, cases=_const_cases)
def const(*, value: Any, quant: Quant | None = None, encoding: Encoding | None = None) -> Array:
    """A constant array. ``value`` is in logical order; ``encoding`` says how it is stored, ``quant`` what it means."""
    return np.asarray(value.array if isinstance(value, Literal) else value)


def _return_infer(*xs: TensorType, tree: str) -> tuple[TensorType, ...]:
    return ()


def _return_cases() -> Iterator[Case]:
    yield Case((np.array([1, 2], np.float32), np.array([3], np.int64)), {}, "two")


@op(infer=_return_infer, cases=_return_cases, name="return")
def return_(*xs: Array, tree: str = "") -> tuple[Array, ...]:
    """Ends a graph: its operands are the graph's outputs. ``tree`` (JSON) tells how the caller wants them nested."""
    return xs


def _fused_infer(*xs: TensorType, body: Graph) -> tuple[TensorType, ...]:
    if len(xs) != len(body.inputs):
        raise IRError(f"body: expected {len(xs)} inputs, got {len(body.inputs)}")
    for i, (x, v) in enumerate(zip(xs, body.inputs, strict=True)):
        if x is None or x.logical() != v.type.logical():
            raise IRError(f"operand xs[{i}]: expected {show(v.type)} like the body's input, got {show(x)}")
    return tuple(v.type.logical() for v in body.outputs)


def _fused_cases() -> Iterator[Case]:
    from irkit.ir.graph import Graph

    x = np.array([-1.5, 0.25, 7.75], np.float32)
    body = Graph("fused", [("x", TensorType((3,)))])
    body.emit(return_, body.emit(cast, body.inputs[0], dtype="i32").result)
    yield Case((x,), {"body": body}, "one")
    body = Graph("fused", [("x", TensorType((3,))), ("y", TensorType((3,), DType.I32))])
    wide = body.emit(cast, body.inputs[1], dtype="f64").result
    body.emit(return_, wide, body.emit(cast, body.inputs[0], dtype="i8").result)
    yield Case((x, np.array([1, 2, 3], np.int32)), {"body": body}, "two_results")


@op(infer=_fused_infer, cases=_fused_cases)
def fused(*xs: Array, body: Graph) -> Array | tuple[Array, ...]:
    """The operations of ``body``, done by one kernel. Means exactly what the body means.

    The body's inputs stand for the operands, in order; its ``return`` gives the results.
    """
    env: dict[Any, Any] = dict(zip(body.inputs, xs, strict=True))
    for o in body:
        args = [None if v is None else env[v] for v in o.operands]
        if "int8" in o.opdef.tags:
            args = [
                QArray(np.asarray(a), v.type.quant) if v is not None and v.type.quant is not None else a
                for a, v in zip(args, o.operands, strict=True)
            ]
        extra = {"body": o.body} if o.body is not None else {}
        r = o.opdef.fn(*args, **o.attrs, **extra)
        env.update(zip(o.results, r if isinstance(r, tuple) else (r,), strict=False))
    outs = tuple(env[v] for v in body.outputs)
    return outs[0] if len(outs) == 1 else outs


def _any_cases() -> Iterator[Case]:
    yield Case((np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4),), {}, "f32")
    yield Case((np.arange(6, dtype=np.int8).reshape(2, 3),), {}, "i8")


@op(infer=lambda x: x, tags="same_scale", cases=_any_cases)
def relayout(x: Array) -> Array:
    """x itself, stored in another axis order (its result's type says which)."""
    return x


@op(infer=lambda x: x, tags="same_scale", cases=_any_cases)
def copy(x: Array) -> Array:
    """x itself in memory of its own: for an output that would otherwise be an input, a constant or another output."""
    return np.array(x)


def _cast_infer(x: TensorType, *, dtype: str) -> TensorType:
    if dtype not in {d.value for d in DType}:
        raise IRError(f"attribute dtype: expected one of {', '.join(d.value for d in DType)}, got {dtype!r}")
    if x.quant is not None:
        raise IRError(f"operand x: expected a plain tensor, got quantized {show(x)}; use dequantize")
    return replace(keep_quant(x, x.shape), dtype=DType(dtype))


def _cast_cases() -> Iterator[Case]:
    x = np.array([-1.7, 0.0, 0.5, 2.9, 300.0, -300.0, 1e20, np.inf, -np.inf, np.nan], np.float32)
    for d in ("f64", "i8", "u8", "i32", "i64", "bool", "f32"):
        yield Case((x,), {"dtype": d}, d)
    yield Case((np.array([-1, 0, 5, 2**40], np.int64),), {"dtype": "f32"}, "from_i64")
    yield Case((np.array([-1, 0, 300], np.int64),), {"dtype": "i8"}, "narrow")
    yield Case((np.array([True, False]),), {"dtype": "f32"}, "from_bool")


@op(infer=_cast_infer, tags="elementwise unary", cases=_cast_cases)
def cast(x: Array, *, dtype: str) -> Array:
    """x converted to another element type.

    Float to integer truncates toward zero and saturates, NaN becomes 0 (as the conversion instructions of arm64 and
    WebAssembly do); integer to integer wraps; anything to bool is ``x != 0``.
    """
    to = DType(dtype)
    if to is DType.BOOL:
        return np.asarray(x != 0)
    if x.dtype.kind == "f" and not to.is_float:
        info = np.iinfo(to.numpy)
        v = np.trunc(np.nan_to_num(x.astype(np.float64), nan=0.0, posinf=np.inf, neginf=-np.inf))
        inside = np.where((v >= float(info.min)) & (v < float(info.max) + 1), v, 0).astype(to.numpy)
        low = np.where(v <= float(info.min), to.numpy.type(info.min), inside)
        return np.where(v >= float(info.max), to.numpy.type(info.max), low)
    with np.errstate(over="ignore"):
        return x.astype(to.numpy)
