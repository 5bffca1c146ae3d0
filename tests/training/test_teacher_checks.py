"""Checks of a teacher: files before data, outputs before it teaches, its own normalisation."""

import json

import pytest
import torch
from checkpoint_files import save
from support import built, configured

from kd.build.given import GivenParts, describe_net
from kd.data.digits import Digits
from kd.errors import UserError
from kd.io.run_folder import RunFolder
from kd.io.weights import load_weights
from kd.training.run import run

FEW = ("trainer.max_epochs=1", "trainer.limit_train_batches=3", "data/view=none")
OTHER = ("data.mean=[0.0]", "data.std=[1.0]")  # the images are in 0..1


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a teacher that was trained on images in 0..1."""
    folder = tmp_path_factory.mktemp("teacher")
    settings = ("method=ce", "student.net.width=1.0", "trainer.max_epochs=4", "data/view=none")
    run(configured(folder, folder, *settings, *OTHER), folder)
    return folder


def recorded(folder, key="test/acc"):
    return json.loads(RunFolder(folder).result.read_text())[key]


def teach(folder, output, *settings):
    return run(configured(folder, output, *FEW, *settings), folder)


def plain_weights(trained, folder):
    net, _ = built("resnet8")
    load_weights(net, trained)
    return save(folder / "teacher.pt", {"model": net.state_dict()})


@pytest.mark.parametrize("cache", ["on", "off"])
def test_teacher_gets_the_images_that_it_was_trained_on(cache, trained, tmp_path, caplog):
    with caplog.at_level("INFO"):
        result = teach(
            tmp_path, tmp_path, f"teacher.checkpoint={trained}", f"teacher.cache.mode={cache}"
        )
    assert result["teacher/test/acc"] == pytest.approx(recorded(trained), abs=1e-9)
    assert "its images are normalised with mean [0.0], std [1.0]" in caplog.text
    same = teach(tmp_path / "same", tmp_path, *OTHER, f"teacher.checkpoint={trained}")
    assert same["teacher/test/acc"] == result["teacher/test/acc"]


def test_file_without_a_record_takes_the_settings_and_says_which(trained, tmp_path, caplog):
    file = plain_weights(trained, tmp_path)
    with caplog.at_level("INFO"):
        wrong = teach(tmp_path / "a", tmp_path, f"teacher.checkpoint={file}")
    assert "does not record how its images were normalised" in caplog.text
    own = ("teacher.mean=[0.0]", "teacher.std=[1.0]")
    right = teach(tmp_path / "b", tmp_path, f"teacher.checkpoint={file}", *own)
    assert right["teacher/test/acc"] == pytest.approx(recorded(trained), abs=1e-9)
    assert wrong["teacher/test/acc"] != right["teacher/test/acc"]


def test_members_of_an_ensemble_have_their_own(trained, tmp_path):
    file = plain_weights(trained, tmp_path)
    members = ("teacher.members=[resnet8,resnet8]", "teacher.means=[null,[0.0]]",
               "teacher.stds=[null,[1.0]]", f"teacher.checkpoints=[{trained},{file}]",
               "teacher.checkpoint_keys=[null,model]")  # fmt: skip
    cfg = configured(tmp_path, tmp_path, *FEW, *members, teacher=("teacher=ensemble",))
    result = run(cfg, tmp_path)
    assert result["teacher/members/test/acc"] == pytest.approx([recorded(trained)] * 2, abs=1e-9)


def test_loaded_student_teaches_with_its_own(trained, tmp_path):
    import kd

    student = kd.load(trained)
    cfg = configured(tmp_path, tmp_path, *FEW)
    from omegaconf import open_dict

    with open_dict(cfg):
        cfg.teacher.net, cfg.teacher.taps = describe_net(student), {}
    result = run(cfg, tmp_path, GivenParts(teacher=student))
    assert result["teacher/test/acc"] == pytest.approx(recorded(trained), abs=1e-9)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("teacher.mean=[0.5]", "teacher.std=[0.5]"), "belongs to teacher.checkpoint"),
        (("teacher.checkpoint_key=ema",), "belongs to teacher.checkpoint"),
        (("teacher.checkpoint=x", "teacher.mean=[0.5]"), "must be lists of numbers"),
        (("teacher.checkpoint=x", "teacher.mean=[125]", "teacher.std=[64]"), r"0\.\.1 scale"),
        (("teacher.checkpoint=x", "teacher.mean=[0]", "teacher.std=[0]"), "must be > 0"),
    ],
)
def test_wrong_normalisation_is_refused(settings, message, tmp_path):
    with pytest.raises(UserError, match=message):
        teach(tmp_path, tmp_path, *settings)


def test_channels_must_be_those_of_the_images(trained, tmp_path):
    file, own = plain_weights(trained, tmp_path), "[0.5,0.5,0.5]"
    with pytest.raises(UserError, match="3 channels, and the images have 1"):
        teach(tmp_path, tmp_path, f"teacher.checkpoint={file}", f"teacher.mean={own}",
              f"teacher.std={own}")  # fmt: skip


def no_data(monkeypatch):
    def setup(self, stage=None):
        raise AssertionError("data were loaded first")

    monkeypatch.setattr(Digits, "setup", setup)
    monkeypatch.setattr(Digits, "prepare_data", setup)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", r"does not exist; did you mean 'teacher\.pt'"),
        ("damaged", "is damaged"),
        ("of another net", "does not fit the net"),
        ("pointer", "Git LFS"),
    ],
)
def test_files_are_checked_before_data_are_loaded(kind, message, trained, tmp_path, monkeypatch):
    file = plain_weights(trained, tmp_path)
    if kind == "missing":
        file = tmp_path / "teachr.pt"
    elif kind == "damaged":
        file.write_bytes(file.read_bytes()[:3000])
    elif kind == "pointer":
        file.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    else:
        save(file, built("vgg8")[0].state_dict())
    no_data(monkeypatch)
    with pytest.raises(UserError, match=message):
        teach(tmp_path, tmp_path, f"teacher.checkpoint={file}")


def test_student_of_simkd_is_refused_with_the_reason(tmp_path):
    folder = RunFolder(tmp_path / "simkd")
    folder.root.mkdir()
    teach(folder.root, tmp_path, "method=simkd", "keep_epochs=true")
    for file in (folder.root, folder.weights, folder.last, folder.best, folder.epoch(1)):
        settings = f"teacher.checkpoint={file}", "teacher.net.width=0.5"
        with pytest.raises(UserError, match="method that predicts with parts of its own"):
            teach(tmp_path / "next", tmp_path, *settings)


def test_checkpoint_of_a_run_with_peers_gives_the_student(tmp_path):
    options = ("method=kd", "trainer.max_epochs=1", "trainer.limit_train_batches=3")
    cfg = configured(tmp_path, tmp_path, *options, teacher=("mode=online",))
    run(cfg, tmp_path)
    (from_folder, _), (from_state, _) = built("resnet8", width=0.5), built("resnet8", width=0.5)
    load_weights(from_folder, tmp_path)
    load_weights(from_state, RunFolder(tmp_path).best)
    expected = from_folder.state_dict()
    assert all(torch.equal(value, expected[k]) for k, value in from_state.state_dict().items())


def test_not_finite_weights_are_refused_twice(trained, tmp_path):
    net, _ = built("resnet8")
    load_weights(net, trained)
    net.get_parameter("fc.weight").data[0, 0] = float("nan")
    file = save(tmp_path / "x.pt", net.state_dict())
    for _ in range(2):
        with pytest.raises(UserError, match=r"fc\.weight is NaN in 1 of 640 places"):
            teach(tmp_path / "run", tmp_path, f"teacher.checkpoint={file}")


def test_outputs_that_overflow_are_refused(trained, tmp_path):
    net, _ = built("resnet8")
    load_weights(net, trained)
    net.get_parameter("fc.weight").data.mul_(1e38)
    file = save(tmp_path / "x.pt", net.state_dict())
    for _ in range(2):
        with pytest.raises(UserError, match=r"outputs are NaN or infinite|logits are not finite"):
            teach(tmp_path / "run", tmp_path, f"teacher.checkpoint={file}")


def test_permuted_classes_are_noticed(trained, tmp_path, caplog):
    net, _ = built("resnet8")
    load_weights(net, trained)
    order = [3, 1, 2, 0, 5, 4, 7, 8, 9, 6]
    for key in ("fc.weight", "fc.bias"):
        net.get_parameter(key).data = net.get_parameter(key).data[order]
    file = save(tmp_path / "x.pt", net.state_dict())
    own = ("teacher.mean=[0.0]", "teacher.std=[1.0]")
    result = teach(tmp_path / "run", tmp_path, f"teacher.checkpoint={file}", *own)
    expected = f"and {recorded(trained):.4f} if its classes were in another order"
    assert result["teacher/test/acc"] < 0.5
    assert expected in caplog.text
    back = [order.index(label) for label in range(10)]
    assert f"weight and bias: {back}" in caplog.text


def test_guessing_is_warned_of(tmp_path, caplog):
    net, _ = built("resnet8")
    net.get_parameter("fc.weight").data.zero_()
    file = save(tmp_path / "x.pt", net.state_dict())
    teach(tmp_path / "run", tmp_path, f"teacher.checkpoint={file}")
    assert "no more than the most frequent class alone" in caplog.text
