"""Passes with a declared effect, and the manager that runs, verifies, instruments and, on failure, records them."""

from __future__ import annotations

import enum
import hashlib
import json
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from irkit.errors import CalibrationError, IrkitError, ParseError, PassError
from irkit.ir.graph import Graph
from irkit.ir.interp import Interpreter
from irkit.ir.parse import Parser
from irkit.ir.rewrite import count_hits
from irkit.ir.text import print_graph, same_attr
from irkit.ir.types import Array
from irkit.ir.verify import verify


class Effect(enum.Enum):
    """What a pass may do to the numbers that a graph computes."""

    EXACT = "exact"  # the same bits
    ROUNDING = "rounding"  # the same real-number function, rounded elsewhere
    LOSSY = "lossy"  # other numbers, on purpose


_PASSES: dict[str, type[Pass]] = {}


@dataclass(frozen=True)
class Pass:
    """A transformation of a graph. Subclasses are frozen dataclasses whose fields are the pass's options.

    A subclass declares ``effect`` and defines ``run``; it is found by ``name``, the class name in kebab-case.
    """

    effect: ClassVar[Effect]
    name: ClassVar[str] = ""
    rtol: ClassVar[float] = 1e-4  # ROUNDING: how far it may move an output, relative to the output's scale

    def __init_subclass__(cls) -> None:
        cls.name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", cls.__name__).lower()
        other = _PASSES.get(cls.name)
        if other is not None and other.__module__ != cls.__module__:
            raise PassError(f"pass {cls.name} is defined in {other.__module__} and in {cls.__module__}")
        _PASSES[cls.name] = cls

    def run(self, graph: Graph) -> bool:
        """Transform ``graph`` in place; True when it changed."""
        raise PassError(f"pass {self.name} does not define run")

    def describe(self) -> str:
        """``prune{sparsity=0.8}``: the text that :func:`parse_pipeline` turns back into this pass."""
        given = []
        for f in fields(self):
            if not f.repr:  # data, which has no text form
                continue
            value = getattr(self, f.name)
            default = f.default if f.default_factory is MISSING else f.default_factory()
            if default is MISSING or not same_attr(value, default):
                given.append(f"{f.name}={_option(value)}")
        return f"{self.name}{{{', '.join(given)}}}" if given else self.name


def _option(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(_option(v) for v in value)}]"
    return repr(value)


def all_passes() -> dict[str, type[Pass]]:
    """All passes that have been imported, by name."""
    return dict(sorted(_PASSES.items()))


def parse_pipeline(text: str) -> list[Pass]:
    """Passes from ``"fold-bn,dce,prune{sparsity=0.8}"``.

    PassError for unknown passes and options, ParseError for syntax. Passes are known once their module is imported.
    """
    p = Parser(text)
    out: list[Pass] = []
    while p.kind != "end":
        if out:
            p.expect(",")
        name = p.take("ident", "a pass")
        if name not in _PASSES:
            raise PassError(f"unknown pass {name!r}; there are: {', '.join(sorted(_PASSES))}")
        cls = _PASSES[name]
        options = p.attrs() if p.token == "{" else {}
        known = {f.name for f in fields(cls)}
        for key in options:
            if key not in known:
                raise PassError(f"pass {name} has no option {key!r}; it has: {', '.join(sorted(known)) or 'none'}")
        try:
            out.append(cls(**options))
        except TypeError as e:
            raise PassError(f"pass {name}: {e}") from None
    return out


def describe_pipeline(passes: Iterable[Pass]) -> str:
    """The text that :func:`parse_pipeline` turns back into these passes."""
    return ",".join(p.describe() for p in passes)


@dataclass
class PassRecord:
    """What one pass did: for timing, dumps and reports."""

    name: str
    effect: Effect
    changed: bool
    seconds: float
    ops_before: int
    ops_after: int
    hits: dict[str, int] = field(default_factory=dict)
    error: float | None = None  # largest change of an output, relative to its scale, when values were checked


class Instrument:
    """Hooks around passes; override what is needed. What a hook raises counts as a failure of the pass."""

    def start(self, graph: Graph) -> None:
        """Called once, before the first pass."""

    def before(self, pass_: Pass, graph: Graph) -> None:
        """Called before each pass."""

    def after(self, pass_: Pass, graph: Graph, record: PassRecord) -> None:
        """Called after each pass, when the graph has been verified."""


class Dump(Instrument):
    """Hands the text of the graph to ``sink(index, pass, text)`` after each pass that changed it.

    ``sink`` may be a folder, which then gets files ``00-input.ir``, ``03-fold-bn.ir``, ...
    """

    def __init__(self, sink: Path | str | Callable[[int, str, str], None]) -> None:
        self.index = 0
        if callable(sink):
            self.sink = sink
        else:
            folder = Path(sink)
            folder.mkdir(parents=True, exist_ok=True)
            self.sink = lambda i, name, text: _write(folder / f"{i:02d}-{name}.ir", text)

    def start(self, graph: Graph) -> None:
        """Dump the input."""
        self.index = 0
        self.sink(0, "input", print_graph(graph))

    def after(self, pass_: Pass, graph: Graph, record: PassRecord) -> None:
        """Dump what the pass made."""
        self.index += 1
        if record.changed:
            self.sink(self.index, pass_.name, print_graph(graph))


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


class ValueCheck(Instrument):
    """Runs the graph on samples after each pass that changed it and compares with before, by the declared effect.

    EXACT: equal bits (any NaN equals any NaN). ROUNDING: within ``rtol`` of the output's largest finite magnitude.
    LOSSY: the change is recorded, not judged. Each sample is a tuple with one array per input of the graph.
    """

    def __init__(self, samples: Sequence[Sequence[Array]], rtol: float | None = None) -> None:
        self.samples = [tuple(s) for s in samples]
        self.rtol = rtol
        self.current: list[list[Array]] = []

    def _outputs(self, graph: Graph) -> list[list[Array]]:
        run = Interpreter(graph)
        return [run(*s) for s in self.samples]

    def start(self, graph: Graph) -> None:
        """Compute what the input graph answers."""
        self.current = self._outputs(graph)

    def after(self, pass_: Pass, graph: Graph, record: PassRecord) -> None:
        """Compute again and compare."""
        if not record.changed:
            return
        new = self._outputs(graph)
        record.error = 0.0
        for s, (olds, news) in enumerate(zip(self.current, new, strict=True)):
            if len(olds) != len(news):
                raise PassError(f"changed the number of outputs from {len(olds)} to {len(news)}")
            for i, (a, b) in enumerate(zip(olds, news, strict=True)):
                message, error = compare(a, b, pass_.effect, pass_.rtol if self.rtol is None else self.rtol)
                record.error = max(record.error, error)
                if message:
                    raise PassError(f"declares {pass_.effect.value}, but output {i} on sample {s} {message}")
        self.current = new


def compare(a: Array, b: Array, effect: Effect, rtol: float = 1e-4) -> tuple[str, float]:
    """How ``b`` breaks ``effect`` with respect to ``a`` ("" when it does not), and their relative distance."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return f"went from {a.dtype}{list(a.shape)} to {b.dtype}{list(b.shape)}", float("inf")
    x, y = a.astype(np.float64), b.astype(np.float64)
    finite = np.isfinite(x)
    scale = float(np.abs(x[finite]).max(initial=0.0))
    with np.errstate(invalid="ignore"):
        same = (x == y) | (np.isnan(x) & np.isnan(y))
        gap = np.where(same, 0.0, np.abs(x - y))
    gap = np.where(np.isnan(gap), np.inf, gap)
    distance = float(gap.max(initial=0.0))
    error = distance if distance == 0.0 else distance / scale if scale else float("inf")
    if effect is Effect.EXACT:
        bits = same & ((x != 0) | (np.signbit(x) == np.signbit(y)))
        if not bits.all():
            at = tuple(int(i) for i in np.argwhere(~bits)[0])
            return f"differs in {int((~bits).sum())} of {a.size} elements, at {at}: {a[at]!r} became {b[at]!r}", error
    if effect is Effect.ROUNDING and error > rtol:
        at = tuple(int(i) for i in np.unravel_index(int(np.argmax(gap)), gap.shape))
        return f"is off by {error:.3g} of its scale (limit {rtol:g}), at {at}: {a[at]!r} became {b[at]!r}", error
    return "", error


def write_reproducer(graph: Graph, passes: Sequence[Pass], folder: Path | str | None = None) -> Path:
    """Write ``graph`` and the pipeline still to run to ``<folder>/<hash>.ir`` (large constants beside it, ``.npz``)."""
    sidecar: dict[str, Array] = {}
    text = f"// RUN: {describe_pipeline(passes)}\n" + print_graph(graph, sidecar)
    where = Path(tempfile.mkdtemp(prefix="irkit-")) if folder is None else Path(folder)
    where.mkdir(parents=True, exist_ok=True)
    name = passes[0].name if passes else "graph"
    path = where / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:10]}.ir"
    _write(path, text)
    write_constants(path, sidecar)
    return path


def write_constants(path: Path, constants: Mapping[str, Array]) -> None:
    """Large constants of the text file ``path``, as the .npz beside it; none when there are none."""
    if constants:
        with path.with_suffix(".npz").open("wb") as f:
            arrays: dict[str, Any] = {f"k{i}": a for i, a in enumerate(constants.values())}
            np.savez(f, keys=np.array(list(constants)), **arrays)


def read_constants(path: Path) -> dict[str, Array]:
    """The constants that :func:`write_constants` put beside the text file ``path``; empty when there are none."""
    beside = path.with_suffix(".npz")
    if not beside.exists():
        return {}
    with np.load(beside, allow_pickle=False) as z:
        return {str(key): z[f"k{i}"] for i, key in enumerate(z["keys"])}


def read_reproducer(path: Path | str) -> tuple[Graph, list[Pass]]:
    """The graph and the pipeline of a file that :func:`write_reproducer` made."""
    from irkit.ir.parse import parse_graph

    path = Path(path)
    text = path.read_text(encoding="utf-8")
    first = text.split("\n", 1)[0]
    if not first.startswith("// RUN:"):
        raise ParseError(f"{path}: line 1: expected '// RUN: <pipeline>'")
    return parse_graph(text, read_constants(path)), parse_pipeline(first.removeprefix("// RUN:"))


class PassManager:
    """Runs passes in order, verifies the graph before the first and after each, and tells instruments.

    When a pass raises, leaves a graph that does not verify, or breaks its declared effect, the graph as it was before
    that pass and the rest of the pipeline are written to a reproducer file (in ``reproducers``, or a fresh temporary
    folder), and PassError names pass and file.
    """

    def __init__(
        self, passes: Iterable[Pass], instruments: Sequence[Instrument] = (), reproducers: Path | str | None = None
    ) -> None:
        self.passes = list(passes)
        self.instruments = list(instruments)
        self.reproducers = reproducers

    def run(self, graph: Graph) -> list[PassRecord]:
        """Transform ``graph`` in place; a record per pass. IRError when ``graph`` does not verify to begin with."""
        verify(graph)
        for i in self.instruments:
            i.start(graph)
        records: list[PassRecord] = []
        before, first = graph.clone(), 0  # the graph as it was before pass ``first``; later ones changed nothing
        for n, p in enumerate(self.passes):
            if records and records[-1].changed:
                before, first = graph.clone(), n
            try:
                records.append(self._run_one(p, graph))
            except (KeyboardInterrupt, SystemExit, CalibrationError):  # the user's data, not the pass, is at fault
                raise
            except Exception as e:
                path = write_reproducer(before, self.passes[first:], self.reproducers)
                text = str(e) if isinstance(e, IrkitError) else f"{type(e).__name__}: {e}"
                raise PassError(f"pass {p.describe()}: {text} [reproducer: {path}]") from e
        return records

    def _run_one(self, p: Pass, graph: Graph) -> PassRecord:
        for i in self.instruments:
            i.before(p, graph)
        ops_before = len(graph)
        start = time.perf_counter()
        with count_hits() as hits:
            changed = p.run(graph)
        seconds = time.perf_counter() - start
        verify(graph)
        record = PassRecord(p.name, p.effect, changed, seconds, ops_before, len(graph), dict(hits))
        for i in self.instruments:
            i.after(p, graph, record)
        return record
