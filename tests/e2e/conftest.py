"""Compiled zoo models, made once per test run."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

import irkit
from tests.e2e.samples import ZOO


@functools.cache
def _compiled(name: str, precision: str) -> Any:
    sample = ZOO[name]
    x = sample.inputs(1, 0)[0]
    calibration = sample.inputs(128, 1000) if precision == "int8" else None
    return irkit.compile(sample.build(), x, f"native-{precision}", calibration)


@pytest.fixture(scope="session")
def compiled() -> Callable[[str, str], Any]:
    """``compiled(model, "fp32" | "int8")``."""
    return _compiled
