"""A function of many items over processes or threads.

Processes (`map_items`) serve Python code, and libraries that may hang or crash: work goes out in chunks, with progress,
and an item that ends its process costs only itself. Threads (`map_threads`) serve libraries that release Python's lock.
"""

import math
import multiprocessing
import queue
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import unite_mm.utils.cores
from unite_mm.errors import UniteError
from unite_mm.progress import Progress

Item = TypeVar("Item")
Result = TypeVar("Result")

_WORTH_A_WORKER = 256
"""Items below which starting another process costs more than it saves, where the caller sets no time limit."""


_AHEAD = 4
"""Items for each thread that `map_threads` starts before the results of earlier ones are taken."""


def cores() -> int:
    """Cores that this process may use, at least 1: those it is bound to, which may be fewer than the machine has."""
    return unite_mm.utils.cores.cores()


def map_threads(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int = 0
) -> Generator[Result, None, None]:
    """`function` of every item, in order, over threads; results are given as they come.

    Only a few items for each thread are taken in advance, so neither items nor results need to fit memory. Whoever may
    stop before the end closes the generator (`contextlib.closing`), which waits for the threads.

    Args:
        function: called from several threads at once. The first exception it raises, in the order of the items, is
            raised here, and no further item is started.
        items: what to work on; taken in the caller's thread.
        workers: threads; 0: as many as there are cores.
    """
    threads = workers or cores()
    with ThreadPoolExecutor(threads) as pool:
        pending: deque[Future[Result]] = deque()
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) >= _AHEAD * threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True)
class _Job(Generic[Item, Result]):
    """The function to run, and how its results come back."""

    function: Callable[[Item], Result]
    limit: float | None
    results: list[Result | None]
    done: Callable[[int], None]
    stop: threading.Event = field(default_factory=threading.Event)


def map_items(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    title: str,
    progress: Progress,
    workers: int = 0,
    chunk: int = 64,
    limit: float | None = None,
) -> list[Result | None]:
    """`function` of every item, in order, over processes started afresh (no state of this process is copied).

    Without a limit, few items (or `workers=1`) are worked on in this process.

    Args:
        function: importable by name; exceptions it raises are raised here.
        items: what to work on; can be pickled.
        title: of the progress bar.
        progress: where to show it.
        workers: processes; 0: as many as there are cores, fewer for few items.
        chunk: items sent to a process at once.
        limit: seconds a process may spend on one item. A process that runs longer, or crashes, is replaced.

    Returns:
        One result per item; None where the item made its process crash or run out of time.

    Raises:
        UniteError: processes cannot be started.
    """
    wanted = cores() if workers == 0 else workers
    worth = math.ceil(len(items) / (chunk if limit is not None else max(chunk, _WORTH_A_WORKER)))
    lanes = max(1, min(wanted, worth))
    with progress.task(title, len(items)) as advance:
        if limit is None and lanes == 1:
            results: list[Result | None] = []
            for item in items:
                results.append(function(item))
                advance(1)
            return results
        todo: queue.SimpleQueue[range] = queue.SimpleQueue()
        for start in range(0, len(items), chunk):
            todo.put(range(start, min(start + chunk, len(items))))
        # Bars belong to this thread: the lanes report through a queue that it empties.
        finished: queue.SimpleQueue[int] = queue.SimpleQueue()
        job: _Job[Item, Result] = _Job(function, limit, [None] * len(items), finished.put)
        with ThreadPoolExecutor(lanes) as threads:
            futures = [threads.submit(_lane, job, items, todo) for _ in range(lanes)]
            try:
                _follow(futures, finished, advance)
            except BaseException:
                job.stop.set()
                raise
    return job.results


def _follow(futures: list[Future[None]], finished: "queue.SimpleQueue[int]", advance: Callable[[int], None]) -> None:
    """Advance the bar until all lanes are done; raise what a lane raised."""
    while not all(future.done() for future in futures):
        try:
            advance(finished.get(timeout=0.1))
        except queue.Empty:
            if any(future.done() and future.exception() for future in futures):
                break
    while not finished.empty():
        advance(finished.get())
    for future in as_completed(future for future in futures if future.done()):
        future.result()


def _lane(job: _Job[Any, Any], items: Sequence[Any], todo: "queue.SimpleQueue[range]") -> None:
    """One worker process and its replacements: take chunks until none is left."""
    pool = _start()
    try:
        while not job.stop.is_set():
            try:
                pending = [todo.get_nowait()]
            except queue.Empty:
                return
            while pending and not job.stop.is_set():
                part = pending.pop()
                try:
                    values = pool.submit(_work, job.function, [items[i] for i in part], job.limit).result()
                except BrokenProcessPool:
                    pool.shutdown(wait=False)
                    pool = _start()
                    if len(part) == 1:
                        job.done(1)  # this item is the one that breaks its process: its result stays None
                    else:
                        middle = len(part) // 2
                        pending += [part[middle:], part[:middle]]
                    continue
                for index, value in zip(part, values, strict=True):
                    job.results[index] = value
                job.done(len(part))
    except BaseException:
        job.stop.set()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start() -> ProcessPoolExecutor:
    """A pool of one process that is known to run."""
    pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"), initializer=_quiet)
    try:
        pool.submit(int).result()
    except BrokenProcessPool as error:
        raise UniteError(
            "worker processes cannot be started",
            "in a script, put the calls under `if __name__ == '__main__':`",
        ) from error
    return pool


def _quiet() -> None:
    """In a worker: leave Ctrl-C to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _work(function: Callable[[Any], Any], part: list[Any], limit: float | None) -> list[Any]:
    """In a worker: the function of each item. Past the limit the default action of the alarm ends the process."""
    try:
        values = []
        for item in part:
            if limit is not None:
                signal.setitimer(signal.ITIMER_REAL, limit)
            values.append(function(item))
        return values
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
