"""What a report shows of samples beside their scores: galleries to look through, and published figures."""

from pydantic import Field, JsonValue

from unite_mm_schemas.base import Schema


class Fact(Schema):
    """A line of text about an item."""

    label: str
    """What it tells, such as `RMSD`."""
    text: str
    """The text itself, with its unit."""


class Tag(Schema):
    """A kind of items, by which a gallery is filtered."""

    name: str
    """Machine name; `GalleryItem.tags` repeats it."""
    title: str
    """What the button says."""
    total: int | None = Field(None, ge=0)
    """How many of all samples are of the kind; None: not counted."""
    alert: bool = False
    """Whether items of the kind are marked as faulty."""


class GalleryItem(Schema):
    """A sample, or an input with its reconstruction."""

    title: str
    """One line."""
    tags: tuple[str, ...] = ()
    """Names of the kinds it belongs to."""
    facts: tuple[Fact, ...] = ()
    """What is shown beside the picture."""
    content: JsonValue = None
    """What the plugin's script makes pictures of."""


class Gallery(Schema):
    """Some of a set of samples, to look through."""

    kind: str
    """`samples` or `reconstructions`."""
    title: str
    """Heading."""
    total: int = Field(ge=0)
    """How many samples there are; the items may be fewer."""
    tags: tuple[Tag, ...] = ()
    """Kinds of items, as buttons in this order."""
    items: tuple[GalleryItem, ...] = ()
    """What is shown."""
    notes: tuple[str, ...] = ()
    """What a reader must know: how the items were chosen, what the marks mean."""


class Published(Schema):
    """A figure that others have published of a metric that is measured here in the same way on the same data."""

    system: str
    """Name of the model or paper, as a column."""
    kind: str
    """Kind of the score, as `Score.kind`."""
    metric: str
    """Name of the metric."""
    value: float
    """In the metric's own unit; shares lie in [0, 1]."""
    source: str
    """Where it stands: authors, year, identifier, table."""


class Views(Schema):
    """`views.json` beside `metrics.json`: what the report of an evaluation shows of its samples."""

    schema_version: int = 1
    """Version of this schema."""
    modality: str
    """Modality the samples belong to."""
    galleries: tuple[Gallery, ...] = ()
    """In the order shown."""
