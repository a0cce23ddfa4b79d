"""The NumPy reference as a step: storage orders, absent and quantized operands, results that do not fit."""

from __future__ import annotations

import re

import numpy as np
import pytest

from irkit.backend.numpy_fallback import reference_callback
from irkit.errors import IRError
from irkit.ir import opdef
from irkit.ir.graph import Graph, Operation
from irkit.ir.opdef import op
from irkit.ir.types import DType, Quant, TensorType
from irkit.ops import add, clip, fused, linear, mul, qadd, return_

NHWC = (0, 2, 3, 1)


def test_storage_orders_of_operands_and_result() -> None:
    a, b = TensorType((2, 3, 4, 5)).with_order(NHWC), TensorType((3, 1, 1))
    out = TensorType((2, 3, 4, 5)).with_order((3, 0, 1, 2))
    g = Graph()
    o = g.emit(mul, g.add_input(a), g.add_input(b), types=[out])
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal(a.shape, np.float32), rng.standard_normal(b.shape, np.float32)
    result = np.empty(out.storage_shape, np.float32)
    stored = a.to_storage(x)
    reference_callback(o)([stored.ravel(), y], [result])
    assert np.array_equal(out.from_storage(result), x * y)
    assert np.array_equal(stored, a.to_storage(x))  # operands are left as they were


def test_absent_operand() -> None:
    g = Graph()
    o = g.emit(linear, g.add_input(TensorType((2, 3))), g.add_input(TensorType((4, 3))), None)
    x, w = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones((4, 3), np.float32)
    result = np.empty((2, 4), np.float32)
    reference_callback(o)([x, w, None], [result])
    assert np.array_equal(result, x @ w.T)


def test_quantized_operands() -> None:
    q = [Quant.per_tensor(s, z) for s, z in ((0.5, 3), (0.25, -1), (1.0, 2))]
    g = Graph()
    ins = [g.add_input(TensorType((5,), DType.I8, k)) for k in q[:2]]
    o = g.emit(qadd, *ins, quant=q[2])
    x, y = np.int8([1, 2, 3, 4, 127]), np.int8([-3, 4, 5, 8, 127])
    result = np.empty(5, np.int8)
    reference_callback(o)([x, y], [result])
    real = (x.astype(float) - 3) * 0.5 + (y.astype(float) + 1) * 0.25
    assert np.array_equal(result, np.clip(np.rint(real) + 2, -128, 127))


def test_fused_body() -> None:
    t = TensorType((3,))
    body = Graph("body")
    p, q = body.add_input(t), body.add_input(t)
    body.emit(return_, body.emit(clip, body.emit(add, p, q).result, lo=0.0, hi=1.0).result)
    g = Graph()
    o = g.emit(fused, g.add_input(t), g.add_input(t), body=body)
    result = np.empty(3, np.float32)
    reference_callback(o)([np.float32([0.25, -1, 5]), np.float32([0.25, 0, 0])], [result])
    assert np.array_equal(result, np.float32([0.5, 0, 1]))


def one_input(definition: object) -> Operation:
    g = Graph()
    return g.emit(definition, g.add_input(TensorType((2, 2))), loc="block.0")  # type: ignore[arg-type]


def test_errors_name_the_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opdef, "REGISTRY", dict(opdef.REGISTRY))  # the op of this test is gone after it

    @op(infer=lambda x: x, name="test_wrong_result")
    def wrong(x: np.ndarray) -> np.ndarray:
        """Returns float64 where its type says float32."""
        return x.astype(np.float64)

    o = one_input(wrong)
    run, out = reference_callback(o), np.empty((2, 2), np.float32)
    message = "test_wrong_result @block.0: result 0: expected f32[2, 2], got float64[2, 2]"
    with pytest.raises(IRError, match=re.escape(message)):
        run([np.zeros((2, 2), np.float32)], [out])
    with pytest.raises(IRError, match=re.escape("operand 0: expected 4 x f32, got 3 x float32")):
        run([np.zeros(3, np.float32)], [out])
