"""What happened in training: losses and metrics by step, and why it stopped."""

from dataclasses import dataclass, field
from pathlib import Path


class TrainingDivergedError(ArithmeticError):
    """A loss or gradient that is not finite; the model still holds the weights before that step.

    Attributes:
        step: The step it happened at, counted from 0.
        objective: Whose loss it was.
        loss: Its value.
        checkpoint: The last checkpoint written, from before, or None.
    """

    def __init__(self, step: int, objective: str, loss: float, checkpoint: Path | None) -> None:
        self.step, self.objective, self.loss, self.checkpoint = step, objective, loss, checkpoint
        what = "gradient is not finite at loss" if loss - loss == 0 else "loss is"
        kept = f"; the last good checkpoint is {checkpoint}" if checkpoint else ""
        super().__init__(
            f"step {step}: the {objective} {what} {loss:g}; try a smaller learning rate, "
            f"clip=1.0, or data scaled to variance one{kept}"
        )


@dataclass
class History:
    """What happened in training.

    Attributes:
        losses: For each objective, its loss at each step (the last of its inner steps).
        metrics: (step, value) of each evaluation of the metric.
        steps: Steps done in all.
        stopped: "steps" or "no improvement".
        best_step: Step of the weights kept, where a metric chose them.
        seconds: Spent in this call.
    """

    losses: dict[str, list[float]] = field(default_factory=dict)
    metrics: list[tuple[int, float]] = field(default_factory=list)
    steps: int = 0
    stopped: str = "steps"
    best_step: int | None = None
    seconds: float = 0.0

    def __repr__(self) -> str:
        last = ", ".join(f"{name} {values[-1]:.4g}" for name, values in self.losses.items())
        return f"History({self.steps} steps in {self.seconds:.1f} s, {last})"
