"""What commands print: progress, tables and errors."""

from __future__ import annotations

import functools
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from irkit.errors import InputError, IrkitError
from irkit.ir.graph import Graph
from irkit.ir.passes import Instrument, Pass
from irkit.ir.types import Array

WIDE = 200  # columns of tables in files and pipes, which have no width of their own


def _console() -> Console:
    own = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(highlight=False, soft_wrap=True, width=None if own else WIDE)


out = _console()
err = Console(stderr=True, highlight=False, soft_wrap=True)
F = TypeVar("F", bound=Callable[..., Any])


def reports_errors(command: F) -> F:
    """Errors are one line on stderr and exit code 1; IRKIT_TRACEBACK=1 shows where they come from."""

    @functools.wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # frameworks talk much
                warnings.simplefilter("default", UserWarning)
                warnings.showwarning = _show_warning
                return command(*args, **kwargs)
        except (IrkitError, OSError) as e:
            if os.environ.get("IRKIT_TRACEBACK"):
                raise
            err.print(f"[bold red]error:[/] {escape(str(e))}")
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            err.print("interrupted")
            raise typer.Exit(130) from None

    return wrapper  # type: ignore[return-value]


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    err.print(f"[yellow]warning:[/] {escape(str(message))}")


class ShowProgress(Instrument):
    """Says which pass is running."""

    def __init__(self, bar: Progress, task: Any) -> None:
        self.bar, self.task = bar, task

    def before(self, pass_: Pass, graph: Graph) -> None:
        """Show its name."""
        self.bar.update(self.task, description=f"pass {pass_.name} ({len(graph)} operations)")


def progress() -> Progress:
    """A transient bar on stderr: results on stdout stay clean."""
    return Progress(
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        console=err, transient=True, disable=not err.is_terminal,
    )  # fmt: skip


def plan_table(exe: Any) -> Table:
    """What runs where."""
    table = Table(title=f"{exe.plan.target}: {len(exe.plan.rows)} steps", title_justify="left")
    for name, kind in (
        ("#", 1),
        ("layer", 0),
        ("op", 0),
        ("in", 0),
        ("kernel", 0),
        ("MMAC", 1),
        ("KB", 1),
        ("note", 0),
    ):
        table.add_column(name, justify="right" if kind else "left", overflow="fold")
    for i, r in enumerate(exe.plan.rows):
        mmac = f"{r.macs / 1e6:.2f}" if r.macs else ""
        cells = (str(i), r.layer, r.op, r.precision, r.kernel or r.family, mmac, f"{r.bytes / 1e3:.1f}", r.note)
        table.add_row(*map(escape, cells))
    return table


def show_summary(exe: Any) -> None:
    """Inputs, outputs, cost, and what did not get a native kernel."""
    for kind, ports in (("input", exe.signature.inputs), ("output", exe.signature.outputs)):
        for name, t in ports:
            out.print(f"{kind:6} {escape(name or '-')}: {t.dtype.value}{escape(str(list(t.shape)))}")
    plan = exe.plan
    by: dict[str, int] = {}
    for r in plan.rows:
        by[r.precision] = by.get(r.precision, 0) + 1
    parts = ", ".join(f"{n} in {p}" for p, n in sorted(by.items()))
    out.print(f"steps  {len(plan.rows)} ({parts}), {plan.macs / 1e6:.1f} million multiply-accumulates")
    out.print(f"memory weights {plan.weight_bytes / 1e6:.2f} MB, intermediate results {plan.arena_bytes / 1e6:.2f} MB")
    falls = plan.fallbacks
    if falls:
        out.print(f"[yellow]{len(falls)} step(s) run in NumPy[/]: {', '.join(sorted({r.op for r in falls}))}")
    for layer, why in plan.notes:
        out.print(f"in float: {escape(layer or '(unnamed)')}: {escape(why)}")


def imagenet_classes() -> list[str]:
    """Names of the 1,000 ImageNet classes, in order: the first word of each WordNet synset."""
    return (files("irkit.cli") / "imagenet_classes.txt").read_text(encoding="utf-8").splitlines()


def read_classes(path: Path | None) -> list[str]:
    """Class names, one a line."""
    if path is None:
        return []
    if str(path) == "imagenet":
        return imagenet_classes()
    if not path.is_file():
        raise InputError(f"class names {path} do not exist")
    return path.read_text(encoding="utf-8").splitlines()


def show_result(name: str, r: Array, top: int, labels: Sequence[str]) -> None:
    """One output: its highest scores, or its type and first values."""
    shape = escape(str(list(r.shape)))
    if not top or r.ndim == 0:
        head = ", ".join(f"{v:.6g}" for v in r.reshape(-1)[:6])
        out.print(f"{escape(name)}: {r.dtype}{shape} {head}{', ...' if r.size > 6 else ''}")
        return
    table = Table(title=f"{name}: {r.dtype}{shape}", title_justify="left")
    for column in ("row", "rank", "index", "score", "class")[: 5 if labels else 4]:
        table.add_column(column, justify="left" if column == "class" else "right")
    rows = r.reshape(-1, r.shape[-1])
    for i, row in enumerate(rows):
        for rank, j in enumerate(np.argsort(-row, kind="stable")[:top], 1):
            label = [labels[j] if j < len(labels) else "?"] if labels else []
            table.add_row(str(i), str(rank), str(j), f"{row[j]:.5g}", *map(escape, label))
    out.print(table)
