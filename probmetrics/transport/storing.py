"""Whether passes keep the kernel in memory or make it anew."""

from torch import Tensor

from probmetrics.pairwise.costs import SqEuclidean
from probmetrics.transport.entropic_problem import EntropicProblem
from probmetrics.transport.fused_sweeps import fused_sweeper
from probmetrics.transport.sweeps import WIDE, Sweeper

CARRIED = 8  # coordinates that passes carry along at little cost
KEPT_BYTES = 2**26  # a kernel of this size is kept in memory,
WIDE_BYTES = 2**30  # and of this one where points are wide, so that forming it is the work
CACHE_BYTES = 2**24  # one of this size stays in a cache beside another
ROUGH = 1e-4  # tolerance that takes few passes from a start that has seen the points


def make_sweeper(
    problem: EntropicProblem,
    epsilon: Tensor,
    backend: str,
    moving: tuple[bool, bool] = (False, False),
) -> Sweeper:
    """A sweeper that keeps the kernel where memory allows and it pays, else one that streams.

    Where points have few coordinates and x, or y, are ``moving``, streamed passes carry what the
    gradient needs along.
    """
    batch, _, d = problem.x.shape
    size = problem.kernel_bytes
    backend = backend if problem.ranks is None else "tiled"
    fits = size <= KEPT_BYTES or (d >= WIDE and size <= WIDE_BYTES)
    kept = fits if backend == "auto" else backend == "dense"
    fused = None if kept else fused_sweeper(problem, epsilon, backend)
    if fused is not None:
        return fused
    cheap = not kept and batch == 1 and d <= CARRIED and type(problem.ground) is SqEuclidean
    return Sweeper(problem, epsilon, kept=kept, carried=moving if cheap else (False, False))


def streamed_if_few(problem: EntropicProblem, tolerance: float, backend: str) -> str:
    """The backend where passes start from clusters: a kernel read so rarely is not worth keeping.

    Unless a cache holds it.
    """
    few = tolerance >= ROUGH and problem.x.is_cpu
    return "tiled" if backend == "auto" and few and problem.kernel_bytes > CACHE_BYTES else backend


def streamed_if_half(problem: EntropicProblem, tolerance: float, backend: str) -> str:
    """The backend: half a kernel made anew beats all of it from memory where it is cheap to make.

    Or where passes are few.
    """
    batch, _, d = problem.x.shape
    halved = batch == 1 and type(problem.ground) is SqEuclidean  # in ``Sweeper.own_rows``
    if backend != "auto" or not halved or not problem.x.is_cpu:
        return backend
    anew = tolerance >= ROUGH if d >= WIDE else problem.kernel_bytes > CACHE_BYTES
    return "tiled" if anew else backend
