"""Files that a disk, a kill or a stranger spoiled: noticed where they can be, never a traceback."""

import contextlib
import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors import safe_open
from support import LIMIT, configured, mnist, within

from kd.config.record import register_resumed
from kd.data.image_folder import ImageFolder
from kd.errors import UserError
from kd.io import tensors as tensor_file
from kd.io.result_file import read_result
from kd.io.weights import read_file
from kd.reports.find import find_runs
from kd.training.run import run

CASES = 200  # of each kind
Read = Callable[[Path], Any]


def flipped(content: bytes, place: int, bit: int) -> bytes:
    spoiled = bytearray(content)
    spoiled[place] ^= 1 << bit
    return bytes(spoiled)


def for_flips(content: bytes, attempt: Callable[[int, int], None]) -> None:
    """Call `attempt(place, bit)` for many bits of the content."""
    places = st.integers(0, len(content) - 1)
    setup = settings(
        max_examples=CASES, deadline=None, derandomize=True, database=None,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    setup(given(places, st.integers(0, 7))(attempt))()


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The folder of a finished run, with its output root in it."""
    folder = tmp_path_factory.mktemp("finished")
    small = ("trainer.limit_train_batches=2", "trainer.max_epochs=1", "data/view=none")
    run(configured(folder, folder, "method=at", *small), folder)
    return folder


def same(one: object, other: object) -> bool:
    if torch.is_tensor(one):
        return torch.is_tensor(other) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def read_numbers(file: Path) -> dict:
    result = read_result(file.parent)
    if result is None:
        raise UserError("not believed")
    *content, _ = result.items()  # without the checksum, of which the name may be what is flipped
    return dict(content)


def read_report(file: Path) -> str:
    found = find_runs([file.parent])
    if found.excluded:
        raise UserError(found.excluded[0].why)
    return str(found.runs[0].result["test/acc"])


def read_answers(file: Path) -> dict:
    with safe_open(file.with_name("right"), "pt") as right:
        key = right.metadata()["key"]
    stored = tensor_file.read(file, key)
    if stored is None:
        raise UserError("it is made again")
    return stored.tensors


# What the project writes has a checksum, so that no flipped bit goes unnoticed.
OURS: dict[str, tuple[str, Read]] = {
    "checkpoint": ("checkpoints/last.ckpt", read_file),
    "weights": ("student.safetensors", read_file),
    "result": ("result.json", read_numbers),
    "result in a report": ("result.json", read_report),
    "answers of a teacher": ("cache/*/logits/*.safetensors", read_answers),
}


def copied(finished: Path, pattern: str, folder: Path) -> Path:
    source = sorted(finished.glob(pattern))[0]
    shutil.copy(source, folder / "right")
    return Path(shutil.copy(source, folder / source.name))


@pytest.mark.parametrize("kind", OURS)
def test_a_flipped_bit_is_noticed(kind, finished, tmp_path):
    pattern, read = OURS[kind]
    file = copied(finished, pattern, tmp_path)
    content, right, noticed = file.read_bytes(), read(file), []

    def attempt(place: int, bit: int) -> None:
        file.write_bytes(flipped(content, place, bit))
        with within(LIMIT):
            try:
                found = read(file)
            except UserError:
                noticed.append(place)
            else:
                assert same(found, right), f"bit {bit} of byte {place} was not noticed"

    for_flips(content, attempt)
    assert len(noticed) > CASES / 2


@pytest.mark.parametrize("length", [0, 1, 100, 0.5, 0.99])
@pytest.mark.parametrize("kind", OURS)
def test_half_a_file_is_noticed(kind, length, finished, tmp_path):
    pattern, read = OURS[kind]
    file = copied(finished, pattern, tmp_path)
    content = file.read_bytes()
    file.write_bytes(content[: length if isinstance(length, int) else int(length * len(content))])
    with pytest.raises(UserError):
        read(file)


def png(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def pictures(tmp_path) -> Path:
    """The first of the images of a small image folder."""
    for split in ("train", "test"):
        for kind in ("ant", "bee"):
            folder = tmp_path / split / kind
            folder.mkdir(parents=True)
            for number in range(4):
                (folder / f"{number}.png").write_bytes(png(number))
    return tmp_path / "train" / "ant" / "0.png"


def read_images(file: Path) -> object:
    root = file.parents[2]
    shutil.rmtree(root / ".kd_cache", ignore_errors=True)
    data = ImageFolder(
        name="pictures", root=str(root), image_size=8, batch_size=2, val_fraction=0.3
    )
    data.prepare_data()
    data.setup()
    return data.num_samples


@pytest.fixture
def digits(mnist_root) -> Path:
    return mnist_root / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"


def read_mnist(file: Path) -> object:
    data = mnist(file.parents[2], download=False)
    data.prepare_data()
    data.setup()
    return data.num_samples


@pytest.fixture
def record(tmp_path) -> Path:
    """The config that a resumed run reads."""
    file = tmp_path / ".hydra" / "config.yaml"
    file.parent.mkdir()
    groups = ("data", "mode", "optimizer", "paths", "student", "teacher", "trainer")
    text = "seed: 0\nmethod:\n  name: kd\n  temperature: 4.0\n"
    file.write_text(text + "".join(f"{group}: {{}}\n" for group in groups))
    return file


def read_recorded(file: Path) -> object:
    return register_resumed([f"resume={file.parents[1]}"])


@pytest.fixture
def config(finished, tmp_path) -> Path:
    """The config beside a result, from which a report takes the names of its rows."""
    shutil.copy(finished / "result.json", tmp_path)
    (tmp_path / ".hydra").mkdir()
    source = next((finished / "teachers").glob("*/.hydra/config.yaml"))
    return Path(shutil.copy(source, tmp_path / ".hydra" / "config.yaml"))


def read_config(file: Path) -> object:
    return find_runs([file.parents[1]]).runs


# What is the user's own has none: it is read as it is, or refused, but never ends in a traceback.
THEIRS: dict[str, Read] = {
    "pictures": read_images,
    "digits": read_mnist,
    "record": read_recorded,
    "config": read_config,
}


@pytest.mark.parametrize("kind", THEIRS)
@pytest.mark.slow
def test_a_flipped_bit_ends_in_no_traceback(kind, request, caplog):
    file: Path = request.getfixturevalue(kind)
    read, content = THEIRS[kind], file.read_bytes()
    assert read(file)

    def attempt(place: int, bit: int) -> None:
        file.write_bytes(flipped(content, place, bit))
        with within(LIMIT), contextlib.suppress(UserError):
            read(file)

    for_flips(content, attempt)
