"""Rendering of figures: light and dark files, and an SVG that follows the colour scheme."""

from xml.etree import ElementTree

from kd.plots.figure import file_name, save
from kd.plots.style import DARK, LIGHT, Theme, axes, truncated


def _line(theme: Theme):
    figure, ax = axes(theme, 2)
    ax.plot([0, 1], [0, 1], color=theme.ink, label="$")
    ax.set_title("a class named $")
    return figure


def test_a_figure_is_saved_for_light_and_dark_backgrounds(tmp_path):
    element = save(_line, tmp_path, "line")
    assert {path.name for path in tmp_path.iterdir()} == {"line.svg", "line.png", "line-dark.png"}
    assert (tmp_path / "line.png").read_bytes() != (tmp_path / "line-dark.png").read_bytes()
    assert "var(--ink)" in element
    assert LIGHT.ink not in element
    file = (tmp_path / "line.svg").read_text()
    assert ElementTree.fromstring(file).tag.endswith("svg")
    assert "prefers-color-scheme:dark" in file
    assert DARK.ink in file


def test_equal_figures_are_equal_files(tmp_path):
    (tmp_path / "again").mkdir()
    save(_line, tmp_path, "line")
    save(_line, tmp_path / "again", "line")
    for name in ("line.svg", "line.png"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_file_names_have_no_spaces_or_separators():
    assert file_name("curves", "digits, resnet8, width=0.5") == "curves-digits-resnet8-width-0.5"


def test_long_labels_are_truncated():
    assert truncated("kd, temperature=4") == "kd, temperature=4"
    assert len(truncated("x" * 100)) == len(truncated("x" * 1000))
    assert truncated("x" * 100).endswith("…")
