"""Engines side by side: who is found, who is named as missing, what is measured, and the tables."""

from __future__ import annotations

import ast
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import irkit
from bench import engines, peer_models, peers, zoo
from irkit.bench.report import FIELDS, Report, read
from irkit.errors import BenchError

FAKES = """
import numpy as np
import irkit

class Same:
    version = "1.5"
    def load(self, path, threads):
        exe = irkit.load(path.replace(".fake", ".irk"), threads=threads)
        return lambda x: exe(x)

class Other(Same):
    def load(self, path, threads):
        return lambda x: np.linspace(-1, 1, 8, dtype=np.float32) ** 3

class Broken(Same):
    def load(self, path, threads):
        raise ValueError("an opset too new")
"""


@pytest.fixture
def folder(artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one network in the formats of irkit and of three engines that are not real."""
    shutil.copy(artifact, tmp_path / "net.int8.irk")
    (tmp_path / "net.int8.fake").touch()
    (tmp_path / "fakes.py").write_text(FAKES)
    names = ("Same", "Other", "Broken", "Absent")
    fakes: dict[str, Any] = {
        n.lower(): type(n, (engines.Engine,), {"title": n, "module": "numpy", "files": {"int8": (".int8.fake",)}})
        for n in names
    }
    fakes["absent"].module = "no_such_module_of_an_engine"
    monkeypatch.setattr(peers, "ENGINES", fakes)
    monkeypatch.setattr(peers, "FILES", {peers.OURS: peers.FILES[peers.OURS], **{n: e.files for n, e in fakes.items()}})
    monkeypatch.setattr(peers, "LOADERS", tmp_path / "fakes.py")
    monkeypatch.setenv("PYTHONPATH", str(peers.ROOT))
    return tmp_path


QUICK = ("--rounds", "2", "--seconds", "0.005", "--starts", "2", "--threads", "1")


def test_a_run(folder: Path) -> None:
    """Real processes. What is not installed, has no file, or fails, is named; the others are measured."""
    done = CliRunner().invoke(peers.app, [str(folder), *QUICK, "--json", str(folder / "p.json")])
    assert done.exit_code == 0, done.output
    assert "not installed: Absent" in done.stderr
    assert "irkit: no net.irk (net, fp32)" in done.stderr and "same: no fp32 model (net, fp32)" in done.stderr
    assert (
        "broken, net, int8, 1 thread(s): the process ended with status 1: ValueError: an opset too new" in done.stderr
    )
    report = read(folder / "p.json")
    by = {r["engine"]: r for r in report.rows}
    assert set(by) == {"irkit", "same", "other"} and report.settings["missing"] == ["absent"]
    for r in report.rows:
        assert set(FIELDS["peers"]) <= set(r) and r["precision"] == "int8" and len(r["turns_ms"]) == 2
        assert r["cosine"] is None  # there is no float answer to compare with
    assert by["same"]["version"] == "1.5" and by["irkit"]["version"] == irkit.__version__


def test_answers_are_compared(folder: Path) -> None:
    shutil.copy(folder / "net.int8.irk", folder / "net.irk")
    quick = (*QUICK, "--precision", "int8", "--engines", "same,other")
    done = CliRunner().invoke(peers.app, [str(folder), "net", *quick, "--json", str(folder / "p.json")])
    assert done.exit_code == 0, done.output
    found = {r["engine"]: r["cosine"] for r in read(folder / "p.json").rows}
    assert found["irkit"] == pytest.approx(1.0) and found["same"] == pytest.approx(1.0) and found["other"] < 0.9
    assert "other, net int8: its answer is another (cosine" in done.stdout


def test_wrong_usage(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(BenchError, match=r"no \.irk files in .*: python -m bench\.peer_models irkit"):
        peers.networks(empty)
    with pytest.raises(BenchError, match=r"is no environment \(bin/python\)"):
        peers.interpreters([empty])
    with pytest.raises(BenchError, match="unknown engine tvm; known: same, other"):
        peers.find_engines(["tvm"], [])
    with pytest.raises(BenchError, match=r"no network nets in .*; it has net"):
        CliRunner().invoke(peers.app, [str(folder), "nets"], catch_exceptions=False)


def test_the_first_environment_that_has_an_engine_is_taken(folder: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "envs" / name / "bin").mkdir(parents=True)
        (tmp_path / "envs" / name / "bin/python").symlink_to(sys.executable)
    pythons = peers.interpreters([tmp_path / "envs"])
    assert [p.parts[-3] for p in pythons[1:]] == ["a", "b"]
    found, missing = peers.find_engines(["same", "absent"], pythons)
    assert found == {"same": Path(sys.executable)} and missing == ["absent"]


def row(model: str, precision: str, threads: int, engine: str, ms: float) -> dict[str, Any]:
    times = {f"{n}_ms": ms for n in ("min", "p10", "median", "p90")}
    return {
        "model": model, "precision": precision, "threads": threads, "engine": engine, "version": f"{engine}-1", **times,
        "mad_ms": 0.0, "calls": 3, "turns_ms": [2 * ms, ms], "load_ms": 10 * ms, "first_ms": ms,
        "starts_ms": [20 * ms, 11 * ms],
        "peak_bytes": int(ms * 1e6), "base_bytes": 1, "file_bytes": 1, "cosine": 1.0, "others": 0.0,
    }  # fmt: skip


ROWS = [
    row("a", "int8", 1, "irkit", 1.0), row("a", "int8", 1, "ort", 4.0), row("a", "int8", 1, "litert", 2.0),
    row("a", "int8", 2, "irkit", 3.0), row("a", "int8", 2, "ort", 1.5),
    row("b", "int8", 1, "irkit", 1.0), row("b", "int8", 1, "ort", 2.0),
    row("c", "fp32", 1, "irkit", 5.0),
]  # fmt: skip


def test_ratios() -> None:
    found = peers.ratios(ROWS)
    assert found == {("a", "int8", 1): ("litert", 0.5), ("a", "int8", 2): ("ort", 2.0), ("b", "int8", 1): ("ort", 0.5)}


def test_markdown() -> None:
    text = peers.markdown(Report("peers", ROWS))
    lines = text.splitlines()
    assert "| a | int8 | 1 | 2 LiteRT | 0.50 | 3 | 1.5 ONNX Runtime | 2.00 |" in lines
    assert "| b | int8 | 1 | 2 ONNX Runtime | 0.50 |  |  |  |" in lines
    assert "| c | fp32 | 5 |  |  |  |  |  |" in lines
    assert "| geometric mean | int8 |  |  | 0.50 |  |  | 2.00 |" in lines
    assert "| a | int8 | 11 | 22 LiteRT | 1 | 2 LiteRT |" in lines
    assert lines[-1].endswith("irkit irkit-1, ONNX Runtime ort-1, LiteRT litert-1.")
    heads = [line.count("|") for line in lines if line.startswith("|")]
    assert set(heads[:7]) == {9} and set(heads[7:]) == {7}


def test_tables_of_kept_results(tmp_path: Path) -> None:
    Report("peers", ROWS).write(tmp_path / "p.json")
    done = CliRunner().invoke(peers.app, [str(tmp_path / "p.json"), "--plot", str(tmp_path / "p.svg")])
    assert done.exit_code == 0 and "0.50 (litert)" in done.stdout and (tmp_path / "p.svg").exists()


def test_cosine() -> None:
    a = np.float32([[1, 2], [3, 4]])
    assert peers.cosine(a, 2 * a.ravel()) == pytest.approx(1.0)
    assert peers.cosine(a, -a) == pytest.approx(-1.0)
    assert peers.cosine(a, np.zeros((2, 2))) == 0.0 and peers.cosine(a, np.ones(3)) == 0.0


def test_engines_need_no_irkit() -> None:
    """They are loaded in environments of their own."""
    source = Path(engines.__file__).read_text()
    tree = ast.parse(source)
    names = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    names |= {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert not any(n.split(".")[0] in ("irkit", "bench", "tests") for n in names)


def test_exports_make_what_engines_read() -> None:
    """Every file that an engine wants is one that some export makes (a .bin beside an .xml or a .param)."""
    made = {s for suffixes in peer_models.EXPORTS.values() for s in suffixes}
    for name, files in peers.FILES.items():
        for suffixes in files.values():
            assert suffixes[0] in made, name


def test_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fails(name: str, path: Path) -> None:
        path.write_text("half")
        raise ValueError("line\nno such operator")

    monkeypatch.setitem(peer_models.EXPORTS, "onnx", {".onnx": lambda n, p: p.write_text(n), ".int8.onnx": fails})
    assert peer_models.main(["onnx", str(tmp_path), "kws_dscnn"]) == 1
    assert (tmp_path / "kws_dscnn.onnx").read_text() == "kws_dscnn"
    assert not (tmp_path / "kws_dscnn.int8.onnx").exists()
    assert "kws_dscnn.int8.onnx: ValueError: no such operator" in capsys.readouterr().err
    for wrong in ([], ["onnx"], ["tvm", "x"], ["onnx", "x", "no_such_net"]):
        assert peer_models.main(wrong) == 2
    assert "networks: kws_dscnn" in capsys.readouterr().err


def test_irkit_export(tmp_path: Path) -> None:
    assert peer_models.main(["irkit", str(tmp_path), "ad_autoencoder"]) == 0
    assert peers.networks(tmp_path) == ["ad_autoencoder"]
    assert peers.sample(tmp_path, "ad_autoencoder").shape == zoo.NETS["ad_autoencoder"].shape
