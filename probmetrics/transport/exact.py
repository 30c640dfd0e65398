"""Exact optimal transport: the linear programme, its certificate and its gradients."""

import math
from typing import TYPE_CHECKING, Any

from jaxtyping import Float
from torch import Tensor

from probmetrics._arrays import SamplesX, SamplesY, Values, WeightsX, WeightsY, array_function
from probmetrics.transport.ground_cost import Ground
from probmetrics.transport.plan import Transport
from probmetrics.transport.problem import SampleProblem
from probmetrics.transport.solving import line_distance, solve_histograms, solve_samples

if TYPE_CHECKING:
    Costs = Any
else:
    Costs = Float[Tensor, "*#batch n m"]


@array_function
def wasserstein(
    x: SamplesX,
    y: SamplesY,
    *,
    p: float = 2.0,
    cost: Ground | None = None,
    a: WeightsX | None = None,
    b: WeightsY | None = None,
    root: bool = True,
) -> Values:
    r"""Wasserstein distance W_p between two samples, exact: the linear programme.

    .. math:: W_p^p = \min_{P \ge 0} \sum_{ij} P_{ij} \, c(x_i, y_j)^p
              \quad\text{s.t.}\quad P 1 = a, \; P^\top 1 = b

    Args:
        x: Sample, shape (*batch, n, d).
        y: Sample, shape (*batch, m, d).
        p: Order, at least 1: the power of the ground distance. ``math.inf`` in one dimension only.
        cost: Ground distance c: a ground of the engine (``Euclidean()``, ``PNorm(1)``,
            ``Cosine()``, with features or without), or any function ``cost(x, y)`` that gives the
            (n, m) tensor for samples (n, d) and (m, d). None is Euclidean. A ground that is the
            p-th power of a distance already (``SqEuclidean()`` for p = 2) is not raised again;
            with p = 1 every cost is transported as it is.
        a: Weights of x, shape (*batch, n), summing to one; uniform if None. Zeros are exact.
        b: Weights of y, shape (*batch, m).
        root: Return W_p; otherwise W_p^p.

    Returns:
        One distance per batch entry, in the unit of the ground (to the p-th power without
        ``root``).

    Raises:
        ValueError: Samples or weights that do not fit, hold NaN, or weights that do not sum to
            one; p below one; a cost of another shape, with NaN, or negative where p > 1; a cost
            that is another power of a distance than p.
        TypeError: ``cost`` is no function; tensors and other arrays in one call.

    Example:
        >>> wasserstein([[0.0, 0.0], [1.0, 0.0]], [[3.0, 4.0], [4.0, 4.0]])
        5.0
        >>> wasserstein([[0.0, 0.0], [1.0, 0.0]], [[3.0, 4.0], [4.0, 4.0]], p=1,
        ...             cost=lambda x, y: (x[:, None] - y).abs().amax(-1))
        4.0

    Notes:
        Solved in float64 whatever the dtype. In one dimension by sorting, O((n + m) log(n + m)).
        Else by a network simplex on all pairs (about n³, n·m in memory) or an assignment solver,
        and from some 1,400 points on by a programme restricted to candidate pairs, which is
        exact too and needs linear memory. ``exact_transport`` gives plan and certificate as well.

        Gradients follow from the envelope theorem: in the points through the cost of the optimal
        plan, in the weights as potentials, centred (weights are divided by their sum). A pair of
        matched points at distance zero contributes zero, and so does the root of zero. Where the
        plan is not unique, one of the subgradients. Second derivatives in the points are those at
        the plan held fixed; second derivatives in the weights raise RuntimeError.

    References:
        Peyré & Cuturi (2019), Computational Optimal Transport, eq. (2.11) and section 3.5;
        Bonneel et al. (2011), Displacement interpolation using Lagrangian mass transport.
    """
    problem = SampleProblem.admit(x, y, p, cost, a, b)
    if problem.line_power is not None:
        return line_distance(problem, root=root)
    return solve_samples(problem, root=root, certified=False).value


@array_function
def exact_transport(
    x: SamplesX,
    y: SamplesY,
    *,
    p: float = 2.0,
    cost: Ground | None = None,
    a: WeightsX | None = None,
    b: WeightsY | None = None,
    root: bool = True,
) -> Transport:
    r"""Optimal transport between two samples, with its plan and a proof that it is optimal.

    The potentials solve the dual programme

    .. math:: \max_{f, g} \sum_i a_i f_i + \sum_j b_j g_j
              \quad\text{s.t.}\quad f_i + g_j \le c(x_i, y_j)^p

    They are made feasible by a c-transform over all pairs before the dual value is taken, so
    ``dual_gap`` bounds the error of ``cost`` whatever the solver did. Where weights are zero the
    potential is the one at which the point would just begin to be used.

    Args:
        x: Sample, shape (*batch, n, d).
        y: Sample, shape (*batch, m, d).
        p: Order, at least 1, finite.
        cost: Ground distance, as in ``wasserstein``.
        a: Weights of x, shape (*batch, n), summing to one; uniform if None.
        b: Weights of y, shape (*batch, m).
        root: Whether ``value`` is W_p or W_p^p; ``cost`` and ``dual_gap`` are never rooted.

    Returns:
        ``value`` is that of ``wasserstein``, with its gradients; f and g are shifted so that
        Σ a f = Σ b g; ``steps`` counts linear programmes.

    Raises:
        ValueError: As ``wasserstein``.
        TypeError: As ``wasserstein``.

    Example:
        >>> import numpy as np
        >>> solved = exact_transport([[0.0, 0.0], [1.0, 0.0]], [[3.0, 4.0]])
        >>> solved.plan().tolist(), round(solved.cost, 12)
        ([[0.5], [0.5]], 22.5)
        >>> bool(abs(solved.dual_gap) < 1e-12)
        True

    Notes:
        In one dimension the potentials are summed along the staircase of sorted points; they are
        feasible because the cost is convex, which is not checked pair by pair.

    References:
        Peyré & Cuturi (2019), Computational Optimal Transport, eqs. (2.20) and (3.1).
    """
    problem = SampleProblem.admit(x, y, p, cost, a, b)
    if problem.p == math.inf:
        raise ValueError(
            "p = inf is no linear programme, so it has no potentials; pass a finite p, or use "
            "wasserstein_1d for the distance alone"
        )
    return solve_samples(problem, root=root, certified=True)


@array_function
def earth_mover(
    p: WeightsX,
    q: WeightsY,
    cost: Costs,
    *,
    normalize: bool = False,
) -> Values:
    r"""Earth mover's distance between two histograms, exact: the least cost of rearranging one.

    .. math:: \min_{P \ge 0} \sum_{ij} P_{ij} C_{ij}
              \quad\text{s.t.}\quad P 1 = p, \; P^\top 1 = q

    Args:
        p: Probability vector, shape (*batch, n). Zeros are exact.
        q: Probability vector, shape (*batch, m).
        cost: Cost of moving one unit from bin i to bin j, shape (*batch, n, m); finite, of any
            sign.
        normalize: Divide p and q by their sums, e.g. for counts.

    Returns:
        One value per batch entry, in the unit of the cost: no root is taken.

    Raises:
        ValueError: Negative or non-finite entries of p or q, sums other than one (unequal masses
            have no plan: normalise them, or see ``partial_wasserstein`` and
            ``unbalanced_wasserstein``); a cost of another shape, or not finite.
        TypeError: Tensors and other arrays in one call.

    Example:
        >>> earth_mover([0.5, 0.5, 0.0], [0.0, 0.5, 0.5], [[0, 1, 2], [1, 0, 1], [2, 1, 0]])
        1.0

    Notes:
        Network simplex in float64, about n³ time. Gradients as in ``wasserstein``: in the cost
        matrix the plan, in p and q the potentials, centred.

    References:
        Rubner, Tomasi & Guibas (2000), The earth mover's distance as a metric for image
        retrieval, eq. (5), for equal masses.
    """
    return solve_histograms(p, q, cost, normalize=normalize).value


@array_function
def histogram_transport(
    p: WeightsX,
    q: WeightsY,
    cost: Costs,
    *,
    normalize: bool = False,
) -> Transport:
    """Optimal transport between two histograms, with its plan and a proof that it is optimal.

    Args:
        p: Probability vector, shape (*batch, n).
        q: Probability vector, shape (*batch, m).
        cost: Cost of moving one unit from bin i to bin j, shape (*batch, n, m).
        normalize: Divide p and q by their sums.

    Returns:
        ``value`` and ``cost`` are ``earth_mover``; potentials and certificate as in
        ``exact_transport``. ``map`` has no meaning here: bins have no coordinates.

    Raises:
        ValueError: As ``earth_mover``.
        TypeError: As ``earth_mover``.

    Example:
        >>> histogram_transport([0.5, 0.5], [0.25, 0.75], [[0.0, 1.0], [1.0, 0.0]]).plan()
        array([[0.25, 0.25],
               [0.  , 0.5 ]])

    References:
        Peyré & Cuturi (2019), Computational Optimal Transport, eqs. (2.11) and (2.20).
    """
    return solve_histograms(p, q, cost, normalize=normalize)
