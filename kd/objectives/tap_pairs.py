"""Taps of the student and of the teacher that an objective compares with each other."""

from collections.abc import Sequence

from torch import nn

from kd.types import Outputs


class TapPairs(nn.Module):
    """A module that reads taps of two nets, which may have other names in each.

    Attributes:
        student_taps, teacher_taps: canonical names of the taps that it reads.
        paired: whether the taps were given to `pair`, so that `teacher.taps` has the student's
            names in `build` and `forward` of an objective.

    Example:
        >>> pairs = TapPairs()
        >>> pairs.pair(["stage1", "stage2:stage3"])
        >>> pairs.student_taps, pairs.teacher_taps
        (('stage1', 'stage2'), ('stage1', 'stage3'))
    """

    student_taps: tuple[str, ...] = ()
    teacher_taps: tuple[str, ...] = ()
    paired: bool = False

    def pair(self, taps: Sequence[str]) -> None:
        """Set the taps that are compared with each other.

        Args:
            taps: a name for both nets, or two names `student:teacher`.

        Raises:
            ValueError: there are none, or one of the student has two partners.
        """
        if not taps:
            raise ValueError(
                "taps is empty: the two nets have no stage in common; name some of the nets' taps, "
                "or give a net without any its own, as student.taps={stage1: features.3}"
            )
        names = [tap.partition(":") for tap in taps]
        self.student_taps = tuple(own for own, _, _ in names)
        self.teacher_taps = tuple(other or own for own, _, other in names)
        self.paired = True
        pairs = set(zip(self.student_taps, self.teacher_taps, strict=True))
        if len(pairs) > len({own for own, _ in pairs}):
            raise ValueError(f"taps must pair a tap of the student once, got {list(taps)}")

    def keep_pairs(self, taps: Sequence[str]) -> None:
        """Drop the pairs whose tap of the student is not among `taps`."""
        kept = zip(self.student_taps, self.teacher_taps, strict=True)
        self.pair([f"{own}:{other}" for own, other in kept if own in taps])

    def aligned(self, teacher: Outputs) -> Outputs:
        """Return the teacher's outputs with its taps by the student's names of `pair`."""
        if not self.paired or self.student_taps == self.teacher_taps or not teacher.taps:
            return teacher
        names = zip(self.student_taps, self.teacher_taps, strict=True)
        return teacher._replace(taps={own: teacher.taps[other] for own, other in names})
