"""Augmentations of whole batches."""

import pytest
import torch
from small_loader import epoch_of, make_loader

from kd.data.augment import CutMix, MixUp, RandAugment


@pytest.mark.parametrize("augmentation", [MixUp(0.5), CutMix(), RandAugment(group=3)], ids=repr)
def test_augmentations_are_functions_of_seed_epoch_and_batch(augmentation):
    augmentation.num_classes = 4
    loader, again = make_loader(augmentation=augmentation), make_loader(augmentation=augmentation)
    state = torch.get_rng_state()
    first = epoch_of(loader, 2)
    torch.rand(7)
    second = epoch_of(again, 2)
    assert all(torch.equal(a, b) for a, b in zip(first[:4], second[:4], strict=True))
    assert not torch.equal(first.input, epoch_of(loader, 3).input[first.index.argsort()])
    torch.set_rng_state(state)
    plain = epoch_of(make_loader(), 2)
    assert torch.equal(plain.index, first.index)
    assert not torch.equal(plain.input, first.input)
    if augmentation.mixes:
        assert first.target.shape == (96, 4)
        torch.testing.assert_close(first.target.sum(1), torch.ones(96))
    else:
        assert torch.equal(first.target, plain.target)


def test_mixup_is_the_blend_of_two_images():
    """Zhang et al. 2018: x = λ·a + (1 − λ)·b, y likewise; torchvision's b is the neighbour."""
    mixup = MixUp()
    mixup.num_classes = 4
    mixed, plain = (
        epoch_of(make_loader(augmentation=mixup, batch_size=100), 0),
        epoch_of(make_loader(batch_size=100), 0),
    )
    other = plain.input.roll(1, 0)
    apart = (plain.target != plain.target.roll(1, 0)).nonzero().squeeze(1)
    share = mixed.target[apart[0], plain.target[apart[0]]]
    assert 0 < share < 1
    torch.testing.assert_close(
        mixed.input, share * plain.input + (1 - share) * other, atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: MixUp(0.0), "alpha must be > 0, got 0.0"),
        (lambda: CutMix(-1), "alpha must be > 0, got -1"),
        (lambda: RandAugment(magnitude=31), r"magnitude must be in 0 … 30, got 31"),
        (lambda: RandAugment(group=0), "group must be in 1"),
    ],
)
def test_augmentations_check_their_arguments(build, message):
    with pytest.raises(ValueError, match=message):
        build()
