"""YAML of unknown origin: what is read, what is refused, and that neither takes long."""

import os
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from helpers.made_up_plugins import FakePlugin

from unite_mm.config import RunOptions, read_yaml, resolve
from unite_mm.errors import UsageError
from unite_mm.registry import discover
from unite_mm.utils.yaml_text import LARGEST_FILE, load_yaml

REGISTRY = discover()

LEVELS = "abcdefghijkl"
MERGED = "".join(f"{high}: &{high} {{<<: [{', '.join([f'*{low}'] * 9)}]}}\n" for low, high in pairwise(LEVELS))
LISTED = "".join(f"{high}: &{high} [{', '.join([f'*{low}'] * 9)}]\n" for low, high in pairwise(LEVELS))

HOSTILE = {
    "a bomb of lists": (f"a: &a [x, x]\n{LISTED}", "more than 5,000 values"),
    "a bomb of merged mappings": (f"a: &a {{x: 1, y: 2}}\n{MERGED}", "more than 5,000 values"),
    "many values": (f"a: [{'1, ' * 10_000}]", "more than 5,000 values"),
    "many keys": ("".join(f"k{number}: 1\n" for number in range(10_000)), "more than 5,000 values"),
    "deep lists": (f"a: {'[' * 500}{']' * 500}", "more than 50 levels"),
    "deep mappings": (f"{'{a: ' * 500}1{'}' * 500}", "more than 50 levels"),
    "deep without an end": ("[" * 10_000, "more than 50 levels"),
    "deep blocks": ("".join(f"{' ' * level}a:\n" for level in range(300)), "more than 50 levels"),
    "in itself": ("a: &a [*a]", "an alias inside of what it stands for"),
    "in itself, further down": ("a: &a {b: {c: *a}}", "an alias inside of what it stands for"),
    "a key twice": ("train: {}\nflow: {}\ntrain: {}", "line 3: the key 'train' stands twice, first in line 1"),
    "a key twice inside": ("train: {seed: 1, 'seed': 2}", "the key 'seed' stands twice"),
    "a number of 5,000 digits": (f"a: {'9' * 5000}", "a number of 5,000 characters"),
    "as many after the point": (f"a: 1.{'9' * 5000}", "a number of 5,002 characters"),
    "as many in hexadecimal": (f"a: 0x{'F' * 5000}", "a number of 5,002 characters"),
    "half a surrogate pair": ('a: "\\uD800"', "half a surrogate pair"),
    "a NUL character": ('a: "\\0"', "a text with NUL"),
    "a list as a key": ("[1]: 2", "a key must be a text"),
    "a mapping as a key": ("{a: 1}: 2", "a key must be a text"),
    "bytes": ("a: !!binary aGk=", "the tag"),
    "a set": ("a: !!set {b, c}", "the tag"),
    "an object": ("a: !!python/object/apply:os.system [id]", "the tag"),
    "a tag that does not fit": ("a: !!int x", "not valid YAML"),
    "a number that is none": ("a: !!float 1:x", "not valid YAML"),
    "two documents": ("a: 1\n---\nb: 2", "not valid YAML"),
    "an alias of nothing": ("a: *b", "not valid YAML"),
    "no text": ("a: \x01", "not valid YAML"),
    "too large": (f"a: {'b' * LARGEST_FILE}", "it has more than"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_refused_is_refused_at_once_as_a_file_and_as_a_manifest(
    case: str, tmp_path: Path, fake_plugin: Callable[[], FakePlugin]
) -> None:
    text, message = HOSTILE[case]
    path = tmp_path / "run.yaml"
    path.write_text(text)
    start = time.process_time()
    with pytest.raises(UsageError) as error:
        read_yaml(path)
    assert str(path) in error.value.message
    assert message in error.value.message
    assert len(str(error.value)) < 1000
    made = fake_plugin()
    made.manifest = text
    (broken,) = discover([str(made.install().root)]).broken
    assert message in broken.message
    assert time.process_time() - start < 10


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: &x {b: 1}\nc: {<<: *x, d: 2}", {"a": {"b": 1}, "c": {"b": 1, "d": 2}}),
        ("a: &x 3\nb: [*x, *x]", {"a": 3, "b": [3, 3]}),
        ("a: 2001-99-99", {"a": "2001-99-99"}),
        ("a: 2001-01-01", {"a": "2001-01-01"}),
        ("1: 2\nyes: 3\n~: 4", {"1": 2, "yes": 3, "~": 4}),
        ("a: {1: 2}", {"a": {"1": 2}}),
        ("a: 1e-3\nb: .inf\nc: 0x10\nd: ~", {"a": "1e-3", "b": float("inf"), "c": 16, "d": None}),
        ('{"a": [1, 2.5, "x", null, true]}', {"a": [1, 2.5, "x", None, True]}),
        ("", None),
    ],
)
def test_what_is_read(text: str, value: object) -> None:
    assert load_yaml(text) == value


def test_whatever_it_says_an_error_is_one_of_yaml() -> None:
    for text in (
        "a: !!timestamp x",
        "a: !!int ''",
        "a: !!float ''",
        "a: !!bool x",
        "!!map [1]",
        "!!seq {a: 1}",
        "<<: 1",
    ):
        with pytest.raises(yaml.YAMLError):
            load_yaml(text)


PLACES: dict[str, Callable[[Path], None]] = {
    "a pipe": os.mkfifo,
    "a device without end": lambda path: path.symlink_to("/dev/zero"),
    "a terminal's device": lambda path: path.symlink_to("/dev/null"),
    "a folder": Path.mkdir,
    "nothing": lambda path: None,
    "a loop of links": lambda path: path.symlink_to(path),
    "no UTF-8": lambda path: path.write_bytes(b"\xff\xfe"),
}


@pytest.mark.parametrize("case", PLACES)
def test_what_is_no_file_of_text_is_refused_without_waiting(
    case: str, tmp_path: Path, fake_plugin: Callable[[], FakePlugin]
) -> None:
    path = tmp_path / "run.yaml"
    PLACES[case](path)
    with pytest.raises(UsageError, match=r"cannot read .*run\.yaml|run\.yaml is not UTF-8"):
        resolve(RunOptions(("points",), file=path), REGISTRY)
    made = fake_plugin().install()
    manifest = made.root / made.package / "modality.yaml"
    manifest.unlink()
    PLACES[case](manifest)
    assert [entry.name for entry in discover([str(made.root)]).broken] == ["dots"]


SHAPES = ("[points]", "5", "text", "[[points, {}]]", "true", "{points: 5}", "{points: [1]}", "{points: {config: 5}}")


@pytest.mark.parametrize("shape", [*SHAPES, "{points: {config: [channels]}}", "{points: text}"])
@pytest.mark.parametrize("place", ["file", "assignment"])
def test_modalities_of_another_shape_are_refused_whatever_comes_after(shape: str, place: str, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(f"modalities: {shape}")
    given = {"file": file} if place == "file" else {"assignments": (f"modalities={shape}",)}
    with pytest.raises(UsageError, match=r"modalities\S*: must be a mapping of keys, not .* \((--set|/)"):
        resolve(RunOptions(("points",), sources=("ring",), **given), REGISTRY)


@pytest.mark.parametrize("section", ["trunk", "flow", "optim", "train", "sampling", "regime", "recipe", "latent"])
@pytest.mark.parametrize("value", ["5", "[1]", "text", "[[width, 8]]"])
def test_a_section_of_another_shape_is_refused_whatever_comes_after(section: str, value: str, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(f"{section}: {value}")
    later = {"train": {"max_steps": 3}, section: {}}
    with pytest.raises(UsageError, match=f"^{section}: must be a mapping of keys, not "):
        resolve(RunOptions(("points",), file=file, flags=later), REGISTRY)


def test_empty_sections_and_modalities_change_nothing(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    plain = resolve(RunOptions(("points",)), REGISTRY)
    for text in (
        "modalities:",
        "modalities: {points: }",
        "modalities: {points: {config: }}",
        "modalities: {}",
        "flow:",
    ):
        file.write_text(text)
        assert resolve(RunOptions(("points",), file=file), REGISTRY) == plain


def test_a_value_is_the_callers_own() -> None:
    text = "a: {b: [1, 2]}\n"
    first = load_yaml(text)
    first["a"]["b"].append(3)
    assert load_yaml(text) == {"a": {"b": [1, 2]}}
