"""Row blocks on several cores, each core with its own cache-sized tiles."""

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

import torch

from probmetrics.pairwise.products import exact

Task = TypeVar("Task")
WORTH_SHARING = 2**18  # numbers in an operation that torch's threads should share


@exact()
def run_tasks(
    work: Callable[[Sequence[Task]], None],
    tasks: Sequence[Task],
    pairs: int,
    *,
    flush: bool = False,
) -> None:
    """Call ``work`` on shares of the tasks, one thread per core that torch may use.

    Torch splits every operation over its threads, so a tile that one operation leaves in one
    core's cache is read by the other core in the next. Giving each core whole tiles keeps them
    where they are. Shares depend on the number of threads only, so results do not vary from run
    to run.

    Args:
        work: Handles a share of the tasks; it must not write what another share writes.
        tasks: All tasks, the longest first.
        pairs: Number of point pairs behind them; a small job stays on the calling thread.
        flush: Let the workers take subnormal numbers for zero, on which a core is many times as
            slow: where they are terms of sums that are far larger.

    Where one share fails, or the caller is interrupted, the others stop at their next task.
    """
    small = pairs < 2**19
    threads = 1 if small else min(cores(), len(tasks), os.cpu_count() or 1)
    if threads <= 1:
        with torch.no_grad():
            work(tasks)
        return

    stop = threading.Event()

    def share(index: int) -> None:
        torch.set_num_threads(1)  # of this worker only: OpenMP counts per calling thread
        if flush:
            torch.set_flush_denormal(True)  # of this worker too
        try:
            with torch.no_grad():
                work(_Share(tasks[index::threads], stop))
        except BaseException:
            stop.set()
            raise
        finally:
            if flush:
                torch.set_flush_denormal(False)

    before = torch.get_num_threads()
    futures: list[Future[None]] = []
    try:
        pool = _pool(os.getpid(), threads)
        futures.extend(pool.submit(share, index) for index in range(threads))
        wait(futures)  # all of them, also when one fails: the others still write
    except BaseException:  # Ctrl-C
        stop.set()
        wait(futures)
        raise
    finally:
        torch.set_num_threads(before)  # what threads born later start with
    for future in sorted(futures, key=lambda done: isinstance(done.exception(), _StoppedError)):
        future.result()  # the cause before its consequences


class _Cores(threading.local):
    kept = 0  # for ``run_tasks`` called from this thread; 0 is as many as torch uses


_here = _Cores()


def cores() -> int:
    """How many ``run_tasks`` may use."""
    return _here.kept or torch.get_num_threads()


@contextlib.contextmanager
def on_one_thread(wanted: bool, *, tasks: bool = False) -> Iterator[None]:
    """Let torch work on the calling thread alone, where operations are short.

    Threads would take longer to meet than to work: 256 Sinkhorn problems of 64 × 64 took 26 ms on
    two and 21 ms on one, and the logarithms of a thousand numbers take 48 µs on two and 3 on one.
    And OpenMP's other threads wait for more work by spinning, for milliseconds after each shared
    operation, and take the cores from whoever else has threads: SciPy's trees, a pool.

    Args:
        wanted: Whether to do so.
        tasks: Let ``run_tasks`` share its work among all cores nevertheless.
    """
    before, kept = torch.get_num_threads(), _here.kept
    if not wanted or (before == 1 and kept == 0):
        yield
        return
    _here.kept = cores() if tasks else 0
    torch.set_num_threads(1)
    try:
        yield
    finally:
        _here.kept = kept
        torch.set_num_threads(before)


@contextlib.contextmanager
def on_all_threads() -> Iterator[None]:
    """Take back ``on_one_thread(..., tasks=True)``: for work on matrices in between."""
    kept = _here.kept
    if kept == 0:
        yield
        return
    _here.kept = 0
    torch.set_num_threads(kept)
    try:
        yield
    finally:
        _here.kept = kept
        torch.set_num_threads(1)


class _StoppedError(RuntimeError):
    """Raised in a share whose call has failed or was interrupted."""


class _Share(Sequence[Any]):
    """A thread's tasks, which end with an error once ``stop`` is set."""

    def __init__(self, tasks: Sequence[Any], stop: threading.Event) -> None:
        self.tasks, self.stop = tasks, stop

    def __len__(self) -> int:
        return len(self.tasks)

    def __getitem__(self, index: Any) -> Any:
        return self.tasks[index]

    def __iter__(self) -> Iterator[Any]:
        for task in self.tasks:
            if self.stop.is_set():
                raise _StoppedError("another share of this work has failed or was interrupted")
            yield task


@functools.cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """The workers of this process; a forked child must not wait for its parent's."""
    return ThreadPoolExecutor(threads, thread_name_prefix="probmetrics")
