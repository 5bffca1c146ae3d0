"""Control arms of a distillation: what a student gains without the teacher's knowledge.

| `control=` | the arm |
|---|---|
| `ce` | the labels alone |
| `smoothing` | the labels alone, smoothed to the teacher's mean confidence |
| `untrained` | the method, with a teacher of random weights |
| `shuffled_class` | the method, with the teacher's outputs of another image of the same class |
| `shuffled` | the method, with the teacher's outputs of another image of any class |
| `self` | the method, with a teacher of the student's architecture |

Neither torch nor lightning is loaded here.
"""

from omegaconf import DictConfig, OmegaConf, open_dict

from kd.config.controls import CONTROLS, LABELS_ONLY
from kd.errors import UserError, nearest

# Keys of a single teacher that do not describe its net
_KEPT = ("epoch", "cache", "training", "update", "update_loss", "update_lr")
_NO_CHECKPOINT = ("checkpoint", "checkpoint_key", "mean", "std", "classes", "num_classes")


def control_of(cfg: DictConfig) -> str | None:
    """Return the control arm that a run is; None: it is none, or its config is of an earlier kd."""
    found: str | None = cfg.get("control")
    return found


def apply_control(cfg: DictConfig) -> None:
    """Set what a control arm changes in the config; a second call changes nothing.

    Args:
        cfg: the run's config, changed in place.

    Raises:
        UserError: there is no such control, or it does not go with the run's mode or teacher.
    """
    control = control_of(cfg)
    if control is None:
        return
    if control not in CONTROLS:
        raise UserError(f"control={control}: {nearest(str(control), CONTROLS)}")
    if cfg.mode.name != "offline":
        raise UserError(f"control={control} is an arm of offline distillation; remove {_mode(cfg)}")
    with open_dict(cfg):
        if control in LABELS_ONLY:
            _use_labels(cfg, control)
        elif control == "self":
            _use_student_as_teacher(cfg)
        elif control == "untrained" and ("members" in cfg.teacher or cfg.teacher.checkpoint):
            raise UserError(
                "control=untrained needs a single teacher without weights; remove "
                + ("teacher=ensemble" if "members" in cfg.teacher else "teacher.checkpoint")
            )


def _mode(cfg: DictConfig) -> str:
    return f"mode={cfg.mode.name}"


def _use_labels(cfg: DictConfig, control: str) -> None:
    """Replace the method by that of the teacher's own training: cross-entropy with the labels."""
    method = cfg.teacher.training.method
    if method.name != "ce":
        raise UserError(
            f"control={control} trains as the teacher, on labels alone; remove "
            f"method@teacher.training.method={method.name}"
        )
    cfg.method = OmegaConf.create(OmegaConf.to_container(method, resolve=True))
    cfg.data.pop("second", None)  # one view of each image


def _use_student_as_teacher(cfg: DictConfig) -> None:
    """Replace the teacher's net by the student's, to be trained on labels."""
    net = {key: OmegaConf.to_container(cfg.student[key], resolve=True) for key in ("net", "taps")}
    kept = {key: cfg.teacher[key] for key in _KEPT if key in cfg.teacher}
    cfg.teacher = {"name": cfg.student.name, **net, **kept, **dict.fromkeys(_NO_CHECKPOINT)}
