"""irkit-run on one artifact of all ops' samples: the bits of the Python runtime, at weaker ISA levels and on arm64.

A NaN that an instruction makes has a sign and payload of its CPU's choice; any NaN equals any other here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import irkit
from irkit.ir.graph import Graph, Operation, Value
from irkit.ir.opdef import REGISTRY
from irkit.ir.types import Array, DType, QArray, TensorType
from irkit.ops import const, return_
from tests.builds import MACHINES, run, tool
from tests.kernels.run_op import cases
from tests.kernels.util import ISAS, same_bits

LEVELS = {"native": ISAS, "arm64": ["scalar", "neon", "neoni8mm"]}
CONSTANT = ("w", "bias", "table", "gamma", "beta", "mean", "var", "slope")
pytestmark = pytest.mark.slow


def sample_graph(skip: set[str]) -> tuple[Graph, list[Array]]:
    """Every sample of every op side by side, but for the layers in ``skip``; and the inputs of the whole."""
    g = Graph()
    feeds: list[Array] = []
    outputs: list[Value] = []
    for opdef in REGISTRY.values():
        for case in cases(opdef):
            loc = f"{opdef.name}.{case.name}"
            if loc in skip or not case.operands or opdef is return_ or opdef.has_body:
                continue
            values: list[Value | None] = []
            for i, o in enumerate(case.operands):
                if o is None:
                    values.append(None)
                    continue
                data, quant = (o.data, o.quant) if isinstance(o, QArray) else (np.asarray(o), None)
                if opdef.operands[min(i, len(opdef.operands) - 1)].name in CONSTANT:
                    values.append(g.emit(const, value=data, quant=quant).result)
                else:
                    values.append(g.add_input(TensorType(data.shape, DType.of(data.dtype), quant)))
                    feeds.append(data)
            op = Operation(opdef, values, case.attrs, loc=loc)
            if op.result.type.size:
                outputs.append(g.append(op).result)
            else:
                op.drop_operands()
    g.emit(return_, *outputs)
    return g, feeds


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], dict[str, Array]]:
    """Arguments of irkit-run (artifact and input files), and what it must write: results by op and sample."""
    exe = irkit.compile(sample_graph(set())[0])
    fallbacks = {r.layer for r in exe.plan.fallbacks}
    g, feeds = sample_graph(fallbacks)
    names = [v.producer.loc for v in g.outputs if v.producer]
    exe = irkit.compile(g, strict=True)
    results: Any = exe(*feeds)
    assert len(results) > 250
    folder = tmp_path_factory.mktemp("sample")
    arguments = [str(exe.save(folder / "all.irk"))]
    for i, a in enumerate(feeds):
        np.save(folder / f"{i}.npy", a)
        arguments += ["--input", str(folder / f"{i}.npy")]
    return arguments, dict(zip(names, results, strict=True))


@pytest.mark.parametrize("machine", MACHINES)
def test_same_bits(machine: str, sample: tuple[list[str], dict[str, Array]], tmp_path: Path) -> None:
    arguments, want = sample
    outputs = [w for i in range(len(want)) for w in ("--output", str(tmp_path / f"{i}.npy"))]
    for level in LEVELS[machine]:
        for threads in ("1", "2"):
            done = run([*tool(machine), *arguments, *outputs, "--isa", level, "--threads", threads])
            assert done.returncode == 0, done.stderr
            for i, (op, y) in enumerate(want.items()):
                got = np.load(tmp_path / f"{i}.npy")
                assert got.dtype == y.dtype and got.shape == y.shape, op
                assert same_bits(got, y), f"{op}: {level}, {threads} threads"
                (tmp_path / f"{i}.npy").unlink()
