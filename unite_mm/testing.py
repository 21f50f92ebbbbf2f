"""The contract as tests, for pytest: a plugin's author subclasses `ConformanceSuite` and names the modality.

    from unite_mm.testing import ConformanceSuite

    class TestConformance(ConformanceSuite):
        modality = "points"

Every demand of the contract becomes a test of its own, the same ones that `unite-mm plugins check NAME --imports` runs;
one more trains a step, evaluates, samples and reconstructs on the command line.
The plugin must be found as an installed one is: by the entry point of its distribution.
"""

from pathlib import Path
from typing import ClassVar

import pytest

from unite_mm.cli.main import run
from unite_mm.conformance.opened import TINY
from unite_mm.conformance.report import Outcome
from unite_mm.conformance.static import check_statically
from unite_mm.conformance.subject import Subject
from unite_mm.conformance.suite import CHECKS, Check
from unite_mm.registry import discover

__all__ = ["ConformanceSuite"]


class ConformanceSuite:
    """Base of a test class that holds a modality to the contract; subclass it under a name that pytest collects.

    Attributes:
        modality: name of the modality, that of its entry point.
        preset: the preset to try; None: the plugin's default one.
        settings: `key=value` pairs as `--set` takes them, such as `points.channels=8`; they win over the preset. The
            trunk is tiny whatever the preset says.
        source: data source; None: the first that the manifest marks `offline`, or else the plugin's default.
    """

    modality: ClassVar[str]
    preset: ClassVar[str | None] = None
    settings: ClassVar[tuple[str, ...]] = ()
    source: ClassVar[str | None] = None

    _opened: ClassVar[Subject | None] = None

    @pytest.fixture
    def subject(self, tmp_path_factory: pytest.TempPathFactory) -> Subject:
        """The plugin, opened once for all tests of the class; prepared data are kept for the session."""
        suite = type(self)
        if vars(suite).get("_opened") is None:  # what a base class has opened is another subject
            suite._opened = Subject(
                discover(),
                self.modality,
                preset=self.preset,
                settings=self.settings,
                source=self.source,
                cache=tmp_path_factory.getbasetemp() / "conformance-cache",
                scratch=tmp_path_factory.mktemp("conformance"),
            )
        assert suite._opened is not None
        return suite._opened

    @classmethod
    def teardown_class(cls) -> None:
        """Let go of data and model."""
        cls._opened = None

    def test_manifest(self) -> None:
        """All that can be checked without running the plugin's code."""
        for outcome in check_statically(discover(), self.modality):
            _judge(outcome)

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
    def test_contract(self, check: Check, subject: Subject) -> None:
        """One demand of the contract."""
        _judge(check.outcome(subject))

    def test_commands(self, subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A user's way through the command line."""
        monkeypatch.setenv("UNITE_MM_CACHE", str(subject.cache))
        folder, samples, again = str(tmp_path / "run"), tmp_path / "samples", tmp_path / "again"
        suffix = subject.preferred_suffix.rstrip("/")
        flags = [word for assignment in (*TINY, *self.settings) for word in ("--set", assignment)]
        flags += ["--data", subject.source] if subject.source else []
        flags += ["--preset", self.preset] if self.preset else []
        for words in (
            ["train", "--modality", self.modality, "--out", folder, *flags],
            ["evaluate", folder, "--samples", "4", "--reconstructions", "4"],
            ["sample", folder, "-n", "3", "-o", f"{samples}{suffix}", "--picture", str(tmp_path / "picture.png")],
            ["reconstruct", folder, f"{samples}{suffix}", "-o", f"{again}{suffix}"],
        ):
            assert run(words) == 0, f"unite-mm {' '.join(words)}"


def _judge(outcome: Outcome) -> None:
    """Pass, fail with what is to be changed, or skip what cannot run before another mistake is fixed."""
    if outcome.findings:
        lines = [outcome.demand]
        for finding in outcome.findings:
            lines += [finding.message, f"  {finding.hint}", *(f"  | {line}" for line in finding.traceback.splitlines())]
        pytest.fail("\n".join(line for line in lines if line.strip()), pytrace=False)
    if outcome.needs is not None:
        pytest.skip(f"waits until {outcome.needs} passes")
