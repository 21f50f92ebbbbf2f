"""Packages of the extra `eval`, which some metrics need."""

from importlib.util import find_spec


def missing_extras(*packages: str) -> str:
    """What a note says of packages that are not installed; empty where all are."""
    missing = [name for name in packages if find_spec(name) is None]
    return f"{' and '.join(missing)} not installed (pip install 'unite-mm[eval]')" if missing else ""
