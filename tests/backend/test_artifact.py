"""What an artifact holds beside the runtime's plan: damaged or contradicting, it is refused, and says what it is.

The runtime's own reader has its tests in tests/kernels/test_artifact_file.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import irkit
from irkit import _native
from irkit.backend.artifact import RESERVED
from irkit.errors import ArtifactError
from irkit.ir.graph import Graph
from irkit.ir.types import Array, TensorType
from irkit.ops import const, linear, return_, softmax
from tests.kernels.artifacts import header_of, pack

X = np.linspace(-1, 1, 80, dtype=np.float32).reshape(2, 40)


def graph(weights: str = "fc.weight") -> Graph:
    g = Graph()
    x = g.add_input(TensorType((2, 40)), "x")
    w = g.emit(const, value=np.ones((3, 40), np.float32), names=[weights]).result
    g.emit(return_, g.emit(softmax, g.emit(linear, x, w, loc="fc").result, axis=1, names=["y"]).result)
    return g


@pytest.fixture
def tensors(tmp_path: Path) -> dict[str, Array]:
    """All that is in the artifact of that graph."""
    native = _native.load(str(irkit.compile(graph()).save(tmp_path / "whole.irk")))
    return {n: np.array(native.tensor(n)) for n in native.tensor_names()}


def packed(tensors: dict[str, Array], path: Path) -> Path:
    order = dict(sorted(tensors.items(), key=lambda t: -t[1].dtype.itemsize))
    path.write_bytes(pack(header_of(order), b"".join(a.tobytes() for a in order.values())))
    return path


def with_info(tensors: dict[str, Array], path: Path, change: Callable[[Any], Any]) -> Path:
    info = json.loads(tensors["irkit.info"].tobytes())
    changed = change(info)
    text = json.dumps(info if changed is None else changed).encode()
    return packed({**tensors, "irkit.info": np.frombuffer(text, np.uint8)}, path)


def test_what_is_put_together_again_runs(tensors: dict[str, Array], tmp_path: Path) -> None:
    assert set(RESERVED) < set(tensors)
    exe = irkit.load(with_info(tensors, tmp_path / "same.irk", lambda info: None))
    assert exe(X).tobytes() == irkit.compile(graph())(X).tobytes()
    assert str(exe.plan) == str(irkit.load(tmp_path / "whole.irk").plan)


def put(info: Any, value: Any, *path: Any) -> None:
    for key in path[:-1]:
        info = info[key]
    info[path[-1]] = value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda i: [], "irkit.info is damaged: TypeError"),
        (lambda i: i.pop("rows") and None, "irkit.info is damaged: KeyError: 'rows'"),
        (lambda i: put(i, "z80-int4", "target"), "irkit.info is damaged: TargetError"),
        (lambda i: put(i, "f99", "inputs", 0, "dtype"), "irkit.info is damaged: ValueError"),
        (lambda i: put(i, ["many"], "outputs", 0, "shape"), "irkit.info is damaged: ValueError"),
        (lambda i: i["rows"].pop() and None, "irkit.info describes 1 steps, the plan has 2"),
        (lambda i: i["inputs"].append(i["inputs"][0]), "irkit.info names 2 inputs, the plan 1"),
        (lambda i: put(i, [], "outputs"), "irkit.info names 0 outputs, the plan 1"),
        (lambda i: put(i, "i32", "inputs", 0, "dtype"), r"input 'x' is i32\[2, 40\], the plan has f32\[2, 40\]"),
        (lambda i: put(i, [40, 2], "inputs", 0, "shape"), r"input 'x' is f32\[40, 2\], the plan has f32\[2, 40\]"),
        (lambda i: put(i, "i32", "outputs", 0, "dtype"), r"output 'y' is i32\[2, 3\], the plan has f32\[2, 3\]"),
        (lambda i: put(i, [2, 4], "outputs", 0, "shape"), r"output 'y' is f32\[2, 4\], the plan has f32\[2, 3\]"),
    ],
)
def test_info_that_contradicts_the_plan_is_refused(
    change: Callable[[Any], Any], message: str, tensors: dict[str, Array], tmp_path: Path
) -> None:
    path = with_info(tensors, tmp_path / "broken.irk", change)
    with pytest.raises(ArtifactError, match=message) as e:
        irkit.load(path)
    assert str(e.value).startswith(str(path)), "the file is named"


def test_an_output_may_have_its_elements_in_another_shape(tensors: dict[str, Array], tmp_path: Path) -> None:
    path = with_info(tensors, tmp_path / "flat.irk", lambda i: put(i, [6], "outputs", 0, "shape"))
    np.testing.assert_array_equal(irkit.load(path)(X), irkit.compile(graph())(X).reshape(6))


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("irkit.info", b"{", "irkit.info is damaged: JSONDecodeError"),
        ("irkit.info", b"\xff{}", "irkit.info is damaged: UnicodeDecodeError"),
        ("irkit.info", b"[" * 100_000, "irkit.info is damaged: RecursionError"),
    ],
)
def test_info_that_is_no_text_is_refused(
    name: str, data: bytes, message: str, tensors: dict[str, Array], tmp_path: Path
) -> None:
    path = packed({**tensors, name: np.frombuffer(data, np.uint8)}, tmp_path / "broken.irk")
    with pytest.raises(ArtifactError, match=message):
        irkit.load(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("softmax", "hardmax", "unknown op"),
        ("f32[2,3]", "f32[2,5]", "its type rule gives"),
        ("fc.weight", "fc.wrong", "fc.wrong"),
        ("func", "f\xffnc", "utf-8"),
    ],
)
def test_a_graph_that_is_wrong_runs_but_is_not_shown(
    old: str, new: str, message: str, tensors: dict[str, Array], tmp_path: Path
) -> None:
    """People read the graph; the plan is what runs."""
    text = tensors["irkit.ir"].tobytes().decode()
    assert old in text
    broken = text.replace(old, new).encode("latin-1")
    exe = irkit.load(packed({**tensors, "irkit.ir": np.frombuffer(broken, np.uint8)}, tmp_path / "broken.irk"))
    assert exe(X).shape == (2, 3)
    with pytest.raises(ArtifactError, match=f"irkit.ir can't be read: .*{message}"):
        _ = exe.graph


def test_rows_that_are_no_rows_are_told_when_the_plan_is_shown(tensors: dict[str, Array], tmp_path: Path) -> None:
    exe = irkit.load(with_info(tensors, tmp_path / "broken.irk", lambda i: put(i, ["conv"], "rows", 0)))
    with pytest.raises(ArtifactError, match=r"irkit\.info is damaged: ValueError"):
        _ = exe.plan


def test_a_constant_must_not_take_a_reserved_name(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"constant 'irkit\.plan' has a reserved name"):
        irkit.compile(graph("irkit.plan")).save(tmp_path / "a.irk")
    assert not (tmp_path / "a.irk").exists()
