"""One file for a paper: everything that a table says, that it is computed from, and that makes its runs again.

Its folder is a published one: `bench verify` checks it anywhere. Hosts, absolute paths and names of users stay here.
"""

import getpass
import io
import platform
import re
import tempfile
import zipfile
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from bench.errors import UserError
from bench.files import dump_json, parse_json, write_atomic
from bench.planning.as_sweep import sweeps
from bench.planning.published import CONFIGS
from bench.report.write import files
from bench.runs import experiment
from bench.runs.identity import PATHS
from bench.runs.store import RunDir
from bench.tables.grid import OF_SEARCH
from bench.tables.leaderboard import Tables
from methods import METHODS

TOLD = ("command", "reason", "attempts", "overrides", "settings", "source", "path")
"""Columns of text that a machine or its user may be named in."""
PATH = re.compile(r"""(?<![^\s=:,;'"(\[])(?:~[\w.-]*|[A-Za-z]:)?[\\/](?![\\/])[^\s'",;:()\[\]]*""")
QUOTED = re.compile(r"""(['"])((?:~[\w.-]*|[A-Za-z]:)?[\\/](?![\\/])[^'"]*)\1""")
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time of every file in it: the same tables give the same bytes."""
README = """# {title}

The tables, figures and runs of {experiments}, as `bench report --bundle` of ssl-bench wrote them. Everything is
computed from `runs.csv`, which says of every run what made it and when.

```bash
bench verify {folder} --statistics    # the tables again, from runs.csv alone: which cells differ
bench verify {folder} --runs 3        # three runs again, from nothing: the same bits, close, or different
{sweeps}
```

- `leaderboard.csv|md|tex`, `pairs.csv`, `grid.csv`, `overall.csv`, `improvements.csv`: what is told
- `report.html`: all that on one page, with figures
- `runs.csv`, `history.csv`, `evaluations.csv`: a row a run, an epoch, a classifier
- `configs.json`: every setting of every configuration, by the hash that run ids have
- `{files}`: the sweep that plans these runs
- `versions.txt`: what they were made with
"""


def bundle(
    place: Path,
    tables: Tables,
    names: list[str],
    formats: Collection[str],
    columns: list[str] | None,
    unredacted: bool = False,
) -> None:
    """Write the file. names: the experiments of `tables`; formats, columns: as for `bench.report.write.files`.

    unredacted: keep hosts, paths and names of users. Raises UserError if it cannot be written.
    """
    hide = None if unredacted else _Hide(tables)
    shown = _redacted(tables, hide) if hide else tables
    planned = _planned(tables, hide)
    pictures = tables.results / names[0] / "figures" if len(names) == 1 else None
    root = place.stem
    try:
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made) / root
            folder.mkdir()
            files(shown, names, {*formats, "csv"}, folder, columns, pictures)
            plans = _write_plans(folder, planned, tables.results)
            (folder / CONFIGS).write_text(dump_json({run["config_hash"]: run["config"] for run in planned}))
            (folder / "versions.txt").write_text(_versions(shown.runs))
            (folder / "README.md").write_text(_readme(root, names, plans, tables, planned))
            write_atomic(place, _zipped(folder))
    except OSError as error:
        raise UserError(f"--bundle {place}: cannot be written: {error.strerror or error}") from error


def check(place: Path) -> None:
    """Raises UserError if a bundle cannot be written there, before any work."""
    if place.suffix != ".zip":
        raise UserError(f"--bundle {place}: a bundle is a .zip file, e.g. {place.with_suffix('.zip')}")
    if not place.parent.is_dir():
        raise UserError(f"--bundle {place}: there is no folder {place.parent}")


class _Hide:
    """Text without what tells where it was made: a path keeps its last name alone; hosts and users have none."""

    def __init__(self, tables: Tables) -> None:
        hosts = {platform.node(), *map(str, tables.runs["host"].dropna())} - {"", "localhost"}
        people = {Path.home().name, getpass.getuser()} - {"", "root"}
        words = sorted(map(re.escape, hosts | people), key=len, reverse=True)
        self.names = re.compile(rf"(?<![\w.-])(?:{'|'.join(words)})(?![\w-])") if words else None
        named = {str(own[key]).partition(":")[2] for own in tables.configs.values() for key in PATHS if own.get(key)}
        known = [Path.home(), Path.cwd(), tables.results.absolute(), *map(Path, named)]
        folders = {str(folder) for path in known if path.is_absolute() for folder in path.parents}
        self.folders = sorted(folders - {"/"}, key=len, reverse=True)  # which may have spaces in them

    def __call__(self, text: str) -> str:
        for folder in self.folders:
            text = text.replace(f"{folder}/", "")
        text = QUOTED.sub(lambda found: found[1] + _last(found[2]) + found[1], text)
        text = PATH.sub(lambda found: _last(found[0]), text)
        return self.names.sub("...", text) if self.names else text


def _last(path: str) -> str:
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1]


def _redacted(tables: Tables, hide: _Hide) -> Tables:
    def frame(table: pd.DataFrame) -> pd.DataFrame:
        found = table.copy(deep=False)
        for name in map(str, found):
            if name in TOLD or name in PATHS or name.startswith("config."):
                found[name] = [hide(value) if isinstance(value, str) else value for value in found[name]]
        return found.assign(host="") if "host" in found else found

    shown = replace(tables, configs=_hidden(tables.configs, hide), marks={})
    for name in ("runs", "evaluations", "grid", "leaderboard", "problems"):
        setattr(shown, name, frame(getattr(tables, name)))
    return shown


def _hidden(value: Any, hide: _Hide) -> Any:
    """A value of JSON, all text in it hidden."""
    if isinstance(value, dict):
        return {key: _hidden(each, hide) for key, each in value.items()}
    if isinstance(value, list):
        return [_hidden(each, hide) for each in value]
    return hide(value) if isinstance(value, str) else value


def _planned(tables: Tables, hide: _Hide | None) -> list[dict[str, Any]]:
    """Of every run that counts what its config.json says; a configuration's, in each use, as its first readable one."""
    found: list[dict[str, Any]] = []
    counted = tables.runs[tables.runs["state"] != "duplicate"]
    for _, rows in counted.groupby(["config_hash", OF_SEARCH], sort=False):
        for name, run_id in rows[["experiment", "run_id"]].itertuples(index=False):
            try:
                config = parse_json(RunDir(tables.results / name / "runs" / run_id).config.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                continue  # a problem, which problems.csv tells
            config = _hidden(config, hide) if hide else config
            own = rows[["experiment", "seed"]].itertuples(index=False)
            found += [{**config, "experiment": experiment, "seed": int(seed)} for experiment, seed in own]
            break
    return found


def _write_plans(folder: Path, planned: Iterable[Mapping[str, Any]], results: Path) -> list[str]:
    """Write the sweep files; returns their names."""
    by_experiment: dict[str, list[Mapping[str, Any]]] = {}
    for run in planned:
        by_experiment.setdefault(run["experiment"], []).append(run)
    written = []
    for name, runs in by_experiment.items():
        stem = "experiment" if len(by_experiment) == 1 else name
        said = experiment.read(results / name)
        texts = sweeps(runs, name, said.margin, said.untils)
        for i, text in enumerate(texts, start=1):
            written.append(f"{stem}.toml" if len(texts) == 1 else f"{stem}-{i}.toml")
            (folder / written[-1]).write_text(text, encoding="utf-8")
    return written


def _versions(runs: pd.DataFrame) -> str:
    """A paragraph for every way in which finished runs were made, the most frequent first."""
    names = ["git_commit", "git_dirty", "versions", "device", "devices", "threads", "compiled"]
    done = runs.loc[runs["state"] == "done", names].fillna("").astype(str)
    ways = Counter(tuple(map(str, row)) for row in done.itertuples(index=False))
    told = [
        "\n".join([f"runs: {n}", *(f"{name}: {value}" for name, value in zip(names, values, strict=True) if value)])
        for values, n in ways.most_common()
    ]
    return "\n\n".join(told) + "\n"


def _readme(root: str, names: list[str], plans: list[str], tables: Tables, planned: list[dict[str, Any]]) -> str:
    notes = []
    if methods := sorted({run["method"] for run in planned} - METHODS.places.keys()):
        notes.append(f"Methods of plug-ins, whose code is not in here: {', '.join(methods)}.")
    named = {str(run["config"]["data"]["name"]) for run in planned}
    if away := sorted(name for name in named if ":" in name):
        notes.append(
            f"Data that are not in here, and are known by a hash of their content: {', '.join(away)}. To make runs "
            "again, they have to lie where that says, seen from where the command is given."
        )
    if tables.leaderboard.filter(like="_seeds_images").notna().any(axis=None):
        notes.append("Intervals for new test images (`*_seeds_images`) take predictions, which are not in here.")
    commands = "\n".join(f"bench sweep {root}/{plan}" for plan in plans)
    told = {"title": root, "folder": root, "experiments": ", ".join(names), "sweeps": commands}
    return README.format(**told, files="`, `".join(plans)) + "".join(f"\n{note}\n" for note in notes)


def _zipped(folder: Path) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                info = zipfile.ZipInfo(path.relative_to(folder.parent).as_posix(), EPOCH)
                info.external_attr = 0o644 << 16
                file.writestr(info, path.read_bytes(), zipfile.ZIP_DEFLATED)
    return content.getvalue()
