"""Data sets, loaders and data modules as users write them, over scikit-learn's digits."""

import functools

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from kd.data.digits import Digits


@functools.cache
def digits() -> Digits:
    data = Digits(name="digits", batch_size=64, mean=[0.3053], std=[0.3760])
    data.prepare_data()
    data.setup()
    return data


def images_of(split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Images uint8 [N, 1, 8, 8] and labels [N] of `train`, `val` or `test`."""
    arrays, parts = digits().arrays, digits().split
    if split == "test":
        return arrays.test_inputs, arrays.test_targets
    rows = parts.train if split == "train" else parts.val
    return arrays.train_inputs[rows], arrays.train_targets[rows]


class Pictures(Dataset):
    """Images with the labels listed beside them, as torchvision's data sets have it."""

    def __init__(self, split: str, count: int | None = None, noise: float = 0.0) -> None:
        images, targets = images_of(split)
        self.images, self.targets = images[:count], targets[:count].tolist()
        self.classes = [f"digit {number}" for number in range(10)]
        self.noise = noise

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int):
        image = self.images[index].float() / 255
        return image + self.noise * torch.rand(image.shape), self.targets[index]


class Stream(IterableDataset):
    """Images in the order of their own; nothing else is known of them."""

    def __init__(self, split: str) -> None:
        self.pictures = Pictures(split)

    def __iter__(self):
        return (self.pictures[index] for index in range(len(self.pictures)))


class Plain(LightningDataModule):
    """uint8 images; normalisation is left to whoever trains."""

    def __init__(self, batch_size: int = 128, workers: int = 0) -> None:
        super().__init__()
        self.batch_size, self.workers = batch_size, workers
        self.stages: list[str] = []

    def setup(self, stage: str) -> None:
        self.stages.append(stage)

    def _loader(self, split: str, shuffle: bool = False):
        dataset = TensorDataset(*images_of(split))
        return DataLoader(dataset, self.batch_size, shuffle=shuffle, num_workers=self.workers)

    def train_dataloader(self):
        return self._loader("train", shuffle=True)

    def val_dataloader(self):
        return self._loader("val")

    def test_dataloader(self):
        return self._loader("test")


class Hooked(Plain):
    """Adds noise to batches once they are on the device, by default to those of a trainer's fit."""

    always = False

    def on_after_batch_transfer(self, batch, dataloader_idx):
        images, targets = batch
        images = images.float() / 255
        noise = 0.1 * (self.always or (self.trainer is not None and self.trainer.training))
        return images + noise * torch.rand(images.shape), targets
