"""Which kernel family takes which operation: the native one that offers a step, else the NumPy fallback."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping

import irkit.backend.native  # noqa: F401  (registers the lowerings)
from irkit.backend.kernel import Step, lower
from irkit.backend.native.bands import merge_bands
from irkit.backend.native.chain import merge_chains
from irkit.backend.native.planar import read_planar
from irkit.backend.storage import is_alias
from irkit.backend.table import FALLBACK, join
from irkit.ir.graph import Graph


def select(
    graph: Graph,
    arch: str,
    bands: bool = True,
    apart: Collection[str] = (),
    remarks: Mapping[str, str] | None = None,
) -> list[Step]:
    """One step for each operation that moves or computes something, in order, or for several that run band by band.

    ``arch`` is the one whose caches count. ``bands=False`` keeps every step by itself, ``apart`` the steps that make
    values of these names. ``remarks`` are notes on steps by the name of what they make.
    A fallback step names its operation by position in ``graph`` so that a loader can find the reference to run.
    """
    remarks = remarks or {}
    steps: list[Step] = []
    for index, op in enumerate(graph):
        if op.name in ("const", "return") or is_alias(op):
            continue
        step = lower(op)
        if step is None:
            attrs = {"op_index": index, "op": op.name}
            note = "no native kernel: runs the NumPy reference"
            step = Step(FALLBACK, list(op.operands), list(op.results), attrs, note=note, loc=op.loc)
        step.note = join(step.note, remarks.get(step.outputs[0].name, ""))
        steps.append(step)
    if bands:
        runs = itertools.groupby(steps, key=lambda s: s.outputs[0].name in apart)
        steps = [s for alone, run in runs for s in (run if alone else merge_bands(merge_chains([*run]), arch))]
    return read_planar(steps, arch)
