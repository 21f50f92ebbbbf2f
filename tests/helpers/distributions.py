"""Distributions of plugins, installed by pip into a folder of their own and importable for the length of a test."""

import importlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def install(source: Path, into: Path) -> None:
    """Install a distribution without network and without dependencies; from a copy, since building leaves traces."""
    copy = into.with_name(f"{into.name}-source")
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"))
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    how = ["--no-deps", "--no-index", "--no-build-isolation", "--target"]
    done = subprocess.run([*pip, "install", *how, str(into), str(copy)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Put a folder on the path, and forget afterwards what was imported from it."""
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        packages = {path.name for path in folder.iterdir()}
        for name in [name for name in sys.modules if name.partition(".")[0] in packages]:
            del sys.modules[name]
