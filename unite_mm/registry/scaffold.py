"""Writes a new plugin: a small distribution whose modality trains, evaluates and samples as it stands.

The files are those of `unite_mm/registry/templates/plugin`, with `$name` and the like replaced in the text, and
`PACKAGE` in the path.
"""

import importlib.util
import keyword
import re
from importlib.metadata import version
from pathlib import Path
from string import Template

from unite_mm.errors import UsageError
from unite_mm.registry.discovery import Registry
from unite_mm_schemas.manifest import CONTRACT_VERSION, NAME_PATTERN, RESERVED_NAMES

TEMPLATES = Path(__file__).parent / "templates" / "plugin"
SUFFIX = ".tmpl"

FREE_TOKENS = {
    "here each corner is one": "each number is one, T = 2 L",
    "        positions = torch.arange(batch.corners.shape[1], device=batch.corners.device)\n": (
        "        values = batch.corners.flatten(1)[:, :, None]\n"
        "        positions = MOST + torch.arange(values.shape[1], device=values.device)  # behind the registers\n"
    ),
    "(super().forward(batch.corners), positions, batch.registers.mask)": (
        "(super().forward(values), positions, batch.registers.mask.repeat_interleave(2, 1))"
    ),
    "Tokenizer(2, width)": "Tokenizer(1, width)",
    "pointer_bias: 2.0": "pointer_bias: 0.0",
    "pointer_bias is for tokens that have the position of their register: 0 where none does.": (
        "pointer_bias is 0: no token has the position of a register."
    ),
}
"""What is replaced where input tokens stand for no register."""


def distribution_name(modality: str) -> str:
    """Name of the distribution that is written for a modality."""
    return f"unite-mm-{modality.replace('_', '-').strip('-')}"


def package_name(modality: str) -> str:
    """Name of the package that is written for a modality."""
    return f"unite_mm_{modality}"


def check_name(name: str, registry: Registry) -> None:
    """Refuse a name that no new modality can have.

    Args:
        name: of the modality.
        registry: what is installed.

    Raises:
        UsageError: the name is no identifier in lower case, means something else, or is taken.
    """
    if not re.fullmatch(NAME_PATTERN, name) or keyword.iskeyword(name):
        near = re.sub("[^a-z0-9]+", "_", name.lower()).strip("_0123456789")
        near = f"my_{near}" if keyword.iskeyword(near) else near
        raise UsageError(
            f"{name!r} cannot name a modality",
            "a name has lower-case letters, digits and _, begins with a letter and is not a Python keyword"
            + (f": for example {near}" if near else ""),
        )
    if name in RESERVED_NAMES:
        raise UsageError(f"{name!r} is a section of the run configuration", "choose another name")
    taken = [plugin.distribution for plugin in registry.plugins.values() if plugin.name == name]
    taken += [entry.distribution for entry in registry.broken if entry.name == name]
    if taken:
        raise UsageError(f"the modality {name!r} exists already, in {' and '.join(taken)}", "choose another name")
    if importlib.util.find_spec(package_name(name)) is not None:
        raise UsageError(f"a package {package_name(name)!r} exists already", "choose another name")


def write_plugin(name: str, folder: Path, registry: Registry, *, free_tokens: bool = False) -> list[Path]:
    """Write the distribution of a new modality.

    Args:
        name: of the modality.
        folder: where to; created, and empty if it exists.
        registry: what is installed.
        free_tokens: let its input tokens stand for no register, so that there are more or fewer of them.

    Returns:
        The files written.

    Raises:
        UsageError: the name or the folder cannot be used; nothing was written.
        OSError: a file cannot be written.
    """
    check_name(name, registry)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file", "name a new folder with --out")
    if folder.is_dir() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty", "name a new folder with --out")
    words = {
        "name": name,
        "package": package_name(name),
        "distribution": distribution_name(name),
        "contract": str(CONTRACT_VERSION),
        "version": version("unite-mm"),
    }
    written = []
    for template in sorted(TEMPLATES.rglob(f"*{SUFFIX}")):
        place = template.relative_to(TEMPLATES).as_posix().removesuffix(SUFFIX)
        path = folder / place.replace("test_PACKAGE", f"test_{name}").replace("PACKAGE", words["package"])
        path.parent.mkdir(parents=True, exist_ok=True)
        text = template.read_text(encoding="utf-8")
        for plain, free in FREE_TOKENS.items() if free_tokens else ():
            text = text.replace(plain, free)
        path.write_text(Template(text).substitute(words), encoding="utf-8")
        written.append(path)
    return written
