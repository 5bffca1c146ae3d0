"""Small data sets in memory."""

import torch

from kd.data.arrays import Arrays
from kd.data.datamodule import ImageDataModule


class Given(ImageDataModule):
    """Whatever arrays a test gives; counts how often they are loaded."""

    def __init__(self, arrays: Arrays, **settings) -> None:
        super().__init__(**{"name": "given", "batch_size": 8, **settings})
        self.given, self.loads = arrays, 0

    def load(self) -> Arrays:
        self.loads += 1
        return self.given


def arrays(counts=(40, 25, 15), test=10, channels=1, side=4, **changes) -> Arrays:
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    shape = (len(targets) + test, channels, side, side)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    names = [f"class{i}" for i in range(len(counts))]
    test_targets = torch.arange(test) % len(counts)
    whole = Arrays(images[test:], targets, images[:test], test_targets, names)
    return whole._replace(**changes)


def ready(data):
    data.prepare_data()
    data.setup()
    return data
