"""What the shared step does with weights, and what the figures of a split mean."""

import math
from functools import partial
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
from conftest import make_batch, make_outputs
from hydra import compose, initialize_config_dir
from torch import nn

from kd.build.method import build_method
from kd.config.compose import CONF_DIR, register_models
from kd.distillers.base import Distiller
from kd.distillers.offline import OfflineDistiller
from kd.distillers.stages import Plan, Stage
from kd.errors import UserError
from kd.metrics import Evaluation
from kd.objectives.base import Setting
from kd.objectives.ce import CrossEntropy
from kd.objectives.fitnet import Hint
from kd.objectives.kd import SoftTargets
from kd.schedules import Constant, Linear, Until
from kd.teachers.frozen import FrozenTeacher


def make_net() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, 3, (6,), generator=generator)
    return make_batch(target)._replace(input=torch.randn(6, 1, 8, 8, generator=generator))


def make_distiller(weights, teacher=None, objectives=None, tap_paths=(), **options):
    distiller = OfflineDistiller(
        teacher,
        student=make_net(),
        tap_paths=dict(tap_paths),
        objectives=objectives or {"hard": CrossEntropy(), "soft": SoftTargets(4.0)},
        plan=Plan([Stage("", 1.0, weights)]),
        optimizer=partial(torch.optim.SGD, lr=0.1),
        scheduler=Constant(),
        num_classes=3,
        **options,
    )
    distiller.log = distiller.log_dict = lambda *args, **kwargs: None
    return distiller


def test_the_loss_is_the_weighted_sum_of_the_raw_terms(batch):
    distiller = make_distiller({"hard": 0.1, "soft": 0.9}, FrozenTeacher(make_net(), {}, []))
    out = distiller.training_step(batch, 0)
    assert set(out["terms"]) == {"hard", "soft"}
    hard_term, soft_term = out["terms"].values()
    expected = 0.1 * hard_term + 0.9 * soft_term
    torch.testing.assert_close(out["loss"].detach(), expected)
    teacher, student = distiller.teacher.net(batch.input), distiller.student(batch.input)
    soft = SoftTargets(4.0)
    torch.testing.assert_close(
        soft_term,
        soft(make_outputs(student), make_outputs(teacher), batch).detach(),
    )


def test_an_epoch_logs_the_means_of_its_steps(batch):
    distiller = make_distiller({"hard": 0.5}, objectives={"hard": CrossEntropy()})
    logged = {}
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


def test_a_weight_may_be_a_schedule_of_progress():
    plan = Plan([Stage("", 1.0, {"hard": 1.0, "soft": Linear(2.0)})])
    assert plan.weights(0.0) == {"hard": 1.0, "soft": 2.0}
    assert plan.weights(0.4) == {"hard": 1.0, "soft": pytest.approx(1.2)}
    assert plan.weights(1.0) == {"hard": 1.0}  # absent, not zero


def test_stages_follow_each_other_with_schedules_of_their_own():
    first = Stage("first", 0.25, {"hint": Linear(8.0)})
    plan = Plan([first, Stage("second", 0.75, {"hard": 1.0, "soft": Constant(2.0, warmup=0.5)})])
    assert plan.at(0.0) == (first, 0.0)
    assert plan.at(0.2) == (first, pytest.approx(0.8))
    assert plan.at(0.25)[0].name == "second"
    assert plan.at(0.625)[1] == pytest.approx(0.5)
    assert plan.at(1.0)[1] == 1.0
    assert plan.weights(0.125) == {"hint": pytest.approx(4.0)}
    assert plan.weights(0.25) == {"hard": 1.0}
    assert plan.weights(0.4375) == {"hard": 1.0, "soft": pytest.approx(1.0)}


def test_a_lone_term_stays_at_the_foot_of_its_warm_up():
    assert Plan([Stage("", 1.0, {"soft": Constant(1.0, warmup=0.1)})]).weights(0.0) == {"soft": 0.0}


@pytest.mark.parametrize("pairing_weights", [(0.5, 0.4), (1.5, -0.5), (0.7, 0.7)])
def test_shares_that_do_not_make_a_run_are_refused(pairing_weights):
    with pytest.raises(ValueError, match="pairing_weights must be > 0 and make 1"):
        Plan([Stage(str(n), weight, {"hard": 1.0}) for n, weight in enumerate(pairing_weights)])


def test_a_new_stage_tells_the_objectives_and_starts_with_a_fresh_optimizer(batch):
    class Heard(CrossEntropy):
        heard: ClassVar[list] = []

        def enter(self, stage):
            self.heard.append(stage)

    distiller = make_distiller({"hard": 1.0}, objectives={"hard": Heard()})
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
    assert Heard.heard == ["a", "b"]


def test_only_student_and_adapters_are_trained_and_saved():
    distiller = make_distiller({"hard": 1.0, "soft": 1.0}, FrozenTeacher(make_net(), {}, []))
    assert sorted(distiller.state_dict()) == ["student.1.bias", "student.1.weight"]
    trained = [name for name, p in distiller.named_parameters() if p.requires_grad]
    assert sorted(trained) == ["student.1.bias", "student.1.weight"]


def test_adapters_are_trained_with_the_student():
    hint = Hint("stage1", "stage1")
    distiller = make_distiller({"hint": 1.0}, objectives={"hint": hint}, tap_paths={"stage1": "1"})
    outputs = make_outputs(torch.zeros(2, 3), stage1=torch.zeros(2, 3))
    hint.build(outputs, outputs, Setting(3, torch.zeros(9)))
    distiller.total_steps = 10
    groups = distiller.configure_optimizers()["optimizer"].param_groups
    trained = {id(p) for group in groups for p in group["params"]}
    assert {id(p) for p in hint.regressor.parameters()} <= trained
    assert {id(p) for p in distiller.student.parameters()} <= trained
    assert any(key.startswith("objectives.hint.regressor") for key in distiller.state_dict())


def test_test_logits_are_looked_up_by_index(batch):
    logits = torch.randn(20, 3)
    distiller = make_distiller({"hard": 1.0, "soft": 1.0}, test_logits=logits)
    index = torch.tensor([7, 3, 19, 0, 5, 5])
    torch.testing.assert_close(
        distiller.teacher_test_logits(batch._replace(index=index)), logits[index]
    )


def test_figures_of_a_split_by_hand():
    """Five samples in two batches of unequal size; all figures counted by hand."""
    probabilities = torch.tensor([[0.8, 0.2], [0.6, 0.4], [0.3, 0.7], [0.9, 0.1], [0.2, 0.8]])
    target = torch.tensor([0, 1, 1, 0, 0])
    teacher = torch.tensor([[1.0, 0], [1, 0], [1, 0], [1, 0], [0, 1]])
    evaluation = Evaluation(num_classes=2, closely=True)
    for rows in (slice(0, 3), slice(3, 5)):
        evaluation.update(probabilities[rows].log(), target[rows], teacher[rows])
    figures = {k: v.item() for k, v in evaluation.compute().items()}
    assert figures["acc"] == pytest.approx(3 / 5)
    assert figures["agreement"] == pytest.approx(4 / 5)
    nll = -sum(map(math.log, [0.8, 0.4, 0.7, 0.9, 0.2])) / 5
    assert figures["nll"] == pytest.approx(nll, rel=1e-5)
    # Bins of width 1/15: {.8, .8} right once, {.6} wrong, {.7} right, {.9} right.
    ece = (2 * abs(0.5 - 0.8) + 0.6 + 0.3 + 0.1) / 5
    assert figures["ece"] == pytest.approx(ece, rel=1e-5)


def test_figures_start_anew():
    evaluation = Evaluation(num_classes=2)
    evaluation.update(torch.eye(2), torch.tensor([0, 1]))
    assert evaluation.compute()["acc"] == 1
    evaluation.update(torch.eye(2), torch.tensor([1, 0]))
    assert evaluation.compute()["acc"] == 0
    assert "agreement" not in evaluation.compute()


# Schedules


def plan_of(*overrides):
    register_models(CONF_DIR)
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        cfg = compose("train", overrides=["paths.run=run", *overrides])
    return build_method(cfg)


def test_what_alpha_gives_up_the_labels_get():
    schedule = ["+schedule@method.schedules.alpha=until", "method.schedules.alpha.end=0.5"]
    _, plan = plan_of("method.alpha=0.9", *schedule)
    assert plan.weights(0.49) == pytest.approx({"hard": 0.1, "soft": 0.9})
    assert plan.weights(0.5) == {"hard": 1.0}
    _, plan = plan_of("method.alpha=1", *schedule)
    assert plan.weights(0.2) == {"soft": 1.0}
    assert plan.weights(0.8) == {"hard": 1.0}


def test_a_scheduled_term_leaves_the_others_alone():
    _, plan = plan_of("method=at", "+schedule@method.schedules.attention=until")
    assert plan.weights(0.4) == {"hard": 1.0, "attention": 1000.0}
    assert plan.weights(0.6) == {"hard": 1.0}


def test_a_schedule_moves_the_weights_of_a_later_stage():
    _, plan = plan_of("method=fitnet", "+schedule@method.schedules.alpha=grow")
    assert plan.weights(0.1) == {"hint": 100.0}
    assert plan.weights(0.25) == {"hard": 1.0}
    assert plan.weights(0.625) == pytest.approx({"hard": 0.55, "soft": 0.45})
    assert plan.weights(1.0) == pytest.approx({"hard": 0.1, "soft": 0.9})


def test_a_weight_follows_one_schedule():
    both = [f"+schedule@method.schedules.{name}=grow" for name in ("alpha", "soft")]
    with pytest.raises(UserError, match=r"weights.soft would follow 2 schedules: alpha, soft"):
        plan_of(*both)


def test_the_temperature_follows_its_schedule():
    schedule = ["+schedule@method.schedules.temperature=linear"]
    objectives, plan = plan_of(*schedule, "method.schedules.temperature.end=0.25")
    seen = []
    for progress in (0.0, 0.5, 1.0):
        plan.set_temperatures(objectives.values(), progress)
        seen.append(objectives["soft"].temperature)
    assert seen == pytest.approx([4.0, 2.5, 1.0])
    assert plan.weights(1.0) == pytest.approx({"hard": 0.1, "soft": 0.9})


def test_validation_is_told_to_each_schedule_once():
    schedule = ["+schedule@method.schedules.alpha=until_plateau"]
    _, plan = plan_of(*schedule, "method.schedules.alpha.patience=2")
    seen = []
    for accuracy in (0.5, 0.5, 0.5):
        plan.observe(accuracy)
        seen.append(sorted(plan.weights(0.5)))
    assert seen == [["hard", "soft"], ["hard", "soft"], ["hard"]]


def test_a_teacher_is_not_asked_once_its_term_is_over(batch):
    teacher = FrozenTeacher(make_net(), {}, [])
    distiller = make_distiller({"hard": 0.1, "soft": Until(0.9, end=0.5)}, teacher)
    seen = []
    for step in (0, 4, 5, 9):
        distiller.total_steps = 10
        distiller._trainer = SimpleNamespace(global_step=step)
        terms = distiller.training_step(batch, step)["terms"]
        seen.append((sorted(terms), teacher.forwards))
    assert seen == [
        (["hard", "soft"], 6),
        (["hard", "soft"], 12),
        (["hard"], 12),
        (["hard"], 12),
    ]
