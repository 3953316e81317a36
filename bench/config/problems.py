"""What is wrong with settings, in words for people."""

from pydantic import BaseModel, ValidationError

from bench.errors import UserError, unknown


def first_problem(error: ValidationError, model: type[BaseModel], prefix: str) -> UserError:
    """The first thing that is wrong with settings of `model`, whose names `prefix` is put before."""
    problem = error.errors()[0]
    cause = problem.get("ctx", {}).get("error")
    if isinstance(cause, UserError):
        return cause
    key = (prefix + ".".join(str(part) for part in problem["loc"])).removesuffix(".")  # of the whole: no key
    if problem["type"] == "extra_forbidden":
        return unknown("key", key, (prefix + name for name in model.model_fields))
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    value = problem["input"]
    if isinstance(value, (str, int, float, bool)):
        shown = str(value).removesuffix(".0") if isinstance(value, float) else repr(value)
        return UserError(f"{key}={shown}: should be {message}")
    return UserError(f"{key}: {message}" if key else message)
