"""Finding plugins by the entry points of installed distributions."""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import importlib_metadata

from unite_mm.errors import UsageError
from unite_mm.registry.manifests import Declaration, describe_failure, read_plugin
from unite_mm.registry.plugin import BrokenPlugin, Plugin
from unite_mm.utils.validation import did_you_mean

GROUP = "unite_mm.modalities"


@dataclass(frozen=True)
class Registry:
    """What discovery found.

    Attributes:
        plugins: usable plugins by name, sorted.
        broken: the others, sorted by name.
    """

    plugins: dict[str, Plugin]
    broken: tuple[BrokenPlugin, ...] = ()

    def get(self, name: str, needed: str | None = None) -> Plugin:
        """The plugin of a modality.

        Args:
            name: of the modality.
            needed: distribution that had it when a model was trained, `name version`.

        Raises:
            UsageError: there is none of that name, or it is broken; the message names the distribution and the cause.
        """
        if name in self.plugins:
            return self.plugins[name]
        for entry in self.broken:
            if entry.name == name:
                raise UsageError(
                    f"modality {name!r} of {entry.distribution} is broken: {entry.message}",
                    f"fix or uninstall it; `unite-mm plugins check {name}` says more",
                )
        if needed:
            package = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", needed)
            raise UsageError(
                f"this model needs {needed}, which provides the modality {name!r} and is not installed",
                f"pip install {package[0]}, or its newest version that fits" if package else "",
            )
        known = f"installed: {', '.join(self.plugins)}" if self.plugins else "no modality is installed"
        raise UsageError(
            f"unknown modality {name!r}", " ".join(filter(None, [did_you_mean(name, self.plugins), known]))
        )


def discover(path: Sequence[str] | None = None) -> Registry:
    """Read the manifests of all installed plugins; imports none of them and never raises.

    Args:
        path: folders to search for distributions; None: `sys.path`.
    """
    # name -> distribution -> its declarations: more than one where metadata of an older state are left over
    claims: dict[str, dict[str, list[Declaration]]] = defaultdict(lambda: defaultdict(list))
    for declaration in declarations(path):
        claims[declaration.name][_normalised(declaration.distribution)].append(declaration)
    plugins: dict[str, Plugin] = {}
    broken: list[BrokenPlugin] = []
    for name in sorted(claims):
        owners = list(claims[name].values())
        for own in owners:
            try:
                if len(owners) > 1:
                    others = " and ".join(sorted(entries[0].distribution for entries in owners))
                    raise UsageError(f"the name {name!r} is claimed by {others}: uninstall all but one")
                plugins[name] = _first_sound(own)
            except Exception as error:
                broken.append(describe_failure(own[0], error))
    return Registry(plugins, tuple(broken))


def declarations(path: Sequence[str] | None = None) -> Iterator[Declaration]:
    """The entry points of the group, each once, however often its distribution stands on the path.

    Args:
        path: folders to search for distributions; None: `sys.path`.
    """
    arguments = {} if path is None else {"path": list(path)}
    seen: set[tuple[str, str, str]] = set()
    for found in importlib_metadata.distributions(**arguments):
        try:
            # Parsing the metadata of every installed distribution takes longer than all the rest: look first.
            if GROUP not in (found.read_text("entry_points.txt") or ""):
                continue
            points = list(found.entry_points.select(group=GROUP))
        except Exception:  # unreadable metadata of a third-party distribution must not stop the others
            continue
        distribution = _distribution_name(found)
        for point in points:
            # An editable install shows twice: as metadata in site-packages and as egg-info in its source folder.
            key = (_normalised(distribution), point.name, "".join(point.value.split()))
            if key not in seen:
                seen.add(key)
                yield Declaration(point.name, point.value, distribution)


def _normalised(distribution: str) -> str:
    """The name of a distribution as all tools spell it."""
    return re.sub(r"[-_.]+", "-", distribution.partition(" ")[0]).lower()


def _first_sound(declared: Sequence[Declaration]) -> Plugin:
    """The plugin of the first declaration that holds: metadata of an older state of the same distribution do not count.

    Raises:
        Exception: whatever is wrong with the first one, where all are.
    """
    first: Exception | None = None
    for declaration in declared:
        try:
            return read_plugin(declaration)
        except Exception as error:
            first = first or error
    assert first is not None
    raise first


def _distribution_name(distribution: Any) -> str:
    try:
        return f"{distribution.name} {distribution.version}"
    except Exception:  # without metadata the folder's name is all there is
        return str(distribution)
