"""The table of methods: read from code and YAML, and repeated in kd/objectives/README.md."""

import re

from commands import ROOT, Command
from support import SHIPPED, present

from kd.config.compose import CONF_DIR
from kd.methods import rows


def test_every_method_is_in_the_table():
    found = {row.name: row for row in rows()}
    assert found.keys() == {path.stem for path in (CONF_DIR / "method").glob("*.yaml")}
    assert found.keys() >= SHIPPED
    assert found["rkd"].family == "relation"
    assert found["rkd"].taps == "embedding"
    assert "distance=25.0" in found["rkd"].settings
    assert found["at"].taps == "stage1 stage2 stage3"
    assert found["kd"].family == "response"
    for name in SHIPPED - {"ce", "feature"}:
        assert re.search(r"(19|20)\d\d: .{10}", found[name].paper), name
        assert found[name].link.startswith("https://"), name


def test_the_readme_has_the_table_that_the_command_prints():
    printed = Command("kd.methods", "--markdown").ended().stdout.splitlines()
    readme = (ROOT / "kd/objectives/README.md").read_text()
    table = [line for line in readme.splitlines() if line.startswith("| ")]
    assert set(table) <= set(printed)
    # A method that is added without its line in the README does not fail.
    assert {present(re.match(r"\| `(\w+)`", line))[1] for line in table[1:]} >= SHIPPED
    assert [line for line in printed if line in table] == table


def test_methods_of_another_folder_are_in_the_table(tmp_path):
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "mine.yaml").write_text(
        "defaults:\n  - /objective@objectives.hard: cross_entropy\n  - _self_\n"
        "name: mine\nstrength: 3\nweights: {hard: 1.0}\n"
    )
    (mine,) = [row for row in rows([tmp_path]) if row.name == "mine"]
    assert mine == ("mine", "–", "", "labels", "–", "strength=3")


def test_a_target_that_cannot_be_imported_is_named(tmp_path):
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "mine.yaml").write_text(
        "name: mine\nobjectives: {mine: {_target_: elsewhere.Mine}}\nweights: {mine: 1.0}\n"
    )
    ended = Command("kd.methods", "--config-dir", str(tmp_path)).ended()
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: ")
    assert "elsewhere" in ended.stderr
