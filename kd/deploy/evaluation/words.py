"""Words for the samples of a task, in texts that are written about images."""

import re

from kd.tasks import TASKS

# Longer words first; what a net's cost is measured on differs in more than its name.
_INPUTS = {"text_classification": "token ids of full length"}


def in_words(text: str, task: str) -> str:
    """Name the samples of a task where a text names images.

    Example:
        >>> in_words("test images", "text_classification")
        'test texts'
        >>> in_words("median over calls, on normalised images", "text_classification")
        'median over calls, on token ids of full length'
    """
    sample = TASKS[task].sample if task in TASKS else "image"
    if sample == "image":
        return text
    text = re.sub(r"\bnormalised( float32)? images\b", _INPUTS[task], text)
    text = re.sub(r"\ban image\b", f"a {sample}", text)
    return re.sub(r"\bimage(s?)\b", rf"{sample}\1", text)
