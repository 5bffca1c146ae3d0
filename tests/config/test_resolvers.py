"""The stages of two nets in pairs, as methods compare them by default."""

from kd.config.resolvers import common_stages, last_common_stage


def taps(*numbers):
    return dict.fromkeys(("stem", "embedding", *(f"stage{n}" for n in numbers)), "")


def test_stages_are_in_the_order_of_their_numbers():
    deep = taps(*range(12, 0, -1))
    assert common_stages(deep, deep) == [f"stage{n}" for n in range(1, 13)]
    assert last_common_stage(deep, deep) == "stage12"


def test_the_last_stages_are_a_pair():
    three, five = taps(1, 2, 3), taps(1, 2, 3, 4, 5)
    assert common_stages(five, three) == ["stage1:stage3", "stage2:stage4", "stage3:stage5"]
    assert common_stages(three, five) == ["stage3:stage1", "stage4:stage2", "stage5:stage3"]
    assert last_common_stage(five, three) == "stage3:stage5"
    assert common_stages(taps(1, 2, 4), three) == ["stage1", "stage2", "stage3:stage4"]


def test_without_a_teacher_there_are_no_pairs():
    assert common_stages(None, taps(1, 2)) == []
    assert last_common_stage(None, taps(1, 2)) == "stage1"
