"""Runs of which the trainer's limits evaluate a part."""

from typing import Any

import pytest
from support import configured

from kd.training.run import run


@pytest.mark.parametrize(
    ("limits", "limited", "images", "said"),
    [
        ((), [], (1293, 145, 359), ""),
        (
            ("trainer.limit_test_batches=1", "+data.eval_batch_size=50"),
            *(["test"], (1293, 145, 50)),
            "trainer.limit_test_batches=1: the student's test figures are those of the first 50 of "
            "359 images;",
        ),
        (
            ("trainer.limit_val_batches=0.5", "+data.eval_batch_size=50"),
            *(["val"], (1293, 50, 359)),
            "trainer.limit_val_batches=0.5: the epoch is chosen by the first 50 of 145 images;",
        ),
        (
            ("+trainer.fast_dev_run=true",),
            *(["train", "val", "test"], (128, 145, 359)),
            "trainer.fast_dev_run: its figures compare",
        ),
    ],
)
def test_a_limited_evaluation_is_marked(output, tmp_path, caplog, limits, limited, images, said):
    options = "method=ce", "trainer.max_epochs=1", "trainer.limit_train_batches=null"
    result: dict[str, Any] = {**run(configured(tmp_path, output, *options, *limits), tmp_path)}
    assert result["limited"] == limited
    assert tuple(result[f"{split}/images"] for split in ("train", "val", "test")) == images
    assert said in caplog.text
    assert ("figures compare with" in caplog.text) == bool(limited)
