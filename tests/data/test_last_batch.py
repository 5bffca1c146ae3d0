"""The incomplete last batch of an epoch."""

import pytest
from small_data import Given, arrays, ready

from kd.data.last_batch import drops_last


@pytest.mark.parametrize(
    ("samples", "batch_size"), [(1293, 64), (54_000, 128), (45_000, 128), (9_000, 64), (640, 64)]
)
def test_reference_data_sets_train_in_whole_batches(samples, batch_size, caplog):
    assert drops_last(samples, batch_size, 1, "x")
    assert not caplog.messages


def test_a_large_last_batch_is_trained_on():
    data = ready(Given(arrays(counts=(70, 70, 70)), batch_size=128))
    batches = [len(batch.index) for batch in data.train_dataloader()]
    assert batches == [128, 61]


@pytest.mark.parametrize(("samples", "batch_size", "devices"), [(9, 8, 1), (10, 8, 2), (15, 8, 2)])
def test_a_last_batch_that_cannot_be_shared_is_left_out_and_said(
    samples, batch_size, devices, caplog
):
    assert drops_last(samples, batch_size, devices, "x")
    assert f"{samples - 8} of {samples} training images are left out" in caplog.text
