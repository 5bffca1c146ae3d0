"""Listing and clearing of caches."""

import torch

from kd.teachers.output_cache import OutputCache, entries


def test_caches_are_listed_and_cleared(tmp_path):
    cache = OutputCache(tmp_path / "mine", "key", {"logits": 40}, {"teacher": "t"})
    rows = torch.ones(1280, 10)
    assert cache.fill(torch.arange(1280), lambda ids: {"logits": rows[ids]}) == 1280
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "about.json").write_text("{")
    broken, mine = entries(tmp_path)
    assert (broken.name, broken.about, mine.about) == ("broken", {}, {"teacher": "t"})
    assert mine.size > 1280 * 40
    mine.clear()
    assert [entry.name for entry in entries(tmp_path)] == ["broken"]
    assert entries(tmp_path / "nowhere") == []
