"""What the command line names: models, input arrays, images and calibration data."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from irkit.errors import ArtifactError, CalibrationError, InputError, IrkitError, ModelError
from irkit.ir.types import Array, DType, TensorType

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
ARRAYS = (".npy", ".npz")


@dataclass(frozen=True)
class Pixels:
    """How an image becomes an input: (x - mean) / std of its 0..255 values."""

    mean: float = 0.0
    std: float = 1.0


# ---- models
def load_model(spec: str) -> tuple[Any, Any]:
    """(model, example inputs or None) of ``package.module:factory`` or of a .keras, .h5, .hdf5, .pt2 or .ir file.

    A factory returns a model, or a model and its example inputs; the name may also be that of a model itself.
    """
    path = Path(spec)
    suffix = path.suffix.lower()
    if suffix in (".keras", ".h5", ".hdf5", ".pt2", ".ir"):
        if not path.is_file():
            raise ModelError(f"model file {spec} does not exist")
        return _load_file(path, suffix), None
    module_name, colon, attribute = spec.partition(":")
    if not colon or not module_name or not attribute:
        raise ModelError(f"model {spec!r}: expected package.module:factory, or a .keras, .h5, .pt2 or .ir file")
    sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except ImportError as e:
        raise ModelError(f"model {spec!r}: can't import {module_name}: {e}") from e
    except AttributeError as e:
        raise ModelError(f"model {spec!r}: {e}") from e
    finally:
        sys.path.remove(os.getcwd())
    if _is_model(found):
        return found, None
    if not callable(found):
        raise ModelError(f"model {spec!r}: expected a model or a function that makes one, got {type(found).__name__}")
    try:
        made = found()
    except Exception as e:
        raise ModelError(f"model {spec!r}: {attribute}() failed: {type(e).__name__}: {e}") from e
    if isinstance(made, tuple) and len(made) == 2 and _is_model(made[0]):
        return made
    return made, None


def _is_model(x: Any) -> bool:
    from irkit.ir.graph import Graph
    from irkit.pipeline import is_keras_model, is_torch_model

    return not isinstance(x, type) and (isinstance(x, Graph) or is_keras_model(x) or is_torch_model(x))


def _load_file(path: Path, suffix: str) -> Any:
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # readers log what they also raise
    try:
        if suffix == ".pt2":
            import torch

            return torch.export.load(path)
        if suffix == ".ir":
            return read_graph(path)[0]
        os.environ.setdefault("KERAS_BACKEND", _keras_backend())
        import keras

        return keras.models.load_model(path, compile=False)
    except ImportError as e:
        raise ModelError(f"model file {path} needs {e.name or 'a framework'}: {e}") from e
    except IrkitError:
        raise
    except Exception as e:  # whatever a framework's reader meets in a damaged file
        raise ModelError(f"model file {path} can't be read: {str(e).splitlines()[0] if str(e) else e!r}") from e
    finally:
        logging.disable(before)


def _keras_backend() -> str:
    """The first backend that is installed; Keras' own default is TensorFlow alone."""
    from importlib.util import find_spec

    return next((b for b in ("tensorflow", "jax", "torch") if find_spec(b)), "torch")


def read_graph(path: Path) -> tuple[Any, str]:
    """(graph, pipeline) of a text file; the pipeline is that of its ``// RUN:`` line, or empty. Large constants are
    in ``<name>.npz`` beside it."""
    import irkit.passes  # noqa: F401  (registers the passes)
    from irkit.ir.parse import parse_graph
    from irkit.ir.passes import read_constants

    text = path.read_text(encoding="utf-8")
    first = text.split("\n", 1)[0]
    pipeline = first.removeprefix("// RUN:").strip() if first.startswith("// RUN:") else ""
    return parse_graph(text, read_constants(path)), pipeline


def load_artifact(path: Path, threads: int | None = None) -> Any:
    """A compiled model; errors name the file."""
    import irkit

    try:
        return irkit.load(path, threads=threads)
    except ArtifactError as e:
        raise e if str(path) in str(e) else ArtifactError(f"{path}: {e}") from None


# ---- inputs
def parse_shape(text: str) -> Array:
    """Zeros of ``1x3x224x224`` or ``1x128:i32``: an example input for tracing."""
    sizes, _, dtype = text.partition(":")
    try:
        shape = tuple(int(s) for s in sizes.split("x"))
        kind = DType(dtype or "f32").numpy
    except ValueError:
        names = ", ".join(d.value for d in DType)
        raise InputError(f"shape {text!r}: expected sizes such as 1x3x224x224, with :dtype of {names}") from None
    if any(s < 0 for s in shape):
        raise InputError(f"shape {text!r}: sizes can't be negative")
    return np.zeros(shape, kind)


def read_arrays(path: Path) -> dict[str, Array]:
    """Arrays of an .npy (one, named "") or .npz file."""
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"": loaded}
        with loaded:
            return {name: np.asarray(loaded[name]) for name in loaded.files}
    except (ValueError, OSError, EOFError) as e:
        raise InputError(f"{path} can't be read as arrays: {e}") from None


def read_image(path: Path, want: TensorType, pixels: Pixels) -> Array:
    """An image as one input of that type: the shorter side is scaled to fit, the middle is cut out, channels go where
    the shape has 1 or 3 of them."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise InputError(f"{path}: reading images needs Pillow (pip install pillow)") from None
    shape = want.shape[1:] if want.rank == 4 else want.shape
    first = len(shape) == 3 and shape[0] in (1, 3)
    if len(shape) != 3 or not (first or shape[2] in (1, 3)):
        raise InputError(f"{path}: an image does not fit an input of shape {want.shape}")
    height, width, channels = (shape[1], shape[2], shape[0]) if first else shape
    try:
        with Image.open(path) as opened:
            image = opened.convert("L" if channels == 1 else "RGB")
    except (UnidentifiedImageError, OSError) as e:
        raise InputError(f"{path} can't be read as an image: {e}") from None
    array = fit_image(np.asarray(image), height, width).astype(np.float32)
    array = (array.reshape(height, width, channels) - np.float32(pixels.mean)) / np.float32(pixels.std)
    array = array.transpose(2, 0, 1) if first else array
    if not want.dtype.is_float:
        array = np.rint(array)
    return np.ascontiguousarray(np.broadcast_to(array, want.shape)).astype(want.dtype.numpy)


def fit_image(image: Array, height: int, width: int) -> Array:
    """The middle of an image (H, W[, C], uint8), scaled (bicubic) so that it just covers height x width."""
    from PIL import Image

    h, w = image.shape[:2]
    scale = max(height / h, width / w)
    size = (max(width, round(w * scale)), max(height, round(h * scale)))
    scaled = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    top, left = (size[1] - height) // 2, (size[0] - width) // 2
    return scaled[top : top + height, left : left + width]


def read_inputs(paths: Sequence[Path], wants: Sequence[tuple[str, TensorType]], pixels: Pixels) -> list[Array]:
    """One array per input: files in the model's order, or one .npz with the inputs' names."""
    for p in paths:
        if not p.is_file():
            raise InputError(f"input file {p} does not exist")
    if len(paths) == 1 and paths[0].suffix.lower() == ".npz":
        return _by_name(read_arrays(paths[0]), wants, paths[0])
    if len(paths) != len(wants):
        names = ", ".join(n for n, _ in wants)
        raise InputError(f"expected {len(wants)} input file(s) ({names}), got {len(paths)}")
    return [_read_one(p, w, pixels) for p, (_, w) in zip(paths, wants, strict=True)]


def _read_one(path: Path, want: TensorType, pixels: Pixels) -> Array:
    if path.suffix.lower() in IMAGES:
        return read_image(path, want, pixels)
    arrays = list(read_arrays(path).values())
    if len(arrays) != 1:
        raise InputError(f"{path}: expected one array, got {len(arrays)}")
    return arrays[0]


def _by_name(arrays: dict[str, Array], wants: Sequence[tuple[str, TensorType]], path: Path) -> list[Array]:
    names = [n for n, _ in wants]
    if set(names) <= set(arrays):
        return [arrays[n] for n in names]
    if len(arrays) != len(names):
        raise InputError(f"{path}: expected the arrays {', '.join(names)}, got {', '.join(arrays) or 'none'}")
    return list(arrays.values())


def example_from(paths: Sequence[Path], shapes: Sequence[str]) -> Any:
    """Example inputs for tracing: arrays of files, then zeros of the given shapes. None when there are none."""
    values: list[Array] = []
    for p in paths:
        if p.suffix.lower() in IMAGES:
            raise InputError(f"{p}: an image has no shape to compile for; give --shape, or an .npy file")
        if not p.is_file():
            raise InputError(f"input file {p} does not exist")
        values += list(read_arrays(p).values())
    values += [parse_shape(s) for s in shapes]
    return None if not values else values[0] if len(values) == 1 else tuple(values)


def calibration_batches(
    sources: Sequence[Path], wants: Sequence[tuple[str, TensorType]], pixels: Pixels
) -> tuple[int, Callable[[], Iterator[tuple[Array, ...]]]]:
    """(number of batches if each file held one, reader) of files and folders of images, .npy and .npz.

    An array with more rows than the model's batch is cut into batches; one .npz holds all inputs of a model by name.
    """
    files: list[Path] = []
    for s in sources:
        if s.is_dir():
            files += sorted(p for p in s.iterdir() if p.suffix.lower() in (*IMAGES, *ARRAYS))
        elif s.is_file():
            files.append(s)
        else:
            raise CalibrationError(f"calibration: {s} does not exist")
    if not files:
        raise CalibrationError(f"calibration: no images, .npy or .npz files in {', '.join(map(str, sources))}")

    def batches() -> Iterator[tuple[Array, ...]]:
        for path in files:
            if path.suffix.lower() in IMAGES:
                if len(wants) != 1:
                    raise CalibrationError(f"{path}: an image can't feed {len(wants)} inputs; use .npz files")
                yield (read_image(path, wants[0][1], pixels),)
                continue
            yield from _cut(_by_name(read_arrays(path), wants, path), wants, path)

    return len(files), batches


def _cut(arrays: Sequence[Array], wants: Sequence[tuple[str, TensorType]], path: Path) -> Iterator[tuple[Array, ...]]:
    if all(a.shape == w.shape for a, (_, w) in zip(arrays, wants, strict=True)):
        yield tuple(arrays)
        return
    counts = set()
    for a, (name, w) in zip(arrays, wants, strict=True):
        if w.rank == 0 or a.shape[1:] != w.shape[1:] or not w.shape[0]:
            raise CalibrationError(f"{path}: input {name} expects {w.shape} or more rows of it, got {a.shape}")
        counts.add(len(a) // w.shape[0])
    if len(counts) != 1 or 0 in counts:
        raise CalibrationError(f"{path}: arrays hold {', '.join(str(c) for c in sorted(counts))} batches")
    for i in range(counts.pop()):
        yield tuple(a[i * w.shape[0] : (i + 1) * w.shape[0]] for a, (_, w) in zip(arrays, wants, strict=True))
