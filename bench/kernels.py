"""Every row of the kernel table that this machine can run, timed on the shapes that real networks have.

    python -m bench.kernels time qconv dwconv.f32 --isa avx2     some families or rows, on some levels
    python -m bench.kernels time --json kernels.json             all of them; a minute or two
    python -m bench.kernels record                               the shapes anew, after a change of the compiler;
                                                                 or of some networks, by name

Each shape is a plan of one step with made-up data, run by the runtime itself and timed by its profile, again and again
on the same data: as warm as its size allows. A row without a shape is an error, so that no new kernel is forgotten.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT)]

import typer  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.progress import track  # noqa: E402
from rich.table import Table  # noqa: E402

from bench import shapes as recorded  # noqa: E402
from bench.shapes import Shape  # noqa: E402
from irkit import _native  # noqa: E402
from irkit.bench.peaks import peaks  # noqa: E402
from irkit.bench.report import Report  # noqa: E402
from irkit.bench.stats import Summary  # noqa: E402
from irkit.errors import BenchError, IrkitError  # noqa: E402

app = typer.Typer(
    help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
)
out = Console(width=None if sys.stdout.isatty() else 180)
Row = tuple[str, str, str]


@dataclass(frozen=True)
class Task:
    """A shape to be timed on the kernel of a row."""

    row: Row
    shape: Shape

    @property
    def kernel(self) -> str:
        return ".".join(self.row)


def rows_here(wanted: Sequence[str] = (), isas: Sequence[str] = ()) -> list[Row]:
    """The table's rows that this CPU runs, in its order; those of some families or "family.types", of some levels."""
    known = [r[:3] for r in _native.kernel_rows() if r[2] in _native.isas()]
    for name in wanted:
        if not any(name in (r[0], f"{r[0]}.{r[1]}") for r in known):
            families = ", ".join(sorted({r[0] for r in known}))
            raise BenchError(f"no kernel {name!r}; known families: {families}, or family.types")
    for isa in isas:
        if isa not in _native.isas():
            raise BenchError(f"no instruction set {isa!r} here; known: {', '.join(_native.isas())}")
    named = [r for r in known if not wanted or r[0] in wanted or f"{r[0]}.{r[1]}" in wanted]
    return [r for r in named if not isas or r[2] in isas]


def tasks(rows: Sequence[Row], shapes: Sequence[Shape]) -> list[Task]:
    """What there is to time. BenchError naming every row that has no shape, or none that it would be chosen for."""
    found = [Task(row, s) for row in rows for s in shapes if s.row == f"{row[0]}.{row[1]}" and picked(s, row[2]) == row]
    covered = {t.row for t in found}
    if missing := [".".join(r) for r in rows if r not in covered]:
        raise BenchError(
            f"no recorded shape runs {', '.join(missing)}: add a network that needs it to bench/shapes.py, and record"
        )
    return found


def picked(shape: Shape, isa: str) -> Row | None:
    """The row that the runtime chooses for a shape, capped at a level."""
    model, _ = recorded.step_model(shape, isa, 1)
    return model.steps()[0]["row"]  # type: ignore[no-any-return]


def measure(task: Task, threads: int, seconds: float) -> list[int]:
    """Nanoseconds of each of many runs, after some that don't count."""
    model, feed = recorded.step_model(task.shape, task.row[2], threads)
    start, found = time.perf_counter(), []
    while len(found) < 5 or time.perf_counter() - start < seconds:
        found.append(model.profile(feed, 1)[0][3])
    return found[len(found) // 5 :]


def timed(jobs: Sequence[Task], threads: int, seconds: float) -> Iterator[dict[str, Any]]:
    """A row of kind "kernels" for each."""
    for t in jobs:
        ns = Summary.of(measure(t, threads, seconds))
        yield {
            "kernel": t.kernel, "isa": t.row[2], "shape": t.shape.title, "threads": threads, "ns": ns.min,
            "median_ns": ns.median, "p90_ns": ns.p90, "macs": t.shape.macs, "bytes": t.shape.bytes,
            "nets": t.shape.nets,
        }  # fmt: skip


def show(rows: Sequence[dict[str, Any]], threads: int) -> None:
    """One line per kernel and shape."""
    limits = peaks(threads)
    table = Table("kernel", "shape", title=f"kernels, {threads} thread(s)", title_justify="left")
    for name in ("us", "median", "p90", "GOP/s", "of peak", "GB/s", "of its level"):
        table.add_column(name, justify="right")
    table.add_column("nets")
    for r in rows:
        times = [f"{r[k] / 1e3:.4g}" for k in ("ns", "median_ns", "p90_ns")]
        gops, gbs = 2 * r["macs"] / r["ns"], r["bytes"] / r["ns"]
        peak = limits.gops.get(f"{'int8' if r['kernel'].startswith('q') else 'fp32'}.{r['isa']}")
        rate = [f"{gops:.1f}", f"{gops / peak:.0%}" if peak else ""] if r["macs"] else ["", ""]
        nets = r["nets"][0] + (f" +{len(r['nets']) - 1}" if len(r["nets"]) > 1 else "")
        table.add_row(
            r["kernel"],
            r["shape"],
            *times,
            *rate,
            f"{gbs:.1f}",
            f"{gbs / limits.gbs[limits.level(r['bytes'])]:.0%}",
            nets,
        )
    out.print(table)


@app.command("time")
def time_command(
    kernels: Annotated[list[str] | None, typer.Argument(help="Families or rows, as qconv or pool.max_i8.")] = None,
    isa: Annotated[list[str] | None, typer.Option(help="Instruction set (repeatable); default: all.")] = None,
    threads: Annotated[int, typer.Option(min=1, max=256)] = 1,
    top: Annotated[int, typer.Option(min=0, help="This many shapes of each row, the heaviest; 0 is all.")] = 0,
    seconds: Annotated[float, typer.Option(min=0.0, help="For each shape.")] = 0.05,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the results to this file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw them: .svg or .png.")] = None,
) -> None:
    """Time kernels on recorded shapes."""
    jobs = tasks(rows_here(kernels or (), isa or ()), recorded.load())
    if top:
        seen: dict[Row, int] = {}
        for t in list(jobs):
            seen[t.row] = seen.get(t.row, 0) + 1
            if seen[t.row] > top:
                jobs.remove(t)
    shown = track(jobs, "timing", console=Console(stderr=True), transient=True) if sys.stderr.isatty() else jobs
    rows = list(timed(shown, threads, seconds))  # type: ignore[arg-type]
    show(rows, threads)
    report = Report("kernels", rows, {"threads": threads, "seconds": seconds, "top": top})
    if json_file:
        report.write(json_file)
    if plot:
        from irkit.bench.plots import draw

        draw(report, plot)


@app.command("record")
def record_command(
    networks: Annotated[list[str] | None, typer.Argument(help="Some networks only; default: all.")] = None,
) -> None:
    """Compile the networks and write bench/shapes.json."""
    found = recorded.record(networks or ())
    tasks(rows_here(), found)  # complains about rows without a shape
    recorded.save(found)
    out.print(f"{recorded.FILE}: {len(found)} shapes of {len({s.row for s in found})} rows")


if __name__ == "__main__":
    try:
        app()
    except IrkitError as e:
        sys.exit(f"error: {e}")
