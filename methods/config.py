"""What the hyperparameters of all methods have in common. Imports no torch, so that runs can be planned without it."""

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

PredictorKind = Literal["mlp", "mlp_no_bn", "linear_bn", "linear", "none"]
"""See methods.heads.predictor."""


class MethodConfig(BaseModel):
    """A method's own hyperparameters: immutable, validated, each with a docstring."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)
    most_views: ClassVar[int | None] = 2
    """How many views of an image `forward` takes at most; None: any number, of any size, of two on."""

    @property
    def smallest_batch(self) -> int:
        """Images that a step needs at least."""
        return 2


class TeacherConfig(MethodConfig):
    """Hyperparameters of the methods that have a mean teacher."""

    tau: float = Field(0.99, ge=0, le=1)
    """EMA rate of the teacher at the start of training; 1 never moves it."""
    tau_end: float = Field(1.0, ge=0, le=1)
    """EMA rate at the end of training, with tau_schedule=cosine."""
    tau_schedule: Literal["cosine", "constant"] = "cosine"
    """cosine: tau rises to `tau_end`, as BYOL; constant: as RAFT's authors."""
    teacher_init: Literal["copy", "random"] = "copy"
    """copy: the teacher starts as the online network (BYOL); random: with weights of its own (RAFT's authors)."""
