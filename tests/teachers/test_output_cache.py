"""Listing and clearing of caches."""

from pathlib import Path

import pytest
import torch

from kd.errors import UserError
from kd.teachers.output_cache import Entry, OutputCache, entries

MINE, BROKEN = "net-digits-test-0123456789ab", "net-digits-train-0123456789ab"


def filled(folder: Path) -> OutputCache:
    shapes = {"logits": (10,), "stage1": (2, 4)}
    cache = OutputCache(folder, "key", shapes, torch.float32, {"teacher": "t"}, {"stage1": "s.1"})
    rows = {"logits": torch.ones(1280, 10), "stage1": torch.ones(1280, 2, 4)}
    computed = cache.fill(torch.arange(1280), lambda ids: {k: v[ids] for k, v in rows.items()})
    assert computed == 1280
    return cache


def test_caches_are_listed_and_cleared(tmp_path):
    filled(tmp_path / MINE)
    (tmp_path / BROKEN).mkdir()
    (tmp_path / BROKEN / "about.json").write_text("{")
    mine, broken = entries(tmp_path)
    assert (broken.name, broken.about, mine.about) == (BROKEN, {}, {"teacher": "t"})
    assert mine.size > 1280 * 40
    mine.clear()
    assert [entry.name for entry in entries(tmp_path)] == [BROKEN]
    assert entries(tmp_path / "nowhere") == []


def test_only_caches_are_listed_and_cleared(tmp_path):
    """`kd.cache clear=all` in a folder of the user's, who mistyped it."""
    filled(tmp_path / MINE)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_text("mine")
    (tmp_path / BROKEN).symlink_to(tmp_path / "photos")
    for entry in entries(tmp_path):
        entry.clear()
    assert {path.name for path in tmp_path.iterdir()} >= {"photos", BROKEN}
    assert not (tmp_path / MINE).exists()
    assert (tmp_path / "photos" / "a.jpg").read_text() == "mine"


@pytest.mark.parametrize("place", ["notes.txt", "logits/notes.txt", "logits/mine.safetensors"])
def test_a_cache_with_other_files_is_left_alone(place, tmp_path):
    filled(tmp_path / MINE)
    (tmp_path / MINE / place).write_text("mine")
    before = set((tmp_path / MINE).rglob("*"))
    with pytest.raises(UserError, match=f"holds {place}, which kd has not written"):
        entries(tmp_path)[0].clear()
    assert set((tmp_path / MINE).rglob("*")) == before


@pytest.mark.parametrize("place", [MINE, f"{MINE}/logits"])
def test_nothing_is_cleared_through_a_link(place, tmp_path):
    filled(tmp_path / "real" / MINE)
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).symlink_to(tmp_path / "real" / place)
    before = set((tmp_path / "real").rglob("*"))
    with pytest.raises(UserError, match=r"link|logits"):
        Entry(tmp_path / MINE).clear()
    assert set((tmp_path / "real").rglob("*")) == before
