"""Results as JSON: what was measured, on what, of which build; written, read again and checked.

One object: ``schema`` (this version), ``kind`` (latency, profile, kernels, compare, peers), ``date`` (UTC),
``machine`` (CPU, caches, ...), ``build`` (version, commit, instruction set, ...), ``settings`` of the run (a profile's
hold the machine's ``peaks``, by thread count), and ``rows``, each a flat object. The fields that every row of a kind
must have are in ``FIELDS``; those that identify it come first, so that results of many runs can be put in one table
keyed by commit, CPU, instruction set, threads and them. Times are in milliseconds (``*_ms``) or nanoseconds
(``*_ns``), memory in bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from irkit.bench.machine import build, machine, now
from irkit.errors import BenchError

SCHEMA = "irkit-bench/1"
_TIMES = ("min_ms", "p10_ms", "median_ms", "p90_ms", "mad_ms", "calls")
FIELDS: dict[str, tuple[str, ...]] = {
    "latency": ("model", "threads", "isa", *_TIMES, "turns_ms", "load_ms", "first_ms", "starts_ms", "peak_bytes",
                "base_bytes", "file_bytes", "weight_bytes", "arena_bytes", "others"),
    "profile": ("model", "threads", "isa", "step", "layer", "op", "kernel", "ns", "median_ns", "macs", "bytes",
                "compute_ns", "memory_ns", "limit", "saved_ns"),
    "kernels": ("kernel", "isa", "shape", "threads", "ns", "median_ns", "p90_ns", "macs", "bytes", "nets"),
    "compare": ("model", "threads", "a_ms", "b_ms", "ratio", "low", "high", "confidence", "verdict", "same_outputs"),
    "peers": ("model", "precision", "threads", "engine", "version", *_TIMES, "turns_ms", "load_ms", "first_ms",
              "starts_ms", "peak_bytes", "base_bytes", "file_bytes", "cosine", "others"),
}  # fmt: skip


@dataclass
class Report:
    """One run's results."""

    kind: str
    rows: list[dict[str, Any]]
    settings: dict[str, Any] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=machine)
    build: dict[str, str] = field(default_factory=build)
    date: str = field(default_factory=now)
    schema: str = SCHEMA

    def __post_init__(self) -> None:
        check(asdict(self), "report")

    def write(self, path: Path) -> None:
        """Write it; OSError when that fails."""
        path.write_text(json.dumps(asdict(self), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read(path: Path) -> Report:
    """A report from a file; BenchError, with the file's name, when it holds none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise BenchError(f"{path} can't be read as results: {e}") from None
    check(found, str(path))
    return Report(**found)


def check(report: Any, where: str) -> None:
    """BenchError when an object is not a report: what is wrong, expected and got."""
    if not isinstance(report, Mapping) or report.get("schema") != SCHEMA:
        got = report.get("schema") if isinstance(report, Mapping) else type(report).__name__
        raise BenchError(f"{where}: expected results of schema {SCHEMA!r}, got {got!r}")
    wants = {"schema": str, "kind": str, "date": str, "machine": dict, "build": dict, "settings": dict, "rows": list}
    for key, kind in wants.items():
        if not isinstance(report.get(key), kind):
            raise BenchError(f"{where}: {key!r} is not a {kind.__name__} but {type(report.get(key)).__name__}")
    if extra := set(report) - set(wants):
        raise BenchError(f"{where}: unknown {', '.join(sorted(extra))}")
    if report["kind"] not in FIELDS:
        raise BenchError(f"{where}: unknown kind {report['kind']!r}; known: {', '.join(FIELDS)}")
    for i, row in enumerate(report["rows"]):
        missing = [f for f in FIELDS[report["kind"]] if not isinstance(row, Mapping) or f not in row]
        if missing:
            raise BenchError(f"{where}: row {i} of kind {report['kind']!r} has no {', '.join(missing)}")


def times_ms(ns: Sequence[float]) -> dict[str, float]:
    """The fields of a row that sum up samples, from nanoseconds a call."""
    from irkit.bench.stats import Summary

    s = Summary.of(ns)
    found: dict[str, float] = {f"{n}_ms": getattr(s, n) * 1e-6 for n in ("min", "p10", "median", "p90", "mad")}
    return {**found, "calls": s.count}
