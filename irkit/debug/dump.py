"""Readable dumps: the IR after every pass that changed it, filtered and cut to size."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from irkit.ir.graph import Graph, Operation
from irkit.ir.passes import Instrument, Pass, PassRecord
from irkit.ir.text import print_graph, print_op

Sink = Callable[[str, list[str]], None]


@dataclass(frozen=True)
class Filter:
    """What of a dump is wanted. Names are patterns (``fold-*``, ``features.0.*``); empty means all.

    ``changed`` keeps only lines that the pass added (+) or removed (-).
    """

    passes: tuple[str, ...] = ()
    ops: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    changed: bool = False

    def wants_pass(self, name: str) -> bool:
        """True when dumps of that pass are wanted."""
        return not self.passes or any(fnmatch(name, p) for p in self.passes)

    def wants_op(self, op: Operation) -> bool:
        """True when the operation, or one inside it, is wanted."""
        inside = list(op.body) if op.body is not None else []
        names = {op.name, *(o.name for o in inside)}
        locs = {op.loc, *(o.loc for o in inside)}
        return (not self.ops or any(fnmatch(n, p) for n in names for p in self.ops)) and (
            not self.layers or any(fnmatch(loc, p) for loc in locs for p in self.layers)
        )

    def lines(self, graph: Graph) -> list[str]:
        """The text of the graph, or of the operations that are wanted."""
        if not self.ops and not self.layers:
            return print_graph(graph).splitlines()
        return [line for op in graph if self.wants_op(op) for line in print_op(op).splitlines()]


class FilteredDump(Instrument):
    """Calls ``sink(title, lines)`` for the input and after each pass that changed the graph."""

    def __init__(self, sink: Sink, wanted: Filter | None = None) -> None:
        self.sink = sink
        self.wanted = wanted or Filter()
        self.count = 0
        self.previous: list[str] = []

    def start(self, graph: Graph) -> None:
        """Dump what the first pass gets (once: a compilation runs several pipelines)."""
        lines = self.wanted.lines(graph)
        if self.count == 0 and self.wanted.wants_pass("input") and not self.wanted.changed:
            self.sink(f"00 input: {len(graph)} operations", lines)
        self.previous = lines

    def after(self, pass_: Pass, graph: Graph, record: PassRecord) -> None:
        """Dump what the pass made."""
        self.count += 1
        if not record.changed:
            return
        lines = self.wanted.lines(graph)
        before, self.previous = self.previous, lines
        if not self.wanted.wants_pass(pass_.name):
            return
        shown = list(_changes(before, lines)) if self.wanted.changed else lines
        if not shown:
            return
        hits = ", ".join(f"{name} x{n}" for name, n in record.hits.items())
        title = (
            f"{self.count:02d} {pass_.describe()} ({record.effect.value}, {record.seconds * 1e3:.1f} ms): "
            f"{record.ops_before} -> {record.ops_after} operations{'; ' + hits if hits else ''}"
        )
        self.sink(title, shown)


def _changes(before: Sequence[str], after: Sequence[str]) -> Iterator[str]:
    for line in difflib.unified_diff(before, after, lineterm="", n=0):
        if line[:1] in "+-" and not line.startswith(("+++", "---")):
            yield line


def cut(lines: Sequence[str], limit: int, width: int) -> list[str]:
    """At most ``limit`` lines (0: all) of at most ``width`` characters (0: all), saying what was left out."""
    kept = list(lines) if not limit else list(lines[:limit])
    kept = [line if not width or len(line) <= width else f"{line[: width - 3]}..." for line in kept]
    if len(kept) < len(lines):
        kept.append(f"... {len(lines) - len(kept)} more lines")
    return kept


def folder_sink(folder: Path) -> Sink:
    """Writes each dump to its own file, ``03-fold-bn.ir``."""
    folder.mkdir(parents=True, exist_ok=True)

    def sink(title: str, lines: list[str]) -> None:
        number, rest = title.split(" ", 1)
        name = rest.split("{", 1)[0].split(":", 1)[0].split(" ", 1)[0]
        (folder / f"{number}-{name}.ir").write_text(f"// {title}\n" + "\n".join(lines) + "\n", encoding="utf-8")

    return sink
