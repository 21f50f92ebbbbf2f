"""The run folder: configuration and data-set cards, records, checkpoints.

Only the first rank writes, but for what others have of a checkpoint. Whoever trains in a folder has locked it.
Checkpoints are written while the run trains on.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError
from torch import Tensor

from unite_mm.config import settings_that_differ
from unite_mm.errors import UniteError, UsageError
from unite_mm.progress import Progress
from unite_mm.registry.build import OpenModality, software_versions
from unite_mm.storage.checkpoint import FolderWriter, read_record
from unite_mm.storage.runs import Pruning, checkpoint_folder, checkpoints_of, newest_checkpoint, step_of
from unite_mm.storage.shards import file_name
from unite_mm.training.background import Background
from unite_mm.training.distribution import Ranks
from unite_mm.training.run_log import RunLog, removed
from unite_mm.training.state import TrainState
from unite_mm.utils.files import write_text
from unite_mm.utils.lock import LOCK
from unite_mm_schemas.card import DataCard
from unite_mm_schemas.checkpoint import CheckpointRecord, SettingChange
from unite_mm_schemas.config import RunConfig

CONFIG = "config.json"


def is_new(folder: Path) -> bool:
    """Whether a run may begin in a folder: it does not exist, or is empty but for a lock."""
    return not folder.exists() or (folder.is_dir() and all(path.name == LOCK for path in folder.iterdir()))


def check_new(folder: Path) -> None:
    """Refuse a folder that holds something.

    Raises:
        UsageError: it does.
    """
    if not is_new(folder):
        raise UsageError(f"{folder} is not empty", "continue its run with --resume, or name another folder")


class RunFolder:
    """What a run leaves behind.

    Args:
        path: the folder.
        config: the run.
        opened: its modalities with their data.
        progress: where to say what was found.

    Attributes:
        changes: settings that this run changed when it was resumed.
    """

    def __init__(self, path: Path, config: RunConfig, opened: Mapping[str, OpenModality], progress: Progress) -> None:
        self.path = path
        self.config = config
        self.opened = opened
        self.progress = progress
        self.changes: tuple[SettingChange, ...] = ()
        self._pruning = Pruning(path)
        self._writing = Background("checkpoint")
        self._beside: Ranks | None = None

    def create(self) -> None:
        """Make the folder and write the configuration and the data-set cards.

        Raises:
            UniteError: the configuration could not be read back.
            OSError: they cannot be written.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        self.write_config()
        for name, entry in self.opened.items():
            write_text(self._card_path(name), entry.data.card.model_dump_json(indent=1))

    def write_config(self) -> None:
        """Write the configuration, so that `--resume` knows of it.

        Raises:
            UniteError: it could not be read back.
            OSError: it cannot be written.
        """
        text = self.config.model_dump_json(indent=1)
        try:
            same = RunConfig.model_validate_json(text) == self.config
        except ValidationError:
            same = False
        if not same:
            raise UniteError(f"{self.path / CONFIG} was not written: it could not be read back", "check every setting")
        write_text(self.path / CONFIG, text)

    @contextmanager
    def log(self, step: int) -> Iterator[RunLog]:
        """The records of the run from a step on, open while the context is; what killed ones left behind is removed."""
        self._pruning.tidy()
        log = RunLog(self.path, step, self.config.train.validate_every, self.progress)
        try:
            yield log
        finally:
            log.close()

    @contextmanager
    def saving(self, ranks: Ranks) -> Iterator[None]:
        """While the run trains: at the end all ranks wait for the checkpoint that is still being written.

        Raises:
            UniteError: it cannot be written.
        """
        try:
            yield
        except BaseException:
            self._writing.wait()
            raise
        ranks.together(self._writing.settle)

    @property
    def save_failed(self) -> bool:
        """Whether this rank knows already that the newest checkpoint cannot be written; the next `save` says why."""
        return self._writing.failed

    def save(self, state: TrainState, ranks: Ranks) -> None:
        """Write a checkpoint and drop the oldest ones; all ranks call this, and those write that have something of it.

        Training waits until the tensors are copied, and the checkpoint before this one is written; the rest goes on
        beside it.

        Args:
            state: what it holds.
            ranks: of the run.

        Raises:
            UniteError: this checkpoint cannot be begun, or the one before it could not be written; earlier ones stay.
        """
        ranks.together(self._writing.settle)
        self._beside = beside = self._beside or ranks.beside()
        writer = FolderWriter(checkpoint_folder(self.path, state.step))
        ranks.together(lambda: self._begin(writer) if ranks.is_first else None)
        tensors, parts, part = state.tensors(), state.layout.parts, state.layout.part(ranks.shard.rank)
        stems = list(tensors)
        copies = {} if part is None else _copies(tensors)
        record = self._record(state)

        def write() -> None:
            try:
                own = beside.together(lambda: {} if part is None else writer.write(copies, part, parts))
                files = _files_of_all(own, stems, parts, beside)
                beside.together(lambda: writer.finish(record, files) if beside.is_first else None)
            finally:
                if beside.is_first:
                    writer.discard()
            if beside.is_first:
                self._pruning.keep(self.config.train.keep_checkpoints)

        self._writing.start(write)

    def _begin(self, writer: FolderWriter) -> None:
        if not self.path.exists():
            raise removed(self.path)
        writer.begin()

    def _record(self, state: TrainState) -> CheckpointRecord:
        return CheckpointRecord(
            step=state.step,
            seconds=state.seconds,
            stage=state.stage,
            samples={name: state.step * self.config.train.batch_size for name in self.opened},
            config=self.config,
            modalities={name: entry.record for name, entry in self.opened.items()},
            changes=self.changes,
            versions=software_versions(),
            files={},
        )

    def newest(self) -> tuple[Path, CheckpointRecord] | None:
        """The newest intact checkpoint, after saying which newer ones are damaged; None where none was ever written.

        Raises:
            UsageError: it was made from other data.
            UniteError: all checkpoints are damaged.
        """
        if not checkpoints_of(self.path):
            self._check_data({name: self._stored_card(name) for name in self.opened})
            self.progress.say(f"{self.path} holds no checkpoint yet: starting from the beginning")
            return None
        where, record, problems = newest_checkpoint(self.path)
        for problem in problems:
            self.progress.say(problem)
        self._check_data({name: record.modalities[name].card for name in self.opened})
        self._note_changes(record)
        return where, record

    def of_step(self, step: int) -> tuple[Path, CheckpointRecord]:
        """The checkpoint of a step, which the first rank has found intact.

        Raises:
            UsageError: it was made from other data than this rank has.
            UniteError: this rank does not find it.
        """
        where = next((path for path in checkpoints_of(self.path) if step_of(path) == step), None)
        if where is None:
            raise UniteError(
                f"{self.path}: the first process goes on from step {step:,}, whose checkpoint this one does not find",
                "all processes must see the same folder",
            )
        record = read_record(where, verify=False)
        self._check_data({name: record.modalities[name].card for name in self.opened})
        return where, record

    def newest_name(self) -> str:
        """Where the newest checkpoint lies, for a message."""
        found = checkpoints_of(self.path)
        return str(found[-1]) if found else str(self.path)

    def _check_data(self, cards: Mapping[str, DataCard | None]) -> None:
        for name, entry in self.opened.items():
            card = cards[name]
            if card is not None and entry.data.card.split_hash != card.split_hash:
                raise UsageError(
                    f"the {name} data differ from those the run was trained on ({card.description}; their splits have "
                    "other hashes)",
                    "name those data with --data, or start a new run in another --out",
                )

    def _note_changes(self, record: CheckpointRecord) -> None:
        """Say and keep what differs from the configuration that the checkpoint was made with."""
        changed = settings_that_differ(record.config, self.config)
        new = [SettingChange(step=record.step, key=key, before=old, after=now) for key, old, now in changed]
        for change in new:
            if not change.key.startswith("train.max_"):
                self.progress.say(f"from here on {change.key} is {change.after}, not {change.before}")
        self.changes = (*record.changes, *new)

    def _card_path(self, name: str) -> Path:
        return self.path / f"data-card-{name}.json"

    def _stored_card(self, name: str) -> DataCard | None:
        """The card that was written when the run began; None where it cannot be read."""
        try:
            return DataCard.model_validate(json.loads(self._card_path(name).read_text(encoding="utf-8")))
        except (OSError, ValueError, RecursionError):
            return None


def _copies(tensors: Mapping[str, Mapping[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
    """Copies on the CPU, which training changes no more."""
    return {
        stem: {name: tensor.detach().to("cpu", copy=True) for name, tensor in content.items()}
        for stem, content in tensors.items()
    }


def _files_of_all(own: Mapping[str, str], stems: list[str], parts: int, ranks: Ranks) -> dict[str, str]:
    """SHA-256 of the files of all ranks by name, of which each knows its own; the first ranks write one part each."""
    part = ranks.shard.rank % parts
    known = [bytes.fromhex(own.get(file_name(stem, part, parts), "00" * 32)) for stem in stems]
    found = {}
    for number, content in enumerate(ranks.gathered(b"".join(known))[:parts]):
        for place, stem in enumerate(stems):
            found[file_name(stem, number, parts)] = content[32 * place : 32 * place + 32].hex()
    return found
