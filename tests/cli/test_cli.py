"""The command line, as a user meets it: every command, its output, and its errors without tracebacks."""

import os
import re
import subprocess
import sys

os.environ.setdefault("KERAS_BACKEND", "torch")

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import irkit
from irkit.cli import app

MODELS = """
import torch
from torch import nn

def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)).eval()

def wide():
    return nn.Conv2d(32, 32, 3, padding=1).eval()

class Two(nn.Module):
    def forward(self, left, right):
        return {"sum": left + right, "product": left * right}

def two():
    return Two().eval(), (torch.zeros(2, 3), torch.zeros(2, 3))

def bad():
    return Unsupported().eval(), torch.zeros(2, 3)

class Unsupported(nn.Module):
    def forward(self, x):
        return x.cumsum(1)

def training():
    return nn.Linear(3, 3), torch.zeros(2, 3)

def broken():
    raise RuntimeError("no weights here")

number = 3
built = small()
"""
IR = """// RUN: canonicalize,cse,dce
func @main(%x: f32[2,3]) {
  %a = relu(%x) : f32[2,3]
  %b = relu(%x) : f32[2,3]
  %c = add(%a, %b) : f32[2,3]
  return(%c)
}
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A fresh folder with the models above, as the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "zoo_of_cli.py").write_text(MODELS)
    rng = np.random.default_rng(0)
    np.save("x.npy", rng.standard_normal((1, 3, 8, 8)).astype(np.float32))
    np.save("many.npy", rng.standard_normal((20, 3, 8, 8)).astype(np.float32))
    yield tmp_path
    sys.modules.pop("zoo_of_cli", None)


def irk(*args):
    """stdout of a command that must succeed."""
    return irk_result(*args).stdout


def irk_result(*args):
    result = CliRunner().invoke(app, [str(a) for a in args])
    assert result.exit_code == 0, result.output
    return result


def fails(*args):
    """stderr of a command that must fail with one message and no traceback."""
    result = CliRunner().invoke(app, [str(a) for a in args])
    assert result.exit_code == 1, result.output
    assert result.stderr.startswith("error: ") and "Traceback" not in result.output
    return result.stderr


SMALL = ("zoo_of_cli:small", "--shape", "1x3x8x8")


def test_compile_then_run_gives_pytorchs_answer(here):
    text = irk("compile", *SMALL, "-o", "small.irk", "--plan", "--threads", 1)
    assert re.search(r"input +\S+: f32\[1, 3, 8, 8\]", text) and "output" in text and "wrote  small.irk" in text
    assert "conv2d" in text
    irk("run", "small.irk", "x.npy", "-o", "y.npz")
    import torch
    from zoo_of_cli import small

    want = small()(torch.from_numpy(np.load("x.npy"))).detach().numpy()
    with np.load("y.npz") as z:
        (got,) = z.values()
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_run_compiles_models(here):
    assert "float32[1, 5]" in irk("run", *SMALL, "x.npy")


def test_int8_needs_calibration_and_takes_arrays(here):
    assert "calibration data" in fails("compile", *SMALL, "-t", "native-int8")
    result = irk_result("compile", *SMALL, "-t", "native-int8", "-c", "many.npy", "-o", "small.irk")
    assert "in int8" in result.stdout
    assert result.stderr.startswith("warning: calibration saw 20 samples only")
    x = np.load("x.npy")
    np.testing.assert_array_equal(irkit.load("small.irk")(x), irkit.load("small.irk", threads=1)(x))
    assert "float" in fails("compile", *SMALL, "-c", "many.npy")


def test_images_as_inputs_and_calibration(here):
    rng = np.random.default_rng(1)
    os.mkdir("photos")
    for i in range(4):
        Image.fromarray(rng.integers(0, 255, (12, 10 + i, 3), np.uint8)).save(f"photos/{i}.png")
    options = ("--mean", 127, "--std", 128)
    irk("compile", *SMALL, "-t", "native-int8", "-c", "photos", *options, "-o", "small.irk")
    text = irk("run", "small.irk", "photos/0.png", *options, "--top", 2, "--classes", "imagenet")
    assert "class" in text and "score" in text
    # The middle 8 x 8 of the image, scaled to cover: the same as doing it by hand.
    from irkit.cli.io import Pixels, fit_image, read_image
    from irkit.ir.types import TensorType

    got = read_image(here / "photos/0.png", TensorType((1, 3, 8, 8)), Pixels(127, 128))
    want = fit_image(np.asarray(Image.open("photos/0.png")), 8, 8)
    np.testing.assert_array_equal(got[0], (want.transpose(2, 0, 1).astype(np.float32) - 127) / 128)
    last = read_image(here / "photos/0.png", TensorType((1, 8, 8, 3)), Pixels())
    np.testing.assert_array_equal(last[0], want)


def test_the_middle_of_an_image_is_cut_out():
    from irkit.cli.io import fit_image

    row = np.repeat(np.arange(40, 60, 10, dtype=np.uint8), 8)  # left half 40, right half 50
    for image, size in ((np.tile(row, (8, 1)), (8, 8)), (np.tile(row, (8, 1)).T, (8, 8))):
        cut = fit_image(np.ascontiguousarray(image), *size)
        assert cut.shape == size and abs(float(cut.mean()) - 45) < 0.1


def test_calibration_arrays_must_fit_the_input(here):
    np.save("narrow.npy", np.zeros((20, 3, 8, 7), np.float32))
    np.save("none.npy", np.zeros((0, 3, 8, 8), np.float32))
    message = fails("compile", *SMALL, "-t", "native-int8", "-c", "narrow.npy")
    assert "narrow.npy: input " in message and "expects (1, 3, 8, 8) or more rows of it, got (20, 3, 8, 7)" in message
    assert "none.npy: arrays hold 0 batches" in fails("compile", *SMALL, "-t", "native-int8", "-c", "none.npy")


def test_options_reach_the_compiler(here):
    (here / "whole.ir").write_text(IR.replace("f32", "i32"))
    irk("compile", "whole.ir", "-o", "whole.irk")
    assert "strict=True" in fails("compile", "whole.ir", "--strict", "-o", "whole.irk")
    assert "threads" in fails("run", "whole.irk", "x.npy", "--threads", 0)
    wide = ("zoo_of_cli:wide", "--shape", "1x32x16x16")

    def tiles(*options):
        irk("compile", *wide, *options, "-o", "wide.irk")
        return [s["attrs"].get("winograd") for s in irkit.load("wide.irk").plan.document["steps"]]

    assert any(tiles()) and not any(tiles("--no-winograd"))


def test_several_inputs_by_order_and_by_name(here):
    irk("compile", "zoo_of_cli:two", "-o", "two.irk")
    left, right = np.arange(6, dtype=np.float32).reshape(2, 3), np.full((2, 3), 2, np.float32)
    np.save("l.npy", left)
    np.save("r.npy", right)
    np.savez("both.npz", right=right, left=left)
    irk("run", "two.irk", "l.npy", "r.npy", "-o", "a.npz")
    irk("run", "two.irk", "both.npz", "-o", "b.npz")
    with np.load("a.npz") as a, np.load("b.npz") as b:
        assert sorted(a.files) == sorted(b.files) and len(a.files) == 2
        for name in a.files:
            np.testing.assert_array_equal(a[name], b[name])
        assert any(np.array_equal(a[n], left + right) for n in a.files)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_model_kinds(here):
    import keras
    import torch
    from zoo_of_cli import small

    torch.export.save(torch.export.export(small(), (torch.zeros(1, 3, 8, 8),)), "small.pt2")
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save("dense.keras")
    (here / "g.ir").write_text(IR)
    for model in ("small.pt2", "dense.keras", "g.ir"):
        irk("compile", model, "-o", "out.irk")
    irk("compile", "zoo_of_cli:built", "--shape", "1x3x8x8", "-o", "out.irk")


def test_inspect(here):
    irk("compile", *SMALL, "-o", "small.irk")
    text = irk("inspect", "small.irk", "--ir", "--weights")
    assert "5.weight" in text and "func @" in text and "return(" in text
    assert "million multiply-accumulates" in text


def test_dump_shows_what_each_pass_did(here):
    text = irk("dump", *SMALL)
    titles = re.findall(r"^=== (\d+) ([\w-]+)", text, re.M)
    assert titles[0] == ("00", "input") and "fold-bn" in [t for _, t in titles] and "fuse" in [t for _, t in titles]
    assert "batch_norm" in text.split("fold-bn")[0]


def test_dump_filters(here):
    one = irk("dump", *SMALL, "--pass", "fold-bn")
    assert one.count("===") == 1 and "rounding" in one and "batch_norm(" not in one
    convs = irk("dump", *SMALL, "--pass", "input", "--op", "conv*")
    assert "conv2d(" in convs and "relu(" not in convs
    layer = irk("dump", *SMALL, "--pass", "input", "--layer", "5")
    assert "linear(" in layer and "conv2d(" not in layer
    changes = irk("dump", *SMALL, "--pass", "fold-bn", "--changed")
    assert re.search(r"^-.*batch_norm\(", changes, re.M)
    short = irk("dump", *SMALL, "--pass", "input", "--max-lines", 2)
    assert re.search(r"\.\.\. \d+ more lines", short) and len(short.splitlines()) == 4
    assert max(map(len, irk("dump", *SMALL, "--width", 50, "--pass", "fuse").splitlines()[1:])) <= 50
    irk("dump", *SMALL, "-o", "dumps")
    assert (here / "dumps/00-input.ir").read_text().startswith("// 00 input")
    assert list((here / "dumps").glob("*-fold-bn.ir"))


def test_opt_runs_the_pipeline_of_the_file_or_another(here):
    (here / "g.ir").write_text(IR)
    text = irk("opt", "g.ir", "--check", "--stats")
    assert text.count("relu(") == 1
    assert irk("opt", "g.ir", "-p", "dce").count("relu(") == 2
    irk("opt", "g.ir", "-o", "out.ir")
    assert irk("opt", "out.ir", "-p", "dce").count("relu(") == 1
    passes = irk("opt", "--list")
    assert "fold-bn" in passes and "rounding" in passes and "exact" in passes


def test_targets(here):
    text = irk("targets")
    assert all(t in text for t in irkit.targets()) and "scalar" in text


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("compile", "nonsense"), "expected package.module:factory"),
        (("compile", "no_such_module:f"), "can't import no_such_module"),
        (("compile", "zoo_of_cli:nothing"), "has no attribute 'nothing'"),
        (("compile", "zoo_of_cli:broken"), "broken() failed: RuntimeError: no weights here"),
        (("compile", "zoo_of_cli:number"), "expected a model or a function that makes one, got int"),
        (("compile", "zoo_of_cli:small"), "example_inputs"),
        (("compile", "zoo_of_cli:bad"), "aten.cumsum.default"),
        (("compile", "zoo_of_cli:training"), "training mode"),
        (("compile", "missing.keras"), "missing.keras does not exist"),
        (("compile", "broken.pt2"), "broken.pt2 can't be read"),
        (("compile", *SMALL, "-t", "z80-int4"), "unknown target 'z80-int4'"),
        (("compile", *SMALL[:1], "--shape", "1xa"), "shape '1xa'"),
        (("compile", *SMALL, "-t", "native-int8", "-c", "empty"), "no images, .npy or .npz"),
        (("compile", *SMALL, "-t", "native-int8", "-c", "nowhere"), "nowhere does not exist"),
        (("run", "missing.irk", "x.npy"), "missing.irk"),
        (("run", "broken.irk", "x.npy"), "broken.irk"),
        (("run", *SMALL), "expected 1 input file(s)"),
        (("run", *SMALL, "missing.npy"), "missing.npy does not exist"),
        (("run", *SMALL, "many.npy"), "expected shape (1, 3, 8, 8), got (20, 3, 8, 8)"),
        (("run", *SMALL, "broken.npy"), "broken.npy can't be read"),
        (("run", *SMALL, "broken.png"), "broken.png can't be read as an image"),
        (("opt", "missing.ir"), "missing.ir does not exist"),
        (("opt", "broken.ir", "-p", "dce"), "line 1"),
        (("opt", "good.ir", "-p", "fold-everything"), "unknown pass 'fold-everything'"),
        (("opt",), "give an .ir file"),
    ],
)
def test_errors_are_one_message(here, args, message):
    os.mkdir("empty")
    for name in ("broken.pt2", "broken.irk", "broken.npy", "broken.png", "broken.ir"):
        (here / name).write_bytes(b"\x00 not what it says")
    (here / "good.ir").write_text(IR)
    assert message in fails(*args)


def test_tables_in_a_pipe_are_as_wide_as_they_need(tmp_path):
    layer = "encoder.layers.0.attention.query_projection.activation_of_a_long_path_through_modules"
    graph = irkit.parse(f'func @main(%x: f32[4]) {{\n  %y = relu(%x) : f32[4] loc("{layer}")\n  return(%y)\n}}\n')
    path = irkit.compile(graph).save(tmp_path / "long.irk")
    env = {k: v for k, v in os.environ.items() if k != "COLUMNS"}
    args = [sys.executable, "-m", "irkit", "inspect", str(path)]
    assert layer in subprocess.run(args, env=env, capture_output=True, text=True, check=True).stdout


def test_import_is_light():
    """Listing targets loads neither framework."""
    code = "import irkit.cli, sys; print([m for m in ('torch', 'keras', 'PIL') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_imagenet_classes():
    from irkit.cli.show import imagenet_classes

    names = imagenet_classes()
    assert len(names) == 1000 and names[967] == "espresso" and names[985] == "daisy" and names[0] == "tench"
