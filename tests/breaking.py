"""Seeded damage of files: what a disk, an editor or a stranger may leave."""

import json
import os
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

ODD: tuple[Any, ...] = (
    *(None, True, -1, 0, 10**30, -(10**30), 1e308, float("nan"), float("inf"), "", "x" * 5000),
    *(
        "\x1b[2J",
        "\u202e",
        "\ud800",
        "../../x",
        "$\\frac{",
        "=1+1",
        [],
        {},
        [[]],
        {"a": {}},
        [None],
    ),
)


def flip(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes() or b"\0")
    for _ in range(rng.choice([1, 1, 8, 100])):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def cut(path: Path, rng: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(len(content) + 1)])


def empty(path: Path, rng: random.Random) -> None:
    path.write_bytes(b"")


def noise(path: Path, rng: random.Random) -> None:
    path.write_bytes(rng.randbytes(rng.choice([1, 7, 100, 5000])))


def giant(path: Path, rng: random.Random) -> None:
    """A sparse file: its size costs no disk."""
    os.truncate(path, rng.choice([10**8, 3 * 10**8]))


def replaced(path: Path, make: Callable[[], Any]) -> None:
    path.unlink()
    make()


def folder(path: Path, rng: random.Random) -> None:
    replaced(path, path.mkdir)


def pipe(path: Path, rng: random.Random) -> None:
    replaced(path, lambda: os.mkfifo(path))


def device(path: Path, rng: random.Random) -> None:
    replaced(path, lambda: path.symlink_to(rng.choice(["/dev/zero", "/dev/full", "/dev/tty"])))


def dangling(path: Path, rng: random.Random) -> None:
    replaced(path, lambda: path.symlink_to(rng.choice(["nowhere", path.name, "."])))


def precious(path: Path, rng: random.Random) -> None:
    """A link to a file of the user's, which must stay as it is."""
    replaced(path, lambda: path.symlink_to(os.environ["KD_PRECIOUS"]))


def unreadable(path: Path, rng: random.Random) -> None:
    path.chmod(0)


def missing(path: Path, rng: random.Random) -> None:
    path.unlink()


def another_kind(path: Path, rng: random.Random) -> None:
    kinds = (b"\x89PNG\r\n\x1a\n", b"PK\x03\x04", b"<!DOCTYPE html>", b"version https://git-lfs\n")
    path.write_bytes(rng.choice(kinds) + rng.randbytes(200))


def as_editors_do(path: Path, rng: random.Random) -> None:
    content = path.read_bytes()
    ways = (
        b"\xef\xbb\xbf" + content,
        content.replace(b"\n", b"\r\n"),
        content + b"\n\n",
        b" " + content,
    )
    path.write_bytes(rng.choice(ways))


def bomb(path: Path, rng: random.Random) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(rng.choice([10**6, 10**8])))
        archive.writestr("archive/version", "3")


def text(path: Path, rng: random.Random) -> None:
    documents = (
        *(
            "[" * 10_000,
            '{"a":' * 500,
            "a: &a [*a]",
            "<<: {a: 1}",
            "a: !!python/object:os.system x",
        ),
        *("- " * 3000, "9" * 6000, "null", "[]", "{}", '"x"', "a: b: c", "\t", "a,b\n1", "\0" * 50),
        "a: &a [1,1]\n" + "".join(f"b{n}: &b{n} [*a, *a]\n" for n in range(40)),
    )
    path.write_text(rng.choice(documents))


def values(path: Path, rng: random.Random) -> None:
    """Replace values of a JSON object; another checksum would be noticed, so it goes."""
    content = json.loads(path.read_text())
    content.pop("checksum", None)
    for key in rng.sample(sorted(content), min(len(content), rng.choice([1, 1, 3]))):
        content[key] = rng.choice(ODD)
    path.write_text(json.dumps(content))


def lines(path: Path, rng: random.Random) -> None:
    """Change lines of a text file: repeated, left out, with another value."""
    content = path.read_text().split("\n")
    for _ in range(rng.choice([1, 3])):
        place = rng.randrange(len(content))
        head = content[place].partition(":")[0]
        odd = json.dumps(rng.choice(ODD))
        content[place] = rng.choice(
            [f"{head}: {odd}", content[place] * 2, "", f"  {content[place]}"]
        )
    path.write_text("\n".join(content))


def tensors(path: Path, rng: random.Random) -> None:
    """Change tensors of a safetensors file or of a checkpoint."""
    if path.suffix == ".ckpt":
        content = torch.load(path, weights_only=True)
        place = content
        while isinstance(place, dict) and place:
            key = rng.choice(list(place))
            if rng.random() < 0.5 or not isinstance(place[key], dict):
                value = place[key]
                odd = changed(value, rng) if torch.is_tensor(value) else rng.choice(ODD[:14])
                place[key] = odd
                break
            place = place[key]
        torch.save(content, path)
        return
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        found = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        metadata = {k: v for k, v in (file.metadata() or {}).items() if k != "checksums"}
    key = rng.choice(sorted(found))
    found[key] = changed(found[key], rng)
    save_file(found, path, metadata)


def changed(value: torch.Tensor, rng: random.Random) -> torch.Tensor:
    ways: list[Callable[[], torch.Tensor]] = [
        lambda: value.double() * float("nan"),
        lambda: torch.full_like(value, 10**4),
        lambda: value[:1].contiguous() if value.dim() else value,
        lambda: value.unsqueeze(0).contiguous(),
        lambda: value.to(torch.complex64),
        lambda: value.to(torch.int8),
        lambda: torch.zeros(0),
    ]
    return rng.choice(ways)()


ANY = (flip, cut, empty, noise, folder, pipe, device, dangling, precious, missing, another_kind)
TEXT = (*ANY, giant, text, lines, as_editors_do, unreadable)
JSON = (*TEXT, values, values, values)
TENSORS = (*ANY, tensors, tensors, tensors, bomb, as_editors_do)
