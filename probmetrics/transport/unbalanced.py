"""Transport that leaves some mass where it is: partial, or unbalanced at a price."""

from probmetrics._arrays import SamplesX, SamplesY, Values, WeightsX, WeightsY, array_function
from probmetrics.transport.ground_cost import Ground
from probmetrics.transport.plan import Transport
from probmetrics.transport.problem import SampleProblem
from probmetrics.transport.unmoved import move_part, move_priced


@array_function
def partial_wasserstein(
    x: SamplesX,
    y: SamplesY,
    *,
    mass: float,
    p: float = 2.0,
    cost: Ground | None = None,
    a: WeightsX | None = None,
    b: WeightsY | None = None,
    root: bool = True,
) -> Values:
    r"""Partial Wasserstein distance, exact: the least cost of moving a given share of the mass.

    .. math:: \min_{P \ge 0} \sum_{ij} P_{ij} \, c(x_i, y_j)^p \quad\text{s.t.}\quad
              P 1 \le a, \; P^\top 1 \le b, \; \sum_{ij} P_{ij} = \text{mass}

    Args:
        x: Sample, shape (*batch, n, d).
        y: Sample, shape (*batch, m, d).
        mass: How much to move: above zero, at most the mass of either side.
        p: Order, at least 1, finite: the power of the ground distance.
        cost: Ground distance, as in ``wasserstein``.
        a: Masses of x, shape (*batch, n), of any total; 1/n each if None.
        b: Masses of y, shape (*batch, m), of any total; 1/m each if None.
        root: Return the p-th root of the cost; otherwise the cost. It is not divided by ``mass``.

    Returns:
        One value per batch entry.

    Raises:
        ValueError: ``mass`` that is not there; samples, masses and costs as in ``wasserstein``,
            but for masses, which need not sum to one.
        TypeError: As ``wasserstein``.

    Example:
        >>> partial_wasserstein([[0.0], [1.0], [90.0]], [[0.0], [3.0], [7.0]], mass=2 / 3, p=1,
        ...                     root=False)
        0.666666...

    Notes:
        One balanced programme with a point more on each side, network simplex in float64. The
        gradients in a and b are the plain derivatives (at most zero: more supply is never
        dearer); those in x and y as in ``wasserstein``.

    References:
        Caffarelli & McCann (2010), Free boundaries in optimal transport; Chapel, Alaya & Gasso
        (2020), Partial optimal transport with applications on positive-unlabeled learning, eq. 5.
    """
    problem = SampleProblem.admit(x, y, p, cost, a, b, balanced=False)
    return move_part(problem, mass, root=root).value


@array_function
def partial_transport(
    x: SamplesX,
    y: SamplesY,
    *,
    mass: float,
    p: float = 2.0,
    cost: Ground | None = None,
    a: WeightsX | None = None,
    b: WeightsY | None = None,
    root: bool = True,
) -> Transport:
    """Partial transport between two samples, with its plan and a proof that it is optimal.

    Args:
        x: Sample, shape (*batch, n, d).
        y: Sample, shape (*batch, m, d).
        mass: How much to move.
        p: Order, at least 1, finite.
        cost: Ground distance, as in ``wasserstein``.
        a: Masses of x, shape (*batch, n), of any total.
        b: Masses of y, shape (*batch, m), of any total.
        root: Whether ``value`` is the p-th root of ``cost``.

    Returns:
        ``value`` is ``partial_wasserstein``; f and g, at most zero, are its derivatives in a and
        b (before the root). ``marginal_error`` is the mass taken or given beyond a and b, or by
        which the total misses ``mass``. ``map`` sends points that stay to their Laguerre cell.

    Raises:
        ValueError: As ``partial_wasserstein``.
        TypeError: As ``wasserstein``.

    Example:
        >>> solved = partial_transport([[0.0], [9.0]], [[0.0], [1.0]], mass=0.5)
        >>> solved.plan()
        array([[0.5, 0. ],
               [0. , 0. ]])

    References:
        Chapel, Alaya & Gasso (2020), eq. 5.
    """
    problem = SampleProblem.admit(x, y, p, cost, a, b, balanced=False)
    return move_part(problem, mass, root=root)


@array_function
def unbalanced_wasserstein(
    x: SamplesX,
    y: SamplesY,
    *,
    penalty: float,
    divergence: str = "kl",
    p: float = 2.0,
    cost: Ground | None = None,
    a: WeightsX | None = None,
    b: WeightsY | None = None,
    root: bool = False,
) -> Values:
    r"""Unbalanced transport cost, exact, without entropy: mass may be made or dropped at a price.

    .. math:: \min_{P \ge 0} \sum_{ij} P_{ij} \, c(x_i, y_j)^p
              + \lambda D(P 1 \,|\, a) + \lambda D(P^\top 1 \,|\, b)

    with D(u|a) = Σ u log(u/a) − u + a for ``"kl"`` and D(u|a) = Σ |u − a| for ``"tv"``.

    Args:
        x: Sample, shape (*batch, n, d).
        y: Sample, shape (*batch, m, d).
        penalty: λ, above zero, in units of the cost c^p. With ``"tv"`` nothing moves where the
            cost exceeds 2λ.
        divergence: ``"kl"`` or ``"tv"`` (the ℓ1 distance, not halved).
        p: Order, at least 1, finite: the power of the ground distance.
        cost: Ground distance, as in ``wasserstein``; nowhere negative.
        a: Masses of x, shape (*batch, n), of any total; 1/n each if None.
        b: Masses of y, shape (*batch, m), of any total; 1/m each if None.
        root: Return the p-th root; by default the cost itself, penalties included.

    Returns:
        One value per batch entry, in the unit of the cost.

    Raises:
        ValueError: An unknown divergence, a penalty that is not above zero, a cost with negative
            entries; samples, masses and costs as in ``wasserstein``, but for masses, which need
            not sum to one.
        TypeError: As ``wasserstein``.

    Example:
        >>> unbalanced_wasserstein([[0.0], [1.0]], [[0.0], [50.0]], penalty=1.0, divergence="tv")
        1.0

    Notes:
        ``"tv"`` is one balanced linear programme with a point more on each side. ``"kl"`` is no
        linear programme: an interior point finds the potentials in some twenty steps, (n + m)³/3
        operations each, then one balanced programme the plan. All in float64 with n·m in memory.
        Gradients by the envelope theorem in x, y, a and b, where they are plain derivatives.
        λ → ∞ tends to W_p^p for equal masses.

    References:
        Chizat, Peyré, Schmitzer & Vialard (2018), Scaling algorithms for unbalanced optimal
        transport problems, eq. (1.1); Piccoli & Rossi (2014), Generalized Wasserstein distance.
    """
    problem = SampleProblem.admit(x, y, p, cost, a, b, balanced=False)
    return move_priced(problem, penalty, divergence, root=root).value


@array_function
def unbalanced_transport(
    x: SamplesX,
    y: SamplesY,
    *,
    penalty: float,
    divergence: str = "kl",
    p: float = 2.0,
    cost: Ground | None = None,
    a: WeightsX | None = None,
    b: WeightsY | None = None,
    root: bool = False,
) -> Transport:
    """Unbalanced transport between two samples, with its plan and a proof that it is optimal.

    Args:
        x: Sample, shape (*batch, n, d).
        y: Sample, shape (*batch, m, d).
        penalty: λ, above zero, in units of the cost c^p.
        divergence: ``"kl"`` or ``"tv"``.
        p: Order, at least 1, finite.
        cost: Ground distance, as in ``wasserstein``; nowhere negative.
        a: Masses of x, shape (*batch, n), of any total.
        b: Masses of y, shape (*batch, m), of any total.
        root: Whether ``value`` is the p-th root.

    Returns:
        ``value`` is ``unbalanced_wasserstein``, ``cost`` its part ⟨P, C⟩. f and g are feasible
        potentials, f_i + g_j ≤ c_ij: for ``"tv"`` the derivatives in a and b, for ``"kl"`` these
        are λ(1 − e^{−f/λ}). ``marginal_error`` is the mass that P moves beyond a and b (``"tv"``),
        or by which P1 misses a·e^{−f/λ} (``"kl"``).

    Raises:
        ValueError: As ``unbalanced_wasserstein``.
        TypeError: As ``wasserstein``.

    Example:
        >>> solved = unbalanced_transport([[0.0], [9.0]], [[0.0], [1.0]], penalty=1.0,
        ...                               divergence="tv")
        >>> solved.plan()
        array([[0.5, 0. ],
               [0. , 0. ]])

    References:
        Chizat et al. (2018), eq. (1.1).
    """
    problem = SampleProblem.admit(x, y, p, cost, a, b, balanced=False)
    return move_priced(problem, penalty, divergence, root=root)
