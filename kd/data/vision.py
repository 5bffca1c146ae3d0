"""torchvision's MNIST, CIFAR-10 and CIFAR-100, with its download addresses and checksums."""

import contextlib
import io
import logging
import socket
from abc import abstractmethod
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from kd.data.arrays import Arrays
from kd.data.datamodule import ImageDataModule
from kd.errors import UserError

log = logging.getLogger(__name__)
# MD5 of the unpacked files; torchvision knows those of the packed ones only.
_MNIST_FILES = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
TIMEOUT_S = 20  # urllib has none by default: a network that drops packets would hang the run


class TorchvisionData(ImageDataModule):
    """A data set that torchvision can download.

    Args:
        root: folder of all torchvision data sets.
        download: download missing files; intact files are never requested.
        **common: as `ImageDataModule`.
    """

    def __init__(self, *, root: str, download: bool = True, **common: Any) -> None:
        super().__init__(**common)
        self.root, self.download = Path(root).expanduser(), download

    @abstractmethod
    def dataset(self) -> Any:
        """torchvision's class, imported in the function: importing torchvision takes 3 s."""

    @abstractmethod
    def problems(self) -> dict[Path, str]:
        """Missing and damaged files, with the problem of each."""

    @abstractmethod
    def sources(self) -> list[str]:
        """Addresses of the files."""

    def fetch(self) -> None:
        problems, reason = self.problems(), "data.download=false"
        if problems and self.download:
            reason = self._download()
            problems = self.problems()
        if problems:
            raise UserError(self._explain(problems, reason))

    def load(self) -> Arrays:
        try:
            train, test = (self.dataset()(self.root, train=train) for train in (True, False))
        except (OSError, RuntimeError) as error:
            raise UserError(self._explain(self.problems(), str(error))) from error
        return Arrays(*self.tensors(train), *self.tensors(test), self.names(train))

    def tensors(self, split: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Images uint8 [N, C, H, W] and targets int64 [N] of one torchvision data set."""
        images = torch.as_tensor(split.data).permute(0, 3, 1, 2).contiguous()
        return images, torch.tensor(split.targets)

    def names(self, split: Any) -> list[str]:
        return list(split.classes)

    def _download(self) -> str:
        """Download, and return the reason of a failure; "" if there was none."""
        log.info("downloading %s into %s", self.name, self.root)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            # Jobs of a sweep that start together on a fresh machine: one of them downloads.
            with FileLock(self.root / ".download.lock"), _quiet_network():
                self.dataset()(self.root, download=True)
        except Exception as error:
            # Not only URLError and RuntimeError: torchvision reads a damaged file if it exists, and
            # its reader may raise anything. `problems` checks the files next.
            return f"{type(error).__name__}: {error}"
        return ""

    def _explain(self, problems: dict[Path, str], reason: str) -> str:
        files = ", ".join(f"{path.name} ({problem})" for path, problem in problems.items())
        folder = next(iter(problems)).parent if problems else self.root
        return (
            f"data {self.name!r}: in {folder}: {files or 'unreadable files'}.\n"
            f"Reason: {reason.strip() or 'the files differ from those expected'}\n"
            f"They come from {' or '.join(self.sources())}; delete a damaged file to have it "
            "downloaded again, or put the files there by hand.\n"
            "Without a network: data=digits needs no files, "
            "data=image_folder data.root=<folder> takes your own images."
        )


class MNIST(TorchvisionData):
    """60 000 + 10 000 grey 28x28 handwritten digits (LeCun et al. 1998) in root/MNIST/raw."""

    def dataset(self) -> Any:
        from torchvision import datasets

        return datasets.MNIST

    def problems(self) -> dict[Path, str]:
        folder = self.root / "MNIST" / "raw"
        paths = [folder / name for name in _MNIST_FILES]
        return {path: problem for path in paths if (problem := _idx_problem(path))}

    def load(self) -> Arrays:
        # A warning only: users replace these files by other data sets of the same format.
        from torchvision.datasets.utils import check_integrity

        folder = self.root / "MNIST" / "raw"
        others = [n for n, md5 in _MNIST_FILES.items() if not check_integrity(folder / n, md5)]
        if others:
            log.warning(
                "data %r: in %s, %s differ from the published files: damaged, or another data set; "
                "do not compare the results with published ones on MNIST",
                *(self.name, folder, ", ".join(others)),
            )
        return super().load()

    def sources(self) -> list[str]:
        return list(self.dataset().mirrors)

    def tensors(self, split: Any) -> tuple[torch.Tensor, torch.Tensor]:
        return split.data[:, None], split.targets

    def names(self, split: Any) -> list[str]:
        return [name.split(" - ")[0] for name in split.classes]  # "7 - seven"


class CIFAR10(TorchvisionData):
    """50 000 + 10 000 colour 32x32 images in 10 classes (Krizhevsky 2009)."""

    def dataset(self) -> Any:
        from torchvision import datasets

        return datasets.CIFAR10

    def problems(self) -> dict[Path, str]:
        from torchvision.datasets.utils import check_integrity

        source = self.dataset()
        folder = self.root / source.base_folder
        files = [*source.train_list, *source.test_list]
        files.append((source.meta["filename"], source.meta["md5"]))
        return {
            folder / name: "damaged" if (folder / name).exists() else "missing"
            for name, md5 in files
            if not check_integrity(folder / name, md5)
        }

    def sources(self) -> list[str]:
        return [self.dataset().url]


class CIFAR100(CIFAR10):
    """50 000 + 10 000 colour 32x32 images in 100 classes (Krizhevsky 2009), fine labels."""

    def dataset(self) -> Any:
        from torchvision import datasets

        return datasets.CIFAR100


def _idx_problem(path: Path) -> str:
    """Reason why an unpacked MNIST file cannot be read; "" if it can.

    An idx file: 0, 0, 8 (unsigned bytes), number of dimensions; each size in 4 bytes, big endian;
    the values.
    """
    try:
        with path.open("rb") as file:
            head = file.read(4)
            dimensions = 3 if "images" in path.name else 1
            sizes = [int.from_bytes(file.read(4), "big") for _ in range(dimensions)]
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return f"unreadable: {error.strerror}"
    if head != bytes([0, 0, 8, dimensions]):
        return "damaged: not an idx file"
    expected, size = 4 + 4 * dimensions + prod(sizes), path.stat().st_size
    return "" if size == expected else f"damaged: {size} bytes, its header says {expected}"


@contextlib.contextmanager
def _quiet_network() -> Iterator[None]:
    """Set a time-out, and suppress the progress bar on stderr."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_S)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        socket.setdefaulttimeout(before)
