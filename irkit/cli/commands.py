"""The command ``irkit``: compile, run, inspect, dump, opt, targets, demo."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from irkit.cli import io as cli_io
from irkit.cli.show import (
    ShowProgress,
    err,
    out,
    plan_table,
    progress,
    read_classes,
    reports_errors,
    show_result,
    show_summary,
)  # fmt: skip
from irkit.errors import CalibrationError, InputError
from irkit.ir.graph import Graph
from irkit.ir.passes import Instrument, Pass, PassRecord
from irkit.ir.types import Array

app = typer.Typer(
    help="Compile PyTorch and Keras models for edge CPUs, run them, and see what was done to them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

MODEL_HELP = "package.module:factory, or a .keras, .h5, .pt2 or .ir file"
Model = Annotated[str, typer.Argument(help=MODEL_HELP)]
Inputs = Annotated[list[Path] | None, typer.Option("--input", "-i", help="Example input: .npy or .npz (repeatable).")]
Shapes = Annotated[list[str] | None, typer.Option("--shape", "-s", help="Example input of zeros, 1x3x224x224[:f32].")]
Goal = Annotated[str, typer.Option("--target", "-t", help="What to compile for; see `irkit targets`.")]
Calibration = Annotated[
    list[Path] | None,
    typer.Option("--calibration", "-c", help="For int8: images, .npy, .npz, or a folder of them (repeatable)."),
]
Keep = Annotated[list[str] | None, typer.Option("--keep-float", help="Layer left in float: name or pattern.")]
Threads = Annotated[int | None, typer.Option("--threads", help="Threads of a call; default IRKIT_THREADS or all.")]
Mean = Annotated[float, typer.Option(help="Images: subtracted from 0..255 values.")]
Std = Annotated[float, typer.Option(help="Images: what is left is divided by this.")]


def import_graph(
    spec: str, files: Sequence[Path] | None, shapes: Sequence[str] | None, bar: Progress, task: Any
) -> Graph:
    """The model as a float graph."""
    from irkit.pipeline import import_model

    bar.update(task, description=f"loading {spec}")
    model, own = cli_io.load_model(spec)
    example = cli_io.example_from(files or (), shapes or ())
    bar.update(task, description="tracing the model")
    return import_model(model, own if example is None else example)


def calibration_of(
    graph: Graph, goal: str, sources: Sequence[Path] | None, pixels: cli_io.Pixels, bar: Progress
) -> Any:
    """Calibration batches with a progress bar, or None for float targets."""
    if not sources:
        return None
    if not goal.endswith("-int8"):
        raise CalibrationError(f"--calibration was given but target {goal} is float")
    wants = [(v.name, v.type) for v in graph.inputs]
    count, batches = cli_io.calibration_batches(sources, wants, pixels)
    return lambda: bar.track(batches(), total=count, description="calibrating")


class Batches:
    """Calibration data that may be read more than once."""

    def __init__(self, start: Callable[[], Any]) -> None:
        self.start = start

    def __iter__(self) -> Any:
        return iter(self.start())


def build(
    spec: str, files: Any, shapes: Any, goal: str, calibration: Any, keep: Any, threads: int | None, strict: bool,
    pixels: cli_io.Pixels, instruments: Sequence[Instrument] = (), winograd: bool = True, tune: float = 0.0,
) -> Any:  # fmt: skip
    """Compile the model a command names."""
    from irkit.pipeline import compile_model
    from irkit.target import Target

    Target.parse(goal)  # complain before the work
    with progress() as bar:
        task = bar.add_task("starting", total=None)
        graph = import_graph(spec, files, shapes, bar, task)
        data = calibration_of(graph, goal, calibration, pixels, bar)
        return compile_model(
            graph, None, goal, None if data is None else Batches(data), threads, strict, tuple(keep or ()),
            [ShowProgress(bar, task), *instruments], winograd, tune=tune,
        )  # fmt: skip


# ---- commands
@app.command("compile")
@reports_errors
def compile_command(
    model: Model,
    output: Annotated[Path, typer.Option("--output", "-o", help="The artifact to write.")] = Path("model.irk"),
    inputs: Inputs = None,
    shape: Shapes = None,
    target: Goal = "native-fp32",
    calibration: Calibration = None,
    keep_float: Keep = None,
    threads: Threads = None,
    mean: Mean = 0.0,
    std: Std = 1.0,
    strict: Annotated[bool, typer.Option("--strict", help="Fail when a step has no native kernel.")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Print every step.")] = False,
    winograd: Annotated[bool, typer.Option(help="fp32: fewer multiplications in 3x3 convolutions.")] = True,
    tune: Annotated[
        float, typer.Option("--tune", help="Seconds to measure, here, which layers run faster together or sparse.")
    ] = 0.0,
) -> None:
    """Compile a model into one file."""
    start = time.perf_counter()
    pixels = cli_io.Pixels(mean, std)
    exe = build(
        model, inputs, shape, target, calibration, keep_float, threads, strict, pixels, winograd=winograd, tune=tune
    )
    exe.save(output)
    if plan:
        out.print(plan_table(exe))
    show_summary(exe)
    size = output.stat().st_size
    out.print(f"wrote  {escape(str(output))}, {size / 1e6:.2f} MB, in {time.perf_counter() - start:.1f} s")


@app.command("run")
@reports_errors
def run_command(
    model: Annotated[str, typer.Argument(help=f"An .irk artifact, or a model to compile: {MODEL_HELP}")],
    files: Annotated[list[Path] | None, typer.Argument(help="One .npy or image per input, or one .npz.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the results to an .npz.")] = None,
    shape: Shapes = None,
    threads: Threads = None,
    top: Annotated[int, typer.Option("--top", min=0, help="Print the highest scores of each row.")] = 0,
    classes: Annotated[
        Path | None, typer.Option("--classes", help="Class names, one a line ('imagenet': built in).")
    ] = None,
    mean: Mean = 0.0,
    std: Std = 1.0,
) -> None:
    """Run an artifact (or a model, compiled on the fly to float) on arrays or images; `irkit bench` times it."""
    exe = load_or_build(model, files, shape, threads)
    arrays = cli_io.read_inputs(files or (), exe.signature.inputs, cli_io.Pixels(mean, std))
    results = exe.run_flat(arrays)
    named = {
        name or f"output{i}": r for i, ((name, _), r) in enumerate(zip(exe.signature.outputs, results, strict=True))
    }
    labels = read_classes(classes)
    for name, r in named.items():
        show_result(name, r, top, labels)
    if output is not None:
        with output.open("wb") as f:
            np.savez(f, **named)
        out.print(f"wrote {escape(str(output))}")


def load_or_build(spec: str, files: Any, shape: Any, threads: int | None) -> Any:
    """An artifact's model, or a model compiled to float."""
    if spec.endswith(".irk"):
        return cli_io.load_artifact(Path(spec), threads)
    arrays = [f for f in files or () if f.suffix.lower() in cli_io.ARRAYS] if not shape else None
    return build(spec, arrays, shape, "native-fp32", None, None, threads, False, cli_io.Pixels())


@app.command("inspect")
@reports_errors
def inspect_command(
    artifact: Annotated[Path, typer.Argument(help="An .irk file.")],
    weights: Annotated[bool, typer.Option("--weights", help="List the constants.")] = False,
    ir: Annotated[bool, typer.Option("--ir", help="Print the graph it runs.")] = False,
) -> None:
    """Show what is in an artifact and what runs where."""
    exe = cli_io.load_artifact(artifact)
    out.print(plan_table(exe))
    show_summary(exe)
    out.print(f"file   {escape(str(artifact))}, {artifact.stat().st_size / 1e6:.2f} MB")
    if weights:
        table = Table("name", "type", "KB", title="constants", title_justify="left")
        for name, a in sorted(exe.plan.consts.items()):
            table.add_row(escape(name), escape(f"{a.dtype}{list(a.shape)}"), f"{a.nbytes / 1e3:.1f}")
        out.print(table)
    if ir:
        from irkit.ir.text import print_graph

        out.print(escape(print_graph(exe.graph)))


@app.command("dump")
@reports_errors
def dump_command(
    model: Model,
    inputs: Inputs = None,
    shape: Shapes = None,
    target: Goal = "native-fp32",
    calibration: Calibration = None,
    keep_float: Keep = None,
    mean: Mean = 0.0,
    std: Std = 1.0,
    passes: Annotated[
        list[str] | None, typer.Option("--pass", help="Only after these passes ('input' is one).")
    ] = None,
    op: Annotated[list[str] | None, typer.Option("--op", help="Only these operations (patterns).")] = None,
    layer: Annotated[list[str] | None, typer.Option("--layer", help="Only these layers (patterns).")] = None,
    changed: Annotated[bool, typer.Option("--changed", help="Only lines that a pass added or removed.")] = False,
    max_lines: Annotated[int, typer.Option(min=0, help="Lines per pass; 0 is all.")] = 60,
    width: Annotated[int, typer.Option(min=0, help="Characters per line; 0 is all.")] = 200,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A folder: one whole file per pass.")] = None,
) -> None:
    """Print the IR after every pass that changed it."""
    from irkit.debug.dump import Filter, FilteredDump, cut, folder_sink

    def show(title: str, lines: list[str]) -> None:
        out.print(f"[bold cyan]=== {escape(title)}[/]")
        for line in cut(lines, max_lines, width):
            color = {"+": "green", "-": "red"}.get(line[:1], "") if changed else ""
            out.print(f"[{color}]{escape(line)}[/]" if color else escape(line))

    wanted = Filter(tuple(passes or ()), tuple(op or ()), tuple(layer or ()), changed)
    dump = FilteredDump(folder_sink(output) if output else show, wanted)
    build(model, inputs, shape, target, calibration, keep_float, 1, False, cli_io.Pixels(mean, std), [dump])
    if output:
        out.print(f"wrote {len(list(output.glob('*.ir')))} files to {escape(str(output))}")


class Records(Instrument):
    """Keeps what each pass did."""

    def __init__(self) -> None:
        self.rows: list[PassRecord] = []

    def after(self, pass_: Pass, graph: Graph, record: PassRecord) -> None:
        """Keep it."""
        self.rows.append(record)


@app.command("opt")
@reports_errors
def opt_command(
    file: Annotated[Path | None, typer.Argument(help="A graph as text (.ir).")] = None,
    pipeline: Annotated[
        str, typer.Option("--pipeline", "-p", help="fold-bn,dce,prune{sparsity=0.8}; default: the file's // RUN: line.")
    ] = "",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the result; default: print it.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Compare values before and after each pass.")] = False,
    stats: Annotated[bool, typer.Option("--stats", help="Print what each pass did.")] = False,
    list_passes: Annotated[bool, typer.Option("--list", help="List all passes.")] = False,
) -> None:
    """Run any passes on a graph in its text form, verified after each."""
    from irkit.ir.passes import ValueCheck, all_passes, write_constants
    from irkit.ir.text import print_graph
    from irkit.pipeline import optimize

    if list_passes:
        table = Table("pass", "effect", "what it does")
        for name, cls in all_passes().items():
            table.add_row(name, cls.effect.value, escape((cls.__doc__ or "").split("\n\n")[0].replace("\n    ", " ")))
        out.print(table)
        return
    if file is None:
        raise InputError("give an .ir file, or --list")
    if not file.is_file():
        raise InputError(f"{file} does not exist")
    graph, own = cli_io.read_graph(file)
    text = pipeline or own
    if not text:
        raise InputError(f"{file} has no // RUN: line; give --pipeline")
    records = Records()
    instruments: list[Instrument] = [records]
    if check:
        rng = np.random.default_rng(0)
        samples = [[_sample(v.type, rng) for v in graph.inputs] for _ in range(2)]
        instruments.append(ValueCheck(samples))
    optimize(graph, text, instruments)
    constants: dict[str, Array] = {}
    printed = print_graph(graph, constants if output else None)
    if output:
        output.write_text(printed + "\n", encoding="utf-8")
        write_constants(output, constants)
    else:
        out.print(escape(printed))
    if stats:
        table = Table("pass", "effect", "changed", "ops", "ms", "error", "rewrites")
        for r in records.rows:
            hits = ", ".join(f"{n} x{c}" for n, c in r.hits.items())
            error = "" if r.error is None else f"{r.error:.2g}"
            ops = f"{r.ops_before} -> {r.ops_after}"
            changed = "yes" if r.changed else "no"
            table.add_row(r.name, r.effect.value, changed, ops, f"{r.seconds * 1e3:.1f}", error, escape(hits))
        err.print(table)


def _sample(t: Any, rng: np.random.Generator) -> Array:
    if t.dtype.is_float:
        return np.asarray(rng.standard_normal(t.shape), t.dtype.numpy)
    return np.asarray(rng.integers(0, 2 if t.dtype.value == "bool" else 100, t.shape), t.dtype.numpy)


@app.command("targets")
@reports_errors
def targets_command() -> None:
    """List the targets, and what this machine can run."""
    import irkit
    from irkit import _native
    from irkit.target import Target, host_arch

    table = Table("target", "stands for", "on this machine")
    for t in irkit.targets():
        full = Target.parse(t)
        table.add_row(t, str(full), "runs fastest" if full.arch == host_arch() else "runs, tuned for another CPU")
    out.print(table)
    out.print(f"instruction sets here, best first: {', '.join(reversed(_native.isas()))} (IRKIT_ISA caps them)")


@app.command("demo")
@reports_errors
def demo_command(
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the artifacts go.")] = Path("build/demo"),
    plan: Annotated[bool, typer.Option("--plan/--no-plan", help="Print what runs where.")] = True,
) -> None:
    """Compile EfficientNet-Lite0 with its ImageNet weights to fp32 and int8 and classify photographs."""
    from irkit.cli.demo import run_demo

    with progress() as bar:
        report = run_demo(output, bar)
    report.show(out, plan_table if plan else None)


def main() -> None:
    """Entry point of the command ``irkit``."""
    app()
