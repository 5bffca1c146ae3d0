"""scikit-learn's digits."""

import torch
from small_data import ready

from kd.data.digits import Digits


def test_no_test_image_is_in_training_or_validation():
    data = ready(Digits(name="digits", batch_size=64))
    pool = {image.numpy().tobytes() for image in data.arrays.train_inputs}
    test = {image.numpy().tobytes() for image in data.arrays.test_inputs}
    assert not pool & test
    seen = torch.cat([batch.index for batch in data.val_dataloader()])
    train = data.train_dataloader()
    for epoch in range(3):
        train.sampler.set_epoch(epoch)
        assert not set(seen.tolist()) & {i for batch in train for i in batch.index.tolist()}


def test_the_test_set_is_a_fixed_fifth():
    data, other = (ready(Digits(name="digits", batch_size=64, seed=seed)) for seed in (0, 5))
    assert data.num_samples == {"train": 1293, "val": 145, "test": 359, "pool": 1438}
    assert torch.equal(data.arrays.test_inputs, other.arrays.test_inputs)
    assert (data.in_channels, data.image_size, data.num_classes) == (1, 8, 10)
    assert data.class_names == [str(i) for i in range(10)]
    assert int(data.arrays.train_inputs.max()) == 255
    assert torch.bincount(data.arrays.test_targets).tolist() == [
        36, 36, 35, 37, 36, 36, 36, 36, 35, 36
    ]  # fmt: skip
