"""Footnotes of a table: what was measured, how it was tested, and what is missing."""

from collections.abc import Iterator
from typing import cast

import pandas as pd

from bench.config.published import PUBLISHED
from bench.evaluation.base import L2_GRID
from bench.report.columns import COLUMNS, DASH, chances
from bench.report.names import dataset_name, entry_name
from bench.report.power import aimed
from bench.report.search_notes import searches
from bench.runs.identity import seed_list, weights_label
from bench.tables.conditions import compared, mixed, unlike
from bench.tables.differences import COVERED
from bench.tables.grid import on_board
from bench.tables.leaderboard import Tables
from bench.tables.statistics import TESTED_FROM
from bench.tables.verification import RANKING
from methods import NAMES

WEIGHTS = ("backbone.weights", "backbone.weights_hash")
ONE = {"methods": "method", "entries": "entry"}
SAID = ["entry", "source", "content_hash"]
MIXED = 3  # values of one kind that are named beside the most frequent


def notes(tables: Tables, rows: pd.DataFrame) -> list[str]:
    """The footnotes of a board's table: what was measured, how it was tested, and what is missing."""
    first = rows.iloc[0]
    runs = on_board(tables.runs[tables.runs["state"] != "duplicate"], rows)
    rows, runs = (table.assign(entry=table["entry"].map(_listed)) for table in (rows, runs))
    rows, foreign = rows[rows["source"] == ""], rows[rows["source"] != ""]
    used = runs[runs["chosen"] & (runs["state"] == "done")]
    name = COLUMNS[tables.metric].header
    return [
        f"{dataset_name(first['dataset'])}, preset {first['preset']}, protocol version {first['protocol']}, "
        f"seeds {seed_list(used['seed']) or 'none done'}. "
        f"Accuracies in percent: mean ± half of the 95 % interval{chances(rows, tables.metric)}; {DASH}: too few "
        "seeds.",
        *_published(first["preset"], rows),
        *_methods(rows),
        *_tests(tables, rows, name),
        *(["References (untrained, supervised) neither win nor are tested."] if rows["reference"].any() else []),
        *_networks(used),
        *_weights(tables, rows),
        *fewer_seeds(rows, [tables.metric]),
        *_foreign(foreign),
        *_conditions(tables, rows),
        *_made_with(used),
        *_ends_of_the_probes_grid(used),
        *searches(tables, rows, f"every {ONE[_kind(rows)]}"),
        *_missing(runs),
    ]


def _published(preset: str, rows: pd.DataFrame) -> Iterator[str]:
    """Of a preset that replicates a source: what that reached, how it measured it, and what is otherwise here."""
    if preset not in PUBLISHED:
        return
    own, here = PUBLISHED[preset], set(rows["method"])
    told = [f"{NAMES.get(method, method)} {top1:g}" for method, top1 in own.accuracies.items() if method in here]
    on = dataset_name(own.shared["data"]["name"])
    reached = f", where they reach {', '.join(told)} on {on} ({own.probe})" if told else ""
    yield (
        f"Published settings, method by method: {own.source}{reached}. Otherwise here: {own.departures}; 10 % of the "
        "labelled images are for validation, though all are pre-trained on."
    )


def _networks(runs: pd.DataFrame) -> Iterator[str]:
    """Backbones with arguments of their own, which may have been chosen by the size of the images."""
    if told := sorted({label for label in runs["backbone"] if "(" in label}):
        yield f"Backbone: {'; '.join(told)}."


def fewer_seeds(rows: pd.DataFrame, names: list[str]) -> Iterator[str]:
    """What a number in brackets behind one of these means, if there is any."""
    n = rows[[f"{name}_n" for name in names]]
    if ((n > 0) & n.lt(rows["done"], axis=0)).any(axis=None):
        yield "(n): of n seeds only."


def _foreign(rows: pd.DataFrame) -> Iterator[str]:
    """Where encoders from elsewhere are from, and what their intervals say."""
    told = [f"{entry}: {source}, {content}" for entry, source, content in rows[SAID].itertuples(index=False)]
    if told:
        yield (
            f"Not trained here: {'; '.join(told)} (hash of the weights). Without seeds they neither win nor are "
            "tested; [low, high]: 95 % intervals over test images (Wilson), of several draws of labelled images over "
            "these (t)."
        )


def _listed(entry: str) -> str:
    """An entry's name as it stands in lists: a comma in it does not part it."""
    name = entry_name(entry)
    return f'"{name}"' if "," in name or ";" in name else name


def _tests(tables: Tables, rows: pd.DataFrame, name: str) -> Iterator[str]:
    pairs = on_board(tables.pairs, rows)
    tested = pairs[pairs["p_holm"].notna()]
    untested = f" ?: not tested: fewer than {TESTED_FROM} seeds in common with the best, or no seed differs."
    mark = untested if rows["mark"].eq("untested").any() else ""
    kind = _kind(rows)
    if tested.empty:
        yield f"No differences tested: that takes two {kind} with at least {TESTED_FROM} common seeds.{mark}"
    else:
        family = f"the one pair of {kind}" if len(tested) == 1 else f"all {len(tested)} pairs of {kind}"
        yield (
            f"*: may have the best {name}: with 95 % confidence the truly best of these {kind} on this test set is "
            f"among the *{_unstarred(rows)} (Hsu's comparison with the best, Welch's tests on common seeds). It does "
            f"not mean equal.{mark}"
        )
        yield (
            f"Differences: 95 % intervals over seeds of {family} at once (Welch, Bonferroni), of a reference alone; p "
            f"(Holm): Welch's tests, adjusted over {family}."
        )
        yield from _power(tables, tested, kind)
        yield from _equivalence(tables, tested)
    yield from _until(tables, pairs)
    apart = rows.loc[rows["mark"] == "collapsed", "entry"]
    if len(apart):
        yield f"No *, though best or not shown to be worse, for collapsed seeds: {', '.join(apart)}."
    some = rows.loc[(rows["collapsed"] > 0) & (rows["collapsed"] < rows["done"]), "entry"]
    if len(some):
        yield (
            f"Some seeds collapsed of {', '.join(some)}: such a mean is of two outcomes, and its interval says "
            "mostly how far these are apart. A method that collapses one time in ten shows no collapse in 59 % of "
            "tables of 5 seeds."
        )
    own = rows.loc[rows["seeds"] != ""].groupby("seeds", sort=False)["entry"].agg(", ".join)
    if len(own) > 1:
        listed = "; ".join(f"{entries}: {seeds_of}" for seeds_of, entries in own.items())
        yield f"Seeds differ ({listed}): a mean is of a row's own seeds, a difference of the common ones."


def _unstarred(rows: pd.DataFrame) -> str:
    """What may be the best beside the starred."""
    others = {"untested": " and the ?", "collapsed": " and those with collapsed seeds"}
    return "".join(words for mark, words in others.items() if rows["mark"].eq(mark).any())


def _power(tables: Tables, tested: pd.DataFrame, kind: str) -> Iterator[str]:
    """What this table could have shown at all."""
    if tested["detectable"].notna().any():
        low, high = tested["detectable"].min(), tested["detectable"].max()
        points = f"{low:.1f}" if f"{low:.1f}" == f"{high:.1f}" else f"{low:.1f} to {high:.1f}"
        yield (
            f"Power: with these seeds and spreads a true difference of {points} points, by pair of {kind}, is found "
            f"with 80 % probability (Holm at its worst); seeds to find {aimed(tables)}: `bench report --power`."
        )


def _equivalence(tables: Tables, tested: pd.DataFrame) -> Iterator[str]:
    """Which pairs are as good as each other within the margin that was named."""
    if tables.aim.margin is None:
        return
    counts = tested["verdict"].value_counts()
    shown = tested[tested["verdict"].str.contains("equivalent")]
    pairs = [f"{_listed(a)} and {_listed(b)}" for a, b in shown[["entry_a", "entry_b"]].itertuples(index=False)]
    told = f": {'; '.join(pairs)}" if pairs else ""
    yield (
        f"Margin {tables.aim.margin:g} points (two one-sided Welch tests, Holm-adjusted): {len(shown)} of "
        f"{len(tested)} pairs are equivalent within it{told}; {counts.get('undecided', 0)} undecided."
    )


def _until(tables: Tables, pairs: pd.DataFrame) -> Iterator[str]:
    """Which difference decided how many seeds there are."""
    for _, pair in pairs[pairs["until_width"].notna()].iterrows():
        now = f": it is {pair['high'] - pair['low']:.2f} wide" if tables.metric == RANKING else ""
        yield (
            f"Seeds of {_listed(pair['entry_a'])} and {_listed(pair['entry_b'])} were added until the 95 % interval of "
            f"their difference in linear accuracy was narrower than {pair['until_width']:g} points (looked at after "
            f"{pair['until_first']:.0f} seeds, then every {pair['until_each']:.0f}, at most {pair['until_most']:.0f})"
            f"{now}. In simulations an interval of seeds that were added so covers the true difference {COVERED} of "
            "the time."
        )


def _methods(rows: pd.DataFrame) -> Iterator[str]:
    """Of which method the rows are that have another name."""
    own = rows[(rows["entry"] != rows["method"].map(_listed)) & (rows["method"] != "")]
    if len(own):
        by_method = own.groupby("method", sort=False)["entry"].agg(", ".join)
        yield f"Methods: {'; '.join(f'{entry_name(str(method))}: {names}' for method, names in by_method.items())}."


def _kind(rows: pd.DataFrame) -> str:
    """What the rows are: "methods", or "entries" where some are more than a method."""
    return "entries" if (rows["entry"] != rows["method"].map(_listed)).any() else "methods"


def _weights(tables: Tables, rows: pd.DataFrame) -> Iterator[str]:
    """From which weights training started, where they are not new."""
    names: dict[str, list[str]] = {}
    for digest, name in rows[["config_hash", "entry"]].itertuples(index=False):
        source, content = (tables.configs.get(digest, {}).get(key, "") for key in WEIGHTS)
        if label := weights_label(source, content):
            names.setdefault(label, []).append(name)
    if names:
        whole = sum(map(len, names.values())) == len(rows) and len(names) == 1
        told = "; ".join(label if whole else f"{label} ({', '.join(own)})" for label, own in names.items())
        yield f"Trained on from weights that are the same for all seeds: {told}."


def _conditions(tables: Tables, rows: pd.DataFrame) -> Iterator[str]:
    """What was set beside the preset, what entries are about, and in what else they were not trained alike."""
    own = rows[rows["points"] == 1].groupby("overrides", sort=False)["entry"].agg(", ".join)
    if len(own) == 1 and (overrides := own.index[0]):
        yield f"Set beside the preset: {overrides}."
    elif len(own) > 1:
        told = "; ".join(f"{overrides or 'nothing'} ({entries})" for overrides, entries in own.items())
        yield f"Set beside the preset: {told}."
    grid = on_board(tables.grid, rows)
    if about := compared(grid, tables.configs):
        yield f"Not trained alike, which is what entries are about: {_by_value(about)}."
    if found := unlike(grid, tables.configs):
        kind = _kind(rows)
        none = f": no {ONE[kind]} is marked" if rows["mark"].eq("unlike").any() else ""
        theirs = f"Differences are of these settings too, not of the {kind} alone{none}."
        yield f"NOT TRAINED ALIKE: {_by_value(found)}. {theirs}"


def _by_value(found: dict[str, dict[str, str]]) -> str:
    """ "train.epochs = 30 (BYOL, SimSiam), 60 (RAFT, long)" of what `unlike` and `compared` find."""
    by_key = []
    for key, values in found.items():
        entries: dict[str, list[str]] = {}
        for entry, value in values.items():
            entries.setdefault(value, []).append(_listed(entry))
        by_key.append(f"{key} = " + ", ".join(f"{value} ({', '.join(names)})" for value, names in entries.items()))
    return "; ".join(by_key)


def _made_with(used: pd.DataFrame) -> Iterator[str]:
    """In what the runs behind the numbers were not made alike: code, versions, devices, threads."""
    whole = used.groupby("entry")["seed"].nunique()

    def who(runs: list[tuple[str, int]]) -> str:
        by_entry: dict[str, list[int]] = {}
        for entry, seed in runs:
            by_entry.setdefault(entry, []).append(seed)
        return ", ".join(e if len(s) == whole[e] else f"{e} {_seeds(s)}" for e, s in by_entry.items())

    parts = []
    for name, by_value in mixed(used).items():
        (most, _), *others = by_value.items()
        told = [f"{value} ({who(runs)})" for value, runs in others[:MIXED]]
        told += [f"{len(others) - MIXED} more (runs.csv)"] * (len(others) > MIXED)
        parts.append(f"{name} {most}, but {', '.join(told)}")
    if parts:
        yield f"NOT MADE ALIKE: {'; '.join(parts)}. Differences may come from that, too."
    for entry, seed, attempts in used[["entry", "seed", "attempts"]].itertuples(index=False):
        if not all(part.endswith(": as before") for part in attempts.split("; ") if part):
            yield f"{entry} seed {seed} went on otherwise than it began: {attempts}."


def _ends_of_the_probes_grid(used: pd.DataFrame) -> Iterator[str]:
    """How often the linear probe would perhaps have chosen another strength, had it been offered."""
    chosen = used["linear_l2"].dropna()
    at = [(int((chosen == l2).sum()), l2) for l2 in (L2_GRID[-1], L2_GRID[0])]
    if told := " and ".join(f"{n} with L2 strength {l2:g}" for n, l2 in at if n):
        yield f"Of {len(chosen)} linear probes {told}, an end of the grid: a longer one might serve these better."


def _seeds(seeds: list[int]) -> str:
    return f"seed{'s' * (len(seeds) > 1)} {seed_list(seeds)}"


def _missing(runs: pd.DataFrame) -> Iterator[str]:
    """Runs of the chosen points that are not what was planned, by reason; then those of the other points."""
    standing, others = runs[runs["chosen"]], runs[~runs["chosen"]]
    by_reason: dict[tuple[str, str], list[int]] = {}
    columns = ["entry", "state", "reason", "seed"]
    for entry, state, reason, seed in standing[columns].itertuples(index=False):
        if state != "done":
            what = state if state in ("failed", "damaged") else f"missing ({state})"
            by_reason.setdefault((entry, f"{what}: {reason}" if reason else what), []).append(seed)
    for entry, seed in standing.loc[standing["collapsed"], ["entry", "seed"]].itertuples(index=False):
        by_reason.setdefault((entry, "collapsed"), []).append(seed)
    for (entry, what), seeds_of in by_reason.items():
        yield f"{entry} seed {seed_list(seeds_of)} {what}."
    counts = others["state"].where(~others["collapsed"], "collapsed").groupby(others["entry"]).value_counts()
    for key, n in counts.items():
        entry, state = cast(tuple[str, str], key)
        if state != "done":
            yield f"{entry}, configurations not chosen: {n} {state}."
