"""What was tried: an entry's configurations on a board, and which of them stands for it.

A *board* is what may be compared: runs of one dataset, preset and protocol version. An *entry* is a row of it: a
method, or what a sweep file gave a label. An entry's *points* are its configurations on a board (one, unless swept).
The point with the best mean validation linear accuracy stands for the entry; test numbers choose nothing. Those with
the most done seeds compete (the complete ones among them, if there are any): a mean of fewer seeds would win by luck.
The table names what did not compete.

Where an entry was searched in stages (bench.planning.search), its points are those of the search, on the seeds of that,
and the ones with the longest schedule compete. What `stands` for the entry is the configuration that the chosen one was
for, on other seeds.
"""

from typing import Any

import pandas as pd

from bench.runs.result import METRICS, TIMINGS
from bench.tables.conditions import NOT_SET
from bench.tables.evaluated import measures

CHOICE = "val_linear_top1"
BOARD = ["dataset", "preset", "protocol"]
POINT = [*BOARD, "entry", "method", "config_hash"]
UNFINISHED = ("planned", "running", "interrupted")
OF_SEARCH = "search_for"
"""Of a run of a search: the config_hash that is reported if it wins; "" of other runs."""
EPOCHS = "train.epochs"


def points(runs: pd.DataFrame, configs: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """The grid: every configuration of every entry, with the settings in which an entry's points differ."""
    counted = runs[(runs["state"] != "duplicate") & of_choice(runs)]
    done = counted["state"] == "done"
    states = counted[POINT].assign(
        planned=1,
        done=done,
        failed=counted["state"] == "failed",
        damaged=counted["state"] == "damaged",
        unfinished=counted["state"].isin(UNFINISHED),
        collapsed=counted["collapsed"],
    )
    grid = states.groupby(POINT, sort=True).sum()
    numbers = counted[done].groupby(POINT)[[*METRICS, *TIMINGS, *measures(runs)]]
    grid = grid.join(numbers.mean().add_suffix("_mean")).join(numbers.std(ddof=1).add_suffix("_sd"))
    said = ["overrides", "entry_keys", OF_SEARCH, "search_space"]
    grid = grid.join(counted.groupby(POINT)[said].first()).reset_index()
    grid["stands"] = grid[OF_SEARCH].where(grid[OF_SEARCH] != "", grid["config_hash"])
    grid["competes"] = grid["chosen"] = False
    for _, own in grid.groupby([*BOARD, "entry"]):
        longest = own
        if own[OF_SEARCH].any():
            epochs = own["config_hash"].map(lambda digest: configs.get(digest, {}).get(EPOCHS, 0))
            longest = own[epochs == epochs.max()]
        most = longest[longest["done"] == longest["done"].max()]
        complete = most[most["done"] == most["planned"]]
        competing = most if complete.empty else complete
        grid.loc[competing.index, "competes"] = True
        choice = competing[f"{CHOICE}_mean"].fillna(-1.0)
        grid.loc[choice.idxmax(), "chosen"] = True
    return _with_settings(grid, configs)


def of_choice(runs: pd.DataFrame) -> pd.Series:
    """Which runs the choice is made from: of an entry that was searched those of the search, of others all."""
    of_search = runs[OF_SEARCH] != ""
    return of_search | ~of_search.groupby([runs[key] for key in (*BOARD, "entry")]).transform("any")


def reported(runs: pd.DataFrame, grid: pd.DataFrame) -> pd.Series:
    """Which runs stand for their entries: those of what the chosen points are for, and none of a search."""
    chosen = grid.loc[grid["chosen"], [*POINT[:-1], "stands", "chosen"]].rename(columns={"stands": POINT[-1]})
    standing = runs[POINT].merge(chosen, on=POINT, how="left")["chosen"].eq(True).set_axis(runs.index)
    return standing & (runs["state"] != "duplicate") & (runs[OF_SEARCH] == "")


def edges(tried: pd.DataFrame) -> list[str]:
    """The keys at whose lowest or highest value an entry's chosen point is: nothing beyond was tried."""
    columns = [str(column) for column in tried.columns]
    found = []
    for key in columns[columns.index("chosen") + 1 :]:
        values = levels(tried[key])
        if _searched(tried, key) and len(values) > 1 and all(map(is_number, values)):
            chosen = tried.loc[tried["chosen"], key].iloc[0]
            found += [key] * (chosen in (values[0], values[-1]))
    return found


def _searched(tried: pd.DataFrame, column: str) -> bool:
    """Whether it is a setting that was to be searched, not one that follows from the stages of a search."""
    spaces = " ".join(tried["search_space"])
    return not spaces or any(column == grid_column(part.partition("=")[0]) for part in spaces.split(" "))


def _with_settings(grid: pd.DataFrame, configs: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """A column (named by `grid_column`) a dotted key in which the points of some entry differ."""
    keys: dict[str, None] = {}
    for _, own in grid.groupby([*BOARD, "entry"]):
        keys.update(dict.fromkeys(varying([configs.get(digest, {}) for digest in own["config_hash"]])))
    for key in keys:
        values = [configs.get(digest, {}).get(key, NOT_SET) for digest in grid["config_hash"]]
        grid[grid_column(key)] = ["null" if value is None else value for value in values]
    places = {grid_column(key): {value: i for i, value in enumerate(levels(grid[grid_column(key)]))} for key in keys}

    def placed(column: pd.Series) -> pd.Series:
        return column.map(places[str(column.name)]) if column.name in places else column

    return grid.sort_values([*POINT[:-1], *places, POINT[-1]], key=placed).reset_index(drop=True)


def levels(column: pd.Series) -> list[Any]:
    """The values of a setting in order: numbers by size, other things by name."""

    def place(value: Any) -> tuple[bool, Any]:
        return not is_number(value), value if is_number(value) else str(value)

    return sorted(dict.fromkeys(column), key=place)


def is_number(value: Any) -> bool:
    """Whether a setting has a size: true and false are names."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def on_board(frame: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table that are of the board that `rows` are of."""
    return frame[(frame[BOARD] == rows.iloc[0][BOARD].tolist()).all(axis=1)]


def grid_column(key: str) -> str:
    """The grid's column of a dotted key: never one of its own, which have no dots."""
    return key if "." in key else f"config.{key}"


def varying(configs: list[dict[str, Any]]) -> list[str]:
    """The dotted keys in which these configurations differ, in their own order."""
    known = [config for config in configs if config]
    keys = dict.fromkeys(key for config in known for key in config)
    return [key for key in keys if len({repr(config.get(key)) for config in known}) > 1]
