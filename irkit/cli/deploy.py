"""The commands that lead to the device: export and toolchain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from irkit.cli import io as cli_io
from irkit.cli.commands import MODEL_HELP, Calibration, Inputs, Keep, Mean, Shapes, Std, app, build
from irkit.cli.show import err, out, progress, reports_errors, show_summary
from irkit.errors import DeployError, InputError

OK, NO = "[green]yes[/]", "[red]no[/]"


@app.command("export")
@reports_errors
def export_command(
    model: Annotated[str, typer.Argument(help=f"An .irk artifact, or a model to compile: {MODEL_HELP}")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.")],
    inputs: Inputs = None,
    shape: Shapes = None,
    target: Annotated[
        str | None,
        typer.Option("--target", "-t", help="What to compile for; see `irkit targets`. Default native-fp32."),
    ] = None,
    calibration: Calibration = None,
    keep_float: Keep = None,
    mean: Mean = 0.0,
    std: Std = 1.0,
    toolchain: Annotated[Path | None, typer.Option("--toolchain", help="A CMake toolchain file to build with.")] = None,
    build_now: Annotated[bool, typer.Option("--build", help="Build it right away, and run the sample.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
) -> None:
    """Write a C project: the model, the runtime's sources, an example that builds with one command."""
    from irkit.deploy.build import build_project
    from irkit.deploy.project import check_free
    from irkit.target import host_arch

    check_free(output.absolute(), force)
    pixels = cli_io.Pixels(mean, std)
    exe: Any
    if model.endswith(".irk"):
        given = {"--shape": shape, "--target": target, "--calibration": calibration, "--keep-float": keep_float}
        if used := [name for name, value in given.items() if value]:
            raise InputError(f"{model} is compiled already: {', '.join(used)} can't change it")
        exe = cli_io.load_artifact(Path(model))
    else:
        goal = target or "native-fp32"
        exe = build(model, inputs, shape, goal, calibration, keep_float, None, False, pixels)
    sample = cli_io.read_inputs(inputs, exe.signature.inputs, pixels) if inputs else None
    folder = exe.export(output, sample, toolchain=toolchain, force=force)
    show_summary(exe)
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    out.print(f"wrote  {escape(str(output))}, {size / 1e6:.2f} MB; README.md there says how to build it")
    if not build_now:
        return
    with progress() as bar:
        bar.add_task("building", total=None)
        built = build_project(folder, exe.target.arch if exe.target else host_arch())
    same = {True: "gives the same bits as here", False: "", None: "not run: there is no way to run it here"}
    if built.same_bits is False:
        raise DeployError(f"{built.program} was built, but its answer to the sample is not the one expected")
    out.print(f"built  {escape(str(built.program))} with {escape(built.compiler)}; {same[built.same_bits]}")


@app.command("toolchain")
@reports_errors
def toolchain_command(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write a CMake toolchain file for the compiler found.")
    ] = None,
) -> None:
    """Find a compiler for 64-bit Arm Linux, try what it can build, or say how to get one."""
    from irkit.deploy import toolchain as tc

    table = Table("looked for", "found", title="compilers for 64-bit Arm, best first", title_justify="left")
    for c in tc.candidates():
        found = c.version if isinstance(c, tc.Compiler) else f"[yellow]{escape(c.why)}[/]; {escape(c.hint)}"
        table.add_row(c.place, found)
    out.print(table)
    compiler = tc.find_compiler()
    emulator = tc.find_emulator()
    out.print(f"compiler  {escape(' '.join(compiler.cxx))}")
    hint = "none; to run arm64 programs here, install qemu (Debian, Ubuntu: qemu-user)"
    out.print(f"emulator  {escape(emulator or hint)}")
    if emulator and tc.sysroot(compiler) is None:
        out.print("          [yellow]it lacks the arm64 C library[/] (Debian, Ubuntu: libc6-dev-arm64-cross)")
    with progress() as bar:
        bar.add_task("trying the compiler (zig takes minutes the first time)", total=None)
        trials = tc.try_levels(compiler)
    table = Table("instruction set", "compiles", "runs", "")
    for t in trials:
        runs = "not tried" if t.runs is None else OK if t.runs else NO
        table.add_row(t.level, OK if t.compiles else NO, runs, escape(t.message))
    out.print(table)
    if output is not None:
        output.write_text(tc.cmake_file(compiler), encoding="utf-8")
        out.print(f"wrote {escape(str(output))}: cmake --toolchain {escape(str(output))}")
    if not all(t.compiles for t in trials):
        err.print("[bold red]error:[/] the compiler does not build every instruction set; a newer one is needed")
        raise typer.Exit(1)
