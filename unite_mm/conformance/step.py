"""What a check needs is made once and kept; what has failed blocks all that builds on it."""

from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from unite_mm.conformance.report import Blocked

T = TypeVar("T")


class Stepped(Protocol):
    """What has steps.

    Attributes:
        made: the steps that have been made.
        failed_steps: the steps that nothing may use, each with the check that found it wrong.
        checking: the check that is running.
    """

    made: dict[str, Any]
    failed_steps: dict[str, str]
    checking: str


class Step(Generic[T]):
    """An attribute that is made once and remembers its failure."""

    def __init__(self, make: Callable[[Any], T]) -> None:
        self.make = make
        self.name = make.__name__
        self.__doc__ = make.__doc__

    def __get__(self, subject: Stepped, _owner: object = None) -> T:
        if self.name in subject.failed_steps:
            raise Blocked(subject.failed_steps[self.name])
        if self.name not in subject.made:
            try:
                subject.made[self.name] = self.make(subject)
            except Blocked:
                raise
            except Exception:
                subject.failed_steps[self.name] = subject.checking
                raise
        made: T = subject.made[self.name]
        return made
