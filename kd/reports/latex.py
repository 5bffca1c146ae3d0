"""The report's tables in LaTeX, for a paper (needs the package booktabs)."""

from collections.abc import Sequence

from kd.io.printable import printable
from kd.reports.columns import Column, cost_columns, result_columns
from kd.reports.leaderboard import Leaderboard
from kd.reports.lines import lines
from kd.reports.matrix import Matrix

_COSTS = ("parameters",)  # verdicts and other costs do not fit the width of a page
_COMMANDS = {
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "±": r"$\pm$",
    "−": "$-$",
    "×": r"$\times$",
    "–": "--",
    "…": r"\dots{}",
    "\u2009": r"\,",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
}


def latex(board: Leaderboard, matrices: Sequence[Matrix] = ()) -> str:
    """Return the tables of all groups and the matrices as LaTeX."""
    parts = [r"% Written by kd.report; needs \usepackage{booktabs}"]
    for group in board.groups:
        results = [column for column in result_columns(board, group) if column.in_terminal]
        costs = [column for column in cost_columns(group) if column.heading in _COSTS]
        headings = ["row", *_headings(results), *_headings(costs)]
        body = [
            [line.label, *(cell[0] for cell in (*line.results, *line.further))]
            for line in lines(group, results, costs)
        ]
        parts.append(table(group.title, headings, body))
    parts += [table(m.title, m.headings, m.rows, m.note) for m in matrices]
    return "\n\n".join(parts) + "\n"


def _headings(columns: Sequence[Column]) -> list[str]:
    return [column.heading for column in columns]


def table(
    title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], note: str = ""
) -> str:
    """Return one table; the first column is aligned left, all others right."""
    lines = [" & ".join(map(escape_latex, line)) + r" \\" for line in (headings, *rows)]
    caption = escape_latex(f"{title}. {note}" if note else title)
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
            rf"\caption{{{caption}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(headings) - 1)}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    )


def escape_latex(text: object) -> str:
    r"""Return text as LaTeX that prints it: no command, and no end of a cell or a group.

    Example:
        >>> print(escape_latex(r"50 % of \input{a_b} & ±2"))
        50 \% of \textbackslash{}input\{a\_b\} \& $\pm$2
    """
    return "".join(_COMMANDS.get(character, character) for character in printable(text))
