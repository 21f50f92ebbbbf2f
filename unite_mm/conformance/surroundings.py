"""Check of what belongs to the whole process: a plugin is one of several, and shares it with the core and its user."""

from collections.abc import Iterator

from unite_mm.conformance.process import state
from unite_mm.conformance.report import Finding
from unite_mm.conformance.subject import Subject


def process_state(subject: Subject) -> Iterator[Finding]:
    """Nothing changes what belongs to the whole process: its folder, torch's and numpy's settings, signals, locale."""
    for name, value in state().items():
        before = subject.surroundings[name]
        if value != before:
            yield Finding(
                f"the plugin changes {name}: {before} before, {value} now",
                "leave it as it is, or set it back at once: everything else in the process works with it",
            )
