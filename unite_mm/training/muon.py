"""Muon over stacks of matrices: torch's optimizer, one product for all matrices of a shape in place of one for each.

The method is K. Jordan's (2024, kellerjordan.github.io/posts/muon); constants and state are those of torch.optim.Muon.
torch steps through the matrices one by one. A GPU, and a small model on a CPU, then wait for Python most of the time.
Where the rows of matrices lie on several ranks, each rank orthogonalises its share of the matrices.
"""

import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn


class Rows:
    """Rows of matrices over the ranks of a group, in blocks of equal height but for the last ones.

    Args:
        group: the ranks that have them together.
        rank: this one's place in it.
        ranks: how many they are.
        heights: rows M of the whole matrix by the `id` of a parameter.
    """

    def __init__(self, group: dist.ProcessGroup, rank: int, ranks: int, heights: dict[int, int]) -> None:
        self.group, self.rank, self.ranks, self.heights = group, rank, ranks, heights
        self._turn = 0

    def span(self, height: int, rank: int) -> tuple[int, int]:
        """Rows that a rank has of a matrix: from, to."""
        each = -(-height // self.ranks)
        return min(height, rank * each), min(height, (rank + 1) * each)

    def on_whole(self, stack: Tensor, height: int, change: Callable[[Tensor], Tensor]) -> Tensor:
        """Change whole matrices of which every rank has rows: (G, m, N) -> (G, m, N), of the same type.

        Every rank gathers its share of the G matrices, changes them and gives their rows back.

        Args:
            stack: this rank's rows of G matrices, contiguous.
            height: rows M of the whole ones.
            change: (g, M, N) -> (g, M, N).
        """
        count, here, width = stack.shape
        spans = [self.span(height, rank) for rank in range(self.ranks)]
        shares = self._shares(count)
        mine = shares[self.rank]
        sizes = [mine * (end - start) * width for start, end in spans]
        back = [share * here * width for share in shares]
        rows = self._exchange(stack.flatten(), back, sizes).split(sizes)
        parts = [own.view(mine, end - start, width) for own, (start, end) in zip(rows, spans, strict=True)]
        whole = torch.cat(parts, dim=1)
        changed = change(whole) if mine else whole
        flat = torch.cat([changed[:, start:end].flatten() for start, end in spans])
        return self._exchange(flat, sizes, back).view(count, here, width)

    def _shares(self, count: int) -> list[int]:
        """How many of some matrices each rank takes; those that are over go round."""
        each, over = divmod(count, self.ranks)
        shares = [each + ((rank - self._turn) % self.ranks < over) for rank in range(self.ranks)]
        self._turn = (self._turn + over) % self.ranks
        return shares

    def _exchange(self, flat: Tensor, send: list[int], receive: list[int]) -> Tensor:
        """Send parts of a flat tensor to every rank and get theirs; as bytes, because gloo knows no bfloat16."""
        found = flat.new_empty(sum(receive))
        size = flat.element_size()
        dist.all_to_all_single(
            found.view(torch.uint8),
            flat.contiguous().view(torch.uint8),
            [size * count for count in receive],
            [size * count for count in send],
            group=self.group,
        )
        return found


class StackedMuon(torch.optim.Muon):
    """`torch.optim.Muon` with `adjust_lr_fn="match_rms_adamw"`: the same state, and the same steps up to rounding.

    Args:
        parameters: matrices (M, N), or what rows (m, N) of them this rank has.
        rows: where their rows lie; None: they are whole.
        precision: in which matrices are made orthogonal. torch.optim.Muon and the published runs take bfloat16, where
            the last bit of a gradient may change the third digit of a step.
        settings: as for `torch.optim.Muon`.
    """

    def __init__(
        self,
        parameters: list[nn.Parameter],
        rows: Rows | None = None,
        precision: torch.dtype = torch.bfloat16,
        **settings: Any,
    ) -> None:
        super().__init__(parameters, adjust_lr_fn="match_rms_adamw", **settings)
        self.rows, self.precision = rows, precision

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of every parameter that has a gradient; the closure, if any, computes them."""
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for group in self.param_groups:
            alike: dict[tuple[int, int], list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    height = parameter.shape[0] if self.rows is None else self.rows.heights[id(parameter)]
                    alike[height, parameter.shape[1]].append(parameter)
            for shape, parameters in alike.items():
                self._step_alike(parameters, shape, group)
        return loss

    def _step_alike(self, parameters: list[Tensor], shape: tuple[int, int], group: dict[str, Any]) -> None:
        """Step matrices of one shape (M, N)."""
        gradients = [cast(Tensor, parameter.grad) for parameter in parameters]
        averages = [self._average(parameter) for parameter in parameters]
        torch._foreach_lerp_(averages, gradients, 1 - group["momentum"])
        updates = averages
        if group["nesterov"]:
            updates = list(torch._foreach_lerp(gradients, averages, group["momentum"]))
        stacked = torch.stack([update.to(self.precision) for update in updates])
        del updates

        def change(whole: Tensor) -> Tensor:
            return orthogonal(whole, group["ns_coefficients"], group["ns_steps"], group["eps"])

        directions = change(stacked) if self.rows is None else self.rows.on_whole(stacked, shape[0], change)
        rate = group["lr"] * 0.2 * math.sqrt(max(shape))
        directions = directions.float().contiguous()
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        if torch.is_tensor(rate):  # the step is recorded: its rate is read when it is replayed
            directions, rate = directions * rate, 1.0
        torch._foreach_add_(parameters, list(directions.unbind()), alpha=-rate)

    def _average(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        buffer: Tensor = state["momentum_buffer"]
        return buffer


def orthogonal(matrices: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """Nearly orthogonal matrices by Newton-Schulz iterations: (G, M, N) -> (G, M, N), of the same type."""
    a, b, c = coefficients
    tall = matrices.shape[1] > matrices.shape[2]
    found = matrices.mT if tall else matrices
    found = found / found.norm(dim=(1, 2), keepdim=True).clamp(min=eps)
    for _ in range(steps):
        gram = found @ found.mT
        found = torch.baddbmm(found, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), found, beta=a)
    return found.mT if tall else found
