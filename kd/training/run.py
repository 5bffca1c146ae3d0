"""One run from its config to result.json; a teacher's own training is such a run as well."""

from collections.abc import Sequence
from pathlib import Path

from lightning import Callback
from omegaconf import DictConfig

from kd.build.data import data_task
from kd.build.given import GivenParts
from kd.build.precision import choose_precision
from kd.build.trainer import build_trainer
from kd.config.identity import settings
from kd.io.result_file import Result
from kd.tasks import task_named
from kd.training.control_teachers import use_control
from kd.training.controls import apply_control
from kd.training.devices import check_devices, locked_folder
from kd.training.dry_run import try_build
from kd.training.evaluate import RunParts, evaluate
from kd.training.fit import fit
from kd.training.identify import identify, recipe_of
from kd.training.lightning_messages import quiet_lightning
from kd.training.resume import find_checkpoint
from kd.training.run_data import load_data
from kd.training.status import RunStatus
from kd.training.student import build_student, check_start
from kd.training.teacher import acquire, check_teacher
from kd.validation.check import check_config

NOTHING_GIVEN = GivenParts()


def run(
    cfg: DictConfig,
    folder: Path,
    given: GivenParts = NOTHING_GIVEN,
    callbacks: Sequence[Callback] = (),
    test: bool = True,
    overrides: Sequence[str] | None = None,
) -> Result:
    """Distil one student and write `folder/result.json`, also if the run fails.

    Hydra need not be initialised: a config composed or merged by hand will do.

    Args:
        cfg: the composed config.
        folder: the run's folder.
        given: parts that the caller has built; the others are built from the config.
        callbacks: for the student's training, in addition to the configured ones.
        test: False: the test set is not used, and the status is `untested`.
        overrides: of the command line, which are recorded; None for a run that is part of another.

    Returns:
        What result.json holds; its keys are declared in `kd.io.result_file`.

    Raises:
        UserError: a mistake in the config or the files, a diverging loss, or a folder that another
            process uses.
        SystemExit: interrupted, with code 130 (Ctrl-C) or 143 (SIGTERM).
    """
    choose_precision(cfg)  # before the config is hashed and recorded
    apply_control(cfg)  # likewise
    with quiet_lightning(), locked_folder(folder), RunStatus(cfg, folder, overrides) as status:
        checked = check_config(cfg, given)
        resumed = find_checkpoint(cfg, folder)
        status.accept(task_named(given.data.task) if given.data is not None else data_task(cfg))
        trainer = build_trainer(cfg, folder, settings(cfg), callbacks)
        check_devices(cfg, trainer, checked.method)
        check_start(cfg)
        check_teacher(checked, given.teacher)
        data = load_data(checked, trainer, given.data)
        try_build(checked, data, given)
        device = trainer.strategy.root_device
        acquired = acquire(checked, data, device, run, given.teacher)
        acquired = use_control(cfg, data, checked.method, acquired, device)
        distiller = build_student(checked, data, acquired, given.student)
        identity = identify(cfg, data, acquired, distiller.student, given, resumed)
        status.begin(identity, recipe_of(cfg, data, identity, acquired), acquired)
        fit(trainer, distiller, data, identity, resumed)
        parts = RunParts(data, trainer, distiller, acquired, given)
        status.complete(evaluate(cfg, folder, parts, test), test)
    return status.result
