"""An exported model: a folder with the artifact, the runtime's sources, a C example and a sample, ready for CMake."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import numpy.typing as npt

from irkit.deploy.sources import copy_sources
from irkit.errors import DeployError

Array = npt.NDArray[np.generic]
GNU_TOOLCHAIN = "runtime/cmake/aarch64-linux-gnu.cmake"
OWN_TOOLCHAIN = "toolchain.cmake"
MARKS = ("model.irk", "runtime/include/irkit.h")  # what tells an exported folder from any other
MAX_PORTS = 64  # of the example, see templates/main.c


@dataclass(frozen=True)
class Port:
    """An input or output: what it is called, what the user sees (``f32[1,3]``), and its value in the sample."""

    name: str
    type: str
    sample: Array


@dataclass(frozen=True)
class Contents:
    """All that an exported project is made of."""

    artifact: bytes
    families: frozenset[str]  # of the artifact's steps
    target: str  # "arm64-int8", or empty
    inputs: Sequence[Port]
    outputs: Sequence[Port]
    given: bool  # the sample is the user's, not made up


def write_project(
    folder: str | os.PathLike[str],
    contents: Contents,
    toolchain: str | os.PathLike[str] | None = None,
    force: bool = False,
) -> Path:
    """Write the project: all of it or nothing. Returns the folder.

    toolchain: a CMake toolchain file of the user's, copied into the project. force: replace an earlier export.
    Raises DeployError when the folder is in use, can't be written, or something the project needs is not there.
    """
    target = Path(os.path.abspath(folder))
    check_free(target, force)
    if toolchain is not None and not Path(toolchain).is_file():
        raise DeployError(f"toolchain file {os.fspath(toolchain)} does not exist")
    if max(len(contents.inputs), len(contents.outputs)) > MAX_PORTS:
        raise DeployError(f"the C example takes at most {MAX_PORTS} inputs and outputs")
    try:
        with new_folder(target) as new:
            _fill(new, target.name, contents, toolchain)
    except OSError as e:
        raise DeployError(f"cannot write {target}: {e.strerror or e}") from e
    return target


def check_free(target: Path, force: bool) -> None:
    """DeployError unless the folder may be written: absent, empty, or with ``force`` an earlier export."""
    if not target.parent.is_dir():
        raise DeployError(f"cannot write {target}: there is no folder {target.parent}")
    if not os.path.lexists(target):
        return
    if target.is_symlink() or not target.is_dir():
        raise DeployError(f"cannot write {target}: it exists and is not a folder")
    if not any(target.iterdir()):
        return
    if not force:
        raise DeployError(f"{target} is not empty; give another folder, or use force (--force) to replace an export")
    if not all((target / m).is_file() for m in MARKS):
        raise DeployError(f"{target} holds something else than an exported model; it is not replaced, even with force")


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A folder that takes the place of ``target`` when the block ends well, and vanishes when it does not."""
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        new = work / "new"
        new.mkdir()
        yield new
        if target.exists() and any(target.iterdir()):
            os.rename(target, work / "old")
        try:
            os.rename(new, target)
        except OSError:
            if (work / "old").exists():
                os.rename(work / "old", target)
            raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _fill(new: Path, title: str, c: Contents, toolchain: str | os.PathLike[str] | None) -> None:
    families = copy_sources(new / "runtime", c.families)
    (new / "model.irk").write_bytes(c.artifact)
    (new / "sample").mkdir()
    names: dict[str, list[str]] = {"input": [], "expected": []}
    for kind, ports in (("input", c.inputs), ("expected", c.outputs)):
        for i, p in enumerate(ports):
            names[kind].append(f"sample/{kind}{i}.npy")
            np.save(new / names[kind][-1], np.asarray(p.sample, order="C"), allow_pickle=False)
    arguments = " ".join(["model.irk", *names["input"], "--expect", *names["expected"]])
    if toolchain is not None:
        shutil.copyfile(toolchain, new / OWN_TOOLCHAIN)
    used = OWN_TOOLCHAIN if toolchain is not None else GNU_TOOLCHAIN
    values = {
        "ARGUMENTS": arguments,
        "TITLE": title,
        "PORTS": "\n".join([*_lines("input", c.inputs), *_lines("output", c.outputs)]),
        "COMMANDS": _commands(arguments, used),
        "SIZE": f"{len(c.artifact) / 1e6:.2f}",
        "TARGET": f", compiled for {c.target}" if c.target else "",
        "FAMILIES": ", ".join(families),
        "SAMPLE": "yours" if c.given else "made up, as none were given",
        "TOOLCHAIN_ROW": f"| `{OWN_TOOLCHAIN}` | your CMake toolchain file |\n" if toolchain is not None else "",
    }
    for name in ("CMakeLists.txt", "README.md", "main.c"):
        text = (files("irkit.deploy") / "templates" / name).read_text(encoding="utf-8")
        for key, value in values.items():
            text = text.replace(f"@{key}@", value)
        (new / name).write_text(text, encoding="utf-8")


def _lines(kind: str, ports: Iterable[Port]) -> list[str]:
    return [f"- {kind} `{p.name}`: `{p.type}`" for p in ports]


def _commands(arguments: str, toolchain: str) -> str:
    """The README's two ways to build, each one command, and to run."""
    block = "{}\n\n```console\n$ {}\n$ {}\n```"
    native = block.format(
        "On the machine that runs it:",
        "cmake -B build && cmake --build build --parallel 4",
        f"build/example {arguments}",
    )
    cross = block.format(
        "For 64-bit Arm Linux, on any machine with a cross compiler (Debian: `g++-aarch64-linux-gnu`):"
        if toolchain == GNU_TOOLCHAIN
        else "With the toolchain file given on export:",
        f"cmake -B build-cross --toolchain {toolchain} && cmake --build build-cross --parallel 4",
        f"qemu-aarch64 -L /usr/aarch64-linux-gnu build-cross/example {arguments}    # or copy it to the device",
    )
    return f"{native}\n\n{cross}"
