"""Finds modality plugins by their manifests, without importing any of their code.

A plugin declares an entry point `name = "package:manifest.yaml"` in the group `unite_mm.modalities`; the manifest lies
inside that top-level package. Discovery reads manifests only and never raises: what is wrong with a plugin is kept
beside it and raised when somebody selects it. Several entry points, each with a manifest of its own, may share one
package and one implementation.

`discovery` finds entry points, `manifests` reads what they name, `plugin` holds the result. `build` goes from a run's
configuration to modalities, data and a model, and needs torch, which importing this package does not; `scaffold` writes
a new plugin.
"""

from unite_mm.registry.discovery import GROUP, Registry, declarations, discover
from unite_mm.registry.manifests import Declaration
from unite_mm.registry.plugin import BrokenPlugin, Plugin

__all__ = ["GROUP", "BrokenPlugin", "Declaration", "Plugin", "Registry", "declarations", "discover"]
