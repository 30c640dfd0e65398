"""Losses of critics and generators, read off the (reward, penalty) rows of the family."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from probmetrics.divergences.family import CRITICS, DIVERGENCES, named
from probmetrics.divergences.row import CriticRow, FDivergence
from probmetrics.losses.precision import averaged
from probmetrics.losses.sample_loss import SampleLoss
from probmetrics.losses.samples import MMDLoss

Row = FDivergence | CriticRow
ROWS = (*DIVERGENCES, *CRITICS)  # the names of all rows


# (critic, x, y, generator=) → a term of the critic's loss, e.g. ``GradientPenalty``.
Penalty = Callable[..., Tensor]


class AdversarialLoss(nn.Module):
    """What critic and generator minimise on the critic's raw scores.

    For an f-divergence with output activation g and conjugate f* (scores are raw outputs v):

    - critic: −(E g(v_x) − E f*(g(v_y))), the negative of a lower bound of D_f;
    - generator, saturating: −E f*(g(v_y)), the same game; for the GAN row E log(1 − D(G));
    - generator, not saturating (the default): −E g(v_y); for the GAN row −E log D(G).

    For the critic rows (WGAN, hinge, least squares) the generator's loss is the row's own.

    Args:
        row: A row of ``probmetrics.divergences.family``, or its name: "gan", "kl", "wgan", ….
        saturating: Whether the generator plays the critic's own game. Its gradient vanishes for
            the GAN row where the critic is sure, which is why it is not the default.

    Raises:
        ValueError: An unknown name, or ``saturating`` with a critic row.

    Example:
        >>> import torch
        >>> loss = AdversarialLoss("gan")
        >>> scores = torch.zeros(5)  # D = ½ everywhere
        >>> round(loss.critic(scores, scores).item(), 5), round(loss.generator(scores).item(), 5)
        (1.38629, 0.69315)

    Notes:
        Scores of any shape are averaged over all their entries. Half precision is answered in
        float32. The rows saturate far out, so that scores in ±1000 keep finite gradients.

    References:
        Goodfellow et al. (2014), "Generative adversarial nets", eq. 1 and section 3; Nowozin,
        Cseke & Tomioka (2016), "f-GAN", eq. 7 and section 3.2; Arjovsky, Chintala & Bottou
        (2017); Lim & Ye (2017), "Geometric GAN"; Mao et al. (2017).
    """

    def __init__(self, row: Row | str, *, saturating: bool = False) -> None:
        super().__init__()
        self.row = named(row) if isinstance(row, str) else row
        if saturating and isinstance(self.row, CriticRow):
            raise ValueError(
                f"{self.row} has one generator loss, so saturating does not apply to it; "
                "leave it out"
            )
        self.saturating = saturating

    def bound(self, score_x: Tensor, score_y: Tensor) -> Tensor:
        """E g(v_x) − E f*(g(v_y)): what the critic maximises, a lower bound of D_f."""
        score_x, score_y = averaged(score_x, "score_x"), averaged(score_y, "score_y")
        return self.row.activation(score_x).mean() - self.row.composite(score_y).mean()

    def critic(self, score_x: Tensor, score_y: Tensor) -> Tensor:
        """What the critic minimises.

        Args:
            score_x: Raw scores of data, any shape.
            score_y: Raw scores of generated points; their number may differ.
        """
        return -self.bound(score_x, score_y)

    def generator(self, score_y: Tensor) -> Tensor:
        """What the generator minimises on the raw scores of its points."""
        score_y = averaged(score_y, "score_y")
        if isinstance(self.row, FDivergence) and not self.saturating:
            return -self.row.activation(score_y).mean()
        return self.row.generator(score_y).mean()

    def extra_repr(self) -> str:
        return f"{self.row}, saturating={self.saturating}"


class Adversarial(nn.Module):
    """A variational objective as a divergence between samples, at the critic as it stands.

    ``forward(x, y)`` is to be minimised in the samples, ``critic_loss(x, y)`` in the critic;
    whatever trains with a ``SampleLoss`` trains with this one too, once it takes critic steps.

    Args:
        critic: Scores x ↦ (n,) or (n, 1) for a row; features x ↦ (n, k) for a ``SampleLoss``.
        objective: A row or its name (GAN, f-GAN, WGAN, …), an ``AdversarialLoss``, or a
            ``SampleLoss``: then the critic maximises its value between features, as in MMD-GAN.
        saturating: As in ``AdversarialLoss``.
        penalty: Added to the critic's loss, e.g. ``GradientPenalty()``. It acts on the function
            the critic stands for: its scores, or the witness of the MMD between features.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> divergence = Adversarial(nn.Linear(2, 1), "js")
        >>> x, y = torch.randn(8, 2), torch.randn(6, 2, requires_grad=True)
        >>> divergence(x, y).backward()
        >>> bool(y.grad.abs().sum() > 0), divergence.critic_loss(x, y).ndim
        (True, 0)

    Notes:
        The value is the bound (for a row; the unscaled D_f of the family, so 2 JS for "js"). Its
        gradient in y is that of the generator's loss, which is the bound's own gradient if
        ``saturating``. Only parameters handed to an optimiser move: the critic also collects
        gradients from ``forward``, so clear them, or use ``backward(inputs=...)``.

    References:
        Li et al. (2017), "MMD GAN"; Bińkowski et al. (2018), "Demystifying MMD GANs";
        Tolstikhin et al. (2018), "Wasserstein auto-encoders", algorithm 1.
    """

    def __init__(
        self,
        critic: nn.Module,
        objective: Row | str | AdversarialLoss | SampleLoss = "gan",
        *,
        saturating: bool = False,
        penalty: Penalty | None = None,
    ) -> None:
        super().__init__()
        self.critic = critic
        if isinstance(objective, (AdversarialLoss, SampleLoss)):
            if saturating:
                raise ValueError("saturating is an option of the AdversarialLoss: set it there")
            self.objective: AdversarialLoss | SampleLoss = objective
        else:
            self.objective = AdversarialLoss(objective, saturating=saturating)
        self.penalty = penalty
        distance = isinstance(self.objective, SampleLoss) and not isinstance(
            self.objective, MMDLoss
        )
        if penalty is not None and distance:
            raise ValueError(
                "a penalty needs a critic function, and this distance between features has none; "
                "bound the features with spectral_normalise instead"
            )

    def forward(self, x: Tensor, y: Tensor, *, generator: Any = None) -> Tensor:
        """The divergence the critic sees between x (data) and y (model)."""
        seen_x, seen_y = self.critic(x), self.critic(y)
        if isinstance(self.objective, SampleLoss):
            return self.objective(seen_x, seen_y, generator=generator)  # type: ignore[no-any-return]
        bound = self.objective.bound(seen_x, seen_y)
        if self.objective.saturating:
            return bound
        toward = self.objective.row.activation(seen_x).mean() + self.objective.generator(seen_y)
        return toward + (bound - toward).detach()  # the bound's value, the generator's gradient

    def critic_loss(self, x: Tensor, y: Tensor, *, generator: Any = None) -> Tensor:
        """What the critic minimises on fixed samples: minus the divergence, plus the penalty."""
        x, y = x.detach(), y.detach()
        seen_x, seen_y = self.critic(x), self.critic(y)
        if isinstance(self.objective, SampleLoss):
            loss: Tensor = -self.objective(seen_x, seen_y, generator=generator)
        else:
            loss = self.objective.critic(seen_x, seen_y)
        if self.penalty is None:
            return loss
        return loss + self.penalty(self.potential(x, y), x, y, generator=generator)

    def potential(self, x: Tensor, y: Tensor) -> Callable[[Tensor], Tensor]:
        """The function on points that the critic stands for, shape (n, …) → (n,) or (n, 1)."""
        objective, critic = self.objective, self.critic
        if isinstance(objective, MMDLoss):
            return lambda at: objective.witness(critic(x), critic(y), critic(at))
        return critic
