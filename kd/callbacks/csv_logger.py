"""A CSV logger that continues the file of a resumed run."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.core.saving import save_hparams_to_yaml
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor

from kd.io.atomic import write_atomic
from kd.io.run_folder import RunFolder


class MetricsTable:
    """Rows of metrics by step, in memory and in one CSV file that is replaced as a whole.

    Has the methods that `CSVLogger` calls on its `experiment`. Lightning's `ExperimentWriter`
    deletes an existing file and appends to it, so a killed process may leave half a row.

    Args:
        folder: of `metrics.csv` and `hparams.yaml`; an existing file is continued.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / RunFolder(folder).metrics.name
        self.metrics: list[dict[str, Any]] = self._read()
        self.hparams: dict[str, Any] = {}
        self._changed = False  # since the file was written

    def _read(self) -> list[dict[str, Any]]:
        """Return the rows on disk; [] if there is no file, or none that can be read."""
        try:
            with self.path.open(newline="") as file:
                rows = [row for row in csv.DictReader(file) if (row.get("step") or "").isdigit()]
        except (OSError, ValueError, csv.Error):
            return []
        # A row that is longer than the header has its surplus under the key None.
        return [{k: v for k, v in row.items() if k is not None} for row in rows]

    def log_metrics(self, metrics: Mapping[str, float | Tensor], step: int) -> None:
        """Append a row, unless it repeats the last one."""
        row = {k: v.item() if isinstance(v, Tensor) else v for k, v in metrics.items()}
        row["step"] = step
        if self.metrics and self.metrics[-1] == row:
            return  # of an epoch that is logged before its checkpoint is saved
        self.metrics.append(row)
        self._changed = True

    def log_hparams(self, params: dict[str, Any]) -> None:
        """Write hyperparameters to `hparams.yaml`."""
        self.hparams |= params
        self.folder.mkdir(parents=True, exist_ok=True)
        save_hparams_to_yaml(self.folder / "hparams.yaml", self.hparams)

    def save(self) -> None:
        """Write all rows, if any changed; columns are sorted by name."""
        if not self._changed:
            return
        columns = sorted(set().union(*self.metrics))
        text = io.StringIO(newline="")
        table = csv.DictWriter(text, columns)
        table.writeheader()
        table.writerows(self.metrics)
        write_atomic(self.path, text.getvalue().encode())
        self._changed = False

    def truncate(self, step: int) -> None:
        """Remove the rows of `step` and later."""
        self.metrics = [row for row in self.metrics if int(row["step"]) < step]
        self._changed = True


class ResumableCSVLogger(CSVLogger):
    """Lightning's `CSVLogger` with a `MetricsTable`: a resumed run continues its `metrics.csv`."""

    _table: MetricsTable | None = None

    @property
    def experiment(self) -> MetricsTable:
        if self._table is None:
            self._table = MetricsTable(Path(self.log_dir))
        return self._table

    @rank_zero_only
    def truncate(self, step: int) -> None:
        """Remove what an interrupted run logged at `step` or later: it is logged again."""
        self.experiment.truncate(step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self.save()
