"""The experiment's identity, and the settings that distinguish the jobs of a sweep."""

from support import composed

from kd.config.identity import settings, settings_hash


def test_the_hash_depends_on_what_the_numbers_depend_on():
    base = settings_hash(composed())
    assert base == settings_hash(composed("paths.output=elsewhere", "logger=csv", "resume=x"))
    assert base != settings_hash(composed("method.alpha=0.5"))
    assert base != settings_hash(composed("seed=1"))


def test_settings_are_flat_and_distinguish_jobs():
    chosen = settings(composed("method.temperature=3", "method.alpha=0.4", "optimizer.lr=0.2"))
    assert chosen["method.temperature"] == 3
    assert chosen["method.alpha"] == 0.4
    assert chosen["optimizer.lr"] == 0.2
    assert chosen["method"] == "kd"
    assert all(isinstance(v, str | int | float | bool) for v in chosen.values())
