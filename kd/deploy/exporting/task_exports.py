"""The exporter of each task, by its name."""

from kd.deploy.exporting.box_export import BoxExport
from kd.deploy.exporting.image_export import ImageExport
from kd.deploy.exporting.task_export import TaskExport
from kd.deploy.exporting.text_export import TextExport
from kd.deploy.finished_run import FinishedRun
from kd.errors import UserError
from kd.io.task_figures import task_of

EXPORTS: dict[str, TaskExport] = {
    "image_classification": ImageExport(),
    "text_classification": TextExport(),
    "detection": BoxExport(),
}


def export_of(run: FinishedRun) -> TaskExport:
    """Return how the student of a run becomes a file.

    Raises:
        UserError: students of its task do not.
    """
    task = task_of(run.result)
    if task not in EXPORTS:
        raise UserError(
            f"run={run.folder}: students of the task {task} are not exported; those of "
            f"{', '.join(EXPORTS)} are"
        )
    return EXPORTS[task]
