"""Galleries of images for the HTML report."""

import base64
import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from unite_mm.contract import Reference, ReportViews
from unite_mm.kit.choice import spread_evenly
from unite_mm.progress import Progress
from unite_mm_image.data.image_files import to_mode
from unite_mm_image.data.native import label_of
from unite_mm_image.files.pictures import difference, seen_by_model
from unite_mm_schemas.views import Fact, Gallery, GalleryItem, Tag

ASSETS = Path(__file__).parent / "assets"

MOST_IMAGES = 400
MOST_PAIRS = 150

LARGEST_SIDE = 256
"""Pixels; larger images are made smaller."""

EXACT_SIDE = 64
"""Pixels up to which images are kept as PNG, exactly; larger ones as WebP of high quality."""

MOST_CLASSES = 24
"""Classes up to which a gallery can be filtered by class."""


class ImageViews(ReportViews):
    """Galleries of images: a grid, and inputs with their reconstructions under a slider."""

    renderer = "images"
    scripts = (ASSETS / "images.js",)
    styles = (ASSETS / "images.css",)

    def samples(
        self, samples: Sequence[Image.Image], reference: Reference | None, progress: Progress, workers: int = 0
    ) -> Gallery | None:
        """Images spread evenly over all."""
        names: Sequence[str] = getattr(reference, "classes", ())
        places, tags, items = spread_evenly(len(samples), MOST_IMAGES), _tags(samples, names), []
        with progress.task("images for the report", len(places)) as advance:
            for place in places:
                facts = (Fact(label="sample", text=f"{place + 1:,}"), *_class_facts(samples[place], names))
                content = {"images": [_encoded(_small(to_mode(samples[place]).convert("RGB")))]}
                title = ", ".join(fact.text for fact in facts[1:]) or f"sample {place + 1:,}"
                kinds = _class_tags(samples[place]) if tags else ()
                items.append(GalleryItem(title=title, tags=kinds, facts=facts, content=content))
                advance(1)
        return Gallery(
            kind="samples",
            title="Generated images",
            total=len(samples),
            tags=tags,
            items=tuple(items),
            notes=_notes(len(items), len(samples)),
        )

    def reconstructions(
        self, inputs: Sequence[Image.Image], outputs: Sequence[Image.Image], progress: Progress, workers: int = 0
    ) -> Gallery | None:
        """Inputs as the model sees them, their reconstructions and the amplified difference; the worst first."""
        places = spread_evenly(len(inputs), MOST_PAIRS)
        found = []
        with progress.task("reconstructions for the report", len(places)) as advance:
            for place in places:
                before, after = seen_by_model(inputs[place], outputs[place])
                ratio = _psnr(before, after)
                shown = [_encoded(_small(one)) for one in (before, after, difference(before, after))]
                text = "exact" if math.isinf(ratio) else f"{ratio:.1f} dB"
                facts = (Fact(label="pair", text=f"{place + 1:,}"), *_class_facts(inputs[place]),
                         Fact(label="PSNR", text=text))  # fmt: skip
                found.append((ratio, GalleryItem(title=text, facts=facts, content={"images": shown})))
                advance(1)
        return Gallery(
            kind="reconstructions",
            title="Reconstructions",
            total=len(inputs),
            items=tuple(item for _, item in sorted(found, key=lambda entry: entry[0])),
            notes=(*_notes(len(found), len(inputs)), "Those with the lowest PSNR come first."),
        )


def _notes(shown: int, total: int) -> tuple[str, ...]:
    return () if shown == total else (f"{shown:,} of {total:,} are shown, spread evenly over all.",)


def _class_facts(image: Image.Image, names: Sequence[str] = ()) -> tuple[Fact, ...]:
    label = label_of(image)
    return () if label is None else (Fact(label="class", text=_named(label, names)),)


def _named(label: int, names: Sequence[str]) -> str:
    return names[label] if 0 <= label < len(names) else f"class {label}"


def _class_tags(image: Image.Image) -> tuple[str, ...]:
    label = label_of(image)
    return () if label is None else (f"class-{label}",)


def _tags(samples: Sequence[Image.Image], names: Sequence[str]) -> tuple[Tag, ...]:
    """A kind for each class, where there are several but not many."""
    labels = [label for label in map(label_of, samples) if label is not None]
    classes = sorted(set(labels))
    if not 1 < len(classes) <= MOST_CLASSES:
        return ()
    return tuple(Tag(name=f"class-{one}", title=_named(one, names), total=labels.count(one)) for one in classes)


def _psnr(before: Image.Image, after: Image.Image) -> float:
    """Peak signal-to-noise ratio of two RGB images in dB, infinite where they are equal."""
    gap = np.asarray(before, dtype=np.float64) - np.asarray(after, dtype=np.float64)
    error = float(np.square(gap / 255).mean())
    return -10 * math.log10(error) if error else math.inf


def _small(image: Image.Image) -> Image.Image:
    if max(image.size) <= LARGEST_SIDE:
        return image
    factor = LARGEST_SIDE / max(image.size)
    return image.resize((max(1, round(image.width * factor)), max(1, round(image.height * factor))))


def _encoded(image: Image.Image) -> str:
    """An image as a data URI."""
    stream = io.BytesIO()
    exact = max(image.size) <= EXACT_SIDE
    if exact:
        image.save(stream, format="PNG", optimize=True)
    else:
        image.save(stream, format="WEBP", quality=88)
    kind = "png" if exact else "webp"
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"
