"""Builds the native parts: CMake makes irkit/_native, Cython each .pyx. All else is in pyproject.toml.

With IRKIT_CROSS_ROOT set, everything is built for 64-bit Arm: the folder holds an arm64 Python of this one's version,
whose headers are read (tests/deploy/make_root.py makes one). CC (default aarch64-linux-gnu-gcc) and
CMAKE_TOOLCHAIN_FILE (default kernels/cmake/aarch64-linux-gnu.cmake) choose another compiler.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

ROOT = Path(__file__).resolve().parent
CYTHON = ("irkit/quant/observe.pyx", "irkit/sparse/encode.pyx")
CROSS_ROOT = os.environ.get("IRKIT_CROSS_ROOT", "")
CROSS_PLATFORM = "linux-aarch64"
CROSS_SUFFIX = f".cpython-{sys.version_info.major}{sys.version_info.minor}-aarch64-linux-gnu.so"
CROSS_TOOLCHAIN = Path(
    os.environ.get("CMAKE_TOOLCHAIN_FILE") or ROOT / "kernels/cmake/aarch64-linux-gnu.cmake"
).resolve()
# The wheel brings its own C++ library, as distributions' differ in age, and leaves out of it what needs a newer glibc.
CROSS_LINK = "-static-libstdc++ -Wl,--exclude-libs,ALL -Wl,--gc-sections -s"


def cross_headers() -> tuple[Path, Path]:
    """Folders with Python.h and with what it includes, for 64-bit Arm."""
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for base in ("usr/include", "usr/local/include", "include"):
        folder = Path(CROSS_ROOT).resolve() / base
        if (folder / python / "Python.h").is_file():
            return folder / python, folder
    sys.exit(
        f"IRKIT_CROSS_ROOT: {CROSS_ROOT} holds no {python}/Python.h; it must be a folder with an arm64 {python} "
        f"and its headers, as tests/deploy/make_root.py makes"
    )


class CMakeExtension(Extension):
    """An extension that kernels/CMakeLists.txt builds."""

    def __init__(self, name: str) -> None:
        super().__init__(name, sources=[])


class Build(build_ext):
    """build_ext that hands a CMakeExtension to CMake; incremental, as the build folder is kept."""

    def finalize_options(self) -> None:
        """The platform of a cross build."""
        super().finalize_options()
        if CROSS_ROOT:
            self.plat_name = CROSS_PLATFORM

    def get_ext_filename(self, fullname: str) -> str:
        """The module's file name, as Python of the target looks for it."""
        return fullname.replace(".", "/") + CROSS_SUFFIX if CROSS_ROOT else str(super().get_ext_filename(fullname))

    def build_extensions(self) -> None:
        """Cython's modules, too, are for the target."""
        if CROSS_ROOT:
            python, below = cross_headers()
            cc = os.environ.get("CC", "aarch64-linux-gnu-gcc")
            flags = f"-O3 -DNDEBUG -fwrapv -fPIC -I{shlex.quote(str(python))} -idirafter {shlex.quote(str(below))}"
            self.compiler.set_executables(compiler=cc, compiler_so=f"{cc} {flags}", linker_so=f"{cc} -shared -s")
            self.compiler.include_dirs, self.compiler.library_dirs = [], []
        super().build_extensions()

    def build_extension(self, ext: Any) -> None:
        """Build one extension."""
        if not isinstance(ext, CMakeExtension):
            super().build_extension(ext)
            return
        import pybind11

        tag = f"{sys.implementation.cache_tag}-{self.plat_name}" + (f"-{CROSS_TOOLCHAIN.stem}" if CROSS_ROOT else "")
        folder = ROOT / "build" / f"native-{tag}"
        configure = [
            "cmake", "-S", str(ROOT / "kernels"), "-B", str(folder),
            "-DIRKIT_PYTHON=ON", "-DIRKIT_TOOLS=OFF", "-DCMAKE_BUILD_TYPE=Release",
            f"-DPython_EXECUTABLE={sys.executable}", f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
        ]  # fmt: skip
        if CROSS_ROOT:
            python, below = cross_headers()
            configure += [
                f"-DCMAKE_TOOLCHAIN_FILE={CROSS_TOOLCHAIN}", f"-DPython_INCLUDE_DIR={python}",
                f"-DCMAKE_CXX_FLAGS=-idirafter {shlex.quote(str(below))}", f"-DCMAKE_MODULE_LINKER_FLAGS={CROSS_LINK}",
                f"-DIRKIT_MODULE_SUFFIX={CROSS_SUFFIX}",
            ]  # fmt: skip
        ninja = shutil.which("ninja")
        if ninja and not (folder / "Makefile").exists():
            configure += ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"]  # build environments come and go
        jobs = os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL") or str(os.cpu_count() or 1)
        if not _configured(folder, configure):
            subprocess.run(configure, check=True)
            (folder / "configured").write_text("\n".join(configure))
        subprocess.run(["cmake", "--build", str(folder), "--target", "_native", "--parallel", jobs], check=True)
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        built = folder / target.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists() or target.stat().st_mtime_ns != built.stat().st_mtime_ns:
            temp = target.with_suffix(".tmp")  # renamed over: a process that has the old file mapped keeps it
            shutil.copy2(built, temp)
            os.replace(temp, target)


class Folders(build):
    """build with folders of their own for cross builds."""

    def finalize_options(self) -> None:
        """Keeps them apart from this machine's, and those of one compiler from another's."""
        if CROSS_ROOT:
            cross = f"{CROSS_PLATFORM}-{sys.implementation.cache_tag}-{CROSS_TOOLCHAIN.stem}"
            self.build_lib = self.build_platlib = f"build/lib.{cross}"
            self.build_temp = f"build/temp.{cross}"
        super().finalize_options()


class Package(build_py):
    """build_py that adds the C++ sources, so that an installed irkit can export projects (irkit/deploy)."""

    def run(self) -> None:
        """Copies kernels/ to irkit/deploy/kernels."""
        super().run()
        if self.editable_mode:
            return  # there, the sources are found beside the package
        target = Path(self.build_lib) / "irkit" / "deploy" / "kernels"
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(ROOT / "kernels", target, ignore=shutil.ignore_patterns("testing", "peaks", "python"))
        shutil.copy(ROOT / "LICENSE", target)


class Wheel(bdist_wheel):
    """bdist_wheel whose cross-built wheels name the oldest glibc they run with."""

    def finalize_options(self) -> None:
        """The platform of a cross build."""
        if CROSS_ROOT and not self.plat_name:
            self.plat_name = CROSS_PLATFORM
        super().finalize_options()

    def get_tag(self) -> tuple[str, str, str]:
        """(interpreter, ABI, platform); with ``--plat-name`` the platform is the user's."""
        python, abi, platform = super().get_tag()
        built = self.get_finalized_command("build_ext").get_outputs() if CROSS_ROOT else []
        if platform == CROSS_PLATFORM.replace("-", "_") and built:
            minors = [int(v) for p in built for v in re.findall(rb"GLIBC_2\.(\d+)\0", Path(p).read_bytes())]
            platform = f"manylinux_2_{max([17, *minors])}_aarch64"
        return python, abi, platform


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
        from Cython.Build import cythonize

        made = [
            Extension(
                s.removesuffix(".pyx").replace("/", "."),
                [s],
                extra_compile_args=["-O3", "-ffp-contract=off"],
            )
            for s in sources
        ]
        exts += cythonize(made, language_level=3)
    return exts


setup(
    ext_modules=extensions(),
    cmdclass={"bdist_wheel": Wheel, "build": Folders, "build_ext": Build, "build_py": Package, "sdist": SourceArchive},
)
