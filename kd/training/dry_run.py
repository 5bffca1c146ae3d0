"""A student's build under untrained teachers, so that mistakes of nets and taps show at once.

A teacher may train for hours before its outputs meet the student's. What only the two nets
together can tell (arguments that a net refuses, maps that a term cannot compare) is therefore
tried first, with teachers of random weights.
"""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from lightning.pytorch.utilities.seed import isolate_rng
from omegaconf import DictConfig

from kd.build.given import GivenParts
from kd.build.method import Method
from kd.config.compose import plain
from kd.config.members import is_ensemble, member_configs
from kd.data.base import DataModule
from kd.teachers.base import Teacher
from kd.teachers.frozen import FrozenTeacher
from kd.teachers.two_views import TwoViewTeacher
from kd.training.acquired import AcquiredTeacher
from kd.training.ensemble import combined
from kd.training.student import assemble
from kd.training.teacher import needs_teacher
from kd.training.teacher_classes import teacher_classes
from kd.training.teacher_net import build_teacher_net, needs_training
from kd.validation.check import CheckedConfig, check_config


def try_build(checked: CheckedConfig, data: DataModule, given: GivenParts) -> None:
    """Build the student with its adapters once, if a teacher has to be trained first.

    Runs with a given net or method are left out: adapters and hooks would be built on it twice.

    Raises:
        UserError: what `build_student` refuses.
    """
    cfg = checked.cfg
    if (given.student, given.teacher, given.method) != (None, None, None):
        return
    alone = member_configs(cfg) if is_ensemble(cfg) else {"": cfg}
    if not needs_teacher(checked) or not any(needs_training(each, data) for each in alone.values()):
        return
    with isolate_rng(), _silent():
        fresh = check_config(cfg, given)  # objectives keep their adapters
        teacher = _untrained(cfg, data, fresh.method)
        assemble(fresh, data, AcquiredTeacher(teacher, None, {}, "untrained", "", None, 0.0))


@contextmanager
def _silent() -> Iterator[None]:
    """Drop what the build logs: it is logged when the student is built for training."""
    logger = logging.getLogger("kd")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _untrained(cfg: DictConfig, data: DataModule, method: Method) -> Teacher:
    """Return the run's teacher with random weights, live."""
    if not is_ensemble(cfg):
        return _single(cfg, data, method.teacher_taps)
    members = {
        name: _single(alone, data, method.teacher_taps if name == cfg.teacher.features else [])
        for name, alone in member_configs(cfg).items()
    }
    return combined(cfg, members)


def _single(cfg: DictConfig, data: DataModule, wanted: Iterable[str]) -> Teacher:
    net, classes = build_teacher_net(cfg, data), teacher_classes(cfg, data)
    live = FrozenTeacher(net, plain(cfg.teacher.taps), wanted, classes=classes.map)
    return TwoViewTeacher(live, live) if data.two_views else live
