"""How many seeds each difference needs: `bench report --power`."""

from collections.abc import Iterator

import pandas as pd

from bench.report.columns import boards, number
from bench.report.names import entry_name
from bench.report.section import Section
from bench.tables.grid import on_board
from bench.tables.leaderboard import Tables

HEADER = ["pair", "seeds", "difference", "detectable", "seeds needed"]


def power(tables: Tables) -> Iterator[Section]:
    """Of every board the tested pairs: what these seeds could find, and how many each difference needs."""
    for label, rows in boards(tables.leaderboard):
        pairs = on_board(tables.pairs, rows)
        tested = pairs[pairs["detectable"].notna()]
        texts = [_row(pair) for _, pair in tested.iterrows()]
        yield Section(f"Power: {label}", HEADER, texts, set(), set(), [*_notes(tables, len(tested))])


def _row(pair: pd.Series) -> list[str]:
    names = f"{entry_name(pair['entry_a'])} - {entry_name(pair['entry_b'])}"
    needed = number(pair["seeds_needed"], 0)
    return [names, f"{pair['n']:.0f}", f"{pair['difference']:+.2f}", number(pair["detectable"], 1), needed]


def _notes(tables: Tables, tested: int) -> Iterator[str]:
    if not tested:
        yield "No pair is tested."
        return
    family = f"adjusted for {tested} pairs (Holm at its worst)" if tested > 1 else "of one pair"
    yield f"detectable: the true difference in points that so many seeds find with 80 % probability, {family}."
    yield f"seeds needed: of each, to find {aimed(tables)} as surely."


def aimed(tables: Tables) -> str:
    """The difference that `seeds_needed` is for."""
    named = tables.aim.difference
    return "a true difference as large as the one seen" if named is None else f"a true difference of {named:g} points"
