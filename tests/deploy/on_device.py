"""Run by arm64 Python, on files that test_wheel.py made here: the package as the device meets it."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import irkit
from irkit import _native
from irkit.backend import numba_fused
from irkit.backend.artifact import load
from irkit.cli import app
from irkit.cli.io import read_graph
from irkit.errors import ArtifactError, DeployError, InputError
from irkit.quant import observe
from irkit.sparse import encode
from irkit.sparse.encodings import decode_csr, encode_csr

DATA = Path(os.environ["IRKIT_TEST_DATA"])
MODELS = sorted(p.stem for p in DATA.glob("*.irk"))
LEVEL = os.environ["IRKIT_TEST_LEVEL"]  # what this CPU offers


def arrays(path: Path) -> list[np.ndarray]:
    with np.load(path) as z:
        return [z[name] for name in z.files]


def test_this_is_the_wheel_on_arm64() -> None:
    assert platform.machine() == "aarch64"
    for module in (_native, observe, encode):
        assert Path(module.__file__).name.endswith("-aarch64-linux-gnu.so")
        assert "dist-packages" not in module.__file__
    assert _native.isas()[-1] == LEVEL
    assert not numba_fused.available()


@pytest.mark.parametrize("name", MODELS)
def test_same_bits_as_where_it_was_compiled(name: str) -> None:
    xs, want = arrays(DATA / f"{name}.in.npz"), arrays(DATA / f"{name}.out.npz")
    path = DATA / f"{name}.irk"
    for isa in _native.isas() if path.stat().st_size < 1_000_000 else [LEVEL]:
        for threads in (1, 2):
            got = load(path, threads, isa).run_flat(xs)
            for g, w in zip(got, want, strict=True):
                assert g.dtype == w.dtype and g.tobytes() == w.tobytes(), (isa, threads)


def test_models_are_there() -> None:
    assert sum(n.endswith(".int8") for n in MODELS) == 7 and sum(n.endswith(".fp32") for n in MODELS) == 2


@pytest.mark.parametrize("name", MODELS)
def test_saves_the_same_file(name: str, tmp_path: Path) -> None:
    irkit.load(DATA / f"{name}.irk").save(tmp_path / "again.irk")
    assert (tmp_path / "again.irk").read_bytes() == (DATA / f"{name}.irk").read_bytes()


@pytest.mark.parametrize("pipeline", ["", "prune{sparsity=0.9}"])
def test_compiles_the_same_artifact(pipeline: str, tmp_path: Path) -> None:
    graph, _ = read_graph(DATA / "net.ir")
    if pipeline:
        irkit.optimize(graph, pipeline)
    irkit.compile(graph, target="arm64-fp32").save(tmp_path / "net.irk")
    assert (tmp_path / "net.irk").read_bytes() == (DATA / f"net{'.pruned' if pipeline else ''}.bytes").read_bytes()


def test_sparse_encoding() -> None:
    w = np.random.default_rng(0).standard_normal((33, 70), np.float32)
    w[np.abs(w) < 1.5] = 0
    csr = encode_csr(w)
    assert csr.values.size == np.count_nonzero(w) and np.array_equal(decode_csr(csr), w)


def test_errors(tmp_path: Path) -> None:
    path = DATA / f"{MODELS[0]}.irk"
    exe = irkit.load(path)
    name, want = exe.signature.inputs[0]
    with pytest.raises(InputError, match=f"input {name!r}: expected dtype {want.dtype.value}, got float64"):
        exe(np.zeros(want.shape))
    with pytest.raises(InputError, match=r"expected 1 input"):
        exe()
    data = bytearray(path.read_bytes())
    for at, what in ((len(data) // 2, "flipped"), (len(data) - 1, "cut")):
        bad = bytes(data[:at]) if what == "cut" else bytes([*data[:at], data[at] ^ 1, *data[at + 1 :]])
        (tmp_path / "bad.irk").write_bytes(bad)
        with pytest.raises(ArtifactError):
            irkit.load(tmp_path / "bad.irk")
    with pytest.raises(ArtifactError):
        irkit.load(tmp_path / "nowhere.irk")
    (tmp_path / "full").touch()
    with pytest.raises(DeployError):
        exe.export(tmp_path / "full")


def test_export_finds_the_sources(tmp_path: Path) -> None:
    folder = irkit.load(DATA / f"{MODELS[0]}.irk").export(tmp_path / "net")
    assert (folder / "runtime/CMakeLists.txt").is_file() and (folder / "runtime/LICENSE").is_file()


def test_commands(tmp_path: Path) -> None:
    name = next(n for n in MODELS if n.endswith(".int8"))
    np.save(tmp_path / "x.npy", arrays(DATA / f"{name}.in.npz")[0])
    for command in (
        ["run", f"{DATA / name}.irk", f"{tmp_path / 'x.npy'}"],
        ["inspect", f"{DATA / name}.irk"],
        ["targets"],
    ):
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0 and done.output, done.output
