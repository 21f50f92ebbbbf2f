"""The run folder: configuration and data-set cards, metrics.jsonl and TensorBoard, checkpoints.

Only the first rank writes; see `unite_mm.training.distribution.Ranks`.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from unite_mm.errors import UsageError
from unite_mm.progress import Progress
from unite_mm.registry.build import OpenModality, software_versions
from unite_mm.storage.checkpoint import checkpoint_folder, checkpoints_of, newest_checkpoint, prune, write_folder
from unite_mm_schemas.checkpoint import CheckpointRecord
from unite_mm_schemas.config import RunConfig


class RunFolder:
    """What a run leaves behind.

    Args:
        path: the folder.
        config: the run.
        opened: its modalities with their data.
        progress: where to say what was found.
    """

    def __init__(self, path: Path, config: RunConfig, opened: Mapping[str, OpenModality], progress: Progress) -> None:
        self.path = path
        self.config = config
        self.opened = opened
        self.progress = progress

    def create(self) -> None:
        """Make the folder and write the configuration and the data-set cards."""
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / "config.json").write_text(self.config.model_dump_json(indent=1), encoding="utf-8")
        for name, entry in self.opened.items():
            card = entry.data.card.model_dump_json(indent=1)
            (self.path / f"data-card-{name}.json").write_text(card, encoding="utf-8")

    @contextmanager
    def log(self, step: int) -> Iterator["RunLog"]:
        """The records of the run from a step on, open while the context is."""
        log = RunLog(self.path, step)
        try:
            yield log
        finally:
            log.close()

    def save(self, step: int, seconds: float, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Write a checkpoint and drop the oldest ones.

        Args:
            step: optimizer steps done.
            seconds: of training so far.
            tensors: file stem -> name -> tensor.

        Raises:
            UniteError: it cannot be written; earlier checkpoints stay.
        """
        record = CheckpointRecord(
            step=step,
            seconds=seconds,
            samples={name: step * self.config.train.batch_size for name in self.opened},
            config=self.config,
            modalities={name: entry.record for name, entry in self.opened.items()},
            versions=software_versions(),
            files={},
        )
        write_folder(checkpoint_folder(self.path, step), tensors, record)
        prune(self.path, self.config.train.keep_checkpoints)

    def newest(self) -> tuple[Path, CheckpointRecord] | None:
        """The newest intact checkpoint, after saying which newer ones are damaged; None where none was ever written.

        Raises:
            UsageError: it was made from other data.
            UniteError: all checkpoints are damaged.
        """
        if not checkpoints_of(self.path):
            self.progress.say(f"{self.path} holds no checkpoint yet: starting from the beginning")
            return None
        where, record, problems = newest_checkpoint(self.path)
        for problem in problems:
            self.progress.say(problem)
        for name, entry in self.opened.items():
            old = record.modalities[name].card
            if old is not None and entry.data.card.split_hash != old.split_hash:
                raise UsageError(
                    f"the {name} data differ from those the run was trained on", "give the same --data, or a new --out"
                )
        return where, record


class RunLog:
    """Appends records to `metrics.jsonl` and TensorBoard.

    Args:
        folder: the run folder.
        step: the step training starts from; later records of an interrupted run are dropped, so that the file reads
            like that of a run that was never stopped.
    """

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.path = folder / "metrics.jsonl"
        kept = []
        if self.path.exists():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                try:
                    record = json.loads(line)
                except ValueError:  # the last line of a killed run may be torn
                    continue
                if record["step"] <= step:
                    kept.append(line)
        self.path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
        self.stream = self.path.open("a", encoding="utf-8")
        self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def write(self, kind: str, step: int, values: dict[str, float]) -> None:
        """One record: `kind` is `train` or `validation`."""
        self.stream.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")
        self.stream.flush()
        for name, value in values.items():
            self.board.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        """Flush and close both."""
        self.stream.close()
        self.board.close()
