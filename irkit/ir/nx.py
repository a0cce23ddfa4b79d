"""A graph as a networkx graph, for analyses that library has (reachability, cuts, drawing)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from irkit.ir.graph import Graph
from irkit.ir.text import type_text

if TYPE_CHECKING:
    import networkx as nx


def to_networkx(graph: Graph) -> nx.MultiDiGraph[Any]:
    """Nodes are the graph's inputs (Value) and operations (Operation), edges go from producer to user.

    Node data: ``label``, ``loc``. Edge data: ``value`` (the Value), ``operand`` (position at the user), ``label`` (its
    type).
    Bodies of fused operations are not opened. Needs the optional package networkx.
    """
    import networkx as nx

    out: nx.MultiDiGraph[Any] = nx.MultiDiGraph(name=graph.name)
    for v in graph.inputs:
        out.add_node(v, label=f"%{v.name}", loc="")
    for op in graph:
        out.add_node(op, label=op.name, loc=op.loc)
        for pos, operand in enumerate(op.operands):
            if operand is not None:
                out.add_edge(operand.producer or operand, op, value=operand, operand=pos, label=type_text(operand.type))
    return out
