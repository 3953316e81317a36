"""Leaderboards as Markdown that GitHub renders and as LaTeX that compiles as it is."""

import re
from collections.abc import Iterable

from bench.report.section import Section
from bench.report.sections import sections
from bench.tables.leaderboard import Tables

TEXT = ("entry", "method", "evaluation", "flags", "configuration")

_TEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "`": r"\textasciigrave{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "-": "-{}",  # no ligature of two
    "±": r"$\pm$",
    "−": "$-$",
    "×": r"$\times$",
    "–": "--",
    **{character: rf"\{character}" for character in "{}$&#_%"},
}

# One file, two uses: pdflatex compiles it; \input in a paper (which loads booktabs) skips the document around it.
_TEX_HEAD = r"""% Compile as it is, or \input it into a document with \usepackage{booktabs}.
\makeatletter
\ifx\@nodocument\relax\def\endofleaderboard{}\else
\documentclass{article}
\usepackage[margin=15mm]{geometry}
\usepackage{booktabs}
\def\endofleaderboard{\end{document}}
\begin{document}
\fi
\makeatother
"""


def markdown(tables: Tables, experiments: list[str], columns: list[str]) -> str:
    """GitHub's tables, the best number in bold; footnotes as lists."""
    parts = [f"# Leaderboard: {md_text(', '.join(experiments))}\n"]
    for section in sections(tables, columns, every_point=True, more=True):
        lines = [f"## {md_text(section.title)}\n", _md_row(section.header)]
        lines.append("|" + "|".join("---" if name in TEXT else "---:" for name in section.header) + "|")
        for r, row in enumerate(section.rows):
            lines.append(_md_row(row, {c for i, c in section.bold if i == r}))
        parts.append("\n".join([*lines, "", *(f"- {md_text(note)}" for note in section.notes), ""]))
    if len(tables.problems):
        listed = (f"- {md_text(f'{p.experiment}/{p.path}: {p.reason}')}" for p in tables.problems.itertuples())
        parts.append("\n".join(["## Files that could not be used as found\n", *listed, ""]))
    return "\n".join(parts)


def _md_row(cells: Iterable[str], bold: Iterable[int] = ()) -> str:
    texts = [f"**{md_text(cell)}**" if i in bold else md_text(cell) for i, cell in enumerate(cells)]
    return f"| {' | '.join(texts)} |"


def md_text(text: str) -> str:
    """Text that Markdown shows as it is: no markup, no HTML, no column break, on one line."""
    text = " ".join(text.split())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]|~#$])", r"\\\1", text)


def latex(tables: Tables, columns: list[str]) -> str:
    """One booktabs table a section, the best number in bold."""
    parts = [_tex_table(part) for section in sections(tables, columns) for part in section.parts(_fits_page)]
    return _TEX_HEAD + "\n".join(parts) + "\\endofleaderboard\n"


def _fits_page(section: Section) -> bool:
    """Whether a table is hardly wider than the text of an A4 page, as its letters are on average."""
    widest = (max(map(len, texts)) for texts in zip(section.header, *section.rows, strict=True))
    return sum(widest) * 4.5 + 6 * len(section.header) <= 510  # points


def _tex_table(section: Section) -> str:
    lines = [r"\toprule", " & ".join(map(_tex, section.header)) + r" \\", r"\midrule"]
    for r, row in enumerate(section.rows):
        if r and section.references and r == min(section.references):
            lines.append(r"\midrule")
        cells = (_tex_cell(cell, (r, c) in section.bold) for c, cell in enumerate(row))
        lines.append("{}" + " & ".join(cells) + r" \\")  # {}: no row begins with what \\ takes as its argument
    alignment = "".join("l" if name in TEXT else "r" for name in section.header)
    return "\n".join(
        [
            r"\begin{table}[htbp]",
            r"\centering",
            rf"\caption{{{_tex(section.title)}}}",
            rf"\label{{tab:{re.sub(r'[^A-Za-z0-9]+', '-', section.title).strip('-').lower()}}}",
            r"\smallskip",
            r"\footnotesize\setlength{\tabcolsep}{3pt}",
            rf"\begin{{tabular}}{{{alignment}}}",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            "",
            r"\medskip",
            r"\parbox{\linewidth}{\footnotesize\sloppy",
            "\n\n".join(map(_tex, section.notes)),
            "}",
            r"\end{table}",
            "",
        ]
    )


def _tex_cell(text: str, bold: bool) -> str:
    marked = re.fullmatch(r"(.*\d|.*–)([*?])( \(\d+\))?", text)
    body, mark = (marked[1], f"$^{{{marked[2]}}}${marked[3] or ''}") if marked else (text, "")
    return (rf"\textbf{{{_tex(body)}}}" if bold else _tex(body)) + mark


def _tex(text: str) -> str:
    """Text that LaTeX shows as it is. pdflatex's fonts end at Latin-1: other characters are named, [U+4E2D]."""
    text = re.sub(r"(?<![\w-])-(?=\d)", "−", " ".join(text.split()))
    return "".join(_TEX.get(c) or (c if _in_fonts(c) else f"[U+{ord(c):04X}]") for c in text)


def _in_fonts(character: str) -> bool:
    return (character.isascii() and character.isprintable()) or ("À" <= character <= "ÿ" and character not in "ÐðÞþ÷")
