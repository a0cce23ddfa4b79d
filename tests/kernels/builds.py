"""CMake builds that tests use, native and for 64-bit Arm; kept in build/ from run to run."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
SYSROOT = "/usr/aarch64-linux-gnu"
CROSS = ["--toolchain", str(ROOT / "kernels/cmake/aarch64-linux-gnu.cmake")]
HAS_CROSS = bool(shutil.which("aarch64-linux-gnu-g++"))
HAS_EMULATOR = bool(shutil.which("qemu-aarch64"))
NO_ARM = "needs g++-aarch64-linux-gnu, libc6-dev-arm64-cross and qemu-user"
# What irkit-run is built and tried for here.
MACHINES = ["native", "arm64"] if HAS_CROSS and HAS_EMULATOR else ["native"]


def build(name: str, options: Sequence[str] = (), targets: Sequence[str] = ()) -> Path:
    """The folder build/``name``, configured and built; AssertionError with the tools' messages when that fails."""
    folder = ROOT / "build" / name
    ninja = ["-G", "Ninja"] if shutil.which("ninja") and not (folder / "Makefile").exists() else []
    _finish(["cmake", "-S", str(ROOT / "kernels"), "-B", str(folder), *ninja, *options])
    _finish(["cmake", "--build", str(folder), "--parallel", "2", *(["--target", *targets] if targets else [])])
    return folder


def tool(machine: str, cpu: str = "max,sve=off") -> list[str]:
    """The command irkit-run, with all kernel families, for one of MACHINES; ``cpu`` is what an emulated one has."""
    folder = build(f"run-{machine}", CROSS if machine == "arm64" else [], ["irkit-run"])
    launch = ["qemu-aarch64", "-cpu", cpu, "-L", SYSROOT] if machine == "arm64" else []
    return [*launch, str(folder / "irkit-run")]


def run(command: Sequence[str | Path], **env: str) -> subprocess.CompletedProcess[str]:
    """The finished command; of irkit's settings its environment has those in ``env`` only."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("IRKIT_")}
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=600, env={**clean, **env})


def _finish(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
