"""The answer of a transport problem: its value, the potentials that certify it, and its plan."""

import abc
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import to_numpy, to_tensor


class AbstractCoupling(abc.ABC):
    """How a plan P moves mass from n points to m points, whether or not P is in memory.

    Vectors come as columns: ``apply`` takes (*batch, m, k) and gives (*batch, n, k). A coupling
    knows tensors only; ``Transport`` speaks to callers of every kind.
    """

    @property
    @abc.abstractmethod
    def shape(self) -> tuple[int, ...]:
        """(*batch, n, m)."""

    @abc.abstractmethod
    def plan(self) -> Tensor:
        """P, shape (*batch, n, m)."""

    @abc.abstractmethod
    def apply(self, v: Tensor) -> Tensor:
        """P v for columns v, shape (*batch, m, k) → (*batch, n, k)."""

    @abc.abstractmethod
    def apply_transpose(self, u: Tensor) -> Tensor:
        """Pᵀ u for columns u, shape (*batch, n, k) → (*batch, m, k)."""

    @abc.abstractmethod
    def cost(self) -> Tensor:
        """⟨P, C⟩, shape (*batch)."""

    @abc.abstractmethod
    def map(self, x: Tensor | None) -> Tensor:
        """Where points go, shape (*batch, n, d); None asks for the sample's own points."""

    def sparse(self) -> Tensor:
        """P as a sparse tensor, where it has zeros."""
        raise ValueError(
            "an entropic plan has no zeros, so there is no sparse form; use plan(), or apply(v) "
            "which never forms it"
        )


@dataclass(frozen=True, repr=False, eq=False)
class Transport:
    """A solved transport problem between n points with weights a and m points with weights b.

    Attributes:
        value: What the solver was asked for, shape (*batch); differentiable.
        f: Potential on the n points, shape (*batch, n).
        g: Potential on the m points, shape (*batch, m).
        converged: Whether the accuracy asked for was reached, in every problem of the batch.
        steps: Iterations made: Sinkhorn steps, or linear programmes solved; the most of the batch.
        marginal_error: ‖P1 − a‖₁ or ‖Pᵀ1 − b‖₁, the larger, shape (*batch).
        dual_gap: Objective of the plan minus that of feasible potentials, in units of the cost,
            shape (*batch). The objective is within it of the optimum, up to rounding.
        coupling: The plan behind ``plan``, ``apply``, ``map`` and ``cost``.

    Notes:
        f, g, ``marginal_error`` and ``dual_gap`` carry no gradient. Solved from NumPy arrays,
        all answers are floats and NumPy arrays.

    Example:
        >>> from probmetrics.transport.exact import exact_transport
        >>> solved = exact_transport([[0.0], [1.0]], [[3.0], [2.0]])
        >>> solved.value
        2.0
        >>> solved.plan()
        array([[0. , 0.5],
               [0.5, 0. ]])
        >>> solved.map()
        array([[2.],
               [3.]])
    """

    value: Any
    f: Any
    g: Any
    converged: bool
    steps: int
    marginal_error: Any
    dual_gap: Any
    coupling: AbstractCoupling

    @property
    def cost(self) -> Any:
        """Transport cost ⟨P, C⟩, shape (*batch): no root, no entropy, no penalty."""
        return self._answer(self.coupling.cost())

    def plan(self, *, sparse: bool = False) -> Any:
        """The plan P, shape (*batch, n, m).

        Args:
            sparse: Only the entries that carry mass, at most n + m − 1 of a linear programme:
                a sparse COO tensor, or for NumPy callers a ``scipy.sparse.coo_array``.

        Raises:
            ValueError: A sparse form of an entropic plan, which has no zeros; or of a batch for a
                NumPy caller, as SciPy knows matrices only.
        """
        if not sparse:
            return self._answer(self.coupling.plan())
        plan = self.coupling.sparse()
        if isinstance(self.value, Tensor):
            return plan
        if plan.ndim > 2:
            raise ValueError(
                f"SciPy has no sparse arrays of shape {tuple(plan.shape)}; solve one problem at a "
                "time, or pass torch tensors"
            )
        from scipy.sparse import coo_array

        rows, columns = plan.indices().cpu().numpy()
        return coo_array((plan.values().cpu().numpy(), (rows, columns)), shape=tuple(plan.shape))

    def apply(self, v: Any) -> Any:
        """P v, without forming P where it is entropic.

        Args:
            v: One value per point of y, shape (*batch, m), or k values, shape (*batch, m, k).

        Returns:
            Shape (*batch, n) or (*batch, n, k).
        """
        return self._times(self.coupling.apply, v, self.coupling.shape[-1], "v")

    def apply_transpose(self, u: Any) -> Any:
        """Pᵀ u, without forming P where it is entropic.

        Args:
            u: One value per point of x, shape (*batch, n), or k values, shape (*batch, n, k).

        Returns:
            Shape (*batch, m) or (*batch, m, k).
        """
        return self._times(self.coupling.apply_transpose, u, self.coupling.shape[-2], "u")

    def map(self, x: Any = None) -> Any:
        """Where the plan sends points, shape (*batch, n, d).

        Args:
            x: Points, shape (*batch, k, d). None, or the sample that was transported, gives the
                barycentric projection T(x_i) = Σ_j P_ij y_j / Σ_j P_ij. New points go where the
                potential sends them: y_j of least c(x, y_j) − g_j for a linear programme (the
                Laguerre cell), the entropic map for an entropic plan.

        Notes:
            Points of weight zero are treated as new points.

        References:
            Ferradans et al. (2014), Regularized discrete optimal transport, section 2;
            Peyré & Cuturi (2019), Computational Optimal Transport, section 5.2 (Laguerre cells).
        """
        if x is not None:
            x = self._admit(x, "x")
            x = checks.sample(x.unsqueeze(-1) if x.ndim == 1 else x)
        return self._answer(self.coupling.map(x))

    def _times(self, product: Any, v: Any, size: int, name: str) -> Any:
        v = self._admit(v, name)
        batch = self.coupling.shape[:-2]
        single = v.ndim <= len(batch) + 1
        if v.ndim == 0 or v.shape[-1 if single else -2] != size:
            raise ValueError(
                f"{name} must have shape {(*batch, size)} or {(*batch, size, 'k')}, "
                f"got {tuple(v.shape)}"
            )
        columns = v.unsqueeze(-1) if single else v
        columns = columns.expand(*batch, *columns.shape[-2:])
        result = product(columns)
        return self._answer(result.squeeze(-1) if single else result)

    def _admit(self, array: Any, name: str) -> Tensor:
        if isinstance(array, Tensor) != isinstance(self.value, Tensor):
            raise TypeError(
                f"{name} is a {type(array).__name__}, but this problem was solved from "
                f"{'torch tensors' if isinstance(self.value, Tensor) else 'NumPy arrays'}; "
                "pass the same kind"
            )
        return to_tensor(array, name)

    def _answer(self, result: Tensor) -> Any:
        return result if isinstance(self.value, Tensor) else to_numpy(result)

    def __repr__(self) -> str:
        *batch, n, m = self.coupling.shape
        lines = [f"Transport of {n} points onto {m}" + f", batch {tuple(batch)}" * bool(batch)]
        lines += [
            f"  value           {_brief(self.value)}",
            f"  converged       {self.converged} ({self.steps} step{'s' * (self.steps != 1)})",
            f"  marginal error  {_brief(self.marginal_error, worst=True)}",
            f"  dual gap        {_brief(self.dual_gap, worst=True)}",
        ]
        return "\n".join(lines)


def _brief(number: Any, *, worst: bool = False) -> str:
    """A number, or the range of several."""
    values = torch.as_tensor(number).detach().double().reshape(-1)
    if values.numel() == 0:
        return "none"
    if values.numel() == 1:
        return f"{values.item():.3g}" if worst else f"{values.item():.8g}"
    low, high = values.min().item(), values.max().item()
    return f"at most {high:.3g}" if worst else f"{low:.6g} to {high:.6g}"


class SparseCoupling(AbstractCoupling):
    """A plan with few entries, as linear programmes have: who, to whom, how much.

    Args:
        rows: Index of the point of x, shape (*batch, k).
        columns: Index of the point of y, shape (*batch, k).
        mass: Mass moved, float64, shape (*batch, k); zeros are padding.
        size: (n, m).
        cost: ⟨P, C⟩, shape (*batch).
        extension: Where points of x go that carry no mass, or new ones; None on a histogram.
        points: The samples x and y, or None on a histogram.
    """

    def __init__(
        self,
        rows: Tensor,
        columns: Tensor,
        mass: Tensor,
        size: tuple[int, int],
        cost: Tensor,
        *,
        points: tuple[Tensor, Tensor] | None = None,
        extension: Any = None,
    ) -> None:
        self._rows, self._columns, self._mass = rows, columns, mass
        self._size, self._cost = size, cost
        self._points, self._extension = points, extension

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self._mass.shape[:-1], *self._size)

    def plan(self) -> Tensor:
        n, m = self._size
        flat = self._mass.new_zeros(*self._mass.shape[:-1], n * m)
        flat = flat.scatter_add(-1, self._rows * m + self._columns, self._mass)
        return flat.reshape(self.shape).to(self._cost.dtype)

    def sparse(self) -> Tensor:
        kept = self._mass > 0
        where = kept.nonzero()[:, :-1]  # batch indices of each entry
        index = torch.cat([where.T, self._rows[kept][None], self._columns[kept][None]])
        values = self._mass[kept].to(self._cost.dtype)
        return torch.sparse_coo_tensor(index, values, self.shape, check_invariants=False).coalesce()

    def apply(self, v: Tensor) -> Tensor:
        return self._product(v, self._columns, self._rows, self._size[0])

    def apply_transpose(self, u: Tensor) -> Tensor:
        return self._product(u, self._rows, self._columns, self._size[1])

    def cost(self) -> Tensor:
        return self._cost

    def map(self, x: Tensor | None) -> Tensor:
        if self._points is None:
            raise ValueError(
                "this plan moves the bins of a histogram, which have no coordinates; "
                "use apply(v) with the values v of the target bins"
            )
        own, y = self._points
        if x is not None and (x.shape != own.shape or not torch.equal(x.to(own.dtype), own)):
            landed: Tensor = self._extension(x)
            return landed
        y = y.expand(*self.shape[:-2], *y.shape[-2:])
        one = y.new_ones(*self.shape[:-2], self._size[1], 1, dtype=torch.float64)
        moved = self.apply(torch.cat([y.double(), one], dim=-1))
        share = moved[..., -1:]
        mean = moved[..., :-1] / torch.where(share > 0, share, 1.0)
        still = (share <= 0).reshape(-1, self._size[0]).any(0).nonzero().squeeze(-1)
        if still.numel() > 0:
            landed = self._extension(own.index_select(-2, still)).double()
            moves = share.index_select(-2, still) > 0
            landed = torch.where(moves, mean.index_select(-2, still), landed)
            mean = mean.index_copy(-2, still, landed)
        return mean.to(y.dtype)

    def _product(self, v: Tensor, source: Tensor, target: Tensor, size: int) -> Tensor:
        k = v.shape[-1]
        taken = v.double().gather(-2, source.unsqueeze(-1).expand(*source.shape, k))
        total = taken.new_zeros(*taken.shape[:-2], size, k)
        index = target.unsqueeze(-1).expand(*target.shape, k)
        return total.scatter_add(-2, index, taken * self._mass.unsqueeze(-1)).to(v.dtype)
