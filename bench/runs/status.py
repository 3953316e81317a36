"""Where a sweep stands: the state of every run, from its directory; a scheduler is asked only about what is not done.

Nothing here knows SLURM: who asks passes a function that answers for it.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from bench.errors import UserError
from bench.files import file_system_time, parse_json, printable
from bench.runs import claim, evaluations, store
from bench.runs.identity import seed_list
from bench.runs.progress import planned, remaining
from bench.runs.work import TRAINING, Judging, Work

STATES = (
    "done",
    "running",
    "queued",
    "failed",
    "lost",
    "interrupted",
    "cancelled",
    "planned",
    "damaged",
    "unknown",
)
"""done: result.json is there; running: claimed by a live process; queued: a job that will come to it is queued or
running; failed: error.txt says why; lost: its job ended without it; interrupted: begun, no live process; cancelled:
its job was, on purpose; planned: not begun, and not submitted; damaged: a file is missing or empty; unknown: submitted,
but the scheduler cannot be asked. What the directory alone tells is bench.runs.store's."""

OPEN = {"running", "queued", "unknown"}  # something may still happen by itself
BAD = {"failed", "lost", "damaged"}
OVER = {"done", "failed", "damaged"}
STYLES = {"done": "green", "running": "cyan", "failed": "red", "lost": "red", "damaged": "red"}
SEARCH = "search"
"""What the job that goes on with a search is asked for by, in place of a run id."""
ROWS = 10  # shown of one state
WATCH_SECONDS = 5


@dataclass(frozen=True)
class Job:
    """What a scheduler says about a run."""

    state: Literal["queued", "running", "ended", "cancelled", "unknown"]
    detail: str


Ask = Callable[[Path, Collection[str], Collection[str]], tuple[dict[str, Job], list[str]]]
"""(experiment's directory, run ids, keys of evaluations) -> jobs of the runs that were submitted, to make all of these
evaluations of them or, without keys, to be trained; and notes on what could not be asked."""


@dataclass(frozen=True)
class StatusRow:
    """One run: its state, one of STATES, and what there is to say about it."""

    run_id: str
    state: str
    detail: str = ""


@dataclass(frozen=True)
class Survey:
    """An experiment at one moment."""

    path: Path
    runs: list[StatusRow]
    notes: list[str]
    stage: str = ""
    """Where a search stands."""
    next: str = ""
    """State of the job that goes on with it, if there is one."""
    judged: list[tuple[str, Counter[str]]] = field(default_factory=list)
    """What each evaluation that was asked for is called, and the number of runs by state of it; planned: missing."""

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def counts(self) -> Counter[str]:
        """Number of runs by state."""
        return Counter(run.state for run in self.runs)

    def states(self) -> set[str]:
        """All that there are, of runs and of evaluations."""
        return {*self.counts, *filter(None, [self.next]), *(s for _, counts in self.judged for s in counts)}


def survey(experiment: Path, ask: Ask, only: Collection[str] | None = None, work: Work = TRAINING) -> Survey:
    """State of every run of an experiment (or of the run ids `only`), as far as `work` on it goes."""
    runs = [look(run, work) for run in work.places(experiment) if only is None or run.run_id in only]
    waiting = [run.run_id for run in runs if run.state in store.CLAIMABLE]
    jobs, notes = ask(experiment, waiting, work.keys) if waiting else ({}, [])
    over = {run_id for run_id, job in jobs.items() if job.state in ("ended", "cancelled")}
    # a run may have ended between our look and the scheduler's answer
    runs = [look(work.place(experiment, r.run_id), work) if r.run_id in over else r for r in runs]
    return Survey(experiment, [_with_job(run, jobs.get(run.run_id)) for run in runs], notes)


def with_search(found: Survey, ask: Ask) -> Survey:
    """The survey with where its search stands, if there is one: told by the seeds of the runs."""
    from bench.runs import experiment  # pydantic

    try:
        seeds = set(experiment.read(found.path).search_seeds)
    except UserError as error:
        return replace(found, notes=[*found.notes, str(error)])
    if not seeds:
        return found
    names = {str(seed) for seed in seeds}
    searched = [run for run in found.runs if run.run_id.rpartition("-s")[2] in names]
    over = sum(run.state in OVER for run in searched)
    on = f"on seeds {seed_list(seeds)}"
    if winners := len(found.runs) - len(searched):
        ended = sum(run.state in OVER for run in found.runs) - over
        told = f"search over ({on}); of the runs of its winners {ended} of {winners} have ended"
        if over == len(searched):
            return replace(found, stage=told)
    told = f"search {on}: {over} of {len(searched)} runs have ended; its winners then run on other seeds"
    jobs, notes = ask(found.path, [SEARCH], ())
    if job := jobs.get(SEARCH):
        row = _with_job(StatusRow(SEARCH, "planned"), job)
        told += f"; the job that goes on with it: {row.state}, {row.detail}"
        found = replace(found, next=row.state, notes=[*found.notes, *(n for n in notes if n not in found.notes)])
    elif over == len(searched):
        told += "; the same command goes on"
    return replace(found, stage=told)


def with_evaluations(found: Survey, ask: Ask) -> Survey:
    """The survey with a count for each evaluation that was asked for, of runs that are done and of other encoders.

    Each folder of evaluations is listed once; no more than the newest claim is read in it.
    """
    experiment = found.path
    asked = evaluations.asked(experiment)
    if not asked:
        return found
    work = Judging([each.key for each in asked])
    counts = {key: Counter[str]() for key in work.keys}
    waiting: dict[str, list[str]] = {key: [] for key in work.keys}
    done = [store.RunDir(experiment / "runs" / run.run_id) for run in found.runs if run.state == "done"]
    for run in [*done, *store.run_dirs(experiment, evaluations.ENCODERS)]:
        try:
            states, _ = work.states(run)
        except OSError:
            states = dict.fromkeys(work.keys, "damaged")
        for key, state in states.items():
            if state in store.CLAIMABLE:
                waiting[key].append(run.run_id)
            else:
                counts[key][state] += 1
    notes = list(found.notes)
    for key, runs in waiting.items():
        jobs, told = ask(experiment, runs, [key]) if runs else ({}, [])
        rows = [_with_job(StatusRow(run, "planned"), jobs.get(run)) for run in runs]
        counts[key].update(row.state for row in rows)
        notes += [note for note in told if note not in notes]
        notes += [f"{row.run_id}: {key}: {row.detail}" for row in rows if row.state == "lost"][:ROWS]
    return replace(found, notes=notes, judged=[(each.title, counts[each.key]) for each in asked])


def look(run: store.RunDir, work: Work = TRAINING) -> StatusRow:
    """What the directory alone says. Reads no more of it than that needs: there may be thousands on a slow disk."""
    record = work.read(run, content=False)
    detail = record.error
    if work.keys:
        detail = detail or work.cells(record)[1]
    elif record.state == "running" and record.owner:
        detail = _progress(run, record.owner)
    elif record.state == "interrupted" and (epoch := run.last_epoch().get("epoch", 0)):
        detail = f"after epoch {epoch}"
    return StatusRow(run.run_id, record.state, detail)


def _progress(run: store.RunDir, owner: claim.ClaimFile) -> str:
    """ "epoch 12/30, 4 min left, on n1 (job 12_3)"."""
    try:
        epochs = planned(parse_json(run.config.read_text(encoding="utf-8")), "epochs")
    except (OSError, ValueError, RecursionError):
        return ""
    row = run.last_epoch()
    parts = [f"epoch {row.get('epoch', 0)}/{epochs}"]
    if left := remaining(row, epochs):
        parts.append(left)
    job = owner.owner.get("job")
    job = job if isinstance(job, dict) else {}
    number = f"{job['array']}_{job.get('task')}" if "array" in job else job.get("id")
    parts.append(f"on {owner.owner.get('host')}" + (f" (job {number})" if number else ""))
    if not owner.here and file_system_time(run.path) is None:
        parts.append("unconfirmed: we may not write here, so it takes --watch a minute to see whether it lives")
    return ", ".join(parts)


def _with_job(run: StatusRow, job: Job | None) -> StatusRow:
    """A run without a live process, in the light of its job."""
    if job is None or run.state not in store.CLAIMABLE:
        return run
    state = {"ended": "lost", "running": "queued"}.get(job.state, job.state)
    return StatusRow(run.run_id, state, ", ".join(part for part in (job.detail, run.detail) if part))


def summary(found: Survey) -> str:
    """ "quick: 40 runs: 38 done, 1 running, 1 failed"."""
    counts = found.counts
    shown = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    return f"{found.name}: {len(found.runs)} runs: {shown}" if found.runs else f"{found.name}: no runs"


def render(surveys: Iterable[Survey]) -> Group:
    """A line and a table for each experiment: what is not done, at most ROWS of a state, then the notes."""
    lines: list[Text] = []
    for found in surveys:
        lines.append(Text(summary(found), style="bold"))
        width = max((len(run.run_id) for run in found.runs), default=0)
        for state in STATES[1:]:
            runs = [run for run in found.runs if run.state == state]
            for run in runs[:ROWS]:
                told = ": ".join(filter(None, (_label(found.path / "runs" / run.run_id), run.detail)))
                parts = (f"  {run.run_id:<{width}}  ", (f"{state:<11}  ", STYLES.get(state, "")), told)
                lines.append(Text.assemble(*parts, overflow="fold"))
            if len(runs) > ROWS:
                lines.append(Text(f"  and {len(runs) - ROWS} more {state}"))
        if found.stage:
            lines.append(Text(f"  {found.stage}", overflow="fold"))
        for title, counts in found.judged:
            shown = [
                f"{counts[state]} {'missing' if state == 'planned' else state}" for state in STATES if counts[state]
            ]
            lines.append(Text(f"  {title}: of {sum(counts.values())} runs {', '.join(shown)}", overflow="fold"))
        lines += [Text(f"  note: {note}", style="yellow") for note in found.notes]
    return Group(*lines)


def _label(run: Path) -> str:
    """What tables call the run's row, if it has a label. Read of the few runs that are shown, not of thousands."""
    try:
        planned = parse_json(store.RunDir(run).config.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return ""
    label = planned.get("entry") if isinstance(planned, dict) else None
    return printable(label) if isinstance(label, str) else ""


def show(experiments: list[Path], ask: Ask, console: Console, watch: bool) -> int:
    """Print where the experiments stand; with `watch`, until nothing will happen by itself any more.

    Returns the exit code: 1 if a run failed, is lost or damaged.
    """

    def take() -> list[Survey]:
        return [with_evaluations(with_search(survey(path, ask), ask), ask) for path in experiments]

    surveys = take()
    if watch:
        with Live(render(surveys), console=console, auto_refresh=False, transient=True) as live:
            while any(OPEN & found.states() for found in surveys):
                time.sleep(WATCH_SECONDS)
                surveys = take()
                live.update(render(surveys), refresh=True)
    for line in render(surveys).renderables:
        console.print(line, soft_wrap=True)
    if any("lost" in (*found.counts, found.next) for found in surveys):
        console.print("lost runs: the same `bench sweep` submits them again, from their checkpoints", highlight=False)
    return int(any(BAD & found.states() for found in surveys))
