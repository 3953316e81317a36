"""What `bench evaluate` is asked for: which evaluations, on which data, of which finished runs. Imports no torch."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.config.encoders import EncoderConfig, described
from bench.config.schema import RunConfig, parse_overrides
from bench.config.sections import DataConfig, EvalConfig, judged_on
from bench.data import datasets
from bench.errors import UserError, few, unknown
from bench.evaluation import EVALUATIONS, Evaluation, ask, parse
from bench.planning.options import EvaluateOptions, MachineOptions
from bench.planning.request import Ready, Request
from bench.runs import provenance, store
from bench.runs.encoders import Encoder
from bench.runs.evaluations import Asked
from bench.runs.identity import RUN_NAME, completed
from bench.runs.work import Judging, Work
from methods import METHODS, plugins

OWN = "own"  # the data set that a run was judged on when its training ended
DATA = "data.skip_bad"  # the one setting that is of the data, not of an evaluation


def options(flags: Mapping[str, Any]) -> EvaluateOptions:
    """What was asked for, by the command line's flags (None: not given). Raises UserError."""
    given = {key: value for key, value in flags.items() if value is not None}
    plugins.use(given.get("plugin", []))
    sources: dict[str, str] = {}
    for text in given.pop("encoder", []):
        name, equals, source = text.partition("=")
        if not equals or not name.strip() or not source.strip():
            raise UserError(f"--encoder {text!r}: expected NAME=SOURCE, e.g. r50=timm:resnet50.a1_in1k")
        if name.strip() in sources:
            raise UserError(f"--encoder {text!r}: there is another {name.strip()}; give it another name")
        sources[name.strip()] = source.strip()
    return EvaluateOptions.of({**given, "set": parse_overrides(given.pop("set", [])), "encoder": sources})


def described_encoders(options: EvaluateOptions) -> list[tuple[str, EncoderConfig]]:
    """Encoders from elsewhere, by name, with their settings encoder.NAME.KEY. Raises UserError."""
    given: dict[str, dict[str, Any]] = {name: {} for name in options.encoder}
    for key, value in options.set.items():
        if key.startswith("encoder."):
            name, _, setting = key.removeprefix("encoder.").rpartition(".")
            whose = name.removesuffix(".args")
            if whose not in given:
                raise unknown("encoder", whose or setting, given)
            (given[whose] if whose == name else given[whose].setdefault("args", {}))[setting] = value
    for name, source in options.encoder.items():
        if RUN_NAME.fullmatch(name):
            raise UserError(f"--encoder {name}={source}: {name} is the name of a run; give the encoder another name")
    return [(name, described(name, source, given[name])) for name, source in options.encoder.items()]


def wanted(options: EvaluateOptions) -> list[Asked]:
    """The evaluations that are asked for: every one of `--with` on every data set of `--data`. Raises UserError."""
    names = parse(options.evaluations)
    settings: dict[str, dict[str, str]] = {name: {} for name in names}
    for key, value in options.set.items():
        name, dot, setting = key.partition(".")
        if key == DATA or key.startswith("encoder."):
            continue
        if not dot or name not in EVALUATIONS:
            known = [f"{each}.{field}" for each, model in EVALUATIONS.items() for field in model.model_fields]
            raise unknown("setting of an evaluation", key, [*known, DATA])
        if name not in names:
            raise UserError(f"--set {key}={value}: {name} is not among --with {','.join(names)}")
        settings[name][setting] = value
    data = [_data(name, options.set.get(DATA, "false")) for name in _split(options.data)]
    return [ask(name, settings[name], section) for section in data for name in names]


def _split(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UserError(f"--data {text!r}: name one or more data sets, or {OWN}")
    return list(dict.fromkeys(names))


def _data(name: str, skip_bad: str) -> dict[str, Any]:
    """A data set as `Asked` has it; {} for a run's own. A folder or a table is read, for its fingerprint."""
    if name == OWN:
        return {}
    absolute = datasets.located(name, "--data ")
    fingerprint = datasets.fingerprint(absolute)
    if not fingerprint:
        return {"name": name}
    found = {"name": absolute, "fingerprint": fingerprint}
    return {**found, "skip_bad": True} if skip_bad.lower() in ("true", "1", "yes") else found


@dataclass(frozen=True)
class EvaluationRequest(Request):
    """Evaluations of the finished runs of one experiment, whose config.json files `planned` are."""

    asked: Sequence[Asked] = ()
    notes: Sequence[str] = ()
    """What there is to tell about runs that are left out."""
    encoders: Sequence[tuple[str, EncoderConfig]] = ()
    """From elsewhere, judged beside the runs."""

    @property
    def work(self) -> Work:
        return Judging([asked.key for asked in self.asked])

    def for_cpu(self, cores: int) -> "EvaluationRequest":
        """As they are: runs are judged on as many threads as they were trained on."""
        return self

    def open(self) -> list[dict[str, Any]]:
        """The runs of which some evaluation is missing; with `retry_failed`, or failed or cannot be read."""
        states = {"planned", "interrupted", "running"} | ({"failed", "damaged"} if self.retry_failed else set())
        found = ((run, self.work.place(self.experiment, run["run_id"])) for run in self.planned)
        return [run for run, place in found if self.work.read(place).state in states]

    def threads(self) -> int:
        return max((run["config"]["train"]["threads"] for run in self.planned), default=1)

    def make_ready(self) -> Ready:
        """Read every data set that is needed, then note what is asked for. Raises UserError if one cannot be read."""
        warnings = [*self.notes]
        made = self._made_encoders()
        sizes = {encoder.name: encoder.size for encoder in made}
        for encoder in made:
            warnings += [f"{encoder.name}: {line}" for line in encoder.told]
        if open_runs := self.open():
            from bench.planning.prepare import read_datasets

            wanted: dict[DataConfig, list[Evaluation]] = {}
            for run in open_runs:
                data, own = completed(run["config"])["data"], _own(run["config"])
                size = sizes.get(run["run_id"], own.size)
                wanted.setdefault(DataConfig(**{**data, "size": size}), [])  # it tells how images are normalised
                for asked in self.asked:
                    other = DataConfig(**{**(asked.data or own.model_dump()), "size": size, "channels": own.channels})
                    wanted.setdefault(other, []).append(EVALUATIONS[asked.evaluation](**asked.settings))
            warnings += read_datasets(wanted, self.data_dir)
        try:
            for asked in self.asked:
                asked.write(self.experiment)
            for encoder in made:
                encoder.write(self.work.place(self.experiment, encoder.name).path)
        except OSError as error:
            raise UserError(f"cannot write results to {self.experiment}: {error.strerror or error}") from None
        runs = [self.work.place(self.experiment, run["run_id"]) for run in self.planned]
        return Ready(runs, warnings, *provenance.git_state())

    def _made_encoders(self) -> list[Encoder]:
        """The encoders, their weights read and found complete. Imports torch if there are any. Raises UserError."""
        if not self.encoders:
            return []
        from bench.evaluation.encoders import foreign

        config = RunConfig(**completed(self.planned[0]["config"]))
        if config.data.channels != 3:
            name, each = self.encoders[0]
            raise UserError(
                f"--encoder {name}={each.source}: takes 3 channels, these runs' images have {config.data.channels}"
            )
        found = []
        for name, each in self.encoders:
            encoder = foreign(name, each, config.backbone, self.data_dir)
            sections = {key: self.planned[0]["config"][key] for key in ("data", "augment", "eval", "train")}
            found.append(encoder.model_copy(update={"judged_as": sections}))
        return found


def request(
    experiment: Path, asked: Sequence[Asked], data_dir: Path, options: EvaluateOptions, command: str, retry_failed: bool
) -> EvaluationRequest:
    """Evaluations of the runs of an experiment that are done. Raises UserError if none is."""
    done: list[dict[str, Any]] = []
    others: list[str] = []
    searched = 0
    for record in store.records(experiment):
        if "search" in record.config:
            searched += 1
        elif record.state == "done":
            done.append({**record.config, "experiment": experiment.name})  # a folder may be a copy, or renamed
        else:
            others.append(f"{record.dir.run_id} ({record.state})")
    if foreign_methods := sorted({run["method"] for run in done} - set(METHODS)):
        raise UserError(f"{experiment.name} has runs of {few(foreign_methods)}: name the plug-in with --plugin FILE.py")
    if not done:
        raise UserError(f"{experiment.name}: none of its {len(others)} runs is done, so there is nothing to judge")
    notes = [f"{len(others)} runs are not done, and left out: {few(others)}"] * bool(others)
    notes += [f"{searched} runs of a search are left out: they choose, and are not reported"] * bool(searched)
    own = {_identity(_own(run["config"]).model_dump()) for run in done}
    here = [each.model_copy(update={"data": {}}) if own == {_identity(each.data)} else each for each in asked]
    encoders = described_encoders(options)
    return EvaluationRequest(
        planned=[*done, *_beside(done[0], encoders, own)],
        encoders=encoders,
        results=experiment.parent,
        data_dir=data_dir,
        options=options,
        command=command,
        retry_failed=retry_failed,
        asked=list({each.key: each for each in here}.values()),
        notes=notes,
    )


def beside(request: Request, encoders: Mapping[str, Mapping[str, str]]) -> list[EvaluationRequest]:
    """The encoders of a sweep file, judged as its runs are at their end; no run need be done. Raises UserError.

    encoders: name -> its source and settings.
    """
    if not encoders:
        return []
    first = request.planned[0]
    sources = {name: dict(given) for name, given in encoders.items()}
    options = EvaluateOptions.of(
        {
            **{name: getattr(request.options, name) for name in MachineOptions.model_fields},
            **{"devices_per_run": 1, "nodes": 1, "evaluations": first["config"]["eval"]["at_end"]},
            "encoder": {name: given.pop("source") for name, given in sources.items()},
            "set": {f"encoder.{name}.{key}": value for name, given in sources.items() for key, value in given.items()},
        }
    )
    described = described_encoders(options)
    judged = EvaluationRequest(
        planned=_beside(first, described, {_identity(_own(run["config"]).model_dump()) for run in request.planned}),
        encoders=described,
        results=request.results,
        data_dir=request.data_dir,
        options=options,
        command=request.command,
        retry_failed=request.retry_failed,
        asked=wanted(options),
    )
    return [judged]


def _beside(
    first: Mapping[str, Any], encoders: Sequence[tuple[str, EncoderConfig]], data: Collection[str]
) -> list[dict[str, Any]]:
    """What stands for encoders among planned runs, of which `first` is one; data: of all. Raises UserError."""
    if encoders and len(data) > 1:
        raise UserError(
            f"encoder {encoders[0][0]}: the runs of {first['experiment']} have several data sets; judge it in an "
            "experiment that has one"
        )
    found = []
    for name, each in encoders:
        own = {"run_id": name, "method": name, "seed": 0, "config_hash": "", "overrides": {"source": each.source}}
        found.append({**first, **own})
    return found


def _own(config: Mapping[str, Any]) -> DataConfig:
    """The data set on which a run of this config.json was judged at its end."""
    whole = completed(config)
    return judged_on(DataConfig(**whole["data"]), EvalConfig(**whole["eval"]))


def _identity(data: Mapping[str, Any]) -> str:
    """What tells data sets apart: of a folder the content, not where it lies."""
    return str(data.get("fingerprint") or data.get("name", ""))
