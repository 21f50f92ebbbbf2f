"""YAML (and JSON) as plain values, safe whoever wrote it: no text costs more than a moment and a few megabytes.

Beyond what PyYAML's safe loader refuses: keys that stand twice in a mapping, aliases that multiply, nesting without
end, numbers of thousands of digits. Keys are texts, whatever they look like; so are dates.
"""

import copy
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from unite_mm.errors import UsageError
from unite_mm.utils.files import read_regular_text

LARGEST_FILE = 2**20
"""Bytes of a YAML file."""

LARGEST_KEPT = 2**15
"""Characters of a text whose value is kept for the next time; manifests have a few thousand."""

MOST_VALUES = 5_000
"""Values of a text, those that aliases repeat included."""

DEEPEST = 50
"""Levels of nesting."""

LONGEST_NUMBER = 400
"""Characters of a number; the largest float has 309 digits."""

_TAG = "tag:yaml.org,2002:"
_KNOWN = {f"{_TAG}{name}" for name in ("null", "bool", "int", "float", "str", "seq", "map", "merge", "value")}


class RefusedError(yaml.MarkedYAMLError):
    """Valid YAML that no configuration needs; `problem` says what it is."""

    def __init__(self, problem: str, mark: yaml.Mark) -> None:
        super().__init__(problem=problem, problem_mark=mark)
        self.problem: str = problem
        self.line: int = mark.line + 1


def load_yaml(text: str) -> Any:
    """The value of a text in YAML, the caller's own.

    Raises:
        yaml.YAMLError: it is no YAML, or more than any configuration needs; str() says what and where.
    """
    return copy.deepcopy(_load_once(text)) if len(text) <= LARGEST_KEPT else _load(text)


def _load(text: str) -> Any:
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    except yaml.YAMLError:
        raise
    except Exception as error:  # tags on what does not fit them: !!int x
        raise yaml.YAMLError(f"{type(error).__name__}: {error}") from error
    finally:
        loader.dispose()


def read_mapping(path: Path, name: str = "", example: str = "") -> dict[str, Any]:
    """The mapping in a YAML or JSON file; an empty one where the file is empty.

    Args:
        path: the file.
        name: what messages call it; empty: its path.
        example: ends the message about a file that holds anything else, such as " such as `trunk:`".

    Raises:
        UsageError: the file does not exist, cannot be read, is no regular file or too large, or holds no mapping.
    """
    name = name or str(path)
    text = read_regular_text(path, LARGEST_FILE, name)
    try:
        content = load_yaml(text)
    except RefusedError as error:
        raise UsageError(f"{name}, line {error.line}: {error.problem}") from error
    except yaml.YAMLError as error:
        raise UsageError(f"{name} is not valid YAML: {' '.join(str(error).split())}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError(f"{name} must hold a mapping of keys{example}")
    return content


# One command reads the manifests of all plugins up to seven times, which is half of what a short run takes.
_load_once = lru_cache(128)(_load)


class _Loader(yaml.SafeLoader):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._sizes: dict[int, int] = {}
        self._values = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self._depth > DEEPEST:
            raise self._refused(f"more than {DEEPEST} levels")
        before = self._values
        is_alias = self.check_event(yaml.AliasEvent)
        node: yaml.Node | None = super().compose_node(parent, index)
        if node is None:
            return None
        if is_alias:
            if id(node) not in self._sizes:
                raise self._refused("an alias inside of what it stands for")
            self._count(self._sizes[id(node)])
        elif node.tag not in _KNOWN:
            raise RefusedError(f"the tag {node.tag!r} has no meaning here", node.start_mark)
        else:
            self._count(1)
            self._sizes[id(node)] = self._values - before
        return node

    def compose_sequence_node(self, anchor: Any) -> yaml.SequenceNode:
        self._depth += 1
        node: yaml.SequenceNode = super().compose_sequence_node(anchor)
        self._depth -= 1
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        self._depth += 1
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        self._depth -= 1
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise RefusedError("a key must be a text", key.start_mark)
            if key.value in lines:
                raise RefusedError(
                    f"the key {key.value!r} stands twice, first in line {lines[key.value]}", key.start_mark
                )
            lines[key.value] = key.start_mark.line + 1
            if key.tag != f"{_TAG}merge":
                key.tag = f"{_TAG}str"
        return node

    def construct_scalar(self, node: Any) -> Any:
        value = super().construct_scalar(node)
        if isinstance(value, str):
            if node.tag in (f"{_TAG}int", f"{_TAG}float") and len(value) > LONGEST_NUMBER:
                raise RefusedError(f"a number of {len(value):,} characters", node.start_mark)
            if any(char == "\0" or "\ud800" <= char <= "\udfff" for char in value):
                raise RefusedError("a text with NUL or half a surrogate pair in it", node.start_mark)
        return value

    def _count(self, values: int) -> None:
        self._values += values
        if self._values > MOST_VALUES:
            raise self._refused(f"more than {MOST_VALUES:,} values")

    def _refused(self, problem: str) -> RefusedError:
        return RefusedError(problem, self.peek_event().start_mark)  # type: ignore[no-untyped-call]


# A date is a text here as in JSON; reading it as one would refuse 2001-99-99 in the middle of a name.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != f"{_TAG}timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
