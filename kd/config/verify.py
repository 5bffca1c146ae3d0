"""Verification of a run's record, which may come from a stranger, before Hydra composes it.

What the user repeats on the command line is his own, and is not checked.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from kd.config.own_names import OwnNames
from kd.config.targets import Place, slot_of
from kd.io.regular_files import real_path

# Optimizers of torch beside those that conf/ names: their constructors take numbers only.
# https://docs.pytorch.org/docs/stable/optim.html#algorithms
_OPTIMIZERS = frozenset(
    f"torch.optim.{name}"
    for name in (
        *("Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "ASGD", "LBFGS", "Muon"),
        *("NAdam", "RAdam", "RMSprop", "Rprop", "SGD", "SparseAdam"),
    )
)
# Where the classes and functions of a slot are defined, as far as they are those of `_LIBRARIES`.
# A function, such as one that builds a net, shows what it is only when it has been called.
_LIBRARIES = ("kd.", "lightning.", "torch.")
_HOMES: dict[str, tuple[str, ...]] = {
    "data": ("kd.data.",),
    "data.view": ("kd.data.views.",),
    "data.second": ("kd.data.strong.", "kd.data.views."),
    "data.augment": ("kd.data.augment.",),
    "student.net": ("kd.models.",),
    "teacher.net": ("kd.models.",),
    "callbacks.*": ("kd.callbacks.", "lightning.pytorch.callbacks."),
    "logger.*": ("kd.callbacks.", "lightning.pytorch.loggers."),
    "method.objectives.*": ("kd.objectives.",),
    "method.schedules.*": ("kd.schedules.",),
    "method.weights.*": ("kd.schedules.",),
    "method.stages.*.weights.*": ("kd.schedules.",),
    "method.distiller": ("kd.distillers.",),
    "mode.distiller": ("kd.distillers.",),
    "optimizer": ("torch.optim.", "kd.optimizers."),
    "scheduler": ("kd.schedules.",),
    "trainer": ("lightning.Trainer",),
}
# Arguments of lightning.Trainer that neither build, write nor send anything. `profiler`, `plugins`
# and `model_registry` do.
_TRAINER = frozenset(
    """
    accelerator accumulate_grad_batches benchmark check_val_every_n_epoch detect_anomaly
    deterministic devices enable_checkpointing enable_model_summary enable_progress_bar
    fast_dev_run gradient_clip_algorithm gradient_clip_val inference_mode limit_test_batches
    limit_train_batches limit_val_batches log_every_n_steps max_epochs max_steps max_time
    min_epochs min_steps num_nodes num_sanity_val_steps overfit_batches precision strategy
    sync_batchnorm use_distributed_sampler val_check_interval
    """.split()  # noqa: SIM905
)
# Arguments by which data, nets and loggers read or write files.
_FILES = frozenset(
    """
    cache_dir checkpoint_path default_root_dir dirpath log_dir pretrained_cfg
    pretrained_cfg_overlay pretrained_backbone root_dir save_dir weights_backbone
    """.split()  # noqa: SIM905
)
_RUN = "${paths.run}"  # where the loggers of conf/ write
_READ = {("teacher", "checkpoint"), ("student", "checkpoint"), ("resume",), ("paths", "chain")}
# Local files that are read as data: images, texts, a tokenizer, and weights as safetensors
_SOURCES: set[Place] = {("data", "root"), ("data", "tokenizer")}
_SOURCES |= {(role, "net", "path") for role in ("student", "teacher")}
_NO_FOLDER = "there is no such folder"
_COLUMNS = {("data", "text_column"), ("data", "label_column")}
# The stage of a chain whose student teaches, or is trained on (`kd.chains.stage`)
_STAGE = re.compile(r"\$\{paths\.chain\}/(?!\.+$)[\w.+-]+")
# Subfolders of `paths.output` that hold runs
_OUTPUT = {"runs", "sweeps", "chains", "searches", "teachers"}
# No separator of paths, no interpolation; `fc:in`, `00:12:00:00` and `bf16-mixed` are words.
_WORD = re.compile(r"(?!\.+$)[\w.:+-]*")
# Parts that every run's config has, with those that hold a slot
_MAPPINGS = {
    *((part,) for part in ("checkpoint", "method", "optimizer", "paths", "scheduler")),
    *((*above, "trainer") for above in ((), ("teacher", "training"))),
    *(tuple(slot.split(".")[:-1]) for slot in _HOMES if slot.count(".") == 1),
    *(("method", part) for part in ("objectives", "weights")),
    ("teacher", "training"),
    ("teacher", "cache"),
}
OUTSIDE = "the run's folder is not in it"  # reason to refuse a folder of outputs
_TYPEABLE = re.compile(r"[A-Za-z_]\w*")


class Refusal(NamedTuple):
    """A value that the record of a run may not have.

    Attributes:
        place: keys and positions from the root.
        value: as recorded.
        reason: for the user.
    """

    place: Place
    value: Any
    reason: str

    @property
    def typed(self) -> str | None:
        """The override that repeats the value; None if none can."""
        if not all(_TYPEABLE.fullmatch(key) for key in self.place):
            return None
        if isinstance(self.value, str) and self.value.isprintable() and "${" not in self.value:
            plain = re.fullmatch(r"[\w./:+-]+", self.value)
            quoted = self.value.replace("\\", "\\\\").replace("'", "\\'")
            text = self.value if plain else f"'{quoted}'"
        elif isinstance(self.value, bool | int | float | None):
            text = "null" if self.value is None else str(self.value).lower()
        else:
            return None
        return f"{'.'.join(self.place)}={text}"

    def __str__(self) -> str:
        text = f"{'.'.join(self.place)}={self.value}"
        shown = text if text.isprintable() else ascii(text)[1:-1]
        return f"{shown:.200}: {self.reason}"


class Verified(NamedTuple):
    """A record without what it may not have.

    Attributes:
        content: plain; `???`, which only an override can replace, where the user gives a value.
        refusals: all others.
    """

    content: Any
    refusals: list[Refusal]


def verify(
    content: Any, folder: Path, own: OwnNames, given: Mapping[str, str], place: Place = ()
) -> Verified:
    """Check a record, and take out what the user's own overrides replace.

    Args:
        content: plain and unresolved.
        folder: the run's folder.
        own: texts of the user's YAML files.
        given: keys of the user's overrides with their values; `~` of those that delete.
        place: of the content.
    """
    refusals = [Refusal(place, content, reason) for reason in _reasons(content, place, folder, own)]
    checked = content
    if isinstance(content, dict):
        parts = {k: verify(v, folder, own, given, (*place, str(k))) for k, v in content.items()}
        checked = {k: part.content for k, part in parts.items()}
        refusals += [refusal for part in parts.values() for refusal in part.refusals]
    elif isinstance(content, list):
        items = [verify(v, folder, own, given, (*place, str(n))) for n, v in enumerate(content)]
        checked = [item.content for item in items]
        refusals += [refusal for item in items for refusal in item.refusals]
    override = given.get(".".join(place))
    # A mapping as the value of an override changes some keys and keeps the others.
    if not refusals or override is None or override.startswith("{"):
        return Verified(checked, refusals)
    return Verified({} if override == "~" else "???", [])


def _reasons(value: Any, place: Place, folder: Path, own: OwnNames) -> Iterator[str]:
    """Find what is wrong with one value, without those inside it."""
    key, slot = place[-1] if place else "", slot_of(place[:-1])
    if isinstance(value, dict) and not all(map(_is_name, value)):
        yield "has keys that are no names"
    elif place in _MAPPINGS and not isinstance(value, dict):
        yield "should be a mapping"
    elif not isinstance(value, dict | list | str | bool | int | float | None):
        yield "is no plain value"
    elif key == "_target_":
        if slot is None:
            yield "nothing of a run is built there"
        elif not _is_known(value, slot, own):
            yield "neither conf/ nor a --config-dir names it"
    elif re.fullmatch("_.*_", key):
        yield "changes how a class is called"
    elif slot is not None and slot.endswith("trainer") and key not in _TRAINER:
        yield "not every argument of a Trainer is taken from a record"
    elif slot is not None and key in _FILES and not _is_own_file(slot, key, value, own):
        yield "names a file or folder"
    elif isinstance(value, str):
        yield from _text_reasons(value, place, folder, own)


def _text_reasons(text: str, place: Place, folder: Path, own: OwnNames) -> Iterator[str]:
    if text in own.texts or place == ("paths", "run"):  # a resumed run has its own folder
        return
    read = place in _READ or place[:2] == ("teacher", "checkpoints")
    if "${" in text:
        if not (read and _STAGE.fullmatch(text)):
            yield "conf/ has no such interpolation"
    elif read:
        return
    elif place[0] == "paths":
        if not _is_output(Path(text), folder):
            yield OUTSIDE
    elif place in _SOURCES:
        if not Path(text).expanduser().exists():
            yield "there is no such file or folder" if place[-1] != "root" else _NO_FOLDER
    elif place in _COLUMNS:
        return
    elif not _is_word(text):
        yield "is neither a word nor a text in conf/"


def _is_own_file(slot: str, key: str, value: Any, own: OwnNames) -> bool:
    """Whether a value is the one that conf/ has for the run's folder or the folder of caches."""
    cache = (slot, key) == ("data", "cache_dir") and value in own.texts
    return cache or (slot, value) == ("logger.*", _RUN)


def _is_word(text: Any) -> bool:
    return isinstance(text, str) and _WORD.fullmatch(text) is not None


def _is_name(key: Any) -> bool:
    return isinstance(key, str) and re.fullmatch(r"[\w+-]+", key) is not None


def _is_known(target: Any, slot: str, own: OwnNames) -> bool:
    if not isinstance(target, str) or "${" in target:
        return False
    homes = _HOMES[slot.removeprefix("teacher.training.")]
    if target.startswith(_LIBRARIES) and not target.startswith(homes):
        return False
    return target in own.targets or (slot.endswith("optimizer") and target in _OPTIMIZERS)


def _is_output(path: Path, folder: Path) -> bool:
    """Whether a path is the output root in which a run lies, or directly below it.

    A record could otherwise have teachers and caches written anywhere.
    """
    path, folder = real_path(path.expanduser()), real_path(folder)
    roots = (root for root in (path, path.parent) if folder.is_relative_to(root))
    return any(folder.relative_to(root).parts[0] in _OUTPUT for root in roots if folder != root)
