"""Names of the control arms; `kd.training.controls` says what each changes."""

CONTROLS = ("ce", "smoothing", "untrained", "shuffled_class", "shuffled", "self")
LABELS_ONLY = ("ce", "smoothing")  # those that read no teacher while the student trains
