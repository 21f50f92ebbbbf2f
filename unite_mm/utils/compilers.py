"""Whether there is a compiler that torch.compile can use."""

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

SECONDS = 60
"""A compiler that takes longer for a line is none."""


def find_compiler(kind: str) -> str | None:
    """The name of the compiler that torch.compile would call, if it builds what torch.compile writes; None otherwise.

    It is tried rather than looked up: a compiler without Python's headers or a linker is common, and would end a run at
    its first step.

    Args:
        kind: of the device: `cpu`, which takes a C++ compiler; `cuda`, which takes Triton and a C compiler; no other is
            compiled for.
    """
    if kind == "cpu":
        name, language = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++"), "c++"
    elif kind == "cuda" and importlib.util.find_spec("triton") is not None:
        name, language = os.environ.get("CC") or next(filter(shutil.which, ("gcc", "clang")), "cc"), "c"
    else:
        return None
    return Path(name).name if _builds(name, language) else None


def _builds(compiler: str, language: str) -> bool:
    """Whether a compiler builds a library that includes the headers of Python."""
    source = "#include <Python.h>\n#include <math.h>\n" + ("#include <vector>\n" if language == "c++" else "")
    undefined = ["-undefined", "dynamic_lookup"] if sys.platform == "darwin" else []
    with tempfile.TemporaryDirectory() as folder:
        where = [f"-I{sysconfig.get_path('include')}", "-o", str(Path(folder) / "tried.so")]
        command = [compiler, "-shared", "-fPIC", *undefined, *where, "-x", language, "-"]
        try:
            done = subprocess.run(command, input=source, text=True, capture_output=True, timeout=SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return False
    return done.returncode == 0
