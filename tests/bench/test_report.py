"""Results: written, read, refused; tables, pictures and exit statuses of what makes them."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from bench import compare
from irkit.bench import plots
from irkit.bench.process import Turn
from irkit.bench.report import FIELDS, SCHEMA, Report, read
from irkit.cli import app
from irkit.errors import BenchError

TEXT = {"model", "isa", "layer", "op", "kernel", "limit", "shape", "engine", "version", "precision", "verdict"}


def row(kind: str, i: int = 0) -> dict[str, Any]:
    """A row of a kind, with numbers that differ."""
    found: dict[str, Any] = {}
    for k, name in enumerate(FIELDS[kind]):
        found[name] = (
            f"{name}{i}" if name in TEXT else [1.0 + i] if name in ("turns_ms", "starts_ms") else 1.0 + i + k / 8
        )
    return found | ({"threads": 2, "limit": "int8.avx2"} if kind == "profile" else {})


LIMITS = {"threads": 2, "gops": {"int8.avx2": 300.0, "fp32.avx2": 90.0}, "gbs": {"L1": 200.0, "memory": 9.0},
    "sizes": {"L1": 1 << 16}, "others": 0.0, "date": ""}  # fmt: skip
SETTINGS = {"peaks": {"2": LIMITS}}


@pytest.mark.parametrize("kind", FIELDS)
def test_round_trip(kind: str, tmp_path: Path) -> None:
    report = Report(kind, [row(kind), row(kind, 1)], {"rounds": 3})
    report.write(tmp_path / "r.json")
    back = read(tmp_path / "r.json")
    assert back == report
    assert back.schema == SCHEMA and back.machine["cpu"] and back.build["isa"] in back.machine["isas"]


@pytest.mark.parametrize(
    ("change", "message"),
    [({"schema": "irkit-bench/0"}, "expected results of schema 'irkit-bench/1', got 'irkit-bench/0'"),
     ({"kind": "speed"}, "unknown kind 'speed'; known: latency"),
     ({"rows": {}}, "'rows' is not a list but dict"),
     ({"rows": [{"model": "m"}]}, "row 0 of kind 'latency' has no threads, isa"),
     ({"more": 1}, "unknown more")],
)  # fmt: skip
def test_what_is_wrong_is_said(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    Report("latency", [row("latency")]).write(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(BenchError, match=f"r.json: .*{message}"):
        read(path)


def test_a_file_that_holds_none(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text("{")
    with pytest.raises(BenchError, match=r"r\.json can't be read as results"):
        read(tmp_path / "r.json")
    with pytest.raises(BenchError, match=r"nothing\.json can't be read as results"):
        read(tmp_path / "nothing.json")
    with pytest.raises(BenchError, match="row 0 of kind 'profile' has no"):
        Report("profile", [{}])


@pytest.mark.parametrize("kind", FIELDS)
@pytest.mark.parametrize("suffix", plots.FORMATS)
def test_pictures(kind: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"picture{suffix}"
    plots.draw(Report(kind, [row(kind), row(kind, 1)], SETTINGS), path)
    if suffix == ".svg":
        tree = ET.parse(path)
        assert tree.getroot().tag.endswith("svg") and len(list(tree.iter())) > 50
    else:
        with Image.open(path) as image:
            image.verify()
            assert image.width > 500 and image.height > 200


def test_no_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = Report("latency", [row("latency")])
    with pytest.raises(BenchError, match=r"a\.pdf: expected a name that ends in \.svg or \.png"):
        plots.draw(report, Path("a.pdf"))
    with pytest.raises(BenchError, match="no rows to draw"):
        plots.draw(Report("latency", []), tmp_path / "a.svg")
    with pytest.raises(BenchError, match="no step of the profile multiplies"):
        plots.draw(Report("profile", [{**row("profile"), "macs": 0}]), tmp_path / "a.svg")
    with pytest.raises(BenchError, match="the results lack the machine's limits for 2 thread"):
        plots.draw(Report("profile", [row("profile")]), tmp_path / "a.svg")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(BenchError, match=r"pip install 'irkit-compiler\[bench\]'"):
        plots.draw(report, tmp_path / "a.svg")


# ---- irkit bench
def irk(*args: Any, status: int = 0) -> str:
    done = CliRunner().invoke(app, ["bench", *map(str, args)], env={"COLUMNS": "200"})
    assert done.exit_code == status, done.output
    return done.stdout if status == 0 else done.stderr


def test_latency_command(artifact: Path, tmp_path: Path) -> None:
    quick = ("--rounds", 2, "--seconds", 0.005, "--starts", 1)
    text = irk(artifact.parent, *quick, "--threads", "1,2", "--json", tmp_path / "l.json", "--plot", tmp_path / "l.svg")
    assert text.count("net.int8") == 2 and "latency of a call, ms" in text
    report = read(tmp_path / "l.json")
    assert report.kind == "latency" and [r["threads"] for r in report.rows] == [1, 2]
    assert report.settings["rounds"] == 2 and ET.parse(tmp_path / "l.svg")


def test_profile_command(artifact: Path, tmp_path: Path) -> None:
    quick = ("--rounds", 2, "--seconds", 0.005, "--threads", "1", "--profile")
    text = irk(artifact, *quick, "--json", tmp_path / "p.json", "--plot", tmp_path / "p.png", "--top", 1)
    rows = read(tmp_path / "p.json").rows
    assert read(tmp_path / "p.json").settings["peaks"]["1"]["gops"]
    assert [r["saved_ns"] for r in rows] == sorted((r["saved_ns"] for r in rows), reverse=True)
    shown = [line for line in text.splitlines() if any(r["kernel"] in line for r in rows)]
    assert rows[0]["kernel"] in shown[0]  # the next thing to fix, first
    by = {k: sum(r["ns"] for r in rows if r["kernel"] == k) / 1e3 for k in {r["kernel"] for r in rows}}
    assert len(shown) == 1 + len(by)  # --top 1, then one line a kernel
    for line in shown[1:]:
        name, _, us = (c.strip() for c in line.strip(" │").split("│")[:3])
        assert float(us) == pytest.approx(by[name], abs=0.06)
    assert f"all {len(rows)} steps" in text


def test_peaks_command() -> None:
    text = irk("--peaks", "--threads", "1")
    assert "reads from memory, GB/s" in text and "fp32." in text


def test_other_load_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    from irkit.cli.bench import show_machine

    show_machine(Report("latency", [{**row("latency"), "others": 0.05}]))
    assert "warning" not in capsys.readouterr().err
    show_machine(Report("latency", [{**row("latency"), "others": 0.7}], {"peaks": {"1": {"others": 1.5}}}))
    said = capsys.readouterr().err
    assert "kept up to 0.7 CPU(s) busy meanwhile" in said and "1.5 CPU(s) busy while this machine's limits" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["nothing.irk"], "artifact nothing.irk does not exist"), ([], "no .irk files in"),
     (["--threads", "zero"], "--threads: expected an integer from 1 to 256, got 'zero'"),
     (["--threads", "0"], "--threads: expected an integer from 1 to 256, got 0"),
     (["FILE", "--plot", "a.gif"], "expected a name that ends in .svg or .png")],
)  # fmt: skip
def test_wrong_usage(arguments: list[str], message: str, artifact: Path) -> None:
    assert message in irk(*[str(artifact) if a == "FILE" else a for a in arguments], status=1)


# ---- python -m bench.compare
def run_compare(*args: Any) -> Any:
    return CliRunner().invoke(compare.app, [str(a) for a in args])


def test_compare_two_runs(artifact: Path, tmp_path: Path) -> None:
    """Really run, once, with a cap: two processes of this checkout, on other kernels, with the same outputs."""
    quick = ("--rounds", 2, "--seconds", 0.005, "--starts", 1, "--isa-a", "scalar")
    done = run_compare(compare.ROOT, compare.ROOT, artifact, *quick, "--json", tmp_path / "c.json")
    assert done.exit_code in (0, 1), done.output
    (found,) = read(tmp_path / "c.json").rows
    assert found["isa_a"] == "scalar" and found["isa_b"] == read(tmp_path / "c.json").build["isa"]
    assert found["same_outputs"] is True and found["low"] <= found["ratio"] <= found["high"]
    assert done.exit_code == (found["verdict"] == "slower")


@pytest.mark.parametrize(("factor", "status", "word"), [(1.0, 0, "same"), (1.3, 1, "slower"), (0.7, 0, "faster")])
def test_compare_status(
    factor: float, status: int, word: str, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow-down beyond the spread fails, anything else does not."""

    def fake(jobs: Any, settings: Any) -> Any:
        assert [j.env["PYTHONPATH"] for j in jobs] == [str(compare.ROOT)] * 2
        told = [{"isa": "x", "outputs": "same"}]
        a = [Turn([1e6 * (1 + 0.02 * i)], 1, 0.0) for i in range(9)]
        return [(told, a), (told, [Turn([factor * t.ns[0] * (1 + 1e-3 * i)], 1, 0.0) for i, t in enumerate(a)])]

    monkeypatch.setattr(compare, "measure", fake)
    done = run_compare(compare.ROOT, compare.ROOT, artifact, "--json", tmp_path / "c.json")
    assert done.exit_code == status and word in done.stdout
    assert read(tmp_path / "c.json").rows[0]["verdict"] == word


def test_builds(tmp_path: Path) -> None:
    assert compare.find_build(str(compare.ROOT)).path == compare.ROOT
    with pytest.raises(BenchError, match="'nothing' is no checkout, no environment with bin/python and no commit"):
        compare.find_build("nothing")
    (tmp_path / "irkit").mkdir()
    (tmp_path / "irkit/__init__.py").touch()
    with pytest.raises(BenchError, match="its native module is not built"):
        compare.find_build(str(tmp_path))
    (tmp_path / "env/bin").mkdir(parents=True)
    (tmp_path / "env/bin/python").symlink_to(sys.executable)
    assert compare.find_build(str(tmp_path / "env")).python == tmp_path / "env/bin/python"


def test_models(tmp_path: Path) -> None:
    build = compare.find_build(str(compare.ROOT))
    with pytest.raises(BenchError, match=r"artifact none\.irk does not exist"):
        compare.artifact_of("none.irk", build)
    with pytest.raises(BenchError, match=r"no_such_net\.int8: build .* does not make this network: KeyError"):
        compare.artifact_of("no_such_net.int8", build, tmp_path)
    assert compare.artifact_of("kws_dscnn.fp32", build, tmp_path).suffix == ".irk"
