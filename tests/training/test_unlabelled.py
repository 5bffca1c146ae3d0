"""Transfer sets without labels: no training label has an effect, and what reads one is refused."""

import pytest
import torch
from omegaconf import OmegaConf, open_dict
from safetensors.torch import load_file
from small_data import Given, arrays, ready
from support import built, composed, configured

from kd.build.data import build_data
from kd.build.given import GivenParts, describe_net
from kd.config.experiment import experiment_settings
from kd.config.identity import settings_hash
from kd.data.augment import MixUp
from kd.data.loader import UNLABELLED
from kd.errors import UserError
from kd.io.run_folder import RunFolder
from kd.training.run import run
from kd.training.teacher_run import teacher_key
from kd.validation.check import check_config

UNLABELLED_KD = ("data.labels=false", "method.alpha=1")


def test_a_labelled_run_has_no_new_setting():
    cfg = composed()
    assert "data.labels" not in experiment_settings(cfg)
    before = settings_hash(cfg)
    with open_dict(cfg):
        del cfg.data["labels"]  # as in configs of earlier versions
    assert settings_hash(cfg) == before
    assert settings_hash(composed("data.labels=false")) != before


@pytest.mark.parametrize("augment", [None, MixUp()], ids=["plain", "mixed"])
def test_batches_have_no_labels_in_training_alone(augment):
    data = ready(Given(arrays(), labels=False, augment=augment, eval_batch_size=100))
    assert all((batch.target == UNLABELLED).all() for batch in data.train_dataloader())
    assert (data.train_targets == UNLABELLED).all()
    if augment is None:
        views = data.variant(two_views="strong").train_dataloader()
        assert all((batch.both().target == UNLABELLED).all() for batch in views)
    labelled = ready(Given(arrays()))
    for split in ("val", "test"):
        one, other = (next(iter(getattr(d, f"{split}_dataloader")())) for d in (data, labelled))
        assert one.target[: len(other.target)].equal(other.target)
    assert data.fingerprint == labelled.fingerprint  # the same images, of which teachers know more


def weights_of(folder, output, targets, *overrides):
    """Weights of a student whose ten training classes are numbered as `targets` says."""
    whole = arrays((16,) * 10, side=8)
    whole = whole._replace(val_inputs=whole.test_inputs, val_targets=whole.test_targets)
    data = ready(Given(whole._replace(train_targets=targets), labels=False))
    torch.manual_seed(3)
    teacher = built("resnet8")[0]
    cfg = configured(folder, output, "trainer.max_epochs=1", "method.alpha=1", *overrides)
    with open_dict(cfg):
        cfg.teacher.net = describe_net(teacher)
        cfg.data = OmegaConf.create({"name": "given", "batch_size": 8, "seed": 0})
    result = run(cfg, folder, GivenParts(data=data, teacher=teacher))
    assert result["data/labels"] is False
    assert result["teacher/outputs"] == "cached"
    return load_file(RunFolder(folder).weights)


@pytest.mark.parametrize("control", ["null", "shuffled"])
def test_labels_in_another_order_train_the_same_student(output, tmp_path, control):
    torch.manual_seed(0)
    targets = torch.arange(10).repeat_interleave(16)
    runs = [
        weights_of(tmp_path / str(i), output, each, f"control={control}")
        for i, each in enumerate((targets, targets[torch.randperm(160)]))
    ]
    assert all(value.equal(runs[1][name]) for name, value in runs[0].items())


def test_the_teacher_is_trained_with_labels(output, tmp_path):
    learn = ("trainer.max_epochs=8", "optimizer.lr=0.1", "data.batch_size=64")
    cfg = configured(tmp_path, output, *UNLABELLED_KD, *learn)
    labelled = configured(tmp_path, output)
    assert teacher_key(cfg, build_data(cfg)) == teacher_key(labelled, build_data(labelled))
    result = run(cfg, tmp_path)
    assert (result["teacher/test/acc"] or 0) > 0.3
    assert result["test/acc"] > 0.2  # from the teacher alone; chance: 0.1
    assert result["data/labels"] is False


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ((), r"objectives\.hard reads labels.*method\.alpha=1.*or method\.weights\.hard=0"),
        (("method=ce",), r"hard reads labels.*choose a method that reads the teacher alone"),
        (
            ("method=fitnet", "method.alpha=0.5"),
            r"set method\.alpha=1 \(its weight is 1 - a",
        ),
        (("method=hsakd",), r"labels=false; choose a method that reads the teacher alone, such as"),
        (("method=dkd", "method.weights.hard=0"), r"objectives\.\w+ reads labels.*method=kd"),
        (("method=crd", "method.weights.hard=0"), r"objectives\.\w+ reads labels.*method=kd"),
        (("method.alpha=1", "control=smoothing"), "control=smoothing reads training labels"),
        (("method=mlkd", "optimizer=deepkd"), "optimizer=deepkd has a momentum.*optimizer=sgd"),
        (("method.alpha=1", "mode=online"), "mode=online.*choose mode=offline"),
        (
            ("method.alpha=1", "teacher=ensemble", "teacher.weighting=confidence"),
            r"choose teacher\.weighting=entropy",
        ),
        (("method.alpha=1", "data.leave_out=[3]"), "leave_out chooses samples by their labels"),
        (("method.alpha=1", "data.labels=some"), "labels=some: must be bool"),
    ],
)
def test_what_reads_labels_is_refused_with_the_remedy(tmp_path, overrides, message):
    cfg = composed("data.labels=false", *overrides, f"paths.output={tmp_path}")
    with pytest.raises(UserError, match=message):
        run(cfg, tmp_path / "run")
    assert not any(tmp_path.rglob("*.ckpt"))
    assert not (tmp_path / "teachers").exists()


@pytest.mark.parametrize("method", ["at", "crd", "crld"])
def test_a_method_without_labels_is_accepted(method):
    knob = ["method.exclude_class=false"] if method == "crd" else []
    check_config(composed("data.labels=false", f"method={method}", "method.weights.hard=0", *knob))


def test_data_given_as_an_object_say_themselves_whether_they_have_labels():
    given = GivenParts(data=ready(Given(arrays())))
    with pytest.raises(UserError, match=r"data\.labels=false: data given as an object decide"):
        check_config(composed("data.labels=false", "method=ce"), given)
    check_config(composed("method=ce"), given)


def test_images_that_are_generated_for_a_class_need_no_labels():
    check_config(composed("data.labels=false", "method=datafree", "method.alpha=0.5"))


def test_a_given_method_has_no_alpha_to_set():
    checked = check_config(composed())
    cfg = composed("data.labels=false")
    cfg.method.objectives, cfg.method.weights = {}, {}
    with pytest.raises(UserError, match=r"hard reads labels.*; leave the objective out, or choose"):
        check_config(cfg, GivenParts(method=checked.method))
