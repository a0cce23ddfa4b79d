"""Memory of a run: at most 2 MB beside the artifact and the arena, although kernels have weights in their own order."""

from __future__ import annotations

import functools
import re
import warnings
from pathlib import Path
from typing import Any

import pytest

import irkit
from bench import zoo
from irkit import _native
from tests.builds import machine, run

PROMISE = 2_000_000  # bytes: program, input and output, scratch, padding of weights, tables
INT16 = ("avx2", "avx512")  # the levels whose kernels keep int8 weights as int16
pytestmark = pytest.mark.slow


@functools.cache
def compiled(name: str, target: str) -> Any:
    samples = zoo.inputs(name, 2)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "calibration saw")  # ranges don't matter here
        calibration = samples if target.endswith("int8") else None
        return irkit.compile(zoo.NETS[name].build(), samples[0], target, calibration)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("target", ["native-int8", "native-fp32", "arm64-int8"])
@pytest.mark.parametrize("name", ["mobilenet_v1", "mobilenet_v2", "efficientnet_lite0"])
def test_peak(name: str, target: str, threads: int, tmp_path: Path) -> None:
    """The peak that irkit-run, linked statically, tells of its own process; inputs are 1 x 3 x 224 x 224.

    An artifact for arm64 has other layers joined than one for this machine.
    """
    model = compiled(name, target).save(tmp_path / "m.irk")
    tool = machine("native") / "irkit-run-static"
    done = run([tool, model, "--describe", "--benchmark", "--repeat", "3", "--warmup", "1", "--threads", str(threads)])
    assert done.returncode == 0, done.stderr
    got = {k: int(v) for k, v in re.findall(r"(artifact|arena|memory) (\d+)", done.stdout)}
    assert got["artifact"] == model.stat().st_size
    wider = got["artifact"] if target.endswith("int8") and _native.isas()[-1] in INT16 else 0
    assert got["memory"] <= got["artifact"] + got["arena"] + wider + PROMISE, done.stdout.splitlines()[-1]
    assert got["memory"] > got["artifact"]  # it was measured
