"""What a run writes down while it trains: metrics.jsonl and TensorBoard."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

HEADLINES = re.compile(r"(validation )?([^ /]+/)?reconstruction|([^ /]+/)?flow")
"""Losses that the progress bar shows; those of several modalities carry their names."""


def headlines(losses: Mapping[str, float]) -> str:
    """The losses that a progress bar has room for: reconstruction, flow, and the validation's reconstruction."""
    return ", ".join(f"{name} {value:.3f}" for name, value in losses.items() if HEADLINES.fullmatch(name))


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
