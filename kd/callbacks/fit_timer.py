"""Seconds of training, over all processes of a resumed run."""

from lightning.pytorch.callbacks import Timer


class FitTimer(Timer):
    """Lightning's `Timer` without a limit: `time_elapsed()` is `fit_seconds` of result.json.

    Its state is in the checkpoints, so a resumed run adds to the seconds up to its checkpoint. A
    class of its own leaves `callbacks` free for a `Timer` with a limit: Lightning allows one
    stateful callback of a class.
    """

    def __init__(self) -> None:
        super().__init__()
