"""A user's data sets, loaders and data modules as the data of a run."""

import pytest
import torch
from foreign import Hooked, Pictures, Plain, Stream, digits, images_of
from lightning import LightningDataModule
from support import present
from torch.utils.data import (
    DataLoader,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from kd.data.adapt import adapt
from kd.data.external import ExternalData
from kd.errors import UserError
from kd.types import Batch


def ready(data, **settings):
    adapted = adapt(data, **settings)
    adapted.prepare_data()
    adapted.setup()
    return adapted


def three(train, **settings):
    return ready((train, Pictures("val"), Pictures("test")), **settings)


def epoch_of(data, epoch: int) -> list[Batch]:
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return list(loader)


def index_of(batches: list[Batch]) -> list[int]:
    return torch.cat([batch.index for batch in batches]).tolist()


# What a run learns about the data


def test_facts_of_a_data_set():
    data = three(Pictures("train"), batch_size=100)
    assert data.input_shape == (1, 8, 8)
    assert data.image_size == 8
    assert data.class_names[3] == "digit 3"
    assert data.train_targets.tolist() == images_of("train")[1].tolist()
    assert data.test_targets.equal(images_of("test")[1])
    assert data.num_samples == {"train": 1293, "val": 145, "test": 359, "pool": 1293}
    assert data.batch_size == 100
    assert data.normalisation is None
    assert "random" in data.limits.cache
    assert not any((data.limits.index, data.limits.resume, data.limits.registry))


def test_the_loaders_batch_size_is_used_and_can_be_replaced():
    loader = DataLoader(Pictures("train"), 50, shuffle=True)
    assert three(loader).batch_size == 50
    data = three(loader, batch_size=70)
    assert len(epoch_of(data, 0)[0].input) == 70
    assert data.variant(batch_size=30, seed=9).batch_size == 30


def test_a_data_module_has_the_numbers_of_the_same_data_of_kd():
    given = present(digits().normalisation)
    data = ready(Plain(batch_size=64), mean=given[0], std=given[1], num_classes=10)
    ours, theirs = next(iter(data.test_dataloader())), next(iter(digits().test_dataloader()))
    assert ours.input.equal(theirs.input[:64])
    assert ours.target.equal(theirs.target[:64])
    assert data.module.stages == ["fit", "test"]
    assert data.normalisation == given


def test_uint8_without_normalisation_is_scaled_to_one():
    data = ready(Plain())
    assert data.normalisation == ([0.0], [1.0])  # recorded with the student
    batch = next(iter(data.test_dataloader()))
    torch.testing.assert_close(batch.input, images_of("test")[0][:128] / 255)


def test_uint8_images_beside_floats_need_a_normalisation():
    splits = (Pictures("train"), TensorDataset(*images_of("val")), Pictures("test"))
    with pytest.raises(UserError, match=r"the val loader .* uint8 .* expected floats, as in train"):
        list(ready(splits).val_dataloader())
    data = ready(splits, mean=[0.0], std=[0.5])
    batch = next(iter(data.val_dataloader()))
    torch.testing.assert_close(batch.input, images_of("val")[0] / 127.5)


def test_data_of_kd_are_returned_as_they_are():
    assert adapt(digits()) is digits()


def test_splits_by_name():
    splits = {"test": Pictures("test"), "train": Pictures("train"), "val": Pictures("val")}
    assert ready(splits).num_samples["test"] == 359


# Order, index and epoch


def test_the_order_is_a_function_of_seed_and_epoch():
    loader = DataLoader(Pictures("train", 100), 10, shuffle=True)
    first, again = three(loader, seed=1), three(loader, seed=1)
    assert index_of(epoch_of(first, 3)) == index_of(epoch_of(again, 3))
    assert index_of(epoch_of(first, 3)) != index_of(epoch_of(first, 4))
    assert index_of(epoch_of(first, 3)) != index_of(epoch_of(three(loader, seed=2), 3))
    assert sorted(index_of(epoch_of(first, 3))) == list(range(100))


def test_a_loader_that_does_not_shuffle_is_not_shuffled():
    assert index_of(epoch_of(three(DataLoader(Pictures("train", 40), 10)), 1)) == list(range(40))


def test_batches_have_index_view_and_epoch_of_their_samples():
    data = three(DataLoader(Pictures("train"), 10, shuffle=True))
    batch = epoch_of(data, 5)[3]
    assert batch.epoch == 5
    assert batch.view.tolist() == [0] * 10
    pictures = Pictures("train")
    for position, index in enumerate(batch.index.tolist()):
        image, target = pictures[index]
        assert batch.input[position].equal(image)
        assert batch.target[position] == target


def test_samplers_over_a_part_of_the_data_set():
    train = DataLoader(Pictures("train"), 10, sampler=SubsetRandomSampler([*range(100, 150)]))
    val = DataLoader(Pictures("train"), 10, sampler=SubsetRandomSampler([*range(20)]))
    data = ready((train, val, Pictures("test")))
    assert sorted(index_of(epoch_of(data, 0))) == list(range(100, 150))
    assert index_of(data.val_dataloader()) == list(range(20))
    assert data.num_samples == {"train": 50, "val": 20, "test": 359, "pool": 1293}
    assert not data.limits.resume


def test_subsets_know_labels_and_class_names():
    data = three(Subset(Pictures("train"), [5, 3, 8]))
    assert data.train_targets.tolist() == images_of("train")[1][[5, 3, 8]].tolist()
    assert data.class_names[0] == "digit 0"


def test_another_sampler_keeps_its_order_and_the_samples_are_known():
    sampler = WeightedRandomSampler((torch.arange(1293) % 2).tolist(), 60)
    data = three(DataLoader(Pictures("train"), 20, sampler=sampler))
    batches = epoch_of(data, 2)
    index = index_of(batches)
    assert len(index) == 60
    assert all(number % 2 for number in index)
    assert torch.cat([b.target for b in batches]).equal(images_of("train")[1][index])
    assert batches[0].epoch == 2
    assert not data.limits.index
    assert "WeightedRandomSampler" in data.limits.resume
    assert not hasattr(data.train_dataloader(), "state_dict")  # Lightning would save it


def test_samplers_receive_the_epoch():
    class Counting(torch.utils.data.Sampler):
        epoch = 0

        def set_epoch(self, epoch: int) -> None:
            self.epoch = epoch

        def __iter__(self):
            return iter(range(self.epoch, self.epoch + 4))

        def __len__(self) -> int:
            return 4

    data = three(DataLoader(Pictures("train"), 2, sampler=Counting()))
    assert index_of(epoch_of(data, 7)) == [7, 8, 9, 10]


def test_a_stream_has_no_index():
    data = ready((DataLoader(Stream("train"), 100), Pictures("val"), Pictures("test")),
                 num_classes=10)  # fmt: skip
    assert "IterableDataset" in data.limits.index
    assert "IterableDataset" in data.limits.registry
    assert data.train_targets is None
    assert data.batch_size == 100
    assert index_of(epoch_of(data, 0)) == list(range(1293))
    with pytest.raises(TypeError):
        len(data.train_dataloader())


def test_a_stream_needs_the_number_of_classes():
    data = ready((DataLoader(Stream("train"), 100), Pictures("val"), Pictures("test")))
    with pytest.raises(UserError, match="give num_classes, since an IterableDataset"):
        _ = data.num_classes


# Random transforms, workers, resuming


@pytest.mark.parametrize("workers", [0, 2])
def test_transforms_are_functions_of_seed_epoch_and_batch(workers):
    loader = DataLoader(Pictures("train", 60, noise=1), 20, shuffle=True, num_workers=workers)
    expected = epoch_of(three(Pictures("train", 60, noise=1), batch_size=20), 4)
    state = torch.get_rng_state()
    data = three(loader)
    batches = epoch_of(data, 4)
    assert torch.get_rng_state().equal(state)  # the training's generator is left alone
    for ours, theirs in zip(batches, expected, strict=True):
        assert ours.input.equal(theirs.input)
    other = epoch_of(data, 5)
    assert not batches[0].input.sort().values.equal(other[0].input.sort().values)
    assert not batches[0].input[0].equal(Pictures("train")[int(batches[0].index[0])][0])


def test_a_loader_resumes_within_an_epoch():
    data = three(DataLoader(Pictures("train", 90, noise=1), 20, shuffle=True, drop_last=True))
    loader = data.train_dataloader()
    loader.sampler.set_epoch(2)
    batches = iter(loader)
    next(batches), next(batches)
    state = loader.state_dict()
    rest = data.train_dataloader()
    rest.load_state_dict(state)
    for ours, theirs in zip(rest, batches, strict=True):
        assert ours.index.equal(theirs.index)
        assert ours.input.equal(theirs.input)
    assert len(list(rest)) == 4  # the next epoch is whole


def test_hooks_of_the_module_run_and_are_deterministic():
    module = Hooked()
    module.always = True
    data = ready(module, num_classes=10)
    first, again = epoch_of(data, 1)[0], epoch_of(data, 1)[0]
    assert first.input.equal(again.input)
    plain = images_of("train")[0][first.index] / 255
    assert (first.input - plain).abs().mean().item() == pytest.approx(0.05, rel=0.1)


# Identity


def test_the_fingerprint_tells_data_apart():
    same = [three(Pictures("train"), seed=seed, batch_size=8 + seed) for seed in (0, 1)]
    assert same[0].fingerprint == same[1].fingerprint
    others = [
        three(Pictures("train", 1000)),
        three(Pictures("train", noise=0.1)),
        three(Pictures("train"), class_names=[*"abcdefghij"]),
        three(Subset(Pictures("train"), [*range(1, 1293), 0])),
    ]
    assert len({data.fingerprint for data in [same[0], *others]}) == 5


def test_data_that_cannot_be_recognised_have_no_fingerprint():
    data = ready((Pictures("train"), Pictures("val"), DataLoader(Stream("test"), 100)))
    with pytest.raises(UserError, match=r"IterableDataset .* cannot be recognised"):
        _ = data.fingerprint


# Mistakes


@pytest.mark.parametrize("data", [None, "digits", Pictures, (1, 2), Pictures.__class__])
def test_other_types_are_refused_as_data(data):
    with pytest.raises(UserError, match=r"must be a LightningDataModule or \(train, val, test\)"):
        adapt(data)


@pytest.mark.parametrize("settings", [{"train": 1}, {"module": Plain(), "test": 1}, {}])
def test_either_all_splits_or_a_module_is_given(settings):
    with pytest.raises(ValueError, match=r"needed|all three"):
        ExternalData(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size must be"),
        ({"mean": [0.5]}, "both null"),
        ({"mean": [0.5, 0.5], "std": [1.0, 1.0]}, "2 values, the images 1 channels"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        three(Pictures("train"), **settings)


def test_a_module_without_test_data():
    class Half(Plain):
        test_dataloader = LightningDataModule.test_dataloader

    with pytest.raises(UserError, match=r"Half has no test_dataloader\(\)"):
        ready(Half())


def test_a_module_with_two_validation_sets():
    class Two(Plain):
        def val_dataloader(self):
            return [self._loader("val"), self._loader("test")]

    with pytest.raises(UserError, match="2 loaders, not one"):
        ready(Two())


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ([1, 2], r"expected a DataLoader or a Dataset, got \(int, int\)"),
        (torch.zeros(3), r"got float32 \[3\]"),
        (iter([1]), "read only once"),
        (7, "got int"),
    ],
)
def test_other_types_are_refused_as_a_split(train, message):
    with pytest.raises(UserError, match=message):
        three(train)


def test_one_data_set_for_training_and_test_is_said(caplog):
    whole = TensorDataset(torch.rand(60, 1, 8, 8), torch.arange(60) % 3)
    rows = [Subset(whole, range(*part)) for part in ((0, 40), (40, 50), (35, 60))]
    ready(tuple(rows))
    assert "5 of 25 test samples are train samples as well" in caplog.text
    assert "10 of 25 test samples are val samples as well" in caplog.text
    caplog.clear()
    ready((rows[0], rows[1], Subset(whole, range(50, 60))))
    assert not caplog.messages
