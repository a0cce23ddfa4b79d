"""Writes small artifacts, one per sample of every op that a native family takes: what the loader's fuzzer starts from.

python -m tests.fuzz.seeds FOLDER
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

import irkit.ops  # noqa: F401  (registers the ops)
from irkit.backend import native  # noqa: F401  (registers the lowerings)
from irkit.backend.kernel import Const, Step, lower
from irkit.errors import IRError
from irkit.ir.graph import Value
from irkit.ir.opdef import REGISTRY
from irkit.ir.types import Array, DType
from tests.kernels.artifacts import header_of, pack
from tests.kernels.run_op import NHWC, cases, make_op

MOST_BYTES = 24 << 10


def _json(v: Any) -> Any:
    if isinstance(v, dict):
        return {k: _json(x) for k, x in v.items()}
    if isinstance(v, (list, tuple)):
        return [_json(x) for x in v]
    v = v.item() if isinstance(v, np.generic) else v
    return str(v) if isinstance(v, float) and np.isinf(v) else v


def artifact_of(step: Step, consts: dict[Value, Array]) -> bytes:
    """An artifact of one step: values that are no constants are inputs, the step's results outputs."""
    tensors: list[dict[str, Any]] = []
    ports: dict[str, list[dict[str, Any]]] = {"in": [], "out": []}
    table: dict[str, Array] = {}

    def place(x: Value | Const, kind: str) -> int:
        if isinstance(x, Const):
            name, array = f"c{len(table)}", np.ascontiguousarray(x.array)
            table[name] = array
            row: dict[str, Any] = {"dtype": DType.of(array.dtype).value, "shape": array.shape, "loc": ["const", name]}
        else:
            row = {"dtype": x.type.dtype.value, "shape": x.type.storage_shape}
            if x.type.quant is not None and x.type.quant.axis is None:
                row |= {"scale": x.type.quant.scale[0], "zero": x.type.quant.zero[0]}
            if x in consts:
                table[f"c{len(table)}"] = np.ascontiguousarray(x.type.to_storage(consts[x]))
                row["loc"] = ["const", f"c{len(table) - 1}"]
            else:
                row["loc"] = [kind, len(ports[kind])]
                ports[kind].append({"name": f"{kind}{len(ports[kind])}", "tensor": len(tensors)})
        tensors.append(row)
        return len(tensors) - 1

    ins = [-1 if x is None else place(x, "in") for x in step.inputs]
    outs = [place(x, "out") for x in step.outputs]
    plan = {
        "version": 1,
        "inputs": ports["in"],
        "outputs": ports["out"],
        "tensors": tensors,
        "arena": 0,
        "steps": [{"family": step.family, "in": ins, "out": outs, "attrs": step.attrs, "name": "s"}],
    }
    table = dict(sorted(table.items(), key=lambda kv: -kv[1].dtype.itemsize))
    table["irkit.plan"] = np.frombuffer(json.dumps(_json(plan), separators=(",", ":")).encode(), np.uint8)
    return pack(header_of(table), b"".join(a.tobytes() for a in table.values()))


def main(folder: Path) -> None:
    """Write the seeds; prints how many of which family."""
    folder.mkdir(parents=True, exist_ok=True)
    count: dict[str, int] = {}
    for name, opdef in REGISTRY.items():
        for i, case in enumerate(cases(opdef)):
            later = [k for k, o in enumerate(case.operands) if k and o is not None]
            first = np.ndim(getattr(case.operands[0], "data", case.operands[0])) if case.operands else 0
            for constant, channels_last in itertools.product((True, False), (False, True)):
                orders: dict[int, Any] = {}
                if channels_last:
                    if first != 4:
                        continue
                    orders = {
                        k: NHWC
                        for k, o in enumerate(case.operands)
                        if o is not None and np.ndim(getattr(o, "data", o)) == 4
                    }
                try:
                    op, given = make_op(
                        opdef, case.operands, case.attrs, consts=later if constant else (), orders=orders,
                        result_order=NHWC if channels_last else None,
                    )  # fmt: skip
                    step = lower(op)
                except (IRError, TypeError):
                    continue
                if step is None:
                    continue
                values = {
                    v: v.producer.attrs["value"].array for v in op.operands if v is not None and v.producer is not None
                }
                if any(
                    isinstance(x, Value) and x not in given and x not in values and x not in step.outputs
                    for x in step.inputs
                ):
                    continue
                blob = artifact_of(step, values)
                if len(blob) > MOST_BYTES:
                    continue
                count[step.family] = count.get(step.family, 0) + 1
                (folder / f"{name}.{i}.{int(constant)}{int(channels_last)}.irk").write_bytes(blob)
    print(", ".join(f"{k}: {v}" for k, v in sorted(count.items())))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
