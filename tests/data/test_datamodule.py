"""ImageDataModule: splits, facts, variants, fingerprints, refused data."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from small_data import Given, arrays, ready
from support import present

from kd.data.views import CropFlip, Identity
from kd.errors import UserError


def test_the_split_is_a_function_of_the_split_seed_only():
    splits = []
    changes: list[dict[str, Any]] = [{}, {"batch_size": 3}, {"view": CropFlip()}, {"seed": 5}]
    for model_seed, settings in enumerate(changes):
        torch.manual_seed(model_seed)
        splits.append(ready(Given(arrays(), **settings)).split)
    assert all(torch.equal(splits[0].val, split.val) for split in splits)
    other = ready(Given(arrays(), split_seed=1)).split
    assert not torch.equal(splits[0].val, other.val)
    assert not set(splits[0].train.tolist()) & set(splits[0].val.tolist())


def test_a_given_validation_set_replaces_the_split():
    given = arrays()
    own = given._replace(val_inputs=given.test_inputs[:6], val_targets=given.test_targets[:6])
    data = ready(Given(own, val_fraction=0.5))
    assert data.num_samples == {"train": 80, "val": 6, "test": 10, "pool": 80}
    (batch,) = data.val_dataloader()
    assert torch.equal(batch.target, present(own.val_targets))
    assert ready(Given(own, val_fraction=0.0)).num_samples["train"] == 80


def test_facts_after_setup():
    data = ready(Given(arrays(channels=3, side=6)))
    known = (data.in_channels, data.image_size, data.num_classes, data.class_names, data.name)
    assert known == (3, 6, 3, ["class0", "class1", "class2"], "given")
    data.setup("fit")
    data.setup("test")
    data.prepare_data()
    assert data.loads == 1


def test_use_before_setup_is_an_error():
    with pytest.raises(RuntimeError, match=r"call prepare_data\(\) and setup\(\) first"):
        Given(arrays()).num_classes  # noqa: B018
    with pytest.raises(RuntimeError, match=r"call prepare_data\(\) and setup\(\) first"):
        Given(arrays()).train_dataloader()


def test_every_train_dataloader_starts_at_epoch_0():
    data = ready(Given(arrays(), view=CropFlip(padding=1)))
    first = data.train_dataloader()
    first.sampler.set_epoch(3)
    expected = [batch.index.tolist() for batch in data.train_dataloader()]
    next(iter(first))
    assert [batch.index.tolist() for batch in data.train_dataloader()] == expected
    assert data.train_dataloader().state_dict()["batch"] == 0


def test_evaluation_images_are_not_augmented():
    data = ready(Given(arrays(), view=CropFlip(padding=1), mean=[0.5], std=[0.25]))
    (batch,) = data.test_dataloader()
    expected = (data.arrays.test_inputs.double() / 255 - 0.5) / 0.25
    torch.testing.assert_close(batch.input.double(), expected, rtol=0, atol=1e-6)
    assert batch.index.tolist() == list(range(10))
    assert data.val_dataloader().view_space == Identity()
    assert data.train_dataloader().view_space == CropFlip(padding=1)


def test_a_variant_shares_tensors_and_has_no_trainer():
    data = Given(arrays())
    trainer: Any = SimpleNamespace()  # no attribute of it is read
    data.trainer = trainer
    early = data.variant(batch_size=5)
    assert early.trainer is None
    data.trainer = None
    ready(data)
    late, reseeded = data.variant(batch_size=4), data.variant(seed=9)
    early.setup()
    assert data.loads + early.loads == 1
    for other in (early, late, reseeded):
        assert other.arrays is data.arrays
    assert [d.train_dataloader().batch_size for d in (data, early, late)] == [8, 5, 4]
    assert late.fingerprint == data.fingerprint
    assert torch.equal(late.split.val, data.split.val)
    assert torch.equal(reseeded.split.val, data.split.val)
    assert reseeded.fingerprint == data.fingerprint
    orders = [list(d.train_dataloader().sampler.order()) for d in (late, reseeded)]
    assert orders[0] != orders[1]


def test_ranks_share_the_batch_of_a_trainer():
    data, batches = ready(Given(arrays(), batch_size=10)), []
    whole = [batch.index for batch in data.train_dataloader()]
    for rank in range(2):
        data.trainer = SimpleNamespace(
            world_size=2, global_rank=rank, overfit_batches=0, strategy=None
        )
        batches.append([batch.index for batch in data.train_dataloader()])
    assert all(
        torch.equal(torch.stack([a, b], 1).flatten(), c)
        for a, b, c in zip(*batches, whole, strict=True)
    )
    data.trainer.world_size = 4
    with pytest.raises(UserError, match=r"batch_size=10 does not divide among 4 devices"):
        data.train_dataloader()
    assert len(next(iter(data.val_dataloader())).index) == 9


def test_fingerprints_change_with_everything_that_matters():
    base = arrays()
    image = base.train_inputs.clone()
    image[7, 0, 1, 1] ^= 1
    targets = base.train_targets.clone()
    targets[0], targets[-1] = 2, 0
    given = {"mean": [0.5], "std": [0.25]}
    modules = {
        "base": Given(base, **given),
        "image": Given(base._replace(train_inputs=image), **given),
        "targets": Given(base._replace(train_targets=targets), **given),
        "test": Given(base._replace(test_inputs=base.test_inputs.flip(0)), **given),
        "names": Given(base._replace(class_names=["a", "b", "c"]), **given),
        "split": Given(base, split_seed=1, **given),
        "share": Given(base, val_fraction=0.2, **given),
        "mean": Given(base, mean=[0.4], std=[0.25]),
        "own": Given(base),
    }
    found = {name: ready(data).fingerprint for name, data in modules.items()}
    assert len(set(found.values())) == len(modules)
    assert found["base"] == ready(Given(base, batch_size=3, view=CropFlip(), **given)).fingerprint
    pools = {name: data.inputs_fingerprint("train") for name, data in modules.items()}
    same = {name for name, value in pools.items() if value == pools["base"]}
    assert same == {"base", "targets", "test", "names", "split", "share"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"val_fraction": 1.0}, r"val_fraction must be in \(0, 1\), got 1.0"),
        ({"val_fraction": -0.1}, r"val_fraction must be in \(0, 1\), got -0.1"),
        ({"val_fraction": float("nan")}, r"val_fraction must be in \(0, 1\), got nan"),
        ({"batch_size": 0}, "batch_size must be ≥ 1, got 0"),
        ({"eval_batch_size": -3}, "eval_batch_size must be ≥ 1, got -3"),
        ({"seed": -1}, "seed must be ≥ 0"),
        ({"split_seed": -1}, "split_seed must be ≥ 0"),
        ({"view": "shift"}, "view must be a ViewSpace, got 'shift'"),
        ({"mean": [0.5]}, "mean and std must be of equal length, or both null"),
        ({"mean": [0.5], "std": [0.5, 0.5]}, "mean and std must be of equal length"),
        ({"mean": [0.5], "std": [0.0]}, r"std must be > 0, got \[0.0\]"),
        (
            {"mean": [125, 122.0, 114], "std": [63, 62, 67]},
            r"must be on the 0..1 scale.*mean=\[0.4902, 0.4784, 0.4471\], std=\[0.2471, 0.2431",
        ),
        ({"mean": [0.5], "std": [64.0]}, r"must be on the 0..1 scale.*divide by 255"),
        ({"mean": [-0.1], "std": [0.5]}, r"must be on the 0..1 scale, got \[-0.1\]"),
        ({"mean": [float("nan")], "std": [0.5]}, "must be on the 0..1 scale"),
        ({"mean": [0.5], "std": [float("inf")]}, "must be on the 0..1 scale"),
        ({"mean": ["a"], "std": [0.5]}, "mean and std must be numbers"),
    ],
)
def test_arguments_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        Given(arrays(), **settings)


@pytest.mark.parametrize(
    ("given", "settings", "message"),
    [
        (arrays(), {"val_fraction": 0.0}, r"data 'given': data.val_fraction must be in \(0, 1\)"),
        (arrays(), {"val_fraction": 0.001}, "holds out none of 80 training samples"),
        (arrays(), {"mean": [0.5] * 3, "std": [1.0] * 3}, "3 values, the images 1 channels"),
        (
            arrays(train_inputs=torch.zeros(80, 1, 4, 5, dtype=torch.uint8)),
            {},
            "data 'given': images must be square, got 4 x 5",
        ),
        (arrays(counts=(80,)), {}, "at least two classes"),
        (arrays(counts=(40, 0, 40)), {}, "no training sample of class class1"),
        (arrays(test=0), {}, "no test sample"),
        *(
            (arrays(**{f"{split}_targets": torch.full((80,), label)}), {}, message)
            for split, label, message in (
                ("train", 4, r"80 training labels are not in 0\.\.\d+, such as 4"),
                ("test", 20, r"80 test labels are not in 0\.\.\d+, such as 20"),
                ("val", -1, r"80 validation labels are not in 0\.\.\d+, such as -1"),
            )
        ),
    ],
)
def test_data_that_cannot_be_trained_on_is_refused(given, settings, message):
    with pytest.raises(UserError, match=message):
        Given(given, **settings).setup()
