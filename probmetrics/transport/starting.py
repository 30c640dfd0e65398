"""Potentials to start from: those of Gaussians, and those of a few clusters of points."""

import contextlib

import torch
from torch import Tensor

from probmetrics.pairwise.costs import SqEuclidean
from probmetrics.pairwise.ground import some_rows
from probmetrics.transport.sweeps import EntropicProblem, Sweeper

MATRIX_WORK = 2**16  # d³ per batch entry, times their number, up to which axes are not separated
RIDGE = 1e-6
DIMENSIONS = 3  # in which few clusters stand for many points
CLUSTERS = 1024
COVERED = torch.tensor([0.01, 0.99], dtype=torch.float64)
LOOKS = 2048  # points that say where most are

Coarse = tuple[EntropicProblem, tuple[Tensor, Tensor]]  # and which cluster each point belongs to


def gaussian_start(problem: EntropicProblem, epsilon: Tensor) -> tuple[Tensor, Tensor]:
    """The potentials of ‖x − y‖² between Gaussians with the moments of the measures.

    With centred x and y, covariances A and B and δ = x̄ − ȳ,

        f(x) = xᵀ(I − U)x + 2δᵀx + c,   g(y) = yᵀ(I − V)y − 2δᵀy + ‖δ‖²,
        U = A^{−½} (A^{½}BA^{½} + (ε/4)² I)^{½} A^{−½} − (ε/4) A^{−1},   U = (V + (ε/2) B^{−1})^{−1}

    and c = (ε/2) log det(I + 2BV/ε): each is the other's softmin. In many dimensions covariances
    are cut to their diagonals.

    References:
        Janati et al. (2020), "Entropic optimal transport between unbalanced Gaussian measures
        has a closed form", Theorem 1.
    """
    x, mean_x, a = _centred(problem.x, problem.a)
    y, mean_y, b = _centred(problem.y, problem.b)
    delta, d = mean_x - mean_y, x.shape[-1]  # (B, 1, d)
    found = None
    if len(x) * d**3 <= MATRIX_WORK:
        # ε may be far from both covariances
        with contextlib.suppress(torch.linalg.LinAlgError):  # type: ignore[attr-defined]
            found = _with_matrices(x, y, a, b, delta, epsilon)
    f, g, c = found or _with_axes(x, y, a, b, delta, epsilon)
    f, g = f.double() + c.unsqueeze(-1), g.double() + delta.double().square().sum(-1)
    return _tamed(f, g, problem.b, _longest(x, y, delta))


def _with_matrices(
    x: Tensor, y: Tensor, a: Tensor, b: Tensor, delta: Tensor, epsilon: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    eps, d = epsilon[:, None, None], x.shape[-1]
    exact = ((z.double(), w.double()) for z, w in ((x, a), (y, b)))  # rounding has signs
    cov_x, cov_y = ((w.unsqueeze(-1) * z).mT @ z for z, w in exact)
    spread = (cov_x + cov_y).diagonal(dim1=-2, dim2=-1).mean(-1)[:, None, None]
    eye = torch.eye(d, dtype=torch.float64, device=x.device)
    ridge = (RIDGE * spread + torch.where(spread > 0, 0.0, 1.0)) * eye
    cov_x, cov_y = cov_x + ridge, cov_y + ridge
    u = _inverse_map(cov_x, cov_y, eps)
    v = torch.linalg.inv(u) - 0.5 * eps * torch.linalg.inv(cov_y)
    v = 0.5 * (v + v.mT)
    c = 0.5 * epsilon * torch.linalg.slogdet(eye + 2.0 * cov_y @ v / eps)[1]
    bent_x, bent_y = x - x @ u.to(x.dtype), y - y @ v.to(y.dtype)
    f = (x * (bent_x + 2.0 * delta)).sum(-1)
    g = (y * (bent_y - 2.0 * delta)).sum(-1)
    return f, g, c


def _with_axes(
    x: Tensor, y: Tensor, a: Tensor, b: Tensor, delta: Tensor, epsilon: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    square_x, square_y = x.square(), y.square()
    var_x, var_y = ((w.unsqueeze(-2) @ z).double() for z, w in ((square_x, a), (square_y, b)))
    spread = (var_x + var_y).mean(-1, keepdim=True)
    ridge = RIDGE * spread + torch.where(spread > 0, 0.0, 1.0)
    u, v, c = _along_axes(var_x + ridge, var_y + ridge, epsilon)
    f = (square_x @ (1.0 - u).to(x.dtype).mT + 2.0 * x @ delta.mT).squeeze(-1)
    g = (square_y @ (1.0 - v).to(y.dtype).mT - 2.0 * y @ delta.mT).squeeze(-1)
    return f, g, c


def own_start(problem: EntropicProblem, epsilon: Tensor) -> Tensor:
    """The potential of a Gaussian with itself, f = g, as in ``gaussian_start``.

    Along the eigenvectors of its covariance; the constant c is shared by both sides.
    """
    x, mean, w = _centred(problem.x, problem.a)
    d = x.shape[-1]
    if len(x) * d**3 <= MATRIX_WORK:
        exact = x.double()
        spread, axes = torch.linalg.eigh((w.unsqueeze(-1) * exact).mT @ exact)
        along = (x @ axes.to(x.dtype)).square()
    else:
        along = x.square()
        spread = (w.unsqueeze(-2) @ along).squeeze(-2).double()
    spread = spread.clamp_min(0.0).unsqueeze(-2)
    scale = spread.mean(-1, keepdim=True)
    spread = spread + torch.where(scale > 0, RIDGE * scale, 1.0)
    u, _, c = _along_axes(spread, spread, epsilon)
    f = (along @ (1.0 - u).to(x.dtype).mT).squeeze(-1).double() + 0.5 * c.unsqueeze(-1)
    longest = _longest(x, x, torch.zeros_like(mean))
    tamed: Tensor = f.nan_to_num(0.0).clamp(-longest, longest)
    return tamed


def _along_axes(var_x: Tensor, var_y: Tensor, epsilon: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """U, V, c of ``gaussian_start`` for diagonal covariances var_x and var_y, shape (B, 1, d)."""
    quarter = 0.25 * epsilon[:, None, None]
    whole = (quarter.square() + var_x * var_y).sqrt() + quarter
    u, v = var_y / whole, var_x / whole  # U = (√(AB + (ε/4)²) − ε/4) / A, without cancellation
    c = 0.5 * epsilon * torch.log1p(0.5 * var_y * v / quarter).sum((-1, -2))
    return u, v, c


def _longest(x: Tensor, y: Tensor, delta: Tensor) -> Tensor:
    """A bound on all costs, from points about their means, shape (B, 1)."""
    reach = [torch.einsum("...d,...d->...", z, z).amax(-1, keepdim=True).sqrt() for z in (x, y)]
    longest: Tensor = (reach[0] + reach[1] + delta.norm(dim=-1)).square().double()
    return longest


def _tamed(f: Tensor, g: Tensor, b: Tensor, longest: Tensor) -> tuple[Tensor, Tensor]:
    """Potentials of a finite sample: g averages to zero, and neither exceeds the largest cost.

    Where points lie in a plane, or nearly all mass on a few of them, the Gaussians' maps are
    singular, and their potentials large beside the costs: digits would be lost beside them.
    """
    f, g = f.nan_to_num(0.0), g.nan_to_num(0.0)  # where ε² overflows
    level = (b * g).sum(-1, keepdim=True) / b.sum(-1, keepdim=True)
    f, g = (f + level).clamp(-longest, longest), (g - level).clamp(-longest, longest)
    return f, g


def _centred(z: Tensor, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Points less their mean, the mean, and unit weights, in the dtype of the points."""
    z = z.float() if z.dtype in (torch.float16, torch.bfloat16) else z
    w = w / w.sum(-1, keepdim=True)
    rough = z[..., :1, :]  # an offset would cost the mean its digits
    moved = z - rough
    w = w.to(z.dtype)
    mean = w.unsqueeze(-2) @ moved
    return moved.sub_(mean), mean + rough, w


def _inverse_map(cov_x: Tensor, cov_y: Tensor, eps: Tensor) -> Tensor:
    """U of ``gaussian_start``: the linear part of the entropic map from x to y."""
    values, vectors = torch.linalg.eigh(cov_x)
    root = (vectors * values.sqrt().unsqueeze(-2)) @ vectors.mT
    inverse = (vectors * values.rsqrt().unsqueeze(-2)) @ vectors.mT
    inner, turned = torch.linalg.eigh(root @ cov_y @ root)
    # √(λ + (ε/4)²) − ε/4, without cancellation where λ is small
    quarter = 0.25 * eps.squeeze(-1)
    bent = inner.clamp_min(0.0)
    bent = bent / ((bent + quarter.square()).sqrt() + quarter)
    u = inverse @ ((turned * bent.unsqueeze(-2)) @ turned.mT) @ inverse
    symmetric: Tensor = 0.5 * (u + u.mT)
    return symmetric


def clusters(z: Tensor, w: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Means and masses of about ``count`` groups of near points, and the group of each point.

    Groups are the cells of a grid, so that points in the tails, which passes are slowest to get
    right, are resolved as finely as those in the middle.

    Args:
        z: Points, shape (n, d).
        w: Weights, float64, shape (n,).
        count: How many groups are wanted.
    """
    d = z.shape[1]
    low, high = torch.quantile(some_rows(z, LOOKS).double(), COVERED.to(z.device), dim=0)
    middle, reach = 0.5 * (low + high), high - low
    cuts = round((4.0 * count) ** (1 / d))
    # Twice the box that most points are in; who is outside joins a cell at its border.
    place = (z.double() - middle) / reach.clamp_min(1e-300) * (0.5 * cuts) + 0.5 * cuts
    place = place.nan_to_num(0.0).clamp_(0, cuts - 1).long()
    key = place @ (cuts ** torch.arange(d, device=z.device))
    _, group = key.unique(return_inverse=True)
    total = w.new_zeros(int(group.max()) + 1).index_add(0, group, w)
    moment = w.new_zeros(total.numel(), d).index_add(0, group, w.unsqueeze(-1) * z.double())
    mean = moment / total.clamp_min(1e-300).unsqueeze(-1)
    return mean, total, group


def coarsened(problem: EntropicProblem) -> Coarse | None:
    """The problem between clusters, and which cluster each point belongs to, where that pays."""
    batch, n, d = problem.x.shape
    m = problem.y.shape[1]
    plain = type(problem.ground) is SqEuclidean and d <= DIMENSIONS and batch == 1
    if not plain or min(n, m) < 2 * CLUSTERS:
        return None
    left = clusters(problem.x[0], problem.a[0], CLUSTERS)
    alike = problem.y is problem.x and problem.b is problem.a
    right = left if alike else clusters(problem.y[0], problem.b[0], CLUSTERS)
    (x, a, of_x), (y, b, of_y) = left, right
    dtype = problem.x.dtype
    return (
        EntropicProblem(problem.ground, x[None].to(dtype), y[None].to(dtype), a[None], b[None]),
        (of_x, of_y),
    )


def own_clusters(coarse: Coarse | None) -> tuple[Coarse | None, Coarse | None]:
    """The same of the problems from x to x and from y to y."""
    if coarse is None:
        return None, None
    few, (of_x, of_y) = coarse
    first = EntropicProblem(few.ground, few.x, few.x, few.a, few.a)
    second = EntropicProblem(few.ground, few.y, few.y, few.b, few.b)
    return (first, (of_x, of_x)), (second, (of_y, of_y))


def refined(
    problem: EntropicProblem,
    coarse: EntropicProblem,
    groups: tuple[Tensor, Tensor],
    f: Tensor,
    g: Tensor,
    epsilon: Tensor,
) -> tuple[Tensor, Tensor]:
    """A guess of f at all points from their clusters, and g by one pass from the clusters of x."""
    mixed = EntropicProblem(problem.ground, problem.y, coarse.x, problem.b, coarse.a)
    guess = g[:, groups[1]]
    return f[:, groups[0]], Sweeper(mixed, epsilon, kept=False).rows(f, guess)
