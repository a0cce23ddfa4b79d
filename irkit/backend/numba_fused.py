"""Compiles elementwise programs on the host: one loop that keeps every intermediate value in a register.

The result is a C function with the signature of every kernel, ``void(void** bufs, void* params, int64 begin, int64
end)``, which takes the place of an ``eltwise`` step (``_native.Model.set_kernel``) and gives the same bits. Numba is
imported when something is compiled, not before; without it the native program runs.
"""

from __future__ import annotations

import functools
import importlib.util
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from irkit.backend.kernel import Step
from irkit.backend.native.eltwise import CODES

_CHUNK = 4096  # elements of one work item, about
# Passes over an element that a program saves when its intermediate values stay in registers, times elements: below this
# a call gains less than some tens of microseconds, and compiling costs about a second.
WORTH_COMPILING = 1_000_000
_WORTH_A_THREAD = 32768


@dataclass(frozen=True, eq=False)
class HostKernel:
    """A compiled step: arguments of ``_native.Model.set_kernel``. ``owner`` keeps the code alive."""

    address: int
    items: int
    grain: int
    name: str
    owner: Any
    source: str


def available() -> bool:
    """True when Numba can be imported."""
    return importlib.util.find_spec("numba") is not None


def compile_step(step: Step) -> HostKernel | None:
    """The host kernel of an ``eltwise`` step that runs a program; None for other steps. ImportError without Numba."""
    if step.family != "eltwise" or "code" not in step.attrs:
        return None
    shape = step.outputs[0].type.storage_shape
    return compile_program(shape, len(step.inputs), step.attrs)


def compile_program(shape: Sequence[int], n_in: int, attrs: dict[str, Any], in_place: Sequence[int] = ()) -> HostKernel:
    """The host kernel of a program as kernels/eltwise/prepare.cc takes it; ``shape`` of the output in memory order.

    ``in_place``: inputs of that shape whose memory is the output's: a loop that did not know would not be vectorized.
    """
    key = tuple(tuple(int(v) for v in attrs[k]) for k in ("code", "imm", "strides"))
    return _compile(tuple(int(d) for d in shape), n_in, *key, tuple(in_place))


def attach(native: Any, document: dict[str, Any], worth: int = WORTH_COMPILING) -> list[int]:
    """Let the heavy elementwise programs of a loaded plan run host-compiled; the steps replaced.

    ``native`` is the ``_native.Model`` made of ``document``. Nothing happens without Numba, and nothing when
    ``IRKIT_ISA`` caps the kernels: a cap is there to try what a weaker CPU does.
    """
    if os.environ.get("IRKIT_ISA") or not available():
        return []
    done = []
    tensors = document["tensors"]
    for i, s in enumerate(document["steps"]):
        if s["family"] != "eltwise" or "code" not in s["attrs"]:
            continue
        shape = tensors[s["out"][0]]["shape"]
        if (len(s["attrs"]["code"]) // 4 - 1) * math.prod(shape) < worth:
            continue
        place = tensors[s["out"][0]]["loc"]
        in_place = [n for n, t in enumerate(s["in"]) if tensors[t]["loc"] == place]
        k = compile_program(shape, len(s["in"]), s["attrs"], in_place)
        native.set_kernel(i, k.address, 0, k.items, k.grain, 0, k.name, k)
        done.append(i)
    return done


def _collapse(shape: Sequence[int], strides: list[Sequence[int]]) -> tuple[list[int], list[list[int]]]:
    """Dimensions above one, neighbours merged where every operand allows it; strides per operand alike."""
    dims: list[int] = []
    out: list[list[int]] = [[] for _ in strides]
    for k, d in enumerate(shape):
        if d == 1:
            continue
        if dims and all(o[-1] == s[k] * d for o, s in zip(out, strides, strict=True)):
            dims[-1] *= d
            for o, s in zip(out, strides, strict=True):
                o[-1] = s[k]
        else:
            dims.append(d)
            for o, s in zip(out, strides, strict=True):
                o.append(s[k])
    if not dims:
        dims = [1]
        out = [[0] for _ in strides]
    return dims, out


@functools.lru_cache(maxsize=256)
def _compile(
    shape: tuple[int, ...],
    n_in: int,
    code: tuple[int, ...],
    imm: tuple[int, ...],
    strides: tuple[int, ...],
    in_place: tuple[int, ...],
) -> HostKernel:
    import numba

    from irkit.backend import numba_vmath
    from irkit.backend.numba_vmath import types

    rank = len(shape)
    dims, steps = _collapse(shape, [strides[i * rank : (i + 1) * rank] for i in range(n_in)])
    inner = dims[-1]
    chunks = (inner + _CHUNK - 1) // _CHUNK
    body = numba_vmath.Emitter()
    values = [f"x{i}" for i in range(n_in)]
    names = {c: n for n, c in CODES.items()}
    floats = np.array(imm, np.int32).view(np.float32)
    for i in range(0, len(code), 4):
        op = numba_vmath.INSTRUCTIONS[names[code[i]]]
        arity = 1 if code[i] < CODES["add"] else 2 if code[i] < CODES["clip"] else 3
        operands = [values[o] if o >= 0 else body.set(float(floats[-1 - o])) for o in code[i + 1 : i + 1 + arity]]
        values.append(op(body, *operands))

    lines = ["def kernel(bufs, params, begin, end):"]
    lines += [f"    p{i} = floats(bufs[{i}])" for i in range(n_in + 1) if i not in in_place]
    lines += ["    for item in range(begin, end):", f"        row, part = item // {chunks}, item % {chunks}"]
    lines += ["        rest = row"]
    for k in range(len(dims) - 2, -1, -1):
        lines += [f"        i{k} = rest % {dims[k]}", f"        rest = rest // {dims[k]}"]
    for i in range(n_in):
        if i in in_place:
            continue
        terms = [f"i{k} * {steps[i][k]}" for k in range(len(dims) - 1) if steps[i][k]]
        lines.append(f"        b{i} = {' + '.join(terms) or '0'}")
    lines += [f"        first = part * {_CHUNK}", f"        last = min(first + {_CHUNK}, {inner})"]
    lines += ["        for j in range(first, last):"]
    same = f"p{n_in}[row * {inner} + j]"
    lines += [
        f"            x{i} = {same if i in in_place else f'p{i}[b{i} + j * {steps[i][-1]}]'}" for i in range(n_in)
    ]
    lines += [f"            {line}" for line in body.lines]
    lines += [f"            {same} = {values[-1]}"]
    source = "\n".join(lines) + "\n"

    scope: dict[str, Any] = {**numba_vmath.NAMES, **body.constants}
    exec(compile(source, "<irkit fused kernel>", "exec"), scope)
    signature = types.void(types.CPointer(types.voidptr), types.voidptr, types.int64, types.int64)
    kernel: Any = numba.cfunc(signature, error_model="numpy")(scope["kernel"])
    rows = int(np.prod(dims[:-1], dtype=np.int64))
    cost = max(1, len(body.lines))
    grain = _WORTH_A_THREAD // (min(inner, _CHUNK) * cost) + 1
    return HostKernel(int(kernel.address), rows * chunks, grain, f"numba.{len(code) // 4}ops", kernel, source)
