"""Corruptions are those that their names say, and the same in every call."""

import numpy as np
import pytest
import torch
from scipy.fft import dctn, idctn
from scipy.ndimage import gaussian_filter

from kd.deploy.evaluation.robustness import (
    SEVERITIES,
    STRENGTHS,
    corrupt,
    is_defined,
    robustness,
)
from kd.errors import UserError


def images(count=20, channels=3, side=32, low=0, high=256):
    """Smooth random images, as photographs are: uint8 [count, channels, side, side]."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, channels, 4, 4, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=side, mode="bilinear")
    return (low + smooth * (high - 1 - low)).round().to(torch.uint8)


def rough(count, channels, side, low=0, high=256):
    """Images whose pixels are independent: uint8 [count, channels, side, side]."""
    generator = torch.Generator().manual_seed(0)
    shape = (count, channels, side, side)
    return torch.randint(low, high, shape, dtype=torch.uint8, generator=generator)


def bright(batch):
    """A net of two classes: whether the mean pixel is above 128."""
    mean = batch.float().mean((1, 2, 3))
    return torch.stack([128 - mean, mean - 128], 1)


def test_noise_has_the_stated_deviation():
    grey = torch.full((4, 3, 32, 32), 128, dtype=torch.uint8)
    for strength in STRENGTHS:
        noise = (corrupt(grey, "noise", strength).float() - 128) / 255
        expected = SEVERITIES["noise"][strength - 1]
        assert noise.std().item() == pytest.approx(expected, rel=0.03)
        assert noise.mean().item() == pytest.approx(0, abs=0.002)


def test_noise_is_clipped():
    for value in (0, 255):
        flat = torch.full((1, 1, 16, 16), value, dtype=torch.uint8)
        noisy = corrupt(flat, "noise", 3)
        assert (noisy == value).float().mean() > 0.4


@pytest.mark.parametrize(("side", "scale"), [(8, 1), (32, 1), (64, 2)])
@pytest.mark.parametrize("strength", STRENGTHS)
def test_blur_equals_scipy_and_grows_with_large_images(side, scale, strength):
    batch = rough(2, 1, side)
    sigma = (0.4, 0.7, 1.0)[strength - 1] * scale
    expected = gaussian_filter(batch.float().numpy(), (0, 0, sigma, sigma), mode="mirror")
    found = corrupt(batch, "blur", strength).numpy()
    assert np.abs(found - expected).max() < 1
    assert np.abs(found - batch.numpy().astype(float)).max() > 10


def test_small_images_are_blurred_within_their_border():
    assert corrupt(images(side=2), "blur", 3).shape == (20, 3, 2, 2)
    assert corrupt(images(side=1), "blur", 3).equal(images(side=1))


def test_contrast_keeps_the_mean_and_reduces_distances():
    batch = images(channels=1)
    for strength, factor in zip(STRENGTHS, (0.75, 0.4, 0.15), strict=True):
        mean = batch.double().mean((1, 2, 3), keepdim=True)
        expected = mean + factor * (batch.double() - mean)
        found = corrupt(batch, "contrast", strength).double()
        assert (found - expected).abs().max() <= 1


# Quantisation of the luminance at quality 50: table K.1 of ITU-T T.81, the JPEG standard.
# fmt: off
LUMINANCE = np.array([
    [16, 11, 10, 16, 24, 40, 51, 61], [12, 12, 14, 19, 26, 58, 60, 55],
    [14, 13, 16, 24, 40, 57, 69, 56], [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77], [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101], [72, 92, 95, 98, 112, 100, 103, 99],
])
# fmt: on


@pytest.mark.parametrize(("strength", "quality"), [(1, 80), (2, 58), (3, 40)])
def test_jpeg_quantises_blocks_by_the_standards_table(strength, quality):
    batch = rough(6, 1, 8)
    scale = 5000 / quality if quality < 50 else 200 - 2 * quality
    table = np.floor((LUMINANCE * int(scale) + 50) / 100).clip(1, 255)
    blocks = batch.double().numpy() - 128
    coefficients = dctn(blocks, axes=(2, 3), norm="ortho")
    expected = idctn(np.round(coefficients / table) * table, axes=(2, 3), norm="ortho") + 128
    found = corrupt(batch, "jpeg", strength).numpy()
    # The codec's integer transform rounds a coefficient of some blocks to the neighbouring step.
    assert np.median(np.abs(found - expected.clip(0, 255))) < 0.6
    assert np.abs(found - batch.numpy().astype(float)).max() > 5


def test_jpeg_keeps_the_colours_in_their_channels():
    batch = images() // 4
    batch[:, 0] += 190
    found = corrupt(batch, "jpeg", 1)
    assert found.shape == batch.shape
    assert (found.float() - batch.float()).abs().mean() < 4


@pytest.mark.parametrize("kind", SEVERITIES)
def test_stronger_corruptions_change_images_more(kind):
    batch = rough(10, 3, 32, 50, 200)
    changes = [
        (corrupt(batch, kind, strength).float() - batch.float()).abs().mean().item()
        for strength in STRENGTHS
    ]
    assert 0 < changes[0] < changes[1] < changes[2]


def test_two_calls_are_equal_and_leave_the_generator_alone():
    batch, targets = images(600, side=8, low=100, high=160), torch.arange(600) % 2
    torch.manual_seed(3)
    before = torch.get_rng_state()
    seen: list[torch.Tensor] = []

    def recorded(part):
        seen.append(part)
        return bright(part)

    first, second = (robustness({"net": recorded}, batch, targets) for _ in range(2))
    assert first["net"].figures() == second["net"].figures()
    half = len(seen) // 2
    assert all(a.equal(b) for a, b in zip(seen[:half], seen[half:], strict=True))
    assert torch.get_rng_state().equal(before)
    noise = corrupt(batch[:4], "noise", 1, seed=0), corrupt(batch[:4], "noise", 1, seed=1)
    assert not noise[0].equal(noise[1])


def test_the_size_of_the_nets_batches_changes_nothing():
    batch, targets = images(40, side=8, low=100, high=160), torch.arange(40) % 2
    sizes: list[int] = []

    def net(part):
        sizes.append(len(part))
        return bright(part)

    small = robustness({"net": net}, batch, targets, batch_size=16)
    assert set(sizes) == {16, 8}
    assert small == robustness({"net": bright}, batch, targets)


def test_images_of_a_set_have_noise_of_their_own():
    grey, parts = torch.full((600, 1, 8, 8), 128, dtype=torch.uint8), []

    def net(part):
        parts.append(part)
        return bright(part)

    robustness({"net": net}, grey, torch.zeros(600).long())
    noisy = torch.cat(parts)[:600]
    assert len(noisy.flatten(1).unique(dim=0)) == 600


def test_accuracies_are_those_of_the_corrupted_images():
    batch, targets = images(50, low=90, high=170), torch.arange(50) % 2
    right = (bright(corrupt(batch, "contrast", 2)).argmax(1) == targets).double().mean()
    found = robustness({"net": bright, "wrong": lambda x: -bright(x)}, batch, targets)
    figures = found["net"].figures()
    assert figures["acc/contrast/2"] == pytest.approx(right.item())
    assert found["wrong"].accuracy["contrast", 2] == pytest.approx(1 - right.item())
    each = [value for key, value in figures.items() if key != "acc/corrupted"]
    assert len(each) == 12
    assert figures["acc/corrupted"] == pytest.approx(np.mean(each))


def test_images_of_two_channels_have_noise_and_blur_only():
    figures = robustness({"net": bright}, images(channels=2), torch.zeros(20).long())["net"]
    assert [kind for kind in SEVERITIES if is_defined(kind, 2)] == ["noise", "blur"]
    assert figures.accuracy["jpeg", 1] is None
    assert figures.accuracy["contrast", 3] is None
    assert figures.mean == pytest.approx(
        np.mean([figures.accuracy[kind, k] for kind in ("noise", "blur") for k in STRENGTHS])
    )


def test_what_cannot_be_corrupted_is_refused():
    with pytest.raises(UserError, match="uint8 images"):
        robustness({"net": bright}, images().float(), torch.zeros(20).long())
    with pytest.raises(UserError, match="valid: noise, blur, contrast, jpeg, 1 to 3"):
        corrupt(images(), "noise", 4)
    with pytest.raises(UserError, match="not finite"):
        robustness({"net": lambda x: bright(x) * torch.nan}, images(), torch.zeros(20).long())
