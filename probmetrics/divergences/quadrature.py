"""Gauss–Legendre quadrature of f-divergences between two densities on the line."""

import math

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from probmetrics.divergences import bins
from probmetrics.divergences.density import draw, ends, log_density
from probmetrics.divergences.row import FDivergence

DRAWN = 1024  # points per side that say where the masses lie
DOUBLINGS = 400  # of the distance, beyond the draws and towards an end, that panels reach
LEVELS = 50  # of bisection
PANELS = 6000  # most panels
NEGLIGIBLE = 1e-17  # share of a total below which a panel is dropped
THIN = 2.0**-40  # width, relative to its place, of a panel in which a log_prob may round to NaN
UNIT = 1e-6  # by which the masses may miss one
NODES, WEIGHTS = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(16))

Masses = tuple[bins.Bins, Tensor]  # and where the divergence is infinite in spite of them


def as_masses(log_p: Tensor, log_q: Tensor, diverges: Tensor | None = None) -> Masses:
    """Bins from log-masses at points along the first axis."""
    log_p, log_q = torch.broadcast_tensors(log_p, log_q)
    found = bins.from_logs(log_p.movedim(0, -1), log_q.movedim(0, -1))
    none = torch.zeros(found.p.shape[:-1], dtype=torch.bool, device=found.p.device)
    return found, none if diverges is None else diverges


class _Line:
    """The integrand of one pair on the real line, evaluated panel by panel."""

    def __init__(self, row: FDivergence, p: Distribution, q: Distribution) -> None:
        self.row, self.p, self.q = row, p, q
        self.vector = len(p.event_shape)

    def logs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log-densities of both at points x, shape (n, *batch)."""
        x = x.unsqueeze(-1) if self.vector else x
        sides = [log_density(law, x).double() for law in (self.p, self.q)]
        log_p, log_q = torch.broadcast_tensors(*sides)
        return log_p, log_q

    def guarded_logs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The same far out, where a log_prob may overflow to NaN: −∞ there."""
        log_p, log_q = self.logs(x)
        log_p, log_q = (torch.where(torch.isnan(s), -math.inf, s) for s in (log_p, log_q))
        return log_p, log_q

    def masses(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Log-masses at the nodes of panels (k, *batch), shape (nodes·k, *batch)."""
        shape = (-1, *(1 for _ in low.shape))
        node, weight = (part.to(low.device).reshape(shape) for part in (NODES, WEIGHTS))
        half = (high - low) / 2
        wide = half > 0
        x = (low + half) + half * node
        # A node that rounds onto an end, where a density may be infinite, steps back inside.
        above, below = torch.nextafter(low, high).detach(), torch.nextafter(high, low).detach()
        x = torch.where(x >= high, below, torch.where(x <= low, above, x))
        log_weight = torch.where(wide, (torch.where(wide, half, 1.0) * weight).log(), -math.inf)
        log_p, log_q = self.logs(x.flatten(0, 1))
        # A panel of a few roundings at an end: where one side cannot be told, neither is read.
        thin = wide & (high - low < THIN * torch.maximum(low.abs(), high.abs()))
        lost = (torch.isnan(log_p) | torch.isnan(log_q)) & thin.expand(x.shape).flatten(0, 1)
        log_p, log_q = (torch.where(lost, -math.inf, side) for side in (log_p, log_q))
        return log_p + log_weight.flatten(0, 1), log_q + log_weight.flatten(0, 1)

    def sums(self, low: Tensor, high: Tensor) -> Tensor:
        """(D_f, mass of P, mass of Q) of each panel, shape (3, k, *batch)."""
        log_p, log_q = self.masses(low, high)
        found = bins.from_logs(log_p, log_q)
        parts = torch.stack([bins.terms(self.row, found), found.p, found.q])
        totals: Tensor = parts.unflatten(1, (len(NODES), -1)).sum(1)
        return totals


def integrated(
    row: FDivergence, p: Distribution, q: Distribution, batch: torch.Size
) -> Masses | None:
    """Panels laid where the masses are, bisected where they are not smooth; None if unreliable."""
    line = _Line(row, p, q)
    places = [_places(law, batch) for law in (p, q)]
    jumps = [end.to(places[0]) for law in (p, q) for end in ends(law)]
    with torch.no_grad():
        fixed = [end.detach().expand(batch) for end in jumps]
        edges = _edges(line, places, fixed)
        low, high = _worthwhile(line, fixed, edges[:-1], edges[1:])
        low, high, sums = _refined(line, low, high)
        _refuse_no_density(sums)
        unit = ((sums[1:].sum(1) - 1).abs() < UNIT).all(0)
        diverges, settled = _divergence_at_the_ends(places, fixed, low, high, sums[0])
        if not bool((diverges | (settled & unit)).all()):
            return None
    for end in jumps:  # the panels that touch a moving end move with it (Leibniz' rule)
        end = end.expand(batch)
        low = torch.where(low.detach() == end.detach(), end, low)
        high = torch.where(high.detach() == end.detach(), end, high)
    log_p, log_q = line.masses(low, high)
    found, _ = as_masses(log_p, log_q)
    return found, diverges


def _refuse_no_density(sums: Tensor) -> None:
    for name, total in zip("pq", sums[1:].sum(1), strict=True):
        if bool(torch.isnan(total).any()):
            raise ValueError(f"log_prob of {name} is NaN; check its parameters and its support")
        if bool((total > 1 + 1e-3).any()):
            raise ValueError(
                f"log_prob of {name} integrates to {float(total.max()):.4g}, not to 1: it is not "
                "normalised, or its support says more than where it lives"
            )


def _places(law: Distribution, batch: torch.Size) -> Tensor:
    """Sorted draws, shape (draws, *batch): where a law lives, and on which scale."""
    x = draw(law, DRAWN, 0, batch).detach().double()
    x = x.squeeze(-1) if law.event_shape else x
    x = torch.where(torch.isfinite(x), x, 0.0)
    return x.expand(DRAWN, *batch).sort(0).values


def _edges(line: _Line, places: list[Tensor], fixed: list[Tensor]) -> Tensor:
    """Quantiles of each side, doublings outwards from them and inwards to each end, sorted."""
    found = list(fixed)
    steps = torch.cat([torch.arange(-3, 40), torch.arange(40, DOUBLINGS + 1, 2)])
    shape = (-1, *(1 for _ in places[0].shape[1:]))
    powers = 2.0 ** steps.to(places[0]).reshape(shape)
    for x in places:
        found.extend(x[:: DRAWN // 16].unbind(0))
        found.extend(x[-8:].unbind(0))
        found.extend(x[:8].unbind(0))
        size = _scale(x)
        found.extend((x[-1] + size * powers).unbind(0))
        found.extend((x[0] - size * powers).unbind(0))
        for end in fixed:
            reach = (x[DRAWN // 2] - end).abs()
            found.extend((end + reach / powers).unbind(0))
            found.extend((end - reach / powers).unbind(0))
    edges = torch.stack(found)
    for end in fixed:  # no panel so thin that its nodes round onto the end
        edges = torch.where((edges - end).abs() <= 2.0**-48 * end.abs(), end, edges)
    return edges.sort(0).values


def _scale(x: Tensor) -> Tensor:
    spread = x[DRAWN * 9 // 10] - x[DRAWN // 10]
    floor = 1e-12 * x.abs().amax(0).clamp(min=1e-30)
    scale: Tensor = torch.maximum(spread, floor)
    return scale


def _worthwhile(
    line: _Line, fixed: list[Tensor], low: Tensor, high: Tensor
) -> tuple[Tensor, Tensor]:
    """The panels on which anything happens, judged at their ends and middles.

    Those that touch an end stay however small, as they carry the gradient of its motion.
    """
    width = (high - low).clamp(min=0)
    log_width = torch.where(width > 0, width.clamp(min=1e-320).log(), -math.inf)
    size = torch.zeros(3, *low.shape, dtype=torch.float64, device=low.device)
    for share in (1e-9, 0.5, 1 - 1e-9):
        log_p, log_q = line.guarded_logs(low + share * (high - low))
        found = bins.from_logs(log_p + log_width, log_q + log_width)
        parts = torch.stack([bins.terms(line.row, found), found.p, found.q]).abs()
        size = torch.maximum(size, parts.nan_to_num(nan=0.0))
    finite = torch.where(torch.isinf(size), 0.0, size)
    total = finite.sum(1, keepdim=True).clamp(max=1e300)
    total[1:] = total[1:].clamp(max=1.0)
    keep = (size > NEGLIGIBLE * total).any(0)
    for end in fixed:
        keep = keep | ((width > 0) & ((low == end) | (high == end)))
    keep = keep.reshape(len(low), -1).any(1)
    return low[keep], high[keep]


def _refined(line: _Line, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Bisect the panels whose halves disagree with them, each batch entry its own worst ones."""
    floor = torch.tensor([1e-16, 1e-12, 1e-12], dtype=low.dtype, device=low.device)
    floor = floor.reshape(-1, *(1 for _ in low.shape))
    sums, error = _examined(line, low, high)
    for _ in range(LEVELS):
        excess = error - 1e-11 * sums.sum(1, keepdim=True).abs()
        excess = (excess.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0) / floor).amax(0)
        count = int((excess > 1).sum(0).max())
        if count == 0 or len(low) + count > PANELS:
            break
        at = excess.topk(count, 0).indices
        left, right = low.gather(0, at), high.gather(0, at)
        middle = (left + right) / 2
        fresh_sums, fresh_error = _examined(
            line, torch.cat([left, middle]), torch.cat([middle, right])
        )
        three = at.expand(3, *at.shape)
        low, high = torch.cat([low, middle]), torch.cat([high.scatter(0, at, middle), right])
        sums = torch.cat([sums.scatter(1, three, fresh_sums[:, :count]), fresh_sums[:, count:]], 1)
        error = torch.cat(
            [error.scatter(1, three, fresh_error[:, :count]), fresh_error[:, count:]], 1
        )
    return low, high, sums


def _examined(line: _Line, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of panels from their halves, and by how much the whole panels disagree."""
    middle = (low + high) / 2
    halves = line.sums(low, middle) + line.sums(middle, high)
    error = (halves - line.sums(low, high)).abs()
    return halves, torch.where((low < middle) & (middle < high), error, 0.0)


def _divergence_at_the_ends(
    places: list[Tensor], fixed: list[Tensor], low: Tensor, high: Tensor, terms: Tensor
) -> tuple[Tensor, Tensor]:
    """Where the integral diverges, at infinity or at an end, and where its ends are settled.

    Rings of five doublings each, the last two that are resolved: the sum diverges if the outer
    one (for an end, the inner one) holds as much as the other; if it holds less, but not
    nothing, the panels end too early to tell.
    """
    middle, terms = (low + high) / 2, terms.abs()
    total = terms.sum(0)
    diverges, known = torch.isinf(total), torch.ones_like(total, dtype=torch.bool)
    sizes = torch.stack([_scale(x) for x in places]).amax(0)
    centre = places[0][DRAWN // 2]
    depths: list[tuple[Tensor, Tensor]] = []
    away = ((middle - centre).abs() / sizes).clamp(min=1e-300).log2()
    last = torch.full_like(total, DOUBLINGS - 2)
    sides = (middle > centre, middle <= centre)
    depths.extend((torch.where(side, away, -math.inf), last) for side in sides)
    for end in fixed:
        reach = torch.stack([(x[DRAWN // 2] - end).abs() for x in places]).amin(0)
        near = (reach / (middle - end).abs().clamp(min=1e-300)).log2()
        resolved = (reach / (end.abs() * 2.0**-48)).clamp(max=2.0 ** (DOUBLINGS - 2)).log2()
        sides = (middle > end, middle <= end)
        depths.extend((torch.where(side, near, -math.inf), resolved) for side in sides)
    for depth, deepest in depths:
        outer = torch.where(depth >= deepest - 5, terms, 0.0).sum(0)
        inner = torch.where((depth >= deepest - 10) & (depth < deepest - 5), terms, 0.0).sum(0)
        counts = outer > 1e-12 * total
        grows = counts & (outer >= 0.86 * inner) & (inner > 0)
        diverges = diverges | grows
        known = known & (grows | ~counts | (outer < 1e-5 * total))
    return diverges, known
