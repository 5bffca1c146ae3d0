"""Keys, meanings and units of the figures of an evaluated net."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import NamedTuple


class Key(NamedTuple):
    """Documentation of a figure.

    Attributes:
        meaning: one line.
        unit: `fraction` (in [0, 1]), `nats`, `images`, or what else it counts.
        better: `higher`, `lower`, or empty where neither is better.
    """

    meaning: str
    unit: str
    better: str = ""


# A figure is None if it does not apply, and absent if its part of the evaluation was left out. All
# are at temperature 1 and on the test set, unless the meaning says otherwise.
# CORRUPTION is a key of `kd.deploy.evaluation.robustness.SEVERITIES`, STRENGTH is 1, 2 or 3.
GROUPS: dict[str, dict[str, Key]] = {
    "Quality": {
        "images": Key("test images", "images"),
        "acc": Key("images whose label is the predicted class", "fraction", "higher"),
        "acc_top5": Key(
            "images whose label is among the five most probable classes; null for K ≤ 5",
            "fraction",
            "higher",
        ),
        "acc_per_class": Key(
            "`acc` by label; null for a class without images", "list of K fractions", "higher"
        ),
        "confusion": Key("images by label (row) and prediction (column)", "K x K images"),
    },
    "Detection": {
        "map": Key(
            "mean average precision over classes and the IoU thresholds 0.5, 0.55 … 0.95, as COCO "
            "defines it",
            "fraction",
            "higher",
        ),
        "map50": Key("the same at IoU 0.5 alone", "fraction", "higher"),
    },
    "Fidelity": {
        "agreement": Key("images for which net and teacher predict the same class", "fraction"),
        "agreement/teacher_right": Key(
            "`agreement` on the images that the teacher classifies correctly", "fraction", "higher"
        ),
        "agreement/teacher_wrong": Key(
            "`agreement` on the images that the teacher classifies wrongly", "fraction"
        ),
        "kl": Key("mean divergence KL(teacher, net) of the probabilities", "nats", "lower"),
        "cka": Key(
            "linear CKA of net's and teacher's embeddings, biased estimate; null if a net has none",
            "0 to 1",
        ),
        "cka_debiased": Key("the same with the unbiased estimate of HSIC", "up to 1"),
    },
    "Calibration": {
        "ece": Key("expected calibration error, 15 bins of equal width", "fraction", "lower"),
        "ece_adaptive": Key(
            "the same with 15 bins of equal numbers of images", "fraction", "lower"
        ),
        "nll": Key("mean negative log-likelihood of the labels", "nats", "lower"),
        "brier": Key("Brier score, summed over the classes", "0 to 2", "lower"),
        "reliability": Key(
            "bins of the reliability diagram: low, high, images, confidence, accuracy",
            "list of bins",
        ),
        "temperature": Key(
            "temperature that maximises the likelihood of the validation labels, in [0.01, 100]; "
            "reported only, no prediction uses it",
            "1",
        ),
        "ece/tempered": Key("`ece` of the logits over that temperature", "fraction", "lower"),
        "nll/tempered": Key("`nll` of the logits over that temperature", "nats", "lower"),
    },
    "Robustness": {
        "acc/CORRUPTION/STRENGTH": Key(
            "`acc` on corrupted images; null if images of so many channels have no such corruption",
            "fraction",
            "higher",
        ),
        "acc/corrupted": Key("mean of `acc` over corruptions and strengths", "fraction", "higher"),
    },
}
KEYS: dict[str, Key] = {name: each for group in GROUPS.values() for name, each in group.items()}


def key(name: str) -> Key | None:
    """Return the documentation of one figure; None for an unknown key.

    Example:
        >>> key("acc/blur/2").unit
        'fraction'
    """
    if name in KEYS:
        return KEYS[name]
    pattern = next(each for each in KEYS if "CORRUPTION" in each)
    matches = fnmatchcase(name, pattern.replace("CORRUPTION", "*").replace("STRENGTH", "[123]"))
    return KEYS[pattern] if matches else None


def markdown_table() -> str:
    """Return the keys as Markdown, a table a group."""
    return "\n\n".join(f"**{title}**\n\n{_table(group)}" for title, group in GROUPS.items())


def _table(group: Mapping[str, Key]) -> str:
    rows = [f"| `{name}` | {each.meaning} | {each.unit} |" for name, each in group.items()]
    return "\n".join(["| key | meaning | unit |", "|---|---|---|", *rows])
