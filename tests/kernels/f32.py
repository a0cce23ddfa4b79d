"""Checks shared by the tests of the float kernels that sum products: bits, bounds, memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from irkit.ir.types import Array
from tests.kernels.util import ISAS, guarded, load_step, run_step, same_bits

INF = float("inf")
NONE: dict[str, Any] = {"act": "none"}
# Step attributes, the function of float64 they stand for, and how much it can magnify an error.
RESIDUAL = {"conv": 3, "linear": 3, "chain": 10}  # the input that the output may be in place of, by family
ACTS: dict[str, tuple[dict[str, Any], Callable[[Array, Array], Array], float]] = {
    "none": (NONE, lambda y, s: y, 1.0),
    "relu": ({"act": "clip", "lo": 0.0, "hi": INF}, lambda y, s: np.maximum(y, 0), 1.0),
    "clip": ({"act": "clip", "lo": -0.25, "hi": 0.5}, lambda y, s: np.clip(y, -0.25, 0.5), 1.0),
    "leaky": ({"act": "leaky", "alpha": 0.125}, lambda y, s: np.where(y > 0, y, 0.125 * y), 1.0),
    "prelu": ({"act": "prelu"}, lambda y, s: np.where(y > 0, y, s * y), 2.0),
    "hardswish": ({"act": "hardswish"}, lambda y, s: y * np.clip(y + 3, 0, 6) / 6, 1.5),
}


def normal(rng: np.random.Generator, *shape: int) -> Array:
    """float32 normal numbers."""
    return rng.standard_normal(shape).astype(np.float32)


def run_everywhere(
    family: str,
    inputs: Sequence[Array | None],
    shape: Sequence[int],
    attrs: dict[str, Any],
    consts: Sequence[int],
    isas: Sequence[str] = ISAS,
    weaker: Mapping[str, str] = MappingProxyType({}),
) -> Array:
    """Runs a step on every ISA, with one thread and with two, between guard pages; returns the output they agree on.

    weaker: the ISA whose kernel must be chosen on another one, where that is the better one.
    Fails if bits differ, an input changes or an output element is not written.
    """
    held = [None if a is None else guarded(a) for a in inputs]
    first: Array | None = None
    for isa in isas:
        for threads in (1, 2):
            model, feed = load_step(family, held, [(shape, np.float32)], attrs, isa=isa, threads=threads, consts=consts)
            chosen = weaker.get(isa, isa)
            assert model.kernels[0].endswith(f".{chosen}") or isa not in ("scalar", "avx2", "avx512", "neon")
            runs = []
            for fill in (np.float32(np.nan), np.float32(777.0)):
                out = guarded(np.full(shape, fill, np.float32))
                model.run_into(feed, [out])
                runs.append(out)
            assert same_bits(*runs) and not np.isnan(runs[0]).any(), f"{isa}: elements not written"
            if first is None:
                first = np.array(runs[0])
            assert same_bits(first, runs[0]), f"{isa}, {threads} threads: other bits than {isas[0]}"
            k = RESIDUAL.get(family)
            if k is not None and k < len(held) and held[k] is not None:
                options: dict[str, Any] = {"isa": isa, "threads": threads, "consts": consts}
                (out,) = run_step(family, held, [(shape, np.float32)], attrs, in_place=k, **options)
                assert same_bits(first, out), f"{isa}, {threads} threads: other bits in place of the residual"
    for a, b in zip(inputs, held, strict=True):
        assert a is None or b is None or same_bits(a, b), "an input was written to"
    assert first is not None
    return first


def assert_bound(got: Array, exact: Array, magnitude: Array, terms: int, gain: float) -> None:
    """|got - exact| within (terms + 4) * 2^-23 * magnitude, the sum of the absolute products."""
    bound = gain * (terms + 4) * 2.0**-23 * magnitude + 1e-30
    worst = np.max(np.abs(got.astype(np.float64) - exact) / bound)
    assert worst <= 1, f"error is {worst:.3g} of its bound"
