"""Accuracies equal those of scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn import metrics

from kd.deploy.evaluation.quality import quality
from kd.errors import UserError


def drawn(images=200, classes=7):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(images, classes, generator=generator)
    return logits, torch.randint(0, classes, (images,), generator=generator)


def test_every_figure_equals_scikit_learn():
    logits, targets = drawn()
    found, predicted, labels = quality(logits, targets), logits.argmax(1), np.arange(7)
    assert found.images == 200
    assert found.top1 == pytest.approx(metrics.accuracy_score(targets, predicted))
    top5 = metrics.top_k_accuracy_score(targets, logits.numpy(), k=5, labels=labels)
    assert found.top5 == pytest.approx(top5)
    recall = metrics.recall_score(targets, predicted, average=None)
    assert found.per_class == pytest.approx(list(recall), abs=1e-6)
    counts = metrics.confusion_matrix(targets, predicted, labels=labels)
    assert (found.confusion.numpy() == counts).all()


def test_a_class_without_images_has_no_accuracy():
    logits, targets = drawn()
    found = quality(logits, targets.clamp(max=5))
    assert found.per_class[6] is None
    assert None not in found.per_class[:6]
    assert found.confusion[6].sum() == 0
    assert found.confusion.sum() == 200


@pytest.mark.parametrize(("classes", "has_top5"), [(2, False), (5, False), (6, True)])
def test_top5_needs_more_than_five_classes(classes, has_top5):
    figures = quality(*drawn(classes=classes)).figures()
    assert (figures["acc_top5"] is not None) == has_top5
    assert 0 < figures["acc"] < 1


def test_perfect_and_wrong_predictors():
    targets = torch.arange(30) % 6
    right = torch.nn.functional.one_hot(targets, 6).float()
    assert quality(right, targets).figures()["acc_per_class"] == [1.0] * 6
    assert quality(right, targets).top5 == 1
    found = quality(-right, targets)
    assert (found.top1, found.top5) == (0, 0)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"logits": torch.full((2, 3), torch.nan)}, "2 of 2 images are not finite"),
        ({"logits": torch.tensor([[0.0, torch.inf], [0.0, 1.0]])}, "1 of 2 images"),
        ({"targets": torch.tensor([0, 3])}, r"predicts 3 classes, and the labels are 0\.\.3"),
        ({"targets": torch.tensor([-1, 0])}, r"the labels are -1\.\.0"),
        ({"targets": torch.tensor([0])}, "at least one image needed"),
        ({"logits": torch.zeros(0, 3), "targets": torch.zeros(0).long()}, "at least one image"),
        ({"logits": torch.zeros(2, 1)}, "predicts 1 classes"),
    ],
)
def test_what_has_no_figures_is_refused(changed, message):
    given = {"logits": torch.zeros(2, 3), "targets": torch.tensor([0, 1])} | changed
    with pytest.raises(UserError, match=message):
        quality(**given)
