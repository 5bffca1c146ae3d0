"""Tasks: what a net is trained for. Everything else is the same for all of them."""

from kd.errors import UserError, nearest
from kd.tasks.base import Task
from kd.tasks.detection import Detection
from kd.tasks.image_classification import ImageClassification
from kd.tasks.text_classification import TextClassification

TASKS: dict[str, Task] = {
    task.name: task for task in (ImageClassification(), TextClassification(), Detection())
}


def task_named(name: str) -> Task:
    """Return the task of a name.

    Raises:
        UserError: there is no such task; names the nearest.

    Example:
        >>> task_named("image_classification").selection
        'acc'
    """
    if name not in TASKS:
        raise UserError(f"there is no task {name!r}; {nearest(name, TASKS)}")
    return TASKS[name]
