"""What a user sees while a run trains: the bar and its line, and how Ctrl-C, SIGTERM and SIGHUP end the run."""

import os
import re
import select
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType

from unite_mm.progress import Progress
from unite_mm_schemas.config import TrainConfig

HEADLINES = re.compile(r"(validation )?([^ /]+/)?reconstruction|([^ /]+/)?flow")
"""Losses that the progress bar shows; those of several modalities carry their names."""


def headlines(losses: Mapping[str, float]) -> str:
    """What a progress bar has room for: reconstruction, flow, the validation's reconstruction, a score of samples.

    Plugins name the most important score first.
    """
    shown = [name for name in losses if HEADLINES.fullmatch(name)]
    scores = [name for name in losses if name.startswith("generation ")]
    return ", ".join(f"{name} {losses[name]:.3f}" for name in [*shown, *scores[:1]])


class StoppedAtOnce(BaseException):
    """A signal came while nothing was there to save; no `except Exception` of a library takes it for its own error."""


class StopRequest:
    """Whether a signal asked the run to stop after the current step.

    Args:
        progress: where to say so.
        nothing_to_save: whether to stop at once instead; asked when the signal comes.

    Attributes:
        made: whether one did.
        queue_again: whether it was SIGUSR1, by which a cluster says that it takes the machine away.
    """

    def __init__(self, progress: Progress, nothing_to_save: Callable[[], bool] = lambda: False) -> None:
        self.progress = progress
        self.nothing_to_save = nothing_to_save
        self.made = False
        self.queue_again = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen for SIGTERM, SIGHUP, SIGUSR1 and Ctrl-C while the context is open.

        A second Ctrl-C interrupts at once. SIGUSR1 is what clusters send some time before they take the machine away.

        A signal that is ignored stays so: `nohup` is to survive the end of its terminal.
        """

        def request(number: int, frame: FrameType | None) -> None:
            del frame
            if self.made and number == signal.SIGINT:
                raise KeyboardInterrupt
            self.made = True
            self.queue_again |= number == getattr(signal, "SIGUSR1", None)
            mute_what_is_gone()
            at_once = self.nothing_to_save()
            with suppress(OSError):
                self.progress.say("stopping" if at_once else "stopping after this step; a checkpoint will be saved")
            if at_once:
                self._interrupt(number, None)

        previous = {}
        for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"):
            number = getattr(signal, name, None)  # Windows knows the first two only
            if number is None or signal.getsignal(number) is signal.SIG_IGN:
                continue
            try:
                previous[number] = signal.signal(number, request)
            except ValueError:  # not the main thread: the caller's signals stay as they are
                break
        if previous and hasattr(signal, "setitimer"):
            previous[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._interrupt)
        unraisable = sys.unraisablehook
        sys.unraisablehook = lambda found: None if found.exc_type is StoppedAtOnce else unraisable(found)
        try:
            yield
        finally:
            self.settle()
            sys.unraisablehook = unraisable
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        """Stop at once, and again in a second: what is raised where Python calls a destructor is lost."""
        del number, frame
        if self.nothing_to_save():
            if hasattr(signal, "setitimer"):
                signal.setitimer(signal.ITIMER_REAL, 1.0)
            warnings.filterwarnings("ignore", message="Error detected in")  # of autograd, about this very exception
            raise StoppedAtOnce

    def settle(self) -> None:
        """Raise nothing any more."""
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0.0)


def mute_what_is_gone() -> None:
    """Let what is written to a closed terminal or pipe go nowhere: it must not end the run before it is saved."""
    if not hasattr(select, "poll"):
        return
    for descriptor in (1, 2):
        poll = select.poll()
        try:
            poll.register(descriptor, select.POLLOUT)
            gone = any(found & (select.POLLERR | select.POLLHUP | select.POLLNVAL) for _, found in poll.poll(0))
            if gone:
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, descriptor)
                os.close(nowhere)
        except OSError:
            continue


@contextmanager
def training_bar(
    progress: Progress, settings: TrainConfig, step: int, before: float = 0.0
) -> Iterator[Callable[[int, float, Mapping[str, float]], None]]:
    """A progress bar over steps, or over seconds when the clock decides the length.

    Args:
        progress: where to show it.
        settings: length, batch size, steps between lines.
        step: that training starts from.
        before: seconds of training before that.

    Yields:
        A function of the step done, the seconds of training and the newest losses.
    """
    by_steps = settings.max_steps is not None
    total = settings.max_steps if by_steps else int(settings.max_time or 0)
    shown = step if by_steps else int(before)
    resumed, since = step, time.monotonic()
    with progress.task("Training", total, shown) as advance:

        def show(step: int, seconds: float, newest: Mapping[str, float]) -> None:
            nonlocal shown
            now = step if by_steps else int(seconds)
            if now > shown:
                advance(now - shown)
                shown = now
            if step % settings.log_every == 0:
                rate = (step - resumed) * settings.batch_size / max(1e-9, time.monotonic() - since)
                progress.note(f"step {step}, {rate:.0f} samples/s, {headlines(newest)}")

        yield show
