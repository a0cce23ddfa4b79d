"""Float ops: the NumPy reference against PyTorch in float64, within a bound derived from the op's roundings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from irkit.ir.opdef import REGISTRY, Case, OpDef  # noqa: E402
from tests.ops.samples import all_samples, attrs_of, inferred, reference  # noqa: E402

F = torch.nn.functional
EPS = 2.0**-24  # unit roundoff of float32


def crop_pad(x: Any, pads: Any, value: float = 0.0) -> Any:
    t, left, b, r = pads
    return F.pad(x, (left, r, t, b), value=value)


def conv2d(x: Any, w: Any, b: Any, *, strides: Any, pads: Any, dilation: Any, groups: int) -> Any:
    return F.conv2d(crop_pad(x, pads), w, b, strides, 0, dilation, groups)


def conv_transpose2d(
    x: Any, w: Any, b: Any, *, strides: Any, pads: Any, output_padding: Any, dilation: Any, groups: int
) -> Any:
    y = F.conv_transpose2d(x, w, b, strides, 0, output_padding, groups, dilation)
    t, left, bottom, r = pads
    return y[:, :, t : y.shape[2] - bottom, left : y.shape[3] - r]


def max_pool2d(x: Any, *, kernel: Any, strides: Any, pads: Any, dilation: Any) -> Any:
    return F.max_pool2d(crop_pad(x, pads, -torch.inf), kernel, strides, 0, dilation)


def avg_pool2d(x: Any, *, kernel: Any, strides: Any, pads: Any, ceil: Any, count_include_pad: bool) -> Any:
    extra = (0, 0, *ceil)
    ones = crop_pad(crop_pad(torch.ones_like(x), pads, float(count_include_pad)), extra)
    sums = F.avg_pool2d(crop_pad(crop_pad(x, pads), extra), kernel, strides, divisor_override=1)
    return sums / F.avg_pool2d(ones, kernel, strides, divisor_override=1)


def resize2d(x: Any, *, size: Any, mode: str, coords: str, scales: Any) -> Any:
    if mode == "nearest":
        m = "nearest" if coords == "asymmetric" else "nearest-exact"
        y = F.interpolate(x, size, mode=m) if scales is None else F.interpolate(x, scale_factor=scales, mode=m)
    elif coords == "asymmetric":  # PyTorch has none: sample on the grid it names
        at = [torch.arange(o, dtype=x.dtype) * (i / o) for o, i in zip(size, x.shape[2:], strict=True)]
        unit = [2 * a.clamp(max=i - 1) / (i - 1) - 1 for a, i in zip(at, x.shape[2:], strict=True)]
        grid = torch.stack([unit[1].expand(size), unit[0][:, None].expand(size)], -1)[None]
        return F.grid_sample(x, grid, "bilinear", align_corners=True)
    else:
        corners = coords == "align_corners"
        kw = {"size": size} if scales is None else {"scale_factor": scales, "recompute_scale_factor": False}
        y = F.interpolate(x, mode="bilinear", align_corners=corners, **kw)
    assert tuple(y.shape[2:]) == tuple(size)
    return y


def pad(x: Any, *, pads: Any, value: float, mode: str) -> Any:
    if mode == "constant":
        return F.pad(x, [v for pair in reversed(pads) for v in pair], value=value)
    return F.pad(
        x, [v for pair in reversed(pads[2:]) for v in pair], mode="reflect" if mode == "reflect" else "replicate"
    )


def gelu(x: Any, *, approximate: str) -> Any:
    return F.gelu(x, approximate=approximate)


def prelu(x: Any, slope: Any) -> Any:
    return F.prelu(x if x.ndim > 1 else x[None, None], slope).reshape(x.shape)


def batch_norm(x: Any, g: Any, b: Any, mean: Any, var: Any, *, eps: float) -> Any:
    return F.batch_norm(x, mean, var, g, b, eps=eps)


def layer_norm(x: Any, g: Any = None, b: Any = None, *, axis: int, eps: float) -> Any:
    return F.layer_norm(x, x.shape[axis % x.ndim :], g, b, eps)


def slice_(x: Any, *, starts: Any, ends: Any, steps: Any) -> Any:
    return x[tuple(slice(*t) for t in zip(starts, ends, steps, strict=True))]


# The op in PyTorch, and the count of roundings (ulps) its float32 reference may spend on an element.
ORACLES: dict[str, tuple[Callable[..., Any], int]] = {
    "relu": (torch.relu, 0),
    "neg": (torch.neg, 0),
    "abs": (torch.abs, 0),
    "exp": (torch.exp, 1),
    "log": (torch.log, 1),
    "sqrt": (torch.sqrt, 1),
    "rsqrt": (torch.rsqrt, 1),
    "reciprocal": (torch.reciprocal, 1),
    "sigmoid": (torch.sigmoid, 1),
    "tanh": (torch.tanh, 1),
    "erf": (torch.erf, 1),
    "silu": (F.silu, 1),
    "hardsigmoid": (F.hardsigmoid, 1),
    "hardswish": (F.hardswish, 1),
    "softplus": (lambda x: F.softplus(x, threshold=700), 1),
    "mish": (F.mish, 1),
    "sign": (torch.sign, 0),
    "floor": (torch.floor, 0),
    "ceil": (torch.ceil, 0),
    "square": (torch.square, 1),
    "clip": (lambda x, lo, hi: torch.clamp(x, lo, hi), 0),
    "leaky_relu": (lambda x, slope: F.leaky_relu(x, slope), 2),
    "elu": (lambda x, alpha: F.elu(x, alpha), 1),
    "gelu": (gelu, 1),
    "prelu": (prelu, 1),
    "add": (torch.add, 1),
    "sub": (torch.sub, 1),
    "mul": (torch.mul, 1),
    "div": (torch.div, 1),
    "maximum": (torch.maximum, 0),
    "minimum": (torch.minimum, 0),
    "pow": (torch.pow, 1),
    "max_pool2d": (max_pool2d, 0),
    "adaptive_max_pool2d": (lambda x, output: F.adaptive_max_pool2d(x, output), 0),
    "reduce_mean": (lambda x, axes, keepdims: x.mean(axes, keepdim=keepdims), 1),
    "reduce_sum": (lambda x, axes, keepdims: x.sum(axes, keepdim=keepdims), 1),
    "reduce_max": (lambda x, axes, keepdims: torch.amax(x, axes, keepdim=keepdims), 0),
    "reduce_min": (lambda x, axes, keepdims: torch.amin(x, axes, keepdim=keepdims), 0),
    "layer_norm": (layer_norm, 1),
    "batch_norm": (batch_norm, 1),
    "softmax": (lambda x, axis: torch.softmax(x, axis), 1),
    "log_softmax": (lambda x, axis: torch.log_softmax(x, axis), 1),
    "reshape": (lambda x, shape: x.reshape(shape), 0),
    "permute": (lambda x, perm: x.permute(perm), 0),
    "concat": (lambda *xs, axis: torch.cat(xs, axis), 0),
    "slice": (slice_, 0),
    "pad": (pad, 0),
    "expand": (lambda x, shape: x.expand(shape), 0),
    "relayout": (lambda x: x, 0),
    "copy": (lambda x: x, 0),
    "cast": (lambda x, dtype: x.to(CAST[dtype]), 1),
}
CAST = {"f32": torch.float32, "f64": torch.float64, "bool": torch.bool, "i64": torch.int64, "i8": torch.int8}
# Sums: the op in PyTorch and the length of its sums; bound = length * EPS * (the same sum of absolute values).
SUMS: dict[str, tuple[Callable[..., Any], Callable[..., int]]] = {
    "linear": (F.linear, lambda x, w, b=None: w.shape[1] + 1),
    "matmul": (torch.matmul, lambda a, b: a.shape[-1]),
    "conv2d": (conv2d, lambda x, w, b=None: w[0].numel() + 1),
    "conv_transpose2d": (conv_transpose2d, lambda x, w, b=None: w.shape[0] * w[0, 0].numel() + 1),
    "avg_pool2d": (avg_pool2d, lambda x: 10),
    "adaptive_avg_pool2d": (lambda x, output: F.adaptive_avg_pool2d(x, output), lambda x: 43),
    "resize2d": (resize2d, lambda x: 8),
}
ELSEWHERE = {"const", "return", "fused"}


def wide(x: Any) -> Any:
    if x is None:
        return None
    t = torch.from_numpy(np.array(x))
    return t.double() if t.is_floating_point() or t.dtype is torch.int8 else t


SAMPLES = [(n, o, c) for n, o, c in all_samples() if "int8" not in o.tags and o.name not in ELSEWHERE]


def test_every_float_op_has_an_oracle() -> None:
    names = {d.name for d in REGISTRY.values() if "int8" not in d.tags} - ELSEWHERE
    assert names == set(ORACLES) | set(SUMS)


def cast_has_defined_value(opdef: OpDef, case: Case) -> Any:
    """Elements whose cast PyTorch defines: in range, not NaN (ours saturates beyond, see test_cast_saturates)."""
    x = case.operands[0]
    dtype = case.attrs["dtype"]
    if opdef.name != "cast" or x.dtype.kind != "f" or dtype not in ("i8", "u8", "i32", "i64"):
        return np.ones(np.shape(x), bool)
    info = np.iinfo({"i8": np.int8, "u8": np.uint8, "i32": np.int32, "i64": np.int64}[dtype])
    return (np.nan_to_num(x, nan=np.inf) > info.min - 1.0) & (np.nan_to_num(x, nan=np.inf) < float(info.max))


@pytest.mark.parametrize(("opdef", "case"), [s[1:] for s in SAMPLES], ids=[s[0] for s in SAMPLES])
def test_reference_equals_torch(opdef: OpDef, case: Case) -> None:
    (got,) = reference(opdef, case)
    operands = [wide(x) for x in case.operands]
    attrs = attrs_of(opdef, case)
    if opdef.name == "cast" and case.attrs["dtype"] in ("u8", "i32"):
        attrs["dtype"] = "i64"
    if opdef.name in SUMS:
        fn, length = SUMS[opdef.name]
        while operands and operands[-1] is None:
            operands.pop()
        want = fn(*operands, **attrs) if opdef.name in ("linear", "matmul") else fn(*pad_args(fn, operands), **attrs)
        mags = [None if x is None else x.abs() for x in operands]
        mag = fn(*mags, **attrs) if opdef.name in ("linear", "matmul") else fn(*pad_args(fn, mags), **attrs)
        eps = EPS if got.dtype == np.float32 else 2.0**-53
        bound = (length(*operands) * eps * mag).numpy()
    else:
        fn, ulps = ORACLES[opdef.name]
        want = fn(*operands, **attrs)
        eps = 2 * EPS if got.dtype == np.float32 else 8 * 2.0**-52
        # half the spacing of float32 around the result, and of denormals near zero
        bound = ulps * (eps * np.nan_to_num(want.double().abs().numpy(), posinf=0.0) + 2.0**-149)
        if opdef.name == "batch_norm":  # a float64 difference that may cancel
            bound = bound + 1e-14
        if opdef.name == "gelu":  # PyTorch's own 1 + erf and 1 + tanh cancel
            bound = bound + 2.0**-50 * operands[0].abs().numpy()
    want = want.numpy()
    assert got.shape == want.shape
    keep = np.broadcast_to(cast_has_defined_value(opdef, case), got.shape) if opdef.name == "cast" else ...
    a, b = (np.atleast_1d(v.astype(np.float64)[keep]) for v in (got, want))
    bound = np.atleast_1d(np.broadcast_to(bound, got.shape)[keep])
    with np.errstate(over="ignore"):
        rounded = b.astype(got.dtype).astype(np.float64)
    close = np.zeros(a.shape, bool)
    finite = np.isfinite(a) & np.isfinite(b)
    close[finite] = np.abs(a[finite] - b[finite]) <= bound[finite]
    close |= (a == rounded) | (np.isnan(a) & np.isnan(b))
    assert close.all(), f"{opdef.name}: got {a[~close][:5]}, PyTorch {b[~close][:5]}"


def pad_args(fn: Callable[..., Any], operands: list[Any]) -> list[Any]:
    return operands + [None] * (3 - len(operands)) if fn in (conv2d, conv_transpose2d) else operands


ALL = list(all_samples())


@pytest.mark.parametrize(("opdef", "case"), [s[1:] for s in ALL], ids=[s[0] for s in ALL])
def test_infer_equals_reference(opdef: OpDef, case: Case) -> None:
    results = reference(opdef, case)
    types = inferred(opdef, case)
    if opdef.name == "return":
        assert types == () and len(results) == len(case.operands)
        return
    assert [(t.shape, t.dtype.numpy) for t in types] == [(r.shape, r.dtype) for r in results]


@pytest.mark.parametrize(("opdef", "case"), [s[1:] for s in ALL], ids=[s[0] for s in ALL])
def test_operands_stay_as_they_were(opdef: OpDef, case: Case) -> None:
    before = [None if x is None else np.array(getattr(x, "data", x)) for x in case.operands]
    first = [np.array(r) for r in reference(opdef, case)]
    again = reference(opdef, case)
    for a, b in zip(first, again, strict=True):
        assert a.tobytes() == b.tobytes()
    for old, x in zip(before, case.operands, strict=True):
        assert old is None or old.tobytes() == np.array(getattr(x, "data", x)).tobytes()


def test_cast_saturates() -> None:
    cast = REGISTRY["cast"].fn
    x = np.array([np.nan, np.inf, -np.inf, 1e20, -1e20, 127.9, -128.9, 128.0, -129.0], np.float32)
    assert cast(x, dtype="i8").tolist() == [0, 127, -128, 127, -128, 127, -128, 127, -128]
    assert cast(x, dtype="u8").tolist() == [0, 255, 0, 255, 0, 127, 0, 128, 0]
    i64 = cast(x, dtype="i64")
    assert i64[1] == i64[3] == np.iinfo(np.int64).max and i64[2] == np.iinfo(np.int64).min


def test_fused_means_its_body() -> None:
    one, two = list(REGISTRY["fused"].cases())
    assert reference(REGISTRY["fused"], one)[0].tolist() == [-1, 0, 7]
    a, b = reference(REGISTRY["fused"], two)
    assert a.tolist() == [1.0, 2.0, 3.0] and a.dtype == np.float64
    assert b.tolist() == [-1, 0, 7] and b.dtype == np.int8
