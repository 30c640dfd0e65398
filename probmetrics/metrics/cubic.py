"""The cubic kernel distance of features far from the origin, without loss of digits."""

from torch import Tensor

FAR = 1e5  # squared offset over squared spread from which digits are at stake
ROWS = 2**10  # of a block of pairs


def is_far(x: Tensor, y: Tensor) -> bool:
    """Whether (⟨x, y⟩/d + 1)³ is nearly the same number for all pairs."""
    middle = _middle(x, y)
    spread = max(float((z.detach().double() - middle).square().mean()) for z in (x, y))
    return float(middle.square().mean()) > FAR * max(spread, 1.0)


def cubic_far(x: Tensor, y: Tensor, *, unbiased: bool) -> Tensor:
    """Squared MMD with the kernel (⟨x, y⟩/d + 1)³, shape (*batch), float64.

    Args:
        x: Shape (*batch, n, d).
        y: Shape (*batch, m, d).
        unbiased: U-statistic, else V-statistic.

    With x = μ + u, y = μ + v, p = ‖μ‖²/d + 1, α = ⟨μ, u⟩/d, β = ⟨μ, v⟩/d and w = ⟨u, v⟩/d the
    kernel is (p + α + β + w)³. What is a function of one point plus a function of the other
    cancels in an MMD: p³, 3p²(α + β), 3p(α² + β²), α³ + β³. Left out before the sums are taken, it
    takes no digits with it. Any μ will do, so it has no gradient.
    """
    middle = _middle(x, y)
    u, v = x.double() - middle, y.double() - middle
    xx, yy = _within(u, middle, unbiased), _within(v, middle, unbiased)
    pairs = u.shape[-2] * v.shape[-2]
    return xx + yy - 2.0 * _total(u, v, middle) / pairs


def _middle(x: Tensor, y: Tensor) -> Tensor:
    both = (x.detach().double().mean(-2) + y.detach().double().mean(-2)) / 2
    return both.unsqueeze(-2)


def _within(u: Tensor, middle: Tensor, unbiased: bool) -> Tensor:
    n, total = u.shape[-2], _total(u, u, middle)
    if not unbiased:
        return total / n**2
    p, alpha = _offsets(u, middle)
    own = _left(p, alpha, alpha, u.square().mean(-1)).sum(-1)
    return (total - own) / (n * (n - 1))


def _total(u: Tensor, v: Tensor, middle: Tensor) -> Tensor:
    """The sum of what is left over all pairs."""
    total = u.new_zeros(u.shape[:-2])
    p, beta = _offsets(v, middle)
    for rows in u.split(ROWS, -2):
        alpha = _offsets(rows, middle)[1]
        w = rows @ v.mT / u.shape[-1]
        left = _left(p.unsqueeze(-1), alpha.unsqueeze(-1), beta.unsqueeze(-2), w)
        total = total + left.sum((-1, -2))
    return total


def _offsets(u: Tensor, middle: Tensor) -> tuple[Tensor, Tensor]:
    """p, shape (*batch, 1), and α of each point, shape (*batch, n)."""
    return middle.square().mean(-1) + 1.0, (u * middle).mean(-1)


def _left(p: Tensor, alpha: Tensor, beta: Tensor, w: Tensor) -> Tensor:
    """(p + α + β + w)³ without functions of one point."""
    level = p + alpha + beta
    return 3.0 * alpha * beta * (level + p) + w * (3.0 * level * (level + w) + w * w)
