"""Keys, types and meanings of a run's result.json, and its reading and writing."""

import math
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from types import UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    TypedDict,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from kd.io.checksums import read_intact, write_json
from kd.io.run_folder import RunFolder

# Raised when a key is renamed or changes its meaning; `upgraded` then converts the old form.
#   1: no `format` key; `teacher/outputs` is called `teacher/answers`.
#   2: `config_hash` is that of the settings alone, paths included; no fingerprints.
FORMAT = 3

Status = Literal["completed", "untested", "pruned", "failed"]

# Accuracies, agreement and calibration error are fractions in [0, 1]. A key is null if it does not
# apply (no teacher, say) and absent if the run ended before its value was known.
Result = TypedDict(
    "Result",
    {
        "format": Annotated[int, "version of this table; files without it have format 1"],
        # What a run is
        "status": Annotated[
            Status,
            "`completed`; `untested` or `pruned` (a trial of `kd.search`, without test figures); "
            "or `failed`, also while the run still trains",
        ],
        "error": Annotated[str, "type and message of the error that ended the run"],
        "method": Annotated[str, "`method.name` of the config"],
        "teacher": Annotated[
            str, "`teacher.name` of the config; `none` if no objective reads a teacher's outputs"
        ],
        "student": Annotated[str, "`student.name` of the config"],
        "data": Annotated[str, "`data.name` of the config"],
        "task": Annotated[
            str,
            "`image_classification`, `text_classification` or `detection`; absent from results of "
            "earlier versions, whose task is image classification",
        ],
        "mode": Annotated[str, "`mode.name` of the config"],
        "seed": Annotated[int, "seed of the student's weights, the order of images and the views"],
        "config_hash": Annotated[
            str,
            "identity of the run: equal for two runs exactly when all that affects numbers is "
            "equal, that is settings, data, teacher's weights, given initial weights and `changes`",
        ],
        "recipe_hash": Annotated[
            str | None,
            "as `config_hash`, but equal for all seeds: a teacher that is a run of kd counts by "
            "its `recipe_hash`; null if the data cannot be recognised",
        ],
        "changes": Annotated[
            list[dict[str, Any]],
            "settings that were changed when the run was resumed: the `epoch` and the `step` from "
            "which they hold, and `settings` with the old and the new value of each",
        ],
        "data/fingerprint": Annotated[
            str | None,
            "hash of the images, labels, class names, split and normalisation; null if the data "
            "cannot be recognised, and then `config_hash` differs from that of all other runs",
        ],
        "data/labels": Annotated[
            bool,
            "false: the training samples had no labels (`data.labels=false`); absent otherwise",
        ],
        "git_commit": Annotated[
            str | None, "commit of the checkout that ran; null outside a git repository"
        ],
        "threads": Annotated[
            int, "CPU threads of torch; their number changes the last bits of sums"
        ],
        "versions": Annotated[dict[str, str], "versions of Python and of the libraries"],
        # The student
        "val/acc": Annotated[float, "student's validation accuracy after the selected epoch"],
        "best_epoch": Annotated[int, "selected epoch, counted from 1; of equal ones, the latest"],
        "test/acc": Annotated[float, "student's test accuracy, with the weights of that epoch"],
        "val/map": Annotated[float, "of a detector, in place of `val/acc`: mAP at IoU 0.5 to 0.95"],
        "test/map": Annotated[float, "of a detector: mAP on the test set at IoU 0.5 to 0.95"],
        "test/map50": Annotated[float, "of a detector: mAP on the test set at IoU 0.5"],
        "test/map_last": Annotated[float, "`test/map` with the weights of the last epoch"],
        "test/nll": Annotated[float, "mean negative log-likelihood of the test labels, in nats"],
        "test/ece": Annotated[
            float, "expected calibration error on the test set, 15 bins of equal width"
        ],
        "test/agreement": Annotated[
            float, "share of test images on which student and teacher predict the same class"
        ],
        "test/acc_last": Annotated[float, "test accuracy with the weights of the last epoch"],
        "test/acc_per_class": Annotated[
            list[float | None] | None,
            "test accuracy by class, in the order of the labels; null for a class without images",
        ],
        "train/images": Annotated[int | None, "training images; null if the loader has no length"],
        "val/images": Annotated[int | None, "validation images that were evaluated"],
        "test/images": Annotated[int | None, "test images that were evaluated"],
        "limited": Annotated[
            list[str],
            "splits of which a part was used, by `trainer.limit_test_batches` or the like",
        ],
        "student/start_hash": Annotated[
            str | None,
            "hash of the student's initial weights, if they were given; null: drawn from the seed",
        ],
        "student/params": Annotated[int, "number of the student's parameters at inference"],
        "epochs": Annotated[int, "epochs trained"],
        "fit_seconds": Annotated[
            float,
            "wall-clock seconds of training and validation, resumed runs included",
        ],
        "images_per_second": Annotated[float, "training images divided by `fit_seconds`"],
        # The teacher, or the ensemble
        "teacher/test/acc": Annotated[float | None, "teacher's test accuracy"],
        "teacher/test/map": Annotated[float | None, "of a detector: teacher's `test/map`"],
        "teacher/test/map50": Annotated[float | None, "of a detector: teacher's `test/map50`"],
        "teacher/test/acc_per_class": Annotated[
            list[float | None] | None,
            "teacher's test accuracy by class, in the order of the labels",
        ],
        "teacher/classes": Annotated[
            list[int] | None,
            "the teacher's class of each of the data's (`teacher.classes`); null if it has others, "
            "and the student learns from its features; absent if the two have the same classes",
        ],
        "teacher/num_classes": Annotated[
            int, "number of the teacher's classes; absent as `teacher/classes`"
        ],
        "teacher/update": Annotated[
            list[str], "parts of the teacher that trained along (`teacher.update`); else absent"
        ],
        "teacher/update_loss": Annotated[
            str | None, "the loss that reached them; null: they are no parameters, but statistics"
        ],
        "teacher/test/acc_updated": Annotated[
            float | None,
            "teacher's test accuracy after the selected epoch, with the parts that trained along; "
            "`teacher/test/acc` is that of the teacher before, `test/agreement` that with it after",
        ],
        "teacher/params": Annotated[int | None, "number of the teacher's parameters"],
        "compression": Annotated[float | None, "teacher's number of parameters over the student's"],
        "teacher/source": Annotated[
            str | None,
            "origin of the teacher's weights: `checkpoint`, `reused` (from `outputs/teachers`), "
            "`trained now`, `given` (as a module) or `untrained` (`control=untrained`); of an "
            "ensemble, one for each member",
        ],
        "teacher/weights_hash": Annotated[
            str | list[str] | None, "hash of the teacher's weights; of an ensemble, one a member"
        ],
        "teacher/recipe_hash": Annotated[
            str | list[str | None] | None,
            "`recipe_hash` of the run that trained the teacher; null for weights of other origin",
        ],
        "teacher/seconds": Annotated[
            float | None, "seconds that training the teacher took within this run; 0 if not trained"
        ],
        "teacher/outputs": Annotated[
            Literal["live", "cached"] | None,
            "`cached`: read from the cache of teacher outputs; `live`: computed for every batch",
        ],
        "teacher/cache_seconds": Annotated[
            float | None, "seconds that computing outputs for the cache took; part of `fit_seconds`"
        ],
        "teacher_forwards": Annotated[
            int, "images on which the teacher ran in this run, the test set included"
        ],
        "teacher/members": Annotated[list[str], "members of an ensemble teacher"],
        "teacher/members/test/acc": Annotated[list[float], "their test accuracies, in that order"],
        "checksum": Annotated[str, "CRC-32 of all other keys, see `kd.io.checksums`"],
    },
    total=False,
)

# Keys whose names depend on the mode; PEER is `peer1`, `branch1` or `ensemble`, EXIT is `exit1` …
# or `ema`.
MODE_KEYS: dict[str, Any] = {
    "PEER/net": Annotated[str, "architecture of a net that is trained with the student"],
    "PEER/params": Annotated[int, "number of its parameters at inference"],
    "PEER/val/acc": Annotated[float, "its validation accuracy after the student's selected epoch"],
    "PEER/test/acc": Annotated[float, "its test accuracy with the weights of that epoch"],
    "PEER/test/nll": Annotated[float, "its negative log-likelihood, as `test/nll`"],
    "PEER/test/ece": Annotated[float, "its calibration error, as `test/ece`"],
    "PEER/test/acc_last": Annotated[float, "its test accuracy with the weights of the last epoch"],
    "test/EXIT/acc": Annotated[
        float, "test accuracy of an early exit, or of the moving average of the student's weights"
    ],
    "test/EXIT/acc_last": Annotated[float, "the same with the weights of the last epoch"],
}


def declared_keys() -> dict[str, tuple[Any, str]]:
    """Type and meaning of every key by name, with PEER and EXIT in names that a mode chooses."""
    hints = get_type_hints(Result, include_extras=True) | MODE_KEYS
    return {key: (get_args(hint)[0], get_args(hint)[1]) for key, hint in hints.items()}


def declaration(key: str) -> tuple[Any, str] | None:
    """Type and meaning of one key of a result.json; None for an unknown key.

    Example:
        >>> declaration("peer1/test/acc")
        (<class 'float'>, 'its test accuracy with the weights of that epoch')
    """
    keys = declared_keys()
    if key in keys:
        return keys[key]
    patterns = {name: name.replace("PEER", "*").replace("EXIT", "*") for name in MODE_KEYS}
    found = [name for name, pattern in patterns.items() if fnmatchcase(key, pattern)]
    return keys[found[0]] if found else None


def mistyped(content: Mapping[str, Any]) -> str | None:
    """Describe the first value of another type than its key is declared with; None if all fit.

    A number is finite, but for a likelihood, which an overconfident student makes infinite; a
    likelihood that is NaN is that of logits that are NaN.

    Example:
        >>> mistyped({"val/acc": "high"})
        "val/acc='high' is not of type float"
    """
    for key, value in content.items():
        declared = declaration(key)
        finite = not key.endswith(("/nll", "/nll_last"))
        if declared is not None and not _fits(value, declared[0], finite):
            if isinstance(value, float) and math.isnan(value):
                return f"{key} is not a number (NaN), as after training that diverged"
            name = getattr(declared[0], "__name__", None) or str(declared[0])
            return f"{key}={value!r:.60} is not of type {name}"
    return None


def _fits(value: Any, kind: Any, finite: bool) -> bool:
    parts = get_args(kind)
    if kind is Any:
        return True
    if get_origin(kind) in (Union, UnionType):
        return any(_fits(value, part, finite) for part in parts)
    if get_origin(kind) is Literal:
        return value in parts
    if get_origin(kind) is list:
        return isinstance(value, list) and all(_fits(each, parts[0], finite) for each in value)
    if get_origin(kind) is dict:
        return isinstance(value, dict) and all(
            _fits(each, parts[1], finite) for each in value.values()
        )
    if kind is float:  # JSON writes 1.0 of other tools as 1
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and (math.isfinite(value) or (not finite and not math.isnan(value)))
    return type(value) is kind


def markdown_table() -> str:
    """The keys as a Markdown table, for the README."""
    rows = [f"| `{key}` | {meaning} |" for key, (_, meaning) in declared_keys().items()]
    return "\n".join(["| key | meaning |", "|---|---|", *rows])


def write_result(folder: Path, result: Result) -> None:
    """Write a run's result, in the current format.

    Raises:
        OSError: the file cannot be written.
    """
    content = {"format": FORMAT, **result}
    content["format"] = FORMAT  # also of a result that was read in an older format
    write_json(RunFolder(folder).result, content)


def read_result(folder: Path) -> Result | None:
    """Read a run's result of any format; None for a run without one, or with a damaged one."""
    content = read_intact(RunFolder(folder).result)
    return None if content is None else upgraded(content)


def upgraded(content: Mapping[str, Any]) -> Result:
    """Return the content of a result.json of any format with the current names of its keys.

    Example:
        >>> upgraded({"status": "completed", "teacher/answers": "live"})
        {'format': 1, 'status': 'completed', 'teacher/outputs': 'live'}
    """
    renamed = {"teacher/answers": "teacher/outputs"} if content.get("format", 1) == 1 else {}
    names = {key: renamed.get(key, key) for key in content}
    return cast(Result, {"format": 1} | {names[key]: value for key, value in content.items()})
