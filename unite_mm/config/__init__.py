"""Resolves a run's configuration: preset, then `--config` file, then `--set key=value`, then flags.

Every source becomes a `Layer`, a nested mapping with a name for messages; later layers win key by key. The result is a
validated `RunConfig` that also holds each plugin's own configuration, complete with its defaults.

`options` says what a user may ask for, `files`, `presets`, `regimes` and `assignments` turn it into layers, `layers`
merges them, `complete` validates the result, `resolve` does all of it for a run and `plugins` for one plugin without a
run.
"""

from unite_mm.config.files import parse_duration, read_yaml
from unite_mm.config.options import Layer, RunOptions, decoder_layer, trunk_layer
from unite_mm.config.plugins import check_preset, resolve_plugin, sampling_settings, with_settings
from unite_mm.config.regimes import REGIMES, regime_layer
from unite_mm.config.resolve import resolve, resolve_resumed, settings_that_differ

__all__ = [
    "REGIMES",
    "Layer",
    "RunOptions",
    "check_preset",
    "decoder_layer",
    "parse_duration",
    "read_yaml",
    "regime_layer",
    "resolve",
    "resolve_plugin",
    "resolve_resumed",
    "sampling_settings",
    "settings_that_differ",
    "trunk_layer",
    "with_settings",
]
