"""A checkpoint that was opened: its tensors, and the weights among them that fit a net."""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from kd.errors import UserError
from kd.io.checkpoint.finite import as_weights
from kd.io.checkpoint.match import COUNTER, Leaves, Match, find_matches
from kd.io.checkpoint.misfits import contents, describe
from kd.io.checkpoint.names import shorten
from kd.io.checkpoint.pickles import PickleError
from kd.io.checkpoint.stored import Unreadable
from kd.io.printable import printable

log = logging.getLogger(__name__)

# Names that trainings give to a moving average of the weights
_AVERAGE = re.compile(r"(?:^|[._])(?:ema|swa|shadow|averaged?|avg)(?:[._]|$)")
# The net in kd.distillers.deployed.ChangedStudent; entry of the Lightning checkpoints of its run
_CHANGED = "changed_student"
_PART = re.compile(r"-\d{5}-of-\d{5}\.")  # in the names of Hugging Face
_STUDENT = "state_dict.student."  # prefix in the checkpoints of a run of kd
_RUN = {"identity", "plan"}  # entries of the checkpoints of a run of kd


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of one or several files.

    Attributes:
        path: as the user named it.
        files: that hold the weights.
        leaves: all tensors by path; their values are read when they are needed.
        entries: keys at the top of the file.
        names: classes that the files name, and that were not imported.
        option: the setting that names a path within the checkpoint, for messages.
    """

    path: Path
    files: tuple[Path, ...]
    leaves: Leaves
    entries: frozenset[str]
    names: tuple[str, ...]
    option: str

    def weights(self, wanted: Mapping[str, Tensor], key: str | None = None) -> dict[str, Tensor]:
        """Return the weights that fit a net, by its keys and in its dtypes.

        Args:
            wanted: the net's state dict.
            key: path of the weights in the file, such as `model_ema`; None: the only ones.

        Raises:
            UserError: none fit, several do, or they hold what is no number.
        """
        match = self._choose(self.fitting(wanted, key))
        self._log(match)
        return as_weights(
            {name: self._read(name, match) for name in match.values}, wanted, self.path
        )

    def fitting(self, wanted: Mapping[str, Tensor], key: str | None = None) -> list[Match]:
        """Return all sets of tensors that fit a net, at least one.

        Raises:
            UserError: there is none; lists what is missing, unknown, or of another shape.
        """
        return self._fitting(self.leaves, wanted, key)

    def check_names(self, wanted: Mapping[str, Tensor], key: str | None = None) -> None:
        """Refuse a checkpoint whose names do not fit, whatever its shapes are.

        Args:
            wanted: state dict of the net as it is built for some other data.
            key: as for `weights`.

        Raises:
            UserError: as `fitting`.
        """
        nameless = Unreadable("")
        leaves = {path: leaf._replace(value=nameless) for path, leaf in self.leaves.items()}
        self._fitting(leaves, wanted, key)

    def _fitting(
        self, leaves: Leaves, wanted: Mapping[str, Tensor], key: str | None
    ) -> list[Match]:
        leaves = leaves if key is None else self._below(leaves, key)
        found = find_matches(leaves, wanted)
        if any(self._is_changed(match) for match in found):
            raise UserError(
                f"checkpoint {self.path} is the student of a method that predicts with parts of "
                "its own (SimKD): without the projector and the classifier that the file holds "
                "beside the net, the net's logits mean nothing. Take the teacher of that run, or a "
                "student of another method"
            )
        if not found:
            problems = describe(leaves, wanted)
            if _PART.search(self.path.name):
                problems += "\n  the file is one part of several: name its folder or index file"
            raise UserError(f"checkpoint {self.path} does not fit the net:\n{problems}")
        return found

    def _is_changed(self, match: Match) -> bool:
        """Whether these are the net of a student that predicts with other parts as well."""
        in_state = _CHANGED in self.entries and match.prefix == _STUDENT
        return in_state or f".{match.prefix}".endswith(f".{_CHANGED}.")

    def _below(self, leaves: Leaves, key: str) -> Leaves:
        start = f"{key.rstrip('.')}."
        found = {path: leaf for path, leaf in leaves.items() if path.startswith(start)}
        if not found:
            raise UserError(
                f"{self.option}={key}: {self.path} has no tensors of that name; it holds "
                f"{contents(self.leaves)}"
            )
        return found

    def _choose(self, matches: list[Match]) -> Match:
        """Return the only match, the only one that is no average, or the student of a run."""
        # A net that is an argument of a LightningModule, with the weights that it began with
        trained = [match for match in matches if not match.prefix.startswith("hyper_parameters.")]
        matches = trained or matches
        if all(self._equal(matches[0], other) for other in matches[1:]):
            return matches[0]
        averages = [match for match in matches if _AVERAGE.search(match.prefix.lower())]
        plain = [match for match in matches if match not in averages]
        plain = [match for match in plain if self._is_student(match)] or plain
        if len(plain) != 1:
            choices = [f"{self.option}={_named(match)}" for match in matches]
            raise UserError(
                f"checkpoint {self.path} holds {len(matches)} different sets of weights that fit; "
                f"choose one: {shorten(choices)}"
            )
        if averages:
            log.info(
                "%s: the weights are those of %s; %s=%s takes their moving average",
                *(self.path, _named(plain[0]), self.option, _named(averages[0])),
            )
        return plain[0]

    def _is_student(self, match: Match) -> bool:
        """Whether these are the student's weights in a checkpoint of a run of kd."""
        return match.prefix == _STUDENT and self.entries >= _RUN

    def _equal(self, one: Match, other: Match) -> bool:
        return all(
            torch.equal(self._read(name, one), self._read(name, other))
            for name in one.values.keys() & other.values.keys()
        )

    def _read(self, name: str, match: Match) -> Tensor:
        value, path = match.values[name], printable(match.paths[name])
        if isinstance(value, Unreadable) and "meta_tensor" in value.kind:
            raise UserError(
                f"checkpoint {self.path}: {path} is on the device 'meta', which holds no values; "
                "save the net after its weights have been loaded"
            )
        if isinstance(value, Unreadable):
            raise UserError(
                f"checkpoint {self.path}: {path} is a tensor that only {printable(value.kind)} "
                "rebuilds (quantised, sparse or distributed), and no code that a file names is "
                "run. Save plain tensors: torch.save({k: v.dequantize() for k, v in "
                "net.state_dict().items()}, 'weights.pt'), or with .to_dense() or .full_tensor()"
            )
        try:
            return value.read()
        except (PickleError, OSError, ValueError) as error:
            raise UserError(
                f"checkpoint {self.path} is damaged: {path} cannot be read: {error}"
            ) from None

    def _log(self, match: Match) -> None:
        """Say what was not obvious in finding the weights."""
        taken = set(match.paths.values())
        if match.by == "order":
            (key, path), *_ = match.paths.items()
            log.info(
                "%s: its names differ from the net's, and its %d tensors have the kinds and shapes "
                "of the net's in the same order, so they are matched by order (%s is %s, …)",
                *(self.path, len(taken), printable(path), key),
            )
        mappings = {self.leaves[path].mapping for path in taken}
        rest = [path for path, leaf in self.leaves.items() if leaf.mapping in mappings]
        rest = [path for path in rest if path not in taken and not path.endswith(COUNTER)]
        if rest and not self._is_student(match):
            log.info(
                "%s: %d of its tensors are no part of the net and are left out: %s",
                *(self.path, len(rest), shorten(rest, 3)),
            )


def _named(match: Match) -> str:
    return printable(match.prefix.rstrip(".")) or "(top)"
