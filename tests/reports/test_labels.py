"""Labels of rows: the settings in which they differ."""

from kd.reports.labels import labels

BASE = {"teacher": "resnet20", "student": "resnet8", "mode": "offline", "data": "digits"}


def test_a_label_names_the_method_and_what_differs():
    rows = [
        BASE | {"method": "kd", "method.temperature": 4, "optimizer.lr": 0.1},
        BASE | {"method": "kd", "method.temperature": 8, "optimizer.lr": 0.1},
        BASE | {"method": "at", "method.beta": 1000.0, "optimizer.lr": 0.1},
        BASE | {"method": "ce", "teacher": "none", "optimizer.lr": 0.05},
    ]
    assert labels(rows) == [
        "kd, temperature=4, lr=0.1",
        "kd, temperature=8, lr=0.1",
        "at, lr=0.1",
        "ce, lr=0.05",
    ]


def test_classes_are_named_without_their_module():
    shift, none = (
        BASE | {"method": "kd", "data.view._target_": f"kd.data.views.{name}"}
        for name in ("Shift", "Identity")
    )
    assert labels([shift, none]) == ["kd, view=Shift", "kd, view=Identity"]


def test_classes_of_the_same_name_are_named_with_their_modules():
    old, new = (BASE | {"method": "kd", "method.loss._target_": f"{m}.Loss"} for m in ("a", "b"))
    assert labels([old, new]) == ["kd, loss=a.Loss", "kd, loss=b.Loss"]


def test_teachers_are_named_where_there_are_several():
    teachers = [BASE | {"method": "kd"}, BASE | {"method": "kd", "teacher": "vgg8"}]
    assert labels(teachers) == ["kd, teacher=resnet20", "kd, teacher=vgg8"]
