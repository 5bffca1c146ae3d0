"""What Lightning's loggers lack: a table of curves that a resumed run continues."""

import csv
import io
from pathlib import Path

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter

from kd.io.atomic import write_atomic


class ResumableWriter(ExperimentWriter):
    """Lightning's, which deletes the table that is in its folder; this one continues it."""

    def _check_log_dir_exists(self) -> None:
        self.metrics_keys = list(self.rows()[0]) if self.rows() else []
        if not self.metrics_keys:
            Path(self.metrics_file_path).unlink(missing_ok=True)

    def rows(self) -> list[dict[str, str]]:
        """The table as it is on the disk; empty where there is none, or none that can be read."""
        try:
            with Path(self.metrics_file_path).open(newline="") as file:
                return [row for row in csv.DictReader(file) if (row.get("step") or "").isdigit()]
        except (OSError, ValueError, csv.Error):
            return []

    def cut(self, step: int) -> None:
        """Forget what was logged at `step` or later: it will be logged again."""
        kept = [row for row in self.rows() if int(row["step"]) < step]
        text = io.StringIO(newline="")
        table = csv.DictWriter(text, self.metrics_keys, extrasaction="ignore")
        table.writeheader()
        table.writerows(kept)
        write_atomic(Path(self.metrics_file_path), text.getvalue().encode())


class ResumableCSVLogger(CSVLogger):
    """`metrics.csv` in the run's folder, one row for each time something was logged."""

    _writer: ResumableWriter | None = None

    @property
    def experiment(self) -> ResumableWriter:
        if self._writer is None:
            Path(self.root_dir).mkdir(parents=True, exist_ok=True)
            self._writer = self._experiment = ResumableWriter(log_dir=self.log_dir)
        return self._writer

    @rank_zero_only
    def cut(self, step: int) -> None:
        """Forget what was logged at `step` or later."""
        if self.experiment.rows():
            self.experiment.cut(step)
