"""Builds the native parts: CMake makes irkit/_native, Cython each .pyx. All else is in pyproject.toml."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.sdist import sdist

ROOT = Path(__file__).resolve().parent
CYTHON = ("irkit/quant/observe.pyx", "irkit/sparse/encode.pyx")


class CMakeExtension(Extension):
    """An extension that kernels/CMakeLists.txt builds."""

    def __init__(self, name: str) -> None:
        super().__init__(name, sources=[])


class Build(build_ext):
    """build_ext that hands a CMakeExtension to CMake; incremental, as the build folder is kept."""

    def build_extension(self, ext: Any) -> None:
        """Build one extension."""
        if not isinstance(ext, CMakeExtension):
            super().build_extension(ext)
            return
        import pybind11

        tag = f"{sys.implementation.cache_tag}-{self.plat_name}"
        folder = ROOT / "build" / f"native-{tag}"
        configure = [
            "cmake", "-S", str(ROOT / "kernels"), "-B", str(folder),
            "-DIRKIT_PYTHON=ON", "-DIRKIT_TOOLS=OFF", "-DCMAKE_BUILD_TYPE=Release",
            f"-DPython_EXECUTABLE={sys.executable}", f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
        ]  # fmt: skip
        ninja = shutil.which("ninja")
        if ninja and not (folder / "Makefile").exists():
            configure += ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"]  # build environments come and go
        jobs = os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL") or str(os.cpu_count() or 1)
        if not _configured(folder, configure):
            subprocess.run(configure, check=True)
            (folder / "configured").write_text("\n".join(configure))
        subprocess.run(["cmake", "--build", str(folder), "--target", "_native", "--parallel", jobs], check=True)
        (built,) = (p for p in folder.glob("_native*") if p.suffix in (".so", ".pyd", ".dylib"))
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists() or target.stat().st_mtime_ns != built.stat().st_mtime_ns:
            temp = target.with_suffix(".tmp")  # renamed over: a process that has the old file mapped keeps it
            shutil.copy2(built, temp)
            os.replace(temp, target)


class SourceArchive(sdist):
    """sdist with the native sources, which setuptools does not know of."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        """Adds everything below kernels/ and what Cython reads."""
        paths = [*(ROOT / "kernels").rglob("*"), *(ROOT / "irkit").rglob("*.pyx")]
        native = sorted(str(p.relative_to(ROOT)) for p in paths if p.is_file())
        super().make_release_tree(base_dir, [*files, *native])


def _configured(folder: Path, command: list[str]) -> bool:
    stamp = folder / "configured"
    return stamp.exists() and stamp.read_text() == "\n".join(command)


def extensions() -> list[Extension]:
    """All extensions of the project."""
    exts: list[Extension] = [CMakeExtension("irkit._native")]
    sources = [s for s in CYTHON if (ROOT / s).exists()]
    if sources and "egg_info" not in sys.argv:
        import numpy
        from Cython.Build import cythonize

        made = [
            Extension(
                s.removesuffix(".pyx").replace("/", "."),
                [s],
                include_dirs=[numpy.get_include()],
                define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
                extra_compile_args=["-O3", "-ffp-contract=off"],
            )
            for s in sources
        ]
        exts += cythonize(made, language_level=3)
    return exts


setup(ext_modules=extensions(), cmdclass={"build_ext": Build, "sdist": SourceArchive})
