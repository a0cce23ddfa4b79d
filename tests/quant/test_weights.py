"""Weights and biases in int8 and int32, rounding that compensates, bias correction, error measures."""

from __future__ import annotations

import math

import numpy as np
import pytest

from irkit.ir.graph import Graph, Operation
from irkit.ir.types import QArray, TensorType
from irkit.ops import const, conv2d, linear
from irkit.quant.correct import LARGEST, Moments, _inverse_factor, output_shift, round_compensated
from irkit.quant.error import cosine, sqnr
from irkit.quant.weights import fits_accumulator, quantize_bias, quantize_weights

RNG = np.random.default_rng(3)


def test_weights_are_symmetric_per_channel() -> None:
    w = RNG.normal(size=(5, 4, 3, 3)).astype(np.float32) * np.float32([1, 10, 1e-3, 1, 1e4])[:, None, None, None]
    q, quant = quantize_weights(w)
    assert q.dtype == np.int8 and quant.axis == 0 and quant.zero == (0,) * 5
    top = np.abs(w).reshape(5, -1).max(1)
    np.testing.assert_allclose(quant.scale, top / 127, rtol=1e-6)
    assert (np.abs(q.astype(int)).reshape(5, -1).max(1) == 127).all() and q.min() >= -127
    steps = np.abs(QArray(q, quant).real() - w) / np.array(quant.scale)[:, None, None, None]
    assert steps.max() <= 0.5 + 1e-5


def test_biases_always_fit() -> None:
    w = np.array([[0.0, 0.0], [1e-9, 0.0], [1.0, -1.0], [0.0, 0.0]], np.float32)
    bias = np.array([0.7, 1000.0, 3.0, 0.0], np.float32)
    q, quant = quantize_weights(w, bias, 0.02)
    b = quantize_bias(bias, 0.02, quant)
    assert b is not None and fits_accumulator(q, b, -128)
    real = b * 0.02 * np.array(quant.scale)
    np.testing.assert_allclose(real, bias, rtol=1e-4)
    assert quantize_bias(np.array([1e12] * 4, np.float32), 0.02, quant) is None


def test_accumulator_bound_is_tight() -> None:
    k = 66311  # 66311 * 127 * 255 = 2^31 - 1913
    w = np.full((1, k), 127, np.int8)
    assert fits_accumulator(w, np.array([1912]), -128) and not fits_accumulator(w, np.array([1913]), -128)
    assert fits_accumulator(w, np.array([1913]), -127)


def layer(kind: str, w: np.ndarray, x: tuple[int, ...], **attrs: object) -> Operation:
    g = Graph("main", [("x", TensorType(x))])
    c = g.emit(const, value=w).result
    return g.emit(conv2d if kind == "conv" else linear, g.inputs[0], c, None, **attrs)


LAYERS = {
    "linear": layer("linear", RNG.normal(size=(6, 20)).astype(np.float32), (1, 20)),
    "linear_rank3": layer("linear", RNG.normal(size=(6, 20)).astype(np.float32), (1, 7, 20)),
    "conv": layer("conv", RNG.normal(size=(6, 4, 3, 3)).astype(np.float32), (1, 4, 9, 8), pads=(1, 0, 2, 1)),
    "depthwise": layer(
        "conv",
        RNG.normal(size=(8, 1, 5, 5)).astype(np.float32),
        (1, 8, 9, 8),
        groups=8,
        pads=(2, 2, 2, 2),
        strides=(2, 2),
    ),
    "groups": layer("conv", RNG.normal(size=(6, 2, 3, 1)).astype(np.float32), (1, 4, 9, 8), groups=2, dilation=(2, 1)),
}


def inputs(op: Operation, n: int = 60) -> list[np.ndarray]:
    """Correlated, positive inputs, as after a ReLU."""
    shape = op.operand("x").type.shape
    axis = len(shape) - 1 if op.opdef is linear else 1
    out = []
    for _ in range(n):
        base = RNG.normal(size=shape) + 1.5 * RNG.normal(size=[1 if i == axis else d for i, d in enumerate(shape)])
        out.append(np.maximum(base + 0.5, 0).astype(np.float32))
    return out


def outputs(op: Operation, xs: list[np.ndarray], w: np.ndarray) -> np.ndarray:
    ys = [op.opdef.fn(x.astype(np.float64), w.astype(np.float64), None, **op.attrs) for x in xs]
    y = np.stack(ys)
    return np.moveaxis(y, -1 if op.opdef is linear else 2, 0).reshape(w.shape[0], -1)


def moments(op: Operation, xs: list[np.ndarray]) -> Moments:
    m = Moments(op)
    for x in xs:
        m.add(x)
    return m


@pytest.mark.parametrize("name", LAYERS)
def test_output_shift_is_the_change_of_the_mean(name: str) -> None:
    op = LAYERS[name]
    xs = inputs(op)
    w = op.operand("w").producer.attrs["value"].array.astype(np.float64)
    error = RNG.normal(size=w.shape) * 0.1
    want = (outputs(op, xs, w + error) - outputs(op, xs, w)).mean(1)
    np.testing.assert_allclose(output_shift(op, error, moments(op, xs).mean), want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", LAYERS)
def test_covariance_is_that_of_the_patches(name: str) -> None:
    """Through outputs: the variance of w . patch is w' C w."""
    op = LAYERS[name]
    xs = inputs(op, 8)
    m = moments(op, xs)
    assert m.covariance is not None
    w = op.operand("w").producer.attrs["value"].array
    flat = w.reshape(m.groups, -1, m.k).astype(np.float64)
    want = outputs(op, xs, w).var(1)
    got = np.einsum("gok,gkl,gol->go", flat, m.covariance, flat).reshape(-1)
    np.testing.assert_allclose(got, want, rtol=1e-4)


@pytest.mark.parametrize("name", LAYERS)
def test_compensation_brings_outputs_closer(name: str) -> None:
    op = LAYERS[name]
    xs = inputs(op)
    w = op.operand("w").producer.attrs["value"].array
    nearest, quant = quantize_weights(w)
    covariance = moments(op, xs).covariance
    assert covariance is not None
    better = round_compensated(w, quant, covariance)
    assert better.dtype == np.int8 and better.min() >= -127
    steps = np.abs(QArray(better, quant).real() - w).max()
    assert steps <= 6 * max(quant.scale)  # still the same weights

    def noise(q: np.ndarray) -> float:
        e = outputs(op, xs, QArray(q, quant).real()) - outputs(op, xs, w)
        return float((e - e.mean(1, keepdims=True)).var())

    assert noise(better) < 0.95 * noise(nearest)


def test_compensation_without_correlation_is_rounding() -> None:
    w = RNG.normal(size=(4, 10)).astype(np.float32)
    nearest, quant = quantize_weights(w)
    np.testing.assert_array_equal(round_compensated(w, quant, np.eye(10)[None]), nearest)


def rank_one(k: int) -> np.ndarray:
    x = np.random.default_rng(3).normal(size=k)
    return np.outer(x, x)[None]


@pytest.mark.parametrize(
    "covariance",
    [
        rank_one(10),
        rank_one(10) - 1e-3 * np.eye(10),
        1e30 * rank_one(10),
        np.zeros((1, 10, 10)),
        np.full((1, 10, 10), np.inf),
    ],
    ids=["two samples", "indefinite by rounding", "large", "dead inputs", "overflown"],
)
def test_any_covariance_gives_weights_near_the_float_ones(covariance: np.ndarray) -> None:
    w = np.random.default_rng(4).normal(size=(4, 10)).astype(np.float32)
    _, quant = quantize_weights(w)
    q = round_compensated(w, quant, covariance, damping=1e-9)
    steps = np.abs(QArray(q, quant).real() - w) / quant.scale_array()[:, None]
    assert steps.max() <= 20


def test_the_factor_is_that_of_the_inverse() -> None:
    a = np.random.default_rng(5).normal(size=(3, 6, 6))
    h = a @ a.transpose(0, 2, 1) + np.eye(6)
    upper = _inverse_factor(h)
    assert upper is not None and np.array_equal(upper, np.triu(upper))
    np.testing.assert_allclose(upper.transpose(0, 2, 1) @ upper, np.linalg.inv(h), rtol=1e-9, atol=1e-12)


def test_large_layers_keep_no_covariance() -> None:
    op = layer("linear", np.zeros((1, LARGEST + 1), np.float32), (1, LARGEST + 1))
    m = moments(op, [np.ones((1, LARGEST + 1), np.float32)])
    assert m.covariance is None and m.mean.shape == (LARGEST + 1,)


def test_error_measures() -> None:
    a = np.array([3.0, -4.0])
    assert sqnr(a, a) == math.inf and sqnr(a, a * 1.1) == pytest.approx(20.0)
    assert sqnr(np.zeros(2), a) == -math.inf
    assert cosine(a, 2 * a) == pytest.approx(1.0) and cosine(a, [4.0, 3.0]) == pytest.approx(0.0)
    assert cosine(np.zeros(2), np.zeros(2)) == 1.0 and cosine(np.zeros(2), a) == 0.0
