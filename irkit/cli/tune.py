"""The command ``irkit tune``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from irkit.cli.bench import arrays_of
from irkit.cli.commands import Threads, app
from irkit.cli.show import out, progress, reports_errors


@app.command("tune")
@reports_errors
def tune_command(
    artifact: Annotated[Path, typer.Argument(help="An .irk file.")],
    inputs: Annotated[
        list[Path] | None, typer.Option("--input", "-i", help=".npy per input, or one .npz; default: made up.")
    ] = None,
    threads: Threads = None,
    seconds: Annotated[float, typer.Option("--seconds", min=0, help="Time limit.")] = 2.0,
) -> None:
    """Measure how an artifact's steps run fastest here, and keep that for later loads; results stay the same."""
    import irkit

    with progress() as bar:
        bar.add_task("measuring", total=None)
        found = irkit.tune(artifact, arrays_of(artifact, inputs), threads, seconds)
    if not found.changed:
        out.print("nothing to change: the runtime's own choices are kept")
        return
    table = Table("layer", "instructions up to", "threads", title="changed steps", title_justify="left")
    for layer, (isa, n) in found.changed:
        table.add_row(escape(layer), isa, str(n))
    out.print(table)
    out.print(f"a call: {found.before_ns / 1e3:.1f} us before, {found.after_ns / 1e3:.1f} us now")
    out.print(f"kept in {escape(str(found.path))}" if found.path else "could not be kept: the folder is not writable")
