"""Logits and embeddings of a run's nets, over images in memory and over a user's loaders."""

from typing import cast

import pytest
import torch
from finished_runs import finished_run
from foreign import Pictures, digits
from small_data import Given, arrays, ready
from support import present

from kd.data.adapt import adapt
from kd.data.datamodule import ImageDataModule
from kd.deploy.evaluation.calibration import nll
from kd.deploy.evaluation.fidelity import fidelity
from kd.deploy.evaluation.predictions import (
    Predictions,
    predict,
    raw_test_images,
    teacher_predictions,
)
from kd.deploy.evaluation.quality import quality
from kd.deploy.finished_run import FinishedRun
from kd.deploy.live_teacher import LiveTeacher
from kd.distillers.deployed import ChangedStudent
from kd.errors import UserError
from kd.taps import Taps

MEAN, STD = 0.3053, 0.3760


@pytest.fixture(scope="module")
def run(output):
    """A student that was trained at temperature 20."""
    return FinishedRun(finished_run("kd", output, "method.temperature=20"))


def external(**settings):
    """The digits as a user's data sets of floats in 0..1."""
    data = adapt((Pictures("train"), Pictures("val"), Pictures("test")), num_classes=10, **settings)
    data.prepare_data()
    data.setup()
    return data


def test_figures_are_those_that_the_run_has_recorded(run):
    found = predict(run.student, run.data)
    assert quality(found.logits, found.targets).top1 == run.result["test/acc"]
    assert nll(found.logits, found.targets) == pytest.approx(run.result["test/nll"], rel=1e-5)
    teacher = teacher_predictions(run.teacher, run.data, run.data)
    assert quality(teacher.logits, teacher.targets).top1 == run.result["teacher/test/acc"]
    agreement = fidelity(found, teacher).agreement
    assert agreement == pytest.approx(run.result["test/agreement"], abs=1e-6)


@torch.no_grad()
def test_logits_are_of_temperature_one_and_the_embedding_leads_to_them(run):
    found = predict(run.student, run.data)
    expected = run.student(cast(ImageDataModule, run.data).arrays.test_inputs)
    assert torch.allclose(found.logits, expected, atol=1e-5)
    assert found.logits.dtype == torch.float32
    head = run.student.net.fc
    assert torch.allclose(head(present(found.embeddings)), found.logits, atol=1e-5)
    assert not any(module._forward_pre_hooks for module in run.student.modules())


def test_validation_images_are_those_that_selected_the_epoch(run):
    found = predict(run.student, run.data, "val")
    assert len(found.targets) == run.data.num_samples["val"]
    assert quality(found.logits, found.targets).top1 == pytest.approx(run.result["val/acc"])


def test_the_live_teacher_has_the_cached_teachers_outputs(run):
    found = predict(LiveTeacher(run.teacher.teacher, run.data.normalisation), run.data)
    known = teacher_predictions(run.teacher, run.data, run.data)
    assert known.logits is run.teacher.test_logits
    assert torch.allclose(found.logits, known.logits, atol=1e-5)
    assert present(known.embeddings).equal(present(found.embeddings))


@pytest.mark.parametrize("mean_and_std", [(MEAN, STD), (0.5, 0.25)])
def test_a_users_loader_gives_the_same_logits(mean_and_std, run):
    mean, std = mean_and_std

    class Normalised(Pictures):
        def __getitem__(self, index):
            image, label = super().__getitem__(index)
            return (image - mean) / std, label

    splits = [Normalised(split) for split in ("train", "val", "test")]
    data = adapt(tuple(splits), num_classes=10, mean=[mean], std=[std])
    data.setup()
    expected = predict(run.student, run.data)
    found = predict(run.student, data)
    assert found.targets.equal(expected.targets)
    assert torch.allclose(found.logits, expected.logits, atol=1e-4)
    live = teacher_predictions(run.teacher, run.data, data)
    assert torch.allclose(live.logits, run.teacher.test_logits, atol=1e-4)


@torch.no_grad()
def test_the_embedding_of_simkd_is_the_students_own(output):
    run = FinishedRun(finished_run("simkd", output))
    found = predict(run.student, run.data)
    assert quality(found.logits, found.targets).top1 == run.result["test/acc"]
    changed = cast(ChangedStudent, run.student.net)
    taps = Taps(changed.changed_student, {"embedding": "fc:in"}, ["embedding"])
    images = run.student.preprocess(raw_test_images(run.data))
    expected = taps.outputs(images).taps["embedding"]
    assert torch.allclose(present(found.embeddings), expected, atol=1e-5)
    assert set(run.student.taps) >= {"stage1", "embedding"}
    every = Taps(run.student, run.student.taps, ["stage1", "embedding"]).outputs(images)
    assert every.taps["embedding"].equal(expected)
    assert every.taps["stage1"].shape == (359, 8, 8, 8)


def test_data_of_other_classes_or_shapes_are_refused(run):
    few = ready(Given(arrays(), mean=[0.5], std=[0.5]))
    for net in (run.student, LiveTeacher(run.teacher.teacher, run.data.normalisation)):
        with pytest.raises(UserError, match="has 3 classes, and the net predicts 10"):
            predict(net, few)
    coloured = ready(Given(arrays(counts=(9,) * 10, test=20, channels=3, side=8)))
    with pytest.raises(UserError, match="does not take images of data 'given', 3 x 8 x 8"):
        predict(run.student, coloured)


def test_a_net_that_has_diverged_is_refused(run):
    broken = FinishedRun(run.folder).student
    weights = broken.state_dict()
    broken.load_state_dict(weights | {"fc.bias": weights["fc.bias"] * torch.nan})
    with pytest.raises(UserError, match="359 of 359 images are not finite"):
        predict(broken, run.data)
    with pytest.raises(UserError, match="not finite"):
        Predictions(torch.tensor([[0.0, torch.nan]]), torch.tensor([0]))


def test_raw_images_exist_only_in_memory():
    assert raw_test_images(digits()).dtype == torch.uint8
    with pytest.raises(UserError, match="no raw test images: the images are not in memory"):
        raw_test_images(external())
