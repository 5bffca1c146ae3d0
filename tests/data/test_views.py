"""Views: a pure, uniform, independent draw, and pictures equal to a loop over torchvision."""

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from kd.data import views
from kd.data.counter_rng import mix, stream
from kd.data.views import CropFlip, Identity, Limited, Shift, ViewSpace

SPACES = [
    Identity(),
    Shift(),
    Shift(pixels=2),
    CropFlip(),
    CropFlip(padding=1),
    CropFlip(padding=0),
]
GOLDEN_FIRST, GOLDEN_LAST = [145, 33, 38, 1, 4], [55, 43, 11, 31, 107]
SHAPES = [(3, 32, 32), (1, 8, 8), (1, 28, 28), (2, 5, 7), (1, 1, 1)]


def reference(space: ViewSpace, image: Tensor, view: int) -> Tensor:
    """One image at a time, as the docstrings number the views."""
    if isinstance(space, Identity):
        return image
    if isinstance(space, CropFlip):
        margin, image = space.padding, TF.hflip(image) if view % 2 else image
        view //= 2
    else:
        assert isinstance(space, Shift)
        margin = space.pixels
    top, left = divmod(view, 2 * margin + 1)
    height, width = image.shape[1:]
    return TF.crop(TF.pad(image, [margin]), top, left, height, width)


def generic(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def excess(counts: Tensor) -> float:
    """Chi² against equal counts, in standard deviations from what chance gives."""
    expected, freedom = counts.double().mean(), counts.numel() - 1
    chi2 = float(((counts - expected) ** 2 / expected).sum())
    return (chi2 - freedom) / (2 * freedom) ** 0.5


def table(first: Tensor, second: Tensor, size: int) -> Tensor:
    return torch.bincount((first * size + second).flatten(), minlength=size * size)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("space", SPACES, ids=repr)
def test_apply_equals_one_image_at_a_time(space: ViewSpace, shape: tuple[int, ...]) -> None:
    view = torch.arange(space.size).flip(0).repeat(2)
    images = generic((len(view), *shape))
    before = images.clone()
    shown = space.apply(images, view)
    assert shown.dtype == torch.uint8
    assert shown.shape == images.shape
    expected = [reference(space, image, int(v)) for image, v in zip(images, view, strict=True)]
    assert torch.equal(shown, torch.stack(expected))
    assert torch.equal(images, before)


@pytest.mark.parametrize("space", SPACES, ids=repr)
def test_views_of_a_generic_image_are_all_different(space: ViewSpace) -> None:
    images = generic((1, 3, 32, 32)).expand(space.size, -1, -1, -1)
    shown = space.apply(images, torch.arange(space.size))
    assert len(shown.flatten(1).unique(dim=0)) == space.size


def test_sizes() -> None:
    assert [space.size for space in SPACES] == [1, 9, 25, 162, 18, 2]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_both_ways_of_cropping_agree(shape: tuple[int, ...]) -> None:
    images = generic((50, *shape))
    top, left = torch.arange(50) % 7, torch.arange(50) // 7 % 7
    padded = torch.nn.functional.pad(images, (3, 3, 3, 3))
    by_run, by_element = (
        cut(padded, top, left, images.shape) for cut in (views._crop_by_run, views._crop_by_element)
    )
    assert torch.equal(by_run, by_element)


def test_one_image_and_sliced_images() -> None:
    images = generic((6, 3, 8, 8))
    view = torch.tensor([5, 161, 0])
    shown = CropFlip().apply(images[::2], view)
    assert torch.equal(shown, CropFlip().apply(images[::2].clone(), view))
    assert torch.equal(shown[1:2], CropFlip().apply(images[2:3], view[1:2]))


def test_draw_is_a_pure_function_of_seed_epoch_and_index() -> None:
    space, index = CropFlip(), torch.arange(5000)
    torch.manual_seed(1)
    first = space.draw(7, 3, index)
    torch.manual_seed(2)
    assert torch.equal(first, space.draw(7, 3, index))
    shuffled = torch.randperm(5000)
    assert torch.equal(first[shuffled], space.draw(7, 3, index[shuffled]))
    assert int(first[1234]) == int(space.draw(7, 3, torch.tensor([1234])))
    assert first.dtype == torch.int64
    assert 0 <= int(first.min()) <= int(first.max()) < 162


def test_draws_equal_recorded_values() -> None:
    """A cache on disk holds views by number: other draws would only make it useless, but silently
    other training runs too."""
    index = torch.tensor([0, 1, 2, 59_999, 2**31])
    assert CropFlip().draw(0, 0, index).tolist() == GOLDEN_FIRST
    assert CropFlip().draw(2**40 + 5, 199, index).tolist() == GOLDEN_LAST


@pytest.mark.parametrize("size", [2, 9, 18, 25, 162])
def test_draws_are_uniform(size: int) -> None:
    space = Sized(size)
    within = torch.bincount(space.draw(0, 0, torch.arange(200_000)), minlength=size)
    over = torch.cat([space.draw(0, epoch, torch.arange(100)) for epoch in range(2000)])
    assert abs(excess(within)) < 4
    assert abs(excess(torch.bincount(over, minlength=size))) < 4


@pytest.mark.parametrize("size", [2, 9, 18])
def test_epochs_seeds_and_neighbours_are_independent(size: int) -> None:
    space, index = Sized(size), torch.arange(100_000)
    base = space.draw(3, 10, index)
    others = {
        "next epoch": space.draw(3, 11, index),
        "far epoch": space.draw(3, 10 + 2**16, index),
        "next seed": space.draw(4, 10, index),
        "seed and epoch swapped": space.draw(10, 3, index),
        "neighbour": space.draw(3, 10, index + 1),
        "far index": space.draw(3, 10, index + 2**16),
        "next epoch, neighbour": space.draw(3, 11, index - 1),
    }
    worst = {name: abs(excess(table(base, other, size))) for name, other in others.items()}
    assert max(worst.values()) < 4, worst


def test_every_view_of_an_image_is_drawn_eventually() -> None:
    drawn = torch.stack([CropFlip().draw(0, epoch, torch.arange(64)) for epoch in range(2000)])
    assert all(len(column.unique()) == 162 for column in drawn.T)


def test_no_two_epochs_show_the_same_views_permuted() -> None:
    rows = [Sized(1 << 20).draw(0, epoch, torch.arange(256)).sort().values for epoch in range(500)]
    assert len(torch.stack(rows).unique(dim=0)) == 500


def test_mix_is_a_bijection_and_the_same_for_ints_and_tensors() -> None:
    numbers = torch.cat([torch.arange(2**20), 2**32 - 1 - torch.arange(2**20)])
    mixed = mix(numbers)
    assert len(mixed.unique()) == len(numbers)
    assert 0 <= int(mixed.min()) <= int(mixed.max()) < 2**32
    picked = [0, 1, 77, 2**20 + 5]
    assert [mix(int(numbers[i])) for i in picked] == mixed[picked].tolist()
    # The same rounds in unbounded integers.
    x = 0xDEADBEEF
    y = ((x ^ x >> 16) * 0x7FEB352D) % 2**32
    z = ((y ^ y >> 15) * 0x846CA68B) % 2**32
    assert mix(x) == z ^ z >> 16


def test_stream_depends_on_every_bit_and_on_the_order_of_its_parts() -> None:
    parts = [(0,), (1,), (2**32,), (2**63 - 1,), (0, 0), (0, 1), (1, 0), (0, 0, 0), (2**32, 1)]
    assert len({stream(*part) for part in parts}) == len(parts)
    assert len({stream(seed, epoch) for seed in range(300) for epoch in range(300)}) > 89_990


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: CropFlip(padding=-1), "padding must be ≥ 0, got -1"),
        (lambda: Shift(pixels=-2), "pixels must be ≥ 0, got -2"),
        (lambda: Limited(Shift(), 0), r"views must be in 1 … 9 with Shift\(pixels=1\), got 0"),
        (lambda: Limited(Shift(), 10), "views must be in 1 … 9 .* got 10"),
    ],
)
def test_arguments_are_checked(build: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()  # type: ignore[operator]


def test_repr_names_all_settings() -> None:
    assert repr(CropFlip(padding=2)) == "CropFlip(padding=2)"
    assert CropFlip(2) == CropFlip(2) != CropFlip(3)


@pytest.mark.parametrize("count", [1, 2, 5, 162])
def test_limited_views_are_distinct_and_cycle(count: int) -> None:
    space, index = Limited(CropFlip(), count), torch.arange(500)
    shown = torch.stack([space.draw(3, epoch, index) for epoch in range(2 * count)])
    assert torch.equal(shown[:count], shown[count:])
    assert all(len(views.unique()) == count for views in shown[:count].T)
    assert space.seen(count - 1) == count - 1
    assert space.seen(1000) == count
    images = generic((500, 1, 8, 8))
    assert torch.equal(space.apply(images, shown[0]), CropFlip().apply(images, shown[0]))


def test_limited_views_are_uniform_and_of_the_seed() -> None:
    index = torch.arange(60_000)
    spaces = {count: Limited(Shift(), count) for count in (1, 4)}
    for space in spaces.values():
        for epoch in (0, 1):
            # Nine times 60 000 / 9 ± 5 standard deviations
            counts = torch.bincount(space.draw(1, epoch, index), minlength=9)
            assert abs(excess(counts)) < 5
    space = spaces[4]
    assert (space.draw(1, 0, index) != space.draw(2, 0, index)).float().mean() > 0.8
    first, second = (space.draw(1, epoch, index) for epoch in (0, 1))
    neighbours = table(first[:-1], first[1:], 9)
    assert abs(excess(neighbours)) < 5
    steps = torch.bincount((second - first) % 9, minlength=9)
    assert steps[[0, 3, 6]].tolist() == [0, 0, 0]
    assert abs(excess(steps[[1, 2, 4, 5, 7, 8]])) < 5


def test_expected_number_of_views_seen() -> None:
    index = torch.arange(20_000)
    for space, epochs in ((Shift(), 5), (CropFlip(), 60)):
        drawn = torch.stack([space.draw(0, epoch, index) for epoch in range(epochs)]).T
        mean = sum(len(views.unique()) for views in drawn[:2000]) / 2000
        assert mean == pytest.approx(space.seen(epochs), rel=0.02)


class Sized(Identity):
    """A view space of any size, to test drawing."""

    def __init__(self, size: int) -> None:
        object.__setattr__(self, "_size", size)

    @property
    def size(self) -> int:
        return self._size  # type: ignore[attr-defined]
