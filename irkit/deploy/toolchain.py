"""Cross compilers for 64-bit Arm Linux: which are here, what they can build, and whether it runs."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from irkit.errors import DeployError

VARIABLE = "IRKIT_CXX_ARM64"
TRIPLE = "aarch64-linux-gnu"
ZIG_TARGET = "aarch64-linux-gnu.2.28"  # the oldest C library that programs shall run with
EMULATORS = ("qemu-aarch64", "qemu-aarch64-static")
LOADER = "lib/ld-linux-aarch64.so.1"
SLOW = 900  # seconds; zig builds its C++ library when it is first used
# ISA level -> -march as in kernels/CMakeLists.txt, an emulated CPU that has it, and a line that prints 128.
LEVELS = {
    "neon": ("", "cortex-a53", "vgetq_lane_s32(vmull_s16(vdup_n_s16(16), vdup_n_s16(8)), 0)"),
    "neondot": (
        "armv8.2-a+dotprod",
        "cortex-a76",
        "vgetq_lane_s32(vdotq_s32(vdupq_n_s32(0), vdupq_n_s8(8), vdupq_n_s8(4)), 0)",
    ),
    "neoni8mm": (
        "armv8.2-a+dotprod+i8mm",
        "max",
        "vgetq_lane_s32(vmmlaq_s32(vdupq_n_s32(0), vdupq_n_s8(4), vdupq_n_s8(4)), 0)",
    ),
}
TRIAL = '#include <arm_neon.h>\n#include <stdio.h>\nint main() {{ return printf("%d", (int){}) < 0; }}\n'
# The C compiler that belongs to a C++ compiler, by name.
_C_OF = {"g++": "gcc", "clang++": "clang", "c++": "cc"}


@dataclass(frozen=True)
class Compiler:
    """A compiler for arm64: where it was found, its commands and its version."""

    place: str
    cxx: tuple[str, ...]
    cc: tuple[str, ...]
    version: str

    @property
    def is_zig(self) -> bool:
        """Zig spells -march in its own way and archives with its own ar."""
        return Path(self.cxx[0]).name == "zig"


@dataclass(frozen=True)
class Missing:
    """A place without a compiler: what is wrong, and what to do about it."""

    place: str
    why: str
    hint: str


@dataclass(frozen=True)
class Trial:
    """One ISA level: whether a program compiles, whether it runs (None: not tried), and what was said if not."""

    level: str
    compiles: bool
    runs: bool | None
    message: str


def candidates() -> list[Compiler | Missing]:
    """All places a compiler may be at, best first; on arm64 itself its own compiler stands second."""
    own = [_native()] if platform.machine().lower() in ("aarch64", "arm64") else []
    return [_from_variable(), *own, _gnu(), _clang(), _zig()]


def find_compiler() -> Compiler:
    """The first compiler there is; DeployError that says where was looked and how to get one."""
    found = candidates()
    broken = found[0]
    if isinstance(broken, Missing) and os.environ.get(VARIABLE):
        raise DeployError(f"{VARIABLE}: {broken.why}")  # never another compiler than the one asked for
    for c in found:
        if isinstance(c, Compiler):
            return c
    rows = "\n".join(f"  {c.place}: {c.why}; {c.hint}" for c in found if isinstance(c, Missing))
    raise DeployError(f"no compiler for 64-bit Arm:\n{rows}")


def find_emulator() -> str | None:
    """Path of an emulator for arm64 programs, or None."""
    return next((path for e in EMULATORS if (path := shutil.which(e))), None)


def sysroot(compiler: Compiler) -> Path | None:
    """The folder with the arm64 loader and C library, as an emulator needs it; None when there is none."""
    places = [os.environ.get("QEMU_LD_PREFIX", "")]
    if not compiler.is_zig:
        places.append(_output([*compiler.cxx, "-print-sysroot"]))
        library = _output([*compiler.cxx, "-print-file-name=libc.so.6"])
        if "/" in library:
            places.append(os.path.normpath(Path(os.path.realpath(library)).parent.parent))
    places.append(f"/usr/{TRIPLE}")
    return next((Path(p) for p in places if p and (Path(p) / LOADER).exists()), None)


def launcher(compiler: Compiler) -> list[str] | None:
    """The command that runs arm64 programs here; empty on arm64 itself, None when there is no way."""
    if platform.machine().lower() in ("aarch64", "arm64"):
        return []
    emulator, root = find_emulator(), sysroot(compiler)
    return [emulator, "-L", str(root)] if emulator and root else None


def try_levels(compiler: Compiler) -> list[Trial]:
    """Compile and, where possible, run a program for each ISA level."""
    launch = launcher(compiler)
    with tempfile.TemporaryDirectory() as folder:
        return [_try(compiler, level, Path(folder), launch) for level in LEVELS]


def _try(compiler: Compiler, level: str, folder: Path, launch: list[str] | None) -> Trial:
    march, cpu, expression = LEVELS[level]
    source, program = folder / f"{level}.cc", folder / level
    source.write_text(TRIAL.format(expression))
    flags = [f"-march={march.replace('armv8.2-a', 'generic') if compiler.is_zig else march}"] if march else []
    made = _run([*compiler.cxx, *flags, "-O2", "-c", str(source), "-o", f"{program}.o"])
    if made.returncode == 0:  # linked by itself: zig would make its libraries anew for every -march
        made = _run([*compiler.cxx, f"{program}.o", "-o", str(program)])
    if made.returncode:
        return Trial(level, False, None, _last_line(made))
    if launch is None:
        return Trial(level, True, None, "")
    emulated = [launch[0], "-cpu", cpu, *launch[1:]] if launch else []
    done = _run([*emulated, str(program)])
    fine = done.returncode == 0 and done.stdout == "128"
    message = "" if fine else _last_line(done) or f"printed {done.stdout!r}, exit code {done.returncode}"
    return Trial(level, True, fine, message)


def cmake_file(compiler: Compiler) -> str:
    """A CMake toolchain file for this compiler on this machine."""
    launch = launcher(compiler)
    lines = [
        f"# Cross build for 64-bit Arm Linux with {compiler.version}; made by `irkit toolchain`.",
        "set(CMAKE_SYSTEM_NAME Linux)",
        "set(CMAKE_SYSTEM_PROCESSOR aarch64)",
        f"set(CMAKE_C_COMPILER {_cmake_list(compiler.cc)})",
        f"set(CMAKE_CXX_COMPILER {_cmake_list(compiler.cxx)})",
        "set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)",
    ]
    if compiler.is_zig:  # this machine's ar need not know arm64
        zig = _cmake_quote(compiler.cxx[0])
        for language in ("C", "CXX"):
            lines += [
                f'set(CMAKE_{language}_ARCHIVE_CREATE "\\"{zig}\\" ar qc <TARGET> <LINK_FLAGS> <OBJECTS>")',
                f'set(CMAKE_{language}_ARCHIVE_APPEND "\\"{zig}\\" ar q <TARGET> <LINK_FLAGS> <OBJECTS>")',
                f'set(CMAKE_{language}_ARCHIVE_FINISH "\\"{zig}\\" ranlib <TARGET>")',
            ]
    if launch:
        lines.append(f"set(CMAKE_CROSSCOMPILING_EMULATOR {_cmake_list(launch)})")
    return "\n".join(lines) + "\n"


# ---- places
def _from_variable() -> Compiler | Missing:
    text = os.environ.get(VARIABLE, "").strip()
    hint = f'set {VARIABLE} to a C++ compiler\'s command, such as "/opt/arm/bin/{TRIPLE}-g++"'
    if not text:
        return Missing(VARIABLE, "is not set", hint)
    try:
        command = tuple(shlex.split(text))
    except ValueError as e:
        return Missing(VARIABLE, f"{text!r} is no command: {e}", hint)
    return _compiler(VARIABLE, command, hint)


def _native() -> Compiler | Missing:
    return _compiler("c++ of this machine", ("c++",), "install g++")


def _gnu() -> Compiler | Missing:
    return _compiler(f"{TRIPLE}-g++", (f"{TRIPLE}-g++",), f"install it (Debian, Ubuntu: g++-{TRIPLE})")


def _clang() -> Compiler | Missing:
    hint = f"install clang, and g++-{TRIPLE} for the libraries"
    found = _compiler("clang++", (clang_name(), f"--target={TRIPLE}"), hint)
    if isinstance(found, Compiler) and sysroot(found) is None:
        return Missing("clang++", "is there, but arm64 libraries are not", hint)
    return found


def clang_name() -> str:
    """Clang's C++ compiler by the name it has here: distributions may give it only one with its version."""
    names = [p.name for f in os.get_exec_path() if os.path.isdir(f) for p in Path(f).glob("clang++-*")]
    versions = sorted((int(n[8:]) for n in names if n[8:].isdigit()), reverse=True)
    names = ["clang++", *(f"clang++-{v}" for v in versions)]
    return next((n for n in names if shutil.which(n)), "clang++")


def _zig() -> Compiler | Missing:
    hint = "pip install 'irkit-compiler[cross]' (about 400 MB; the first build takes minutes)"
    spec = importlib.util.find_spec("ziglang")
    folders = (spec.submodule_search_locations or []) if spec else []
    zig = next((str(p) for f in folders if (p := Path(f) / "zig").is_file()), None)
    if zig is None:
        return Missing("ziglang", "is not installed", hint)
    found = _compiler("ziglang", (zig, "c++", "-target", ZIG_TARGET), hint)
    if isinstance(found, Compiler):
        return Compiler(found.place, found.cxx, found.cc, f"zig {_output([zig, 'version'])}, {found.version}")
    return found


def _compiler(place: str, cxx: tuple[str, ...], hint: str) -> Compiler | Missing:
    if not shutil.which(cxx[0]):
        return Missing(place, f"there is no {cxx[0]}", hint)
    cc = c_compiler(cxx)
    if cc is None or not shutil.which(cc[0]):
        return Missing(place, f"no C compiler belongs to {shlex.join(cxx)}", hint)
    version = _output([*cxx, "--version"]).split("\n")[0]
    if not version:
        return Missing(place, f"{shlex.join(cxx)} does not run", hint)
    machine = _output([*cxx, "-dumpmachine"])
    if machine and not machine.startswith(("aarch64", "arm64")):
        return Missing(place, f"{shlex.join(cxx)} compiles for {machine}", hint)
    return Compiler(place, cxx, cc, version)


def c_compiler(cxx: Sequence[str]) -> tuple[str, ...] | None:
    """The C compiler beside a C++ compiler: g++ -> gcc, clang++-19 -> clang-19, zig c++ -> zig cc; None if unknown."""
    for i, word in enumerate(cxx):
        folder, name = os.path.split(word)
        new = re.sub(r"(?<![a-z+])(clang\+\+|g\+\+|c\+\+)(?=$|[-.\d])", lambda m: _C_OF[m[1]], name)
        if new != name:
            return (*cxx[:i], os.path.join(folder, new), *cxx[i + 1 :])
    return None


# ---- small things
def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL, timeout=SLOW
        )
    except (OSError, subprocess.TimeoutExpired) as e:
        return subprocess.CompletedProcess(command, 127, "", str(e))


def _output(command: Sequence[str]) -> str:
    """What a command prints; empty when it fails."""
    done = _run(command)
    return done.stdout.strip() if done.returncode == 0 else ""


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line), lines[-1] if lines else "")


def _cmake_quote(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")


def _cmake_list(words: Sequence[str]) -> str:
    return " ".join(f'"{_cmake_quote(w)}"' for w in words)
