"""What arm64 inference costs in instructions, counted under emulation: by class, by step, beside other engines.

    python bench/arm64.py count kws_dscnn --cpu cortex-a76 --steps    one network (or an .irk file), step by step
    python bench/arm64.py count --root ROOT --peers MODELS            all networks, beside LiteRT and ONNX Runtime
    python bench/arm64.py check                                       against the golden counts; --bless keeps new ones
    python bench/arm64.py mca                                         MACs per cycle of the inner loops, by llvm-mca
    python bench/arm64.py setup ROOT                                  arm64 Python with the other engines' wheels

Counts are exact and repeatable. They are not times: nothing here was timed on hardware.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Annotated, Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT)]

import typer  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from bench import armcount, armgolden, armmca, armroot, zoo  # noqa: E402
from bench.armcount import CLASSES, CPUS, Counter, Counts, Inference, total  # noqa: E402

app = typer.Typer(
    help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
)
out = Console(width=None if sys.stdout.isatty() else 160)
PEERS = {"litert": ("LiteRT", "tflite"), "ort": ("ONNX Runtime", "onnx")}

Build = Annotated[Path, typer.Option(help="Where the tools and the artifacts are built.")]
Models = Annotated[list[str] | None, typer.Argument(help="Networks of bench/zoo.py, or .irk files.")]
Cpus = Annotated[list[str] | None, typer.Option("--cpu", help="Emulated CPU, by the emulator's name (repeatable).")]
Precisions = Annotated[list[str] | None, typer.Option("--precision", help="int8, fp32 (repeatable).")]
Kernels = Annotated[list[str] | None, typer.Argument(help="Kernel files, as qconv/neondot.")]
Cores = Annotated[list[str] | None, typer.Option("--cpu", help="Core, by llvm-mca's name (repeatable).")]
BUILD = ROOT / "build/arm64-bench"


@app.command()
def count(
    models: Models = None,
    cpu: Cpus = None,
    precision: Precisions = None,
    root: Annotated[Path | None, typer.Option(help="arm64 root with other engines (see setup).")] = None,
    peers: Annotated[Path | None, typer.Option(help="Folder of NAME[.int8].tflite and NAME[.int8].onnx.")] = None,
    classes: Annotated[bool, typer.Option("--classes", help="Counts by class of instruction.")] = False,
    steps: Annotated[bool, typer.Option("--steps", help="Counts of each step, by class.")] = False,
    hot: Annotated[int, typer.Option(help="List this many hottest blocks of code.")] = 0,
    markdown: Annotated[bool, typer.Option("--markdown", help="The summary as the README has it.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all counts to this file.")] = None,
    build: Build = BUILD,
) -> None:
    """Count the instructions of one inference, one thread, in the steady state."""
    if (root is None) != (peers is None):
        raise typer.BadParameter("--root and --peers go together")
    counter = Counter(build)
    counter.make()
    rows: list[dict[str, Any]] = []
    for name, kind, path in _artifacts(models or _counted(), precision or list(zoo.PRECISIONS), build):
        for core in cpu or CPUS:
            ours = counter.artifact(path, core, steps, hot)
            found = {"irkit": ours}
            for engine, (_, suffix) in PEERS.items() if root and peers else ():
                file = peers / f"{name}{'.int8' if kind == 'int8' else ''}.{suffix}"
                if file.exists():
                    found[engine] = counter.peer(engine, file, core, root)
            rows.append({"model": name, "precision": kind, "cpu": core, "engines": found})
            if steps:
                out.print(_step_table(f"{name} {kind} on {core} ({ours.isa})", ours))
            if hot:
                out.print(_hot_table(f"{name} {kind} on {core}: hottest blocks", ours))
    if markdown:
        print(_markdown(rows))
    else:
        out.print(_summary(rows, classes))
    if json_file:
        json_file.write_text(json.dumps([_as_json(row) for row in rows], indent=1) + "\n")


@app.command()
def check(
    models: Models = None,
    bless: Annotated[bool, typer.Option("--bless", help="Keep the counts of this run as golden.")] = False,
    build: Build = BUILD,
) -> None:
    """Compare with the golden counts: 2 % more vector arithmetic, loads or instructions in all is a failure."""
    counter = Counter(build)
    counter.make()
    golden = armgolden.Golden.load()
    if not bless and (reason := golden.incomparable()):
        raise armcount.CountError(f"{reason}; --bless makes golden counts of these tools")
    names = models or [name for name, net in zoo.NETS.items() if net.golden]
    verdicts = [
        golden.compare(f"{name}.{kind}", core, counter.artifact(path, core).counts)
        for name, kind, path in _artifacts(names, list(zoo.PRECISIONS), build)
        for core in CPUS
    ]
    if bless:
        golden.keep(verdicts)
        out.print(f"kept {len(verdicts)} counts in {armgolden.FILE}")
        return
    table = Table("model", "cpu", "golden", "now", "what", title="instructions of one inference")
    for v in verdicts:
        table.add_row(v.model, v.cpu, *(f"{n:,}" for n in (total(v.golden), total(v.now))), v.text)
    out.print(table)
    if any(v.failed for v in verdicts):
        raise typer.Exit(1)
    if any(v.better for v in verdicts):
        out.print("Some counts are lower: keep them with --bless.")


@app.command()
def mca(
    kernels: Kernels = None,
    cpu: Cores = None,
    top: Annotated[int, typer.Option(help="Loops of each kernel file, those with most MACs.")] = 3,
    listing: Annotated[bool, typer.Option("--listing", help="Print each loop's instructions.")] = False,
    build: Build = BUILD,
) -> None:
    """MACs per cycle of the kernels' inner loops, as llvm-mca's models of the cores predict."""
    counter = Counter(build)
    counter.make()
    tool = armmca.find_tool()
    cores = cpu or list(armmca.CPUS)
    title = f"MACs per cycle of inner loops ({tool.version})"
    table = Table("kernel", "function", "instructions", "MACs", *cores, title=title)
    for loop in armmca.loops(armcount.KERNELS, kernels or [], top):
        figures = [f"{loop.macs / tool.cycles(loop, core):.1f}" if core in loop.runs_on else "-" for core in cores]
        table.add_row(loop.kernel, loop.function, str(len(loop.code)), str(loop.macs), *figures)
        if listing:
            out.print(f"{loop.kernel} {loop.function}", *loop.code, sep="\n  ", highlight=False, markup=False)
    out.print(table)


@app.command()
def setup(root: Annotated[Path, typer.Argument(help="The folder to make.")]) -> None:
    """Make an arm64 root with Python, NumPy, LiteRT and ONNX Runtime: Debian packages and wheels, unpacked (400 MB)."""
    armroot.setup(root)
    out.print(f"{root}: " + ", ".join(f"{name} {version}" for name, version in armroot.installed(root).items()))


def _counted() -> list[str]:
    return [name for name, net in zoo.NETS.items() if net.counted]


def _artifacts(models: list[str], precisions: list[str], build: Path) -> list[tuple[str, str, Path]]:
    """(name, precision, file) of each; networks are compiled where that has not been done."""
    if unknown := set(precisions) - set(zoo.PRECISIONS):
        raise typer.BadParameter(f"unknown precision {', '.join(sorted(unknown))}; known: {', '.join(zoo.PRECISIONS)}")
    found = []
    for model in models:
        if model.endswith(".irk"):
            path = Path(model)
            if not path.is_file():
                raise typer.BadParameter(f"no file {model}")
            kind = "int8" if path.stem.endswith(".int8") else "fp32"
            found.append((path.stem.removesuffix(".int8"), kind, path))
        elif model in zoo.NETS:
            found += [(model, kind, zoo.artifact(model, kind, build / "models")) for kind in precisions]
        else:
            raise typer.BadParameter(f"unknown network {model!r}; known: {', '.join(zoo.NETS)}, or an .irk file")
    return found


def _summary(rows: list[dict[str, Any]], classes: bool) -> Table:
    """One line per model, precision and CPU, or per engine too when classes are wanted."""
    engines = [e for e in ("irkit", *PEERS) if any(e in row["engines"] for row in rows)]
    table = Table("model", "", "cpu", title="million instructions per inference, one thread")
    if classes:
        for head in ("engine", "all", *CLASSES):
            table.add_column(head, justify="right")
    else:
        for engine in engines:
            table.add_column(PEERS[engine][0] if engine in PEERS else engine, justify="right")
        if len(engines) > 1:
            table.add_column("irkit / best other", justify="right")
    for row in rows:
        head, found = (row["model"], row["precision"], row["cpu"]), row["engines"]
        if classes:
            for engine, result in found.items():
                table.add_row(*head, engine, *_millions(result.counts))
            continue
        cells = [f"{total(found[e].counts) / 1e6:.3f}" if e in found else "" for e in engines]
        others = [total(found[e].counts) for e in PEERS if e in found]
        ratio = [f"{total(found['irkit'].counts) / min(others):.2f}" if others else ""] if len(engines) > 1 else []
        table.add_row(*head, *cells, *ratio)
    return table


def _three_digits(n: float) -> str:
    """0.0483, 1.20, 50.0, 133."""
    return f"{n:.{max(0, 2 - math.floor(math.log10(n)))}f}"


def _markdown(rows: list[dict[str, Any]]) -> str:
    """One line per model and precision; of each CPU, ours and the best other."""
    cpus = list(dict.fromkeys(row["cpu"] for row in rows))
    titles = ["model", "", *(title for cpu in cpus for title in (cpu, "best other"))]
    lines = [f"| {' | '.join(titles)} |", f"|{' --- |' * len(titles)}"]
    cells: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        found = {engine: total(r.counts) / 1e6 for engine, r in row["engines"].items()}
        ours, others = found.pop("irkit"), found.values()
        cell = [_three_digits(ours), _three_digits(min(others)) if others else ""]
        cells.setdefault((row["model"], row["precision"]), []).extend(cell)
    return "\n".join([*lines, *(f"| {' | '.join([*head, *row])} |" for head, row in cells.items())])


def _millions(counts: Counts) -> list[str]:
    return [f"{total(counts) / 1e6:.3f}", *(f"{counts[c] / 1e6:.3f}" if counts[c] else "" for c in CLASSES)]


def _step_table(title: str, result: Inference) -> Table:
    used = [c for c in CLASSES if any(step.counts[c] for step in result.steps)]
    table = Table("step", "kernel", "layer", title=title)
    for head in ("all", *used):
        table.add_column(head, justify="right")
    for i, step in enumerate(result.steps):
        counts = (total(step.counts), *(step.counts[c] for c in used))
        table.add_row(str(i), step.kernel, step.layer, *(f"{n:,}" for n in counts))
    return table


def _hot_table(title: str, result: Inference) -> Table:
    table = Table("address", "length", "runs", "instructions", "in", title=title)
    for block in result.hot:
        counts = (block.length, block.runs, block.instructions)
        table.add_row(f"{block.address:#x}", *(f"{n:,}" for n in counts), block.symbol)
    return table


def _as_json(row: dict[str, Any]) -> dict[str, Any]:
    engines = {}
    for engine, r in row["engines"].items():
        engines[engine] = {"isa_or_version": r.isa, "total": total(r.counts), "classes": r.counts}
        if r.steps:
            steps = [{"family": s.family, "kernel": s.kernel, "layer": s.layer, "classes": s.counts} for s in r.steps]
            engines[engine]["steps"] = steps
    return {**row, "engines": engines}


if __name__ == "__main__":
    try:
        app()
    except (armcount.CountError, armroot.RootError) as e:
        sys.exit(f"error: {e}")
