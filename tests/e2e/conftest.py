"""Compiled zoo models, made once per test run."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

import irkit
from irkit.ir.interp import run
from tests.e2e.samples import ZOO, outputs


@functools.cache
def _compiled(name: str, precision: str) -> Any:
    sample = ZOO[name]
    x = sample.inputs(1, 0)[0]
    calibration = sample.calibration() if precision == "int8" else None
    return irkit.compile(sample.build(), x, f"native-{precision}", calibration, strict=True)


@functools.cache
def _answers(name: str, precision: str) -> tuple[list[Any], list[list[Any]]]:
    exe, xs = _compiled(name, precision), ZOO[name].inputs(2, 77)
    return xs, [run(exe.graph, x) if precision == "int8" else outputs(exe(x)) for x in xs]


@pytest.fixture(scope="session")
def compiled() -> Callable[[str, str], Any]:
    """``compiled(model, "fp32" | "int8")``."""
    return _compiled


@pytest.fixture(scope="session")
def answers() -> Callable[[str, str], Any]:
    """``answers(model, precision)``: two inputs, and for each its outputs by the NumPy interpreter (int8) or by the
    native runtime (fp32, which test_fp32.py holds to the framework's)."""
    return _answers
