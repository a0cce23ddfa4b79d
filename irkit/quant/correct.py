"""What calibration data tells about a layer's inputs, used to make int8 weights do the float weights' work.

Rounding that compensates: weights are rounded one input at a time, and what rounding one of them does to the output is
made up for by those still to come, as far as their inputs are correlated (Frantar et al., "GPTQ", ICLR 2023, after the
optimal brain surgeon). Bias correction: what is left of the shift of the output's mean goes into the bias (Nagel et
al., "Data-Free Quantization through Weight Equalization and Bias Correction", ICCV 2019, section 4.2).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from irkit.ir.graph import Operation
from irkit.ir.types import Array, Quant
from irkit.ops import linear
from irkit.ops.conv import pad_hw, windows

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
POSITIONS = 256  # of each sample, at most, that covariances are taken from
LARGEST = 1536  # inputs of one output beyond which no covariance is kept: it grows with the square


class Moments:
    """Running mean and covariance of what a conv2d or linear multiplies its weights with.

    Memory: one sample of the input, and groups * K * K floats, K inputs of one output.
    """

    def __init__(self, op: Operation) -> None:
        self.op = op
        w = op.operand("w").type
        self.k = w.size // w.shape[0] if w.shape[0] else 0
        self.groups = 1 if op.opdef is linear else int(op.attrs["groups"])
        self.samples = 0
        self._sum: F32 | None = None
        self._taken = 0
        self._first = np.zeros((self.groups, self.k))
        self._second = np.zeros((self.groups, self.k, self.k), np.float32) if self.k <= LARGEST else None

    def add(self, x: Array) -> None:
        """Add an input of the layer."""
        s = x[0] if x.shape[0] == 1 else x.sum(0, dtype=np.float32)
        if self._sum is None:
            self._sum = np.array(s, np.float32)
        else:
            self._sum += s
        self.samples += x.shape[0]
        if self._second is None:
            return
        p = self._patches(x)
        self._second += p.transpose(0, 2, 1) @ p
        self._first += p.sum(1, dtype=np.float64)
        self._taken += p.shape[1]

    def _patches(self, x: Array) -> F32:
        """Inputs of one output position each, an even selection of them: [groups, positions, K]."""
        if self.op.opdef is linear:
            flat = x.reshape(-1, self.k)
            return np.asarray(flat[_every(len(flat), self.samples)][None], np.float32)
        a = self.op.attrs
        kh, kw = self.op.operand("w").type.shape[2:]
        v = windows(pad_hw(x, a["pads"]), (kh, kw), a["strides"], a["dilation"])
        n, c, oh, ow = v.shape[:4]
        at = np.arange(n * oh * ow)[_every(n * oh * ow, self.samples)]
        picked = v[at // (oh * ow), :, at // ow % oh, at % ow]  # [positions, C, KH, KW]
        picked = picked.reshape(len(at), self.groups, c // self.groups * kh * kw)
        return np.ascontiguousarray(picked.transpose(1, 0, 2), np.float32)

    @property
    def mean(self) -> F64:
        """Mean input, without axis 0."""
        assert self._sum is not None
        return self._sum.astype(np.float64) / self.samples

    @property
    def covariance(self) -> F64 | None:
        """[groups, K, K]; None for layers with very many inputs an output."""
        if self._second is None or not self._taken:
            return None
        m = self._first / self._taken
        return np.asarray(self._second.astype(np.float64) / self._taken - m[:, :, None] * m[:, None, :])


def _every(count: int, offset: int) -> slice:
    step = -(-count // POSITIONS)
    return slice(offset % step if step > 1 else 0, None, max(step, 1))


def output_shift(op: Operation, error: F64, mean: F64) -> F64:
    """Mean over samples and positions of what ``error`` in the weights of a conv2d or linear adds to its output: [O].

    ``mean`` is the mean input (without the batch axis). Padding counts as the zeros that it is.
    """
    if op.opdef is linear:
        return np.asarray(error @ mean.reshape(-1, mean.shape[-1]).mean(0))
    o, ci, kh, kw = error.shape
    a = op.attrs
    v = windows(pad_hw(mean[None], a["pads"]), (kh, kw), a["strides"], a["dilation"])
    taps = v.mean((0, 2, 3)).reshape(a["groups"], -1)  # [g, I/g * KH * KW]
    return np.asarray(np.einsum("gok,gk->go", error.reshape(a["groups"], -1, ci * kh * kw), taps).reshape(o))


def _inverse_factor(h: F64) -> F64 | None:
    """U, upper triangular, with inv(h) = U.T @ U: its rows say how later weights best make up for an error in one.

    Found without inverting h, which few samples leave close to singular: with h = R @ R.T, R upper, U is inv(R). What
    rounding made indefinite gets a larger diagonal. None when h is not finite.
    """
    if not np.isfinite(h).all():
        return None
    size = np.maximum(np.einsum("gkk->gk", h).mean(1), 1e-300)[:, None, None]
    for extra in (0.0, 1e-6, 1e-3, 1e-1, 1.0):
        try:
            r = np.linalg.cholesky((h + extra * size * np.eye(h.shape[1]))[:, ::-1, ::-1])[:, ::-1, ::-1]
            upper = np.asarray(np.linalg.inv(r))
        except np.linalg.LinAlgError:
            continue
        if np.isfinite(upper).all():
            return upper
    return None


def round_compensated(w: Array, quant: Quant, covariance: F64, damping: float = 0.1) -> npt.NDArray[np.int8]:
    """w [O, ...] as int8 in [-127, 127] at the scales of ``quant``, errors made up for by later weights.

    ``covariance`` is [groups, K, K]; ``damping`` times its mean diagonal is added to the diagonal, so that inputs
    which hardly vary don't take on much.
    """
    g, k = covariance.shape[:2]
    rest = w.astype(np.float64).reshape(g, -1, k)
    scale = quant.scale_array().astype(np.float64).reshape(g, -1)
    h = covariance.copy()
    diagonal = np.einsum("gkk->gk", h)
    diagonal += damping * diagonal.mean(1, keepdims=True) + 1e-12
    order = np.argsort(-diagonal.mean(0), kind="stable") if g == 1 else np.arange(k)
    h, rest = h[:, order][:, :, order], rest[:, :, order]
    upper = _inverse_factor(h)
    if upper is None:
        upper = np.broadcast_to(np.eye(k), h.shape)  # nothing is known about the inputs: plain rounding
    q = np.empty_like(rest)
    for start in range(0, k, 64):
        stop = min(start + 64, k)
        errors = np.empty((g, rest.shape[1], stop - start))
        for i in range(start, stop):
            q[:, :, i] = np.clip(np.rint(rest[:, :, i] / scale), -127, 127)
            e = (rest[:, :, i] - q[:, :, i] * scale) / upper[:, None, i, i]
            rest[:, :, i + 1 : stop] -= e[:, :, None] * upper[:, None, i, i + 1 : stop]
            errors[:, :, i - start] = e
        rest[:, :, stop:] -= errors @ upper[:, start:stop, stop:]
    out = np.empty_like(q)
    out[:, :, order] = q
    return np.asarray(out.astype(np.int8).reshape(w.shape))
