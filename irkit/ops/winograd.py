"""Winograd's method for 3x3 convolutions of stride 1: its transforms, what it costs, and how far rounding moves it.

An output tile of T x T pixels is A^T ((G g G^T) * (B^T d B)) A, d being (T + 2) x (T + 2) pixels of input and g a 3x3
filter (Lavin & Gray, arXiv:1509.09308): (T + 2)^2 multiplications in place of 9 T^2. It is the same function as conv2d,
rounded in other places; ``kernels/conv/winograd.h`` says in which order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from irkit.ir.types import Array
from irkit.ops.conv import Ints, pad_hw

_POINTS = {2: (0.0, 1.0, -1.0), 4: (0.0, 0.625, -0.625, 1.5, -1.5)}  # and infinity


def winograd_transforms(tile: int) -> tuple[Array, Array, Array]:
    """B^T [T + 2, T + 2], G [T + 2, 3] and A^T [T, T + 2] in float64, for T = ``tile``, 2 or 4.

    Row i of B^T holds the coefficients of the product of (x - q) over the other points q; G divides by its value at
    the point itself. The points decide how much rounding is magnified (Barabasz et al., arXiv:1803.10986): with 0,
    +-5/8, +-3/2 and infinity F(4x4, 3x3) errs half as much as with 0, +-1, +-2 and infinity, at the same cost.
    """
    points = _POINTS[tile]
    bt, g, at = np.zeros((tile + 2, tile + 2)), np.zeros((tile + 2, 3)), np.zeros((tile, tile + 2))
    for i, p in enumerate(points):
        others = points[:i] + points[i + 1 :]
        bt[i, : tile + 1] = np.poly(others)[::-1]
        g[i] = p ** np.arange(3) / np.prod([p - q for q in others])
        at[:, i] = p ** np.arange(tile)
    bt[-1], g[-1, 2], at[-1, -1] = np.poly(points)[::-1], 1, 1
    return bt, g, at


def winograd_tiles(shape: Sequence[int], tile: int) -> int:
    """Output tiles of all images; ``shape`` is the output's [N, O, OH, OW]."""
    n, _, h, w = shape
    return n * -(-h // tile) * -(-w // tile)


def winograd_products(shape: Sequence[int], tile: int) -> int:
    """Multiplications for each input channel; the direct convolution has nine for each output element."""
    return winograd_tiles(shape, tile) * shape[1] * (tile + 2) ** 2


def winograd_bound(x: Array, w: Array, bias: Array | None = None, *, pads: Ints = (0, 0, 0, 0), tile: int) -> Array:
    """Largest distance [N, O, OH, OW] of the method's float32 result from the exact convolution (+ bias).

    ``x`` [N, C, H, W] and ``w`` [O, C, 3, 3] are the float32 operands. The method applied to magnitudes bounds every
    intermediate sum; each path through it rounds at most 4 times in B, 8 in G, C in the products, 6 in A, once for the
    bias: C + 19 roundings of 2^-24. The bound says C + 24, so that their products are in it, too.
    """
    bt, g, at = (np.abs(m) for m in winograd_transforms(tile))
    n, c, h, width = x.shape
    h, width = h + pads[0] + pads[2] - 2, width + pads[1] + pads[3] - 2
    th, tw = -(-h // tile), -(-width // tile)
    top, left = pads[:2]
    full = pad_hw(np.abs(x).astype(np.float64), (top, left, pads[2] + th * tile - h, pads[3] + tw * tile - width))
    d = np.lib.stride_tricks.sliding_window_view(full, (tile + 2, tile + 2), (2, 3))[:, :, ::tile, ::tile]
    v = np.einsum("ei,nchwij,fj->efnhwc", bt, d, bt, optimize=True)
    u = np.einsum("ei,ocij,fj->efco", g, np.abs(w).astype(np.float64), g, optimize=True)
    m = (v.reshape(tile + 2, tile + 2, -1, c) @ u).reshape(*v.shape[:-1], -1)
    y = np.einsum("ie,efnhwo,jf->nohiwj", at, m, at, optimize=True)
    y = y.reshape(n, -1, th * tile, tw * tile)[:, :, :h, :width]
    if bias is not None:
        y = y + np.abs(bias)[:, None, None]
    return np.asarray((c + 24) * 2.0**-24 * y)
