"""Whole models through irkit-run, here and on emulated 64-bit Arm CPUs: the bits of the Python runtime.

int8: those of the NumPy interpreter too, on every ISA level. fp32: the same bits as here, and within 1e-4 of the
framework's own results relative to the tensor's scale.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irkit import _native
from irkit.ir.types import Array
from tests import builds
from tests.e2e.samples import ZOO
from tests.kernels.util import same_bits

Fixture = Callable[[str, str], Any]
# CPU, threads. Each CPU takes its own best level; of fp32 there is one for all of them.
ARM_RUNS = {
    "int8": [(cpu, threads) for cpu in builds.CPUS for threads in ("1", "2")],
    "fp32": [("cortex-a53", "1"), ("max,sve=off", "2")],
}
pytestmark = pytest.mark.slow
everything = pytest.mark.parametrize(("name", "precision"), [(n, p) for n in ZOO for p in ("int8", "fp32")])


class Trial:
    """A model's artifact, one input, and the outputs it must give."""

    def __init__(self, name: str, precision: str, compiled: Fixture, answers: Fixture, folder: Path) -> None:
        self.model, self.input = folder / "m.irk", folder / "x.npy"
        compiled(name, precision).save(self.model)
        xs, ys = answers(name, precision)
        np.save(self.input, xs[0])
        self.want: list[Array] = ys[0]
        if precision == "fp32":
            for y, w in zip(self.want, ZOO[name].reference(xs[0]), strict=True):
                assert np.abs(y - w).max() <= 1e-4 * np.abs(w).max()

    def run(self, command: list[str], *options: str) -> None:
        """Run the model; AssertionError when any bit of any output is another."""
        where = " ".join([command[2] if len(command) > 1 else "here", *options])
        folder = self.model.parent / where
        folder.mkdir()
        files = [folder / f"{i}.npy" for i in range(len(self.want))]
        outputs = [f"--output={f}" for f in files]
        done = builds.run([*command, self.model, "--input", self.input, *outputs, *options])
        assert (done.returncode, done.stderr) == (0, ""), f"{where}: {done.stderr}"
        for i, (f, y) in enumerate(zip(files, self.want, strict=True)):
            got = np.load(f)
            assert got.dtype == y.dtype and got.shape == y.shape
            assert same_bits(got, y), f"{where}: {(got != y).sum()} of {y.size} of output {i} differ"


@pytest.fixture
def trial(name: str, precision: str, compiled: Fixture, answers: Fixture, tmp_path: Path) -> Trial:
    return Trial(name, precision, compiled, answers, tmp_path)


@everything
def test_native(trial: Trial, precision: str) -> None:
    for isa in _native.isas() if precision == "int8" else (_native.isas()[0], _native.isas()[-1]):
        for threads in ("1", "2"):
            trial.run(builds.tool("native"), "--isa", isa, "--threads", threads)


@builds.needs_arm64
@everything
def test_arm64(trial: Trial, precision: str) -> None:
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda r: trial.run(builds.tool("arm64", r[0]), "--threads", r[1]), ARM_RUNS[precision]))


@builds.needs_arm64
@pytest.mark.parametrize(("name", "precision"), [("mini_xception", "int8"), ("onet", "fp32")])
def test_arm64_shared_library(trial: Trial) -> None:
    trial.run(builds.emulated("cortex-a76", builds.machine("arm64") / "irkit-run-shared"))
