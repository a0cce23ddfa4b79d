"""irkit-run's interface: files in and out, what it prints, its exit status; natively and on an emulated Arm CPU."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.builds import MACHINES, run, tool
from tests.kernels.artifacts import ADD, N, artifact, eltwise, reference, tensor

USAGE, MODEL, INPUT, OUTPUT, RUN = 2, 3, 4, 5, 6
X = np.linspace(-3, 2, N, dtype=np.float32)
pytestmark = pytest.mark.slow


@pytest.fixture(params=MACHINES)
def command(request: pytest.FixtureRequest) -> list[str]:
    return tool(request.param)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """y = relu(x + w)."""
    (tmp_path / "m.irk").write_bytes(artifact())
    np.save(tmp_path / "x.npy", X)
    return tmp_path / "m.irk"


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """total = (a + b) + c with shapes [2, 3]; twice = a + a."""
    tensors = [tensor(["in", i], [2, 3]) for i in range(3)] + [tensor(["out", i], [2, 3]) for i in range(2)]
    plan = {
        "version": 1,
        "inputs": [{"name": n, "tensor": i} for i, n in enumerate("abc")],
        "outputs": [{"name": "total", "tensor": 3}, {"name": "twice", "tensor": 4}],
        "tree": "",
        "tensors": [*tensors, tensor(["arena", 0], [2, 3])],
        "arena": 24,
        "steps": [
            eltwise([ADD, 0, 1, 0], [0, 1], 5),
            eltwise([ADD, 0, 1, 0], [5, 2], 3),
            eltwise([ADD, 0, 0, 0], [0], 4),
        ],
    }
    for s in plan["steps"]:  # type: ignore[attr-defined]
        s["attrs"]["strides"] = [3, 1] * len(s["in"])
    (tmp_path / "two.irk").write_bytes(artifact(plan, {}))
    for i, n in enumerate("abc"):
        np.save(tmp_path / f"{n}.npy", np.arange(6, dtype=np.float32).reshape(2, 3) + 10**i)
    return tmp_path / "two.irk"


def npy(descr: str, shape: str, data: bytes, order: str = "False", version: bytes = b"\x01\x00") -> bytes:
    """An .npy file made by hand."""
    text = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY" + version + len(text).to_bytes(2 if version[0] == 1 else 4, "little") + text + data


def test_npy_and_raw(command: list[str], model: Path) -> None:
    folder = model.parent
    (folder / "x.bin").write_bytes(X.tobytes())
    for source in ("x.npy", "x.bin"):
        for target in ("y.npy", "y.bin"):
            done = run([*command, model, "--input", folder / source, f"--output={folder / target}"])
            assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert np.load(folder / "y.npy").tobytes() == (folder / "y.bin").read_bytes() == reference(X).tobytes()
        assert np.load(folder / "y.npy").shape == X.shape
    assert {p.name for p in folder.iterdir()} == {"m.irk", "x.npy", "x.bin", "y.npy", "y.bin"}


def test_several_ports(command: list[str], two: Path) -> None:
    folder = two.parent
    a, b, c = (np.load(folder / f"{n}.npy") for n in "abc")
    in_order = [f"--input={folder / n}.npy" for n in "abc"]
    named = ["-i", f"c={folder}/c.npy", "-i", folder / "a.npy", "-i", f"b={folder}/b.npy"]
    for inputs in (in_order, named):
        done = run([*command, two, *inputs, "-o", folder / "0.npy", "-o", f"twice={folder}/1.npy"])
        assert done.returncode == 0, done.stderr
        assert np.array_equal(np.load(folder / "0.npy"), a + b + c)
        assert np.array_equal(np.load(folder / "1.npy"), a + a)
    only = run([*command, two, *in_order, "-o", f"twice={folder}/only.npy"])
    assert only.returncode == 0 and np.array_equal(np.load(folder / "only.npy"), a + a)
    for arguments, message in (
        (in_order[:2], "no --input for input 2 'c' of 3"),
        ([*in_order, *in_order[:1]], "the model has 3 input(s), all of which have a file"),
        ([*in_order[:2], "-i", f"a={folder}/a.npy", "-i", f"a={folder}/a.npy"], "'a' is given twice"),
        ([*in_order, "-o", f"twice={folder}/y.txt"], "neither in .npy nor in .bin"),
    ):
        failed = run([*command, two, *arguments, "-o", folder / "never.npy"])
        assert failed.returncode == USAGE and message in failed.stderr
    assert not (folder / "never.npy").exists()


def test_npy_variants(command: list[str], two: Path) -> None:
    """Versions 1 to 3, quotes, Fortran order (put in C order), and what else NumPy writes."""
    folder = two.parent
    a, b, c = (np.load(folder / f"{n}.npy") for n in "abc")
    np.save(folder / "a.npy", np.asfortranarray(a))
    assert b"'fortran_order': True" in (folder / "a.npy").read_bytes()
    (folder / "b.npy").write_bytes(npy('"<f4"', "(2, 3)", b.tobytes(), version=b"\x02\x00"))
    (folder / "c.npy").write_bytes(npy("'<f4'", "(2,3,)", c.tobytes(), version=b"\x03\x00"))
    done = run([*command, two, *(f"--input={folder / n}.npy" for n in "abc"), "-o", folder / "y.npy"])
    assert done.returncode == 0, done.stderr
    assert np.array_equal(np.load(folder / "y.npy"), a + b + c)


BAD_ARRAYS = [
    (lambda x: npy("'<f4'", "(1023,)", x[4:]), "expected f32[1024], "),
    (lambda x: npy("'<f4'", "(32, 32)", x), "x.npy holds f32[32,32]"),
    (lambda x: npy("'<i4'", "(1024,)", x), "holds i32[1024]"),
    (lambda x: npy("'>f4'", "(1024,)", x), "holds dtype '>f4' (big endian)"),
    (lambda x: npy("'<c8'", "(1024,)", x), "holds dtype '<c8'"),
    (lambda x: npy("[('a', '<f4')]", "(1024,)", x), "the .npy header is not that of a plain array"),
    (lambda x: npy("'<f4'", "(1024,", x), "the .npy header is not that of a plain array"),
    (lambda x: npy("'<f4'", "(99999999999999999999,)", x), "the .npy header is not that of a plain array"),
    (lambda x: npy("'<f4'", "(1,1,1,1,1,1,1,1,1024)", x), "the .npy header is not that of a plain array"),
    (lambda x: npy("'<f4'", "(1024,)", x[:-1]), "is cut off: f32[1024] takes 4096 bytes"),
    (lambda x: npy("'<f4'", "(1024,)", x + b"!"), "more bytes than the 4096 of f32[1024]"),
    (lambda x: npy("'<f4'", "(1024,)", x, version=b"\x04\x00"), "version 4.0 is not 1.0, 2.0 or 3.0"),
    (lambda x: npy("'<f4'", "(1024,)", x)[:40], "the .npy header is cut off"),
    (lambda x: b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + x, "an .npy header of 4294967295 bytes is no plain array's"),
    (lambda x: b"", "is not an .npy file"),
    (lambda x: x, "is not an .npy file"),
]


@pytest.mark.parametrize("case", range(len(BAD_ARRAYS)))
def test_bad_arrays(case: int, model: Path) -> None:
    make, message = BAD_ARRAYS[case]
    (model.parent / "x.npy").write_bytes(make(X.tobytes()))
    done = run([*tool("native"), model, "--input", model.parent / "x.npy", "--output", model.parent / "y.npy"])
    assert done.returncode == INPUT and message in done.stderr and "input 0 'x'" in done.stderr
    assert not (model.parent / "y.npy").exists()


def test_every_dtype_goes_through(tmp_path: Path) -> None:
    """A view of each dtype as a copy of f32: only what the port says decides how a file is read and written."""
    import torch

    import irkit

    class Same(torch.nn.Module):
        def forward(self, *x: torch.Tensor) -> Any:
            return tuple(t.reshape(3, 2) for t in x)

    arrays = [np.arange(6).reshape(2, 3).astype(t) for t in ("f4", "i1", "u1", "i2", "i4", "i8", "?")]
    exe = irkit.compile(Same().eval(), tuple(torch.from_numpy(a) for a in arrays))
    assert not exe.plan.fallbacks
    path = exe.save(tmp_path / "m.irk")
    words: list[str | Path] = []
    for i, a in enumerate(arrays):
        np.save(tmp_path / f"{i}.npy", a)
        words += ["-i", tmp_path / f"{i}.npy", "-o", tmp_path / f"y{i}.npy"]
    done = run([*tool("native"), path, *words])
    assert done.returncode == 0, done.stderr
    for i, (a, y) in enumerate(zip(arrays, exe(*arrays), strict=True)):
        got = np.load(tmp_path / f"y{i}.npy")
        assert got.dtype == a.dtype and got.shape == (3, 2) and np.array_equal(got, y)


def test_output_is_replaced_in_one_step(model: Path) -> None:
    folder = model.parent
    (folder / "real.npy").write_bytes(b"old")
    os.link(folder / "real.npy", folder / "other.npy")
    words = [*tool("native"), model, "--input", folder / "x.npy"]
    assert run([*words, "--output", folder / "real.npy"]).returncode == 0
    assert (folder / "other.npy").read_bytes() == b"old"  # a new file, not the old one overwritten
    os.mkfifo(folder / "fifo.npy")
    for target, message in (
        (folder / "none" / "y.npy", "No such file or directory"),
        (folder / "fifo.npy", "is not a regular file"),
        (folder, "neither in .npy nor in .bin"),
    ):
        failed = run([*words, "--output", target])
        assert failed.returncode == (USAGE if target == folder else OUTPUT) and message in failed.stderr
    assert not [p for p in folder.iterdir() if p.suffix == ".tmp"]


def test_describe(command: list[str], model: Path) -> None:
    done = run([*command, model, "--describe", "--threads", "2", "--isa", "scalar"])
    assert done.returncode == 0 and not done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"{model}: 2 steps, scalar, 2 threads"
    assert lines[1:3] == ["input 0 'x': f32[1024], 4096 bytes", "output 0 'y': f32[1024], 4096 bytes"]
    assert f"artifact {model.stat().st_size}, " in lines[3] and "arena 4160, " in lines[3]
    assert [w.split() for w in lines[-2:]] == [["0", "eltwise.f32.scalar", "bias"], ["1", "eltwise.f32.scalar", "act"]]


def test_benchmark_and_profile(command: list[str], model: Path) -> None:
    done = run([*command, model, "--benchmark", "--profile", "--repeat", "5", "--warmup", "0", "--threads", "1"])
    assert done.returncode == 0 and not done.stderr
    first, memory, *table = done.stdout.splitlines()
    assert memory.startswith("peak memory ") and int(memory.split()[2]) > 100000
    assert first.startswith("5 calls, ") and " 1 thread: median " in first
    median, p10, p90, least = (float(first.split(name)[1].split()[0]) for name in ("median", "p10", "p90", "min"))
    assert 0 < least <= p10 <= median <= p90
    assert table[0].startswith("mean of 5 calls, ")
    assert [row.split()[-1] for row in table[2:4]] == ["bias", "act"]
    assert sum(float(row.split()[2].rstrip("%")) for row in table[2:4]) == pytest.approx(100, abs=0.2)
    assert table[-1].split()[0] == "2"  # both steps run one kernel
    given = run([*command, model, "--benchmark", "--input", model.parent / "x.npy", "--repeat", "1"])
    assert given.returncode == 0 and given.stdout.startswith("1 calls, ")


def test_number_of_calls_follows_the_clock(model: Path) -> None:
    done = run([*tool("native"), model, "--benchmark"])
    assert done.returncode == 0 and int(done.stdout.split()[0]) > 100


def test_environment(command: list[str], model: Path) -> None:
    head = run([*command, model, "--describe"], IRKIT_ISA="scalar", IRKIT_THREADS="3").stdout.splitlines()[0]
    assert head.endswith("2 steps, scalar, 3 threads")
    head = run([*command, model, "--describe", "--threads", "2"], IRKIT_THREADS="3").stdout.splitlines()[0]
    assert head.endswith("2 threads")
    done = run([*command, model, "--describe"], IRKIT_THREADS="many")
    assert done.returncode == USAGE and "IRKIT_THREADS: expected an integer from 1 to 256, got 'many'" in done.stderr


def test_help_and_version(command: list[str]) -> None:
    shown = run([*command, "--help"])
    assert shown.returncode == 0 and shown.stdout.startswith("usage: irkit-run") and not shown.stderr
    shown = run([*command, "--version"])
    assert shown.returncode == 0 and shown.stdout.startswith("irkit-run 0.1.0; this CPU has scalar ")


def test_wrong_usage(command: list[str], model: Path) -> None:
    for words, message in (
        ([], "no model given"),
        ([model], "nothing to do"),
        ([model, "--describe", "more.irk"], "more than one model"),
        ([model, "--describe", "--frobnicate"], "unknown option '--frobnicate'"),
        ([model, "--output"], "a value is missing after '--output'"),
        ([model, "--describe", "--threads", "0"], "expected an integer from 1 to 256, got '0'"),
        ([model, "--describe", "--threads=many"], "expected an integer from 1 to 256, got 'many'"),
        ([model, "--benchmark", "--repeat", "99999999999999999999"], "from 1 to 1000000"),
        ([model, "--describe", "--isa", "mmx"], "unknown ISA level 'mmx'; this build has scalar"),
        ([model, "--benchmark", "-i", "x.txt"], "neither in .npy nor in .bin"),
    ):
        done = run([*command, *words])
        assert done.returncode == USAGE and message in done.stderr and not done.stdout


def test_files_that_cannot_be_read(command: list[str], model: Path) -> None:
    folder = model.parent
    os.mkfifo(folder / "fifo.npy")
    (folder / "empty.irk").write_bytes(b"")
    (folder / "short.irk").write_bytes(model.read_bytes()[:200])
    flipped = bytearray(model.read_bytes())
    flipped[-100] ^= 1
    (folder / "flipped.irk").write_bytes(bytes(flipped))
    (folder / "dir.npy").mkdir()
    (folder / "short.bin").write_bytes(b"123")
    for name, message in (
        ("none.irk", "No such file or directory"),
        (".", "is not a regular file"),
        ("fifo.npy", "is not a regular file"),
        ("empty.irk", "is empty"),
        ("short.irk", "is cut off"),
        ("flipped.irk", "checksum mismatch"),
        ("x.npy", "not an irkit artifact"),
    ):
        done = run([*command, folder / name, "-i", folder / "x.npy", "-o", folder / "y.npy"])
        assert done.returncode == MODEL and message in done.stderr and str(folder / name) in done.stderr
    for name, message in (
        ("none.npy", "No such file or directory"),
        ("dir.npy", "is not a regular file"),
        ("fifo.npy", "is not a regular file"),
        ("short.bin", "expected the 4096 bytes of f32[1024]"),
    ):
        done = run([*command, model, "-i", folder / name, "-o", folder / "y.npy"])
        assert done.returncode == INPUT and message in done.stderr and str(folder / name) in done.stderr
    assert not (folder / "y.npy").exists()


def test_missing_host_steps(command: list[str], tmp_path: Path) -> None:
    """A step that only Python can run: the model loads and can be described, a run says what is missing."""
    plan = {
        "version": 1,
        "inputs": [{"name": "x", "tensor": 0}],
        "outputs": [{"name": "y", "tensor": 1}],
        "tree": "",
        "tensors": [tensor(["in", 0]), tensor(["out", 0])],
        "arena": 0,
        "steps": [{"family": "python", "in": [0], "out": [1], "attrs": {}, "name": "odd"}],
    }
    (tmp_path / "m.irk").write_bytes(artifact(plan, {}))
    np.save(tmp_path / "x.npy", X)
    assert "python" in run([*command, tmp_path / "m.irk", "--describe"]).stdout
    done = run([*command, tmp_path / "m.irk", "-i", tmp_path / "x.npy", "-o", tmp_path / "y.npy"])
    assert done.returncode == RUN and "step 0 (python, 'odd') has no kernel attached" in done.stderr
