"""A built wheel works in an environment of its own, far from the checkout."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from helpers.repository import ROOT

PACKAGES = {
    "unite_mm": ".",
    "unite_mm_schemas": "schemas",
    "unite_mm_image": "plugins",
    "unite_mm_molecule": "plugins",
}

pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command without anything that could lead it back to the checkout; its output."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environment |= {"OMP_NUM_THREADS": "1", "UNITE_MM_CACHE": str(cwd / "cache"), "COLUMNS": "160"}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built offline from a copy, so that nothing stale in the checkout gets into it."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for package, parent in PACKAGES.items():
        shutil.copytree(
            ROOT / parent / package, source / parent / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    run(*pip, "wheel", "--no-deps", "--no-index", "--no-build-isolation", "-w", folder, source, cwd=folder)
    return next(folder.glob("unite_mm-*.whl"))


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of an environment that holds the wheel and, through a path file, the dependencies installed here.

    Path files inside a folder added by a path file are not read: an editable install of the checkout stays unseen.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python]
    run(*pip, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    site = next((folder / "lib").glob("python*/site-packages"))
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return python


def test_wheel_holds_every_module_and_data_file(wheel: Path) -> None:
    packed = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        path.relative_to(ROOT / parent).as_posix()
        for package, parent in PACKAGES.items()
        for path in (ROOT / parent / package).rglob("*")
        if path.suffix in {".py", ".yaml", ".npz", ".typed", ".tmpl"}
        or (path.is_file() and ("models" in path.parts[-3:-2] or path.parent.name == "assets"))
    }
    assert wanted <= packed, f"left out: {sorted(wanted - packed)}"
    strangers = {
        name for name in packed if name.split("/")[0] not in {*PACKAGES, f"{wheel.name.split('-py')[0]}.dist-info"}
    }
    assert not strangers


def test_packages_come_from_the_wheel(python: Path, tmp_path: Path) -> None:
    code = f"import {', '.join(PACKAGES)}\nfor package in ({', '.join(PACKAGES)}): print(package.__file__)"
    lines = run(python, "-c", code, cwd=tmp_path).splitlines()
    assert len(lines) == len(PACKAGES)
    assert all(line.startswith(str(python.parents[1])) for line in lines), lines


def test_plugins_are_listed(python: Path, tmp_path: Path) -> None:
    listing = run(python.with_name("unite-mm"), "plugins", "list", cwd=tmp_path)
    assert "qm9" in listing
    assert "broken" not in listing


def test_a_new_plugin_is_written_from_the_wheel(python: Path, tmp_path: Path) -> None:
    run(python.with_name("unite-mm"), "plugins", "new", "curves", cwd=tmp_path)
    assert (tmp_path / "unite-mm-curves" / "unite_mm_curves" / "__init__.py").is_file()


def test_models_of_the_wheel_are_small_and_sample(wheel: Path, python: Path, tmp_path: Path) -> None:
    """As many as there are; the largest one may take 6 MB of the wheel."""
    command = python.with_name("unite-mm")
    listed = [line.split()[0] for line in run(command, "models", "list", cwd=tmp_path).splitlines()[1:]]
    entries = [entry for entry in zipfile.ZipFile(wheel).infolist() if entry.filename.endswith("/weights.safetensors")]
    assert len(listed) == len(entries)
    for entry in entries:
        assert entry.compress_size <= 6_000_000, entry.filename
    for name in listed:
        run(command, "sample", name, "-n", "4", "--steps", "2", "-o", f"{name}.npz", cwd=tmp_path)
        assert (tmp_path / f"{name}.npz").is_file()
        assert run(command, "models", "show", name, cwd=tmp_path).startswith(f"# {name}\n")


def test_a_short_run_trains_and_samples(python: Path, shared_cache: Path, tmp_path: Path) -> None:
    command = python.with_name("unite-mm")
    small = ("trunk.width=32", "trunk.depth=1", "trunk.heads=2", "qm9.decoder_depth=1", "train.batch_size=8",
             "flow.draws=1", "flow.chunk=1", "train.validation_samples=16", "sampling.steps=2")  # fmt: skip
    settings = [word for setting in small for word in ("--set", setting)]
    run(command, "train", "--modality", "qm9", "--data", "embedded", "--preset", "tiny", "--max-steps", "3",
        *settings, "--cache", shared_cache, "--out", "run", cwd=tmp_path)  # fmt: skip
    run(command, "sample", "run", "-n", "4", "-o", "molecules.sdf", cwd=tmp_path)
    assert (tmp_path / "molecules.sdf").read_text().count("$$$$") == 4
