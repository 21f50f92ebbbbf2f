"""What can be told of a tree of models: where a location of Pydantic's leads in it, its keys, its unions."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel


@dataclass(frozen=True)
class Place:
    """Where a location leads.

    Attributes:
        path: the keys that a user writes: the location without the tags of unions.
        parent: the model that holds, or would hold, the last key; None where it is in no model.
        discriminator: the key by which the members of the last union on the way are told apart.
        others: the members of that union by their tags, without the one that was chosen.
    """

    path: tuple[str, ...] = ()
    parent: type[BaseModel] | None = None
    discriminator: str = ""
    others: Mapping[str, type[BaseModel]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Node:
    """An annotation without its wrapping: a model, a union of models with its discriminator, or anything else."""

    annotation: Any
    discriminator: str | None = None

    @property
    def model(self) -> type[BaseModel] | None:
        models = models_of(self.annotation)
        return models[0] if models else None

    @property
    def members(self) -> dict[str, type[BaseModel]]:
        """The members of a union by their tags; none where it is no union, or not told apart by a key."""
        if self.discriminator is None:
            return {}
        return {
            str(tag): member
            for member in models_of(self.annotation)
            if self.discriminator in member.model_fields
            for tag in get_args(member.model_fields[self.discriminator].annotation)
        }


def walk(location: Sequence[str], model: type[BaseModel]) -> Place:
    """Follow a location through models, containers and unions.

    Args:
        location: Pydantic's `loc`, as texts.
        model: the model at the root.
    """
    path: list[str] = []
    node = _Node(model)
    parent: type[BaseModel] | None = None
    discriminator, others = "", {}
    for part in location:
        members = node.members
        if part in members:
            discriminator = node.discriminator or ""
            others = {tag: member for tag, member in members.items() if member is not members[part]}
            node = _Node(members[part])
            continue
        path.append(part)
        if get_origin(node.annotation) in (tuple, list, dict):
            parent, node = None, _item(node.annotation)
            continue
        parent = node.model
        if parent is None or part not in parent.model_fields:
            node = _Node(None)
            continue
        discriminator, others = "", {}
        found = parent.model_fields[part]
        node = _unwrapped(found.annotation, found.discriminator)
    if node.members:  # the location of a union whose tag is wrong ends before it
        discriminator, others = node.discriminator or "", node.members
    return Place(tuple(path), parent, discriminator, others)


def with_default_kinds(values: Mapping[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """Values in which sections that are unions, but do not say which member they are, are the default one.

    Args:
        values: nested mapping in the shape of the model.
        model: the model; its defaults count.
    """
    filled = dict(values)
    for name, found in model.model_fields.items():
        section, node = filled.get(name), _unwrapped(found.annotation, found.discriminator)
        if not isinstance(section, Mapping):
            continue
        inner = node.annotation if isinstance(node.annotation, type) else None
        if node.members and node.discriminator is not None:
            if node.discriminator not in section and isinstance(found.default, BaseModel):
                section = {node.discriminator: getattr(found.default, node.discriminator), **section}
            inner = node.members.get(str(section.get(node.discriminator)))
        if inner is not None and issubclass(inner, BaseModel):
            filled[name] = with_default_kinds(section, inner)
    return filled


def dotted_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """All keys of a model as dotted paths, nested models and the members of unions entered."""
    for name, found in model.model_fields.items():
        yield prefix + name
        nested = (key for inner in models_of(found.annotation) for key in dotted_keys(inner, f"{prefix}{name}."))
        yield from dict.fromkeys(nested)


def models_of(annotation: Any) -> tuple[type[BaseModel], ...]:
    """The models that an annotation holds, at any depth: its own, a union's, those of a container."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return (annotation,)
    if get_origin(annotation) is Literal:
        return ()
    return tuple(dict.fromkeys(model for inner in get_args(annotation) for model in models_of(inner)))


def _unwrapped(annotation: Any, discriminator: Any = None) -> _Node:
    """An annotation without `Annotated` and `| None`."""
    if get_origin(annotation) is Annotated:
        inner, *notes = get_args(annotation)
        named = [note.discriminator for note in notes if getattr(note, "discriminator", None) is not None]
        return _unwrapped(inner, *(named[:1] or [discriminator]))
    arguments = [inner for inner in get_args(annotation) if inner is not type(None)]
    if len(arguments) == 1 and len(get_args(annotation)) == 2 and type(None) in get_args(annotation):
        return _unwrapped(arguments[0], discriminator)
    return _Node(annotation, discriminator if isinstance(discriminator, str) else None)


def _item(annotation: Any) -> _Node:
    """What a list, tuple or mapping holds."""
    arguments = [inner for inner in get_args(annotation) if inner is not ...]
    return _unwrapped(arguments[-1]) if arguments else _Node(None)
