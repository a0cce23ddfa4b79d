"""Winograd's method for 3x3 convolutions, where it is predicted to be faster than the direct sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from irkit.ir.graph import Graph, Operation, const_array
from irkit.ir.passes import Effect, Pass
from irkit.ir.types import DType, Encoding
from irkit.ir.verify import WINOGRAD_TILES
from irkit.ops import const, conv2d
from irkit.ops.winograd import winograd_tiles

# Costs in multiply-adds, fitted to times of an AVX-512 machine and to instruction counts of arm64, which agree: of 16
# channels of 32x32 pixels F(4x4, 3x3) takes 0.57 of the direct convolution's time there and 0.73 of its instructions
# here, of 32 channels of 16x16 pixels 0.45 and 0.52.
_TRANSFORM = {2: 230, 4: 550}  # to transform a channel of a tile, input or output
_FETCH = 20  # to bring one weight from beyond the second-level cache
_NEAR = 128 << 10  # weights that stay in it
_MARGIN = 0.9  # of the direct convolution's cost that must be enough


def winograd_applies(op: Operation) -> bool:
    """True for what the kernel computes: float conv2d 3x3 of stride 1 without dilation or groups."""
    if op.opdef is not conv2d or op.result.type.dtype is not DType.F32:
        return False
    a = op.attrs
    plain = a["strides"] == (1, 1) and a["dilation"] == (1, 1) and a["groups"] == 1
    return plain and op.operand("w").type.shape[2:] == (3, 3)


def best_tile(shape: Sequence[int], channels: int) -> int | None:
    """Tile edge that is predicted fastest for an output [N, O, OH, OW]; None when the direct convolution is."""
    n, o, h, w = shape
    best, best_cost = None, _MARGIN * (9 * n * h * w * channels * o + _fetch(9 * channels * o))
    for tile in WINOGRAD_TILES:
        tiles, products = winograd_tiles(shape, tile), (tile + 2) ** 2
        cost = tiles * (products * channels * o + _TRANSFORM[tile] * (channels + o))
        cost += _fetch(products * channels * o)
        if cost < best_cost:
            best, best_cost = tile, cost
    return best


def _fetch(weights: int) -> int:
    return _FETCH * weights if weights > _NEAR else 0


@dataclass(frozen=True)
class Winograd(Pass):
    """Marks the filters of convolutions that Winograd's method is predicted to compute faster, by shape alone.

    ``tile`` (2 or 4), when given, is used wherever the kernel applies, whatever the prediction says. Filters with other
    uses stay as they are. Results are rounded in other places; ``irkit.ops.winograd.winograd_bound`` says how far.
    """

    effect: ClassVar[Effect] = Effect.ROUNDING
    tile: int | None = None

    def run(self, graph: Graph) -> bool:
        """See the class."""
        changed = False
        for op in graph.ops:
            if op.opdef is not const or op.result.type.encoding != Encoding(op.result.type.order):
                continue
            w = op.result
            users = w.users
            if const_array(w) is None or not users or w.type.dtype is not DType.F32:
                continue
            if not all(winograd_applies(u) and u.operand("w") is w and u.operands.count(w) == 1 for u in users):
                continue
            tiles = {self.tile or best_tile(u.result.type.shape, w.type.shape[1]) for u in users}
            if len(tiles) != 1 or tiles == {None}:
                continue
            encoding = replace(w.type.encoding, winograd=tiles.pop())
            new = graph.emit(const, before=op, loc=op.loc, names=[w.name], **{**op.attrs, "encoding": encoding})
            w.replace_all_uses(new.result)
            graph.erase(op)
            changed = True
        return changed
