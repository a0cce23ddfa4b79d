"""Builds and runs the C++ tests: plain, under sanitizers, and for 64-bit Arm where its compiler and qemu are there."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from irkit import _native
from tests.builds import MACHINES, ROOT, build, emulated, machine, run

SANITIZED = {"asan": "address,undefined", "tsan": "thread"}


def cpp_tests(name: str) -> Path:
    """The folder of the C++ tests; under a sanitizer, with the one kernel family that they use."""
    if name in MACHINES:
        return machine(name)
    return build(f"cpp-{name}", "-DIRKIT_TESTS=ON", "-DIRKIT_FAMILIES=testing", f"-DIRKIT_SANITIZE={SANITIZED[name]}")


@pytest.mark.slow
@pytest.mark.parametrize("name", [*MACHINES, *SANITIZED])
def test_cpp(name: str) -> None:
    folder = cpp_tests(name)
    launch = emulated("max,sve=off") if name == "arm64" else []
    no_fork = ["no-fork"] if name in ("arm64", "tsan") else []
    forking = (["model_test", *no_fork], ["threads_test", *no_fork])
    plain = (["json_test"], ["number_test"], ["scratch_test"], ["allocator_test"])
    for test, *args in (*plain, *forking, ["mutate_test", "1000", "1"]):
        done = run([*launch, folder / test, *args])
        assert done.returncode == 0, f"{test}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
        assert " 0 failed" in done.stdout


def test_extension_exports_only_its_init_function() -> None:
    nm = shutil.which("nm")
    assert nm, "binutils come with every compiler"
    out = subprocess.run([nm, "-D", "--defined-only", _native.__file__], capture_output=True, text=True, check=True)
    names = {line.split()[-1] for line in out.stdout.splitlines()}
    ours = {n for n in names if "irk" in n.lower() and not n.startswith("irk_")}
    assert "PyInit__native" in names and not ours


def test_isa_files_leave_no_weak_symbols() -> None:
    """An inline function compiled for AVX-512 that wins at link time would crash every lesser CPU."""
    objects = [
        p
        for p in (ROOT / "build").glob("native-*/CMakeFiles/irkit_objects.dir/*/*.o")
        if p.name.startswith(("avx", "amx"))
    ]
    assert objects
    weak = []
    for o in objects:
        out = subprocess.run(["nm", "-C", str(o)], capture_output=True, text=True, check=True).stdout
        weak += [
            f"{o.parent.name}/{o.name}: {line}" for line in out.splitlines() if line[17:18] in "WVu" and line[17:18]
        ]
    assert not weak
