"""What starting the program loads, and how long that takes."""

import os
import subprocess
import sys

import pytest
from helpers.repository import ROOT

PLUGINS = sorted(path.parent.name for path in (ROOT / "plugins").glob("*/__init__.py"))
HEAVY = {"torch", "lightning_fabric", "torchdiffeq", "rdkit", "torch_geometric", "numpy", "scipy", "matplotlib", "PIL"}

START = """
import sys
from unite_mm.cli.main import run
code = run({arguments!r})
names = {{name.partition(".")[0] for name in sys.modules}}
print("LOADED", *sorted(names & set({watched!r})))
sys.exit(code)
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["plugins", "list"],
        ["plugins", "check", "qm9"],
        ["plugins", "check", "--help"],
        ["plugins", "new", "--help"],
        ["train", "--help"],
        ["evaluate", "--help"],
        ["sample", "--help"],
        ["analyse", "--help"],
        ["study", "--help"],
        ["import-official", "--help"],
        ["schema"],
    ],
    ids=" ".join,
)
def test_help_and_discovery_load_no_torch_and_no_implementation(arguments: list[str]) -> None:
    watched = sorted({*HEAVY, *PLUGINS, "unite_mm_toy", "rich"})
    code = START.format(arguments=arguments, watched=watched)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "LOADED"


@pytest.mark.parametrize("arguments", [["--help"], ["plugins", "list"]], ids=" ".join)
def test_help_and_discovery_take_under_half_a_second(arguments: list[str]) -> None:
    # Processor time, best of five: the figure a loaded machine does not change.
    spent = []
    for _ in range(5):
        process = subprocess.Popen([sys.executable, "-m", "unite_mm.cli.main", *arguments], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        spent.append(usage.ru_utime + usage.ru_stime)
    assert min(spent) < 0.5


def test_the_model_is_imported_from_the_package_on_first_use() -> None:
    code = "import sys, unite_mm; assert 'torch' not in sys.modules; unite_mm.UNITE; assert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("module", ["unite_mm.registry", "unite_mm.config"])
def test_finding_plugins_and_resolving_a_configuration_load_no_torch(module: str) -> None:
    code = f"import sys, {module}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
