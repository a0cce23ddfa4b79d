"""Exported projects: what is in them, that they build with one command, natively and cross, and give Python's bits."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import irkit
from irkit.deploy import project, sources
from irkit.errors import DeployError, FallbackError, InputError
from tests import builds
from tests.e2e.samples import crop, imagenet_input, photographs

GRAPH = """func @main(%x: f32[1,4], %mask: bool[1,4]) {
  %a = relu(%x) : f32[1,4]
  return(%a, %mask)
}
"""


@pytest.fixture
def small() -> Any:
    """A model of one step, two inputs and two outputs."""
    return irkit.compile(irkit.parse(GRAPH))


@pytest.fixture(scope="module")
def exported(compiled: Callable[[str, str], Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """EfficientNet-Lite0 in int8 with a photograph as sample; and its scores."""
    exe = compiled("efficientnet_lite0", "int8")
    photo = imagenet_input(crop(photographs()[0], None))
    folder = tmp_path_factory.mktemp("export") / "net"
    return exe.export(folder, [photo]), exe(photo)


def console(folder: Path) -> list[str]:
    """The commands that the project's README gives."""
    return re.findall(r"^\$ (.*)$", (folder / "README.md").read_text(), re.M)


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return builds.run(["sh", "-c", f"cd {folder} && {command}"])


def check_answer(done: subprocess.CompletedProcess[str], scores: np.ndarray) -> None:
    """The program printed the five highest scores and found all bits as expected."""
    assert done.returncode == 0, done.stdout + done.stderr
    best = np.argsort(-scores[0], kind="stable")[:5]
    assert re.findall(r"^  (\d+): (\S+)$", done.stdout, re.M) == [(str(i), f"{scores[0, i]:.9g}") for i in best]
    assert "the bits of sample/expected0.npy" in done.stdout


@pytest.mark.slow
def test_builds_and_answers_here(exported: tuple[Path, Any]) -> None:
    folder, scores = exported
    build, run, *_ = console(folder)
    strict = "-DCMAKE_C_FLAGS='-Werror -pedantic-errors'"  # the example is C99 without a warning
    built = shell(build.replace("cmake -B build", f"cmake -B build {strict}"), folder)
    assert built.returncode == 0, built.stdout[-3000:] + built.stderr[-3000:]
    check_answer(shell(run, folder), scores)
    tested = shell("ctest --test-dir build", folder)
    assert "100% tests passed" in tested.stdout and "out of 1" in tested.stdout
    described = shell("build/runtime/irkit-run model.irk --describe", folder)
    assert described.returncode == 0 and "qconv" in described.stdout
    linked = shell("ldd build/example", folder).stdout
    assert "libc.so" in linked and "libstdc++" not in linked and "libgcc_s" not in linked

    # What it says when things do not fit.
    x, y = np.load(folder / "sample/input0.npy"), np.load(folder / "sample/expected0.npy")
    np.save(folder / "double.npy", x.astype(np.float64))
    np.save(folder / "fortran.npy", np.asfortranarray(x))
    y[0, 3] = np.nextafter(y[0, 3], np.float32(2))
    np.save(folder / "other.npy", y)
    (folder / "raw.bin").write_bytes(x.tobytes())
    (folder / "short.bin").write_bytes(x.tobytes()[:-4])
    for arguments, code, message in (
        ("model.irk raw.bin --expect sample/expected0.npy", 0, "the bits of"),
        ("model.irk sample/input0.npy --expect other.npy", 1, "other.npy: the output is different"),
        ("model.irk double.npy", 1, "double.npy: expected f32, 602112 bytes"),
        ("model.irk fortran.npy", 1, "fortran.npy: expected f32"),
        ("model.irk short.bin", 1, "short.bin: expected f32, 602112 bytes"),
        ("model.irk nowhere.npy", 1, "nowhere.npy: can't be read"),
        ("nowhere.irk raw.bin", 1, "nowhere.irk"),
        ("main.c raw.bin", 1, "example: main.c: "),
        ("model.irk", 1, "1 input(s) and 1 output(s)"),
        ("model.irk raw.bin --expect", 2, "usage"),
    ):
        done = shell(f"build/example {arguments}", folder)
        assert (done.returncode, message in done.stdout + done.stderr) == (code, True), (arguments, done)


@pytest.mark.slow
@builds.needs_arm64
def test_builds_and_answers_on_arm64(exported: tuple[Path, Any]) -> None:
    folder, scores = exported
    build, run = console(folder)[2:]
    built = shell(build, folder)
    assert built.returncode == 0, built.stdout[-3000:] + built.stderr[-3000:]
    for cpu, level in builds.CPUS.items():
        done = shell(run.replace("qemu-aarch64", f"qemu-aarch64 -cpu {cpu}"), folder)
        check_answer(done, scores)
        assert f": {level} kernels" in done.stdout
    tested = shell("ctest --test-dir build-cross", folder)  # the toolchain file names the emulator
    assert "100% tests passed" in tested.stdout and "out of 1" in tested.stdout
    static = build.replace("--toolchain", "-DCMAKE_EXE_LINKER_FLAGS=-static --toolchain")
    assert shell(static, folder).returncode == 0
    check_answer(shell(run.replace("-L /usr/aarch64-linux-gnu", ""), folder), scores)  # with no library at all


def test_contents(small: Any, tmp_path: Path) -> None:
    folder = small.export(tmp_path / "net")
    assert folder == tmp_path / "net" and [p.name for p in tmp_path.iterdir()] == ["net"]
    assert {p.name for p in folder.iterdir()} == {
        "CMakeLists.txt",
        "README.md",
        "main.c",
        "model.irk",
        "runtime",
        "sample",
    }
    families = {p.name for p in (folder / "runtime").iterdir() if (p / "prepare.cc").exists()}
    assert families == {"eltwise", "move"}
    assert "@" not in (folder / "CMakeLists.txt").read_text() + (folder / "README.md").read_text()
    loaded = irkit.load(folder / "model.irk")
    feeds = [np.load(folder / f"sample/input{i}.npy") for i in range(2)]
    assert feeds[0].dtype == np.float32 and feeds[1].dtype == np.bool_
    for i, y in enumerate(loaded(*feeds)):
        assert np.array_equal(np.load(folder / f"sample/expected{i}.npy"), y)
    again = loaded.export(tmp_path / "again")  # what was loaded exports alike
    for p in folder.rglob("*"):
        if p.is_file() and p.name != "README.md":  # its title is the folder's name
            assert p.read_bytes() == (again / p.relative_to(folder)).read_bytes(), p


def test_given_inputs_and_toolchain(small: Any, tmp_path: Path) -> None:
    x, mask = np.float32([[1, -2, 3, -4]]), np.array([[True, False, True, True]])
    (tmp_path / "my.cmake").write_text("set(CMAKE_SYSTEM_NAME Linux)\n")
    folder = small.export(tmp_path / "net", [x, mask], toolchain=tmp_path / "my.cmake")
    assert np.array_equal(np.load(folder / "sample/input0.npy"), x)
    assert np.load(folder / "sample/expected0.npy").tolist() == [[1, 0, 3, 0]]
    assert (folder / "toolchain.cmake").read_text() == "set(CMAKE_SYSTEM_NAME Linux)\n"
    assert "--toolchain toolchain.cmake" in (folder / "README.md").read_text()
    with pytest.raises(InputError, match=r"input 'x': expected shape \(1, 4\), got \(1, 3\)"):
        small.export(tmp_path / "other", [x[:, :3], mask])
    with pytest.raises(DeployError, match=r"toolchain file nowhere\.cmake does not exist"):
        small.export(tmp_path / "other", toolchain="nowhere.cmake")
    assert not (tmp_path / "other").exists()


def test_folders_in_use(small: Any, tmp_path: Path) -> None:
    full, file, empty = tmp_path / "full", tmp_path / "file", tmp_path / "empty"
    full.mkdir()
    (full / "thesis.txt").write_text("years of work")
    file.touch()
    empty.mkdir()
    (tmp_path / "link").symlink_to(empty)
    for target, force, message in (
        (full, False, "is not empty"),
        (full, True, "something else than an exported model"),
        (file, True, "exists and is not a folder"),
        (tmp_path / "link", True, "exists and is not a folder"),
        (tmp_path / "no/where", False, "there is no folder"),
    ):
        with pytest.raises(DeployError, match=message):
            small.export(target, force=force)
    assert (full / "thesis.txt").read_text() == "years of work"
    small.export(empty)
    with pytest.raises(DeployError, match="is not empty"):
        small.export(empty)
    (empty / "stale").touch()
    small.export(empty, force=True)
    assert (empty / "model.irk").exists() and not (empty / "stale").exists()


def test_all_or_nothing(small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = small.export(tmp_path / "net")
    (folder / "mine").touch()

    def full_disk(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full_disk)
    for target in (tmp_path / "net", tmp_path / "new"):
        with pytest.raises(DeployError, match=f"cannot write {target}: No space left on device"):
            small.export(target, force=True)
    assert [p.name for p in tmp_path.iterdir()] == ["net"] and (folder / "mine").exists()

    monkeypatch.undo()
    rename = project.os.rename

    def fails_at_last(a: Any, b: Any) -> None:
        if Path(a).name == "new":
            raise OSError(5, "Input/output error")
        rename(a, b)

    monkeypatch.setattr(project.os, "rename", fails_at_last)
    with pytest.raises(DeployError, match="Input/output error"):
        small.export(folder, force=True)
    assert [p.name for p in tmp_path.iterdir()] == ["net"] and (folder / "mine").exists()


def test_fallbacks_are_refused(tmp_path: Path) -> None:
    exe = irkit.compile(irkit.parse("func @main(%x: f64[4]) {\n  %y = relu(%x) : f64[4]\n  return(%y)\n}\n"))
    with pytest.raises(FallbackError, match="relu"):
        exe.export(tmp_path / "net")
    assert not (tmp_path / "net").exists()


ALL = sorted(p.parent.name for p in sources.source_folder().glob("*/prepare.cc"))


@pytest.mark.parametrize("family", ALL)
def test_what_a_family_needs_is_copied(family: str, tmp_path: Path) -> None:
    sources.copy_sources(tmp_path / "runtime", [family])
    for path in (tmp_path / "runtime").rglob("*"):
        if path.suffix not in sources.SUFFIXES or path.parent.name == "tools":
            continue
        for name in re.findall(r'^#include "(.*)"', path.read_text(), re.M):
            places = [tmp_path / "runtime" / name, tmp_path / "runtime/include" / name, path.parent / name]
            assert any(p.is_file() for p in places) or name.startswith("irk_"), f"{path}: {name}"


def test_families_by_name() -> None:
    folder = sources.source_folder()
    assert sources.families_for(["chain"], folder) == ["chain", "conv", "dwconv"]
    assert sources.families_for([], folder) == []
    with pytest.raises(DeployError, match="no kernel family 'nothing'"):
        sources.families_for(["nothing"], folder)


def test_installation_without_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "irkit" / "deploy"
    package.mkdir(parents=True)
    monkeypatch.setattr(sources, "__file__", str(package / "sources.py"))
    with pytest.raises(DeployError, match="lacks the runtime's sources"):
        sources.source_folder()
    shutil.copytree(Path(project.__file__).parents[2] / "kernels/base", package / "kernels/base")
    (package / "kernels/CMakeLists.txt").touch()
    assert sources.source_folder() == package / "kernels"
