"""What can be named on the command line, each with a line that says what it is."""

from bench.errors import unknown

KINDS = ("methods", "presets", "datasets", "backbones", "evaluations", "keys")


def rows(kind: str, method: str) -> list[tuple[str, str]]:
    """Names and descriptions of one of KINDS; "keys" are those that `--set` takes for `method`. Raises UserError."""
    if kind == "methods":
        from methods import METHODS

        where = {name: METHODS.origin(name) for name in METHODS}
        return [(name, METHODS.summary(name) + f" (from {origin})" * bool(origin)) for name, origin in where.items()]
    if kind == "presets":
        from bench.config.presets import DESCRIPTIONS

        return [*DESCRIPTIONS.items()]
    if kind == "datasets":
        from bench.data.datasets import DATASETS

        return [(name, f"{entry.title}: {entry.description}") for name, entry in DATASETS.items()]
    if kind == "backbones":
        from bench.config import backbones

        return [(name, "") for name in backbones.names()]
    if kind == "evaluations":
        from bench.evaluation import EVALUATIONS

        found = []
        for name, evaluation in EVALUATIONS.items():
            found.append((name, (evaluation.__doc__ or "").split("\n")[0]))
            for key, field in evaluation.model_fields.items():
                default = f" (default: {field.default})" if field.default not in ("", None) else ""
                found.append((f"  {name}.{key}", " ".join((field.description or "").split()) + default))
        return found
    if kind == "keys":
        from bench.config.schema import keys
        from bench.planning import plan

        return [*keys(plan.parse_methods(method)[0]).items()]
    raise unknown("list", kind, KINDS)
