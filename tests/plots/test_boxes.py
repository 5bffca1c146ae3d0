"""Figure of boxes."""

import numpy as np

from kd.plots.boxes import Boxes, boxes_figure
from kd.plots.figure import render


def test_boxes_are_drawn_where_they_are():
    images = np.zeros((2, 1, 32, 32), np.uint8)
    none = Boxes(np.zeros((0, 4)), [], [])
    one = Boxes(np.array([[4.0, 8, 20, 30]]), [1], [0.5])
    columns = {"labels": [one._replace(scores=None), none], "student": [one, none]}
    spec = boxes_figure(images, columns, ["a", "b"])
    pixels = render(spec.draw).astype(int)
    red, green, blue = (pixels[..., n] for n in range(3))
    drawn = {"green": (green > red + 60) & (green > blue), "red": (red > green + 60) & (red > blue)}
    middle = pixels.shape[1] // 2
    assert drawn["green"][:, :middle].sum() > 100
    assert drawn["green"][:, middle:].sum() == 0
    assert drawn["red"][:, middle:].sum() > 100
    assert drawn["red"][pixels.shape[0] // 2 + 20 :].sum() == 0
