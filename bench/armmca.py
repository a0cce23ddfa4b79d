"""MACs per cycle of the kernels' inner loops, as llvm-mca predicts them from the object code.

Of each function, the innermost loop with most multiply-accumulates is taken from the disassembly; its MACs are counted
from the instructions, its cycles are llvm-mca's for one more iteration in the steady state. A model of a core, not a
measurement: it has no cache misses and no branch mispredictions.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bench.armcount import CountError, _run

CPUS = ("cortex-a55", "neoverse-n1", "neoverse-n2")
OLDEST = 16  # the first LLVM whose models of the three cores are their own
LANES = {"16b": 16, "8b": 8, "8h": 8, "4h": 4, "4s": 4, "2s": 2, "2d": 2, "1d": 1}
PER_LANE = {  # multiply-accumulates per element of the destination
    **dict.fromkeys(("sdot", "udot", "usdot", "sudot"), 4),
    **dict.fromkeys(("smmla", "ummla", "usmmla"), 8),
    "bfdot": 2,
    "bfmmla": 4,
    **dict.fromkeys(("fmla", "fmls", "mla", "mls", "mul"), 1),
    **{f"{sign}ml{op}l{high}": 1 for sign in "su" for op in "as" for high in ("", "2")},
    **{f"{sign}mull{high}": 1 for sign in "su" for high in ("", "2")},
}
LOOP_MACS = 16  # loops with fewer are left out: tails, and code that only sums up
LABEL = ".Lloop"
_LINE = re.compile(r"^\s+([0-9a-f]+):\t([\w.]+)(?:\t(.*))?$")
_TARGET = re.compile(r"([0-9a-f]+) <.*>$")
_BRANCH = re.compile(r"(b|b\.\w+|cbn?z|tbn?z)$")


@dataclass(frozen=True)
class Instruction:
    """One line of a disassembly."""

    address: int
    mnemonic: str
    operands: str

    @property
    def macs(self) -> int:
        """Multiply-accumulates it does."""
        if self.mnemonic == "fmadd":
            return 1
        shape = re.match(r"v\d+\.(\d+[bhsd])\b", self.operands)
        return PER_LANE.get(self.mnemonic, 0) * LANES[shape[1]] if shape else 0

    @property
    def target(self) -> int | None:
        """Where it branches to, when that is in the same section and not a call."""
        found = _TARGET.search(self.operands) if _BRANCH.match(self.mnemonic) else None
        return int(found[1], 16) if found else None

    def assembly(self) -> str:
        """As an assembler reads it; every branch goes to the head of the loop: llvm-mca follows none."""
        operands = self.operands if self.target is None else _TARGET.sub(LABEL, self.operands)
        return f"{self.mnemonic} {re.sub(r' <.*>$', '', operands)}".strip()


@dataclass(frozen=True)
class Loop:
    """An inner loop: `kernel` is its file (qconv/neondot), `code` its instructions."""

    kernel: str
    function: str
    code: tuple[str, ...]
    macs: int

    @property
    def runs_on(self) -> tuple[str, ...]:
        """The cores that have its instructions."""
        matrix = any(line.split()[0].endswith("mmla") for line in self.code)
        return ("neoverse-n2",) if matrix else CPUS


@dataclass(frozen=True)
class Tool:
    """An installed llvm-mca."""

    path: str
    version: str

    @cache  # noqa: B019  (few loops, one tool)
    def _total(self, code: tuple[str, ...], cpu: str, iterations: int) -> int:
        command = [self.path, "-mtriple=aarch64", f"-mcpu={cpu}", f"-iterations={iterations}"]
        text = "\n".join([f"{LABEL}:", *code, ""])
        done = subprocess.run([*command, "-"], input=text, capture_output=True, text=True)
        found = re.search(r"Total Cycles:\s+(\d+)", done.stdout)
        if done.returncode or not found:
            raise CountError(f"{' '.join(command)}: {done.stderr[-1000:]}")
        return int(found[1])

    def cycles(self, loop: Loop, cpu: str) -> float:
        """Cycles of one iteration in the steady state."""
        return (self._total(loop.code, cpu, 300) - self._total(loop.code, cpu, 100)) / 200


def find_tool() -> Tool:
    """The newest llvm-mca installed."""
    found = {}
    for name in ("llvm-mca", *(f"llvm-mca-{n}" for n in range(OLDEST, 40))):
        if path := shutil.which(name):
            version = re.search(r"LLVM version (\d+)\.[\d.]+", _run([path, "--version"]))
            if version and int(version[1]) >= OLDEST:
                found[int(version[1])] = Tool(path, version[0])
    if not found:
        raise CountError(f"needs llvm-mca of LLVM {OLDEST} or newer (Debian: llvm-19)")
    return found[max(found)]


def loops(kernels: Path, wanted: list[str], top: int) -> list[Loop]:
    """Of every kernel file (or those wanted) in a build, the `top` inner loops with most MACs, one of each function."""
    objects = sorted((kernels / "CMakeFiles/irkit_objects.dir").glob("*/neon*.cc.o"))
    names = {f"{o.parent.name}/{o.name.removesuffix('.cc.o')}": o for o in objects}
    if unknown := [w for w in wanted if w not in names]:
        raise CountError(f"no kernel file {', '.join(unknown)}; there are: {', '.join(names)}")
    found: list[Loop] = []
    for name in wanted or names:
        here = []
        listing = _run(["aarch64-linux-gnu-objdump", "-d", "--no-show-raw-insn", "--demangle", str(names[name])])
        for function, code in _functions(listing):
            if loop := _best_loop(code):
                body = tuple(i.assembly() for i in loop)
                here.append(Loop(name, _short(function), body, sum(i.macs for i in loop)))
        found += sorted(here, key=lambda loop: -loop.macs)[:top]
    return found


def _functions(listing: str) -> list[tuple[str, list[Instruction]]]:
    functions: list[tuple[str, list[Instruction]]] = []
    for line in listing.splitlines():
        if head := re.match(r"[0-9a-f]+ <(.*)>:$", line):
            functions.append((head[1], []))
        elif (parts := _LINE.match(line)) and functions:
            operands = (parts[3] or "").split("//")[0].strip()  # without the disassembler's remarks
            functions[-1][1].append(Instruction(int(parts[1], 16), parts[2], operands))
    return functions


def _best_loop(code: list[Instruction]) -> list[Instruction] | None:
    """The innermost loop with most MACs."""
    if not code:
        return None
    start = code[0].address
    back = [(i.target, i.address) for i in code if i.target is not None and start <= i.target <= i.address]
    inner = [b for b in back if not any(b != o and b[0] <= o[0] and o[1] <= b[1] for o in back)]
    bodies = [[i for i in code if first <= i.address <= last] for first, last in inner]
    best = max(bodies, key=lambda body: (sum(i.macs for i in body), -len(body)), default=[])
    sums = any(i.macs and "mul" not in i.mnemonic for i in best)  # not only products
    return best if sums and sum(i.macs for i in best) >= LOOP_MACS else None


def _short(function: str) -> str:
    """Without the namespaces and the parameters."""
    name = re.sub(r"irk::|\(anonymous namespace\)::", "", function)
    return re.sub(r"^void ", "", re.sub(r"\(.*$", "", name))
