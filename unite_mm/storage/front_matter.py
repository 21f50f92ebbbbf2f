"""The metadata at the beginning of a model card, in YAML between two lines of dashes, as model hubs read it."""

from typing import Any

import yaml

from unite_mm_schemas.checkpoint import CheckpointRecord
from unite_mm_schemas.metrics import MetricsReport

FENCE = "---\n"

TAGS = ("unite-mm", "flow-matching", "latent-generation", "tokenizer")


def front_matter(name: str, record: CheckpointRecord, report: MetricsReport | None, licence: str | None) -> str:
    """The metadata of a card.

    Args:
        name: of the model.
        record: of the exported folder.
        report: an evaluation of the model; None: it was not evaluated.
        licence: of the model, as SPDX names it; hubs write it in lower case. None: not stated.
    """
    cards = [entry.card for entry in record.modalities.values() if entry.card is not None]
    content: dict[str, Any] = {"library_name": "unite-mm"}
    if licence:
        content["license"] = licence.lower()
    content["tags"] = [*TAGS, *record.modalities]
    if cards:
        content["datasets"] = list(dict.fromkeys(card.name for card in cards))
    if report is not None:
        found = [metric for score in report.scores for metric in score.metrics if metric.value is not None]
        content["metrics"] = list(dict.fromkeys(metric.name for metric in found))
        content["model-index"] = [{"name": name, "results": _results(report)}]
    return f"{FENCE}{yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000)}{FENCE}\n"


def without_front_matter(text: str) -> str:
    """A card without its metadata, for readers."""
    if not text.startswith(FENCE):
        return text
    _, end, rest = text.removeprefix(FENCE).partition(f"\n{FENCE}")
    return rest.lstrip("\n") if end else text


def _results(report: MetricsReport) -> list[dict[str, Any]]:
    return [
        {
            "task": {"type": score.kind, "name": score.kind.capitalize()},
            "dataset": {"type": report.modality, "name": report.data or report.modality},
            "metrics": [
                {"type": metric.name, "name": metric.title, "value": metric.value}
                for metric in score.metrics
                if metric.value is not None
            ],
        }
        for score in report.scores
    ]
