"""What was measured on: the CPU, the system, the build, and what else the machine was doing."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import irkit

PACKAGE = Path(irkit.__file__).parent


@cache
def cpu_name() -> str:
    """The CPU as the system calls it, with family and model where the name alone says little."""
    fields: dict[str, str] = {}
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            fields.setdefault(key.strip(), value.strip())
    except OSError:
        pass
    if "model name" in fields and "cpu family" in fields:
        return f"{fields['model name']} (family {fields['cpu family']} model {fields.get('model', '?')})"
    if "CPU implementer" in fields:
        return f"Arm implementer {fields['CPU implementer']} part {fields.get('CPU part', '?')}"
    return fields.get("model name") or platform.processor() or platform.machine()


@cache
def cache_sizes() -> dict[str, int]:
    """Bytes of the data caches of the first CPU, by level: {"L1": ..., "L2": ...}; empty where the system does not
    tell."""
    sizes: dict[str, int] = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            kind = (index / "type").read_text().strip()
            level, size = (index / "level").read_text().strip(), (index / "size").read_text().strip()
        except OSError:
            continue
        if kind != "Instruction" and size[-1:] == "K":
            sizes[f"L{level}"] = int(size[:-1]) * 1024
    return sizes


def busy_seconds() -> float | None:
    """CPU seconds that the whole machine has been busy with so far, stolen ones included; None where unknown."""
    try:
        with open("/proc/stat") as f:
            ticks = [int(v) for v in f.readline().split()[1:9]]
    except (OSError, ValueError):
        return None
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")  # all but idle and waiting for a disk


def _governor() -> str:
    try:
        return Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").read_text().strip()
    except OSError:
        return ""


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def commit_of(folder: Path) -> str:
    """The commit that the sources in a folder are of, with "+" when they were changed since; "" outside a checkout."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(folder), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        if not git("ls-files", "--", str(folder / "__init__.py")):
            return ""
        top = git("rev-parse", "--show-toplevel")
        tracked = [str(p) for p in (folder, Path(top) / "kernels") if p.exists()]
        changed = git("status", "--porcelain", "--untracked-files=no", "--", *tracked)
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def build() -> dict[str, str]:
    """This irkit: version, commit, best instruction set here (or its cap), and what it runs on."""
    from irkit import _native

    return {
        "irkit": irkit.__version__,
        "commit": commit_of(PACKAGE),
        "isa": _native.effective_isa(),
        "python": platform.python_version(),
        "numpy": _version("numpy"),
        "numba": _version("numba"),
    }


def machine() -> dict[str, Any]:
    """CPU, CPUs, caches and system."""
    from irkit import _native

    return {
        "cpu": cpu_name(),
        "cpus": os.cpu_count() or 1,
        "caches": cache_sizes(),
        "isas": _native.isas(),
        "governor": _governor(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "affinity": sorted(os.sched_getaffinity(0)),
        "nice": os.nice(0),
        "load": round(os.getloadavg()[0], 2),
    }


def now() -> str:
    """The time, UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def cache_folder() -> Path:
    """Where measurements of this machine are kept: ``IRKIT_CACHE``, else irkit/ in the user's cache folder."""
    own = os.environ.get("IRKIT_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(own) if own else Path(base) / "irkit"


def command_line() -> str:
    """How this process was started, for results that name it."""
    return " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
