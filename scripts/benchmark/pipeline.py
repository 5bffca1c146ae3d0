"""Benchmark of crop, flip and normalisation of CIFAR-size images: batched, and per sample.

python scripts/benchmark/pipeline.py
"""

import argparse
import statistics
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # works uninstalled

from machine import describe

from kd.data.loader import EpochSampler, TensorLoader
from kd.data.views import CropFlip

MEAN, STD = [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]


class PerSample(Dataset[tuple[Tensor, int]]):
    """PIL images with torchvision's v2 transforms, as in its examples."""

    def __init__(self, images: Tensor) -> None:
        self.arrays = images.permute(0, 2, 3, 1).contiguous().numpy()
        self.transform = v2.Compose(
            [
                v2.RandomCrop(32, padding=4),
                v2.RandomHorizontalFlip(),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.arrays)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.arrays[index])), 0


def main() -> None:
    parser = argparse.ArgumentParser("pipeline", description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    images = torch.randint(0, 256, (options.images, 3, 32, 32), dtype=torch.uint8)
    per_sample = PerSample(images)
    rows: dict[str, Iterable[object]] = {
        "kd, batches of 128": TensorLoader(
            images,
            torch.zeros(len(images), dtype=torch.int64),
            EpochSampler(torch.arange(len(images)), 128),
            view_space=CropFlip(),
            seed=0,
            mean=torch.tensor(MEAN),
            std=torch.tensor(STD),
        ),
        "torchvision v2, 0 workers": DataLoader(per_sample, 128, shuffle=True),
        "torchvision v2, 2 workers": DataLoader(per_sample, 128, shuffle=True, num_workers=2),
    }
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(options.repeats):
        for name, batches in rows.items():
            started = time.perf_counter()
            for _batch in batches:
                pass
            seconds[name].append(time.perf_counter() - started)
    print(describe(torch.device("cpu")))
    print(f"\n| crop, flip, normalise | images/s, median of {options.repeats} | from – to |")
    print("|---|--:|--:|")
    for name, times in seconds.items():
        speeds = [options.images / value for value in (statistics.median(times), *times)]
        print(f"| {name} | {speeds[0]:.0f} | {min(speeds):.0f} – {max(speeds):.0f} |")


if __name__ == "__main__":
    main()
