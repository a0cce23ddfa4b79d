"""The arm64 wheel: cross-built here, imported by arm64 Python under emulation, where a part of these tests runs."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import irkit
from irkit.ir.passes import write_constants
from irkit.ir.text import print_graph
from tests import builds
from tests.deploy.make_root import PYTHON, RootError, make_root
from tests.e2e.samples import ZOO

pytestmark = [pytest.mark.slow, builds.needs_arm64]
MODELS = (*((name, "int8") for name in ZOO), ("onet", "fp32"), ("mini_xception", "fp32"))
# What arm64 Python runs besides on_device.py: every twelfth of these tests on each CPU, other ones each time.
KERNELS = ("qconv", "qdwconv", "qlinear", "qeltwise", "qtables", "conv", "winograd", "dwconv", "linear", "matmul",
           "pool", "reduce", "norm", "softmax", "move", "spmm", "chain", "deconv", "eltwise",
           "artifact_file")  # fmt: skip
TESTS = (*(f"tests/kernels/test_{k}.py" for k in KERNELS), "tests/ops/test_quantized.py", "tests/quant/test_ranges.py")
EVERY = 12
GRAPH = """func @main(%x: f32[1,8,9,9]) {
  %w = const() {value=@w} : f32[16,8,3,3]
  %y = conv2d(%x, %w, _) {pads=[1, 1, 1, 1]} : f32[1,16,9,9]
  %z = relu(%y) : f32[1,16,9,9]
  %flat = reshape(%z) {shape=[1, 1296]} : f32[1,1296]
  %v = const() {value=@v} : f32[64,1296]
  %scores = linear(%flat, %v, _) : f32[1,64]
  return(%scores)
}
"""


@pytest.fixture(scope="module")
def root() -> Path:
    """A folder with arm64 Python, kept from run to run."""
    try:
        return make_root(builds.ROOT / "build/arm64-root")
    except RootError as e:
        pytest.skip(f"no arm64 Python: {e}")


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, by the README's command."""
    folder = tmp_path_factory.mktemp("dist")
    ready = all(importlib.util.find_spec(m) for m in ("setuptools", "Cython", "pybind11"))
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", str(folder), str(builds.ROOT)]
    done = subprocess.run(
        [*command, *(["--no-build-isolation"] if ready else [])],
        env={**os.environ, "IRKIT_CROSS_ROOT": str(root), "CMAKE_BUILD_PARALLEL_LEVEL": "2"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def data(
    compiled: Callable[[str, str], Any],
    answers: Callable[[str, str], Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """What on_device.py reads: artifacts, inputs, and the answers given here (int8: by the NumPy interpreter)."""
    folder = tmp_path_factory.mktemp("data")
    for name, precision in MODELS:
        compiled(name, precision).save(folder / f"{name}.{precision}.irk")
        xs, ys = answers(name, precision)
        np.savez(folder / f"{name}.{precision}.in.npz", xs[0])
        np.savez(folder / f"{name}.{precision}.out.npz", *ys[0])
    rng = np.random.default_rng(0)
    weights = {"w": rng.standard_normal((16, 8, 3, 3), np.float32), "v": rng.standard_normal((64, 1296), np.float32)}
    for suffix, pipeline in (("", ""), (".pruned", "prune{sparsity=0.9}")):
        graph = irkit.parse(GRAPH, weights)
        if not pipeline:
            constants: dict[str, Any] = {}
            (folder / "net.ir").write_text(print_graph(graph, constants) + "\n")
            write_constants(folder / "net.ir", constants)
        else:
            irkit.optimize(graph, pipeline)
        irkit.compile(graph, target="arm64-fp32").save(folder / f"net{suffix}.bytes")
    return folder


def test_contents(wheel: Path) -> None:
    abi = f"cp3{sys.version_info.minor}"
    assert re.fullmatch(rf"irkit_compiler-{irkit.__version__}-{abi}-{abi}-manylinux_2_\d+_aarch64\.whl", wheel.name)
    with zipfile.ZipFile(wheel) as z:
        names = set(z.namelist())
        modules = {n for n in names if n.endswith(".so")}
        suffix = f"cpython-3{sys.version_info.minor}-aarch64-linux-gnu.so"
        assert modules == {f"irkit/{m}.{suffix}" for m in ("_native", "quant/observe", "sparse/encode")}
        newest = max(int(v) for m in modules for v in re.findall(rb"GLIBC_2\.(\d+)\0", z.read(m)))
        assert f"manylinux_2_{newest}_" in wheel.name
        assert b"libstdc++.so" not in z.read(f"irkit/_native.{suffix}")
        for path in sorted((builds.ROOT / "kernels").rglob("*.*")):
            kept = path.is_file() and not {"testing", "peaks", "python"} & set(path.parts)
            name = f"irkit/deploy/{path.relative_to(builds.ROOT)}"
            assert (name in names) == kept, name
            assert not kept or z.read(name) == path.read_bytes()
        templates = {p.name for p in (builds.ROOT / "irkit/deploy/templates").iterdir()}
        assert {f"irkit/deploy/templates/{t}" for t in templates} <= names
    assert wheel.stat().st_size < 2_000_000


def test_runs_on_arm64(wheel: Path, data: Path, root: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as z:
        z.extractall(tmp_path / "site")
    work = tmp_path / "work"  # the tests without the package beside them
    (work / "tests/deploy").mkdir(parents=True)
    for name in ("pyproject.toml", "tests/__init__.py", "tests/conftest.py", "kernels", "tests/kernels", "tests/ops",
                 "tests/quant", "tests/deploy/__init__.py", "tests/deploy/on_device.py",
                 "tests/deploy/sampled.py"):  # fmt: skip
        source = builds.ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, work / name)
    running = {}
    for first, (cpu, level) in enumerate(builds.CPUS.items()):
        env = {k: v for k, v in os.environ.items() if not k.startswith(("IRKIT_", "PYTHON", "PYTEST_"))}
        env |= {
            "PYTHONPATH": f"{tmp_path / 'site'}:{work}", "IRKIT_TEST_SAMPLE": f"{EVERY}:{first}",
            "IRKIT_TEST_DATA": str(data), "IRKIT_TEST_LEVEL": level,
        }  # fmt: skip
        command = [
            "qemu-aarch64", "-cpu", cpu, "-L", str(root), str(root / "usr/bin" / PYTHON), "-m", "pytest", "-q",
            "-p", "no:cacheprovider", "-p", "tests.deploy.sampled", "tests/deploy/on_device.py", *TESTS,
        ]  # fmt: skip
        with (tmp_path / f"{level}.log").open("wb") as log:
            running[level] = subprocess.Popen(command, cwd=work, env=env, stdout=log, stderr=log)
    try:
        codes = {level: process.wait(timeout=1800) for level, process in running.items()}
    finally:
        for process in running.values():
            process.kill()
    for level, code in codes.items():
        log_text = (tmp_path / f"{level}.log").read_text()
        assert code == 0, f"{level}: {log_text[-6000:]}"
        passed = re.search(r"(\d+) passed", log_text)
        assert passed and int(passed[1]) >= 200, f"{level}: {log_text[-1000:]}"


def test_a_root_without_headers_is_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "setup.py", "build_ext"],
        cwd=builds.ROOT,
        env={**os.environ, "IRKIT_CROSS_ROOT": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0 and f"{tmp_path} holds no {PYTHON}/Python.h" in done.stderr
