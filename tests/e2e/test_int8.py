"""int8: the promised accuracy on real photographs, and the same bits on every ISA level and thread count."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import irkit
from irkit import _native
from tests.e2e.samples import ZOO, crop, imagenet_input, outputs, photographs, random_crops


def test_efficientnet_keeps_its_answers(compiled: Callable[[str, str], Any]) -> None:
    fp32, int8 = compiled("efficientnet_lite0", "fp32"), compiled("efficientnet_lite0", "int8")
    images = [crop(p, None) for p in photographs()] + list(random_crops(200, 5))
    a = np.stack([fp32(imagenet_input(i))[0] for i in images]).astype(np.float64)
    b = np.stack([int8(imagenet_input(i))[0] for i in images]).astype(np.float64)
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert cosine.mean() >= 0.999
    assert cosine.min() >= 0.99
    assert (a.argmax(1) == b.argmax(1)).mean() >= 0.95


def digest(ys: list[np.ndarray]) -> str:
    return hashlib.sha256(b"".join(np.ascontiguousarray(y).tobytes() for y in ys)).hexdigest()


@pytest.mark.parametrize("name", ZOO)
def test_same_bits_everywhere(
    name: str,
    compiled: Callable[[str, str], Any],
    answers: Callable[[str, str], Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exe = compiled(name, "int8")
    assert not exe.plan.fallbacks
    path = exe.save(tmp_path / "m.irk")
    xs, ys = answers(name, "int8")
    want = [digest(y) for y in ys]  # of the NumPy interpreter
    seen = {}
    for isa in _native.isas():
        monkeypatch.setenv("IRKIT_ISA", isa)
        for threads in (1, 2):
            m = irkit.load(path, threads=threads)
            seen[isa, threads] = [digest(outputs(m(x))) for x in xs]
    assert seen == dict.fromkeys(seen, want)
    assert len(seen) == 2 * len(_native.isas())
