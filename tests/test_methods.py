"""The table of methods is read from code and YAML, and the README's is the same."""

import re

from commands import ROOT, Command

from kd.config.compose import CONF_DIR
from kd.methods import rows

ASKED = set(
    """
    ce kd soft_ce logit_mse cosine dkd nkd dist mlkd ctkd ttm wttm wsld tfkd spherical fitnet at nst
    ft ab fsp vid ofd reviewkd srrl simkd semckd catkd ickd mgd cwd srd afd sp cc rkd pkt crd irg
    itrd
    """.split()  # noqa: SIM905
)


def test_every_method_is_in_the_table():
    found = {row.name: row for row in rows()}
    assert found.keys() == {path.stem for path in (CONF_DIR / "method").glob("*.yaml")}
    assert found.keys() >= ASKED
    assert found["rkd"].family == "relation"
    assert found["rkd"].taps == "embedding"
    assert "distance=25.0" in found["rkd"].knobs
    assert found["at"].taps == "stage1 stage2 stage3"
    assert found["kd"].family == "response"
    for row in found.values():
        assert re.search(r"(19|20)\d\d: .{10}", row.paper) or row.name in ("ce", "feature"), row


def test_the_readme_has_what_the_command_prints():
    answer = Command("kd.methods", "--markdown").ended()
    assert answer.stdout.count("\n") == len(ASKED) + 3  # heads, and `feature`
    assert answer.stdout in (ROOT / "README.md").read_text()
