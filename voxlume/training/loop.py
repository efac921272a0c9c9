"""The one training loop: budget, optimiser, checkpoints, log, samples; for one process or many."""

from __future__ import annotations

import dataclasses
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from voxlume.errors import Cancelled, VoxlumeError
from voxlume.models.precision import DTYPES
from voxlume.progress import Progress
from voxlume.training.checkpoint import load_checkpoint, save_checkpoint
from voxlume.training.config import LoopConfig
from voxlume.training.journal import Journal
from voxlume.training.optimizer import AdaptiveClip, Ema, adamw, learning_rate
from voxlume.training.parallel import Processes
from voxlume.training.precision import autocast_blocks
from voxlume.training.profile import StepProfile
from voxlume.training.stage import Batch, Stage

CHECKPOINT = "checkpoint.safetensors"
SAMPLES = "samples"

PROGRESS_PARTS = 1000
"""The budget as the progress callback sees it."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes
    ----------
    finished : whether the budget is used up; otherwise it was asked to stop and can be resumed.
    step, seconds : training steps and time so far, over all parts of the run.
    """

    finished: bool
    step: int
    seconds: float


def train(
    stage: Stage,
    config: LoopConfig,
    folder: Path,
    processes: Processes,
    *,
    resume: bool = False,
    note: dict[str, Any] | None = None,
    progress: Progress | None = None,
    began: float | None = None,
    save: bool = True,
) -> Outcome:
    """Train a stage until its budget is used up, or until SIGTERM, Ctrl-C or ``progress`` stop it.

    Parameters
    ----------
    folder : gets ``checkpoint.safetensors``, ``log.jsonl``, ``curves.png`` and ``samples/``.
    resume : go on from the checkpoint in the folder, if there is one.
    note : kept with every checkpoint.
    progress : called at every look at the clock; returning False saves and stops.
    began : ``time.monotonic()`` from which seconds count; now by default. Give the start of the command to
        let reading the data count too.
    save : write checkpoints; without them, to measure only, the run cannot be resumed.

    Raises
    ------
    VoxlumeError : the folder holds another run, no budget is given, or the losses are no longer finite.
    """
    if config.seconds is None and config.steps is None:
        raise VoxlumeError("give a budget: seconds, steps or both")
    run = _Run(stage, config, folder, processes, resume, note or {}, began, save)
    with _signals(run.ask_to_stop):
        return run.go(progress)


class _Run:
    """The state of one call of :func:`train`."""

    def __init__(
        self,
        stage: Stage,
        config: LoopConfig,
        folder: Path,
        processes: Processes,
        resume: bool,
        note: dict[str, Any],
        began: float | None,
        save: bool,
    ) -> None:
        self.stage, self.config, self.folder, self.processes = stage, config, folder, processes
        self.note, self.keep = note, save
        self.device = processes.device
        self.path = folder / CHECKPOINT
        self.stop = False
        self.threads = torch.get_num_threads()
        _make(folder / SAMPLES)
        if self.path.exists() and not resume:
            raise VoxlumeError(f"{folder} already holds a run; add --resume to go on with it")
        half = DTYPES[config.precision] if self.device.type == "cuda" else torch.float32
        for network in stage.networks().values():
            if hasattr(network, "checkpointing"):
                network.checkpointing = config.checkpointing  # type: ignore[assignment]
            autocast_blocks(network, half)
        if config.shard:
            _shard(stage)
        self.parameters = list(stage.trained())
        self.optimizer = adamw(self.parameters, config)
        self.clip = AdaptiveClip(config.max_norm, config.clip_percentile, self.device)
        self.ema = Ema(self.parameters, config.ema)
        self.step, self.before, self.lanes = 0, 0.0, config.lanes or processes.count
        self.ready = 0.0
        if self.path.exists():
            # The first process may write a new one while others still read: wait for all.
            state = load_checkpoint(self.path, stage, self.optimizer, self.ema, self.clip)
            self.step, self.before, self.lanes = state["step"], state["seconds"], state["lanes"]
            self.ready = state.get("ready", 0.0)
        processes.lanes(self.lanes)
        self.journal = Journal(folder, self.step) if processes.first else None
        self.module = _replicated(stage, processes, config)
        self.began = time.monotonic() if began is None else began
        self.started = self.fraction_at = self.step
        self.fraction, self.pace = 0.0, 0.0
        self.logged = self.saved = time.monotonic()
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = defaultdict(int)

    def go(self, progress: Progress | None) -> Outcome:
        self._look_at_clock()
        looks = int(self._fraction() * self.config.looks)
        batches = _ahead(lambda step: self.stage.prepare(step, self.lanes), self.device)
        next_check = self.step + 1
        steps = self.config.profile if self.processes.first else 0
        profile = StepProfile(steps, self.step, self.folder, self.device)
        while not self._used_up():
            profile.before(self.step)
            batch = batches(self.step)
            if self.step == 0:
                self._look_at_clock()
                self.ready = self._fraction()
            self._one_step(batch)
            if self.step >= next_check:
                done = self._check(progress)
                look = int(self._fraction() * self.config.looks)
                if look > looks and not done and not self._used_up():
                    looks = look
                    self._look_at_results()
                if done:
                    return Outcome(False, self.step, self._seconds())
                # Early checks come more often: they set the pace by which the learning rate is planned.
                next_check = self.step + min(self.config.check_every, max(1, self.step - self.started))
        if self.step > self.started or not self.path.exists():
            self._log(final=True)
            if self.config.looks:
                self._look_at_results()
            self._save()
        return Outcome(True, self.step, self._seconds())

    def ask_to_stop(self) -> None:
        self.stop = True

    # -- a step ------------------------------------------------------------------------------------

    def _one_step(self, batch: Batch) -> None:
        # Numba's threads, which draw pictures on a CPU, change how many PyTorch takes, and with it its sums.
        torch.set_num_threads(self.threads)
        fraction = self._fraction()
        self.stage.begin(fraction)
        rate = learning_rate(self.config, self._scheduled())
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        losses = self.module(batch)
        losses["loss"].backward()
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm, infinite = self.clip(gradients, self.step)
        if not self.config.shard:
            self.optimizer.found_inf = infinite  # type: ignore[attr-defined]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.update(self.step)
        for name, value in (losses | {"gradient_norm": norm, "skipped": infinite}).items():
            value = value.detach()
            self.sums[name] = self.sums[name] + value if name in self.sums else value.clone()
        self.counts["steps"] += 1
        self.counts["objects"] += batch.objects
        self.counts["rows"] += batch.rows
        self.step += 1

    # -- the budget --------------------------------------------------------------------------------

    def _seconds(self) -> float:
        return self.before + time.monotonic() - self.began

    def _look_at_clock(self) -> None:
        """Agree on how much of the time is used, and at what pace."""
        if self.config.seconds is None:
            return
        used = self._seconds() / self.config.seconds
        steps = self.step - self.fraction_at
        # The first step draws pictures and compiles kernels: it says nothing about the next ones.
        pace = (used - self.fraction) / steps if self.fraction_at > self.started else 0.0
        self.fraction, self.pace = self.processes.agreed([used, pace])
        self.fraction_at = self.step

    def _fraction(self) -> float:
        """Of the budget that is used; the same number in every process."""
        steps = self.config.steps
        by_steps = 0.0 if steps is None else self.step / steps if steps else 1.0
        by_time = self.fraction + self.pace * (self.step - self.fraction_at)
        return min(1.0, max(by_steps, by_time if self.config.seconds is not None else 0.0))

    def _scheduled(self) -> float:
        """Of the budget since the first step: drawing pictures before it must not use up the warm-up."""
        return max(0.0, self._fraction() - self.ready) / max(1e-9, 1 - self.ready)

    def _used_up(self) -> bool:
        return self._fraction() >= 1.0

    # -- now and then --------------------------------------------------------------------------------

    def _check(self, progress: Progress | None) -> bool:
        """Look at clock and signals, log and save when it is time; True if the run shall stop now."""
        self._look_at_clock()
        now = time.monotonic()
        if progress is not None and self.processes.first:
            parts = int(PROGRESS_PARTS * self._fraction())
            try:
                self.stop |= not progress(parts, PROGRESS_PARTS, f"training, step {self.step}")
            except Cancelled:
                self.stop = True
        wish = self.processes.largest(float(self.stop))
        log, save = self.processes.agreed(
            [
                float(now - self.logged >= self.config.log_seconds),
                float(now - self.saved >= self.config.save_seconds),
            ]
        )
        if log or wish:
            self._log()
        if wish or save:
            self._save()
        return bool(wish)

    def _log(self, final: bool = False) -> None:
        steps = self.counts["steps"]
        if not steps:
            return
        names = list(self.sums)
        means = self.processes.mean(torch.stack([self.sums[name].float() for name in names])) / steps
        values = dict(zip(names, means.tolist(), strict=True))
        now = time.monotonic()
        if values["skipped"] > 0.5:
            raise VoxlumeError(
                f"most gradients are not finite at step {self.step}; resume from the last checkpoint "
                "with a lower --learning-rate"
            )
        passed = max(1e-9, now - self.logged)
        record: dict[str, Any] = {
            "step": self.step,
            "seconds": round(self._seconds(), 3),
            **{name: float(f"{value:.6g}") for name, value in values.items()},
            "learning_rate": float(f"{learning_rate(self.config, self._scheduled()):.4g}"),
            "steps_per_second": round(steps / passed, 3),
            "objects_per_second": round(self.counts["objects"] * self.processes.count / passed, 2),
            "rows_per_second": round(self.counts["rows"] * self.processes.count / passed),
        }
        if self.device.type == "cuda":
            record["peak_gb"] = round(torch.cuda.max_memory_allocated(self.device) / 1e9, 2)
        if self.journal is not None:
            self.journal.add(record)
        self.sums, self.counts, self.logged = {}, defaultdict(int), now

    def _look_at_results(self) -> None:
        """Measure and draw held-out data with the averaged weights."""
        began = time.monotonic()
        with self.ema.applied():
            self.stage.eval()
            held_out = self.stage.measure()
            if self.processes.first:
                self.stage.draw(self.folder / SAMPLES / f"{self.step:08d}.png")
            self.stage.train()
        if self.journal is not None:
            if held_out:
                rounded = {name: float(f"{value:.6g}") for name, value in held_out.items()}
                self.journal.add(
                    {"step": self.step, "seconds": round(self._seconds(), 3), "held_out": rounded}
                )
            self.journal.plot()
        self.logged += time.monotonic() - began  # throughput is that of training

    def _save(self) -> None:
        if not self.keep:
            return
        state = {
            "step": self.step,
            "seconds": self._seconds(),
            "lanes": self.lanes,
            "ready": self.ready,
            "config": dataclasses.asdict(self.config),
        }
        save_checkpoint(
            self.path,
            self.stage,
            self.optimizer,
            self.ema,
            self.clip,
            state | self.note,
            write=self.processes.first,
        )
        self.saved = time.monotonic()


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise VoxlumeError(f"cannot make the folder {folder}: {error.strerror or error}") from error


def _replicated(stage: Stage, processes: Processes, config: LoopConfig) -> nn.Module:
    """The stage itself, or with several processes the stage with averaged gradients."""
    if processes.count == 1 or config.shard:
        return stage
    from torch.nn.parallel import DistributedDataParallel

    return DistributedDataParallel(
        stage,
        device_ids=[processes.device.index] if processes.device.type == "cuda" else None,
        gradient_as_bucket_view=True,
    )


def _shard(stage: Stage) -> None:
    """Divide the weights of every block, and of each network's rest, among the processes."""
    from torch.distributed.fsdp import fully_shard

    for network in stage.networks().values():
        for block in getattr(network, "blocks", []):
            fully_shard(block)
        fully_shard(network)


def _ahead(prepare: Callable[[int], Batch], device: torch.device) -> Callable[[int], Batch]:
    """Batches prepared while the device still works on the step before: on CUDA on a stream of their own.

    What a batch has to ask the device (how many coarser voxels there are) then waits for nothing else.
    """
    if device.type != "cuda":
        return prepare
    stream = torch.cuda.Stream(device)
    used: list[tuple[Batch, torch.cuda.Event]] = []

    def batch_of(step: int) -> Batch:
        current = torch.cuda.current_stream(device)
        if used:
            used[-1][1].record(current)  # after all work on the batch that was given out last
        if len(used) > 1:
            # Its memory belongs to the other stream, which must not reuse it before the work on it is done.
            _, done = used.pop(0)
            stream.wait_event(done)
        with torch.cuda.stream(stream):
            batch = prepare(step)
        current.wait_stream(stream)
        used.append((batch, torch.cuda.Event()))
        return batch

    return batch_of


@contextmanager
def _signals(stop: Callable[[], None]) -> Iterator[None]:
    """Within the block SIGTERM and Ctrl-C ask the run to stop; a second one ends it as usual."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kept: dict[int, Any] = {}

    def handle(number: int, frame: Any) -> None:
        stop()
        signal.signal(number, kept[number])

    for wish in (signal.SIGTERM, signal.SIGINT):
        kept[wish] = signal.signal(wish, handle)
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
