"""Which kernel family takes which operation: the native one that offers a step, else the NumPy fallback."""

from __future__ import annotations

import irkit.backend.native  # noqa: F401  (registers the lowerings)
from irkit.backend.kernel import Step, lower
from irkit.backend.native.bands import merge_bands
from irkit.backend.native.chain import merge_chains
from irkit.backend.native.planar import read_planar
from irkit.backend.storage import is_alias
from irkit.backend.table import FALLBACK
from irkit.ir.graph import Graph


def select(graph: Graph, arch: str, bands: bool = True) -> list[Step]:
    """One step for each operation that moves or computes something, in order, or for several that run band by band.

    ``arch`` is the one whose caches count; ``bands=False`` keeps every step by itself.
    A fallback step names its operation by position in ``graph`` so that a loader can find the reference to run.
    """
    steps: list[Step] = []
    for index, op in enumerate(graph):
        if op.name in ("const", "return") or is_alias(op):
            continue
        step = lower(op)
        if step is None:
            attrs = {"op_index": index, "op": op.name}
            note = "no native kernel: runs the NumPy reference"
            step = Step(FALLBACK, list(op.operands), list(op.results), attrs, note=note, loc=op.loc)
        steps.append(step)
    return read_planar(merge_bands(merge_chains(steps), arch) if bands else steps, arch)
