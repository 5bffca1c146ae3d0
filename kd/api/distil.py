"""Distillation as a function call: `kd.distil`."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from lightning import LightningDataModule
from omegaconf import DictConfig, open_dict
from torch import nn

from kd.api.settings import compose_config
from kd.build.given import GivenParts, describe_net
from kd.build.method import Method
from kd.data.adapt import adapt
from kd.data.base import DataModule
from kd.deploy.load import load
from kd.deploy.student import Student
from kd.distillers.stages import Plan, Stage
from kd.errors import UserError
from kd.io.run_folder import RunFolder
from kd.io.task_figures import task_figure
from kd.objectives.base import Objective
from kd.training.run import run

# A DataLoader or Dataset for each of train, val and test
Splits = Sequence[Any] | Mapping[str, Any]
Objectives = Mapping[str, tuple[Objective, float]]
# Keywords about data that are given as loaders or data sets
_DEFAULT = "default"  # what the config has for the data
_DATA_FACTS = {"num_classes", "class_names", "mean", "std"}


class Distilled(Mapping[str, Any]):
    """The result of a run: the keys of result.json, and the student beside them.

    Attributes:
        folder: the run folder.
    """

    def __init__(self, result: Mapping[str, Any], folder: Path, net: nn.Module | None) -> None:
        self._result, self.folder = dict(result), folder
        # Loaded at once: the caller may delete the folder, a temporary one for instance.
        self._student: Student | UserError
        try:
            self._student = load(RunFolder(folder).weights, net=net)
        except UserError as error:  # the figures of the finished run are returned all the same
            self._student = error

    @property
    def student(self) -> Student:
        """The student in eval mode, with the weights that validation selected.

        Raises:
            UserError: the method changes the student (SimKD), so that `kd.load` needs a net.
        """
        if isinstance(self._student, UserError):
            raise self._student
        return self._student

    def __getitem__(self, key: str) -> Any:
        return self._result[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._result)

    def __len__(self) -> int:
        return len(self._result)

    def __repr__(self) -> str:
        key = task_figure(self._result).test
        return f"Distilled({key}={self._result.get(key)}, folder={str(self.folder)!r})"


def distil(
    student: str | nn.Module = _DEFAULT,
    teacher: str | nn.Module | None = _DEFAULT,
    data: str | LightningDataModule | Splits = "digits",
    method: str | Objectives = _DEFAULT,
    *,
    mode: str = "offline",
    optimizer: str | None = None,
    folder: str | Path | None = None,
    student_taps: Mapping[str, str] | None = None,
    teacher_taps: Mapping[str, str] | None = None,
    overrides: Sequence[str] = (),
    **settings: Any,
) -> Distilled:
    """Train a student under a teacher, as `python -m kd.train` does.

    Args:
        student: a module, which is trained in place, or the name of a model; "default" is the one
            of the data, as for `teacher` and `method`: resnet8, resnet20 and kd for images.
        teacher: a trained module, which is frozen; the name of a model, which is loaded from the
            registry or trained first; None for methods and modes that need none.
        data: the name of a data set, any `LightningDataModule`, or `(train, val, test)`, each a
            `DataLoader` or `Dataset` of (input, target). Inputs are floats [B, C, H, W] as the nets
            take them, or uint8; targets are class numbers [B].
        method: a name, or objectives by name, each with its weight:
            `{"hard": (CrossEntropy(), 0.5), "soft": (SoftTargets(temperature=4), 0.5)}`.
        mode: source of the teacher outputs: `offline`, `online`, `pskd`, …
        optimizer: `sgd`, `adam`, `adamw`, `dot` or `deepkd`; None: that of the data's recipe.
        folder: the run folder; None: a new one below `outputs/runs`.
        student_taps: canonical name -> module path of a student that is a module:
            `{"stage1": "layer1", "embedding": "fc:in"}`; methods on features read them.
        teacher_taps: the same for the teacher.
        overrides: further settings as on the command line: `["scheduler=step", "data.views=4"]`.
        **settings: `max_epochs`, `lr`, `batch_size`, `seed`, `accelerator`, `precision`,
            `progress_bar`; the settings of the method, such as `temperature` and `alpha`; and of
            data that are not given by name, `num_classes`, `class_names`, `mean` and `std` (as
            `kd.data.external.ExternalData`), which are recorded with the student.

    Returns:
        The mapping of result.json, with `.student` and `.folder`.

    Raises:
        UserError: an unknown name, a setting out of its range, nets or data that do not fit.

    Example:
        >>> import kd
        >>> result = kd.distil("lightnn", "deepnn", "digits", max_epochs=30)  # doctest: +SKIP
        >>> result["test/acc"], result.student  # doctest: +SKIP
        >>> kd.distil(student=3)
        Traceback (most recent call last):
        kd.errors.UserError: student must be a module or the name of a model, got int
    """
    for role, net in {"student": student, "teacher": teacher}.items():
        if not isinstance(net, str | nn.Module | None) or (role, net) == ("student", None):
            kind = type(net).__name__
            raise UserError(f"{role} must be a module or the name of a model, got {kind}")
    facts = {key: settings.pop(key) for key in _DATA_FACTS & settings.keys()}
    _check_facts(data, facts)
    options = [
        *_option("student", student),
        *_option("teacher", "none" if teacher is None else teacher),
        *_option("method", method),
        *_option("data", data),
        f"mode={mode}",
        *([] if optimizer is None else [f"optimizer={optimizer}"]),
    ]
    cfg = compose_config([*options, *overrides], settings)
    cfg.paths.run = str(folder or _new_folder(cfg))
    with open_dict(cfg):
        _describe(cfg, "student", student, student_taps)
        _describe(cfg, "teacher", teacher, teacher_taps)
        if not isinstance(method, str):
            cfg.method.name, cfg.method.objectives, cfg.method.weights = "given", {}, {}
    given = GivenParts(
        data=None if isinstance(data, str) else _given_data(cfg, data, **facts),
        student=student if isinstance(student, nn.Module) else None,
        teacher=teacher if isinstance(teacher, nn.Module) else None,
        method=None if isinstance(method, str) else _method(method),
    )
    path = Path(cfg.paths.run)
    result = run(cfg, path, given)
    return Distilled(result, path, given.student)


def _option(group: str, value: object) -> list[str]:
    """The override that selects a named part; a given part keeps the group's default."""
    if value == _DEFAULT:
        return []
    if isinstance(value, str):
        return [f"{group}={value}"]
    return ["data=external", "data._target_=given"] if group == "data" else []


def _describe(
    cfg: DictConfig, role: str, net: str | nn.Module | None, taps: Mapping[str, str] | None
) -> None:
    """Put a given net's description in the place of a model's config."""
    if isinstance(net, nn.Module):
        cfg[role].name = type(net).__name__
        cfg[role].net, cfg[role].taps = describe_net(net), dict(taps or {})
    elif taps is not None:
        cfg[role].taps = dict(taps)


def _check_facts(data: object, facts: Mapping[str, Any]) -> None:
    if facts and isinstance(data, str | DataModule):
        name = data if isinstance(data, str) else data.name
        raise UserError(f"{', '.join(sorted(facts))}: data={name} has its own; leave them out")


def _given_data(cfg: DictConfig, data: LightningDataModule | Splits, **facts: Any) -> DataModule:
    # A data module of `kd` keeps its own batch size and seed; null: that of the loader.
    try:
        module = adapt(data, seed=cfg.seed, batch_size=cfg.data.batch_size, **facts)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"data: {error}") from error
    module.prepare_data()
    module.setup()
    # Recorded as a reference, as on the command line: a report then takes runs that differ in the
    # run's seed alone for one row.
    seed = "${seed}" if module.seed == cfg.seed else module.seed
    with open_dict(cfg):
        cfg.data = {"name": module.name, "batch_size": module.batch_size, "seed": seed}
    return module


def _method(objectives: Objectives) -> Method:
    if not isinstance(objectives, Mapping) or not objectives:
        raise UserError("method must be a name, or objectives by name, each with its weight")
    terms = {name: objective for name, (objective, _) in objectives.items()}
    weights = {name: float(weight) for name, (_, weight) in objectives.items()}
    return Method(terms, Plan([Stage("", 1.0, weights)]))


def _new_folder(cfg: DictConfig) -> Path:
    now = datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")
    name = f"{now}_{cfg.data.name}_{cfg.method.name}_{cfg.student.name}_s{cfg.seed}"
    return Path(cfg.paths.output) / "runs" / name
