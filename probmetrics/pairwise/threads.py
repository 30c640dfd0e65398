"""Row blocks on several cores, each core with its own cache-sized tiles."""

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

import torch

Task = TypeVar("Task")


def run_tasks(work: Callable[[Sequence[Task]], None], tasks: Sequence[Task], pairs: int) -> None:
    """Call ``work`` on shares of the tasks, one thread per core that torch may use.

    Torch splits every operation over its threads, so a tile that one operation leaves in one
    core's cache is read by the other core in the next. Giving each core whole tiles keeps them
    where they are. Shares depend on the number of threads only, so results do not vary from run
    to run.

    Args:
        work: Handles a share of the tasks; it must not write what another share writes.
        tasks: All tasks, the longest first.
        pairs: Number of point pairs behind them; a small job stays on the calling thread.
    """
    threads = min(torch.get_num_threads(), len(tasks), os.cpu_count() or 1)
    if threads <= 1 or pairs < 2**19:
        with torch.no_grad():
            work(tasks)
        return

    def share(index: int) -> None:
        torch.set_num_threads(1)  # of this worker only: OpenMP counts per calling thread
        with torch.no_grad():
            work(tasks[index::threads])

    before = torch.get_num_threads()
    futures = [_pool(os.getpid(), threads).submit(share, index) for index in range(threads)]
    wait(futures)  # all of them, also when one fails: the others still write
    torch.set_num_threads(before)  # what threads born later start with
    for future in futures:
        future.result()


@functools.cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """The workers of this process; a forked child must not wait for its parent's."""
    return ThreadPoolExecutor(threads, thread_name_prefix="probmetrics")
