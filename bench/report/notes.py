"""Footnotes of a table: what was measured, how it was tested, and what is missing."""

from collections.abc import Iterator
from typing import cast

import pandas as pd

from bench.report.columns import COLUMNS, DASH
from bench.report.names import dataset_name, method_name
from bench.runs.identity import seed_list, weights_label
from bench.tables.conditions import mixed, unlike
from bench.tables.grid import on_board
from bench.tables.leaderboard import Tables
from bench.tables.statistics import TESTED_FROM

WEIGHTS = ("backbone.weights", "backbone.weights_hash")
MIXED = 3  # values of one kind that are named beside the most frequent


def notes(tables: Tables, rows: pd.DataFrame) -> list[str]:
    """The footnotes of a board's table: what was measured, how it was tested, and what is missing."""
    first = rows.iloc[0]
    runs = on_board(tables.runs[tables.runs["state"] != "duplicate"], rows)
    rows, runs = (table.assign(method=table["method"].map(method_name)) for table in (rows, runs))
    used = runs[runs["chosen"] & (runs["state"] == "done")]
    name = COLUMNS[tables.metric].header
    return [
        f"{dataset_name(first['dataset'])}, preset {first['preset']}, protocol version {first['protocol']}, "
        f"seeds {seed_list(used['seed']) or 'none done'}. "
        f"Accuracies in percent: mean ± half of the 95 % t interval over training seeds, on one fixed test set; "
        f"{DASH}: too few seeds.",
        *_tests(tables, rows, name),
        *(["References (untrained, supervised) neither win nor are tested."] if rows["reference"].any() else []),
        *_weights(tables, rows),
        *_conditions(tables, rows),
        *_made_with(used),
        *_search(rows),
        *_missing(runs),
    ]


def _tests(tables: Tables, rows: pd.DataFrame, name: str) -> Iterator[str]:
    pairs = on_board(tables.pairs, rows)
    tested = pairs[pairs["p_holm"].notna()]
    untested = f" ?: not tested: fewer than {TESTED_FROM} seeds in common with the best, or differences all equal."
    mark = untested if rows["mark"].eq("untested").any() else ""
    if tested.empty:
        yield f"No differences tested: that takes two methods with at least {TESTED_FROM} common seeds.{mark}"
    else:
        pairs_of_methods = "the one pair of methods" if len(tested) == 1 else f"all {len(tested)} pairs of methods"
        few = tested["n"].min()
        limit = f" (An exact sign-flip test cannot go below p = {2 / 2**few:g} with {few} seeds.)" if few < 6 else ""
        yield (
            f"*: best {name}, or not shown to be worse, which does not mean equal: paired t-tests on common seeds, "
            f"Holm-adjusted over {pairs_of_methods}, 5 % level.{limit}{mark}"
        )
        yield (
            "Intervals of differences: 95 %, of that one difference, not adjusted as the tests are: beside a * one "
            "may exclude 0."
        )
    apart = rows.loc[rows["mark"] == "collapsed", "method"]
    if len(apart):
        yield f"No *, though best or not shown to be worse, for collapsed seeds: {', '.join(apart)}."
    own = rows.loc[rows["seeds"] != ""].groupby("seeds", sort=False)["method"].agg(", ".join)
    if len(own) > 1:
        listed = "; ".join(f"{methods}: {seeds_of}" for seeds_of, methods in own.items())
        yield f"Seeds differ ({listed}): a mean is of a method's own seeds, a difference of the common ones."


def _weights(tables: Tables, rows: pd.DataFrame) -> Iterator[str]:
    """From which weights training started, where they are not new."""
    names: dict[str, list[str]] = {}
    for digest, name in rows[["config_hash", "method"]].itertuples(index=False):
        source, content = (tables.configs.get(digest, {}).get(key, "") for key in WEIGHTS)
        if label := weights_label(source, content):
            names.setdefault(label, []).append(name)
    if names:
        whole = sum(map(len, names.values())) == len(rows) and len(names) == 1
        told = "; ".join(label if whole else f"{label} ({', '.join(own)})" for label, own in names.items())
        yield f"Trained on from weights that are the same for all seeds: {told}."


def _conditions(tables: Tables, rows: pd.DataFrame) -> Iterator[str]:
    """What was set beside the preset, and in what the methods were not trained alike."""
    own = rows[rows["points"] == 1].groupby("overrides", sort=False)["method"].agg(", ".join)
    if len(own) == 1 and (overrides := own.index[0]):
        yield f"Set beside the preset: {overrides}."
    elif len(own) > 1:
        told = "; ".join(f"{overrides or 'nothing'} ({methods})" for overrides, methods in own.items())
        yield f"Set beside the preset: {told}."
    found = unlike(on_board(tables.grid, rows), tables.configs)
    if found:
        by_key = []
        for key, values in found.items():
            methods: dict[str, list[str]] = {}
            for method, value in values.items():
                methods.setdefault(value, []).append(method_name(method))
            by_key.append(f"{key} = " + ", ".join(f"{value} ({', '.join(names)})" for value, names in methods.items()))
        yield (
            f"NOT TRAINED ALIKE: {'; '.join(by_key)}. Differences are of these settings too, not of the methods alone"
            + (": no method is marked." if rows["mark"].eq("unlike").any() else ".")
        )


def _made_with(used: pd.DataFrame) -> Iterator[str]:
    """In what the runs behind the numbers were not made alike: code, versions, devices, threads."""
    whole = used.groupby("method")["seed"].nunique()

    def who(runs: list[tuple[str, int]]) -> str:
        by_method: dict[str, list[int]] = {}
        for method, seed in runs:
            by_method.setdefault(method, []).append(seed)
        return ", ".join(m if len(s) == whole[m] else f"{m} {_seeds(s)}" for m, s in by_method.items())

    parts = []
    for name, by_value in mixed(used).items():
        (most, _), *others = by_value.items()
        told = [f"{value} ({who(runs)})" for value, runs in others[:MIXED]]
        told += [f"{len(others) - MIXED} more (runs.csv)"] * (len(others) > MIXED)
        parts.append(f"{name} {most}, but {', '.join(told)}")
    if parts:
        yield f"NOT MADE ALIKE: {'; '.join(parts)}. Differences may come from that, too."
    for method, seed, attempts in used[["method", "seed", "attempts"]].itertuples(index=False):
        if not all(part.endswith(": as before") for part in attempts.split("; ") if part):
            yield f"{method} seed {seed} went on otherwise than it began: {attempts}."


def _seeds(seeds: list[int]) -> str:
    return f"seed{'s' * (len(seeds) > 1)} {seed_list(seeds)}"


def _search(rows: pd.DataFrame) -> Iterator[str]:
    """The search budget of every method, and what was chosen where there was a choice."""
    by_budget: dict[str, list[str]] = {}
    for _, row in rows.iterrows():
        points, runs = row["points"], row["budget_runs"]
        text = f"{points} configuration{'s' * (points > 1)}, {runs} run{'s' * (runs > 1)}"
        by_budget.setdefault(text, []).append(row["method"])
    whole = len(by_budget) == 1
    parts = [f"{'every method' if whole else ', '.join(m)}: {text}" for text, m in by_budget.items()]
    yield f"Search budget: {'; '.join(parts)}."
    for _, row in rows[rows["points"] > 1].iterrows():
        chosen = f"{row['method']}: chosen by mean validation linear accuracy: {row['overrides'] or 'preset'}"
        partly = "" if row["done"] == row["planned"] else ", no such configuration complete"
        if row["points_competing"] < row["points"]:
            rest = row["points"] - row["points_competing"]
            chosen += f", among those with the most seeds done ({row['done']}{partly}); {rest} not competing"
        elif partly:
            chosen += f" ({row['done']} seeds done of {row['planned']}{partly})"
        yield f"{chosen}."


def _missing(runs: pd.DataFrame) -> Iterator[str]:
    """Runs of the chosen points that are not what was planned, by reason; then those of the other points."""
    standing, others = runs[runs["chosen"]], runs[~runs["chosen"]]
    by_reason: dict[tuple[str, str], list[int]] = {}
    columns = ["method", "state", "reason", "seed"]
    for method, state, reason, seed in standing[columns].itertuples(index=False):
        if state != "done":
            what = state if state in ("failed", "damaged") else f"missing ({state})"
            by_reason.setdefault((method, f"{what}: {reason}" if reason else what), []).append(seed)
    for method, seed in standing.loc[standing["collapsed"], ["method", "seed"]].itertuples(index=False):
        by_reason.setdefault((method, "collapsed"), []).append(seed)
    for (method, what), seeds_of in by_reason.items():
        yield f"{method} seed {seed_list(seeds_of)} {what}."
    counts = others["state"].where(~others["collapsed"], "collapsed").groupby(others["method"]).value_counts()
    for key, n in counts.items():
        method, state = cast(tuple[str, str], key)
        if state != "done":
            yield f"{method}, configurations not chosen: {n} {state}."
