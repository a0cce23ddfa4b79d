"""fp32 answers of real models equal their framework's within 1e-4 of the tensor's scale."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.e2e.samples import ZOO, outputs


@pytest.mark.parametrize("name", ZOO)
def test_every_output_is_the_frameworks(name: str, compiled: Callable[[str, str], Any]) -> None:
    exe = compiled(name, "fp32")
    assert not exe.plan.fallbacks
    for x in ZOO[name].inputs(8, 3):
        want, got = ZOO[name].reference(x), outputs(exe(x))
        assert len(want) == len(got)
        for w, g in zip(want, got, strict=True):
            assert g.shape == w.shape and g.dtype == w.dtype
            assert np.abs(g - w).max() <= 1e-4 * np.abs(w).max()
