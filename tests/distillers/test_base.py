"""The training step that all modes share: weighted loss, logging, stages, parameters."""

from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from conftest import make_outputs
from support import linear_net, make_distiller, random_batch

from kd.distillers.base import Distiller
from kd.distillers.offline import OfflineDistiller
from kd.distillers.stages import Plan, Stage
from kd.objectives.ce import CrossEntropy
from kd.objectives.fitnet import Hint
from kd.objectives.kd import SoftTargets
from kd.objectives.setting import Setting
from kd.schedules import Until
from kd.teachers.frozen import FrozenTeacher


@pytest.fixture
def batch():
    return random_batch()


def offline(weights, teacher=None, objectives=None, tap_paths=()):
    objectives = objectives or {"hard": CrossEntropy(), "soft": SoftTargets(4.0)}
    options = {"student": linear_net(1), "tap_paths": dict(tap_paths), "teacher": teacher}
    return make_distiller(OfflineDistiller, objectives, weights, **options)


def test_loss_is_the_weighted_sum_of_the_raw_terms(batch):
    distiller = offline({"hard": 0.1, "soft": 0.9}, FrozenTeacher(linear_net(2), {}, []))
    out = distiller.training_step(batch, 0)
    assert set(out["terms"]) == {"hard", "soft"}
    hard, soft = out["terms"].values()
    torch.testing.assert_close(out["loss"].detach(), 0.1 * hard + 0.9 * soft)
    teacher, student = distiller.teacher.net(batch.input), distiller.student(batch.input)
    expected = SoftTargets(4.0)(make_outputs(student), make_outputs(teacher), batch)
    torch.testing.assert_close(soft, expected.detach())


def test_epoch_logs_the_means_over_its_steps(batch):
    distiller = offline({"hard": 0.5}, objectives={"hard": CrossEntropy()})
    logged: dict[str, Any] = {}
    distiller.log = lambda name, value, **options: logged.update({name: float(value)})
    distiller.log_dict = lambda values, **options: logged.update(values)
    distiller._trainer = SimpleNamespace(world_size=1, global_step=0)
    for _ in range(2):
        terms = []
        for step in range(3):
            part = batch._replace(input=batch.input * step)
            terms.append(distiller.training_step(part, step)["terms"]["hard"].item())
        distiller.on_train_epoch_end()
        mean = sum(terms) / 3
        assert logged["train/hard"].item() == pytest.approx(mean)
        assert logged["train/loss"] == pytest.approx(0.5 * mean)


def test_new_stage_notifies_the_objectives_and_resets_the_optimizer_state(batch):
    class Recording(CrossEntropy):
        entered: ClassVar[list] = []

        def enter(self, stage):
            self.entered.append(stage)

    distiller = offline({"hard": 1.0}, objectives={"hard": Recording()})
    distiller.plan = Plan([Stage(name, 0.5, {"hard": 1.0}) for name in "ab"])
    optimizer = torch.optim.SGD(distiller.parameters(), lr=0.1, momentum=0.9)
    distiller.optimizers = lambda use_pl_optimizer: optimizer
    momenta = []
    for progress in (0.0, 0.25, 0.5, 0.75):
        distiller.__class__ = type("At", (OfflineDistiller,), {"progress": progress})
        Distiller.on_train_batch_start(distiller, batch, 0)
        momenta.append(len(optimizer.state))
        optimizer.zero_grad()
        distiller.training_step(batch, 0)["loss"].backward()
        optimizer.step()
    assert momenta == [0, 2, 0, 2]
    assert Recording.entered == ["a", "b"]


def test_only_student_and_adapters_are_trained_and_saved():
    distiller = offline({"hard": 1.0, "soft": 1.0}, FrozenTeacher(linear_net(2), {}, []))
    assert sorted(distiller.state_dict()) == ["student.1.bias", "student.1.weight"]
    trained = [name for name, p in distiller.named_parameters() if p.requires_grad]
    assert sorted(trained) == ["student.1.bias", "student.1.weight"]


def test_adapters_are_trained_with_the_student():
    hint = Hint("stage1", "stage1")
    distiller = offline({"hint": 1.0}, objectives={"hint": hint}, tap_paths={"stage1": "1"})
    outputs = make_outputs(torch.zeros(2, 3), stage1=torch.zeros(2, 3))
    hint.build(outputs, outputs, Setting(3, torch.zeros(9)))
    distiller.total_steps = 10
    groups = distiller.configure_optimizers()["optimizer"].param_groups
    trained = {id(p) for group in groups for p in group["params"]}
    assert {id(p) for p in hint.regressor.parameters()} <= trained
    assert {id(p) for p in distiller.student.parameters()} <= trained
    assert any(key.startswith("objectives.hint.regressor") for key in distiller.state_dict())


def test_teacher_is_not_run_after_its_term_ends(batch):
    teacher = FrozenTeacher(linear_net(2), {}, [])
    distiller = offline({"hard": 0.1, "soft": Until(0.9, end=0.5)}, teacher)
    distiller.total_steps = 10
    seen = []
    for step in (0, 4, 5, 9):
        distiller._trainer = SimpleNamespace(global_step=step)
        terms = distiller.training_step(batch, step)["terms"]
        seen.append((sorted(terms), teacher.forwards))
    assert seen == [
        (["hard", "soft"], 6),
        (["hard", "soft"], 12),
        (["hard"], 12),
        (["hard"], 12),
    ]
