"""The plan as data: what the native executor takes, and a table that people read. Imports next to nothing, so that an
artifact loads at once."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from irkit.ir.types import Array

FALLBACK = "python"  # the family of steps without a native kernel


def join(*notes: str) -> str:
    """The non-empty notes, separated by semicolons."""
    return "; ".join(n for n in notes if n)


@dataclass(frozen=True)
class Row:
    """One step as the plan prints it. ``bytes`` counts what it reads and writes."""

    layer: str
    op: str
    precision: str
    family: str
    macs: int
    bytes: int
    note: str
    kernel: str = ""
    threads: int = 0  # that the step gets of a call, as it pays; 0: not known yet
    measured: bool = False  # kernel and threads were chosen by measurement (irkit tune)


@dataclass
class Plan:
    """What runs where. ``document`` is the native executor's input; ``consts`` the arrays it refers to by name."""

    document: dict[str, Any]
    consts: dict[str, Array]
    rows: list[Row]
    notes: list[tuple[str, str]] = field(default_factory=list)  # (layer, why it stayed in float)
    target: str = ""

    @property
    def arena_bytes(self) -> int:
        """Bytes of intermediate results alive at once."""
        return int(self.document["arena"])

    @property
    def weight_bytes(self) -> int:
        """Bytes of constants in the artifact."""
        return sum(a.nbytes for a in self.consts.values())

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one call, zeros included."""
        return sum(r.macs for r in self.rows)

    @property
    def fallbacks(self) -> list[Row]:
        """Steps without a native kernel."""
        return [r for r in self.rows if r.family == FALLBACK]

    def to_json(self) -> str:
        """The native executor's document: deterministic, no NaN or infinity outside strings."""
        return json.dumps(self.document, separators=(",", ":"), allow_nan=False)

    def __str__(self) -> str:
        head = ("#", "layer", "op", "runs in", "kernel", "thr", "MMAC", "KB", "note")
        table = [head]
        for i, r in enumerate(self.rows):
            mmac = f"{r.macs / 1e6:.2f}" if r.macs else ""
            kernel = r.kernel or r.family
            threads = str(r.threads or "")
            note = join(r.note, "chosen by measurement" if r.measured else "")
            table.append((str(i), r.layer, r.op, r.precision, kernel, threads, mmac, f"{r.bytes / 1e3:.1f}", note))
        widths = [max(len(row[c]) for row in table) for c in range(len(head))]
        right = {0, 5, 6, 7}
        lines = [
            "  ".join(
                v.rjust(w) if c in right else v.ljust(w) for c, (v, w) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in table
        ]
        lines.insert(1, "  ".join("-" * w for w in widths))
        by: dict[str, int] = {}
        for r in self.rows:
            by[r.precision] = by.get(r.precision, 0) + 1
        parts = ", ".join(f"{n} in {p}" for p, n in sorted(by.items()))
        lines.append("")
        lines.append(
            f"target {self.target or '-'}: {len(self.rows)} steps ({parts or 'none'}), {self.macs / 1e6:.1f} MMAC, "
            f"weights {self.weight_bytes / 1e6:.2f} MB, arena {self.arena_bytes / 1e6:.2f} MB"
        )
        fb = self.fallbacks
        lines.append(
            f"NumPy fallback: {', '.join(sorted({r.op for r in fb}))} ({len(fb)} steps)"
            if fb
            else "NumPy fallback: none"
        )
        if self.notes:
            lines.append("kept in float:")
            lines += [f"  {layer or '(unnamed)'}: {why}" for layer, why in self.notes]
        return "\n".join(lines)
