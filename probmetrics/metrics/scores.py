"""Scores from a classifier's probabilities: Inception, modified Inception, mode and AM scores.

All need three sums over the samples only, Σ p, Σ p log p and Σ log p, so they stream in constant
memory and merge by addition.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import Array, Values, array_function

if TYPE_CHECKING:
    Probabilities = Any
    ManyLabels = Any
else:
    Probabilities = Float[Tensor, "n c"]
    ManyLabels = Float[Tensor, " c"]


@dataclass(frozen=True)
class LabelSums:
    """What the scores need of n probability vectors over c classes; states add.

    Attributes:
        count: n.
        labels: Σ_i p_i, shape (c,).
        negentropy: Σ_i Σ_c p_ic log p_ic.
        logs: Σ_i log p_i, shape (c,); −∞ where some probability is zero.
    """

    count: Any
    labels: Any
    negentropy: Any
    logs: Any

    @classmethod
    def of(cls, p: Tensor, *, logits: bool = False) -> "LabelSums":
        """Sums of probabilities, or of the softmax of logits, shape (n, c), in float64."""
        log_p = checked_logs(p, logits)
        probabilities = log_p.exp()
        return cls(
            probabilities.new_tensor(float(len(p))),
            probabilities.sum(0),
            _xlog(probabilities, log_p).sum(),
            log_p.sum(0),
        )

    def merge(self, other: "LabelSums") -> "LabelSums":
        """Sums over both."""
        return LabelSums(
            self.count + other.count,
            self.labels + other.labels,
            self.negentropy + other.negentropy,
            self.logs + other.logs,
        )


def inception_from_sums(sums: LabelSums) -> Tensor:
    """exp mean_i KL(p_i ‖ p̄): mean negative entropy less the marginal's, exponentiated."""
    mean = sums.labels / sums.count
    score: Tensor = (sums.negentropy / sums.count - _xlog(mean, mean.log()).sum()).exp()
    return score


def modified_from_sums(sums: LabelSums) -> Tensor:
    """exp mean_ij KL(p_i ‖ p_j)."""
    mean = sums.labels / sums.count
    cross = _xlog(mean, sums.logs / sums.count).sum()
    score: Tensor = (sums.negentropy / sums.count - cross).exp()
    return score


def mode_from_sums(sums: LabelSums, labels: Tensor) -> Tensor:
    """exp(mean_i KL(p_i ‖ p̄) − KL(p̄ ‖ p*)), with p* the labels of the data."""
    mean = sums.labels / sums.count
    return inception_from_sums(sums) * (-_kl(mean, labels)).exp()


def am_from_sums(sums: LabelSums, labels: Tensor) -> Tensor:
    """KL(p* ‖ p̄) + mean_i H(p_i), in nats; lower is better."""
    mean = sums.labels / sums.count
    score: Tensor = _kl(labels, mean) - sums.negentropy / sums.count
    return score


@dataclass(frozen=True)
class SplitScore:
    """A score over splits of the samples.

    Attributes:
        mean: Over the splits.
        std: Over the splits, by the convention's divisor.
    """

    mean: Any
    std: Any


@array_function
def inception_score(
    p: Probabilities,
    *,
    splits: int = 10,
    logits: bool = False,
    convention: str = "torch-fidelity",
) -> SplitScore:
    """Inception score exp mean_i KL(p_i ‖ p̄) of classifier probabilities, over splits.

    Args:
        p: Probabilities of n samples over c classes, shape (n, c).
        splits: Into how many consecutive parts the samples are cut.
        logits: The values are logits, whose softmax is taken.
        convention: "torch-fidelity": parts of n/splits rows, standard deviation with divisor
            ``splits``. "torchmetrics": parts of ⌈n/splits⌉ rows, divisor ``splits − 1``. Both
            shuffle the samples first, which is left to the caller.

    Returns:
        Mean and standard deviation over the splits; mean between 1 and c.

    Raises:
        ValueError: Rows that do not sum to one, or fewer rows than splits.

    Example:
        >>> import numpy as np
        >>> round(inception_score(np.eye(4), splits=1).mean, 6)  # four sure, different labels
        4.0

    Notes:
        Says nothing about the data, and depends on the classifier and on n: name both.

    References:
        Salimans et al. (2016), Improved techniques for training GANs, section 4; Barratt & Sharma
        (2018), A note on the Inception score.
    """
    checks.choice(convention, "convention", ("torch-fidelity", "torchmetrics"))
    splits = checks.count(splits, "splits")
    n = len(p)
    if n < splits:
        raise ValueError(f"p has {n} rows, fewer than splits={splits}; lower splits")
    checked_logs(p, logits)
    if convention == "torchmetrics":
        parts = list(p.chunk(splits))
    else:
        parts = [p[i * n // splits : (i + 1) * n // splits] for i in range(splits)]
    scores = torch.stack([inception_from_sums(LabelSums.of(q, logits=logits)) for q in parts])
    correction = 1 if convention == "torchmetrics" and len(parts) > 1 else 0
    return SplitScore(scores.mean(), scores.std(correction=correction))


@array_function
def modified_inception_score(p: Probabilities, *, logits: bool = False) -> Values:
    """Modified Inception score exp mean_ij KL(p_i ‖ p_j), which rewards variety within a class too.

    Args:
        p: Probabilities, shape (n, c).
        logits: The values are logits.

    Returns:
        One or more; infinite where a probability is exactly zero that elsewhere is not.

    Example:
        >>> modified_inception_score([[0.5, 0.5], [0.5, 0.5]])
        1.0

    References:
        Gurumurthy, Sarvadevabhatla, Babu (2017), DeLiGAN, section 5.
    """
    return modified_from_sums(LabelSums.of(p, logits=logits))


@array_function
def mode_score(p: Probabilities, labels: ManyLabels, *, logits: bool = False) -> Values:
    """Mode score exp(mean_i KL(p_i ‖ p̄) − KL(p̄ ‖ p*)).

    Args:
        p: Probabilities of the model's samples, shape (n, c).
        labels: Distribution p* of the labels in the data, shape (c,).
        logits: ``p`` are logits.

    Returns:
        Between 0 and c.

    Example:
        >>> import numpy as np
        >>> round(mode_score(np.eye(2), np.array([0.5, 0.5])), 6)
        2.0

    References:
        Che et al. (2017), Mode regularized GANs, section 4; in the form of Xu et al. (2018), An
        empirical study on evaluation metrics of GANs, eq. 2.
    """
    return mode_from_sums(LabelSums.of(p, logits=logits), checked_labels(labels, p))


@array_function
def am_score(p: Probabilities, labels: ManyLabels, *, logits: bool = False) -> Values:
    """AM score KL(p* ‖ p̄) + mean_i H(p_i), in nats; lower is better.

    Args:
        p: Probabilities of the model's samples, shape (n, c).
        labels: Distribution p* of the labels in the data, shape (c,).
        logits: ``p`` are logits.

    Returns:
        Zero or more.

    Example:
        >>> import numpy as np
        >>> abs(round(am_score(np.eye(2), np.array([0.5, 0.5])), 6))
        0.0

    References:
        Zhou et al. (2018), Activation maximization generative adversarial nets, eq. 22.
    """
    return am_from_sums(LabelSums.of(p, logits=logits), checked_labels(labels, p))


def checked_logs(p: Tensor, logits: bool) -> Tensor:
    """log p in float64 of probabilities or logits, shape (n, c); −∞ where p is zero."""
    if p.ndim != 2 or not p.shape[0]:
        raise ValueError(f"p must have shape (n, c) with n >= 1, got {tuple(p.shape)}")
    if logits:
        return checks.finite(p, "logits").double().log_softmax(-1)
    p = checks.probabilities(p.float() if p.element_size() < 4 else p, name="p").double()
    return (p / p.sum(-1, keepdim=True)).log()


def checked_labels(labels: Array, p: Tensor) -> Tensor:
    """A label distribution of the right length."""
    if labels.ndim != 1 or labels.shape[-1] != p.shape[-1]:
        raise ValueError(
            f"labels must have one probability per class, shape ({p.shape[-1]},); "
            f"got {tuple(labels.shape)}"
        )
    return checks.probabilities(labels, name="labels").double()


def _xlog(p: Tensor, log_q: Tensor) -> Tensor:
    return torch.where(p > 0, p * torch.where(p > 0, log_q, 0.0), 0.0)


def _kl(p: Tensor, q: Tensor) -> Tensor:
    return (_xlog(p, p.log()) - _xlog(p, q.log())).sum()
