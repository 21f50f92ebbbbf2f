"""What all tests share: the toy modality on the path, a private cache, and a maker of made-up plugins."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.made_up_plugins import CONFIG_MODULE, MANIFEST, FakePlugin
from helpers.repository import TOY

# The toy modality is found as any installed plugin is, here and in every process the tests start.
sys.path.insert(0, str(TOY))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(TOY), os.environ.get("PYTHONPATH")]))


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all tests, whichever process runs them: the embedded molecules take ten seconds to prepare."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"


@pytest.fixture(autouse=True)
def private_cache(shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the user's cache."""
    monkeypatch.setenv("UNITE_MM_CACHE", str(shared_cache))


@pytest.fixture
def fake_plugin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Callable[[], FakePlugin]:
    """Makes valid plugins in folders of their own, importable for the length of the test."""
    made: list[str] = []

    def make() -> FakePlugin:
        package = f"fake_plugin_{len(made)}_{abs(hash(request.node.nodeid)) % 10**8}"
        made.append(package)
        root = tmp_path / f"site{len(made)}"
        root.mkdir()
        monkeypatch.syspath_prepend(root)
        files: dict[str, str | bytes] = {
            "__init__.py": "raise RuntimeError('discovery imported the package')",
            "config.py": CONFIG_MODULE,
            "plain.yaml": "train: {max_steps: 10}\n",
            "wide.yaml": "trunk: {width: 256}\ntrain: {max_steps: 20}\nmodality: {channels: 8}\n",
        }
        return FakePlugin(root, package, {**MANIFEST}, files)

    def forget() -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] in made]:
            del sys.modules[name]

    request.addfinalizer(forget)
    return make
