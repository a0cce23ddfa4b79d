"""irkit-run on one artifact of all ops' samples: the bits of the Python runtime, at weaker ISA levels and on arm64.

A NaN that an instruction makes has a sign and payload of its CPU's choice; any NaN equals any other here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import irkit
from irkit.ir.graph import Graph, Operation, Value
from irkit.ir.opdef import REGISTRY
from irkit.ir.types import Array, DType, QArray, TensorType
from irkit.ops import const, return_
from tests.kernels.run_op import cases
from tests.kernels.util import ISAS, same_bits

ROOT = Path(__file__).parents[2]
BUILDS: dict[str, list[str]] = {"plain": []}
if shutil.which("aarch64-linux-gnu-g++") and shutil.which("qemu-aarch64"):
    BUILDS["arm64"] = ["--toolchain", str(ROOT / "kernels/cmake/aarch64-linux-gnu.cmake")]
LAUNCH = {"plain": [], "arm64": ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"]}
LEVELS = {"plain": ISAS, "arm64": ["scalar", "neon", "neoni8mm"]}
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
        arguments.append(str(folder / f"{i}.bin"))
        Path(arguments[-1]).write_bytes(np.ascontiguousarray(a).tobytes())
    return arguments, dict(zip(names, results, strict=True))


def tool(name: str) -> list[str]:
    """The command, built with all kernel families; the build folder is kept from run to run."""
    folder = ROOT / "build" / f"run-{name}"
    options = [*BUILDS[name], *(["-G", "Ninja"] if shutil.which("ninja") else [])]
    subprocess.run(["cmake", "-S", str(ROOT / "kernels"), "-B", str(folder), *options], check=True, capture_output=True)
    made = subprocess.run(
        ["cmake", "--build", str(folder), "--target", "irkit-run", "--parallel", "2"], capture_output=True, text=True
    )
    assert made.returncode == 0, made.stdout[-4000:] + made.stderr[-4000:]
    return [*LAUNCH[name], str(folder / "irkit-run")]


def run(command: list[str]) -> subprocess.CompletedProcess[bytes]:
    """The finished command, with no irkit settings in its environment."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("IRKIT_")}
    return subprocess.run(command, capture_output=True, timeout=300, env=env)


@pytest.mark.parametrize("name", BUILDS)
def test_same_bits(name: str, sample: tuple[list[str], dict[str, Array]]) -> None:
    arguments, want = sample
    command = tool(name)
    for level in LEVELS[name]:
        for threads in ("1", "2"):
            done = run([*command, "--isa", level, "--threads", threads, *arguments])
            assert done.returncode == 0, done.stderr.decode()
            at = 0
            for op, y in want.items():
                got = np.frombuffer(done.stdout, y.dtype, y.size, at).reshape(y.shape)
                assert same_bits(got, y), f"{op}: {level}, {threads} threads"
                at += y.nbytes
            assert at == len(done.stdout)


def test_messages(sample: tuple[list[str], dict[str, Array]], tmp_path: Path) -> None:
    arguments, _ = sample
    command = tool("plain")
    shown = run([*command, "--info", arguments[0]])
    assert shown.returncode == 0
    assert shown.stdout.decode().startswith("input ") and b"\nstep 0 " in shown.stdout
    timed = run([*command, "--time", "2", *arguments])
    assert timed.returncode == 0 and b"2 calls" in timed.stderr
    wrong = tmp_path / "wrong.bin"
    wrong.write_bytes(b"123")
    for args, message in (
        ([], "usage"),
        (["--threads", "0", arguments[0]], "usage"),
        (["nowhere.irk"], "nowhere.irk"),
        (arguments[:3], "inputs"),
        ([arguments[0], str(wrong), *arguments[2:]], "the model wants"),
        ([arguments[0], str(tmp_path / "none"), *arguments[2:]], "cannot be opened"),
    ):
        failed = run([*command, *args])
        assert failed.returncode != 0
        assert message in failed.stderr.decode()
