"""Runs single steps of the native runtime, and makes arrays whose neighbours in memory can't be touched."""

from __future__ import annotations

import ctypes
import json
import mmap
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

import irkit.backend.native  # noqa: F401  (registers the lowerings)
from irkit import _native
from irkit.backend.kernel import Const, Step
from irkit.ir.graph import Graph, Value, const_array
from irkit.ir.types import Array, DType, TensorType

ISAS = _native.isas()
load_plan = _native.load_plan  # tests/kernels/recording.py puts its own in this place
_libc = ctypes.CDLL(None, use_errno=True)


def _json(v: Any) -> Any:
    if isinstance(v, dict):
        return {k: _json(x) for k, x in v.items()}
    if isinstance(v, (list, tuple)):
        return [_json(x) for x in v]
    if isinstance(v, float) and np.isinf(v):
        return "inf" if v > 0 else "-inf"
    return v.item() if isinstance(v, np.generic) else v


def load_step(
    family: str,
    inputs: Sequence[Array | None],
    outputs: Sequence[tuple[Sequence[int], npt.DTypeLike]],
    attrs: dict[str, Any],
    *,
    isa: str | None = None,
    threads: int = 1,
    consts: Sequence[int] = (),
    quant: dict[int, tuple[float, int]] | None = None,
    in_place: int | None = None,
) -> tuple[_native.Model, list[Array]]:
    """A model of one step, and the list of arrays to run it on.

    ``outputs`` gives (shape, dtype) of each output, shapes in memory order; ``consts`` the positions of inputs that the
    step sees as constants; ``quant`` (scale, zero) by operand position, outputs counted after inputs. ``in_place``: the
    input that a step before this one has copied to where this one writes its output.
    """
    tensors: list[dict[str, Any]] = []
    ports: list[dict[str, Any]] = []
    table: dict[str, Array] = {}
    feed: list[Array] = []
    where: list[int] = []
    moves: list[dict[str, Any]] = []

    def add(shape: Sequence[int], dtype: npt.DTypeLike, loc: list[Any], position: int) -> int:
        t: dict[str, Any] = {"dtype": DType.of(dtype).value, "shape": [int(d) for d in shape], "loc": loc}
        if quant and position in quant:
            t["scale"], t["zero"] = float(quant[position][0]), int(quant[position][1])
        tensors.append(t)
        return len(tensors) - 1

    for i, a in enumerate(inputs):
        if a is None:
            where.append(-1)
        elif i in consts:
            table[f"c{i}"] = a
            where.append(add(a.shape, a.dtype, ["const", f"c{i}"], i))
        else:
            where.append(add(a.shape, a.dtype, ["in", len(feed)], i))
            ports.append({"name": f"x{i}", "tensor": where[-1]})
            feed.append(a)
            if i == in_place:
                where[-1] = add(a.shape, a.dtype, ["out", 0], i)
                moves.append({"family": "eltwise", "in": [where[-1] - 1], "out": [where[-1]], "attrs": {}, "name": ""})
    out = [add(s, d, ["out", k], len(inputs) + k) for k, (s, d) in enumerate(outputs)]
    plan = {
        "version": 1,
        "inputs": ports,
        "outputs": [{"name": f"y{k}", "tensor": t} for k, t in enumerate(out)],
        "tensors": tensors,
        "arena": 0,
        "steps": [*moves, {"family": family, "in": where, "out": out, "attrs": _json(attrs), "name": family}],
    }
    level = _native.effective_isa(isa)
    # Small steps would stay with one thread: so they are cut in the middle as well.
    choose = (lambda digest, steps: [(level, threads)] * steps) if threads > 1 else None
    return load_plan(json.dumps(plan), table, isa=isa, threads=threads, choose=choose), feed


def run_step(
    family: str,
    inputs: Sequence[Array | None],
    outputs: Sequence[tuple[Sequence[int], npt.DTypeLike]],
    attrs: dict[str, Any],
    **options: Any,
) -> list[Array]:
    """The outputs of one step, in memory order. Arguments as for :func:`load_step`.

    Outputs end at an unreadable page and start out as bytes 0x5A, so that writes past the end crash and elements never
    written are seen.
    """
    model, feed = load_step(family, inputs, outputs, attrs, **options)
    results = [guarded(np.zeros(shape, dtype)) for shape, dtype in outputs]
    for _ in range(2 if options.get("threads", 1) > 1 else 1):  # of small calls, only one of a row gets threads
        for r in results:
            r.reshape(-1).view(np.uint8)[...] = 0x5A
        model.run_into(feed, results)
    return results


def run_lowered(step: Step, arrays: dict[Value, Array], **options: Any) -> list[Array]:
    """Logical results of a step that a lowering made; ``arrays`` holds the logical array of each graph value it reads.

    Values made by ``const`` and derived constants are given to the step as constants. Where the result may be in place
    of an operand, it must be the same there.
    """
    inputs: list[Array | None] = []
    consts: list[int] = []
    quant: dict[int, tuple[float, int]] = {}
    for i, v in enumerate(step.inputs):
        if v is None:
            inputs.append(None)
            continue
        if isinstance(v, Const):
            inputs.append(np.ascontiguousarray(v.array))
            consts.append(i)
            continue
        held = const_array(v)
        if held is not None:
            consts.append(i)
        inputs.append(v.type.to_storage(arrays[v] if held is None else held).reshape(v.type.storage_shape))
        if v.type.quant is not None and v.type.quant.axis is None:
            quant[i] = (v.type.quant.scale[0], v.type.quant.zero[0])
    outs = []
    for k, v in enumerate(step.outputs):
        outs.append((v.type.storage_shape, v.type.dtype.numpy))
        if v.type.quant is not None and v.type.quant.axis is None:
            quant[len(inputs) + k] = (v.type.quant.scale[0], v.type.quant.zero[0])
    run = partial(run_step, step.family, inputs, outs, step.attrs, consts=consts, quant=quant, **options)
    got = run()
    for k in step.in_place:
        a = inputs[k]
        if a is not None and k not in consts and (a.dtype, a.nbytes) == (got[0].dtype, got[0].nbytes):
            (over,) = run(in_place=k)
            assert same_bits(got[0], over), f"other bits in place of input {k}"
    return [v.type.from_storage(a) for v, a in zip(step.outputs, got, strict=True)]


def graph_of(opdef: Any, types: Sequence[TensorType | None], *, out: TensorType | None = None, **attrs: Any) -> Graph:
    """A graph of one operation on inputs of these types (None: absent operand); ``out`` overrides its result type."""
    from irkit.ops import return_

    g = Graph()
    values = [None if t is None else g.add_input(t) for t in types]
    op = g.emit(opdef, *values, types=None if out is None else [out], **attrs)
    g.emit(return_, *op.results)
    return g


def guarded(a: Array) -> Array:
    """A copy of ``a`` that ends at an unreadable page, and begins right after one when its size allows."""
    page = mmap.PAGESIZE
    body = (a.nbytes + page - 1) // page * page
    m = mmap.mmap(-1, body + 2 * page)
    base = np.frombuffer(m, np.uint8)
    for at in (0, page + body):
        if _libc.mprotect(ctypes.c_void_p(base.ctypes.data + at), ctypes.c_size_t(page), 0) != 0:
            raise OSError(ctypes.get_errno(), "mprotect")
    start = page + body - a.nbytes
    out = base[start : start + a.nbytes].view(a.dtype).reshape(a.shape)
    out[...] = a
    return out


def same_bits(a: Array, b: Array) -> bool:
    """Equal bit for bit; any NaN equals any NaN."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.dtype.kind != "f":
        return bool(np.array_equal(a, b))
    u = a.view(f"u{a.itemsize}") if a.ndim else a.reshape(1).view(f"u{a.itemsize}")
    v = b.view(f"u{b.itemsize}") if b.ndim else b.reshape(1).view(f"u{b.itemsize}")
    return bool(np.all((u == v) | (np.isnan(a) & np.isnan(b)).reshape(u.shape)))


def ulps(got: Array, exact: Array) -> npt.NDArray[np.float64]:
    """Error of float32 results in units of the last place of the exact value; inf where one is NaN or infinite and the
    other is not the same."""
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = exact.astype(np.float32)
        unit = np.spacing(np.minimum(np.abs(rounded), np.finfo(np.float32).max)).astype(np.float64)
        error = np.abs(got.astype(np.float64) - exact.astype(np.float64)) / unit
    same = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
    error = np.where(np.isfinite(got) & np.isfinite(rounded), error, np.inf)
    return np.where(same & ~np.isfinite(error), 0.0, error)
