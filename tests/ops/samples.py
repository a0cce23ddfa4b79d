"""Every sample of every op, ready to run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import irkit.ops  # noqa: F401  (registers the ops)
from irkit.ir.graph import freeze, infer_types
from irkit.ir.opdef import REGISTRY, REQUIRED, Case, OpDef
from irkit.ir.types import Array, DType, QArray, TensorType


def all_samples() -> Iterator[tuple[str, OpDef, Case]]:
    for opdef in list(REGISTRY.values()):
        for case in opdef.cases():
            yield f"{opdef.name}-{case.name}", opdef, case


def attrs_of(opdef: OpDef, case: Case) -> dict[str, Any]:
    full = {k: v for k, v in opdef.attrs.items() if v is not REQUIRED} | dict(case.attrs)
    return {k: freeze(v) for k, v in full.items() if k != "body"}


def type_of(x: Any) -> TensorType | None:
    if x is None:
        return None
    if isinstance(x, QArray):
        return TensorType(x.data.shape, DType.of(x.data.dtype), x.quant)
    return TensorType(np.shape(x), DType.of(x.dtype))


def inferred(opdef: OpDef, case: Case) -> tuple[TensorType, ...]:
    types = [type_of(x) for x in case.operands]
    return infer_types(opdef, types, attrs_of(opdef, case), case.attrs.get("body"), case.name)


def reference(opdef: OpDef, case: Case) -> tuple[Array, ...]:
    extra = {"body": case.attrs["body"]} if opdef.has_body else {}
    r = opdef.fn(*case.operands, **attrs_of(opdef, case), **extra)
    return r if isinstance(r, tuple) else (r,)
