"""`plugins check` names every mistake of the table, and no broken plugin disturbs any other command."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.mistakes import ALL, BROKEN, LOADED, Copy, missing_attribute, scalar_loss
from helpers.molecule_files import named_sdf
from helpers.repository import ROOT

from unite_mm.cli.main import run
from unite_mm.conformance.subject import Subject
from unite_mm.conformance.suite import CHECKS
from unite_mm.registry import discover
from unite_mm.testing import ConformanceSuite

Mutate = Callable[[Copy], None]
Say = pytest.CaptureFixture[str]


def mistaken(mutate: Mutate) -> Copy:
    """A copy of the good plugin, called after the mutation and mutated by it."""
    plugin = Copy.make(mutate.__name__)
    mutate(plugin)
    return plugin


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder on the path; what is imported from it is forgotten after the test."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    before = set(sys.modules)
    where, threads, errors, handler = Path.cwd(), torch.get_num_threads(), np.geterr(), signal.getsignal(signal.SIGTERM)
    yield folder
    # What some of the mistakes change for the whole process.
    os.chdir(where)
    torch.set_num_threads(threads)
    np.seterr(**errors)
    signal.signal(signal.SIGTERM, handler)
    for name in set(sys.modules) - before:
        if name.startswith("mistaken_"):
            del sys.modules[name]


def words(text: str) -> str:
    return " ".join(text.split())


def test_the_good_plugin_passes_every_check(site: Path, capsys: Say) -> None:
    Copy.make("rings").install(site)
    assert run(["plugins", "check", "rings", "--imports"]) == 0
    out = capsys.readouterr().out
    assert "FAILED" not in out and "not run" not in out
    assert f"rings: no mistake in {len(CHECKS) + 5} checks" in out


def test_without_imports_no_code_of_the_plugin_runs(site: Path, capsys: Say) -> None:
    plugin = Copy.make("rings")
    for file in ("__init__.py", "config.py", "points.py"):
        plugin.files[file] = f"raise SystemExit('imported')\n{plugin.files[file]}"
    plugin.install(site)
    assert run(["plugins", "check", "rings"]) == 0
    assert "rings: no mistake in 5 checks\n  --imports also loads it" in capsys.readouterr().out


@pytest.mark.parametrize("mutate", ALL, ids=lambda mutate: mutate.__name__)
def test_every_mistake_is_named(mutate: Mutate, site: Path, capsys: Say) -> None:
    plugin = mistaken(mutate).install(site)
    flags = ["--imports"] if mutate in LOADED else []
    assert run(["plugins", "check", plugin.name, *flags]) == 1
    out, err = capsys.readouterr()
    assert words(mutate.__doc__ or "") in words(out.replace("          | ", "| "))
    # What follows from a mistake waits for it to be fixed instead of being reported less clearly.
    assert 1 <= sum(line.startswith("FAILED") for line in out.splitlines()) <= 2
    assert err.startswith(f"error: {plugin.name}: ")
    failed = {line.removeprefix("FAILED").strip() for line in out.splitlines() if line.startswith("FAILED")}
    waited_for = {line.partition(":")[0] for line in out.split("not run, waiting for ")[1:]}
    assert waited_for <= failed
    assert "Traceback" not in err


def test_tracebacks_are_the_plugins_own(site: Path, capsys: Say) -> None:
    names = ["import_error", "chained_import_error", "raising_loss"]
    for mutate in ALL:
        if mutate.__name__ in names:
            mistaken(mutate).install(site)
    shown = {}
    for name in names:
        assert run(["plugins", "check", name, "--imports"]) == 1
        out = capsys.readouterr().out
        shown[name] = [line.strip() for line in out.splitlines() if line.startswith("          | ")]
        assert shown[name][0] == "| Traceback (most recent call last):"
        assert not [line for line in shown[name] if "unite_mm/" in line or "importlib" in line]
    assert any("import no_such_dependency" in line for line in shown["import_error"])
    assert "| The above exception was the direct cause of the following exception:" in shown["chained_import_error"]
    assert any("points.py" in line and "in losses" in line for line in shown["raising_loss"])


def test_with_all_of_them_installed_every_command_works(
    site: Path, tmp_path: Path, capsys: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plugins = [mistaken(mutate).install(site) for mutate in ALL]
    assert run(["plugins", "list"]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert {plugin.name for plugin in plugins} <= rows.keys()
    assert " ok " in rows["points"] and " ok " in rows["qm9"] and " ok " in rows["image"]
    for mutate, plugin in zip(ALL, plugins, strict=True):
        assert (" BROKEN " if mutate in BROKEN else " ok ") in rows[plugin.name]
        assert mutate not in BROKEN or words(mutate.__doc__ or "") in words(rows[plugin.name])
    Path("few.sdf").write_text(named_sdf())
    for command in (
        "plugins show points",
        "plugins check points",
        "train --modality points --max-steps 1 --out run",
        "train --modality qm9 --data few.sdf --max-steps 1 --dry-run",
        "evaluate run --samples 4 --reconstructions 4",
        "sample run -n 4 -o samples.csv",
        "reconstruct run samples.csv -o again.csv",
        "data info --modality points",
        "schema --modality points",
    ):
        assert run(command.split()) == 0, command


def test_the_suite_fails_with_what_is_to_be_changed_and_skips_what_waits(site: Path, tmp_path: Path) -> None:
    class Suite(ConformanceSuite):
        modality = "scalar_loss"

    mistaken(scalar_loss).install(site)
    subject = Subject(discover(), Suite.modality, cache=tmp_path, scratch=tmp_path)
    checks = {check.name: check for check in CHECKS}
    Suite().test_manifest()
    Suite().test_contract(checks["tokens"], subject)
    with pytest.raises(pytest.fail.Exception, match="not float \\(B,\\) = \\(4,\\)\n  reduce over everything"):
        Suite().test_contract(checks["losses"], subject)
    with pytest.raises(pytest.skip.Exception, match="waits until losses passes"):
        Suite().test_contract(checks["gradients"], subject)
    with pytest.raises(pytest.fail.Exception, match="defines no 'Pionts'"):
        mistaken(missing_attribute).install(site)
        type("Other", (ConformanceSuite,), {"modality": "missing_attribute"})().test_manifest()


def test_the_documentation_lists_every_check() -> None:
    text = (ROOT / "docs" / "checking-a-plugin.md").read_text(encoding="utf-8")
    for check in CHECKS:
        assert f"| {words(check.name.replace('_', ' '))} | {check.demand} |" in text


def test_both_claimants_of_a_name_are_shown(site: Path, capsys: Say) -> None:
    plugin = Copy.make("taken")
    plugin.others = ("squatter",)
    plugin.install(site)
    assert run(["plugins", "check", "taken"]) == 1
    out = capsys.readouterr().out
    assert "mistaken_taken_plugin 1.0: the name 'taken' is claimed by" in out
    assert "squatter 1.0: the name 'taken' is claimed by" in out


def test_all_problems_of_a_manifest_are_listed(site: Path, capsys: Say) -> None:
    plugin = Copy.make("rings")
    plugin.manifest("implementation:", "implementaton:")
    plugin.manifest("suffix: .csv", "sufix: .csv")
    plugin.install(site)
    assert run(["plugins", "check", "rings"]) == 1
    out = capsys.readouterr().out
    for said in (
        "implementaton: unknown key; did you mean 'implementation'?",
        "implementation: is missing",
        "formats.0.sufix: unknown key; did you mean 'suffix'?",
    ):
        assert said in out


def test_show_lists_everything(site: Path, capsys: Say) -> None:
    Copy.make("rings").install(site)
    assert run(["plugins", "show", "rings"]) == 0
    out = words(capsys.readouterr().out)
    for said in (
        "mistaken_rings_plugin 1.0",
        "rings = mistaken_rings:modality.yaml",
        "toy (default) seconds on one CPU core",
        "ring drawn on the fly (offline)",
        ".csv reads and writes one set of points per line",
        "error reconstruction mean distance of reconstructed points",
        "rings.spread number, > 0 0.05 Standard deviation of a cluster.",
    ):
        assert said in out
    assert "mistaken_rings.points" not in sys.modules


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("plugins check point", "did you mean 'points'?"),
        ("plugins show point", "did you mean 'points'?"),
        ("plugins check points --preset toi --imports", "did you mean 'toy'?"),
        ("plugins check points --preset toy", "--preset, --data and --set need --imports"),
    ],
)
def test_wrong_usage_is_explained(line: str, message: str, capsys: Say) -> None:
    assert run(line.split()) == 2
    assert message in capsys.readouterr().err


def test_settings_reach_the_checks(capsys: Say) -> None:
    assert run(["plugins", "check", "points", "--imports", "--set", "points.channels=1"]) == 1
    assert "the layout has 3 registers of 1 channels" in capsys.readouterr().out
