"""Paths of the files in a run's folder."""

import re
from dataclasses import dataclass
from pathlib import Path

# Every file that a run writes, as a path within its folder. TensorBoard's event files end in host
# and process.
_FILES = re.compile(
    r"""
      \.hydra/(config|overrides|hydra)\.yaml
    | checkpoints/(last|best)\.ckpt
    | csv/(metrics\.csv|hparams\.yaml)
    | epochs/epoch_\d{4,9}\.safetensors
    | figures/(confusion|dark-knowledge)(-dark)?\.(png|svg)
    | evaluation(/figures)? | evaluation/evaluation\.(json|md|html)
    | evaluation/figures/(reliability|confusion|confusion-difference|corruption)(-dark)?\.(png|svg)
    | (student|teacher|ensemble|bank|(peer|branch)\d{1,4}|test_predictions)\.safetensors
    | export/student-(fp32|fp16|int8)\.(onnx|pt2|pte|xml|bin|safetensors)(\.json|\.md)?
    | compression\.(json|md)
    | result\.json | hparams\.yaml | events\.out\.tfevents\.\d+\.[^/]+
    | (kd-)?(train|chain|search)\.log | \.lock | basis\.txt
    """,
    re.VERBOSE,
)
_FOLDERS = (".hydra", "checkpoints", "csv", "epochs", "export", "figures")
_EPOCH = re.compile(r"epoch_(\d{4,9})\.safetensors")


@dataclass(frozen=True)
class RunFolder:
    """Names every file that a run writes; no other module spells these names out.

    The properties build paths only: they neither create nor read anything.

    Args:
        root: the run's folder, `paths.run` of its config.

    Example:
        >>> folder = RunFolder(Path("outputs/runs/a"))
        >>> folder.last.as_posix()
        'outputs/runs/a/checkpoints/last.ckpt'
        >>> folder.epoch(3).name
        'epoch_0003.safetensors'
    """

    root: Path

    @property
    def config(self) -> Path:
        """The composed config, unresolved; Hydra's name for it."""
        return self.root / ".hydra" / "config.yaml"

    @property
    def overrides(self) -> Path:
        """The overrides of the command line; Hydra's name for them."""
        return self.root / ".hydra" / "overrides.yaml"

    @property
    def result(self) -> Path:
        """Figures and status of the run, see `kd.io.result_file`."""
        return self.root / "result.json"

    @property
    def weights(self) -> Path:
        """The student's state dict, of the epoch that validation selected."""
        return self.weights_of("student")

    def weights_of(self, net: str) -> Path:
        """The state dict of `student`, or of a net trained beside it."""
        return self.root / f"{net}.safetensors"

    @property
    def test_predictions(self) -> Path:
        """Labels and predictions of the test set, of a classifier; see `kd.io.predictions`."""
        return self.root / "test_predictions.safetensors"

    @property
    def checkpoints(self) -> Path:
        """The folder of Lightning checkpoints: `last` and `best`."""
        return self.root / "checkpoints"

    @property
    def last(self) -> Path:
        """The most recent checkpoint, from which the run resumes."""
        return self.checkpoints / "last.ckpt"

    @property
    def best(self) -> Path:
        """The checkpoint of the epoch that validation selected."""
        return self.checkpoints / "best.ckpt"

    @property
    def epochs(self) -> Path:
        """The folder of the student's weights after every epoch, with `keep_epochs=true`."""
        return self.root / "epochs"

    def epoch(self, number: int) -> Path:
        """The student's weights after epoch `number`, which counts from 1."""
        return self.epochs / f"epoch_{number:04d}.safetensors"

    def saved_epochs(self) -> list[int]:
        """The numbers of the epochs whose weights exist, in ascending order."""
        found = map(_EPOCH.fullmatch, (path.name for path in self.epochs.glob("epoch_*")))
        return sorted(int(match[1]) for match in found if match)

    @property
    def metrics(self) -> Path:
        """The curves of training, written by the CSV logger (`conf/logger/csv.yaml`)."""
        return self.root / "csv" / "metrics.csv"

    @property
    def figures(self) -> Path:
        """The folder of figures, with `figures=true`."""
        return self.root / "figures"

    @property
    def basis(self) -> Path:
        """In a stage of a chain: hash of the weights of the stage before, from which it started."""
        return self.root / "basis.txt"

    @property
    def lock(self) -> Path:
        """The lock of the process that writes to the folder."""
        return self.root / ".lock"

    def is_own(self, path: Path) -> bool:
        """Return whether a run writes a file, or makes a folder, of this path.

        Example:
            >>> folder = RunFolder(Path("a"))
            >>> folder.is_own(Path("a/checkpoints/last.ckpt")), folder.is_own(Path("a/notes.txt"))
            (True, False)
        """
        name = path.relative_to(self.root).as_posix()
        return name in _FOLDERS or _FILES.fullmatch(name) is not None

    def folders(self) -> list[Path]:
        """The folders that a run makes in its own."""
        return [self.root / name for name in _FOLDERS]
