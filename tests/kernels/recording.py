"""Collects what the kernel tests run, so that a build for another CPU can run the same and be held to the same answers.

A test that passes has compared its results with the references; equal bits elsewhere are then within the same bounds.
"""

from __future__ import annotations

import hashlib
import inspect
import io
import itertools
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from irkit import _native
from irkit.errors import ArtifactError
from irkit.ir.types import Array
from tests.kernels import util

ALIGN = 64
_DTYPES = ("float32", "float64", "int8", "uint8", "int16", "int32", "int64", "bool")  # in the order of irk::DType


@dataclass
class Case:
    """A plan of one step with its constants, and one call of it; or the message with which it is refused."""

    name: str
    plan: str
    consts: dict[str, Array]
    inputs: list[Array]
    outputs: list[Array]
    refusal: str = ""


class Recorder:
    """Stands in for the loader of plans; runs each case once, on this CPU's best kernels, and keeps it."""

    def __init__(self) -> None:
        self.name = ""
        self.cases: dict[bytes, Case] = {}
        self.plans: set[bytes] = set()

    def load_plan(
        self, plan: str, consts: dict[str, Array], isa: str | None = None, threads: int = 0, choose: Any = None
    ) -> Any:
        """As _native.load_plan."""
        key = _digest(plan.encode(), *(part for name, a in sorted(consts.items()) for part in (name.encode(), a)))
        model = RecordedModel(self, key, plan, consts, isa, threads)
        if key not in self.plans:
            try:
                model.real()
            except ArtifactError as e:
                message = str(e)
                self.cases.setdefault(key, Case(self.name, plan, _copies(consts), [], [], message))
                raise
            self.plans.add(key)
        return model

    def collect(self, module: ModuleType) -> list[Case]:
        """The cases of all tests of a module, each test called for one ISA level only."""
        for name, arguments in _calls(module):
            shown = ", ".join(f"{k}={v}" for k, v in arguments.items() if k != "isa")
            self.name = f"{name}({shown})"[:300]
            getattr(module, name)(**arguments)
        return list(self.cases.values())


class RecordedModel:
    """A loaded model whose repeated calls are answered from the recorder."""

    def __init__(self, recorder: Recorder, key: bytes, plan: str, consts: dict[str, Array], *options: Any) -> None:
        self._recorder, self._key, self._plan, self._consts, self._options = recorder, key, plan, consts, options
        self._model: Any = None

    def real(self) -> Any:
        """The native model."""
        if self._model is None:
            self._model = _native.load_plan(self._plan, self._consts, *self._options)
        return self._model

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """As _native.Model.run."""
        key = _digest(self._key, *inputs)
        cases = self._recorder.cases
        if key not in cases:
            outputs = self.real().run(list(inputs))
            cases[key] = Case(
                self._recorder.name, self._plan, _copies(self._consts), [np.array(a) for a in inputs], outputs
            )
        return [a.copy() for a in cases[key].outputs]

    def run_into(self, inputs: Sequence[Array], outputs: Sequence[Array]) -> None:
        """As _native.Model.run_into."""
        for given, made in zip(outputs, self.run(inputs), strict=True):
            given[...] = made

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real(), name)


@contextmanager
def recording() -> Iterator[Recorder]:
    """While it lasts, tests.kernels.util loads through the recorder."""
    recorder, loader = Recorder(), util.load_plan
    util.load_plan = recorder.load_plan
    try:
        yield recorder
    finally:
        util.load_plan = loader


def _copies(arrays: dict[str, Array]) -> dict[str, Array]:
    return {k: np.array(a) for k, a in arrays.items()}


def _digest(*parts: bytes | Array) -> bytes:
    h = hashlib.blake2b(digest_size=16)
    for p in parts:
        if isinstance(p, bytes):
            h.update(b"%d;" % len(p) + p)
        else:
            h.update(f"{p.dtype}{p.shape};".encode() + np.ascontiguousarray(p).tobytes())
    return h.digest()


def _calls(module: ModuleType) -> Iterator[tuple[str, dict[str, Any]]]:
    """Tests of a module with the arguments of each of their parametrized calls; "isa" takes its last value only.

    Tests that need a fixture are left out.
    """
    for name, fn in list(vars(module).items()):
        if not name.startswith("test_"):
            continue
        axes: list[list[dict[str, Any]]] = []
        for mark in getattr(fn, "pytestmark", []):
            if mark.name != "parametrize":
                continue
            names = [n.strip() for n in mark.args[0].split(",")] if isinstance(mark.args[0], str) else mark.args[0]
            rows = [v.values if isinstance(v, _PARAM) else v if len(names) > 1 else (v,) for v in mark.args[1]]
            axis = [dict(zip(names, row, strict=True)) for row in rows]
            axes.append(axis[-1:] if names == ["isa"] else axis)
        for choice in itertools.product(*axes):
            arguments = {k: v for row in choice for k, v in row.items()}
            if set(inspect.signature(fn).parameters) == set(arguments):
                yield name, arguments


_PARAM = type(pytest.param())


def write_bundle(cases: Sequence[Case]) -> bytes:
    """The cases as tests/kernels/cpp/replay.cc reads them: little-endian, arrays at multiples of 64 bytes."""
    out = io.BytesIO()

    def number(*values: int) -> None:
        out.write(struct.pack(f"<{len(values)}q", *values))

    def data(raw: bytes) -> None:
        number(len(raw))
        out.write(bytes(-out.tell() % ALIGN))
        out.write(raw)
        out.write(bytes(-out.tell() % 8))

    def array(a: Array) -> None:
        number(_DTYPES.index(a.dtype.name), a.ndim, *a.shape)
        data(np.ascontiguousarray(a).tobytes())

    number(len(cases), max((a.nbytes for c in cases for a in (*c.consts.values(), *c.inputs, *c.outputs)), default=0))
    for c in cases:
        for text in (c.name, c.plan, c.refusal):
            data(text.encode() + b"\0")
        number(len(c.consts), len(c.inputs), len(c.outputs))
        for name, a in c.consts.items():
            data(name.encode() + b"\0")
            array(a)
        for a in (*c.inputs, *c.outputs):
            array(a)
    return out.getvalue()
