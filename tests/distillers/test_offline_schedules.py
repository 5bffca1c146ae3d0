"""Offline distillation with a soft term that ends early, and with function matching."""

from typing import ClassVar

import torch
from lightning import Callback
from support import configured

from kd.training.run import run

TINY = (
    *("student.net.width=0.5", "teacher.training.trainer.max_epochs=3", "data.batch_size=64"),
    *("trainer.limit_train_batches=2", "teacher.training.trainer.limit_train_batches=4"),
)


class Record(Callback):
    """Record the terms of each step and the inputs of both nets."""

    terms: ClassVar[list] = []
    inputs: ClassVar[dict] = {}

    # Not in __init__: the training of the teacher, if it is needed, has a Record of its own.
    def on_train_start(self, trainer, pl_module) -> None:
        self.terms.clear()
        self.inputs.update(student=[], teacher=[])
        nets = {"student": pl_module.student}
        if pl_module.teacher is not None:
            nets["teacher"] = pl_module.teacher.nets[0]
        for name, net in nets.items():
            seen = self.inputs[name]
            net.register_forward_pre_hook(lambda net, inputs, seen=seen: seen.append(inputs[0]))

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.terms.append(set(outputs["terms"]))


RECORD = "+callbacks.record={_target_: test_offline_schedules.Record}"


def test_after_the_soft_term_ends_the_teacher_does_not_run(output, tmp_path):
    """ESKD, Cho & Hariharan 2019: 5 epochs of 2 batches; the soft term ends after 60 %."""
    options = ("experiment=eskd", "method.schedules.alpha.end=0.6", "teacher.cache.mode=off")
    cfg = configured(tmp_path, output, *TINY, *options, "trainer.max_epochs=5", RECORD)
    result = run(cfg, tmp_path)
    assert Record.terms == [{"hard", "soft"}] * 6 + [{"hard"}] * 4
    assert len(Record.inputs["teacher"]) == 6
    assert result["teacher_forwards"] == 359 + 6 * 64  # the test set and six batches


def test_function_matching_has_equal_inputs_for_both_nets(output, tmp_path):
    """Beyer et al. 2022: the same view and mixture, bit by bit, and the KL term alone."""
    options = ("experiment=function_matching", "trainer.max_epochs=2", RECORD)
    cfg = configured(tmp_path, output, *TINY, *options)
    result = run(cfg, tmp_path)
    assert result["teacher/outputs"] == "live"
    assert Record.terms == [{"soft"}] * 4
    teacher, student = Record.inputs["teacher"], Record.inputs["student"][:4]
    assert len(teacher) == 4
    # Validation batches, between the epochs, have another size.
    trained = [images for images in Record.inputs["student"] if len(images) == 64]
    assert all(ours.equal(theirs) for ours, theirs in zip(teacher, trained, strict=True))
    # The digits have 17 shades of grey, mixtures of them more.
    assert len(torch.unique(student[0])) > 100
