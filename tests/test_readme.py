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
BENCH = re.findall(r"^\$ python -m (bench\..*)$", README, re.M)
QUICK = ("--rounds", "2", "--seconds", "0.01", "--starts", "1")
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
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)])}
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
    assert len(BENCH) >= 1
    for name in ("before", "after"):
        (tmp_path / name).symlink_to(ROOT)
    irkit.compile(torch.nn.Linear(8, 4).eval(), example_inputs=torch.zeros(1, 8)).save(tmp_path / "model.irk")
    for command in BENCH:
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        words = [sys.executable, "-m", *shlex.split(command, comments=True), *QUICK, "--tolerance", "1000"]
        done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0 and done.stdout, f"{command}\n{done.stdout}{done.stderr}"


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
