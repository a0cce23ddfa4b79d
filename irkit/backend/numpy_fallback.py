"""Runs an operation by its NumPy reference as a step of a plan, for what no native kernel takes.

The executor hands such a step flat arrays in memory order, like any kernel; the storage order of each value is undone
and redone here, so that a fallback fits wherever the layout pass has put it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from irkit.errors import IRError
from irkit.ir.graph import Operation
from irkit.ir.types import Array, QArray

HostCallback = Callable[[Sequence[Array | None], Sequence[Array]], None]


def reference_callback(op: Operation) -> HostCallback:
    """A function ``run(inputs, outputs)`` that computes ``op`` by its reference.

    ``inputs`` holds one array per operand (None where absent), ``outputs`` one writable array per result; each has the
    dtype and the number of elements of its value's type, in memory order and C-contiguous, of any shape. Raises
    IRError naming the operation when an array does not fit or the reference returns something else than its type says.
    """
    in_types = [None if v is None else v.type for v in op.operands]
    out_types = [r.type for r in op.results]
    quantized = "int8" in op.opdef.tags
    extra: dict[str, Any] = {"body": op.body} if op.body is not None else {}
    where = f"{op.name}{' @' + op.loc if op.loc else ''}"

    def run(inputs: Sequence[Array | None], outputs: Sequence[Array]) -> None:
        args: list[Array | QArray | None] = []
        for i, (t, a) in enumerate(zip(in_types, inputs, strict=True)):
            if t is None or a is None:
                args.append(None)
                continue
            if a.dtype != t.dtype.numpy or a.size != t.size:
                raise IRError(f"{where}: operand {i}: expected {t.size} x {t.dtype.value}, got {a.size} x {a.dtype}")
            logical = t.from_storage(a)
            args.append(QArray(logical, t.quant) if quantized and t.quant is not None else logical)
        with np.errstate(all="ignore"):
            r = op.opdef.fn(*args, **op.attrs, **extra)
        results = r if isinstance(r, tuple) else (r,)
        for i, (t, y, out) in enumerate(zip(out_types, results, outputs, strict=True)):
            y = np.asarray(y)
            if y.dtype != t.dtype.numpy or y.shape != t.shape:
                raise IRError(
                    f"{where}: result {i}: expected {t.dtype.value}{list(t.shape)}, got {y.dtype}{list(y.shape)}"
                )
            np.copyto(out.reshape(t.storage_shape), np.transpose(y, t.order))

    return run
