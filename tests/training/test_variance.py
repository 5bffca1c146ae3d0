"""`sweep=variance`: each seed has a split, a teacher and an order of its own, in one row."""

from typing import cast

from omegaconf import DictConfig, OmegaConf
from support import configured, read_yaml

from kd.config.compose import CONF_DIR
from kd.reports.find import find_runs
from kd.reports.leaderboard import build_leaderboard
from kd.training.run import run

TINY = ("trainer.max_epochs=1", "trainer.limit_train_batches=2")


def test_all_sources_vary_and_the_seeds_are_one_row(output, tmp_path):
    sweep = read_yaml(CONF_DIR / "sweep" / "variance.yaml")
    assert sweep["data"]["split_seed"] == sweep["teacher"]["training"]["seed"] == "${seed}"
    results = []
    for seed in (1, 0):  # not in order: the later one is not the first of its row
        for method in ("kd", "ce")[:: 1 if seed else -1]:
            folder = tmp_path / "runs" / f"{method}{seed}"
            cfg = configured(folder, output, *TINY, f"method={method}", f"seed={seed}")
            cfg = OmegaConf.merge(cfg, {key: sweep[key] for key in ("data", "teacher")})
            results.append(dict(run(cast(DictConfig, cfg), folder)))
    kd = [each for each in results if each["method"] == "kd"]
    for key in ("data/fingerprint", "teacher/weights_hash", "config_hash"):
        assert kd[0][key] != kd[1][key], key
    assert {each["teacher/source"] for each in kd} == {"trained now"}
    for key in ("recipe_hash", "teacher/recipe_hash"):
        assert kd[0][key] == kd[1][key], key
    (group,) = build_leaderboard(find_runs([tmp_path / "runs"]), None, 10, 0).groups
    assert {row.label: sorted(row.runs) for row in group.rows} == {"kd": [0, 1], "ce": [0, 1]}
