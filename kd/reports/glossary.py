"""Definitions of a report's columns and terms."""

from kd.reports.statistics import LEVEL

DEFINITIONS = (
    (
        "row",
        "All runs with the same settings, apart from the seed. The label names the method and the "
        "settings in which the rows differ.",
    ),
    (
        "test accuracy",
        "Percentage of correct predictions on the test set, with the weights of the epoch that is "
        "best on validation: mean ± sample standard deviation over seeds. The 95 % confidence "
        "interval uses Student's t distribution and is clipped to 0 and 100. Of detectors, mAP "
        "(average precision, mean over classes and over IoU 0.5 to 0.95) stands in its place.",
    ),
    ("last epoch", "Test accuracy with the weights of the last epoch instead."),
    (
        "difference",
        "Test accuracy minus the baseline's at the same seed, in percentage points: mean over the "
        "seeds that both have and, in brackets, its 95 % percentile bootstrap interval. With two "
        "or three seeds this interval is too narrow, and with equal differences there is none; "
        "the verdict does not use it.",
    ),
    (
        "p (Holm)",
        "Two-sided paired t test, corrected by Holm's method for all comparisons in this report. "
        "If the differences of all seeds are equal, the exact sign-flip test is used instead.",
    ),
    (
        "verdict",
        f"Better or worse: the corrected p is at most {LEVEL:g}, so the probability of any such "
        f"verdict in this report being wrong is at most {100 * LEVEL:g} %. Cannot distinguish: "
        "these seeds show no significant difference, which does not prove that there is none. "
        "With fewer than two common seeds there is no verdict.",
    ),
    (
        "gap recovered",
        "(row − ce) / (teacher − ce), from mean test accuracies over common seeds, where ce is the "
        'student trained with cross-entropy alone. 100 % equals the teacher; "below ce" if it is '
        "negative. Empty if the teacher is no better than ce.",
    ),
    (
        "costs",
        "The student's parameters, training images per second, seconds of training, and images "
        "passed through the teacher during the run: means over seeds. Teacher outputs read from "
        "the cache count as no forward pass.",
    ),
    (
        "order",
        "By test accuracy. Choose settings by validation accuracy instead: the best of many test "
        "accuracies is too optimistic an estimate.",
    ),
)
