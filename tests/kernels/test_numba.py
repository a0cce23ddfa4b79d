"""Programs compiled on the host give the bits of the native ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import irkit
from irkit.backend.kernel import Step, lower
from irkit.backend.native import eltwise
from irkit.backend.numba_fused import attach, available, compile_program, compile_step
from irkit.backend.storage import is_dense
from irkit.ir.graph import Graph, Value
from irkit.ir.opdef import OpDef
from irkit.ir.types import Array, TensorType
from irkit.ops import (
    abs_,
    add,
    ceil,
    clip,
    const,
    div,
    elu,
    erf,
    exp,
    floor,
    gelu,
    hardsigmoid,
    hardswish,
    leaky_relu,
    log,
    maximum,
    minimum,
    mish,
    mul,
    neg,
    pow_,
    reciprocal,
    relu,
    return_,
    rsqrt,
    sigmoid,
    sign,
    silu,
    softmax,
    softplus,
    sqrt,
    square,
    sub,
    tanh,
)
from irkit.ops.elementwise import EDGES
from tests.builds import emulated, machine, needs_arm64, run
from tests.kernels.test_eltwise import ORDERS, SHAPES, chain
from tests.kernels.util import graph_of, load_step, same_bits

pytest.importorskip("numba")


def both(
    inputs: list[Array], shape: tuple[int, ...], attrs: dict[str, list[int]], threads: int = 1
) -> tuple[Array, Array]:
    """Results of the native program and of the host-compiled one, which gives the same in place of an operand."""
    model, feed = load_step("eltwise", inputs, [(shape, np.float32)], attrs, threads=threads)
    native = model.run(feed)[0]
    k = compile_program(shape, len(inputs), attrs)
    model.set_kernel(0, k.address, 0, k.items, k.grain, 0, k.name, k)
    assert model.kernels == [k.name]
    host = model.run(feed)[0]
    for i in range(len(inputs)):
        if is_dense(attrs["strides"][i * len(shape) : (i + 1) * len(shape)], shape) and inputs[i].shape == shape:
            model, feed = load_step("eltwise", inputs, [(shape, np.float32)], attrs, threads=threads, in_place=i)
            k = compile_program(shape, len(inputs), attrs, (i,))
            assert f"p{i} =" not in k.source
            model.set_kernel(1, k.address, 0, k.items, k.grain, 0, k.name, k)
            assert same_bits(host, model.run(feed)[0])
    return native, host


@pytest.mark.parametrize("name", [n for n in eltwise.CODES if n != "clip"])
def test_every_instruction(name: str) -> None:
    """Random bit patterns and ordinary numbers, through each instruction alone."""
    rng = np.random.default_rng(11)
    n = 50000
    x = np.concatenate(
        [rng.integers(0, 2**32, n, dtype=np.uint32).view(np.float32), rng.normal(0, 8, n).astype(np.float32)]
    )
    x = np.concatenate([x, np.tile(EDGES, len(EDGES))])
    y = np.concatenate([rng.normal(0, 3, n).astype(np.float32), rng.integers(-5, 5, n).astype(np.float32)])
    y = np.concatenate([y, np.repeat(EDGES, len(EDGES))])
    inputs = [x] if eltwise.CODES[name] < 32 else [x, y]
    attrs = {"code": [eltwise.CODES[name], 0, len(inputs) - 1, 0], "imm": [], "strides": [1] * len(inputs)}
    if len(inputs) == 1:
        attrs["code"][2] = 0
    native, host = both(inputs, x.shape, attrs)
    assert same_bits(native, host)


@pytest.mark.parametrize(("a", "b"), SHAPES)
def test_broadcast(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    x, y = np.asarray(rng.standard_normal(a, np.float32)), np.asarray(rng.standard_normal(b, np.float32))
    want = x - y
    for order in ORDERS[:2] if want.ndim == 4 else [None]:
        out = TensorType(want.shape).with_order(order)
        strides = [s for v in (x, y) for s in eltwise.strides_in(TensorType(v.shape), out)]
        native, host = both(
            [x, y], out.storage_shape, {"code": [33, 0, 1, 0], "imm": [], "strides": strides}, threads=2
        )
        assert np.array_equal(out.from_storage(host), want) and same_bits(native, host)


def test_fused_chain() -> None:
    """From the fused body, by way of its lowering; a clip with immediate limits, a value used twice."""
    g, x, s, _ = chain()
    step = lower(next(o for o in g if o.name == "fused"))
    assert step is not None
    k = compile_step(step)
    assert k is not None and k.source.count("for ") == 2
    t = step.outputs[0].type
    native, host = both([t.to_storage(x), s], t.storage_shape, step.attrs)
    assert same_bits(native, host)


def test_result_does_not_depend_on_threads() -> None:
    x = np.random.default_rng(0).standard_normal((64, 5000), np.float32)
    attrs = {"code": [10, 0, 0, 0], "imm": [], "strides": [5000, 1]}
    assert same_bits(both([x], x.shape, attrs, 1)[1], both([x], x.shape, attrs, 2)[1])


def test_other_steps_are_left_alone() -> None:
    g = graph_of(softmax, [TensorType((2, 3))], axis=1)
    step = lower(g.ops[0])
    assert step is not None
    assert compile_step(step) is None
    assert compile_step(Step("eltwise", step.inputs, step.outputs, {})) is None  # a cast


def test_attach_takes_heavy_programs_only(monkeypatch: pytest.MonkeyPatch) -> None:
    g, x, s, _ = chain()
    step = lower(next(o for o in g if o.name == "fused"))
    assert step is not None
    t = step.outputs[0].type
    model, feed = load_step("eltwise", [t.to_storage(x), s], [(t.storage_shape, np.float32)], step.attrs)
    tensors = [{"shape": list(a.shape), "loc": ["in", i]} for i, a in enumerate(feed)]
    tensors.append({"shape": list(t.storage_shape), "loc": ["out", 0]})
    document = {"tensors": tensors, "steps": [{"family": "eltwise", "in": [0, 1], "out": [2], "attrs": step.attrs}]}
    before = model.run(feed)[0]
    work = (len(step.attrs["code"]) // 4 - 1) * x.size
    assert attach(model, document, worth=work + 1) == [] and model.kernels[0].startswith("eltwise.")
    monkeypatch.setenv("IRKIT_ISA", "scalar")
    assert attach(model, document, worth=work) == []
    monkeypatch.delenv("IRKIT_ISA")
    assert attach(model, document, worth=work) == [0] and model.kernels == ["numba.5ops"]
    assert same_bits(before, model.run(feed)[0])


def test_numba_is_imported_late() -> None:
    code = "import sys, irkit.backend.numba_fused as m; assert m.available(); assert 'numba' not in sys.modules"
    assert available()
    subprocess.run([sys.executable, "-c", code], check=True)


def bodies() -> tuple[Graph, Array]:
    """Fused bodies that together hold every elementwise operation; special values, all magnitudes, ordinary numbers."""
    shape = (1, 16, 200, 200)
    g = Graph()
    x = g.add_input(TensorType(shape), "x")
    channel = g.emit(const, value=np.linspace(-2, 2, 16, dtype=np.float32).reshape(16, 1, 1)).result
    three = g.emit(const, value=np.array(3, np.float32)).result

    def chained(v: Value, *ops: OpDef) -> Value:
        for op in ops:
            v = g.emit(op, v).result
        return v

    def two(op: OpDef, a: Value, b: Value) -> Value:
        return g.emit(op, a, b).result

    outputs = [
        two(mul, two(add, chained(x, silu, neg, silu), channel), x),
        two(sub, g.emit(gelu, x, approximate="tanh").result, g.emit(gelu, two(mul, x, channel)).result),
        chained(g.emit(clip, two(add, x, channel), lo=-3.0, hi=6.0).result, hardswish, mish, hardsigmoid),
        chained(two(maximum, x, channel), exp, softplus, log),
        two(div, chained(x, abs_, sqrt, rsqrt), chained(two(minimum, x, channel), reciprocal, square)),
        two(pow_, chained(x, tanh, erf, relu), three),
        g.emit(elu, g.emit(leaky_relu, chained(x, sigmoid, floor, neg), slope=0.1).result, alpha=1.5).result,
        two(add, chained(x, ceil, sign), two(mul, chained(x, neg, exp), channel)),
    ]
    g.emit(return_, *outputs)
    rng = np.random.default_rng(4)
    n = x.type.size // 2
    bits = rng.integers(0, 2**32, n, dtype=np.uint32).view(np.float32)
    values = np.concatenate([bits, rng.normal(0, 6, n - EDGES.size).astype(np.float32), EDGES])
    return g, np.asarray(rng.permutation(values).reshape(shape))


@pytest.mark.slow
@needs_arm64
@pytest.mark.parametrize("cpu", ["cortex-a53"])
def test_saved_bodies_on_arm64(cpu: str, tmp_path: Path) -> None:
    """What Numba runs here, an Arm CPU runs from the artifact as programs of kernels/eltwise: the same bits."""
    g, x = bodies()
    exe = irkit.compile(g, strict=True)
    ran = [r.kernel for r in exe.plan.rows]
    assert len(ran) == len(g.outputs) and all(k.startswith("numba.") for k in ran), ran
    wants = exe(x)
    np.save(tmp_path / "x.npy", x)
    files = [tmp_path / f"{i}.npy" for i in range(len(wants))]
    outputs = [part for f in files for part in ("--output", f)]
    command = emulated(cpu, machine("arm64") / "irkit-run", exe.save(tmp_path / "m.irk"))
    done = run([*command, "--input", tmp_path / "x.npy", *outputs])
    assert done.returncode == 0, done.stderr
    for file, want in zip(files, wants, strict=True):
        assert same_bits(np.load(file), want), file.stem
