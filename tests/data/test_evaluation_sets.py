"""Warnings about validation and test sets."""

import torch
from small_data import Given, arrays, ready


def test_test_images_that_are_trained_on_are_counted(caplog):
    given = arrays()
    test = torch.cat([given.test_inputs[:7], given.train_inputs[[3, 50, 79]]])
    ready(Given(given._replace(test_inputs=test)))
    # Labels: class 0, 1, 2 are trained on at rows 3, 50, 79; tested as 1, 2, 0.
    assert "3 of 10 test images are train images as well, pixel for pixel, 3 of them" in caplog.text
    assert "(train[3] = test[7], train[50] = test[8], …)" in caplog.text


def test_images_that_differ_in_one_pixel_are_not_equal(caplog):
    given = arrays(side=64)
    test = given.train_inputs[:10].clone()
    test[:, 0, 63, 62] ^= 1
    ready(Given(given._replace(test_inputs=test)))
    assert not caplog.messages


def test_a_validation_set_is_compared_as_well(caplog):
    given = arrays()
    val = given._replace(val_inputs=given.test_inputs[:6], val_targets=given.test_targets[:6])
    ready(Given(val))
    assert "6 of 10 test images are val images as well" in caplog.text
    assert "another label" not in caplog.text


def test_classes_without_test_images_are_named(caplog):
    given = arrays()
    ready(Given(given._replace(test_targets=torch.zeros(10, dtype=torch.int64))))
    assert "2 of 3 classes have no test image (class1, class2)" in caplog.text
