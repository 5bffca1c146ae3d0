"""Progress bar of the training, and of the computation of teacher outputs."""

from typing import Any

from lightning.pytorch.callbacks import RichProgressBar


class ProgressBar(RichProgressBar):
    """Lightning's rich progress bar, with a second bar while teacher outputs are computed.

    It leaves out the logger's version, which is a folder name here.
    """

    _teacher_task: Any = None

    def get_metrics(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        metrics: dict[str, Any] = super().get_metrics(*args, **kwargs)
        metrics.pop("v_num", None)
        return metrics

    def on_teacher_progress(self, done: int, total: int) -> None:
        """Show how many of the missing teacher outputs are computed.

        Args:
            done: images processed.
            total: images to process; the bar disappears when `done` reaches it.
        """
        if self.is_disabled or self.progress is None:
            return
        if self._teacher_task is None:
            self._teacher_task = self.progress.add_task("teacher outputs", total=total)
        if done < total:
            self.progress.update(self._teacher_task, completed=done)
        else:
            self.progress.remove_task(self._teacher_task)
            self._teacher_task = None
        self.refresh()
