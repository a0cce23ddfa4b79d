"""The shape of what a model returns: nested containers as JSON in the ``tree`` attribute of ``return``.

An empty string means "the one operand, bare" or, with several, a tuple of them. Otherwise the JSON value is

* ``3``: operand 3 of ``return``; ``null``: None
* ``{"tuple": [t, ...]}``, ``{"list": [t, ...]}``
* ``{"dict": [[key, t], ...]}``: keys are strings, integers, booleans or null; order is kept
* ``{"namedtuple": "Name", "fields": [[field, t], ...]}``
* ``{"value": v}``: a Python constant (number, string, boolean) that the model returns as it is
"""

from __future__ import annotations

import json
from collections import namedtuple
from collections.abc import Sequence
from typing import Any

from irkit.errors import IRError


def flatten(structure: Any, leaves: list[Any], is_leaf: type | tuple[type, ...]) -> str:
    """JSON of ``structure``; its leaves are appended to ``leaves``. IRError for a container without a JSON form."""

    def go(x: Any) -> Any:
        if isinstance(x, is_leaf):
            leaves.append(x)
            return len(leaves) - 1
        if x is None:
            return None
        if isinstance(x, (bool, int, float, str)):
            return {"value": x}
        if isinstance(x, tuple) and hasattr(x, "_fields"):
            return {"namedtuple": type(x).__name__, "fields": [[f, go(v)] for f, v in zip(x._fields, x, strict=True)]}
        if isinstance(x, (tuple, list)):
            return {"tuple" if isinstance(x, tuple) else "list": [go(v) for v in x]}
        if isinstance(x, dict):
            for k in x:
                if not (k is None or isinstance(k, (str, int))):
                    raise IRError(f"outputs: dict key {k!r} is a {type(k).__name__}; need a string or an integer")
            return {"dict": [[k, go(v)] for k, v in x.items()]}
        raise IRError(f"outputs: no way to return a {type(x).__name__}; use tensors in tuples, lists and dicts")

    tree = go(structure)
    if tree == 0 or (leaves and tree == {"tuple": list(range(len(leaves)))} and len(leaves) > 1):
        return ""
    return json.dumps(tree)


def rebuild(tree: str, leaves: Sequence[Any]) -> Any:
    """The nested structure with ``leaves`` put in; IRError when ``tree`` is not of this format."""
    if not tree:
        return leaves[0] if len(leaves) == 1 else tuple(leaves)

    def go(t: Any) -> Any:
        match t:
            case None:
                return None
            case bool():
                pass
            case int() if 0 <= t < len(leaves):
                return leaves[t]
            case {"tuple": list(items)}:
                return tuple(go(i) for i in items)
            case {"list": list(items)}:
                return [go(i) for i in items]
            case {"dict": list(items)}:
                return {k: go(v) for k, v in items}
            case {"namedtuple": str(name), "fields": list(items)}:
                return namedtuple(name, [f for f, _ in items])(*(go(v) for _, v in items))
            case {"value": bool() | int() | float() | str()}:
                return t["value"]
        raise IRError(f"outputs: {t!r} is no part of an output tree with {len(leaves)} leaves")

    try:
        return go(json.loads(tree))
    except (ValueError, TypeError, RecursionError) as e:
        raise IRError(f"outputs: bad tree {tree[:80]!r}: {e}") from None
