"""The networkx bridge."""

from __future__ import annotations

import networkx as nx

from irkit.ir.nx import to_networkx
from irkit.ir.parse import parse_graph


def test_edges_go_from_producer_to_user() -> None:
    g = parse_graph(
        'func @m(%x: f32[2]) {\n %y = neg(%x) : f32[2] loc("n")\n %z = mul(%y, %y) : f32[2]\n return(%z)\n}'
    )
    n = to_networkx(g)
    neg, mul, ret = g.ops
    assert nx.is_directed_acyclic_graph(n)
    assert nx.has_path(n, g.inputs[0], ret)
    assert n.number_of_edges(neg, mul) == 2
    assert n.nodes[neg] == {"label": "neg", "loc": "n"}
    assert sorted(d["operand"] for _, _, d in n.edges(neg, data=True)) == [0, 1]
    assert {d["label"] for _, _, d in n.edges(data=True)} == {"f32[2]"}
