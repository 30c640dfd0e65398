"""What a decoder's output means: the law of a point given its code."""

import abc
import math

import torch
from torch import Tensor, nn

from probmetrics import _checks as checks
from probmetrics.losses import bernoulli_log_density, gaussian_log_density
from probmetrics.losses.likelihood import in_unit_interval
from probmetrics.models.base import Seed, Shape, as_shape


class AbstractLikelihood(nn.Module, abc.ABC):
    """p(x | output of the decoder); outputs have the shape of points."""

    @abc.abstractmethod
    def log_density(self, x: Tensor, output: Tensor, event_ndim: int) -> Tensor:
        """log p(x | output) summed over the last ``event_ndim`` dimensions."""

    @abc.abstractmethod
    def mean(self, output: Tensor) -> Tensor:
        """The expected point."""

    @abc.abstractmethod
    def draw(self, output: Tensor, generator: Seed) -> Tensor:
        """A point drawn from p(· | output)."""

    def check(self, x: Tensor) -> Tensor:
        """The data, refused if this law cannot explain them."""
        return x


class GaussianLikelihood(AbstractLikelihood):
    """N(output, σ²), σ fixed or learned.

    Args:
        sd: σ, or where its learning starts.
        learned: "no", "one" for all coordinates, or "each" coordinate its own.
        shape: Shape of a point, where each coordinate has its own.

    Example:
        >>> law = GaussianLikelihood(0.5)
        >>> round(law.log_density(torch.zeros(1, 1), torch.zeros(1, 1), 1).item(), 5)
        -0.22579
    """

    log_variance: Tensor

    def __init__(self, sd: float = 1.0, *, learned: str = "no", shape: Shape | None = None) -> None:
        super().__init__()
        start = 2 * math.log(checks.positive(sd, "sd"))
        self.learned = checks.choice(learned, "learned", ["no", "one", "each"])
        if learned == "no":
            self.register_buffer("log_variance", torch.tensor(start))
        elif learned == "one":
            self.log_variance = nn.Parameter(torch.tensor(start))
        elif shape is None:
            raise ValueError('learned="each" needs the shape of a point')
        else:
            self.log_variance = nn.Parameter(torch.full(as_shape(shape), start))

    def log_density(self, x: Tensor, output: Tensor, event_ndim: int) -> Tensor:
        return gaussian_log_density(x, output, self.log_variance, event_ndim=event_ndim)

    def mean(self, output: Tensor) -> Tensor:
        return output

    def draw(self, output: Tensor, generator: Seed) -> Tensor:
        source = checks.generator(generator, output.device)
        noise = torch.randn(
            output.shape, generator=source, device=output.device, dtype=output.dtype
        )
        return output + torch.exp(0.5 * self.log_variance) * noise


class BernoulliLikelihood(AbstractLikelihood):
    """Bernoulli with the output as logits, for data in [0, 1].

    Example:
        >>> BernoulliLikelihood().mean(torch.zeros(1)).item()
        0.5
    """

    def log_density(self, x: Tensor, output: Tensor, event_ndim: int) -> Tensor:
        return bernoulli_log_density(x, output, event_ndim=event_ndim)

    def mean(self, output: Tensor) -> Tensor:
        return torch.sigmoid(output)

    def draw(self, output: Tensor, generator: Seed) -> Tensor:
        source = checks.generator(generator, output.device)
        return torch.bernoulli(torch.sigmoid(output), generator=source)

    def check(self, x: Tensor) -> Tensor:
        return in_unit_interval(x, "data")


def named_likelihood(law: str | AbstractLikelihood, shape: Shape) -> AbstractLikelihood:
    """The law of that name; "gaussian" has σ = 1, "gaussian one" and "gaussian each" learn it."""
    if isinstance(law, AbstractLikelihood):
        return law
    known = ["bernoulli", "gaussian", "gaussian one", "gaussian each"]
    checks.choice(law, "likelihood", known)
    if law == "bernoulli":
        return BernoulliLikelihood()
    learned = law.split()[1] if " " in law else "no"
    return GaussianLikelihood(learned=learned, shape=shape)
