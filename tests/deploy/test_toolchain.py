"""Cross compilers: which one is taken, what is said of those that are not, and what the commands print and write."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import irkit
from irkit.cli import app
from irkit.deploy import build, toolchain
from irkit.deploy.toolchain import Missing, c_compiler, candidates, find_compiler
from irkit.errors import DeployError
from tests import builds
from tests.e2e.samples import ZOO

GRAPH = """func @main(%x: i8[1,4]) {
  %y = concat(%x, %x) {axis=1} : i8[1,8]
  return(%y)
}
"""
FAKE = """#!/bin/sh
case "$*" in
  *--version*) echo "{name} 99.1" ;;
  *-dumpmachine*) echo {machine} ;;
  *) echo "t.cc: fatal error: {name} compiles nothing" >&2; exit 1 ;;
esac
"""


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with no compiler at all: the only folder of PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv(toolchain.VARIABLE, raising=False)
    monkeypatch.setattr(toolchain.importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(toolchain.platform, "machine", lambda: "x86_64")
    return folder


def fake(folder: Path, *names: str, machine: str = "aarch64-linux-gnu") -> None:
    """Compilers that say who they are, and no more."""
    for name in names:
        (folder / name).write_text(FAKE.format(name=name, machine=machine))
        (folder / name).chmod(0o755)


def command(*arguments: str) -> Any:
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})


def test_nothing_there(bare: Path) -> None:
    assert [c.place for c in candidates()] == [toolchain.VARIABLE, "aarch64-linux-gnu-g++", "clang++", "ziglang"]
    with pytest.raises(DeployError) as e:
        find_compiler()
    for words in ("IRKIT_CXX_ARM64: is not set", "there is no aarch64-linux-gnu-g++", "clang", "irkit-compiler[cross]"):
        assert words in str(e.value)
    done = command("toolchain")
    assert done.exit_code == 1 and "Debian, Ubuntu: g++-aarch64-linux-gnu" in done.output


def test_order(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain, "sysroot", lambda _: bare)
    fake(bare, "clang-9", "clang++-9", "clang-19", "clang++-19", "clang++-old")
    assert find_compiler().cxx == ("clang++-19", "--target=aarch64-linux-gnu")
    fake(bare, "clang", "clang++")
    assert find_compiler().cxx == ("clang++", "--target=aarch64-linux-gnu")
    assert find_compiler().cc == ("clang", "--target=aarch64-linux-gnu")
    fake(bare, "aarch64-linux-gnu-g++", "aarch64-linux-gnu-gcc")
    assert find_compiler().cxx == ("aarch64-linux-gnu-g++",)
    assert find_compiler().version == "aarch64-linux-gnu-g++ 99.1"
    fake(bare, "my-g++", "my-gcc")
    monkeypatch.setenv(toolchain.VARIABLE, f"'{bare / 'my-g++'}' -mcpu=cortex-a76")
    assert find_compiler().cxx == (str(bare / "my-g++"), "-mcpu=cortex-a76")
    assert find_compiler().cc == (str(bare / "my-gcc"), "-mcpu=cortex-a76")
    monkeypatch.delenv(toolchain.VARIABLE)
    monkeypatch.setattr(toolchain.platform, "machine", lambda: "aarch64")
    fake(bare, "c++", "cc")
    assert find_compiler().place == "c++ of this machine"


def test_zig(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Spec:
        submodule_search_locations = (str(bare),)

    fake(bare, "zig")
    monkeypatch.setattr(toolchain.importlib.util, "find_spec", lambda _: Spec)
    found = find_compiler()
    assert found.is_zig and found.cxx == (str(bare / "zig"), "c++", "-target", toolchain.ZIG_TARGET)
    assert found.cc[1] == "cc"
    text = toolchain.cmake_file(found)
    assert f'set(CMAKE_CXX_COMPILER "{bare}/zig" "c++" "-target" "{toolchain.ZIG_TARGET}")' in text
    assert "CMAKE_CXX_ARCHIVE_CREATE" in text


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("nowhere-g++", "there is no nowhere-g++"),
        ("'half", "is no command"),
        ("x86-g++", "x86-g++ compiles for x86_64-linux-gnu"),
        ("lonely-g++", "no C compiler belongs to lonely-g++"),
        ("compiler", "no C compiler belongs to compiler"),
        ("broken-g++", "broken-g++ does not run"),
    ],
)
def test_a_compiler_asked_for_is_never_replaced(
    value: str, message: str, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(bare, "aarch64-linux-gnu-g++", "aarch64-linux-gnu-gcc", "lonely-g++", "compiler")
    fake(bare, "x86-g++", "x86-gcc", machine="x86_64-linux-gnu")
    for name in ("broken-g++", "broken-gcc"):
        (bare / name).write_text("#!/bin/sh\nexit 1\n")
        (bare / name).chmod(0o755)
    monkeypatch.setenv(toolchain.VARIABLE, value)
    with pytest.raises(DeployError, match=re.escape(message)):
        find_compiler()
    assert command("toolchain").exit_code == 1


def test_clang_without_libraries(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(bare, "clang", "clang++")
    monkeypatch.setattr(toolchain, "sysroot", lambda _: None)
    found = {c.place: c for c in candidates()}["clang++"]
    assert isinstance(found, Missing) and found.why == "is there, but arm64 libraries are not"


@pytest.mark.parametrize(
    ("cxx", "cc"),
    [
        (("g++",), ("gcc",)),
        (("/opt/g++/bin/aarch64-none-linux-gnu-g++-13.2",), ("/opt/g++/bin/aarch64-none-linux-gnu-gcc-13.2",)),
        (("ccache", "clang++-19", "-O2"), ("ccache", "clang-19", "-O2")),
        (("zig", "c++"), ("zig", "cc")),
        (("icpx",), None),
    ],
)
def test_c_compiler(cxx: tuple[str, ...], cc: tuple[str, ...] | None) -> None:
    assert c_compiler(cxx) == cc


def test_a_compiler_that_fails(bare: Path) -> None:
    fake(bare, "aarch64-linux-gnu-g++", "aarch64-linux-gnu-gcc")
    trials = toolchain.try_levels(find_compiler())
    assert [t.level for t in trials] == list(toolchain.LEVELS)
    assert all(not t.compiles and t.runs is None and "compiles nothing" in t.message for t in trials)
    done = command("toolchain")
    assert done.exit_code == 1 and "compiles nothing" in done.output and "qemu-user" in done.output


def test_flags_are_those_of_the_build() -> None:
    text = (builds.ROOT / "kernels/CMakeLists.txt").read_text()
    for level, (march, _, _) in toolchain.LEVELS.items():
        flags = f"-march={march}" if march else '""'
        assert f"set(FLAGS_{level} {flags})" in text


@builds.needs_arm64
def test_this_machine(tmp_path: Path) -> None:
    compiler = find_compiler()
    assert [(t.compiles, t.runs) for t in toolchain.try_levels(compiler)] == [(True, True)] * 3
    done = command("toolchain", "-o", str(tmp_path / "arm64.cmake"))
    assert done.exit_code == 0 and done.output.count("yes") == 6, done.output
    assert (tmp_path / "arm64.cmake").read_text() == toolchain.cmake_file(compiler)


@builds.needs_arm64
def test_a_level_the_compiler_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(toolchain.LEVELS, "neondot", ("armv99-a", "cortex-a76", "128"))
    march, _, line = toolchain.LEVELS["neoni8mm"]
    monkeypatch.setitem(toolchain.LEVELS, "neoni8mm", (march, "cortex-a53", line))
    _, dot, i8mm = toolchain.try_levels(find_compiler())
    assert not dot.compiles and "armv99-a" in dot.message
    assert i8mm.compiles and i8mm.runs is False  # an illegal instruction there


@pytest.mark.slow
@builds.needs_arm64
def test_export_and_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.ir").write_text(GRAPH.replace("i8", "f32"))
    np.save(tmp_path / "x.npy", np.float32([[1, 2, 3, 4]]))
    monkeypatch.chdir(tmp_path)
    done = command("export", "net.ir", "-i", "x.npy", "-t", "arm64-fp32", "-o", "net", "--build")
    assert done.exit_code == 0 and "gives the same bits as here" in done.output, done.output
    shown = subprocess.run(["file", "-b", "net/build-cross/example"], capture_output=True, text=True).stdout
    assert "aarch64" in shown.lower() or not shown
    assert np.load("net/sample/expected0.npy").tolist() == [[1, 2, 3, 4, 1, 2, 3, 4]]
    np.save("net/sample/expected0.npy", np.zeros((1, 8), np.float32))  # now another answer is expected
    assert build.build_project(tmp_path / "net", "arm64").same_bits is False

    # The artifact exports, too; with a toolchain file of the user's own.
    assert command("toolchain", "-o", "mine.cmake").exit_code == 0
    done = command("export", "net/model.irk", "-i", "x.npy", "-o", "again", "--toolchain", "mine.cmake", "--build")
    assert done.exit_code == 0 and "not run" in done.output, done.output
    for arguments, message in (
        (["net/model.irk", "-o", "net"], "is not empty"),
        (["net/model.irk", "-o", "x", "-t", "arm64-fp32"], "--target can't change it"),
        (["nowhere.irk", "-o", "x"], "nowhere.irk"),
        (["net.ir", "-o", "x.npy"], "exists and is not a folder"),
        (["net/model.irk", "-o", "x", "--toolchain", "none.cmake"], "none.cmake does not exist"),
    ):
        failed = command("export", *arguments)
        assert failed.exit_code == 1 and message in failed.output, failed.output


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which(toolchain.clang_name()), reason="no clang++ (Debian: clang)")
@pytest.mark.parametrize("machine", builds.MACHINES)
def test_clang_builds_the_runtime(machine: str, compiled: Callable[[str, str], Any], tmp_path: Path) -> None:
    """All kernels, without a warning, and with the same bits as what GCC made."""
    cxx = toolchain.clang_name()
    options = [f"-DCMAKE_CXX_COMPILER={cxx}", f"-DCMAKE_C_COMPILER={cxx.replace('++', '')}"]
    launch = []
    if machine == "arm64":
        compiler = toolchain._clang()
        assert isinstance(compiler, toolchain.Compiler)
        (builds.ROOT / "build/clang-arm64.cmake").write_text(toolchain.cmake_file(compiler))
        options = ["--toolchain", str(builds.ROOT / "build/clang-arm64.cmake")]
        launch = toolchain.launcher(compiler) or []
    program = builds.build(f"clang-{machine}", *options) / "irkit-run"
    for precision in ("int8", "fp32"):
        exe, x = compiled("fashion_torch", precision), ZOO["fashion_torch"].inputs(1, 5)[0]
        exe.save(tmp_path / "net.irk")
        np.save(tmp_path / "x.npy", x)
        done = builds.run([*launch, program, tmp_path / "net.irk", "--input", tmp_path / "x.npy",
                           "--output", tmp_path / "y.npy"])  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert np.load(tmp_path / "y.npy").tobytes() == exe.run_flat([x])[0].tobytes()


def test_build_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = irkit.compile(irkit.parse(GRAPH)).export(tmp_path / "net")
    with pytest.raises(DeployError, match="cross compilers for arm64 only"):
        build.build_project(folder, "sparc")
    (folder / "main.c").unlink()
    here = build.MACHINES[build.platform.machine()]
    with pytest.raises(DeployError, match=r"(?s)failed:.*main\.c"):
        build.build_project(folder, here)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeployError, match="cmake is not installed"):
        build.build_project(folder, here)
