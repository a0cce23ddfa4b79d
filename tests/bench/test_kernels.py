"""Kernels on recorded shapes: every row has one, the runtime picks that row, and what is timed is a real step."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import irkit
from bench import kernels, shapes
from bench.shapes import Shape
from irkit import _native
from irkit.bench.report import read
from irkit.errors import BenchError

ROOT = Path(__file__).parents[2]
SHAPES = shapes.load()
TABLE = [
    m for f in sorted((ROOT / "kernels").glob("*/kernels.inc")) if f.parent.name != "testing"
    for m in re.findall(r"^IRK_KERNEL\(\s*(\w+),\s*(\w+),\s*(\w+),", f.read_text(), re.M)
]  # fmt: skip


def test_every_kernel_of_the_sources_has_a_shape() -> None:
    """Those for other CPUs, too."""
    assert len(TABLE) > 100
    rows = {s.row for s in SHAPES}
    missing = {f"{family}.{types}" for family, types, _ in TABLE} - rows
    assert not missing, "add a network that needs them to bench/shapes.py, and `python -m bench.kernels record`"


def test_every_row_here_is_timed_on_a_shape_it_is_chosen_for() -> None:
    rows = kernels.rows_here()
    assert {tuple(r) for r in rows} == {r for r in TABLE if r[2] in _native.isas()}
    light = [s for s in SHAPES if s.macs < 3e7]
    todo = kernels.tasks(rows, light)
    assert {t.row for t in todo} == set(rows)


def test_a_new_kernel_can_not_be_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    table = [*_native.kernel_rows(), ("conv3d", "f32", "scalar", 1, 1, 1), ("pool", "max_u8", "scalar", 1, 1, 1)]
    monkeypatch.setattr(_native, "kernel_rows", lambda: table)
    pooled = [s for s in SHAPES if s.family == "pool"]
    with pytest.raises(BenchError, match=r"no recorded shape runs conv3d\.f32\.scalar, pool\.max_u8\.scalar: add"):
        kernels.tasks(kernels.rows_here(["conv3d", "pool"]), pooled)


def test_a_row_that_no_shape_reaches_is_named() -> None:
    """A shape of the right name is not enough: the runtime must choose that row for it."""
    isa = _native.isas()[-1]
    row = next(r[:3] for r in _native.kernel_rows() if r[:2] == ("qconv", "s8s8") and r[2] != "scalar")
    linear = [Shape("qconv.s8s8", "qeltwise", *_parts(s)) for s in SHAPES if s.row == "qeltwise.quantize"][:1]
    assert kernels.picked(linear[0], isa) != row
    with pytest.raises(BenchError, match=rf"no recorded shape runs {'.'.join(row)}"):
        kernels.tasks([row], linear)


def _parts(s: Shape) -> tuple[Any, ...]:
    return s.attrs, s.inputs, s.outputs, s.macs, s.nets


def test_shapes_are_those_of_the_steps(artifact: Path) -> None:
    exe = irkit.load(artifact)
    found = list(shapes.shapes_of(exe, "net.int8"))
    steps = exe._native.steps()
    direct = [i for i, s in enumerate(steps) if s["row"] is not None]
    assert [s.family for s in found] == [steps[i]["family"] for i in direct] and len(found) >= 3
    for s, i in zip(found, direct, strict=True):
        assert (s.macs, s.bytes) == (exe.plan.rows[i].macs, exe.plan.rows[i].bytes)
        model, feed = shapes.step_model(s, exe.isa, 1)
        assert model.steps()[0]["kernel"] == steps[i]["kernel"]
        (y,) = model.run(feed)
        assert list(y.shape) == s.outputs[0]["shape"]


def test_the_same_shape_is_kept_once_and_the_heaviest_are() -> None:
    def shape(n: int, net: str) -> Shape:
        tensor = {"dtype": "f32", "shape": [n], "const": False}
        return Shape("eltwise.f32", "eltwise", {"lo": float(n)}, [tensor], [tensor], n, [net])

    found = shapes.unique([shape(n, net) for net in "ab" for n in range(1, 13)], most=8)
    assert [s.macs for s in found] == [12, 11, 10, 9, 8, 7, 2, 1] and found[0].nets == ["a", "b"]


def test_recording_one_network_keeps_the_others(monkeypatch: pytest.MonkeyPatch, artifact: Path) -> None:
    exe = irkit.load(artifact)
    monkeypatch.setattr(shapes, "networks", lambda: {"kws_dscnn": lambda precision: exe})
    found = shapes.record(["kws_dscnn"])
    own = {s.row for s in shapes.shapes_of(exe, "")}
    assert own == {s.row for s in found if {"kws_dscnn.int8", "kws_dscnn.fp32"} & set(s.nets)}
    assert {s.row for s in found} == {s.row for s in SHAPES}  # of the others
    assert [s for s in found if s.nets == ["resnet50.fp32"]] == [s for s in SHAPES if s.nets == ["resnet50.fp32"]]
    with pytest.raises(BenchError, match="unknown network vgg; known: kws_dscnn"):
        shapes.record(["vgg"])


def test_saved_and_loaded(tmp_path: Path) -> None:
    shapes.save(SHAPES[:3], tmp_path / "s.json")
    assert shapes.load(tmp_path / "s.json") == SHAPES[:3]


def test_sparse_weights_have_the_zeros_they_had() -> None:
    s = next(s for s in SHAPES if s.family == "spmm")
    values = shapes._arrays(s, np.random.default_rng(0))[1]
    assert values is not None and s.inputs[1] is not None and list(values.shape) == s.inputs[1]["shape"]


def test_time_command(tmp_path: Path) -> None:
    quick = ("--seconds", "0", "--top", "1", "--json", str(tmp_path / "k.json"), "--plot", str(tmp_path / "k.svg"))
    done = CliRunner().invoke(kernels.app, ["time", "qlut", "pool.max_f32", *quick])
    assert done.exit_code == 0, done.output
    rows = read(tmp_path / "k.json").rows
    wanted = {".".join(r) for r in kernels.rows_here(["qlut", "pool.max_f32"])}
    assert {r["kernel"] for r in rows} == wanted and len(rows) == len(wanted)
    assert all(0 < r["ns"] <= r["median_ns"] <= r["p90_ns"] and r["nets"] for r in rows)
    assert all(name in done.stdout for name in wanted) and (tmp_path / "k.svg").stat().st_size > 1000


def test_unknown_names() -> None:
    with pytest.raises(BenchError, match=r"no kernel 'qconf'; known families: .*qconv"):
        kernels.rows_here(["qconf"])
    with pytest.raises(BenchError, match="no instruction set 'avx1024' here; known: scalar"):
        kernels.rows_here([], ["avx1024"])
