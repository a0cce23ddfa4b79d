"""The cross build for 64-bit Arm and its emulated CPUs, shared by all tests that need them: built once per test run."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SYSROOT = "/usr/aarch64-linux-gnu"
TOOLCHAIN = ROOT / "kernels/cmake/aarch64-linux-gnu.cmake"
CPUS = {"cortex-a53": "neon", "cortex-a76": "neondot", "max,sve=off": "neoni8mm"}  # the level each of them picks
missing = [p for p in ("aarch64-linux-gnu-g++", "qemu-aarch64", "cmake") if not shutil.which(p)]
needed = pytest.mark.skipif(bool(missing), reason=f"no {', '.join(missing)} (Debian: g++-aarch64-linux-gnu, qemu-user)")


@functools.cache
def build() -> Path:
    """The folder of the cross build: all kernel families, libraries, irkit-run and the C++ test programs.

    It stays from run to run; only what changed is built again.
    """
    return cmake_build("arm64", "--toolchain", str(TOOLCHAIN), "-DIRKIT_TESTS=ON")


def cmake_build(name: str, *options: str) -> Path:
    """build/``name``, configured with these options and built."""
    folder = ROOT / "build" / name
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    for command in (
        ["cmake", "-S", str(ROOT / "kernels"), "-B", str(folder), *generator, *options],
        ["cmake", "--build", str(folder), "--parallel", "2"],
    ):
        made = subprocess.run(command, capture_output=True, text=True)
        assert made.returncode == 0, made.stdout[-4000:] + made.stderr[-4000:]
    return folder


def emulated(cpu: str, program: str | Path, *arguments: str | Path) -> list[str]:
    """The command that runs a program of the cross build on an emulated CPU."""
    return ["qemu-aarch64", "-cpu", cpu, "-L", SYSROOT, str(program), *map(str, arguments)]


def environment() -> dict[str, str]:
    """That of this process without irkit's settings."""
    return {k: v for k, v in os.environ.items() if not k.startswith("IRKIT_")}
