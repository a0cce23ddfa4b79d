"""Builds an exported project and runs its sample."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from irkit.deploy.project import OWN_TOOLCHAIN
from irkit.deploy.toolchain import Compiler, cmake_file, find_compiler, launcher
from irkit.errors import DeployError

MACHINES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}


@dataclass(frozen=True)
class Built:
    """A program, the compiler that made it, and whether its sample gave the expected bits (None: it can't run here)."""

    program: Path
    compiler: str
    same_bits: bool | None


def build_project(folder: Path, arch: str) -> Built:
    """Build an exported project for ``arm64`` or ``x86_64`` and run its sample if that can be done here.

    With a toolchain file of its own the project is built with that. Raises DeployError with the tools' last words.
    """
    cmake = shutil.which("cmake")
    if not cmake:
        raise DeployError("cmake is not installed (pip install cmake, or your system's package)")
    here = MACHINES.get(platform.machine().lower())
    own = folder / OWN_TOOLCHAIN
    compiler: Compiler | None = None
    out = folder / ("build" if arch == here and not own.is_file() else "build-cross")
    options: list[str] = []
    if own.is_file():
        options = ["--toolchain", str(own)]
    elif arch != here:
        if arch != "arm64":
            raise DeployError(f"irkit finds cross compilers for arm64 only; to build for {arch}, give --toolchain FILE")
        compiler = find_compiler()
        out.mkdir(exist_ok=True)
        (out / OWN_TOOLCHAIN).write_text(cmake_file(compiler), encoding="utf-8")
        options = ["--toolchain", str(out / OWN_TOOLCHAIN)]
    if shutil.which("ninja"):
        options += ["-G", "Ninja"]
    _run([cmake, "-S", str(folder), "-B", str(out), *options])
    _run([cmake, "--build", str(out), "--target", "example", "--parallel", str(os.cpu_count() or 1)])
    program = out / "example"
    return Built(program, compiler.version if compiler else _version(out), _check(folder, program, arch, compiler))


def _check(folder: Path, program: Path, arch: str, compiler: Compiler | None) -> bool | None:
    here = MACHINES.get(platform.machine().lower())
    launch: Sequence[str] | None = [] if arch == here else launcher(compiler) if compiler else None
    if launch is None:
        return None
    count = {kind: len(list((folder / "sample").glob(f"{kind}*.npy"))) for kind in ("input", "expected")}
    inputs, expected = ([f"sample/{kind}{i}.npy" for i in range(n)] for kind, n in count.items())
    done = subprocess.run(
        [*launch, str(program), "model.irk", *inputs, "--expect", *expected], cwd=folder, capture_output=True
    )
    return done.returncode == 0


def _version(out: Path) -> str:
    """The compiler that CMake took."""
    for path in out.glob("CMakeFiles/*/CMakeCXXCompiler.cmake"):
        found = re.findall(r'set\(CMAKE_CXX_COMPILER(?:_ID|_VERSION)? "(.*)"\)', path.read_text())
        return " ".join(found)
    return ""


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL)
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-20:])
        raise DeployError(f"{' '.join(command[:4])} failed:\n{last}")
