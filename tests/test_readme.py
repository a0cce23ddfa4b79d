"""Every example of the README runs: Python blocks in order, as a reader would paste them, and irkit commands."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

import irkit
from tests.builds import tool

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.S | re.M)
COMMANDS = re.findall(r"^\$ (irkit .*)$", README, re.M)
TOOL = re.findall(r"^\$ build/irkit-run (.*)$", README, re.M)
BENCH = re.findall(r"^\$ python -m bench\.(.*)$", README, re.M)
TURNS = ("--rounds", "2", "--seconds", "0.01", "--starts", "1")
QUICK = {"compare": (*TURNS, "--tolerance", "1000"), "kernels": ("--seconds", "0"), "peers": TURNS}
NETS = """
from torch import nn

def make_model():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 5)).eval()
"""
GRAPH = """func @main(%x: f32[4]) {
  %y = relu(%x) : f32[4]
  return(%y)
}
"""


def run(words: list[str], folder: Path) -> str:
    """Output of a command; it must succeed."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)]), "IRKIT_CACHE": str(folder / "cache")}
    done = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_python_examples(tmp_path: Path) -> None:
    assert len(BLOCKS) >= 7
    (tmp_path / "examples.py").write_text("\n".join(BLOCKS))
    out = run([sys.executable, "examples.py"], tmp_path)
    assert "2 unsupported operation(s)" in out and "NumPy fallback: i0" in out


def test_commands(tmp_path: Path) -> None:
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "nets.py").write_text(NETS)
    (tmp_path / "graph.ir").write_text(GRAPH)
    rng = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", rng.standard_normal((1, 3, 8, 8), np.float32))
    np.savez(tmp_path / "samples.npz", x=rng.standard_normal((64, 3, 8, 8), np.float32))
    irkit.compile(torch.nn.Conv2d(3, 4, 3).eval(), example_inputs=torch.zeros(1, 3, 8, 8)).save(tmp_path / "model.irk")
    assert len(COMMANDS) >= 9
    for command in COMMANDS:
        assert run([sys.executable, "-m", *shlex.split(command, comments=True)], tmp_path)


def test_measuring(tmp_path: Path) -> None:
    """The developers' tools, for a moment only; two checkouts are this one twice."""
    assert {b.split()[0] for b in BENCH} == set(QUICK)
    for name in ("before", "after"):
        (tmp_path / name).symlink_to(ROOT)
    (tmp_path / "engines/bin").mkdir(parents=True)
    (tmp_path / "engines/bin/python").symlink_to(sys.executable)
    exe = irkit.compile(torch.nn.Linear(8, 4).eval(), example_inputs=torch.zeros(1, 8))
    (tmp_path / "build/peers").mkdir(parents=True)
    for path in ("model.irk", "build/peers/net.irk"):
        exe.save(tmp_path / path)
    for command in BENCH:
        words = shlex.split(f"bench.{command}", comments=True)
        quick = QUICK[command.split()[0]]
        assert run([sys.executable, "-m", *words, *quick], tmp_path)


def test_c_runtime(tmp_path: Path) -> None:
    """irkit-run does as shown, on what the commands above it leave behind."""
    assert len(TOOL) >= 4
    command = tool("native")
    x = np.random.default_rng(0).standard_normal((1, 3, 32, 32), np.float32)
    np.save(tmp_path / "x.npy", x)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU()).eval()
    exe = irkit.compile(model, example_inputs=x)
    exe.save(tmp_path / "model.irk")
    for words in TOOL:
        run([*command, *shlex.split(words, comments=True)], tmp_path)
    assert np.array_equal(np.load(tmp_path / "y.npy"), exe(x))
