"""Classification of images with an exported ONNX file, without `kd` and without PyTorch.

    pip install numpy pillow onnxruntime
    python scripts/examples/predict_onnx.py student.onnx photos/ more.png --output classes.csv

The file says which images it takes and which classes it knows (metadata entry `kd`, written by
`python -m kd.export run=FOLDER format=onnx`); mean and std are inside the graph. Images are read as
`kd.predict` reads them, so that both give the same classes: turned as their EXIF data say, the
shorter side scaled, the centre cropped. Exit code: 0, all images were read; 2, some were skipped,
each by name; 1, a mistake.
"""

import argparse
import contextlib
import csv
import json
import os
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

READERS = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "TIFF", "GIF", "PPM")
SUFFIXES = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib"),
    *(".tif", ".tiff", ".gif", ".ppm", ".pgm", ".pbm", ".pnm"),
)
Image.MAX_IMAGE_PIXELS = 64_000_000


class Scale(NamedTuple):
    """White of images with more than 8 bits: 2**bits − 1 of integers, `top` of floats."""

    bits: int = 16
    top: float = 1.0


class Model:
    """An ONNX file of `kd.export`: uint8 images [B, C, H, W] -> logits [B, K]."""

    def __init__(self, path: str) -> None:
        # Read here: a file that is loaded by its name may refer to other files.
        self.session = onnxruntime.InferenceSession(
            Path(path).read_bytes(), providers=["CPUExecutionProvider"]
        )
        text = self.session.get_modelmeta().custom_metadata_map.get("kd")
        if text is None:
            raise ValueError("it does not say which classes and images it is made for")
        about = json.loads(text)
        self.class_names: list[str] = about["class_names"]
        self.height, self.width = about["input_size"]
        self.mode = "L" if about["channels"] == 1 else "RGB"
        black = np.zeros((1, about["channels"], self.height, self.width), np.uint8)
        if self.probabilities(black).shape != (1, len(self.class_names)):
            raise ValueError("its outputs are not one for each class")

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Return softmax(logits) [B, K]: temperature 1, whatever the training had."""
        name = self.session.get_inputs()[0].name
        logits: Any = self.session.run(None, {name: images})[0]
        shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
        return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def open_model(path: str) -> Model:
    try:
        return Model(path)
    except OSError:
        raise
    except Exception as error:  # onnxruntime's own kinds among them, one for each state
        sys.exit(f"error: {path} is no ONNX file of kd.export: {error}")


def image_paths(given: Sequence[str]) -> Iterator[Path]:
    """Yield the files, and those with the suffix of an image in the folders."""
    for path in map(Path, given):
        if not path.is_dir():
            yield path
            continue
        seen: set[str] = set()
        for folder, below, names in os.walk(path, followlinks=True):
            real = os.path.realpath(folder)
            below[:] = sorted(name for name in below if name[0] != "." and real not in seen)
            if real not in seen:
                images = (n for n in names if n[0] != "." and n.lower().endswith(SUFFIXES))
                found = (Path(folder, name) for name in sorted(images))
                # Opening a named pipe would wait for ever.
                yield from (path for path in found if path.is_file() or not path.exists())
            seen.add(real)


def deep_colour(file: Any) -> bool:
    """Return whether a file, not loaded yet, has 16 bits in each of several channels."""
    several = file.mode in ("LA", "RGB", "RGBA", "RGBX", "CMYK")
    return several and ";16" in str([tile[3] for tile in file.tile])


def grey_8_bit(image: Image.Image, scale: Scale) -> Image.Image:
    """Convert grey images with more than 8 bits; others are returned as they are."""
    if image.mode[0] not in "IF":
        return image
    values = np.asarray(image)
    if values.min() < 0 or not np.isfinite(values).all() or values.max() > 65535:
        raise ValueError(f"values from {values.min()} to {values.max()}")
    if image.mode == "F":
        levels = np.floor(values.astype(np.float64) * (255 / scale.top) + 0.5)
    else:
        levels = values >> (scale.bits - 8)
    return Image.fromarray(levels.clip(0, 255).astype(np.uint8))


def read(path: Path, model: Model, scale: Scale) -> np.ndarray:
    """Return the pixels of an image, uint8 [C, H, W]."""
    size = (model.width, model.height)
    with Image.open(path, formats=READERS) as file:
        deep = deep_colour(file)
        if deep and scale.bits < 16:
            raise ValueError("16-bit colour with fewer bits in use: convert the file to 8 bits")
        file.draft(model.mode, (2 * size[0], 2 * size[1]))  # decodes large JPEGs at a smaller scale
        file.load()
        with contextlib.suppress(Exception):  # damaged EXIF data raise nearly anything
            ImageOps.exif_transpose(file, in_place=True)
        image = grey_8_bit(file, scale)
        if "transparency" in image.info:
            image = image.convert("RGBA")
        image = image.convert(model.mode) if image.mode != model.mode else image
    if image.size != size:
        image = ImageOps.fit(image, size, Image.Resampling.BILINEAR)
    return np.stack([np.asarray(channel) for channel in image.split()])


def scale_of(given: Sequence[str], mode: str) -> Scale:
    """Return the white that fits the largest values: 12-bit values are common in 16-bit files."""
    integer, real = 0, 0.0
    for path in image_paths(given):
        try:
            with Image.open(path, formats=READERS) as file:
                deep = deep_colour(file)
                if not deep and file.mode[0] not in "IF":
                    continue
                file.load()
                if file.mode == "F":
                    real = max(real, float(np.asarray(file).max()))
                    continue
                image = file.convert(mode) if deep else file
                largest = int(np.asarray(image).max())
                integer = max(integer, (largest << 8 | 255 if largest else 0) if deep else largest)
        except Exception:  # `read` names the reason
            continue
    bits = next((b for b in (8, 10, 12, 14, 16) if integer < 2**b), 16) if integer else 16
    return Scale(bits, 1.0 if real <= 1 else 255.0)


def predictions(
    model: Model, options: argparse.Namespace, skipped: list[Path]
) -> Iterator[tuple[Path, str, float]]:
    """Yield image, class and probability; add the images that cannot be read to `skipped`."""
    scale = scale_of(options.images, model.mode)
    batch: list[tuple[Path, np.ndarray]] = []

    def classified() -> Iterator[tuple[Path, str, float]]:
        found = model.probabilities(np.stack([image for _, image in batch])) if batch else ()
        for (path, _), row in zip(batch, found, strict=True):
            yield path, model.class_names[row.argmax()], float(row.max())
        batch.clear()

    for path in image_paths(options.images):
        try:
            batch.append((path, read(path, model, scale)))
        except Exception as error:  # damaged files raise nearly anything
            print(f"skipped: {printable(path)}: {error}", file=sys.stderr)
            skipped.append(path)
        if len(batch) >= options.batch_size:
            yield from classified()
    yield from classified()


def write(path: Path, found: Sequence[tuple[Path, str, float]]) -> None:
    """Write the predictions as CSV; a file of that name stays as it was if the disk is full."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            writer = csv.writer(file)
            writer.writerow(["image", "class", "probability"])
            writer.writerows([cell(str(path)), cell(name), p] for path, name, p in found)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def cell(text: str) -> str:
    """Return a text that no spreadsheet runs as a formula."""
    return f"'{text}" if text.lstrip().startswith(("=", "+", "-", "@")) else text


def printable(path: Path) -> str:
    """Return a path in which control characters, and bytes that are no UTF-8, are visible."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(path))


class Parser(argparse.ArgumentParser):
    """Mistakes end with exit code 1; that of argparse, 2, stands for skipped images here."""

    def error(self, message: str) -> NoReturn:
        sys.exit(f"error: {message}; see --help")


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        code = classify(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # as in `predict_onnx.py … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        sys.exit(f"error: {error}")


def classify(arguments: Sequence[str] | None) -> int:
    parser = Parser(description="Classify images with an exported ONNX file.")
    parser.add_argument("model", help="an ONNX file of kd.export")
    parser.add_argument("images", nargs="+", help="folders and files")
    parser.add_argument("--output", type=Path, help="a CSV file: image, class, probability")
    parser.add_argument("--batch-size", type=int, default=64)
    options = parser.parse_args(arguments)
    if missing := [each for each in (options.model, *options.images) if not Path(each).exists()]:
        sys.exit(f"error: there is no {missing[0]}")
    warnings.simplefilter("ignore")  # about damaged metadata
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    skipped: list[Path] = []
    model = open_model(options.model)
    found = list(predictions(model, options, skipped))
    if not found:
        sys.exit("error: there is no image that can be read")
    if options.output:
        write(options.output, found)
    for path, name, probability in found[:10]:
        print(f"{printable(path)}\t{name}\t{probability:.1%}")
    counts = Counter(name for _, name, _ in found)
    print(f"{len(found)} images:", ", ".join(f"{n} {name}" for name, n in counts.most_common()))
    if options.output:
        print(f"written: {options.output}")
    return 2 if skipped else 0


if __name__ == "__main__":
    sys.exit(main())
