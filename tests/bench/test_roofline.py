"""Limits of the machine and steps held against them: bounds from numbers made up, outcomes from a real model."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import irkit
from irkit import _native
from irkit.backend.artifact import sample_input
from irkit.bench import peaks as peaks_module
from irkit.bench.peaks import LEVELS, Peaks, measure, peaks
from irkit.bench.roofline import StepProfile, arithmetic_peak, by_saving, profile_steps, step_bytes
from irkit.errors import InputError

LIMITS = Peaks(
    1,
    {f"{kind}.{isa}": 100.0 * (i + 1) for i, (kind, isa) in enumerate(_native.peak_loops())},
    {"L1": 200.0, "L2": 100.0, "L3": 20.0, "memory": 10.0},
    {"L1": 1 << 15, "L2": 1 << 20, "L3": 1 << 24},
    0.0,
    "2026-01-01",
)


@pytest.mark.parametrize("threads", [1, 2])
def test_limits_are_measured(threads: int) -> None:
    found = measure(threads)
    assert set(found.gops) == {f"{k}.{i}" for k, i in _native.peak_loops()} and found.gops
    assert {"L1", "memory"} <= set(found.gbs) <= set(LEVELS) and "memory" not in found.sizes
    assert all(v > 0 for v in (*found.gops.values(), *found.gbs.values()))
    assert found.threads == threads
    if threads == 2:
        assert found.sizes["L1"] == 2 * measure(1).sizes["L1"]


def test_every_vector_level_has_a_loop() -> None:
    """A level without one would have no limit in the profile."""
    for isa in _native.isas()[1:]:
        assert any(i == isa for _, i in _native.peak_loops()), isa


def test_limits_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("IRKIT_CACHE", str(tmp_path / "kept"))
    measured: list[int] = []

    def fake(threads: int) -> Peaks:
        measured.append(threads)
        return Peaks(threads, {"fp32.avx2": 1.0 * len(measured)}, {"memory": 1.0}, {}, 0.0, "now")

    monkeypatch.setattr(peaks_module, "measure", fake)
    first = peaks(1)
    assert peaks(1) == first and peaks(2).threads == 2 and measured == [1, 2]
    assert peaks(1, again=True) != first and measured == [1, 2, 1]
    (file,) = (tmp_path / "kept").iterdir()
    for damage in ("not json", "[]", '{"1": {"threads": 1}}'):
        file.write_text(damage)
        assert peaks(1).threads == 1
    assert measured == [1, 2, 1, 1, 1, 1]


def test_loops_refuse_what_they_can_not_run() -> None:
    with pytest.raises(InputError, match="no loop for fp32 with nonsense"):
        _native.peak_run("fp32", "nonsense", 1)
    with pytest.raises(InputError, match="multiple of 1024"):
        _native.peak_read(np.zeros(1000, np.uint8), 1)


def test_levels() -> None:
    assert [LIMITS.level(n) for n in (1, 1 << 15, (1 << 15) + 1, 1 << 21, 1 << 30)] == [
        "L1",
        "L1",
        "L2",
        "L3",
        "memory",
    ]


def test_a_family_is_held_against_its_own_best_row() -> None:
    isas, rows = _native.isas(), _native.kernel_rows()
    for family in ("qconv", "conv", "qdwconv", "chain"):
        own = [r for r in rows if r[0] == family] or [r for r in rows if not r[0].startswith("q")]
        for i, cap in enumerate(isas):
            got = arithmetic_peak(family, cap, LIMITS)
            levels = [isas.index(r[2]) for r in own if r[2] in isas and isas.index(r[2]) <= i]
            if not got:
                assert max(levels) == 0  # no vectors, no limit
                continue
            kind, isa = got.split(".")
            assert kind == ("int8" if family == "qconv" or family == "qdwconv" else "fp32")
            assert isas.index(isa) <= max(levels)


def test_bounds() -> None:
    """Two steps whose bounds are computed by hand."""

    class Row:
        family = "conv"

    class Exe:
        isa = _native.isas()[-1]

        class plan:
            rows = (Row, Row)
            weight_bytes, arena_bytes = 1 << 22, 0  # all of it: L3
            document: dict[str, Any] = {  # noqa: RUF012
                "tensors": [
                    {"shape": [1000], "dtype": "f32", "loc": ["in", 0]},
                    {"shape": [2000], "dtype": "f32", "loc": ["const", "w"]},
                    {"shape": [1000], "dtype": "f32", "loc": ["arena", 0]},
                    {"shape": [10], "dtype": "f32", "loc": ["out", 0]},
                ],
                "steps": [{"in": [0, 1, -1], "out": [2]}, {"in": [2, 2], "out": [3]}],
            }

        def profile(self, *inputs: Any, repeats: int) -> list[dict[str, Any]]:
            head = {"op": "conv2d", "kernel": "conv.f32", "median_ns": 9}
            return [
                {**head, "layer": "a", "ns": 100_000, "macs": 5_000_000, "bytes": 16000},
                {**head, "layer": "b", "ns": 1_000_000, "macs": 0, "bytes": 8040},
            ]

    a, b = profile_steps(Exe(), [], LIMITS, 3)
    rate = LIMITS.gops[arithmetic_peak("conv", Exe.isa, LIMITS)]
    assert a.compute_ns == pytest.approx(1e7 / rate) and a.limit.startswith("fp32.")
    assert a.memory_ns == pytest.approx(8000 / 20.0 + 8000 / 200.0)  # constants from L3, the rest fits L1
    assert a.saved_ns == pytest.approx(100_000 - a.compute_ns)
    assert a.gops == pytest.approx(100.0) and a.gbs == pytest.approx(0.16)
    assert b.compute_ns == 0 and b.memory_ns == pytest.approx(4040 / 200.0) and b.limit == "L1"
    assert by_saving([a, b]) == [b, a]


def test_nothing_is_gained_below_a_bound() -> None:
    s = StepProfile(0, "", "", "", 10, 10, 5, 5, 20, 0, "x")  # Winograd, zeros
    assert s.saved_ns == 0


def test_profile_of_a_model(artifact: Path) -> None:
    exe = irkit.load(artifact, threads=1)
    x = [sample_input(t, i) for i, (_, t) in enumerate(exe.signature.inputs)]
    start = time.perf_counter_ns()
    rows = exe.profile(*x, repeats=20)
    wall = time.perf_counter_ns() - start
    assert [r["layer"] for r in rows] == [r.layer for r in exe.plan.rows]
    assert [(r["macs"], r["bytes"]) for r in rows] == [(r.macs, r.bytes) for r in exe.plan.rows]
    assert all(0 < r["ns"] <= r["median_ns"] for r in rows)
    assert 20 * sum(r["ns"] for r in rows) <= wall  # the parts are not more than the whole
    constant, other = step_bytes(exe.plan.document)
    assert [c + o for c, o in zip(constant, other, strict=True)] == [r["bytes"] for r in rows]
    assert sum(constant) == exe.plan.weight_bytes
    steps = profile_steps(exe, x, LIMITS, 3)
    assert [s.step for s in steps] == list(range(len(rows))) and any(s.limit.startswith("int8.") for s in steps)
    with pytest.raises(InputError, match="repeats: expected 1 or more, got 0"):
        exe.profile(*x, repeats=0)
