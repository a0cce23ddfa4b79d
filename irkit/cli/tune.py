"""The command ``irkit tune``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from irkit.cli.bench import arrays_of
from irkit.cli.commands import Threads, app
from irkit.cli.show import out, progress, reports_errors

if TYPE_CHECKING:
    from irkit.backend.tuning import StepTimes


@app.command("tune")
@reports_errors
def tune_command(
    artifact: Annotated[Path, typer.Argument(help="An .irk file.")],
    inputs: Annotated[
        list[Path] | None, typer.Option("--input", "-i", help=".npy per input, or one .npz; default: made up.")
    ] = None,
    threads: Threads = None,
    seconds: Annotated[float, typer.Option("--seconds", min=0, help="Time limit.")] = 4.0,
    every: Annotated[bool, typer.Option("--all", help="List steps that stay as they are as well.")] = False,
) -> None:
    """Measure how an artifact's steps run fastest here, and keep that for later loads; results stay the same."""
    import irkit

    with progress() as bar:
        bar.add_task("measuring", total=None)
        found = irkit.tune(artifact, arrays_of(artifact, inputs), threads, seconds)
    rows = [s for s in found.steps if every or s.chosen]
    if rows:
        out.print(_table(rows))
    if not found.changed:
        out.print("nothing to change: the runtime's own choices are kept")
        return
    out.print(f"a call: {found.before_ns / 1e3:.1f} us before, {found.after_ns / 1e3:.1f} us now")
    out.print(f"kept in {escape(str(found.path))}" if found.path else "could not be kept: the folder is not writable")


def _table(steps: Sequence[StepTimes]) -> Table:
    """Each step's choice, and the fastest of what was tried: least us, as instructions x threads."""
    table = Table("layer", "choice", title="steps by measurement, us", title_justify="left")
    for name in ("us", "before", "gain"):
        table.add_column(name, justify="right")
    table.add_column("tried")
    for s in steps:
        choice = f"{s.chosen[0]} x {s.chosen[1]}" if s.chosen else ""
        gain = f"{1 - s.after_ns / s.before_ns:.0%}" if s.chosen and s.before_ns else ""
        fastest = sorted(s.tried, key=lambda t: t[1])[:4]
        tried = ", ".join(f"{isa}\u00a0x\u00a0{n}\u00a0{ns / 1e3:.1f}" for (isa, n), ns in fastest)
        table.add_row(escape(s.layer), choice, f"{s.after_ns / 1e3:.1f}", f"{s.before_ns / 1e3:.1f}", gain, tried)
    return table
