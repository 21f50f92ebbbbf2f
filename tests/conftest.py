"""What all tests share: the toy modality on the path, a private cache, and a maker of made-up plugins."""

import importlib.util
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import pytest
import yaml

ROOT = Path(__file__).parent.parent
TOY = ROOT / "tests" / "toy"

# The toy modality is found as any installed plugin is, here and in every process the tests start.
sys.path.insert(0, str(TOY))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(TOY), os.environ.get("PYTHONPATH")]))


def load_file(path: str) -> ModuleType:
    """A file of the repository that belongs to no package, as a module."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def private_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the user's cache."""
    monkeypatch.setenv("UNITE_MM_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


MANIFEST = {
    "name": "dots",
    "description": "Dots",
    "contract": 1,
    "configuration": "PACKAGE.config:DotsConfig",
    "implementation": "PACKAGE.dots:Dots",
    "default_preset": "plain",
    "presets": [
        {"name": "plain", "file": "plain.yaml", "description": "as it comes"},
        {"name": "wide", "file": "wide.yaml", "description": "wider"},
    ],
    "sources": [{"name": "drawn", "description": "drawn on the fly"}],
    "formats": [{"suffix": ".csv", "description": "text"}, {"suffix": ".png", "description": "image", "read": False}],
}

CONFIG_MODULE = """
from pydantic import BaseModel, ConfigDict, Field

class DotsConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    channels: int = Field(4, ge=1)
    shade: str = "grey"
"""


@dataclass
class FakePlugin:
    """A distribution with one plugin, written file by file; change what you like, then `install()`.

    Attributes:
        root: folder that goes on the path.
        package: importable package.
        manifest: content of the manifest; `PACKAGE` stands for the package.
        files: further files of the package by name.
        entry: `name = value` of the entry point.
        distribution, version: what the metadata say.
    """

    root: Path
    package: str
    manifest: dict | str
    files: dict[str, str | bytes] = field(default_factory=dict)
    entry: tuple[str, str] = ("dots", "PACKAGE:modality.yaml")
    distribution: str = "dots-plugin"
    version: str = "2.0"

    def install(self) -> "FakePlugin":
        """Write everything."""
        folder = self.root / self.package
        folder.mkdir(parents=True, exist_ok=True)
        text = self.manifest if isinstance(self.manifest, str) else yaml.safe_dump(self.manifest)
        contents = {"modality.yaml": text, **self.files}
        for name, content in contents.items():
            if isinstance(content, str):
                content = content.replace("PACKAGE", self.package).encode()
            (folder / name).write_bytes(content)
        self.write_metadata(self.root)
        return self

    def write_metadata(self, root: Path, kind: str = "dist-info") -> None:
        """Write the distribution's metadata only, as a `dist-info` or `egg-info` folder."""
        info = root / f"{self.distribution.replace('-', '_')}-{self.version}.{kind}"
        info.mkdir(parents=True, exist_ok=True)
        metadata = f"Metadata-Version: 2.1\nName: {self.distribution}\nVersion: {self.version}\n"
        (info / ("METADATA" if kind == "dist-info" else "PKG-INFO")).write_text(metadata)
        name, value = self.entry
        value = value.replace("PACKAGE", self.package)
        (info / "entry_points.txt").write_text(f"[unite_mm.modalities]\n{name} = {value}\n")


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
