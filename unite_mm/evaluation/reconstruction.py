"""Reconstruct samples of a held-out split, picture and score them."""

from unite_mm.contract import ModalityData
from unite_mm.errors import UsageError
from unite_mm.evaluation.plan import chosen_indices
from unite_mm.evaluation.report import optional_picture
from unite_mm.evaluation.task import Task
from unite_mm_schemas.metrics import Score

DRAWN_PAIRS = 18
PICTURE = "reconstructions.png"


def score_reconstructions(task: Task, data: ModalityData) -> Score:
    """Reconstruct what the plan asks for and score it.

    Raises:
        UsageError: the split is empty.
        UniteError: scoring failed.
    """
    plan, clock = task.plan, task.clock
    size = data.size(plan.split)
    if size == 0:
        raise UsageError(f"the {plan.split} split of {data.card.name} is empty", "use --reconstructions 0")
    inputs = data.samples(plan.split, chosen_indices(size, plan.reconstructions, plan.seed))
    with clock.stage("reconstruct"):
        outputs = task.model.reconstruct(inputs, task.name, seed=plan.seed, progress=task.progress)
    if plan.pictures:
        with optional_picture(PICTURE, task.progress), task.stage("draw_reconstructions", "Drawing reconstructions"):
            task.modality.save_pairs_picture(inputs[:DRAWN_PAIRS], outputs[:DRAWN_PAIRS], task.folder / PICTURE)
    with task.stage("score_reconstruction", "Scoring reconstructions"):
        score = task.modality.score_reconstruction(inputs, outputs, task.progress, plan.workers)
    if plan.pictures:
        task.galleries.add_reconstructions(inputs, outputs)
    return score
