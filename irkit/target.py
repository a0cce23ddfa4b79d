"""Targets: ``<arch>-<precision>``. A target steers cost decisions only; every artifact runs on every CPU."""

from __future__ import annotations

import platform
from dataclasses import dataclass

from irkit.errors import TargetError

ARCHS = ("arm64", "x86_64")
PRECISIONS = ("fp32", "int8")
_MACHINE = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}


def host_arch() -> str:
    """Architecture of this machine; TargetError when irkit has no kernels for it."""
    try:
        return _MACHINE[platform.machine().lower()]
    except KeyError:
        raise TargetError(f"this machine is {platform.machine()!r}; irkit supports {', '.join(ARCHS)}") from None


@dataclass(frozen=True)
class Target:
    """Architecture whose costs count, and the precision asked for."""

    arch: str
    precision: str

    @staticmethod
    def parse(text: str) -> Target:
        """Read ``arm64-int8``; ``native`` stands for this machine's architecture."""
        arch, _, precision = str(text).rpartition("-")
        if arch == "native":
            arch = host_arch()
        if arch not in ARCHS or precision not in PRECISIONS:
            raise TargetError(f"unknown target {text!r}; expected one of {', '.join(targets())}")
        return Target(arch, precision)

    def __str__(self) -> str:
        return f"{self.arch}-{self.precision}"


def targets() -> tuple[str, ...]:
    """All target names that :func:`irkit.compile` takes."""
    return tuple(f"{a}-{p}" for a in ("native", *ARCHS) for p in PRECISIONS)
