"""A function of many items over threads and processes, in order, with errors that stop the rest."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from operator import neg

import pytest
from helpers.processes import Recorder, misbehave, square

from unite_mm.errors import UniteError
from unite_mm.kit.parallel import cores, map_items, map_threads
from unite_mm.progress import Silent


def test_only_cores_that_the_process_may_use_are_counted() -> None:
    allowed = os.sched_getaffinity(0)
    assert cores() == len(allowed)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_results_of_threads_come_in_order(workers: int) -> None:
    def slow_first(item: int) -> int:
        time.sleep(0.02 * (item % 3 == 0))
        return -item

    assert list(map_threads(slow_first, range(50), workers)) == [-i for i in range(50)]
    assert list(map_threads(slow_first, [], workers)) == []


def test_items_are_taken_only_a_few_in_advance() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(10_000):
            taken.append(item)
            yield item

    results = map_threads(neg, items(), 2)
    assert next(results) == 0 and len(taken) < 20
    results.close()
    assert len(taken) < 20


def test_the_first_error_of_a_thread_ends_the_work() -> None:
    started: list[int] = []
    lock = threading.Lock()

    def fail(item: int) -> int:
        with lock:
            started.append(item)
        if item in (3, 5):
            raise ValueError(f"item {item}")
        return item

    with pytest.raises(ValueError, match="item 3"):
        list(map_threads(fail, range(1000), 2))
    assert len(started) < 40


@pytest.mark.parametrize("workers", [1, 2])
def test_results_of_processes_come_in_order(workers: int) -> None:
    items = list(range(600))
    assert map_items(neg, items, title="", progress=Silent(), workers=workers) == [-i for i in items]


def test_processes_load_no_torch() -> None:
    import subprocess

    names = ("arrays", "cache", "download", "files", "messages", "parallel")
    program = f"import sys; {'; '.join(f'import unite_mm.kit.{name}' for name in names)}; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout.strip() == "False"


@pytest.mark.parametrize(("workers", "limit"), [(1, None), (2, 60.0)])
def test_the_bar_counts_every_item(workers: int, limit: float | None) -> None:
    bar = Recorder()
    items = list(range(100))
    found = map_items(square, items, title="", progress=bar, workers=workers, chunk=7, limit=limit)
    assert found == [value * value for value in items] and bar.done == 100


def test_crashing_and_hanging_items_lose_only_themselves() -> None:
    bar = Recorder()
    start = time.monotonic()
    found = map_items(misbehave, [0, 1, 2, 3], title="", progress=bar, workers=2, chunk=4, limit=0.5)
    assert found == [0, None, None, 3] and bar.done == 4
    assert time.monotonic() - start < 60


@pytest.mark.parametrize("limit", [None, 60.0])
def test_bugs_are_raised_and_not_counted_as_crashes(limit: float | None) -> None:
    with pytest.raises(ValueError, match="a bug of one's own"):
        map_items(misbehave, [0, 100], title="", progress=Silent(), workers=1, limit=limit)


def test_processes_that_cannot_start_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    from concurrent.futures.process import BrokenProcessPool

    from unite_mm.kit import parallel

    class Broken:
        def __init__(self, *args, **kwargs):
            pass

        def submit(self, function):
            raise BrokenProcessPool

    monkeypatch.setattr(parallel, "ProcessPoolExecutor", Broken)
    with pytest.raises(UniteError, match="worker processes cannot be started") as caught:
        map_items(square, [1], title="", progress=Silent(), workers=1, limit=1.0)
    assert "__main__" in caught.value.hint
