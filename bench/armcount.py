"""Instructions of arm64 programs, counted by class under the emulator: builds the tools, runs them, reads the counts.

The counts are exact and the same in every run (one thread). They say what an inference costs in instructions; they are
not times, and nothing here is ever given in seconds.
"""

from __future__ import annotations

import bisect
import fcntl
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from bench import armroot

ROOT = Path(__file__).parents[1]
SOURCES = Path(__file__).parent / "arm64"
KERNELS = ROOT / "build/arm64"  # the runtime's build, which the tests share
CPUS = ("cortex-a53", "cortex-a76", "max,sve=off")  # Armv8.0, with dot products, with int8 matrix products
CLASSES = ("dot", "mmla", "fmla", "imla", "simd", "sve", "vload", "vstore", "load", "store", "branch", "int")
ARITHMETIC = ("dot", "mmla", "fmla", "imla", "simd", "sve")  # on vectors
LOADS = ("vload", "load")
END, STEP_END = 2, 4  # marks of arm64/driver.cc; peer.py uses the first two too

Counts = dict[str, int]


class CountError(Exception):
    """A tool is missing, or a program that was to be counted failed; the message says which and what it printed."""


@dataclass(frozen=True)
class Block:
    """A block of code and how often it ran."""

    address: int
    length: int  # instructions
    runs: int
    symbol: str = "?"

    @property
    def instructions(self) -> int:
        return self.length * self.runs


@dataclass(frozen=True)
class Step:
    """What one step of a plan costs."""

    family: str
    kernel: str
    layer: str
    counts: Counts


@dataclass(frozen=True)
class Inference:
    """What one call costs: `counts` by class, of which `steps` are the parts; `isa` is the level the runtime chose."""

    isa: str
    counts: Counts
    steps: list[Step] = field(default_factory=list)
    hot: list[Block] = field(default_factory=list)


def total(counts: Counts, classes: Iterable[str] = CLASSES) -> int:
    """Instructions of these classes (all by default)."""
    return sum(counts[c] for c in classes)


def missing_tools() -> list[str]:
    """What is not installed of what counting needs; empty when all is there."""
    missing = [tool for tool in ("aarch64-linux-gnu-g++", "qemu-aarch64", "g++", "cmake") if not shutil.which(tool)]
    if "qemu-aarch64" not in missing and not re.search(r"version [78]\.", emulator_version()):
        missing.append("qemu-aarch64 of version 7 or 8 (plugin interface 1)")
    return missing


def emulator_version() -> str:
    """First line of what the emulator says of itself."""
    return _run(["qemu-aarch64", "--version"]).splitlines()[0]


def compiler_version() -> str:
    """First line of what the cross compiler says of itself."""
    return _run(["aarch64-linux-gnu-g++", "--version"]).splitlines()[0]


class Counter:
    """Builds the arm64 runtime (in KERNELS), the plugin and the driver in `build`, and counts with them."""

    def __init__(self, build: Path) -> None:
        if missing := missing_tools():
            raise CountError(
                f"not installed: {', '.join(missing)} (Debian: g++-aarch64-linux-gnu, qemu-user, g++, cmake)"
            )
        self.build = build.resolve()
        self.plugin, self.driver = self.build / "libcount.so", self.build / "driver"
        self._symbols: list[tuple[int, str]] | None = None

    def make(self) -> None:
        """Builds what is not up to date; of several processes, one at a time."""
        self.build.mkdir(parents=True, exist_ok=True)
        KERNELS.mkdir(parents=True, exist_ok=True)
        with open(KERNELS / "bench.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._make()

    def _make(self) -> None:
        if not (KERNELS / "CMakeCache.txt").exists():
            generator = ["-G", "Ninja"] if shutil.which("ninja") else []
            source = ROOT / "kernels"
            toolchain = source / "cmake/aarch64-linux-gnu.cmake"
            _run(["cmake", "-S", str(source), "-B", str(KERNELS), *generator, "--toolchain", str(toolchain)])
        cores = str(len(os.sched_getaffinity(0)))
        _run(["cmake", "--build", str(KERNELS), "--parallel", cores, "--target", "irkit_static"])
        library = KERNELS / "libirkit.a"
        sources = [SOURCES / "count.cc", SOURCES / "classes.h"]
        if _stale(self.plugin, sources):
            flags = ["-std=c++17", "-O2", "-fPIC", "-shared", "-fvisibility=hidden"]
            _run(["g++", *flags, str(sources[0]), "-o", str(self.plugin)])
        if _stale(self.driver, [SOURCES / "driver.cc", library]):
            flags = ["-std=c++17", "-O2", "-static", f"-I{ROOT / 'kernels/include'}", "-pthread"]
            files = [str(SOURCES / "driver.cc"), str(library)]
            hook = "-Wl,--wrap=clock_gettime"
            _run(["aarch64-linux-gnu-g++", *flags, *files, hook, "-o", str(self.driver)])

    def artifact(self, model: Path, cpu: str, steps: bool = False, hot: int = 0) -> Inference:
        """Counts one call of an .irk file on an emulated `cpu` (qemu's name for it), and what is asked for beside."""
        command = [str(self.driver), str(model), *(["steps"] if steps else [])]
        printed, marks, blocks = self._emulate(cpu, command, hot)
        isa, *lines = printed.splitlines()
        counts = next(c for id, c in marks if id == END)
        costs = [c for id, c in marks if id == STEP_END]
        if len(costs) != len(lines):
            raise CountError(f"{model}: {len(lines)} steps but {len(costs)} counts of steps")
        parts = []
        for line, cost in zip(lines, costs, strict=True):
            family, kernel, layer = line.split("\t", 2)
            parts.append(Step(family, kernel, layer, cost))
        return Inference(isa, counts, parts, [self._named(b) for b in blocks])

    def peer(self, engine: str, model: Path, cpu: str, root: Path) -> Inference:
        """Counts one call of another engine ("litert", "ort"); see arm64/peer.py. Counts of a file are remembered."""
        state = model.stat()
        wheels = armroot.installed(root)
        key = json.dumps([engine, str(model.resolve()), state.st_size, state.st_mtime_ns, cpu, wheels])
        memory = self.build / "peers.json"
        known = json.loads(memory.read_text()) if memory.exists() else {}
        if key not in known:
            armroot.write_cpuinfo(root, cpu)
            command = [*armroot.python_command(root), str(SOURCES / "peer.py"), engine, str(model)]
            printed, marks, _ = self._emulate(cpu, command, 0)
            *_, nothing, call = (c for id, c in marks if id == END)
            known[key] = [printed.strip().splitlines()[-1], {c: max(call[c] - nothing[c], 0) for c in CLASSES}]
            memory.write_text(json.dumps(known, indent=1))
        return Inference(*known[key])

    def _emulate(self, cpu: str, command: list[str], hot: int) -> tuple[str, list[tuple[int, Counts]], list[Block]]:
        """What the program printed, each mark with the counts since the mark before, and the hottest blocks."""
        with tempfile.NamedTemporaryFile("r", suffix=".txt") as out:
            launch = ["qemu-aarch64", "-cpu", cpu, "-plugin", f"{self.plugin},out={out.name},hot={hot}"]
            env = {k: v for k, v in os.environ.items() if not k.startswith(("IRKIT_", "LD_", "PYTHON"))}
            printed = _run([*launch, *command], {**env, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"})
            lines = [line.split() for line in out]
        if not lines or tuple(lines[0][1:]) != CLASSES:
            raise CountError(f"the plugin wrote no counts for {' '.join(command)}")
        marks = [(int(at), dict(zip(CLASSES, map(int, n), strict=True))) for kind, at, *n in lines if kind == "mark"]
        if not any(id == END for id, _ in marks):
            raise CountError(f"{' '.join(command)}: the program ended before it was counted")
        blocks = [Block(int(at, 16), int(n[0]), int(n[1])) for kind, at, *n in lines if kind == "hot"]
        return printed, marks, blocks

    def _named(self, block: Block) -> Block:
        """With the function of the driver that the block is in."""
        if self._symbols is None:
            listing = _run(["aarch64-linux-gnu-nm", "--demangle", "--defined-only", str(self.driver)])
            rows = [line.split(" ", 2) for line in listing.splitlines()]
            self._symbols = sorted((int(a, 16), name) for a, kind, name in rows if kind in "tTwW")
        at = bisect.bisect_right(self._symbols, (block.address, "\x7f")) - 1
        if at < 0:
            return block
        start, name = self._symbols[at]
        return Block(block.address, block.length, block.runs, f"{name}+{block.address - start:#x}")


def _stale(target: Path, sources: list[Path]) -> bool:
    return not target.exists() or target.stat().st_mtime < max(s.stat().st_mtime for s in sources)


def _run(command: list[str], env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode:
        said = (done.stdout[-2000:] + done.stderr[-2000:]).strip()
        raise CountError(f"{' '.join(command)}\nexit status {done.returncode}\n{said}")
    return done.stdout
