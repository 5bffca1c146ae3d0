"""Definitions of a report's columns and terms."""

from kd.reports.statistics import LEVEL

DEFINITIONS: tuple[tuple[str, str], ...] = (
    (
        "row",
        "All runs with the same settings, apart from the seed. The label names the method and the "
        "settings in which the rows differ.",
    ),
    (
        "teacher",
        "A teacher of the group's runs: test accuracy, ± its standard deviation over several "
        "trainings, number of parameters, and seconds of training where a run trained it.",
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
        "against controls",
        "Verdict beside the control arms (sweep=controls) with the row's settings: better than "
        "labels alone, and also than those that are named; labels and controls: than all, a "
        "shuffled teacher among them. Paired t tests, corrected together by Holm's method. What "
        "does not beat a teacher that is untrained or shuffled has not learnt from its knowledge.",
    ),
    (
        "seeds to tell",
        "Common seeds that tell a true difference of so many points from the baseline (detect=) in "
        "80 % of experiments, by the paired t test at the level that the verdict asks for with as "
        "many comparisons as this report has. The first number takes the spread of the differences "
        "at hand as it is; the second its upper 80 % confidence limit, since few seeds often "
        "underestimate it. Plan with the second.",
    ),
    (
        "test set error",
        "√(p(1−p)/N) of accuracy p on N test images: what another test set of this size would add. "
        "The spread of seeds beside the accuracy does not contain it, and more seeds do not make "
        "it smaller.",
    ),
    (
        "P(better)",
        "Share of the common seeds at which the row beats the baseline, ties counted half, and its "
        "95 % percentile bootstrap interval (Bouthillier et al. 2021, arXiv:2103.03098): "
        "above 0.5 it is significant, and they call it meaningful if it also reaches beyond 0.75. "
        "If it wins at all seeds or at none, the exact binomial interval (Clopper and Pearson).",
    ),
    (
        "McNemar p",
        "McNemar's test of the row's net and the baseline's on the same test images: exact below "
        "25 images that only one has right, else chi-squared with continuity correction; over "
        "several seeds combined by Rüger's rule. In brackets the images that only the row, and "
        "only the baseline, has right: means over seeds. It asks whether these nets would differ "
        "on other images, not whether other seeds would; it is not corrected for several rows.",
    ),
    (
        "agreement if teacher right / wrong",
        "Percentage of test images on which student and teacher predict the same class, of those "
        "that the teacher has right, and of those that it has wrong: means over seeds.",
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
