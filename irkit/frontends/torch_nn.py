"""Handlers of PyTorch layers: convolutions, pools, normalisation, resizing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from irkit import ops
from irkit.errors import ModelError
from irkit.frontends.builder import Builder, NotSupportedError, window_pads
from irkit.frontends.torch_registry import Absent, handles
from irkit.ir.graph import Value

Ints = int | Sequence[int]
_INDICES = Absent("indices of a max pool are not computed")


def pair(v: Ints) -> tuple[int, int]:
    """(height, width) of a setting given once or twice."""
    if isinstance(v, int):
        return (v, v)
    values = tuple(v)
    return (values[0], values[-1])


def lifted(v: Ints, one: int) -> tuple[int, int]:
    """The 2-D form of a 1-D setting: over a height of 1."""
    return (one, v if isinstance(v, int) else v[0])


def over_batch(b: Builder, x: Value, spatial: int, fn: Callable[[Value], Value]) -> Value:
    """Apply ``fn`` to x as (N, C, H, W): 1-D signals get a height of 1, single samples a batch axis."""
    single = x.type.rank == spatial + 1
    if not single and x.type.rank != spatial + 2:
        raise NotSupportedError(f"input of rank {x.type.rank}")
    if single:
        x = b.unsqueeze(x, 0)
    if spatial == 1:
        x = b.unsqueeze(x, 2)
    y = fn(x)
    if spatial == 1:
        y = b.squeeze(y, 2)
    return b.squeeze(y, 0) if single else y


# ---- convolution
def _same_pads(kernel: Sequence[int], dilation: Sequence[int]) -> tuple[int, int, int, int]:
    total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    return (total[0] // 2, total[1] // 2, total[0] - total[0] // 2, total[1] - total[1] // 2)


def _conv(
    b: Builder, spatial: int, x: Value, w: Value, bias: Value | None, stride: Ints, padding: Ints | str,
    dilation: Ints, groups: int,
) -> Value:  # fmt: skip
    if spatial == 1:
        stride, dilation = lifted(stride, 1), lifted(dilation, 1)
        padding = padding if isinstance(padding, str) else lifted(padding, 0)
        w = b.unsqueeze(w, 2)
    if padding == "same":
        pads = _same_pads(w.type.shape[2:], pair(dilation))
    else:
        h, v = (0, 0) if isinstance(padding, str) else pair(padding)
        pads = (h, v, h, v)
    settings = {"strides": pair(stride), "pads": pads, "dilation": pair(dilation), "groups": groups}
    return over_batch(b, x, spatial, lambda t: b.emit(ops.conv2d, t, w, bias, **settings))


@handles("aten.conv2d.default", "aten.conv2d.padding")
def conv2d(
    b: Builder, x: Value, w: Value, bias: Value | None = None, stride: Ints = 1, padding: Ints | str = 0,
    dilation: Ints = 1, groups: int = 1,
) -> Value:  # fmt: skip
    return _conv(b, 2, x, w, bias, stride, padding, dilation, groups)


@handles("aten.conv1d.default", "aten.conv1d.padding")
def conv1d(
    b: Builder, x: Value, w: Value, bias: Value | None = None, stride: Ints = 1, padding: Ints | str = 0,
    dilation: Ints = 1, groups: int = 1,
) -> Value:  # fmt: skip
    return _conv(b, 1, x, w, bias, stride, padding, dilation, groups)


def _conv_transpose(
    b: Builder, spatial: int, x: Value, w: Value, bias: Value | None, stride: Ints, padding: Ints,
    output_padding: Ints, groups: int, dilation: Ints,
) -> Value:  # fmt: skip
    if spatial == 1:
        stride, dilation, w = lifted(stride, 1), lifted(dilation, 1), b.unsqueeze(w, 2)
        padding, output_padding = lifted(padding, 0), lifted(output_padding, 0)
    h, v = pair(padding)
    settings = {
        "strides": pair(stride), "pads": (h, v, h, v), "output_padding": pair(output_padding),
        "dilation": pair(dilation), "groups": groups,
    }  # fmt: skip
    return over_batch(b, x, spatial, lambda t: b.emit(ops.conv_transpose2d, t, w, bias, **settings))


@handles("aten.conv_transpose2d.input")
def conv_transpose2d(
    b: Builder, x: Value, w: Value, bias: Value | None = None, stride: Ints = 1, padding: Ints = 0,
    output_padding: Ints = 0, groups: int = 1, dilation: Ints = 1,
) -> Value:  # fmt: skip
    return _conv_transpose(b, 2, x, w, bias, stride, padding, output_padding, groups, dilation)


@handles("aten.conv_transpose1d.default")
def conv_transpose1d(
    b: Builder, x: Value, w: Value, bias: Value | None = None, stride: Ints = 1, padding: Ints = 0,
    output_padding: Ints = 0, groups: int = 1, dilation: Ints = 1,
) -> Value:  # fmt: skip
    return _conv_transpose(b, 1, x, w, bias, stride, padding, output_padding, groups, dilation)


@handles("aten.convolution.default")
def convolution(
    b: Builder, x: Value, w: Value, bias: Value | None, stride: Ints, padding: Ints, dilation: Ints,
    transposed: bool, output_padding: Ints, groups: int,
) -> Value:  # fmt: skip
    spatial = w.type.rank - 2
    if spatial not in (1, 2):
        raise NotSupportedError(f"{spatial}-D convolution")
    if transposed:
        return _conv_transpose(b, spatial, x, w, bias, stride, padding, output_padding, groups, dilation)
    return _conv(b, spatial, x, w, bias, stride, padding, dilation, groups)


# ---- pooling
def _max_pool(
    b: Builder, spatial: int, x: Value, kernel: Ints, stride: Ints | None, padding: Ints, dilation: Ints, ceil: bool
) -> Value:
    stride = stride or kernel
    if spatial == 1:
        kernel, stride, dilation = lifted(kernel, 1), lifted(stride, 1), lifted(dilation, 1)
        padding = lifted(padding, 0)
    k, s, p, d = pair(kernel), pair(stride), pair(padding), pair(dilation)

    def pool(t: Value) -> Value:
        far = [window_pads(t.type.shape[2 + i], k[i], s[i], p[i], d[i]) if ceil else p[i] for i in (0, 1)]
        return b.emit(ops.max_pool2d, t, kernel=k, strides=s, pads=(*p, *far), dilation=d)

    return over_batch(b, x, spatial, pool)


@handles("aten.max_pool2d.default")
def max_pool2d(
    b: Builder, x: Value, kernel: Ints, stride: Ints | None = None, padding: Ints = 0, dilation: Ints = 1,
    ceil_mode: bool = False,
) -> Value:  # fmt: skip
    return _max_pool(b, 2, x, kernel, stride, padding, dilation, ceil_mode)


@handles("aten.max_pool1d.default")
def max_pool1d(
    b: Builder, x: Value, kernel: Ints, stride: Ints | None = None, padding: Ints = 0, dilation: Ints = 1,
    ceil_mode: bool = False,
) -> Value:  # fmt: skip
    return _max_pool(b, 1, x, kernel, stride, padding, dilation, ceil_mode)


@handles("aten.max_pool2d_with_indices.default")
def max_pool2d_with_indices(b: Builder, x: Value, *args: Any, **kwargs: Any) -> list[Any]:
    return [max_pool2d(b, x, *args, **kwargs), _INDICES]


@handles("aten.max_pool1d_with_indices.default")
def max_pool1d_with_indices(b: Builder, x: Value, *args: Any, **kwargs: Any) -> list[Any]:
    return [max_pool1d(b, x, *args, **kwargs), _INDICES]


def _avg_pool(
    b: Builder, spatial: int, x: Value, kernel: Ints, stride: Ints | None, padding: Ints, ceil: bool,
    include: bool, divisor: int | None,
) -> Value:  # fmt: skip
    stride = stride or kernel
    if spatial == 1:
        kernel, stride, padding = lifted(kernel, 1), lifted(stride, 1), lifted(padding, 0)
    k, s, p = pair(kernel), pair(stride), pair(padding)

    def pool(t: Value) -> Value:
        # The far padding counts like the near one; rows beyond it, needed by the last window, never do.
        beyond = [max(0, window_pads(t.type.shape[2 + i], k[i], s[i], p[i]) - p[i]) if ceil else 0 for i in (0, 1)]
        if divisor is not None and any(beyond):
            raise NotSupportedError("divisor_override together with ceil_mode")
        y = b.emit(
            ops.avg_pool2d, t, kernel=k, strides=s, pads=(*p, *p), ceil=tuple(beyond),
            count_include_pad=include or divisor is not None,
        )  # fmt: skip
        return y if divisor is None else b.emit(ops.mul, y, b.like(k[0] * k[1] / divisor, y))

    return over_batch(b, x, spatial, pool)


@handles("aten.avg_pool2d.default")
def avg_pool2d(
    b: Builder, x: Value, kernel: Ints, stride: Ints | None = None, padding: Ints = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> Value:  # fmt: skip
    return _avg_pool(b, 2, x, kernel, stride, padding, ceil_mode, count_include_pad, divisor_override)


@handles("aten.avg_pool1d.default")
def avg_pool1d(
    b: Builder, x: Value, kernel: Ints, stride: Ints | None = None, padding: Ints = 0, ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Value:  # fmt: skip
    return _avg_pool(b, 1, x, kernel, stride, padding, ceil_mode, count_include_pad, None)


def _adaptive(b: Builder, x: Value, spatial: int, output: Sequence[int | None], kind: str) -> Value:
    def pool(t: Value) -> Value:
        size = t.type.shape[2:]
        asked = (1, output[0]) if spatial == 1 else tuple(output)
        out = tuple(s if o is None else o for s, o in zip(size, asked, strict=True))
        if out == size:
            return t
        if out == (1, 1):
            return b.emit(ops.reduce_mean if kind == "avg" else ops.reduce_max, t, axes=(2, 3), keepdims=True)
        if size[0] % out[0] == 0 and size[1] % out[1] == 0:  # all windows are alike: an ordinary pool
            k = (size[0] // out[0], size[1] // out[1])
            return b.emit(ops.avg_pool2d if kind == "avg" else ops.max_pool2d, t, kernel=k, strides=k)
        return b.emit(ops.adaptive_avg_pool2d if kind == "avg" else ops.adaptive_max_pool2d, t, output=out)

    return over_batch(b, x, spatial, pool)


@handles("aten.adaptive_avg_pool2d.default", "aten._adaptive_avg_pool2d.default")
def adaptive_avg_pool2d(b: Builder, x: Value, output: Sequence[int | None]) -> Value:
    return _adaptive(b, x, 2, output, "avg")


@handles("aten.adaptive_avg_pool1d.default")
def adaptive_avg_pool1d(b: Builder, x: Value, output: Sequence[int | None]) -> Value:
    return _adaptive(b, x, 1, output, "avg")


@handles("aten.adaptive_max_pool2d.default")
def adaptive_max_pool2d(b: Builder, x: Value, output: Sequence[int | None]) -> list[Any]:
    return [_adaptive(b, x, 2, output, "max"), _INDICES]


@handles("aten.adaptive_max_pool1d.default")
def adaptive_max_pool1d(b: Builder, x: Value, output: Sequence[int | None]) -> list[Any]:
    return [_adaptive(b, x, 1, output, "max"), _INDICES]


# ---- normalisation
@handles("aten.batch_norm.default")
def batch_norm(
    b: Builder, x: Value, gamma: Value | None, beta: Value | None, mean: Value | None, var: Value | None,
    training: bool, momentum: float, eps: float, cudnn_enabled: bool = False,
) -> Value:  # fmt: skip
    if mean is None or var is None:
        raise NotSupportedError("batch norm without running statistics (track_running_stats=False)")
    if training:
        raise ModelError(f"{b.loc or 'the model'}: batch norm in training mode; call model.eval() before exporting")
    return b.emit(ops.batch_norm, x, gamma, beta, mean, var, eps=eps)


@handles("aten._native_batch_norm_legit_no_training.default")
def batch_norm_no_training(
    b: Builder, x: Value, gamma: Value | None, beta: Value | None, mean: Value, var: Value, momentum: float, eps: float
) -> list[Any]:
    unused = Absent("statistics of a batch norm in eval mode")
    return [batch_norm(b, x, gamma, beta, mean, var, False, momentum, eps), unused, unused]


@handles("aten.layer_norm.default")
def layer_norm(
    b: Builder, x: Value, shape: Sequence[int], gamma: Value | None = None, beta: Value | None = None,
    eps: float = 1e-5, cudnn_enable: bool = True,
) -> Value:  # fmt: skip
    return b.emit(ops.layer_norm, x, gamma, beta, axis=x.type.rank - len(shape), eps=eps)


@handles("aten.group_norm.default")
def group_norm(
    b: Builder, x: Value, groups: int, gamma: Value | None = None, beta: Value | None = None, eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Value:  # fmt: skip
    """Layer norm over the channels of each group and all positions, then a scale per channel."""
    shape = x.type.shape
    rows = b.reshape(x, (shape[0], groups, -1))
    y = b.reshape(b.emit(ops.layer_norm, rows, None, None, axis=2, eps=eps), shape)
    per_channel = (shape[1], *[1] * (len(shape) - 2))
    if gamma is not None:
        y = b.emit(ops.mul, y, b.reshape(gamma, per_channel))
    return y if beta is None else b.emit(ops.add, y, b.reshape(beta, per_channel))


@handles("aten.instance_norm.default")
def instance_norm(
    b: Builder, x: Value, gamma: Value | None, beta: Value | None, mean: Value | None, var: Value | None,
    use_input_stats: bool, momentum: float, eps: float, cudnn_enabled: bool = False,
) -> Value:  # fmt: skip
    if not use_input_stats:
        return batch_norm(b, x, gamma, beta, mean, var, False, momentum, eps)
    return group_norm(b, x, x.type.shape[1], gamma, beta, eps)


@handles("aten.rms_norm.default")
def rms_norm(b: Builder, x: Value, shape: Sequence[int], gamma: Value | None = None, eps: float | None = None) -> Value:
    axes = tuple(range(x.type.rank - len(shape), x.type.rank))
    power = b.emit(ops.reduce_mean, b.emit(ops.square, x), axes=axes, keepdims=True)
    small = 1.1920928955078125e-07 if eps is None else eps  # PyTorch's default: float32 machine epsilon
    y = b.emit(ops.mul, x, b.emit(ops.rsqrt, b.emit(ops.add, power, b.like(small, power))))
    return y if gamma is None else b.emit(ops.mul, y, gamma)


# ---- resizing
def _resize(
    b: Builder, spatial: int, x: Value, size: Sequence[int] | None, scales: Sequence[float | None] | None, mode: str,
    coords: str,
) -> Value:  # fmt: skip
    if b.expected is None:
        raise NotSupportedError("unexpected kind of result")
    out = b.expected.shape[2:]
    factors: tuple[float, float] | None = None
    if scales is not None and all(s is not None for s in scales) and size is None:
        given = [float(s) for s in scales if s is not None]
        factors = (1.0, given[0]) if spatial == 1 else (given[0], given[1])
    target = (1, out[0]) if spatial == 1 else (out[0], out[1])
    settings = {"size": target, "mode": mode, "coords": coords, "scales": factors}
    return over_batch(b, x, spatial, lambda t: b.emit(ops.resize2d, t, **settings))


def _register_nearest(spatial: int) -> None:
    @handles(f"aten.upsample_nearest{spatial}d.vec")
    def vec(b: Builder, x: Value, size: Sequence[int] | None, scales: Sequence[float] | None) -> Value:
        return _resize(b, spatial, x, size, scales, "nearest", "asymmetric")

    @handles(f"aten.upsample_nearest{spatial}d.default")
    def default(b: Builder, x: Value, size: Sequence[int], *scales: float | None, **named: float | None) -> Value:
        given = [*scales, *named.values()]
        known = given if given and None not in given else None
        return _resize(b, spatial, x, None if known else size, known, "nearest", "asymmetric")

    @handles(f"aten._upsample_nearest_exact{spatial}d.vec")
    def exact(b: Builder, x: Value, size: Sequence[int] | None, scales: Sequence[float] | None) -> Value:
        return _resize(b, spatial, x, size, scales, "nearest", "half_pixel")


_register_nearest(1)
_register_nearest(2)


def _register_linear(spatial: int, name: str) -> None:
    @handles(f"aten.upsample_{name}.vec")
    def vec(b: Builder, x: Value, size: Sequence[int] | None, align: bool, scales: Sequence[float] | None) -> Value:
        return _resize(b, spatial, x, size, scales, "bilinear", "align_corners" if align else "half_pixel")

    @handles(f"aten.upsample_{name}.default")
    def default(
        b: Builder, x: Value, size: Sequence[int], align: bool, *scales: float | None, **named: float | None
    ) -> Value:
        given = [*scales, *named.values()]
        known = given if given and None not in given else None
        coords = "align_corners" if align else "half_pixel"
        return _resize(b, spatial, x, None if known else size, known, "bilinear", coords)


_register_linear(1, "linear1d")
_register_linear(2, "bilinear2d")
