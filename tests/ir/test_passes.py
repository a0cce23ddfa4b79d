"""Passes and their manager: options, pipelines, verification, value checks by effect, dumps, reproducers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from irkit import ops
from irkit.errors import IRError, ParseError, PassError
from irkit.ir import passes as passes_module
from irkit.ir.graph import Graph, Operation, Value
from irkit.ir.parse import parse_graph
from irkit.ir.passes import (
    Dump,
    Effect,
    Instrument,
    Pass,
    PassManager,
    PassRecord,
    ValueCheck,
    compare,
    describe_pipeline,
    parse_pipeline,
    read_reproducer,
)
from irkit.ir.rewrite import Rewriter, pattern, rewrite
from irkit.ir.types import TensorType
from irkit.ir.verify import difference

TEXT = """
func @m(%x: f32[4]) {
  %w = const() {value=@w} : f32[4]
  %y = add(%x, %w) : f32[4] loc("layer")
  %z = relu(%y) : f32[4]
  return(%z)
}
"""


def graph() -> Graph:
    return parse_graph(TEXT, {"w": np.float32([1, 2, 3, 4])})


@pytest.fixture(autouse=True)
def own_registry() -> Iterator[None]:
    """Passes defined in a test disappear with it."""
    before = dict(passes_module._PASSES)
    yield
    passes_module._PASSES.clear()
    passes_module._PASSES.update(before)


def define() -> tuple[type[Pass], type[Pass]]:
    @pattern(ops.relu)
    def relu_to_abs(op: Operation, rw: Rewriter) -> Value | None:
        return rw.emit(ops.abs_, op.operand("x"))

    @dataclass(frozen=True)
    class ReluToAbs(Pass):
        effect: ClassVar[Effect] = Effect.EXACT

        def run(self, graph: Graph) -> bool:
            return rewrite(graph, [relu_to_abs])

    @dataclass(frozen=True)
    class ScaleBy(Pass):
        effect: ClassVar[Effect] = Effect.ROUNDING
        factor: float = 1.0
        layers: tuple[str, ...] = ()
        note: str = ""

        def run(self, graph: Graph) -> bool:
            y = graph.outputs[0]
            c = graph.emit(ops.const, before=graph.terminator, value=np.full(4, self.factor, np.float32)).result
            graph.terminator.set_operand(0, graph.emit(ops.mul, y, c, before=graph.terminator).result)
            return True

    return ReluToAbs, ScaleBy


def test_names_and_descriptions() -> None:
    relu_to_abs, scale_by = define()
    assert (relu_to_abs.name, scale_by.name) == ("relu-to-abs", "scale-by")
    p = scale_by(factor=0.5, layers=("a.*", "b"), note='"x"')  # type: ignore[call-arg]
    assert p.describe() == 'scale-by{factor=0.5, layers=["a.*", "b"], note="\\"x\\""}'
    assert scale_by().describe() == "scale-by"
    text = describe_pipeline([relu_to_abs(), p])
    assert parse_pipeline(text) == [relu_to_abs(), p]
    assert parse_pipeline("") == []


def test_data_is_not_described() -> None:
    @dataclass(frozen=True)
    class WithData(Pass):
        effect: ClassVar[Effect] = Effect.LOSSY
        size: int = 1
        data: tuple[int, ...] = field(default=(), repr=False)
        notes: list[str] = field(default_factory=list)

    assert WithData(2, (1, 2)).describe() == "with-data{size=2}"


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("nothing-like-it", PassError, "unknown pass 'nothing-like-it'; there are: "),
        ("scale-by{size=3}", PassError, "pass scale-by has no option 'size'; it has: factor, layers, note"),
        ("relu-to-abs{size=3}", PassError, "pass relu-to-abs has no option 'size'; it has: none"),
        ("scale-by{factor=}", ParseError, "line 1, column 17: expected an attribute value, got '}'"),
        ("scale-by relu-to-abs", ParseError, "line 1, column 10: expected ','"),
    ],
)
def test_bad_pipelines(text: str, error: type[Exception], message: str) -> None:
    define()
    with pytest.raises(error) as e:
        parse_pipeline(text)
    assert message in str(e.value)


def test_records_what_passes_did() -> None:
    relu_to_abs, scale_by = define()
    g = graph()
    records = PassManager([relu_to_abs(), relu_to_abs(), scale_by()], [ValueCheck([(np.ones(4, np.float32),)])]).run(g)
    assert [(r.name, r.changed) for r in records] == [("relu-to-abs", True), ("relu-to-abs", False), ("scale-by", True)]
    assert records[0].hits == {"relu_to_abs": 1}
    assert (records[2].ops_before, records[2].ops_after, records[2].error) == (4, 6, 0.0)
    assert records[1].error is None
    assert all(r.seconds >= 0 for r in records)


def test_exact_pass_that_changes_bits_is_caught_with_a_reproducer(tmp_path: Path) -> None:
    relu_to_abs, scale_by = define()
    g = graph()
    start = graph()
    samples = [(np.ones(4, np.float32),), (np.full(4, -8, np.float32),)]
    manager = PassManager([relu_to_abs(), scale_by(factor=2.0)], [ValueCheck(samples)], tmp_path)  # type: ignore[call-arg]
    with pytest.raises(PassError) as e:
        manager.run(g)
    message = str(e.value)
    assert "pass relu-to-abs: declares exact, but output 0 on sample 1 differs in 4 of 4 elements, at (0,)" in message
    (file,) = tmp_path.glob("*.ir")
    assert str(file) in message
    assert file.read_text().startswith("// RUN: relu-to-abs,scale-by{factor=2.0}\n")
    back, rest = read_reproducer(file)
    assert difference(start, back) is None
    assert rest == manager.passes
    with pytest.raises(PassError, match="declares exact"):
        PassManager(rest, [ValueCheck(samples)], tmp_path).run(back)


def test_large_constants_go_beside_the_reproducer(tmp_path: Path) -> None:
    relu_to_abs, _ = define()
    g = parse_graph(TEXT.replace("[4]", "[40]"), {"w": np.arange(40, dtype=np.float32)})
    path = passes_module.write_reproducer(g, [relu_to_abs()], tmp_path)
    assert path.with_suffix(".npz").exists()
    back, _ = read_reproducer(path)
    assert difference(g, back) is None


def test_rounding_pass_is_held_to_its_bound(tmp_path: Path) -> None:
    _, scale_by = define()
    sample = [(np.ones(4, np.float32),)]
    PassManager([scale_by(factor=1.00001)], [ValueCheck(sample)], tmp_path).run(graph())  # type: ignore[call-arg]
    with pytest.raises(PassError, match=r"declares rounding, but output 0 on sample 0 is off by 0\.01 of its scale"):
        PassManager([scale_by(factor=1.01)], [ValueCheck(sample)], tmp_path).run(graph())  # type: ignore[call-arg]


def test_lossy_pass_is_only_measured() -> None:
    @dataclass(frozen=True)
    class Zero(Pass):
        effect: ClassVar[Effect] = Effect.LOSSY

        def run(self, graph: Graph) -> bool:
            c = graph.emit(ops.const, before=graph.terminator, value=np.zeros(4, np.float32)).result
            graph.terminator.set_operand(0, c)
            return True

    (record,) = PassManager([Zero()], [ValueCheck([(np.ones(4, np.float32),)])]).run(graph())
    assert record.error == 1.0


def test_pass_that_breaks_the_graph_is_caught(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Breaks(Pass):
        effect: ClassVar[Effect] = Effect.EXACT

        def run(self, graph: Graph) -> bool:
            add = graph.ops[1]
            add.results[0].type = TensorType((5,))
            return False  # and lies about it

    with pytest.raises(
        PassError, match=r"pass breaks: verify @m: add \(%y\) @layer: result 0 is f32\[5\].*reproducer: "
    ):
        PassManager([Breaks()], reproducers=tmp_path).run(graph())
    assert len(list(tmp_path.glob("breaks-*.ir"))) == 1


def test_pass_that_raises_is_named_with_its_cause(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Raises(Pass):
        effect: ClassVar[Effect] = Effect.EXACT
        depth: int = 1

        def run(self, graph: Graph) -> bool:
            raise ZeroDivisionError("division by zero")

    with pytest.raises(PassError, match=r"pass raises\{depth=2\}: ZeroDivisionError: division by zero") as e:
        PassManager([Raises(depth=2)], reproducers=tmp_path).run(graph())
    assert isinstance(e.value.__cause__, ZeroDivisionError)


def test_broken_input_is_not_blamed_on_a_pass() -> None:
    relu_to_abs, _ = define()
    g = graph()
    g.erase(g.terminator)
    with pytest.raises(IRError, match=r"verify @m: .*the last operation is not return"):
        PassManager([relu_to_abs()]).run(g)


def test_dump_writes_input_and_what_changed(tmp_path: Path) -> None:
    relu_to_abs, scale_by = define()
    PassManager([relu_to_abs(), relu_to_abs(), scale_by()], [Dump(tmp_path)]).run(graph())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["00-input.ir", "01-relu-to-abs.ir", "03-scale-by.ir"]
    assert "abs(%y)" in (tmp_path / "01-relu-to-abs.ir").read_text()


def test_instruments_are_called_around_each_pass() -> None:
    relu_to_abs, scale_by = define()
    calls: list[str] = []

    class Log(Instrument):
        def before(self, pass_: Pass, graph: Graph) -> None:
            calls.append(f"before {pass_.name} {len(graph)}")

        def after(self, pass_: Pass, graph: Graph, record: PassRecord) -> None:
            calls.append(f"after {pass_.name} {record.changed}")

    PassManager([relu_to_abs(), scale_by()], [Log()]).run(graph())
    assert calls == ["before relu-to-abs 4", "after relu-to-abs True", "before scale-by 4", "after scale-by True"]


@pytest.mark.parametrize(
    ("a", "b", "effect", "ok"),
    [
        ([1, np.nan], [1, np.nan], Effect.EXACT, True),
        ([0.0], [-0.0], Effect.EXACT, False),
        ([0.0], [-0.0], Effect.ROUNDING, True),
        ([np.inf, 1], [np.inf, 1.00005], Effect.ROUNDING, True),
        ([np.inf, 1], [-np.inf, 1], Effect.ROUNDING, False),
        ([1, 2], [1, np.nan], Effect.ROUNDING, False),
        ([0, 0], [1e-30, 0], Effect.ROUNDING, False),
        ([1, 2], [5, np.nan], Effect.LOSSY, True),
    ],
)
def test_compare(a: list[float], b: list[float], effect: Effect, ok: bool) -> None:
    message, _ = compare(np.float64(a), np.float64(b), effect)
    assert (message == "") is ok


def test_compare_sees_another_dtype() -> None:
    message, _ = compare(np.zeros(2), np.zeros(2, np.float32), Effect.LOSSY)
    assert message == "went from float64[2] to float32[2]"
