"""Random small graphs for property tests: float, all shapes static, sound by construction."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from irkit import ops
from irkit.errors import IRError
from irkit.ir.graph import Graph, Value
from irkit.ir.opdef import OpDef
from irkit.ir.types import Array, DType, TensorType

SMOOTH = [
    ops.relu, ops.neg, ops.abs_, ops.sigmoid, ops.tanh, ops.silu, ops.hardsigmoid, ops.hardswish, ops.softplus, ops.gelu
]  # fmt: skip
BINARY = [ops.add, ops.sub, ops.mul, ops.maximum, ops.minimum]


class Builder:
    """Grows one graph; every method adds an operation on drawn operands, or nothing where none fits."""

    def __init__(self, draw: st.DrawFn, dtype: DType) -> None:
        self.draw = draw
        self.dtype = dtype
        self.rng = np.random.default_rng(draw(st.integers(0, 2**20)))
        self.g = Graph("main")
        self.values: list[Value] = []
        self.count = 0

    def value(self, *ranks: int) -> Value | None:
        fit = [v for v in self.values if not ranks or v.type.rank in ranks]
        return self.draw(st.sampled_from(fit)) if fit else None

    def emit(self, opdef: OpDef, *operands: Value | None, **attrs: Any) -> Value | None:
        """Add an operation with a name and a location, if its type rule accepts it."""
        self.count += 1
        name = f"v{self.count}" if self.draw(st.booleans()) else ""
        try:
            r = self.g.emit(opdef, *operands, loc=f"layer{self.count}", names=[name], **attrs).result
        except IRError:
            return None
        if r.type.size > 4000:
            return r  # legal, but nothing more is built on it
        self.values.append(r)
        return r

    def const(self, *shape: int, low: float = -1.5, high: float = 1.5) -> Value:
        a = self.rng.uniform(low, high, shape).astype(self.dtype.numpy)
        if self.draw(st.integers(0, 4)) == 0:
            a = np.full(shape, self.draw(st.sampled_from([0.0, 1.0, 2.0, 3.0, 6.0, -1.0])), self.dtype.numpy)
        return self.g.emit(ops.const, value=a, names=[f"c{self.g._count}" if self.draw(st.booleans()) else ""]).result

    def pick(self, *options: Any) -> Any:
        return self.draw(st.sampled_from(options))

    # ---- operations

    def unary(self) -> None:
        v = self.value()
        if v is not None:
            self.emit(self.pick(*SMOOTH), v)

    def clip(self) -> None:
        v = self.value()
        lo, hi = self.pick((0.0, 6.0), (-1.0, 1.0), (0.0, float("inf")), (-float("inf"), 0.5))
        if v is not None:
            self.emit(ops.clip, v, lo=lo, hi=hi)

    def binary(self) -> None:
        a = self.value()
        if a is None:
            return
        if self.draw(st.booleans()):
            shape = tuple(d if self.draw(st.booleans()) else 1 for d in a.type.shape)
            b: Value | None = self.const(*shape[self.draw(st.integers(0, len(shape))) :])
        else:
            b = self.draw(st.sampled_from(self.values))
        self.emit(self.pick(*BINARY), *((a, b) if self.draw(st.booleans()) else (b, a)))

    def conv(self) -> None:
        x = self.value(4)
        if x is None:
            return
        c = x.type.shape[1]
        groups = self.pick(1, c)
        o = groups * self.pick(1, 2, 3)
        kh, kw = self.pick(1, 2, 3), self.pick(1, 3)
        bias = self.const(o) if self.draw(st.booleans()) else None
        pads = self.pick((0, 0, 0, 0), (1, 1, 1, 1), (0, 1, 2, 0))
        attrs = {"strides": self.pick((1, 1), (2, 1)), "pads": pads, "groups": groups}
        if self.draw(st.integers(0, 4)):
            self.emit(ops.conv2d, x, self.const(o, c // groups, kh, kw), bias, **attrs)
        else:
            self.emit(ops.conv_transpose2d, x, self.const(c, o // groups, kh, kw), bias, **attrs)

    def linear(self) -> None:
        x = self.value(2, 3)
        if x is None:
            return
        k, o = x.type.shape[-1], self.pick(1, 3, 4)
        if self.draw(st.booleans()):
            self.emit(ops.matmul, x, self.const(k, o))
        else:
            self.emit(ops.linear, x, self.const(o, k), self.const(o) if self.draw(st.booleans()) else None)

    def batch_norm(self) -> None:
        x = self.value(2, 3, 4)
        if x is None:
            return
        c = x.type.shape[1]
        gamma, beta = (self.const(c) if self.draw(st.booleans()) else None for _ in range(2))
        self.emit(ops.batch_norm, x, gamma, beta, self.const(c), self.const(c, low=0.5, high=2.0))

    def prelu(self) -> None:
        x = self.value(2, 4)
        if x is not None:
            self.emit(ops.prelu, x, self.const(self.pick(1, x.type.shape[1])))

    def pool(self) -> None:
        x = self.value(4)
        if x is None:
            return
        kind = self.pick(ops.max_pool2d, ops.avg_pool2d, ops.adaptive_avg_pool2d, ops.adaptive_max_pool2d, ops.resize2d)
        if kind in (ops.max_pool2d, ops.avg_pool2d):
            self.emit(
                kind,
                x,
                kernel=self.pick((1, 1), (2, 2), (3, 2), x.type.shape[2:]),
                strides=self.pick((1, 1), (2, 2)),
                pads=self.pick((0, 0, 0, 0), (1, 0, 1, 1)),
            )
        elif kind is ops.resize2d:
            self.emit(kind, x, size=(x.type.shape[2] * 2, x.type.shape[3]), mode=self.pick("nearest", "bilinear"))
        else:
            self.emit(kind, x, output=self.pick((1, 1), (2, 2), (2, 1)))

    def reduce(self) -> None:
        x = self.value(2, 3, 4)
        if x is not None:
            rank = x.type.rank
            axes = self.pick((-1,), (0,), (rank - 2, rank - 1), (1,))
            kind = self.pick(ops.reduce_mean, ops.reduce_sum, ops.reduce_max, ops.reduce_min)
            self.emit(kind, x, axes=axes, keepdims=self.draw(st.booleans()))

    def softmax(self) -> None:
        x = self.value(2, 3, 4)
        if x is not None:
            self.emit(ops.softmax, x, axis=self.pick(-1, 1))

    def reshape(self) -> None:
        x = self.value()
        if x is None:
            return
        dims = list(x.type.shape)
        for _ in range(self.draw(st.integers(1, 2))):
            at = self.draw(st.integers(0, len(dims)))
            change = self.pick("unit", "merge", "split", "drop")
            if change == "unit" and len(dims) < 5:
                dims.insert(at, 1)
            elif change == "merge" and len(dims) > 1:
                at = min(at, len(dims) - 2)
                dims[at : at + 2] = [dims[at] * dims[at + 1]]
            elif change == "split" and at < len(dims) and dims[at] % 2 == 0 and dims[at] and len(dims) < 5:
                dims[at : at + 1] = [2, dims[at] // 2] if self.draw(st.booleans()) else [dims[at] // 2, 2]
            elif change == "drop" and 1 in dims and len(dims) > 1:
                dims.remove(1)
        self.emit(ops.reshape, x, shape=tuple(dims))

    def permute(self) -> None:
        x = self.value()
        if x is not None:
            self.emit(ops.permute, x, perm=tuple(self.draw(st.permutations(range(x.type.rank)))))

    def concat(self) -> None:
        x = self.value()
        if x is None or x.type.rank == 0:
            return
        axis = self.draw(st.integers(0, x.type.rank - 1))
        same = [v for v in self.values if v.type.logical() == x.type.logical()]
        self.emit(ops.concat, x, *self.draw(st.lists(st.sampled_from(same), max_size=2)), axis=axis)

    def slice(self) -> None:
        x = self.value()
        if x is None or 0 in x.type.shape:
            return
        starts = tuple(self.draw(st.integers(0, min(1, d - 1))) for d in x.type.shape)
        steps = tuple(self.pick(1, 1, 2) for _ in x.type.shape)
        self.emit(ops.slice_, x, starts=starts, ends=x.type.shape, steps=steps)

    def pad(self) -> None:
        x = self.value()
        if x is not None:
            pads = tuple(self.pick((0, 0), (0, 0), (1, 0), (0, 1)) for _ in x.type.shape)
            if x.type.rank == 4:
                pads = ((0, 0), (0, 0), *pads[2:])
            self.emit(ops.pad, x, pads=pads, value=self.pick(0.0, 0.0, 1.0), mode=self.pick("constant", "edge"))

    def expand(self) -> None:
        x = self.value(1, 2, 3)
        if x is not None:
            shape = tuple(self.pick(1, 3) if d == 1 else d for d in x.type.shape)
            self.emit(ops.expand, x, shape=(*self.pick((), (2,)), *shape))

    def conv1d(self) -> None:
        x = self.value(3)
        if x is None:
            return
        n, c, w = x.type.shape
        o = self.pick(1, 2)
        y = self.emit(ops.reshape, x, shape=(n, c, 1, w))
        y = y and self.emit(ops.conv2d, y, self.const(o, c, 1, self.pick(1, 2)), None)
        if y is not None:
            self.emit(ops.reshape, y, shape=(n, o, y.type.shape[3]))

    def constants(self) -> None:
        self.values.append(self.const(*self.pick((2, 3), (1, 4, 1, 1), (3,))))


STEPS = [
    Builder.unary, Builder.unary, Builder.clip, Builder.binary, Builder.binary, Builder.conv, Builder.conv,
    Builder.linear, Builder.batch_norm, Builder.batch_norm, Builder.prelu, Builder.pool, Builder.reduce,
    Builder.softmax, Builder.reshape, Builder.reshape, Builder.permute, Builder.concat, Builder.slice, Builder.pad,
    Builder.expand, Builder.conv1d, Builder.constants,
]  # fmt: skip


@st.composite
def graphs(draw: st.DrawFn, dtype: DType = DType.F32, max_ops: int = 10) -> Graph:
    """A sound graph; some of its values are unused, some used often."""
    b = Builder(draw, dtype)
    shapes = [(1, 4, 5, 4), (2, 3, 4, 4), (2, 6), (1, 3, 8), (1, 1, 6, 6)]
    for _ in range(draw(st.integers(1, 2))):
        b.values.append(b.g.add_input(TensorType(draw(st.sampled_from(shapes)), dtype), f"x{len(b.values)}"))
    for _ in range(draw(st.integers(1, max_ops))):
        draw(st.sampled_from(STEPS))(b)
    outs = draw(st.lists(st.sampled_from(b.values[-4:]), min_size=1, max_size=3))
    b.g.emit(ops.return_, *outs)
    return b.g


def sample_inputs(g: Graph, seed: int = 0) -> list[Array]:
    """Random arrays for the graph's inputs."""
    rng = np.random.default_rng(seed)
    return [rng.uniform(-2, 2, v.type.shape).astype(v.type.dtype.numpy) for v in g.inputs]
