"""The C++ sources of the runtime, and the part of them that a model needs."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from irkit.errors import DeployError

SHARED = ("base", "cmake", "include", "runtime", "tools")  # folders that are no kernel family
SUFFIXES = (".cc", ".h", ".inc")
# How a family's sources name another one.
_USES = re.compile(r'#include "([a-z0-9_]+)/|pick_kernel\("([a-z0-9_]+)"|irk_prepare_([a-z0-9_]+)')


def source_folder() -> Path:
    """The folder of the sources: a part of the installed package, or the repository's ``kernels``."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "deploy" / "kernels", package.parent / "kernels"):
        if (folder / "CMakeLists.txt").is_file():
            return folder
    raise DeployError(f"this installation of irkit lacks the runtime's sources ({package / 'deploy' / 'kernels'})")


def families_for(used: Iterable[str], folder: Path) -> list[str]:
    """The kernel families that steps of the families ``used`` need: these, and those that their sources name."""
    found: set[str] = set()
    left = list(used)
    while left:
        family = left.pop()
        if family in found:
            continue
        if not (folder / family / "prepare.cc").is_file():
            raise DeployError(f"the runtime's sources have no kernel family {family!r}")
        found.add(family)
        text = "".join(p.read_text() for p in sorted((folder / family).iterdir()) if p.suffix in SUFFIXES)
        names = {name for match in _USES.findall(text) for name in match if name}
        left += [n for n in names if (folder / n / "prepare.cc").is_file()]
    return sorted(found)


def copy_sources(target: Path, used: Iterable[str]) -> list[str]:
    """Copy the runtime with the families that ``used`` needs to a new folder; the families' names."""
    folder = source_folder()
    families = families_for(used, folder)
    target.mkdir()
    for name in (*SHARED, *families):
        shutil.copytree(folder / name, target / name)
    shutil.copy(folder / "CMakeLists.txt", target)
    shutil.copy(next(p for p in (folder / "LICENSE", folder.parent / "LICENSE") if p.is_file()), target)
    return families
