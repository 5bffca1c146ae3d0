"""What watches a run, keeps what others need of it, and ends it where it went wrong."""

from typing import Any

from lightning.pytorch.callbacks import RichProgressBar


class ProgressBar(RichProgressBar):
    """Lightning's rich progress bar without the logger's version, which is a folder name here.

    While the teacher answers in advance, a second bar shows how far it is.
    """

    _teacher_task: Any = None

    def get_metrics(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        metrics: dict[str, Any] = super().get_metrics(*args, **kwargs)
        metrics.pop("v_num", None)
        return metrics

    def on_teacher_progress(self, done: int, wanted: int) -> None:
        """Show how many images the teacher has answered in advance, and how many it has to."""
        if self.is_disabled or self.progress is None:
            return
        if self._teacher_task is None:
            self._teacher_task = self.progress.add_task("teacher outputs", total=wanted)
        if done < wanted:
            self.progress.update(self._teacher_task, completed=done)
        else:
            self.progress.remove_task(self._teacher_task)
            self._teacher_task = None
        self.refresh()
