"""Who teaches whom: the mode, its teacher, and the taps that objectives read of both nets."""

from collections.abc import Iterator

from omegaconf import DictConfig

from kd.build.given import GivenParts
from kd.build.parts import distiller_class, peer_configs
from kd.config.members import is_ensemble
from kd.errors import nearest
from kd.objectives.base import Objective
from kd.validation.ensemble import taps_problem


def mode_problems(cfg: DictConfig, given: GivenParts) -> Iterator[str]:
    """Look for a teacher that the mode has no place for, or the other way round."""
    teacher_kind = distiller_class(cfg).teacher_kind
    name = cfg.teacher.name
    if teacher_kind == "pretrained" and name in ("itself", "peers"):
        yield f"teacher={name}: mode={cfg.mode.name} has a teacher of its own; name a model"
    if teacher_kind != "pretrained" and name != teacher_kind:
        whom = "by itself" if teacher_kind == "itself" else "by the nets of mode.peers"
        yield (
            f"teacher={name}: with mode={cfg.mode.name} the student is taught {whom}; "
            f"leave teacher out, or choose mode=offline"
        )
    if teacher_kind == "peers":
        peers = peer_configs(cfg)  # raises for anything but a list of models
        if given.student is not None and any(peer is cfg.student for peer in peers):
            yield (
                "mode.peers: a student that is given as a module cannot be built once more; name "
                "models, as mode.peers=[resnet8]"
            )


def tap_problems(cfg: DictConfig, place: str, objective: Objective) -> Iterator[str]:
    """Look for what an objective reads, in the student and in who teaches."""
    mode = distiller_class(cfg)
    if mode.available_student_taps is not None:
        offers = mode.available_student_taps
        yield from _not_offered(cfg, place, "student", objective.student_taps, offers)
    else:
        yield from _unknown_taps(place, "student", objective.student_taps, cfg.student)
    if objective.needs_teacher:
        yield from _teacher_taps(cfg, place, objective)


def _not_offered(
    cfg: DictConfig, place: str, whose: str, wanted: tuple[str, ...], offers: tuple[str, ...]
) -> Iterator[str]:
    if lacking := [tap for tap in wanted if tap not in offers]:
        taps, valid = ", ".join(lacking), ", ".join(offers) or "logits alone"
        yield f"{place} reads the {whose}'s {taps}, and mode={cfg.mode.name} offers {valid}"


def _teacher_taps(cfg: DictConfig, place: str, objective: Objective) -> Iterator[str]:
    """Look for what an objective reads, in who teaches."""
    mode = distiller_class(cfg)
    if objective.copies_head and mode.teacher_kind != "pretrained":
        yield f"{place} copies a trained teacher's classifier; mode={cfg.mode.name} has no such net"
    if mode.available_teacher_taps is not None:
        yield from _not_offered(
            cfg, place, "teacher", objective.teacher_taps, mode.available_teacher_taps
        )
    elif mode.teacher_kind == "peers":
        both = dict.fromkeys((*objective.student_taps, *objective.teacher_taps))
        for peer in (cfg.student, *peer_configs(cfg)):
            yield from _unknown_taps(place, "mode.peers", tuple(both), peer)
    elif mode.teacher_kind == "itself":
        yield from _unknown_taps(place, "student", objective.teacher_taps, cfg.student)
    elif is_ensemble(cfg):
        yield from taps_problem(cfg, place, objective.teacher_taps)
        yield from _unknown_taps(place, "teacher", objective.teacher_taps, cfg.teacher)
    elif cfg.teacher.net is None:
        yield f"{place} needs a teacher, and teacher={cfg.teacher.name}; name one, or method=ce"
    else:
        yield from _unknown_taps(place, "teacher", objective.teacher_taps, cfg.teacher)


def _unknown_taps(place: str, role: str, wanted: tuple[str, ...], net: DictConfig) -> Iterator[str]:
    for tap in wanted:
        if tap not in net.taps:
            yield f"{place}: no tap {tap!r} in {role}={net.name}; {nearest(tap, net.taps)}"
