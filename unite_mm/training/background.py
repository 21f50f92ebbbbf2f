"""One piece of work at a time beside the run, in a thread of its own."""

import threading
from collections.abc import Callable


class Background:
    """Does work beside what calls it; an error waits until somebody asks for the end of the work.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    @property
    def failed(self) -> bool:
        """Whether the work has ended with an error that nobody has seen."""
        return self._error is not None

    def start(self, work: Callable[[], None]) -> None:
        """Begin to work, after the end of what was begun before.

        Raises:
            BaseException: that ended with an error, which is raised here.
        """
        self.settle()

        def run() -> None:
            try:
                work()
            except BaseException as error:  # it belongs to the thread that asks for the end
                self._error = error

        # A daemon: one that waits for another process for ever must not keep this one.
        self._thread = threading.Thread(target=run, name=self._name, daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait for the end of the work, if there is any."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def settle(self) -> None:
        """Wait for the end of the work, and raise the error that it ended with."""
        self.wait()
        error, self._error = self._error, None
        if error is not None:
            raise error
