"""CMake builds that tests share, native and for 64-bit Arm: kept in build/ from run to run, checked once a run."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SYSROOT = "/usr/aarch64-linux-gnu"
CROSS = ("--toolchain", str(ROOT / "kernels/cmake/aarch64-linux-gnu.cmake"))
CPUS = {"cortex-a53": "neon", "cortex-a76": "neondot", "max,sve=off": "neoni8mm"}  # the ISA level each of them picks
_missing = [p for p in ("aarch64-linux-gnu-g++", "qemu-aarch64") if not shutil.which(p)]
HAS_ARM64 = not _missing
NO_ARM64 = f"no {' and no '.join(_missing)} (Debian: g++-aarch64-linux-gnu, libc6-dev-arm64-cross, qemu-user)"
needs_arm64 = pytest.mark.skipif(not HAS_ARM64, reason=NO_ARM64)
# Where irkit-run and the C++ tests are tried.
MACHINES = ("native", "arm64") if HAS_ARM64 else ("native",)


_lock = threading.Lock()  # functools.cache lets two threads build at once


def build(name: str, *options: str) -> Path:
    """The folder build/``name``, configured with these options and built; AssertionError with the tools' messages."""
    with _lock:
        return _build(name, *options)


@functools.cache
def _build(name: str, *options: str) -> Path:
    folder = ROOT / "build" / name
    generator = ["-G", "Ninja"] if shutil.which("ninja") and not (folder / "Makefile").exists() else []
    _finish(["cmake", "-S", str(ROOT / "kernels"), "-B", str(folder), *generator, *options])
    _finish(["cmake", "--build", str(folder), "--parallel", "2"])
    return folder


def machine(name: str) -> Path:
    """The one build for one of MACHINES: all kernel families, libraries, irkit-run and the C++ test programs."""
    return build(name, "-DIRKIT_TESTS=ON", *(CROSS if name == "arm64" else ()))


def emulated(cpu: str, *command: str | Path) -> list[str]:
    """The command that runs a program of the cross build on an emulated CPU."""
    return ["qemu-aarch64", "-cpu", cpu, "-L", SYSROOT, *map(str, command)]


def tool(name: str, cpu: str = "max,sve=off") -> list[str]:
    """The command irkit-run for one of MACHINES; ``cpu`` is what an emulated one has."""
    program = machine(name) / "irkit-run"
    return emulated(cpu, program) if name == "arm64" else [str(program)]


def run(command: Sequence[str | Path], **env: str) -> subprocess.CompletedProcess[str]:
    """The finished command; of irkit's settings its environment has those in ``env`` only."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("IRKIT_")}
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=600, env={**clean, **env})


def _finish(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
