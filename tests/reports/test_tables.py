"""Tables as papers print them: teacher lines, matrices, LaTeX, and the curve over temperature."""

import re
import shutil
import subprocess

import pytest
from run_folders import ABOUT, TABLES, leaderboard, report_texts, write_run, write_sweep

from kd.reports.figures.temperature import curves, specs
from kd.reports.latex import escape_latex, table
from kd.reports.markdown import markdown
from kd.reports.matrix import matrices
from kd.reports.write import Forms, write_report


def write_pairs(folder):
    """Two students with ce and kd of two teachers at three seeds; one pair is missing."""
    for student, base in (("resnet8", 0.80), ("vgg8", 0.70)):
        for seed in range(3):
            noise = 0.001 * seed
            write_run(
                folder / f"{student}ce{seed}", base + noise, method="ce", student=student, seed=seed
            )
            for teacher, gain in (("resnet20", 0.02), ("resnet56", 0.0)):
                if (student, teacher) != ("vgg8", "resnet56"):
                    wobble = 0.003 * (seed - 1) + (0.0005 if seed == 1 else 0)
                    write_run(
                        folder / f"{student}{teacher}{seed}",
                        base + noise + gain + wobble,
                        **{"student": student, "teacher": teacher, "seed": seed},
                        **{"compression": 3.5, "teacher/params": 272186, "teacher/seconds": 60.0},
                        **{"teacher/weights_hash": f"{teacher}{seed % 2}"},
                    )


def test_a_matrix_has_a_cell_for_each_pair(tmp_path):
    write_pairs(tmp_path)
    (matrix,) = matrices(leaderboard(tmp_path, baseline="kd,teacher=resnet20"))
    assert matrix.title == "kd (digits)"
    columns = dict(zip(matrix.headings, zip(*matrix.rows, strict=True), strict=True))
    assert columns["student"] == ("resnet8", "vgg8")
    assert columns["ce"] == ("80.10 ± 0.10", "70.10 ± 0.10")
    # Gains of 2 − 0.3, 2 + 0.05 and 2 + 0.3 points: t = 2.017 / (0.301 / √3) = 11.6, p = 0.007.
    assert columns["resnet20: 99.00 ± 0.00"][0] == "82.12 ± 0.40; +2.02*; 3.5×; 10 s"
    # −0.3, +0.05 and +0.3: not significant.
    assert columns["resnet56: 99.00 ± 0.00"][0] == "80.12 ± 0.40; +0.02; 3.5×; 10 s"
    assert columns["resnet56: 99.00 ± 0.00"][1] == "–"
    assert "left out" not in matrix.note


def test_rows_of_the_same_nets_are_counted_in_the_note(tmp_path):
    write_pairs(tmp_path)
    write_run(tmp_path / "longer", 0.9, epochs=9)
    (matrix,) = matrices(leaderboard(tmp_path))
    assert matrix.note.endswith("left out: 1.")
    assert "90.00" not in str(matrix.rows)


def test_every_form_has_matrix_and_teacher(tmp_path):
    write_pairs(tmp_path / "runs")
    board = leaderboard(tmp_path / "runs")
    text = report_texts(tmp_path / "report", board, Forms(figures=False, matrix=True, latex=True))
    for form in ("md", "html", "tex"):
        assert "3.5" in text[form], form
        assert "teacher resnet20" in text[form], form
    assert "| teacher resnet20 | 2 | 99.00 ± 0.00 | – | – | teacher |" in text["md"]
    assert "272\u2009186 | – | – | 60.0 |" in text["md"]
    assert r"82.12 $\pm$ 0.40; +2.02*; 3.5$\times$; 10 s" in text["tex"]
    write_report(board, ABOUT, tmp_path / "report", TABLES)
    assert not (tmp_path / "report" / "report.tex").exists()


def test_the_best_line_comes_first_teacher_or_student(tmp_path):
    write_sweep(tmp_path / "runs", kd=[0.995], ce=[0.9])
    text = report_texts(tmp_path / "report", leaderboard(tmp_path / "runs"))["md"]
    assert re.findall(r"^\| (kd|ce|teacher resnet20) \|", text, re.M) == [
        "kd",
        "teacher resnet20",
        "ce",
    ]


def test_latex_is_escaped():
    nasty = r"a_b & 50% $x$ #1 {y} \input{/etc/passwd} ~^"
    text = escape_latex(nasty)
    assert re.sub(r"\\(text\w+\{\}|[&%$#_{}])", "", text) == "ab  50 x 1 y input/etc/passwd "
    assert escape_latex("97.20 ± 0.31 −1") == r"97.20 $\pm$ 0.31 $-$1"
    assert (
        table("t", ["row", "x"], [[nasty, "1"]]).count("&") == 2 + 1
    )  # cells, and the escaped one


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_compiles(tmp_path):
    body = table(r"\x_", ["a&b", "c"], [["±×", "$"]])
    packages = r"\documentclass{article}\usepackage{booktabs}\usepackage[T1]{fontenc}"
    (tmp_path / "a.tex").write_text(f"{packages}\\begin{{document}}{body}\\end{{document}}")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "a.tex"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 0


def test_the_curve_over_temperature(tmp_path):
    for t, accuracy in ((8, 0.9), (1, 0.8), (2, 0.85)):
        for seed in (0, 1):
            write_run(
                tmp_path / f"{t}{seed}", accuracy + 0.01 * seed, seed=seed, knobs={"temperature": t}
            )
    board = leaderboard(tmp_path)
    (spec,) = specs(board)
    assert spec.title == "Temperature: kd (digits, resnet8)"
    validation, test = curves(board.groups[0].rows)
    assert test.temperatures == [1, 2, 8]
    assert test.means == pytest.approx([80.5, 85.5, 90.5])
    assert test.deviations == pytest.approx([0.5**0.5] * 3)
    assert validation.means == test.means
    write_report(board, ABOUT, tmp_path / "report")
    assert (tmp_path / "report/figures/temperature-kd-digits-resnet8.png").stat().st_size > 1000


def test_with_several_alphas_there_is_a_heat_map_instead(tmp_path):
    for t in (1, 2):
        for alpha in (0.5, 0.9):
            write_run(tmp_path / f"{t}{alpha}", 0.9, knobs={"temperature": t, "alpha": alpha})
    assert list(specs(leaderboard(tmp_path))) == []


def test_a_note_that_several_matrices_share_is_shown_once(tmp_path):
    write_pairs(tmp_path)
    board = leaderboard(tmp_path)
    (matrix,) = matrices(board)
    other = matrix._replace(note="left out: 9")
    text = markdown(board, ABOUT, (), [matrix, matrix, other])
    assert (text.count(matrix.note), text.count("left out: 9")) == (1, 1)
