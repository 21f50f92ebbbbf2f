"""The joint trainer: `train` prepares, `Trainer.fit` loops, `Trainer.train_step` is one optimizer step.

Counted in optimizer steps; devices, precision and process launch come from Lightning Fabric.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import torch
from torch import Tensor

from unite_mm.errors import TrainingError, UsageError
from unite_mm.progress import Progress, Silent
from unite_mm.registry.build import OpenModality, build_model, load_modalities, open_modalities, software_versions
from unite_mm.storage.checkpoint import (
    checkpoint_folder,
    load_state,
    newest_checkpoint,
    prune,
    read_tensors,
    write_folder,
)
from unite_mm.storage.pretrained import load_trunk
from unite_mm.training.allocator import keep_freed_memory
from unite_mm.training.fabric import Fabric
from unite_mm.training.feed import BatchFeed
from unite_mm.training.noise import Shard
from unite_mm.training.optim import EMA, Optimizers, rate_factor, reduce_gradients
from unite_mm.training.recipes.joint import joint_backward
from unite_mm.training.run_log import RunLog, headlines
from unite_mm.training.validation import validate
from unite_mm_schemas.checkpoint import CheckpointRecord
from unite_mm_schemas.config import RunConfig


@dataclass(frozen=True)
class TrainSummary:
    """How a run ended.

    Attributes:
        folder: the run folder.
        step: optimizer steps done.
        seconds: seconds of training over all resumed parts.
        losses: newest training and validation losses.
        interrupted: whether it was stopped by a signal before its end.
    """

    folder: Path
    step: int
    seconds: float
    losses: dict[str, float] = field(default_factory=dict)
    interrupted: bool = False


def train(
    config: RunConfig,
    folder: Path,
    *,
    cache: Path,
    resume: bool = False,
    progress: Progress | None = None,
    workers: int = 0,
) -> TrainSummary:
    """Train a model, from the start or from the newest intact checkpoint of `folder`.

    Args:
        config: the run.
        folder: where checkpoints and records go.
        cache: where prepared data lies.
        resume: continue; same losses as a run that was never stopped.
        progress: where to show progress.
        workers: processes for preparing data.

    Raises:
        UsageError: the configuration or data cannot be used.
        TrainingError: the loss stopped being finite.
        UniteError: files cannot be written or read.
    """
    shown = progress or Silent()
    settings = config.train
    if settings.max_steps is None and settings.max_time is None:
        raise UsageError("the run has no length", "give --max-steps N or --max-time 30m")
    keep_freed_memory()
    torch.set_num_threads(settings.threads or max(1, (os.cpu_count() or 1) // settings.devices))
    fabric = Fabric(
        accelerator=settings.accelerator,
        devices=settings.devices,
        precision=settings.precision,
        strategy="ddp" if settings.devices > 1 else "auto",
    )
    fabric.launch()
    lead = shown if fabric.is_global_zero else Silent()
    for modality in load_modalities(config).values():
        modality.check_training()
    opened = open_modalities(config, cache, lead, workers)
    trainer = Trainer(config, folder, opened, fabric, lead)
    if resume:
        trainer.restore()
    else:
        trainer.begin()
    return trainer.fit()


class Trainer:
    """State and loop of one run.

    Args:
        config: the run.
        folder: the run folder.
        opened: the modalities with their data.
        fabric: devices and precision, launched.
        progress: where to show progress.
    """

    def __init__(
        self, config: RunConfig, folder: Path, opened: dict[str, OpenModality], fabric: Fabric, progress: Progress
    ) -> None:
        self.config = config
        self.folder = folder
        self.opened = opened
        self.fabric = fabric
        self.progress = progress
        self.model = build_model(
            config,
            {name: entry.modality for name, entry in opened.items()},
            {name: entry.statistics for name, entry in opened.items()},
        ).to(fabric.device)
        if config.train.compile:
            self.model.compile_for_training()
        self.optimizers = Optimizers(self.model, config.optim)
        self.ema = EMA(self.model, config.optim.ema, config.optim.ema_ramp)
        self.shard = Shard(fabric.global_rank, fabric.world_size)
        self.feeds = {
            name: BatchFeed(
                config.train, number, entry.data, self.model.modules_of(name).layout, fabric.device, self.shard
            )
            for number, (name, entry) in enumerate(opened.items())
        }
        self.step = 0
        self.seconds = 0.0
        self.stop_requested = False
        self.newest: dict[str, float] = {}

    # ------------------------------------------------------------------------------------------------------ the loop

    def fit(self) -> TrainSummary:
        """Train to the end of the run, or until a signal asks to stop; always leaves a checkpoint."""
        settings = self.config.train
        before, started = self.seconds, time.monotonic()
        saved = self.step if self.step else -1
        self.model.train()
        with self._signals(), self._log() as log:
            with self._bar() as show:
                while not self._done():
                    losses = self.train_step(self._progress_share())
                    self.step += 1
                    self.seconds = before + time.monotonic() - started
                    if self.step % settings.log_every == 0 or self.step == 1:
                        self._record(log, losses)
                    show()
                    if self.step % settings.validate_every == 0:
                        self._validate(log)
                    if self.step % settings.checkpoint_every == 0:
                        self.save()
                        saved = self.step
                if saved != self.step:
                    self.save()
            finished = not self.stop_requested
            if finished and self.step % settings.validate_every:
                self._validate(log)
        return TrainSummary(self.folder, self.step, self.seconds, dict(self.newest), interrupted=not finished)

    def train_step(self, progress: float) -> dict[str, Tensor]:
        """One optimizer step on one batch of every modality.

        Args:
            progress: share of the run that is done, for the learning-rate schedule.

        Returns:
            Detached scalar losses, prefixed by the modality where there are several; and the gradient norm.

        Raises:
            TrainingError: the gradient is not finite; nothing was changed.
        """
        self.optimizers.zero_grad()
        losses: dict[str, Tensor] = {}
        for name, feed in self.feeds.items():
            batch, noise = feed.batch(self.step), feed.noise(self.step)
            weight = self.config.modalities[name].weight
            terms = joint_backward(self.model, name, batch, noise, weight, self.fabric.autocast)
            prefix = f"{name}/" if len(self.opened) > 1 else ""
            losses |= {prefix + term: value for term, value in terms.items()}
        reduce_gradients(self.optimizers.parameters)
        norm = torch.nn.utils.clip_grad_norm_(self.optimizers.parameters, self.config.optim.clip)
        if not torch.isfinite(norm):
            raise TrainingError(
                f"the loss stopped being finite at step {self.step + 1}: "
                + ", ".join(f"{name} {value.item():.4g}" for name, value in losses.items()),
                "the last good checkpoint is kept; lower optim.learning_rate or use --precision 32-true, then --resume",
            )
        self.optimizers.step(rate_factor(self.config.optim, self.step + 1, progress))
        self.ema.update(self.step + 1)
        return losses | {"gradient_norm": norm}

    def _progress_share(self) -> float:
        """Share of the run that is done, equal on all ranks: by steps, or by rank 0's clock."""
        settings = self.config.train
        if settings.max_steps is not None:
            return self.step / settings.max_steps
        assert settings.max_time is not None
        share = torch.tensor(self.seconds / settings.max_time, dtype=torch.float64, device=self.fabric.device)
        if self.shard.ranks > 1:
            torch.distributed.broadcast(share, 0)
        return min(1.0, float(share))

    def _done(self) -> bool:
        """Whether to stop now: the same answer on all ranks."""
        over = self._progress_share() >= 1.0
        if self.shard.ranks > 1:
            flag = torch.tensor(float(self.stop_requested), device=self.fabric.device)
            torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
            self.stop_requested = bool(flag > 0)
        return over or self.stop_requested

    # ----------------------------------------------------------------------------------------------- what it records

    @contextmanager
    def _log(self) -> Iterator[RunLog | None]:
        """The records of the run, on rank 0."""
        if not self.fabric.is_global_zero:
            yield None
            return
        log = RunLog(self.folder, self.step)
        try:
            yield log
        finally:
            log.close()

    def _record(self, log: RunLog | None, losses: dict[str, Tensor]) -> None:
        values = {name: float(value) for name, value in losses.items()}
        values["learning_rate"] = self.config.optim.learning_rate * rate_factor(
            self.config.optim, self.step, self._progress_share()
        )
        values["seconds"] = round(self.seconds, 3)
        self.newest |= values
        if log is not None:
            log.write("train", self.step, values)

    def _validate(self, log: RunLog | None) -> None:
        """Validate the averaged weights; every rank computes the same, rank 0 records it."""
        values: dict[str, float] = {}
        for feed in self.feeds.values():
            feed.settle()
        self.ema.swap()
        try:
            for name, entry in self.opened.items():
                prefix = f"{name}/" if len(self.opened) > 1 else ""
                found = validate(self.model, name, entry.data, self.config.train, self.fabric.autocast)
                values |= {prefix + term: value for term, value in found.items()}
        finally:
            self.ema.swap()
            self.model.train()
        self.newest |= {f"validation {name}": value for name, value in values.items()}
        if log is not None:
            log.write("validation", self.step, values)

    @contextmanager
    def _bar(self) -> Iterator[Callable[[], None]]:
        """A progress bar over steps, or over seconds when the clock decides the length."""
        settings = self.config.train
        by_steps = settings.max_steps is not None
        total = settings.max_steps if by_steps else int(settings.max_time or 0)
        shown = 0
        resumed, since = self.step, time.monotonic()
        with self.progress.task("Training", total) as advance:

            def show() -> None:
                nonlocal shown
                now = self.step if by_steps else int(self.seconds)
                if now > shown:
                    advance(now - shown)
                    shown = now
                if self.step % settings.log_every == 0:
                    rate = (self.step - resumed) * settings.batch_size / max(1e-9, time.monotonic() - since)
                    self.progress.note(self._line(rate))

            yield show

    def _line(self, rate: float) -> str:
        return f"step {self.step}, {rate:.0f} samples/s, {headlines(self.newest)}"

    # ---------------------------------------------------------------------------------------- checkpoints and signals

    def begin(self) -> None:
        """Start at step 0; from the trunk of another run where the configuration names one, see `load_trunk`."""
        if self.config.train.init_trunk is not None:
            load_trunk(self.model, Path(self.config.train.init_trunk))
            self.ema.load(dict(self.model.named_parameters()))
        if self.fabric.is_global_zero:
            self.open_folder()

    def open_folder(self) -> None:
        """Create the run folder and write the configuration and the data-set cards."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "config.json").write_text(self.config.model_dump_json(indent=1), encoding="utf-8")
        for name, entry in self.opened.items():
            card = entry.data.card.model_dump_json(indent=1)
            (self.folder / f"data-card-{name}.json").write_text(card, encoding="utf-8")

    def save(self) -> None:
        """Write a checkpoint (rank 0) and drop the oldest ones."""
        if self.fabric.is_global_zero:
            record = CheckpointRecord(
                step=self.step,
                seconds=self.seconds,
                samples={name: self.step * self.config.train.batch_size for name in self.opened},
                config=self.config,
                modalities={name: entry.record for name, entry in self.opened.items()},
                versions=software_versions(),
                files={},
            )
            tensors = {
                "weights": self.model.state_dict(),
                "ema": self.ema.average,
                "optimizer": self.optimizers.state(),
            }
            write_folder(checkpoint_folder(self.folder, self.step), tensors, record)
            prune(self.folder, self.config.train.keep_checkpoints)
        self.fabric.barrier()

    def restore(self) -> None:
        """Continue from the newest intact checkpoint; with none yet, from the start.

        Raises:
            UsageError: the checkpoint was made by another configuration or from other data.
            UniteError: all checkpoints are damaged.
        """
        if not any((self.folder / "checkpoints").glob("step-*")):
            self.progress.say(f"{self.folder} holds no checkpoint yet: starting from the beginning")
            self.begin()
            return
        where, record, problems = newest_checkpoint(self.folder)
        for problem in problems:
            self.progress.say(problem)
        for name, entry in self.opened.items():
            old = record.modalities[name].card
            if old is not None and entry.data.card.split_hash != old.split_hash:
                raise UsageError(
                    f"the {name} data differ from those the run was trained on", "give the same --data, or a new --out"
                )
        load_state(self.model, read_tensors(where, "weights"), str(where))
        self.ema.load(read_tensors(where, "ema", str(self.fabric.device)))
        self.optimizers.load_state(read_tensors(where, "optimizer"))
        self.step, self.seconds = record.step, record.seconds
        self.progress.say(f"resuming from {where.name} ({record.seconds:.0f} s of training so far)")

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGTERM and Ctrl-C end the run after the current step; a second Ctrl-C ends it at once."""

        def request(number: int, frame: FrameType | None) -> None:
            del frame
            if self.stop_requested and number == signal.SIGINT:
                raise KeyboardInterrupt
            self.stop_requested = True
            self.progress.say("stopping after this step; a checkpoint will be saved")

        try:
            previous = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not the main thread: the caller's signals stay as they are
            previous = {}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
