"""calibrate and integerize: what goes to int8 and why not, data checks, and the numbers."""

from __future__ import annotations

import re
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from irkit.errors import CalibrationError
from irkit.ir.graph import Graph, Value
from irkit.ir.interp import run
from irkit.ir.passes import PassManager, parse_pipeline
from irkit.ir.types import Array, DType, Quant, TensorType
from irkit.ops import (
    add,
    avg_pool2d,
    batch_norm,
    clip,
    concat,
    const,
    conv2d,
    exp,
    gelu,
    hardswish,
    layer_norm,
    leaky_relu,
    linear,
    max_pool2d,
    mul,
    pad,
    prelu,
    reduce_mean,
    relu,
    reshape,
    resize2d,
    return_,
    sigmoid,
    softmax,
)
from irkit.passes.calibrate import Calibrate
from irkit.passes.integerize import Integerize

RNG = np.random.default_rng(11)


class Net:
    """A small graph builder: layers with random weights."""

    def __init__(self, *shapes: tuple[int, ...]) -> None:
        self.g = Graph("main", [(f"x{i}", TensorType(s)) for i, s in enumerate(shapes)])
        self.rng = np.random.default_rng(5)

    def __getitem__(self, i: int) -> Value:
        return self.g.inputs[i]

    def const(self, a: Any) -> Value:
        return self.g.emit(const, value=np.asarray(a, np.float32)).result

    def conv(self, x: Value, o: int, k: int = 1, loc: str = "", bias: bool = True, **attrs: Any) -> Value:
        ci = x.type.shape[1] // int(attrs.get("groups", 1))
        w = self.rng.normal(size=(o, ci, k, k)) / np.sqrt(ci * k * k)
        b = self.const(self.rng.normal(size=o)) if bias else None
        return self.op(conv2d, x, self.const(w), b, loc=loc, pads=(k // 2,) * 4, **attrs)

    def fc(self, x: Value, o: int, loc: str = "") -> Value:
        w = self.rng.normal(size=(o, x.type.shape[-1])) / np.sqrt(x.type.shape[-1])
        return self.op(linear, x, self.const(w), self.const(self.rng.normal(size=o)), loc=loc)

    def op(self, opdef: Any, *operands: Value | None, loc: str = "", **attrs: Any) -> Value:
        name = f"v{len(self.g)}"
        return self.g.emit(opdef, *operands, loc=loc, names=[name], **attrs).result

    def done(self, *outputs: Value) -> Graph:
        self.g.emit(return_, *outputs)
        return self.g


def batches(g: Graph, n: int = 40, seed: int = 0) -> list[tuple[Array, ...]]:
    rng = np.random.default_rng(seed)
    return [tuple(rng.normal(size=v.type.shape).astype(np.float32) for v in g.inputs) for _ in range(n)]


def calibrated(g: Graph, **options: Any) -> tuple[Graph, Calibrate]:
    h = g.clone()
    c = Calibrate(batches=options.pop("batches", batches(g)), **options)
    PassManager([c]).run(h)
    return h, c


def integerized(h: Graph) -> Graph:
    k = h.clone()
    PassManager([Integerize(), *parse_pipeline("dce")]).run(k)
    return k


def names(g: Graph) -> list[str]:
    return [op.name for op in g if op.name not in ("const", "return")]


def residual_block(n: Net) -> Value:
    x = n.op(relu, n.conv(n[0], 8, 3, "a"))
    y = n.op(clip, n.conv(x, 16, 1, "b", bias=False), lo=0.0, hi=6.0)
    y = n.op(relu, n.conv(y, 16, 3, "c", groups=16, strides=(1, 1)))
    return n.conv(n.op(relu, n.op(add, n.conv(y, 8, 1, "d"), x)), 4, 1, "e")


def two_branches(n: Net) -> Value:
    x = n.conv(n[0], 6, 3, "stem")
    left, right = n.conv(x, 6, 1, "left"), n.conv(x, 6, 3, "right")
    return n.conv(n.op(relu, n.op(add, left, right)), 5, 1, "head")


def activations(n: Net) -> Value:
    v = n.conv(n[0], 6, 3, "stem")
    for opdef, attrs in ((leaky_relu, {"slope": 0.1}), (hardswish, {}), (gelu, {}), (sigmoid, {})):
        v = n.conv(n.op(opdef, v, **attrs), 6, 1, opdef.name)
    slope = n.const([0.1, 0.2, -0.3, 0.25, 0.0, 1.5])
    v = n.conv(n.op(prelu, v, slope), 6, 1, "prelu")
    v = n.op(mul, v, n.const(np.linspace(0.5, 2, 6).reshape(1, 6, 1, 1)))
    ones = np.ones(6, np.float32)
    return n.conv(n.op(batch_norm, v, n.const(ones * 2), None, n.const(ones * 0.3), n.const(ones)), 6, 1, "last")


def gate(n: Net) -> Value:
    x = n.op(relu, n.conv(n[0], 8, 3, "a"))
    s = n.op(reduce_mean, x, axes=(2, 3), keepdims=True)
    s = n.op(sigmoid, n.conv(n.op(relu, n.conv(s, 4, 1, "squeeze")), 8, 1, "excite"))
    return n.conv(n.op(mul, x, s), 3, 1, "b")


def moves(n: Net) -> Value:
    x = n.conv(n[0], 6, 3, "a")
    p = n.op(max_pool2d, x, kernel=(2, 2), strides=(2, 2))
    q = n.op(avg_pool2d, x, kernel=(2, 2), strides=(2, 2))
    c = n.op(concat, p, q, n.conv(q, 2, 1, "b"), axis=1)
    c = n.op(pad, c, pads=((0, 0), (0, 0), (1, 0), (0, 1)), value=0.5)
    c = n.op(resize2d, c, size=(10, 10), mode="nearest", coords="asymmetric")
    return n.fc(n.op(reshape, c, shape=(c.type.shape[0], 1400)), 5, "fc")


def islands(n: Net) -> Value:
    x = n.op(layer_norm, n.conv(n[0], 6, 3, "a"), None, None, axis=1)
    return n.op(softmax, n.conv(n.op(exp, x), 6, 1, "b"), axis=1)


def attention_like(n: Net) -> Value:
    return n.conv(n.op(softmax, n.conv(n[0], 6, 3, "a"), axis=1), 6, 1, "b")


NETS: dict[str, Callable[[Net], Value]] = {
    f.__name__: f for f in (residual_block, two_branches, activations, gate, moves, islands, attention_like)
}
NONE_FLOAT = {"residual_block", "two_branches", "activations", "gate", "moves", "attention_like"}


def net(name: str) -> Graph:
    n = Net((2, 3, 8, 8))
    return n.done(NETS[name](n))


@pytest.mark.parametrize("name", NETS)
def test_int8_graph_is_the_fake_quantized_one(name: str) -> None:
    """Layer by layer on the same inputs each int8 result is within one step of the float graph with its roundings."""
    g = net(name)
    fake, _ = calibrated(g)
    whole = integerized(fake)
    steps_off = 0
    quantized = [op for op in fake if op.name == "quantize" and op.result.name]
    exact = {op.result.name: op for op in whole if op.results and op.result.type.quant is not None}
    assert quantized
    for sample in batches(g, 3, seed=9):
        fake_values: dict[str, Array] = {}
        run(fake, *sample, observe=lambda v, a, s=fake_values: s.__setitem__(v.name, a))
        # each int8 op alone, fed with what the float graph has at its inputs
        for op in quantized:
            made = exact.get(op.result.name)
            if made is None:
                continue
            alone = single(whole, made.result, fake_values)
            if alone is None:
                continue
            gap = np.abs(alone.astype(int) - fake_values[op.result.name].astype(int))
            assert gap.max(initial=0) <= 1, f"{made} at {made.loc}"
            steps_off += int((gap > 0).sum())
    assert steps_off < 200


def single(g: Graph, v: Value, values: dict[str, Array]) -> Array | None:
    """``v`` computed from given values of its operands' operations; None when one is unknown."""
    from irkit.ir.interp import call

    op = v.producer
    assert op is not None
    args: list[Array | None] = []
    for operand in op.operands:
        if operand is None:
            args.append(None)
        elif operand.producer is not None and operand.producer.name == "const":
            args.append(operand.producer.attrs["value"].array)
        elif operand.name in values and values[operand.name].dtype == operand.type.dtype.numpy:
            args.append(values[operand.name])
        else:
            return None
    return call(op, args)[0]


@pytest.mark.parametrize("name", NETS)
def test_whole_net_stays_close(name: str) -> None:
    g = net(name)
    whole = integerized(calibrated(g)[0])
    for sample in batches(g, 3, seed=9):
        a, b = run(g, *sample)[0], run(whole, *sample)[0]
        noise = np.sqrt(((a - b) ** 2).mean() / (a**2).mean())
        assert noise < (0.1 if name == "islands" else 0.05)  # exp widens the range


@pytest.mark.parametrize("name", NETS)
def test_everything_that_can_runs_on_integers(name: str) -> None:
    whole = integerized(calibrated(net(name))[0])
    floats = [
        op for op in whole if op.results and any(v is not None and v.type.dtype is DType.F32 for v in op.operands)
    ]
    left = [op.name for op in floats if op.name not in ("quantize", "return")]
    assert left == ([] if name in NONE_FLOAT else ["layer_norm", "exp"])
    assert whole.outputs[0].type.dtype is DType.F32 and whole.outputs[0].type.quant is None


def test_chains_are_fused_and_the_last_layer_gives_float() -> None:
    whole = integerized(calibrated(net("residual_block"))[0])
    assert names(whole) == ["quantize", *["qconv2d"] * 5]
    convs = [op for op in whole if op.name == "qconv2d"]
    assert [op.get("residual") is not None for op in convs] == [False, False, False, True, False]
    assert [op.attrs["quant"] is None for op in convs] == [False, False, False, False, True]
    assert all(op.attrs["lo"] == op.attrs["quant"].zero[0] for op in convs[:-1]), "relu is the zero point"


def test_of_two_convolutions_the_later_adds_the_other() -> None:
    whole = integerized(calibrated(net("two_branches"))[0])
    assert names(whole) == ["quantize", *["qconv2d"] * 4]
    assert [op.loc for op in whole if op.name == "qconv2d" and op.get("residual") is not None] == ["right"]


def test_same_scale_values_share_one_quant() -> None:
    whole = integerized(calibrated(net("moves"))[0])
    (join,) = [op for op in whole if op.name == "concat"]
    assert {v.type.quant for v in join.operands} == {join.result.type.quant}
    assert [op.name for op in whole if op.name == "requantize"] == ["requantize"] * 2  # p's and q's other users
    (padded,) = [op for op in whole if op.name == "pad"]
    q = padded.result.type.quant
    assert q is not None and abs((padded.attrs["value"] - q.zero[0]) * q.scale[0] - 0.5) <= q.scale[0] / 2


def test_notes_say_why() -> None:
    _, c = calibrated(net("islands"))
    assert c.notes == [
        ("v3", "layer_norm: no int8 form"),
        ("v4", "exp: its input is float (from layer_norm)"),
    ]


def test_keep_float_by_name_pattern_and_module() -> None:
    n = Net((1, 3, 6, 6))
    v = n[0]
    for loc in ("stem.conv", "blocks.0.a", "blocks.0.b", "blocks.1.a", "head"):
        v = n.conv(v, 4, 1, loc)
    g = n.done(v)
    for patterns, kept in (
        (("head",), {"head"}),
        (("blocks.0",), {"blocks.0.a", "blocks.0.b"}),
        (("blocks.*.a", "stem.*"), {"blocks.0.a", "blocks.1.a", "stem.conv"}),
    ):
        h, c = calibrated(g, keep_float=patterns)
        whole = integerized(h)
        assert {op.loc for op in whole if op.name == "conv2d"} == kept
        assert {layer for layer, _ in c.notes} == kept
        assert all(re.search("kept by keep_float pattern", why) for _, why in c.notes)
    with pytest.raises(CalibrationError, match=r"'blocks\.3' matches no layer; there are .*blocks\.0\.a"):
        calibrated(g, keep_float=("blocks.3",))


def test_int32_overflow_keeps_a_layer_in_float() -> None:
    n = Net((1, 70_000))
    g = n.done(n.op(linear, n[0], n.const(np.ones((1, 70_000))), None, loc="huge"))
    h, c = calibrated(g)
    assert c.notes == [("huge", "linear: its int32 sums could overflow")] and names(h) == ["linear"]


def test_biases_take_the_shift_of_rounded_weights() -> None:
    """Mean outputs per channel agree far better than with the rounded weights alone."""
    n = Net((1, 8, 6, 6))
    x = n.op(relu, n.conv(n[0], 8, 3, "a"))
    y = n.conv(x, 8, 3, "b", groups=8)
    g = n.done(y)
    data = batches(g, 64)
    h, _ = calibrated(g, batches=data)
    (dw,) = [op for op in h if op.name == "conv2d" and op.loc == "b"]
    a = np.mean([run(g, *s)[0] for s in data], axis=0).mean((0, 2, 3))
    b = np.mean([run(h, *s)[0] for s in data], axis=0).mean((0, 2, 3))
    step = dw.result.type.quant or 1
    assert step == 1 and np.abs(a - b).max() < 2e-3 * np.abs(a).max()


# ---- data


def small() -> Graph:
    n = Net((1, 3, 4, 4))
    return n.done(n.conv(n[0], 2, 1, "c"))


X = np.ones((1, 3, 4, 4), np.float32)
BAD: list[tuple[Any, str]] = [
    (None, r"int8 needs calibration data: pass an iterable of batches.*%x0: f32\[1,3,4,4\]"),
    ([], r"gave no batches; expected batches of %x0: f32\[1,3,4,4\]"),
    (3, "expected an iterable of batches, got int"),
    ([X, X[:, :2]], r"batch 1, input %x0: expected f32\[1,3,4,4\] .*got shape \[1, 2, 4, 4\]"),
    ([X.astype(np.float64)], r"batch 0, input %x0: expected f32\[1,3,4,4\], got dtype float64"),
    ([(X, 1)], r"batch 0: expected 1 input\(s\) .*got 2 \(leave labels out\)"),
    ([X * np.float32(np.nan)], "batch 0, input %x0: .*got NaN or infinite values"),
    ([np.full_like(X, np.inf)], "got NaN or infinite values"),
    ([{"x": 1}], "batch 0, input %x0: expected f32"),
]


@pytest.mark.parametrize(("data", "message"), BAD, ids=[m[:20] for _, m in BAD])
def test_unusable_data(data: Any, message: str) -> None:
    g = small()
    with pytest.raises(CalibrationError, match=message):
        PassManager([Calibrate(batches=data)]).run(g)


def test_values_that_overflow_are_named() -> None:
    n = Net((1, 3, 4, 4))
    g = n.done(n.conv(n.op(exp, n[0], loc="blow"), 2, 1, "c"))
    with pytest.raises(CalibrationError, match="sample 1: %v0 of layer 'blow' has NaN or infinite values"):
        PassManager([Calibrate(batches=[X * 1000])]).run(g)


def test_few_samples_warn_with_their_number() -> None:
    with pytest.warns(UserWarning, match="calibration saw 3 samples only; .* 32 or more"):
        calibrated(small(), batches=[X] * 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        calibrated(small(), batches=[X] * 32)


def test_batches_may_hold_many_samples_or_tensors() -> None:
    data = RNG.normal(size=(48, 3, 4, 4)).astype(np.float32)
    want = [
        op.attrs["quant"] for op in calibrated(small(), batches=[(d[None],) for d in data])[0] if op.name == "quantize"
    ]
    for other in (data, [data], np.split(data, 6), iter(np.split(data, 12)), [[data]]):
        got = calibrated(small(), batches=other)[0]
        assert [op.attrs["quant"] for op in got if op.name == "quantize"] == want
    torch = pytest.importorskip("torch")
    got = calibrated(small(), batches=[torch.from_numpy(data)])[0]
    assert [op.attrs["quant"] for op in got if op.name == "quantize"] == want


def test_memory_does_not_grow_with_the_data() -> None:
    n = Net((1, 3, 32, 32))
    g = n.done(n.conv(n.op(relu, n.conv(n[0], 8, 3, "a")), 8, 3, "b"))

    def stream(count: int) -> Iterator[Array]:
        rng = np.random.default_rng(0)
        for _ in range(count):
            yield rng.normal(size=(1, 3, 32, 32)).astype(np.float32)

    def peak(count: int) -> int:
        tracemalloc.start()
        try:
            calibrated(g, batches=stream(count))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(32)
    assert peak(200) < 1.1 * peak(40)


def test_each_sample_is_computed_once() -> None:
    calls = []

    def execute(graph: Graph, inputs: Any) -> list[Array]:
        calls.append(len(graph.outputs))
        return run(graph, *inputs)

    g = net("residual_block")
    calibrated(g, batches=batches(g, 33), execute=execute)
    assert len(calls) == 33 and len(set(calls)) == 1


def test_describe_leaves_the_data_out() -> None:
    c = Calibrate(batches=[1], keep_float=("a.*",), method="entropy")
    assert c.describe() == 'calibrate{keep_float=["a.*"], method="entropy"}'
    assert Calibrate(batches=[1]).describe() == "calibrate"
    (back,) = parse_pipeline(c.describe())
    assert back == c


@pytest.mark.parametrize("method", ["mse", "minmax", "percentile", "entropy"])
def test_methods_choose_ranges(method: str) -> None:
    g = small()
    data = [RNG.standard_t(3, size=(1, 3, 4, 4)).astype(np.float32) for _ in range(64)]
    h, _ = calibrated(g, batches=data, method=method)
    (q,) = [op.attrs["quant"] for op in h if op.name == "quantize"]
    top = max(float(np.abs(d).max()) for d in data)
    span = 255 * q.scale[0]
    if method == "minmax":
        assert span == pytest.approx(max(d.max() for d in data) - min(d.min() for d in data), rel=1e-6)
    else:
        assert 0.1 * top < span < 2 * top
    with pytest.raises(CalibrationError, match="method: expected one of"):
        calibrated(g, batches=data, method="magic")


def test_integer_and_unquantizable_graphs_are_left_alone() -> None:
    n = Net((1, 3, 4, 4))
    g = n.done(n.op(exp, n[0]))
    h, c = calibrated(g)
    assert names(h) == ["exp"] and c.notes == [("v0", "exp: its input is float (an input of the model)")]


def test_integerize_keeps_float_what_integers_cannot_do() -> None:
    """Per-tensor weights, biases that don't fit, a second use of the float result."""
    n = Net((1, 3, 4, 4))
    g = n.g
    from irkit.ops import dequantize, quantize

    def fq(v: Value, q: Quant) -> Value:
        return g.emit(dequantize, g.emit(quantize, v, quant=q).result).result

    q = Quant.per_tensor(0.1)
    x = fq(n[0], q)
    w = g.emit(const, value=np.ones((2, 3, 1, 1), np.int8), quant=Quant.per_tensor(0.5)).result
    a = g.emit(conv2d, x, g.emit(dequantize, w).result, None).result
    w2 = g.emit(const, value=np.ones((2, 3, 1, 1), np.int8), quant=Quant((1e-9, 1e-9), (0, 0), 0)).result
    b = g.emit(conv2d, x, g.emit(dequantize, w2).result, n.const([1e6, 0])).result
    w3 = g.emit(const, value=np.ones((2, 3, 1, 1), np.int8), quant=Quant((0.1, 0.1), (0, 0), 0)).result
    c = g.emit(conv2d, x, g.emit(dequantize, w3).result, None).result
    n.done(fq(a, q), fq(b, q), fq(c, q), c)
    whole = integerized(g)
    made = [op for op in whole if op.name in ("conv2d", "qconv2d")]
    assert [op.name for op in made] == ["conv2d", "conv2d", "qconv2d"] and made[2].attrs["quant"] is None
