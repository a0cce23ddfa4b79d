"""irkit and other engines side by side: the same networks, one interleaved run, an array in and an array out.

    python -m bench.peer_models irkit build/peers                 the networks of bench/zoo.py as irkit has them
    python -m bench.peer_models onnx build/peers                  and, each in an environment that has the tools, as
                                                                  openvino, tflite, executorch, ncnn, mnn, deepsparse do
    python -m bench.peers build/peers --env ~/peers --markdown    beside the engines found in those environments

Of each network, precision and thread count, all engines are loaded, each in a process of its own, and take turns. A
figure is the least of the turns' medians, and of the starts. An engine that is not installed, has no file of a network
or fails is named, not skipped in silence. Each engine's answer is compared with the float answer of irkit (cosine):
int8 models of other tools come from random calibration and are there for their speed.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT)]

import numpy as np  # noqa: E402
import typer  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from bench.engines import ENGINES  # noqa: E402
from irkit.bench.latency import Settings, arrays_file, irkit_environment, summary  # noqa: E402
from irkit.bench.process import Job, Turn, Worker, interleave  # noqa: E402
from irkit.bench.report import Report, read  # noqa: E402
from irkit.bench.stats import geometric_mean  # noqa: E402
from irkit.errors import BenchError, IrkitError  # noqa: E402

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
out = Console(width=None if sys.stdout.isatty() else 160)
OURS = "irkit"
LOADERS = Path(__file__).with_name("engines.py")
FILES = {OURS: {"fp32": (".irk",), "int8": (".int8.irk",)}, **{name: e.files for name, e in ENGINES.items()}}
SUFFIXES = sorted({s for files in FILES.values() for names in files.values() for s in names}, key=len, reverse=True)


def interpreters(folders: Iterable[Path]) -> list[Path]:
    """This Python, and those of environments: folders with bin/python, or folders of such folders."""
    found = [Path(sys.executable)]
    for folder in folders:
        inside = [folder / "bin/python", *sorted(folder.glob("*/bin/python"))]
        if not any(p.exists() for p in inside):
            raise BenchError(f"{folder} is no environment (bin/python), and no folder of environments")
        found += [p.absolute() for p in inside if p.exists()]
    return found


def find_engines(names: Sequence[str], pythons: Sequence[Path]) -> tuple[dict[str, Path], list[str]]:
    """The first interpreter that has each engine, and the engines that none has. BenchError for an unknown name."""
    if unknown := [n for n in names if n not in ENGINES]:
        raise BenchError(f"unknown engine {', '.join(unknown)}; known: {', '.join(ENGINES)}")
    modules = [ENGINES[n].module for n in names]
    code = "import sys, importlib.util as u; print(*(int(u.find_spec(m) is not None) for m in sys.argv[1:]))"
    found: dict[str, Path] = {}
    for python in pythons:
        done = subprocess.run([str(python), "-c", code, *modules], capture_output=True, text=True)
        for name, has in zip(names, done.stdout.split(), strict=False):
            if has == "1":
                found.setdefault(name, python)
    return found, [n for n in names if n not in found]


def networks(folder: Path) -> list[str]:
    """Names of the networks that have a file of irkit's in a folder."""
    found = sorted({p.name.removesuffix(".irk").removesuffix(".int8") for p in folder.glob("*.irk")})
    if not found:
        raise BenchError(f"no .irk files in {folder}: python -m bench.peer_models irkit {folder}")
    return found


def sample(folder: Path, name: str) -> np.ndarray[Any, Any]:
    """The input of all engines: NAME.in.npy, else made up."""
    import irkit
    from irkit.backend.artifact import sample_input

    if (folder / f"{name}.in.npy").exists():
        return np.asarray(np.load(folder / f"{name}.in.npy"))
    path = next(p for p in (folder / f"{name}.irk", folder / f"{name}.int8.irk") if p.exists())
    return sample_input(irkit.load(path, threads=1).signature.inputs[0][1], 0)


def cosine(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
    """Of two answers, as vectors; 0 where they don't have as many elements."""
    x, y = (v.astype(np.float64).ravel() for v in (a, b))
    if x.size != y.size:
        return 0.0
    return float(x @ y / (np.linalg.norm(x) * np.linalg.norm(y) or 1.0))


def group(
    jobs: dict[str, Job], settings: Settings, tell: Callable[[str], None]
) -> dict[str, tuple[list[dict[str, Any]], list[Turn]]]:
    """What each engine told and its turns; one that does not load is named and left out."""
    got: dict[str, tuple[list[dict[str, Any]], list[Turn]]] = {n: ([], []) for n in jobs}
    for start, rounds in enumerate(settings.per_start()):
        with contextlib.ExitStack() as stack:
            team: dict[str, Worker] = {}
            for name, job in jobs.items():
                try:
                    team[name] = Worker(job)
                except BenchError as e:
                    tell(str(e))
                    continue
                stack.callback(team[name].close)
            for name, turns in zip(team, interleave(list(team.values()), rounds, settings.seconds, start), strict=True):
                got[name][0].append(team[name].about)
                got[name][1].extend(turns)
    return {n: v for n, v in got.items() if v[0]}


def measure(
    folder: Path, names: Sequence[str], precisions: Sequence[str], threads: Sequence[int], pythons: dict[str, Path],
    settings: Settings, tell: Callable[[str], None],
) -> list[dict[str, Any]]:  # fmt: skip
    """Rows of kind "peers"; ``pythons``: the interpreter of each engine."""
    import irkit

    rows: list[dict[str, Any]] = []
    for name in names:
        x = sample(folder, name)
        with arrays_file([x]) as inputs, tempfile.TemporaryDirectory() as answers:
            wanted = irkit.load(folder / f"{name}.irk", threads=1)(x) if (folder / f"{name}.irk").exists() else None
            for precision in precisions:
                jobs = _jobs(folder, name, precision, inputs, Path(answers), pythons, tell)
                for n in threads:
                    here = {
                        e: replace(job, label=f"{job.label}, {n} thread(s)", threads=n, cpus=settings.cpus(n))
                        for e, job in jobs.items()
                    }
                    for engine, (told, turns) in group(here, settings, tell).items():
                        row = {"model": name, "precision": precision, "threads": n, "engine": engine}
                        rows.append({**row, **summary(told, turns), **_about(folder, row, told, answers, wanted)})
                    tell(f"{name} {precision}, {n} thread(s): {_line(rows, name, precision, n)}")
    return rows


def _about(
    folder: Path, row: dict[str, Any], told: Sequence[dict[str, Any]], answers: str, wanted: Any
) -> dict[str, Any]:
    """Version, size of the files, and how close the answer is to ours."""
    with np.load(Path(answers) / f"{row['engine']}.npz") as y:
        close = None if wanted is None else cosine(_first(wanted), y["arr_0"])
    files = (folder / f"{row['model']}{s}" for s in FILES[row["engine"]][row["precision"]])
    return {"version": told[0]["version"], "file_bytes": sum(f.stat().st_size for f in files), "cosine": close}


def _jobs(
    folder: Path, name: str, precision: str, inputs: Path, answers: Path, pythons: dict[str, Path],
    tell: Callable[[str], None],
) -> dict[str, Job]:  # fmt: skip
    jobs = {}
    for engine in (OURS, *pythons):
        suffixes = FILES[engine].get(precision, ())
        missing = [f"{name}{s}" for s in suffixes if not (folder / f"{name}{s}").exists()]
        if missing or not suffixes:
            tell(f"{engine}: no {', '.join(missing) or f'{precision} model'} ({name}, {precision})")
            continue
        jobs[engine] = Job(
            f"{engine}, {name}, {precision}", folder / f"{name}{suffixes[0]}", 1, inputs,
            engine=None if engine == OURS else ENGINES[engine].__name__, loaders=LOADERS,
            python=pythons.get(engine, Path(sys.executable)), env=irkit_environment() if engine == OURS else {},
            outputs=answers / f"{engine}.npz",
        )  # fmt: skip
    return jobs


def _first(y: Any) -> np.ndarray[Any, Any]:
    while isinstance(y, (tuple, list, dict)):
        y = next(iter(y.values() if isinstance(y, dict) else y))
    return np.asarray(y)


def least(row: dict[str, Any]) -> float:
    """The figure of a row: the least of its turns' medians, ms."""
    return float(min(row["turns_ms"]))


def cells(rows: Sequence[dict[str, Any]]) -> dict[tuple[str, str, int], dict[str, dict[str, Any]]]:
    """Rows by engine, of each network, precision and thread count."""
    found: dict[tuple[str, str, int], dict[str, dict[str, Any]]] = {}
    for r in rows:
        found.setdefault((r["model"], r["precision"], r["threads"]), {})[r["engine"]] = r
    return found


def ratios(
    rows: Sequence[dict[str, Any]], key: Callable[[dict[str, Any]], float] = least
) -> dict[Any, tuple[str, float]]:
    """(best other, ours over it) of each network, precision and thread count that both have."""
    found = {}
    for at, by in cells(rows).items():
        others = {e: key(r) for e, r in by.items() if e != OURS}
        if OURS in by and others:
            best = min(others, key=lambda e: others[e])
            found[at] = best, key(by[OURS]) / others[best]
    return found


def start_ms(row: dict[str, Any]) -> float:
    """Load and first call, the quickest start."""
    return float(min(row["starts_ms"]))


def _line(rows: Sequence[dict[str, Any]], name: str, precision: str, n: int) -> str:
    by = cells(rows).get((name, precision, n), {})
    return ", ".join(f"{e} {least(r):.4g}" for e, r in sorted(by.items(), key=lambda v: least(v[1])))


def title(engine: str) -> str:
    """An engine as people call it."""
    return ENGINES[engine].title if engine in ENGINES else engine


def markdown(report: Report) -> str:
    """The tables as the README has them: latency, then load and memory; one line per network and precision."""
    rows, found = report.rows, cells(report.rows)
    counts = sorted({r["threads"] for r in rows})
    heads = [h for n in counts for h in (f"{n} thread{'s' if n > 1 else ''}", "best other", "ratio")]
    lines = [f"| network | | {' | '.join(heads)} |", f"|{' --- |' * (2 + len(heads))}"]
    best = ratios(rows)
    for name, precision in dict.fromkeys((r["model"], r["precision"]) for r in rows):
        line = [name, precision]
        for n in counts:
            by = found.get((name, precision, n), {})
            ours = f"{least(by[OURS]):.3g}" if OURS in by else ""
            if (name, precision, n) in best:
                other, ratio = best[name, precision, n]
                line += [ours, f"{least(by[other]):.3g} {title(other)}", f"{ratio:.2f}"]
            else:
                line += [ours, "", ""]
        lines.append(f"| {' | '.join(line)} |")
    for precision in dict.fromkeys(r["precision"] for r in rows):
        line = ["geometric mean", precision]
        for n in counts:
            mine = [v for (_, p, k), (_, v) in best.items() if (p, k) == (precision, n)]
            line += ["", "", f"{geometric_mean(mine):.2f}" if mine else ""]
        lines.append(f"| {' | '.join(line)} |")
    lines += [
        "",
        "| network | | load + first call, ms | best other | peak memory, MB | best other |",
        f"|{' --- |' * 6}",
    ]
    one = [r for r in rows if r["threads"] == counts[0]]
    quick, small = ratios(one, start_ms), ratios(one, lambda r: float(r["peak_bytes"]))
    for (name, precision, _), by in cells(one).items():
        if (name, precision, counts[0]) not in quick:
            continue
        a, b = quick[name, precision, counts[0]][0], small[name, precision, counts[0]][0]
        ms = [f"{start_ms(by[OURS]):.3g}", f"{start_ms(by[a]):.3g} {title(a)}"]
        mb = [f"{by[OURS]['peak_bytes'] / 1e6:.0f}", f"{by[b]['peak_bytes'] / 1e6:.0f} {title(b)}"]
        lines.append(f"| {' | '.join([name, precision, *ms, *mb])} |")
    versions = {e: r["version"] for r in rows for e in [r["engine"]]}
    titles = [f"{title(e)} {v}" for e, v in versions.items()]
    return "\n".join([*lines, "", f"{report.machine['cpu']}, {report.date[:10]}; {', '.join(titles)}."])


def show(rows: Sequence[dict[str, Any]]) -> None:
    """One line per network, precision and thread count; engines side by side."""
    engines = list(dict.fromkeys(r["engine"] for r in rows))
    table = Table("network", "", "threads", title="ms, the least of the turns' medians", title_justify="left")
    for e in (*engines, "irkit / best other"):
        table.add_column(e, justify="right")
    best = ratios(rows)
    for at, by in cells(rows).items():
        ratio = f"{best[at][1]:.2f} ({best[at][0]})" if at in best else ""
        table.add_row(at[0], at[1], str(at[2]), *(f"{least(by[e]):.4g}" if e in by else "" for e in engines), ratio)
    out.print(table)
    far = [r for r in rows if r["cosine"] is not None and r["cosine"] < 0.9]
    for r in far:
        out.print(f"{r['engine']}, {r['model']} {r['precision']}: its answer is another (cosine {r['cosine']:.3f})")


@app.command(help=__doc__)
def main(
    folder: Annotated[Path, typer.Argument(help="Folder of networks in the engines' formats; or a .json of results.")],
    models: Annotated[list[str] | None, typer.Argument(help="Networks; default: all in the folder.")] = None,
    env: Annotated[list[Path] | None, typer.Option(help="Environment, or folder of them (repeatable).")] = None,
    engines: Annotated[str, typer.Option(help="Engines, as ort,openvino; default: all.")] = "",
    precision: Annotated[list[str] | None, typer.Option(help="int8, fp32 (repeatable).")] = None,
    threads: Annotated[str, typer.Option(help="Thread counts, as 1,2.")] = "1,2",
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each engine.")] = 6,
    seconds: Annotated[float, typer.Option(min=0.001, help="Length of a turn.")] = 0.2,
    starts: Annotated[int, typer.Option(min=1, help="Processes of each engine, one after the other.")] = 2,
    pin: Annotated[bool, typer.Option("--pin", help="Keep to the first CPUs, one a thread.")] = False,
    table: Annotated[bool, typer.Option("--markdown", help="Print the tables as the README has them.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the results to this file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw them: .svg or .png.")] = None,
) -> None:
    """Measure irkit beside other engines."""
    from irkit.cli.bench import thread_counts

    if folder.suffix == ".json":
        report = read(folder)
    else:
        known = networks(folder)
        if unknown := [m for m in models or () if m not in known]:
            raise BenchError(f"no network {', '.join(unknown)} in {folder}; it has {', '.join(known)}")
        wanted = engines.split(",") if engines else list(ENGINES)
        found, missing = find_engines(wanted, interpreters(env or ()))
        if missing:
            print(f"not installed: {', '.join(ENGINES[n].title for n in missing)}", file=sys.stderr)
        settings = Settings(rounds, seconds, starts, pin)
        rows = measure(
            folder, models or known, precision or ["fp32", "int8"], thread_counts(threads), found, settings,
            lambda text: print(text, file=sys.stderr, flush=True),
        )  # fmt: skip
        report = Report("peers", rows, {**vars(settings), "missing": missing})
    if table:
        print(markdown(report))
    else:
        show(report.rows)
    if json_file:
        report.write(json_file)
    if plot:
        from irkit.bench.plots import draw

        draw(report, plot)


if __name__ == "__main__":
    try:
        app()
    except IrkitError as e:
        sys.exit(f"error: {e}")
