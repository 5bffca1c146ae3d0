"""scikit-learn's handwritten digits: 1 797 grey images of 8x8 in ten classes, no network needed."""

import torch

from kd.data.arrays import Arrays
from kd.data.datamodule import ImageDataModule
from kd.data.splits import stratified_split

TEST_FRACTION, TEST_SEED = 0.2, 1797


class Digits(ImageDataModule):
    """UCI "Optical Recognition of Handwritten Digits" (Alpaydin & Kaynak 1998), its test half.

    scikit-learn has no official test set: a stratified fifth, drawn with a seed of its own and so
    the same in every run and for every `seed`, is kept as one. Numbers from it compare only with
    numbers from the same split.
    """

    def load(self) -> Arrays:
        from sklearn.datasets import load_digits

        digits = load_digits()
        # Grey values are 0..16.
        images = (torch.from_numpy(digits.images) * (255 / 16)).round().to(torch.uint8)[:, None]
        targets = torch.from_numpy(digits.target).long()
        train, test = stratified_split(targets, TEST_FRACTION, TEST_SEED)
        names = [str(name) for name in digits.target_names]
        return Arrays(images[train], targets[train], images[test], targets[test], names)
