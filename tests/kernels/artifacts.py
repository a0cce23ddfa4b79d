"""Small plans and artifacts made by hand, independent of irkit's own writer, whole or broken."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt

from irkit import _native

Array = npt.NDArray[Any]
N = 1024
ADD, RELU, MUL, TANH = 32, 1, 34, 10
_DTYPE = {"float32": "F32", "int8": "I8", "uint8": "U8", "int32": "I32", "int64": "I64", "float64": "F64"}


def eltwise(code: list[int], ins: list[int], out: int, n: int = 1, name: str = "") -> dict[str, Any]:
    """A step that runs an elementwise program over inputs that all have the output's shape (one axis)."""
    return {
        "family": "eltwise",
        "in": ins,
        "out": [out],
        "attrs": {"code": code, "imm": [], "strides": [1] * (n * len(ins))},
        "name": name,
    }


def tensor(loc: list[Any], shape: list[int] | None = None, dtype: str = "f32", **more: Any) -> dict[str, Any]:
    """A plan's tensor."""
    return {"dtype": dtype, "shape": [N] if shape is None else shape, "loc": loc, **more}


def small_plan() -> dict[str, Any]:
    """y = relu(x + w), by way of the arena."""
    return {
        "version": 1,
        "inputs": [{"name": "x", "tensor": 0}],
        "outputs": [{"name": "y", "tensor": 3}],
        "tree": "",
        "tensors": [
            tensor(["in", 0]),
            tensor(["const", "w"]),
            tensor(["arena", 64]),
            tensor(["out", 0]),
        ],
        "arena": 64 + 4 * N,
        "steps": [eltwise([ADD, 0, 1, 0], [0, 1], 2, name="bias"), eltwise([RELU, 0, 0, 0], [2], 3, name="act")],
    }


def small_consts() -> dict[str, Array]:
    """The constants of small_plan."""
    return {"w": np.linspace(-1, 1, N, dtype=np.float32)}


def reference(x: Array) -> Array:
    """What small_plan computes."""
    return np.maximum(x + small_consts()["w"], np.float32(0))


def header_of(tensors: dict[str, Array]) -> dict[str, Any]:
    """The header of a container with these tensors one after the other."""
    header: dict[str, Any] = {"__metadata__": {"irkit.version": "1.0", "irkit.checksum": "xxh64:" + "0" * 16}}
    at = 0
    for name, a in tensors.items():
        header[name] = {"dtype": _DTYPE[a.dtype.name], "shape": list(a.shape), "data_offsets": [at, at + a.nbytes]}
        at += a.nbytes
    return header


def seal(blob: bytes) -> bytes:
    """The same bytes with the right checksum, wherever its digits are."""
    key = b'"irkit.checksum":"xxh64:'
    if key not in blob:
        return blob
    at = blob.find(key) + len(key)
    blank = blob[:at] + b"0" * 16 + blob[at + 16 :]
    return blob[:at] + b"%016x" % _native.xxh64(blank) + blob[at + 16 :]


def pack(header: dict[str, Any] | bytes, data: bytes, length: int | None = None, align: int = 8) -> bytes:
    """Length, header, data, with the right checksum; ``length`` overrides what the first field says."""
    text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % align)
    return seal((len(text) if length is None else length).to_bytes(8, "little") + text + data)


def plan_tensors(plan: dict[str, Any], consts: dict[str, Array]) -> dict[str, Array]:
    """The tensors of an artifact."""
    text = json.dumps(plan, separators=(",", ":")).encode()
    return {**consts, "irkit.plan": np.frombuffer(text, np.uint8)}


def artifact(plan: dict[str, Any] | None = None, consts: dict[str, Array] | None = None) -> bytes:
    """A valid artifact of that plan."""
    tensors = plan_tensors(plan or small_plan(), consts or small_consts())
    return pack(header_of(tensors), b"".join(a.tobytes() for a in tensors.values()))
