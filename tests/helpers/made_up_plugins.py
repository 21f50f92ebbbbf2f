"""Plugins written file by file for a test: valid ones, to be changed before they are installed."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

MANIFEST: dict[str, Any] = {
    "name": "dots",
    "description": "Dots",
    "contract": 2,
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
        more: further entry points of the distribution, value by name.
        distribution, version: what the metadata say.
    """

    root: Path
    package: str
    manifest: dict[str, Any] | str
    files: dict[str, str | bytes] = field(default_factory=dict)
    entry: tuple[str, str] = ("dots", "PACKAGE:modality.yaml")
    more: dict[str, str] = field(default_factory=dict)
    distribution: str = "dots-plugin"
    version: str = "2.0"

    def install(self) -> "FakePlugin":
        """Write everything."""
        folder = self.root / self.package
        folder.mkdir(parents=True, exist_ok=True)
        text = self.manifest if isinstance(self.manifest, str) else yaml.safe_dump(self.manifest)
        contents: dict[str, str | bytes] = {"modality.yaml": text, **self.files}
        for name, content in contents.items():
            if isinstance(content, str):
                content = content.replace("PACKAGE", self.package).encode()
            (folder / name).write_bytes(content)
        self.write_metadata(self.root)
        return self

    def serve_also(self, name: str, **changes: Any) -> None:
        """Add an entry point and its manifest, that of the first one but for its name and what else is to differ."""
        assert isinstance(self.manifest, dict)
        self.more[name] = f"PACKAGE:{name}.yaml"
        self.files[f"{name}.yaml"] = yaml.safe_dump({**self.manifest, "name": name, **changes})

    def write_metadata(self, root: Path, kind: str = "dist-info") -> None:
        """Write the distribution's metadata only, as a `dist-info` or `egg-info` folder."""
        info = root / f"{self.distribution.replace('-', '_')}-{self.version}.{kind}"
        info.mkdir(parents=True, exist_ok=True)
        metadata = f"Metadata-Version: 2.1\nName: {self.distribution}\nVersion: {self.version}\n"
        (info / ("METADATA" if kind == "dist-info" else "PKG-INFO")).write_text(metadata)
        points = {self.entry[0]: self.entry[1], **self.more}
        lines = [f"{name} = {value.replace('PACKAGE', self.package)}" for name, value in points.items()]
        (info / "entry_points.txt").write_text("\n".join(["[unite_mm.modalities]", *lines, ""]))
