"""The trainer: `train` prepares, `Trainer.fit` loops, `Trainer.train_step` is one optimizer step of the run's recipe.

Counted in optimizer steps. What a step computes is the recipe's (`unite_mm.training.recipes`), what the run leaves
behind the run folder's, what several devices need is in `unite_mm.training.distribution`.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from torch import Tensor

from unite_mm.errors import TrainingError, UsageError
from unite_mm.progress import Progress, Silent
from unite_mm.registry.build import OpenModality, build_network, load_modalities
from unite_mm.training.allocator import keep_freed_memory
from unite_mm.training.display import StoppedAtOnce, StopRequest, training_bar
from unite_mm.training.distribution import Ranks, is_first_process, launch
from unite_mm.training.feed import BatchFeed
from unite_mm.training.opening import open_for_training
from unite_mm.training.parallel import settle
from unite_mm.training.passes import TrainingPass
from unite_mm.training.placing import place
from unite_mm.training.quality import score_samples
from unite_mm.training.recipes import make_recipe
from unite_mm.training.recording import Recorder, make_gradients, records
from unite_mm.training.run_folder import RunFolder, check_new
from unite_mm.training.run_log import RunLog
from unite_mm.training.shift import with_shift
from unite_mm.training.state import TrainState, TrainSummary
from unite_mm.training.validation import validate
from unite_mm.utils.lock import locked
from unite_mm_schemas.config import RunConfig


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
        config: the run. What of devices, threads and compiling is left open is decided for one process: a call starts
            others only where `train.devices` asks for them.
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
    if config.train.max_steps is None and config.train.max_time is None:
        raise UsageError("the run has no length", "give --max-steps N or --max-time 30m")
    config = settle(config, may_start=False).config
    first = is_first_process(config.train.devices or 1)
    keep_freed_memory()
    with locked(folder) if first else nullcontext():
        if not resume and first:
            check_new(folder)
        ranks = launch(config.train)
        resume = bool(ranks.from_first(float(resume)))
        shown = (progress or Silent()) if ranks.is_first else Silent()
        for modality in load_modalities(config).values():
            modality.check_training()
        opened = open_for_training(config, cache, shown, workers, resume)
        trainer = Trainer(config, folder, opened, ranks, shown)
        trainer.restore() if resume else trainer.begin()
        return trainer.fit()


class Trainer:
    """State and loop of one run.

    Args:
        config: the run.
        folder: the run folder.
        opened: the modalities with their data.
        ranks: devices and precision, launched.
        progress: where to show progress.
    """

    def __init__(
        self, config: RunConfig, folder: Path, opened: dict[str, OpenModality], ranks: Ranks, progress: Progress
    ) -> None:
        self.opened, self.ranks, self.progress = opened, ranks, progress
        modalities = {name: entry.modality for name, entry in opened.items()}
        statistics = {name: entry.statistics for name, entry in opened.items()}
        self.network = build_network(config, modalities, statistics)
        self.config = config = with_shift(config, self.network)
        self.folder = RunFolder(folder, config, opened, progress)
        if config.train.compile:
            self.network.compile_for_training()
        layout = place(self.network, config.train, ranks)
        self.recipe = make_recipe(config, self.network)
        recorder = Recorder(ranks.device) if records(layout, config.train, ranks.device) else None
        self.gradients = self.recipe.backward if recorder is None else make_gradients(self.recipe, ranks.device)
        self.state = TrainState(config, self.network, self.recipe, layout, recorder)
        self.feeds = {
            name: BatchFeed(
                config.train, number, entry.data, self.network.modules_of(name).layout, ranks.device, ranks.shard
            )
            for number, (name, entry) in enumerate(opened.items())
        }
        self.compiled = False
        self.stop, self.stopping = StopRequest(progress, self._compiles_first), False
        self.newest: dict[str, float] = {}

    # ------------------------------------------------------------------------------------------------------ the loop

    def fit(self) -> TrainSummary:
        """Train to the end of the run, or until a signal asks to stop; always leaves a checkpoint.

        But for a signal that comes while the first step is compiled, which takes minutes: nothing has been trained yet.
        """
        settings, state = self.config.train, self.state
        before, started = state.seconds, time.monotonic()
        self.network.train()
        with self.stop.listening(), self.folder.saving(self.ranks), self._log() as log, self.ranks.computing():
            with training_bar(self.progress, settings, state.step, before) as show:
                while not self._done():
                    done = self._progress_share()
                    if state.stage_is_over(done):
                        self._next_stage(done)
                    losses = self._step_or_stop()
                    if losses is None:
                        return self._summary(interrupted=True)
                    state.step += 1
                    self.compiled = True
                    state.seconds = before + time.monotonic() - started
                    if state.step % settings.log_every == 0 or state.step == 1:
                        self._record(log, losses)
                    show(state.step, state.seconds, self.newest)
                    if state.step % settings.validate_every == 0:
                        self._validate(log)
                    if settings.generate_every is not None and state.step % settings.generate_every == 0:
                        self._score_samples(log)
                    if state.step % settings.checkpoint_every == 0:
                        self.save()
                if state.saved != state.step:
                    self.save()
            finished = not self.stopping
            if finished and state.step % settings.validate_every:
                self._validate(log)
        return self._summary(interrupted=not finished)

    def _summary(self, *, interrupted: bool) -> TrainSummary:
        state, again = self.state, self.stop.queue_again
        return TrainSummary(self.folder.path, state.step, state.seconds, dict(self.newest), interrupted, again)

    def _next_stage(self, progress: float) -> None:
        """Begin the next stage of the recipe, with optimizers and an average of its own."""
        for feed in self.feeds.values():
            feed.settle()
        data = {name: entry.data for name, entry in self.opened.items()}
        split = TrainingPass(data, self.network, self.config.train, self.ranks, self.progress, self.state.layout)
        self.state.next_stage(split, progress)
        self.progress.say(f"stage {self.state.stage.number} begins at step {self.state.step}")

    def _step_or_stop(self) -> dict[str, Tensor] | None:
        """The losses of a step; None where a signal ended it while it was compiled for the first time."""
        try:
            return self.train_step(self._progress_share())
        except StoppedAtOnce:
            self.stop.settle()
            return None
        except Exception as error:
            # A signal to all processes of the run ends the compiler as well, and with it the process others wait for.
            alone = self.ranks.shard.ranks == 1
            if self.stop.made and not self.compiled and (_of_the_compiler(error) or not alone):
                return None
            raise

    def _compiles_first(self) -> bool:
        """Whether the first step is still being compiled, in this process alone: others would wait for it for ever."""
        return bool(self.config.train.compile) and not self.compiled and self.ranks.shard.ranks == 1

    def train_step(self, progress: float) -> dict[str, Tensor]:
        """One optimizer step on one batch of every modality.

        Args:
            progress: share of the run that is done, for the learning-rate schedule.

        Returns:
            Detached losses by name, with the modality where there are several; and the gradient norm.

        Raises:
            TrainingError: the gradient is not finite; nothing was changed.
        """
        optimizers, layout, step = self.state.optimizers, self.state.layout, self.state.step
        self.recipe.step = step - self.state.stage.step
        losses: dict[str, Tensor] = {}
        layout.begin_step(optimizers)
        for name, feed in self.feeds.items():
            batch, noise = feed.batch(step), feed.noise(step)
            terms = self.gradients(name, batch, noise, self.ranks.autocast)
            losses |= {self._prefix(name) + term: value for term, value in terms.items()}
        self.ranks.reduce(lambda: layout.reduce(optimizers))
        norm = self.state.clip()
        if not torch.isfinite(norm):
            found = ", ".join(f"{name} {value.item():.4g}" for name, value in losses.items())
            raise self._not_finite(f"the loss stopped being finite at step {step + 1}: {found}")
        self.state.update(progress)
        return losses | {"gradient_norm": norm}

    def _not_finite(self, message: str) -> TrainingError:
        """The error of a run that has blown up, with what may help."""
        saved = self.state.saved
        kept = f"the checkpoint of step {saved} is kept; " if saved is not None else ""
        where = f"then --resume goes on {'there' if kept else 'from the beginning'}"
        change = "lower optim.learning_rate or optim.clip, or use --precision 32-true; "
        if saved == self.state.step:
            where += f", or remove {self.folder.newest_name()} to go on before it"
        return TrainingError(message, kept + change + where)

    def _prefix(self, modality: str) -> str:
        """What the names of a modality's losses begin with."""
        return f"{modality}/" if len(self.opened) > 1 else ""

    def _progress_share(self) -> float:
        """Share of the run that is done, equal on all ranks: by steps, or by the first rank's clock."""
        settings = self.config.train
        if settings.max_steps is not None:
            return self.state.step / settings.max_steps
        assert settings.max_time is not None
        return min(1.0, self.ranks.from_first(self.state.seconds / settings.max_time))

    def _done(self) -> bool:
        """Whether to stop now: the same answer on all ranks."""
        over = self._progress_share() >= 1.0
        # A signal that comes while the ranks agree is heard at the next step: it must not be overwritten.
        self.stopping = self.ranks.any(self.stop.made or self.folder.save_failed)
        return over or self.stopping

    # ----------------------------------------------------------------------------------------------- what it records

    @contextmanager
    def _log(self) -> Iterator[RunLog | None]:
        """The records of the run, on the first rank."""
        if not self.ranks.is_first:
            yield None
            return
        with self.folder.log(self.state.step) as log:
            yield log

    def _record(self, log: RunLog | None, losses: dict[str, Tensor]) -> None:
        values = self.ranks.mean(losses)
        rate = self.state.rate(self.state.step, self._progress_share())
        values["learning_rate"] = self.config.optim.learning_rate * rate
        values["seconds"] = round(self.state.seconds, 3)
        self.newest |= values
        if log is not None:
            log.write("train", self.state.step, values)

    def _validate(self, log: RunLog | None) -> None:
        """Validate the averaged weights; every rank computes the same, the first records it."""
        values: dict[str, float] = {}
        for feed in self.feeds.values():
            feed.settle()
        with self.state.ema.swapped(), self.state.layout.gathered():
            self.network.eval()
            for name, entry in self.opened.items():
                found = validate(self.recipe, name, entry.data, self.config.train, self.ranks.autocast)
                values |= {self._prefix(name) + term: value for term, value in found.items()}
        self.network.train()
        self.newest |= {f"validation {name}": value for name, value in values.items()}
        if log is not None:
            log.write("validation", self.state.step, values)

    def _score_samples(self, log: RunLog | None) -> None:
        """Score samples of the averaged weights, on the first rank; the others wait for it in the next step."""
        for feed in self.feeds.values():
            feed.settle()
        with self.state.ema.swapped(), self.state.layout.gathered():
            if log is None:
                return
            self.network.eval()
            values = score_samples(self.network, self.opened, self.config, self.progress)
        self.network.train()
        self.newest |= {f"generation {name}": value for name, value in values.items()}
        log.write("generation", self.state.step, values)

    # --------------------------------------------------------------------------------------------------- checkpoints

    def begin(self) -> None:
        """Start at step 0, from the weights that the recipe starts from."""
        self.recipe.start({name: entry.statistics for name, entry in self.opened.items()})
        self.state.begin()
        if self.ranks.is_first:
            self.folder.create()

    def save(self) -> None:
        """Write a checkpoint and drop the oldest ones, while training goes on.

        Raises:
            TrainingError: the weights are not finite.
            UniteError: it cannot be begun, or the one before could not be written; earlier checkpoints stay.
        """
        state = self.state
        name = state.not_finite()
        if self.ranks.any(name is not None):
            where = name or "those on another process"
            raise self._not_finite(f"the weights stopped being finite by step {state.step}: {where}")
        self.folder.save(state, self.ranks)
        state.saved = state.step

    def restore(self) -> None:
        """Continue from the newest intact checkpoint; with none yet, from the start.

        Raises:
            UsageError: the checkpoint was made by another configuration or from other data.
            UniteError: all checkpoints are damaged, or this rank does not find the one that the first takes.
        """
        found = self.ranks.together(lambda: self.folder.newest() if self.ranks.is_first else None)
        step = int(self.ranks.from_first(-1 if found is None else found[1].step))
        if step < 0:
            self.begin()
            return
        where, record = found or self.folder.of_step(step)
        self.state.load(where, record)
        if self.ranks.is_first:
            self.folder.write_config()
        self.progress.say(f"resuming from {where.name} ({record.seconds:.0f} s of training so far)")


def _of_the_compiler(error: BaseException) -> bool:
    """Whether torch.compile raised it; asked by name, because most runs never load that part of torch."""
    return any(kind.__module__.startswith(("torch._inductor", "torch._dynamo")) for kind in type(error).__mro__)
