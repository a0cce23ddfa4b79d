"""Every exception irkit raises on purpose; all derive from :class:`IrkitError`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class IrkitError(Exception):
    """Base of all irkit errors."""


class IRError(IrkitError):
    """An IR rule is broken: wrong operand, type or structure. The message names the operation."""


class ParseError(IrkitError):
    """The text form of a graph can't be read; the message gives line and column."""


class PassError(IrkitError):
    """A pass failed or produced a graph that does not verify; the message names the pass and the reproducer file."""


@dataclass(frozen=True)
class Unsupported:
    """One kind of thing the compiler can't handle: what it is, where it comes from, how often."""

    what: str
    where: str
    count: int = 1
    hint: str = ""


class UnsupportedModelError(IrkitError):
    """The model uses operations irkit has no lowering for. Lists all of them, with module path and count."""

    def __init__(self, items: Sequence[Unsupported]) -> None:
        self.items = tuple(items)
        lines = [f"{len(self.items)} unsupported operation(s):"]
        for it in self.items:
            times = f" (x{it.count})" if it.count > 1 else ""
            hint = f"  [{it.hint}]" if it.hint else ""
            lines.append(f"  {it.what}{times} in {it.where or 'the top-level module'}{hint}")
        super().__init__("\n".join(lines))


class ModelError(IrkitError):
    """The model can't be compiled as given (training mode, NaN weights, wrong object)."""


class InputError(IrkitError):
    """An input of a call or of compile has the wrong count, rank, shape or dtype; names input, expected and got."""


class CalibrationError(IrkitError):
    """int8 was asked for and the calibration data is missing, empty or unusable."""


class TargetError(IrkitError):
    """An unknown target, or one this build can't serve."""


class FallbackError(IrkitError):
    """Some steps would run in the NumPy fallback, with ``strict=True`` or in an export for C; lists them."""


class ArtifactError(IrkitError):
    """A file is not a valid irkit artifact (damaged, truncated, newer version, inconsistent)."""


class DeployError(IrkitError):
    """A model can't be exported or built as a C project: the folder is in use, no compiler, a build that failed."""


class BenchError(IrkitError):
    """Something can't be measured: a process failed, results can't be read, a tool or another engine is missing."""


class RuntimeFailure(IrkitError):  # noqa: N818  (a RuntimeError would shadow the builtin)
    """The native runtime reported an error while preparing or running a model."""
