"""Hand-written training loops, against which the framework's speed is measured.

All train the same student on the same images with the same optimizer, and evaluate the validation
set once per epoch, as every loop that selects an epoch must.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

TEMPERATURE, ALPHA = 2.0, 0.25
Batches = Iterable[tuple[Tensor, Tensor]]


class Images(NamedTuple):
    """A data set in memory: images uint8 [N, C, S, S] and labels [N], and their normalisation."""

    train: tuple[Tensor, Tensor]
    val: tuple[Tensor, Tensor]
    mean: list[float]
    std: list[float]


class PerSample(Dataset[tuple[Tensor, int]]):
    """Like torchvision's CIFAR10: arrays in memory, a PIL image and a transform per sample."""

    def __init__(
        self, images: Tensor, targets: Tensor, mean: list[float], std: list[float]
    ) -> None:
        arrays = images.permute(0, 2, 3, 1).numpy()
        self.arrays = arrays if arrays.shape[3] == 3 else arrays[..., 0]
        self.targets = targets.tolist()
        self.transform = transforms.Compose(
            [transforms.ToTensor(), transforms.Normalize(mean, std)]
        )

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.arrays[index])), self.targets[index]


class Preloaded:
    """Batches of tensors that were normalised beforehand and lie on the device."""

    def __init__(self, images: Tensor, targets: Tensor, batch_size: int, shuffle: bool) -> None:
        self.images, self.targets = images, targets
        self.batch_size, self.shuffle = batch_size, shuffle

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        count, device = len(self.images), self.images.device
        order = torch.randperm(count, device=device) if self.shuffle else torch.arange(count)
        last = count - count % self.batch_size if self.shuffle else count
        for rows in order.to(device)[:last].split(self.batch_size):
            yield self.images.index_select(0, rows), self.targets.index_select(0, rows)


def loaders(
    images: Images, batch_size: int, device: torch.device, workers: int | None
) -> tuple[Batches, Batches]:
    """Training and validation batches; `workers` None: preloaded, else per sample."""
    if workers is None:
        mean, std = (torch.tensor(v, device=device).view(1, -1, 1, 1) for v in images[2:])
        x, y, val_x, val_y = (t.to(device) for t in (*images.train, *images.val))
        x, val_x = ((part.float() / 255 - mean) / std for part in (x, val_x))
        return Preloaded(x, y, batch_size, True), Preloaded(val_x, val_y, 512, False)
    train, val = (PerSample(*part, images.mean, images.std) for part in (images.train, images.val))
    return (
        DataLoader(train, batch_size, shuffle=True, num_workers=workers, drop_last=True),
        DataLoader(val, 512, num_workers=workers),
    )


def train(
    student: nn.Module,
    teacher: nn.Module | None,
    make_loaders: Callable[[], tuple[Batches, Batches]],
    epochs: int,
    device: torch.device,
) -> float:
    """Distil, or train with labels alone if there is no teacher; return the elapsed seconds."""
    student.to(device)
    if teacher is not None:
        teacher.to(device).eval()
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-3)
    started = time.perf_counter()
    train_loader, val_loader = make_loaders()
    for _ in range(epochs):
        student.train()
        for images, labels in train_loader:
            images, labels = images.to(device), labels.to(device)
            optimizer.zero_grad()
            logits = student(images)
            loss = F.cross_entropy(logits, labels)
            if teacher is not None:
                with torch.no_grad():
                    target = (teacher(images) / TEMPERATURE).softmax(1)
                soft = F.cross_entropy(logits / TEMPERATURE, target) * TEMPERATURE**2
                loss = ALPHA * soft + (1 - ALPHA) * loss
            loss.backward()
            optimizer.step()
        accuracy(student, val_loader, device)
    return time.perf_counter() - started


@torch.no_grad()
def accuracy(net: nn.Module, batches: Batches, device: torch.device) -> float:
    net.eval()
    right = sum((net(x.to(device)).argmax(1) == y.to(device)).sum() for x, y in batches)
    return float(right)
