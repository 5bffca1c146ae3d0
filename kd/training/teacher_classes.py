"""Classes of a teacher that knows more classes than the student's data, or others."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig
from torch import nn

from kd.build.method import Method, vanishes
from kd.build.parts import distiller_class, step_owner
from kd.config.compose import plain
from kd.data.base import DataModule
from kd.errors import UserError, closest, nearest
from kd.io.checkpoint.recorded import recorded_classes
from kd.objectives.base import Objective
from kd.taps import Taps
from kd.tasks import task_named
from kd.teachers.class_map import ClassMap
from kd.validation.teacher_options import BY_NAME

log = logging.getLogger(__name__)
_SHOWN = 10  # classes named in a message


class TeacherClasses(NamedTuple):
    """What a teacher's logits are about.

    Attributes:
        num_classes: number of the teacher's classes.
        chosen: the teacher's class of each of the data's; None: there is no map.
        same: the logits that the student gets are those of the data's classes.
    """

    num_classes: int
    chosen: list[int] | None
    same: bool

    @property
    def map(self) -> ClassMap | None:
        return None if self.chosen is None else ClassMap(self.chosen)

    @property
    def result(self) -> dict[str, Any]:
        """Entries of result.json; none for a teacher of the data's classes."""
        if self.chosen is None and self.same:
            return {}
        return {"teacher/classes": self.chosen, "teacher/num_classes": self.num_classes}


def teacher_classes(
    cfg: DictConfig, data: DataModule, given: nn.Module | None = None
) -> TeacherClasses:
    """Return a single teacher's classes, by the config and what its checkpoint records.

    Args:
        cfg: the run's config.
        data: the run's data, set up.
        given: the teacher net; None: built from the config.

    Raises:
        UserError: `teacher.classes` does not name one class of the teacher for each of the data's.
    """
    classes = plain(cfg.teacher.get("classes"))  # absent from a member of an ensemble
    if "classes" not in cfg.teacher or not task_named(data.task).classifies:
        return TeacherClasses(data.num_classes, None, True)
    names = _names(cfg, given)
    count = _count(cfg, data, names, given)
    if classes is None:
        return TeacherClasses(count, None, count == data.num_classes)
    wanted = data.class_names if classes == BY_NAME else classes
    chosen = [_index(each, count, names, cfg.teacher.name) for each in wanted]
    if len(chosen) != data.num_classes:
        raise UserError(
            f"teacher.classes has {len(chosen)} classes, and data={data.name} has "
            f"{data.num_classes}: {_listed(data.class_names)}; name the teacher's class of each, "
            "in this order"
        )
    return TeacherClasses(count, chosen, True)


def refuse_other_classes(
    cfg: DictConfig, data: DataModule, method: Method | None, classes: TeacherClasses
) -> None:
    """Refuse terms that read the logits of a teacher with other classes than the data's.

    Raises:
        UserError: names a term, or `teacher.update`, and the remedies.
    """
    if classes.same:
        return
    terms = {} if method is None else method.objectives
    readers = [name for name, term in terms.items() if term.compares_classes]
    have = (
        f"teacher={cfg.teacher.name} has {classes.num_classes} classes, and data={data.name} has "
        f"{data.num_classes}"
    )
    if readers:
        raise UserError(
            f"method.objectives.{readers[0]} reads the teacher's logits, and {have}; "
            + _remedy(cfg, terms, readers)
        )
    if distiller_class(cfg).runs_teacher:
        raise UserError(
            f"{step_owner(cfg)} reads the teacher's logits, and {have}; set teacher.classes to the "
            "teacher's class of each of the data's"
        )
    if cfg.teacher.get("update"):
        raise UserError(
            f"teacher.update: {have}; set teacher.classes, or remove teacher.update: the labels "
            "say nothing about its classes"
        )
    log.info("%s: the student learns from its features alone, and it has no accuracy here", have)


def _remedy(cfg: DictConfig, terms: Mapping[str, Objective], readers: Sequence[str]) -> str:
    """What to set in place of terms that read the logits of a teacher with other classes."""
    chosen = (
        "teacher.classes=[…] to the teacher's class of each of the data's (numbers, recorded "
        "names, or by_name)"
    )
    if any(terms[name].runs_teacher_layers for name in readers):
        return f"choose another method, such as method=kd, and set {chosen}"
    if any(term.needs_teacher for name, term in terms.items() if name not in readers):
        weights = " ".join(f"method.weights.{name}=0" for name in readers)
        if cfg.method.get("stages"):  # which have weights of their own
            weights = "method.alpha=0" if all(vanishes(cfg, n, alpha=0) for n in readers) else ""
        return f"set {chosen}" + (weights and f", or train on features alone, with {weights}")
    return f"set {chosen}"


def _names(cfg: DictConfig, given: nn.Module | None) -> list[str]:
    """Recorded names of the teacher's classes; none if they are unknown."""
    if given is not None:
        return list(getattr(given, "class_names", None) or [])  # a student of kd.load has them
    path = cfg.teacher.checkpoint
    return [] if path is None else recorded_classes(Path(path))


def _count(cfg: DictConfig, data: DataModule, names: Sequence[str], given: nn.Module | None) -> int:
    number: int | None = cfg.teacher.get("num_classes")
    if given is not None:
        return _outputs(given, data)
    if number is not None or names:
        return number or len(names)
    if cfg.teacher.get("classes") is not None:
        raise UserError(
            f"teacher.classes: {cfg.teacher.checkpoint or 'the teacher'} does not record its "
            "classes; set teacher.num_classes to the number of its outputs"
        )
    return data.num_classes


def _outputs(net: nn.Module, data: DataModule) -> int:
    """Number of a net's outputs for one sample."""
    device = next((parameter.device for parameter in net.parameters()), None)
    logits = Taps(net, {}, []).probe(data.random_input(2).to(device)).logits
    return logits.shape[1]


def _index(given: int | str, count: int, names: Sequence[str], teacher: str) -> int:
    """Number of one class of the teacher, given as a recorded name or as a number.

    What is both is a name, as in `data.leave_out`.
    """
    if str(given) in names:
        return list(names).index(str(given))
    if isinstance(given, int) and 0 <= given < count:
        return given
    start = f"teacher.classes: teacher={teacher} has no class {given!r}"
    if not names:
        hint = f"its weights record no names of classes; give numbers from 0 to {count - 1}"
    elif len(names) <= _SHOWN:
        hint = nearest(given, names)
    else:
        close = closest(given, names)
        hint = (f"did you mean {close!r}? " if close else "") + f"valid: {_listed(names)}"
    raise UserError(f"{start}; {hint}")


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(map(str, names[:_SHOWN])) + (f" and {more} more" if more > 0 else "")
