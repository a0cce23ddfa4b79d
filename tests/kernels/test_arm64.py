"""Every kernel for 64-bit Arm under emulation, on the cases of the other kernel tests: the bits of this CPU's kernels.

Those bits were compared with the references when the cases were recorded, so the bounds hold on Arm as well.
"""

from __future__ import annotations

import functools
import importlib
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests import builds
from tests.kernels.recording import recording, write_bundle

MODULES = (
    "chain", "conv", "deconv", "dwconv", "eltwise", "linear", "matmul", "move", "norm", "pool", "qconv", "qdwconv",
    "qeltwise", "qlinear", "qtables", "reduce", "softmax", "spmm", "tiles", "winograd",
)  # fmt: skip
# CPU, level, and whether cases are left out that run a kernel of a lower level, which another row of this table tests.
RUNS = [
    ("cortex-a53", "scalar", False),
    ("cortex-a53", "neon", False),
    ("cortex-a76", "neondot", True),
    ("max,sve=off", "neoni8mm", True),
]
pytestmark = [pytest.mark.slow, builds.needs_arm64]


@functools.cache
def replay(name: str) -> tuple[str, ...]:
    """Output of the replay program with the cases of a test module, for each of RUNS."""
    with recording() as recorder:
        cases = recorder.collect(importlib.import_module(f"tests.kernels.test_{name}"))
    assert len(cases) >= 20
    program = builds.machine("arm64") / "replay"
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "cases"
        bundle.write_bytes(write_bundle(cases))

        def run(cpu: str, level: str, own: bool) -> str:
            done = builds.run(builds.emulated(cpu, program, bundle, level, *(["own"] if own else [])))
            out = done.stdout + done.stderr
            failures = [line for line in out.splitlines() if line.startswith("FAIL")]
            if done.returncode or failures or " 0 failed" not in out:
                shown = "\n".join([*failures[:10], out.splitlines()[-1]])
                return f"{cpu}, {level}: exit code {done.returncode}, {len(failures)} failures\n{shown}"
            return out

        with ThreadPoolExecutor(2) as pool:
            return tuple(pool.map(run, *zip(*RUNS, strict=True)))


@pytest.mark.parametrize("name", MODULES)
def test_same_bits(name: str) -> None:
    for (cpu, level, _), out in zip(RUNS, replay(name), strict=True):
        assert " 0 failed" in out and "exit code" not in out, out
        ran = [line.split()[1] for line in out.splitlines() if line.startswith("ran ")]
        assert ran or level in ("neondot", "neoni8mm"), f"{cpu}, {level}: nothing ran"


def test_every_kernel_of_the_table_has_run() -> None:
    table = set(builds.run(builds.emulated("cortex-a53", builds.machine("arm64") / "replay", "rows")).stdout.split())
    assert len(table) > 50
    ran = {line.split()[1] for name in MODULES for out in replay(name) for line in out.splitlines() if "ran " in line}
    assert table - ran == {"testing.f32.scalar"}
