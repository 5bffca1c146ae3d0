"""Teachers with more classes than the student's data: mapped, or read for their features alone."""

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf, open_dict
from small_data import Given, ready
from support import built, composed, configured, digits_arrays
from torch import nn

from kd.build.given import GivenParts
from kd.config.experiment import experiment_settings
from kd.config.identity import settings_hash
from kd.data.arrays import Arrays
from kd.deploy.evaluation.evaluate import _teacher_column
from kd.deploy.evaluation.notes import teacher_notes
from kd.deploy.finished_run import FinishedRun
from kd.errors import UserError
from kd.io.weights import load_weights
from kd.teachers.class_map import ClassMap
from kd.training.run import run
from kd.training.teacher_classes import _index
from kd.validation.check import check_config

CLASSES = [3, 1, 7, 4]  # digits of the student's data, in the order of its labels
NORMALISATION = {"mean": [0.25], "std": [0.5]}  # not the teacher's


@pytest.fixture(scope="module")
def ten(output, tmp_path_factory):
    """A run of a net of all ten digits."""
    folder = tmp_path_factory.mktemp("ten")
    overrides = ("method=ce", "student.net.width=1", "optimizer.lr=0.1", "data.batch_size=64")
    run(configured(folder, output, *overrides, teacher=()), folder)
    return folder


def four():
    """The images of four digits, as classes of their own."""
    whole, labels = digits_arrays(), torch.tensor(CLASSES)

    def kept(images, targets):
        chosen = torch.isin(targets, labels)
        return images[chosen], (targets[chosen][:, None] == labels).int().argmax(1)

    images, targets = kept(whole.train_inputs, whole.train_targets)
    tested, answers = kept(whole.test_inputs, whole.test_targets)
    return Arrays(images, targets, tested, answers, [*map(str, CLASSES)])


def taught(folder, output, teacher, *overrides, arrays=None, epochs=3):
    data = ready(Given(arrays or four(), batch_size=64, **NORMALISATION))
    common = (f"teacher.checkpoint={teacher}", f"trainer.max_epochs={epochs}")
    cfg = configured(folder, output, *common, *overrides)
    with open_dict(cfg):
        cfg.data = OmegaConf.create({"name": "given", "batch_size": 64, "seed": 0})
    return run(cfg, folder, GivenParts(data=data))


def accuracy_of(folder):
    """Accuracy of the ten-class net on images of four digits, by its choice of the four."""
    net, arrays = built("resnet8")[0], four()
    load_weights(net, folder)
    images = (arrays.test_inputs.float() / 255 - 0.3053) / 0.3760
    with torch.no_grad():
        logits = net.eval()(images).double().numpy()
    return float(np.mean(logits[:, CLASSES].argmax(1) == arrays.test_targets.numpy()))


@pytest.mark.parametrize(
    "overrides",
    [
        ("teacher.classes=[3,1,7,4]",),
        ("teacher.classes=by_name", "teacher.cache.mode=off"),
        ("teacher.classes=by_name", "method=simkd"),
    ],
    ids=["numbers", "names", "classifier"],
)
def test_ten_classes_teach_four(ten, output, tmp_path, overrides):
    lr = "optimizer.lr=0.1"
    result = taught(tmp_path, output, ten, *overrides, lr, epochs=6)
    assert result["teacher/classes"] == CLASSES
    assert result["teacher/num_classes"] == 10
    assert result["teacher/test/acc"] == pytest.approx(accuracy_of(ten))
    assert result["teacher/test/acc"] > 0.6
    assert result["test/acc"] > 0.5  # chance: 0.25
    assert len(result["test/acc_per_class"]) == 4


def test_a_map_has_a_cache_of_its_own(ten, output, tmp_path):
    for name, classes in (("a", "[3,1,7,4]"), ("b", "[0,1,2,3]")):
        result = taught(tmp_path / name, output, ten, f"teacher.classes={classes}", epochs=1)
        assert result["teacher/outputs"] == "cached"
        expected = accuracy_of(ten) if name == "a" else None
        assert expected is None or result["teacher/test/acc"] == pytest.approx(expected)
    assert result["teacher/test/acc"] < 0.6  # the wrong classes


@pytest.mark.parametrize("method", ["sskd", "datafree"])
def test_a_map_holds_for_images_that_are_not_the_datas(ten, output, tmp_path, method):
    tiny = ("trainer.limit_train_batches=4", f"method={method}", "optimizer.lr=0.01")
    result = taught(tmp_path, output, ten, "teacher.classes=by_name", *tiny, epochs=2)
    assert (result["status"], result["teacher/classes"]) == ("completed", CLASSES)


def test_features_alone_need_no_map(ten, output, tmp_path):
    result = taught(tmp_path, output, ten, "method=fitnet", "method.alpha=0", epochs=1)
    assert (result["teacher/classes"], result["teacher/num_classes"]) == (None, 10)
    assert result["teacher/test/acc"] is None
    assert result.get("test/agreement") is None
    assert result["status"] == "completed"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ((), r"soft reads the teacher's logits.*10 classes.*4; set teacher\.classes.*by_name\)$"),
        (("method=at", "teacher.update=[fc]"), r"teacher\.update: .* has 10 classes.*set teacher"),
        (("method=srrl",), r"reads the teacher's logits.*set teacher\.classes"),
        (("method=sskd",), r"set teacher\.classes=.*by_name\)$"),
        (("method=at", "method.alpha=0.5"), r"features alone, with method\.weights\.soft=0$"),
        (("method=fitnet", "method.alpha=0.5"), r"features alone, with method\.alpha=0$"),
        (("method=fcfd",), r"choose another method, such as method=kd, and set teacher\.cl"),
        (("teacher.classes=[3,1,7]",), r"has 3 classes.*has 4: 3, 1, 7, 4"),
        (("teacher.classes=[3,1,7,11]",), r"has no class 11; did you mean '1'\? valid: 0, 1, 2"),
        (("teacher.classes=[3,1,7,'04']",), r"has no class '04'; did you mean .*valid: 0, 1"),
    ],
)
def test_classes_that_do_not_fit_are_refused(ten, output, tmp_path, overrides, message):
    with pytest.raises(UserError, match=message):
        taught(tmp_path, output, ten, *overrides)
    kept = {path.name for path in tmp_path.iterdir()}  # the record of a run that failed
    assert kept <= {".hydra", ".lock", "result.json"}


def test_names_of_the_data_that_the_teacher_does_not_have(ten, output, tmp_path):
    other = four()._replace(class_names=["3", "1", "7", "44"])
    with pytest.raises(UserError, match="no class '44'; did you mean '4'"):
        taught(tmp_path, output, ten, "teacher.classes=by_name", arrays=other)


def larger(folder):
    """Weights of twelve classes, without a record of them."""
    net = built("resnet8")[0]
    net.fc = nn.Linear(net.fc.in_features, 12)
    torch.save(net.state_dict(), folder / "twelve.pt")
    return folder / "twelve.pt"


def test_weights_without_a_record(output, tmp_path):
    tiny = ("trainer.limit_train_batches=2", "trainer.max_epochs=1", "optimizer.lr=0.01")
    common = (*tiny, f"teacher.checkpoint={larger(tmp_path)}")

    def trained(name, *overrides):
        return run(configured(tmp_path / name, output, *common, *overrides), tmp_path / name)

    with pytest.raises(UserError, match=r"does not record its classes; set teacher\.num_classes"):
        trained("a", "teacher.classes=[0,1,2,3,4,5,6,7,8,9]")
    count = "teacher.num_classes=12"
    with pytest.raises(UserError, match=r"no class 12; its weights record no names.* 0 to 11"):
        trained("b", count, "teacher.classes=[0,1,2,3,4,5,6,7,8,12]")
    assert trained("c", count, "teacher.classes=[2,3,4,5,6,7,8,9,10,11]")["teacher/test/acc"] < 0.5
    column, notes = evaluated(tmp_path / "c")
    assert (len(column), notes) == (1, [])
    trained("d", count, "method=at", "method.alpha=0")
    column, notes = evaluated(tmp_path / "d")
    assert column == []
    assert "12 other classes, and the student has learnt from its features alone" in notes[0]


def evaluated(folder):
    """The teacher's column of `kd.evaluate`, and what is said about it."""
    finished = FinishedRun(folder)
    column = _teacher_column(finished, ready(finished.data), torch.device("cpu"))
    return column, [*teacher_notes(finished, has_embedding=True)]


def test_a_name_is_meant_where_a_number_is_written_the_same():
    assert _index(3, 4, ["3", "1", "7", "4"], "resnet8") == 0
    assert _index(0, 4, ["3", "1", "7", "4"], "resnet8") == 0
    assert _index(3, 4, [], "resnet8") == 3
    with pytest.raises(UserError, match=r"did you mean 'c07'. valid: c00, c01, .* and 90 more"):
        _index("C07", 100, [f"c{i:02}" for i in range(100)], "resnet8")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("teacher.classes=[3,3]",), r"classes=\[3, 3\]: must be by_name, or a list of different"),
        (("teacher.num_classes=1",), "must be a whole number ≥ 2"),
        (("teacher.classes=[3,4]",), r"belong to teacher\.checkpoint=…"),
        (("teacher=ensemble", "teacher.classes=by_name"), "is of a single teacher"),
        (
            ("method=fcfd", "teacher.checkpoint=ten", "teacher.classes=by_name"),
            r"objectives\.function runs the layers of the teacher itself.*choose another method",
        ),
    ],
)
def test_mistakes_are_found_before_the_run(overrides, message):
    with pytest.raises(UserError, match=message):
        check_config(composed(*overrides))


def test_no_map_is_no_setting():
    cfg = composed()
    before = settings_hash(cfg)
    assert not {"teacher.classes", "teacher.num_classes"} & experiment_settings(cfg).keys()
    with open_dict(cfg):
        del cfg.teacher["classes"], cfg.teacher["num_classes"]  # as in earlier versions
    assert settings_hash(cfg) == before


def test_the_head_makes_the_selected_logits():
    select, embedding = ClassMap(CLASSES), torch.randn(5, 6)
    for head in (nn.Linear(6, 10), nn.Linear(6, 10, bias=False), nn.Sequential(nn.Linear(6, 10))):
        torch.testing.assert_close(select.head(head)(embedding), select(head(embedding)))
    assert isinstance(select.head(nn.Linear(6, 10)), nn.Linear)
