"""Choices by measurement: which kernel level and how many threads each step gets, kept in a file per machine and plan.

The file is ``choices/<machine>-<plan>-<isa>-t<threads>.json`` in ``IRKIT_CACHE_DIR``, else in irkit's folder of the
user's cache (``XDG_CACHE_HOME``, else ``~/.cache``). Choices never change results, and nothing depends on the file: one
that is damaged or not of this machine, version and plan is as good as none, but a warning tells so.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from irkit import _native

Choice = tuple[str, int]  # highest ISA level, threads (0: as many as the step is worth)
Choose = Callable[[int, int], list[Choice] | None]  # of a plan's digest and number of steps

VERSION = 1
_MOST_BYTES = 16 << 20


def folder() -> Path:
    """Where choices are kept; need not exist."""
    return Path(_folder())


def _folder() -> str:  # a text, as every load asks for it
    own = os.environ.get("IRKIT_CACHE_DIR", "")
    if own:
        return os.path.join(own, "choices")
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG rule: a path that is not absolute is ignored.
    return os.path.join(base if os.path.isabs(base) else os.path.expanduser("~/.cache"), "irkit", "choices")


@functools.cache
def machine() -> str:
    """What measurements depend on, besides the plan: CPU model, its ISA levels, the version of irkit."""
    import irkit

    names = ("model name", "vendor_id", "cpu family", "model", "stepping", "CPU implementer", "CPU part", "CPU variant")
    cpu: list[str] = []
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as f:
            head = f.read(8192)  # the first CPU; the file of a large machine takes long to make
    except OSError:
        head = ""
    for line in head.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in names and f"{key.strip()}=" not in "".join(cpu):
            cpu.append(f"{key.strip()}={value.strip()}")
    return ";".join([*cpu, *_native.isas(), irkit.__version__])


def path_of(digest: int, isa: str, threads: int) -> Path:
    """The file for a plan at that ISA level and thread count on this machine."""
    return folder() / f"{_native.xxh64(machine().encode()):016x}-{digest:016x}-{isa}-t{threads}.json"


def remembered(choose: Choose | None) -> tuple[Choose | None, list[Choice]]:
    """The same function, and a list that will hold what it has found; empty when that is nothing."""
    found: list[Choice] = []
    if choose is None:
        return None, found

    def remember(digest: int, steps: int) -> list[Choice] | None:
        picked = choose(digest, steps)
        found[:] = picked or ()
        return picked

    return remember, found


def kept(isa: str | None, threads: int) -> Choose | None:
    """A function that finds what was kept for a plan; None when nothing is kept at all."""
    if not os.path.isdir(_folder()):
        return None
    level = _native.effective_isa(isa)
    return lambda digest, steps: read(path_of(digest, level, threads), digest, steps, threads)


def read(path: Path, digest: int, steps: int, threads: int) -> list[Choice] | None:
    """The choices in a file; None when there is none, or not exactly what belongs there, which a warning tells once."""
    try:
        with open(path, "rb") as f:
            data = f.read(_MOST_BYTES + 1)
        return _choices_in(data, digest, steps, threads)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as e:
        _tell(path, str(e))
        return None


@functools.cache
def _tell(path: Path, why: str) -> None:
    warnings.warn(
        f"{path}: choices by measurement are ignored: {why}; results are the same without them. "
        "Remove the file, and measure again with irkit tune",
        stacklevel=2,
    )


def _choices_in(data: bytes, digest: int, steps: int, threads: int) -> list[Choice]:
    """What is in a file; ValueError tells what is not as it must be."""
    if len(data) > _MOST_BYTES:
        raise ValueError(f"expected at most {_MOST_BYTES} bytes")
    doc: Any = json.loads(data)
    want = {"version": VERSION, "machine": machine(), "plan": f"{digest:016x}"}
    if not isinstance(doc, dict) or set(doc) != {*want, "steps"}:
        raise ValueError("expected an object of version, machine, plan and steps")
    for key, value in want.items():
        if doc[key] != value:
            raise ValueError(f"{key}: expected {value!r}, got {doc[key]!r:.100}")
    rows = doc["steps"]
    if not isinstance(rows, list) or len(rows) != steps:
        raise ValueError(f"steps: expected a list of {steps}")
    levels = _native.isas()
    for i, row in enumerate(rows):
        fits = isinstance(row, list) and len(row) == 2 and row[0] in levels and type(row[1]) is int
        if not fits or not 0 <= row[1] <= threads:
            raise ValueError(f"steps[{i}]: expected [one of {levels}, 0 to {threads} threads], got {row!r:.100}")
    return [(isa, n) for isa, n in rows]


def write(path: Path, digest: int, choices: Sequence[Choice]) -> bool:
    """Keep choices: the old file or the new one, never half, whoever else writes. False when that can't be done."""
    import tempfile

    doc = {"version": VERSION, "machine": machine(), "plan": f"{digest:016x}", "steps": [list(c) for c in choices]}
    temp = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd, temp = tempfile.mkstemp(prefix=".choices.", dir=path.parent)
        with os.fdopen(fd, "w", encoding="utf-8") as f:
            json.dump(doc, f, separators=(",", ":"))
        os.replace(temp, path)
    except OSError:
        if temp:
            with contextlib.suppress(OSError):
                os.unlink(temp)
        return False
    return True
