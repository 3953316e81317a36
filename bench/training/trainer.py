"""One run from config to result: loop, precision, checkpoints, resume."""

import logging
import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bench import backbone
from bench.config.schema import RunConfig
from bench.data.augment import Augmentation
from bench.data.datasets import Dataset
from bench.data.whole import Crops, chosen, send
from bench.errors import Interrupted, UserError
from bench.evaluation import diagnostics, protocol
from bench.evaluation.neighbours import knn_top1
from bench.files import dump_json, is_number, write_atomic
from bench.runs import provenance
from bench.runs.claim import Claim
from bench.runs.store import RunDir
from bench.seeds import Init, stream
from bench.team import ALONE, Team
from bench.training import accumulate, checkpoint, optim
from bench.training.ahead import Ahead, order
from bench.training.machine import autocast, compile_backbones, memory_format, resident, seed_draws
from bench.training.online import OnlineProbe
from methods import METHODS
from methods.base import Method

CHECK_STEPS = 50  # steps between reads of the losses from the device: a read waits for all work queued there

log = logging.getLogger("bench")


class NonFinite(RuntimeError):
    """The loss became NaN or infinite."""


def build_method(config: RunConfig, seed: int, n_classes: int) -> Method:
    """The method with its initial weights. Seed k gives every method the same backbone weights."""
    kind = METHODS[config.method_name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream(seed, "init", Init.BACKBONE).initial_seed())
        network = backbone.create(config.backbone, config.data.size, channels=config.data.channels)
        torch.manual_seed(stream(seed, "init", Init.HEADS).initial_seed())
        return kind(network, config.method, **({"n_classes": n_classes} if kind.uses_labels else {}))


class Trainer:
    """State of one run in training: all that a checkpoint holds, and the loop over it."""

    def __init__(
        self,
        config: RunConfig,
        seed: int,
        dataset: Dataset,
        device: torch.device,
        run: RunDir,
        attempt: Mapping[str, Any] | None = None,
        team: Team = ALONE,
        judged_on: Dataset | None = None,
    ) -> None:
        """`judged_on`: what the encoder is judged on where it is not `dataset`; then no layer learns beside it."""
        self.config, self.seed, self.dataset, self.device, self.dir = config, seed, dataset, device, run
        self.team = team
        if (parts := team.world * config.train.accumulate) > config.train.batch_size:
            raise UserError(f"train.batch_size={config.train.batch_size}: fewer than a run's {parts} devices x slices")
        self.judged_on = judged_on or dataset
        n_classes = len(dataset.classes)
        self.method = build_method(config, seed, n_classes).to(device)
        self.layout = memory_format(self.method.backbone, device)
        self.method.to(memory_format=self.layout)
        self.compiled = config.train.compile and compile_backbones(self.method, config, device, self.layout, team)
        self.method.gather = team.gather
        self.online = None if judged_on else OnlineProbe(self.method, n_classes, seed, device, team)
        groups = self.method.param_groups()
        self.optimizer = optim.build(groups, config.optim, backbone.embeddings(self.method.backbone).values())
        self.augment = Augmentation(config.augment, config.data.size, dataset.mean, dataset.std)
        self.images, self.labels = resident(dataset, device)
        self.steps_per_epoch = len(self.images) // config.train.batch_size
        self.epochs = config.train.epochs if self.optimizer else 0
        self.step = 0
        """Optimizer steps done."""
        self.losses: list[dict[str, float]] = []
        """What the steps of the current epoch gave, as far as it was read from the device."""
        self.last_loss = math.nan
        """The newest loss that was read."""
        self.seconds = 0.0
        """Training time, without evaluation, over all resumes."""
        self.attempts: list[Mapping[str, Any]] = [{"from_step": 0, **(attempt or {})}]
        """Who made the steps (bench.runs.provenance.attempt), each from its `from_step` on; the last is this one."""

    def train(
        self,
        claim: Claim,
        should_stop: Callable[[], bool],
        show: Callable[[dict[str, Any]], None] = lambda row: None,
    ) -> None:
        """Train from where the last checkpoint ends to the last epoch. Raises Interrupted, NonFinite, LostClaim.

        `show` is given every row of the history, those of before a resume first.
        """
        for row in self._resume():
            show(row)
        pending: list[dict[str, Tensor]] = []
        ahead = Ahead.of(self.images, self.augment, self.seed, self.config.train, self.device, self.team)
        started = time.perf_counter()

        def save() -> None:
            nonlocal started
            self._read_losses(pending)
            self.seconds += time.perf_counter() - started
            self.team.first(partial(self._save, claim))
            started = time.perf_counter()

        while self.step < self.epochs * self.steps_per_epoch:
            self.team.meet()  # `show` may take the first one long
            epoch, first = divmod(self.step, self.steps_per_epoch)
            images = order(self.seed, epoch, len(self.images))
            crops = ahead.epoch(epoch, first, self.steps_per_epoch) if ahead else None
            for batch in range(first, self.steps_per_epoch):
                if self.team.any(should_stop()):
                    save()
                    raise Interrupted
                index = images[batch * self.config.train.batch_size :][: self.config.train.batch_size]
                pending.append(self._train_step(index, epoch, batch, next(crops) if crops else None))
                if len(pending) == CHECK_STEPS:
                    self._read_losses(pending)
            self._read_losses(pending)
            self.seconds += time.perf_counter() - started
            show(self._log_epoch(epoch + 1, claim))
            self.losses.clear()
            started = time.perf_counter()
            if (epoch + 1) % self.config.train.checkpoint_epochs == 0 or epoch + 1 == self.epochs:
                save()

    def forward(self, *inputs: Tensor) -> dict[str, Tensor]:
        """The method's losses of views [N, 3, S, S] and then labels [N], which only `uses_labels` sees, in the run's
        precision."""
        with autocast(self.device, self.config), self.team.whole_batch():
            logged: dict[str, Tensor] = self.method(*(inputs if self.method.uses_labels else inputs[:-1]))
        return logged

    def _train_step(self, index: Tensor, epoch: int, batch: int, crops: Crops | None = None) -> dict[str, Tensor]:
        """One optimizer step on the images at `index` [N]; what it logs stays on the device.

        crops: of this process's, if they are cut already.
        """
        whole, part = len(index), self.team.part(len(index))
        index = index[part]  # [n], this process's
        here = send(index, self.device)
        place = here if self.images.device == self.labels.device else index
        images = crops or chosen(self.images, place, self.device)
        labels = self.labels[here]
        draws = stream(self.seed, "augment", epoch, batch)
        return self.learn(*self.augment(images, draws, part, whole), labels)

    def learn(self, *inputs: Tensor) -> dict[str, Tensor]:
        """One optimizer step on views [n, 3, S, S] and then labels [n]; what it logs stays on the device."""
        assert self.optimizer is not None
        config = self.config
        *views, labels = inputs
        inputs = (*(view.to(memory_format=self.layout) for view in views), labels)
        progress = self.step / (self.epochs * self.steps_per_epoch)
        self._draw()
        self.method.before_step(progress)
        optim.set_lr(
            self.optimizer,
            self.step,
            self.steps_per_epoch,
            self.epochs,
            config.train.batch_size,
            config.optim,
        )
        self.optimizer.zero_grad(set_to_none=True)
        if config.train.accumulate > 1:
            slices, scale = config.train.accumulate, config.optim.loss_scale
            logged = accumulate.backward(self.method, self.forward, inputs, slices, self.team, self._draw, scale)
        else:
            logged = self.forward(*inputs)
            (logged["loss"] * config.optim.loss_scale).backward()
        trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.team.add_up(trained)
        if config.optim.clip_norm:
            torch.nn.utils.clip_grad_norm_(trained, config.optim.clip_norm)  # of the whole gradient, on every device
        self.optimizer.step()
        self.method.after_step(progress)
        if self.online:
            self.online.step(labels, config.train.accumulate)
        self.step += 1
        return {name: value.detach() for name, value in logged.items()}

    def _draw(self, part: int = 0) -> None:
        """Set the random numbers of dropout and the like, in a slice of this step's batch."""
        place = [self.step, part] if part else [self.step]  # the first slice's are those of a batch in one
        seed_draws(self.team.seed(stream(self.seed, "init", Init.STEP, *place).initial_seed()), self.device)

    def _read_losses(self, pending: list[dict[str, Tensor]]) -> None:
        """Move what steps logged from the device to `self.losses`, at once. Raises NonFinite."""
        if not pending:
            return
        names = list(pending[0])
        rows = torch.stack([torch.stack([row[name] for name in names]) for row in pending]).tolist()
        first = self.step - len(pending)
        pending.clear()
        bad = self.team.any(not all(math.isfinite(value) for row in rows for value in row))
        for step, row in enumerate(rows, start=first):
            if not all(math.isfinite(value) for value in row):
                last = f"last finite loss {self.last_loss:.6g}" if step else "no step before it"
                epoch = step // self.steps_per_epoch + 1
                raise NonFinite(f"non-finite loss at step {step + 1} (epoch {epoch}); {last}")
            self.losses.append(dict(zip(names, row, strict=True)))
            self.last_loss = self.losses[-1]["loss"]
        if bad:  # by a fault of a device, as all compute the same losses
            raise NonFinite(f"non-finite loss by step {self.step}, on another device of the run than the first")

    def _log_epoch(self, epoch: int, claim: Claim) -> dict[str, Any]:
        """Add the row of a finished epoch (counted from 1) to the history, with diagnostics when they are due."""
        assert self.optimizer is not None
        n = len(self.losses)
        row: dict[str, Any] = {"epoch": epoch, "step": self.step}
        row |= {name: math.fsum(losses[name] for losses in self.losses) / n for name in self.losses[0]}
        row |= {
            "lr": self.optimizer.param_groups[0]["lr"],
            "seconds": self.seconds,
            "images_per_second": self.step * self.config.train.batch_size / self.seconds,
        }
        if epoch % self.config.eval.every_epochs == 0 or epoch == self.epochs:
            row |= self._diagnose()

        def append() -> None:
            claim.check()
            self.dir.append_history(row)

        self.team.first(append)
        log.info("epoch %d/%d loss %.4f, %.0f images/s", epoch, self.epochs, row["loss"], row["images_per_second"])
        return row

    def _diagnose(self) -> dict[str, float]:
        own, data, network = self.dataset, self.judged_on, self.method.backbone
        measured = diagnostics.diagnose(self.method, own, self.augment, self.seed, self.device, self.team)
        bank = protocol.features(network, data.images, data.train, own.mean, own.std, self.device, self.team)
        queries = protocol.features(network, data.images, data.validation, own.mean, own.std, self.device, self.team)
        train_labels, labels = data.labels[data.train], data.labels[data.validation]
        k = protocol.default_k(self.config.eval, len(data.train) + len(data.validation))
        measured["val_knn_top1"] = knn_top1(bank, train_labels, queries, labels, k, len(data.classes))
        if self.online:
            measured["online_linear_top1"] = self.online.top1(queries, labels)
        return measured

    def _save(self, claim: Claim) -> None:
        claim.check()
        checkpoint.save(self.dir, self._state())

    def _state(self) -> dict[str, Any]:
        return {
            "method": self.method.state_dict(),
            "optimizer": self.optimizer.state_dict() if self.optimizer else None,
            "online": self.online.layer.state_dict() if self.online else None,
            "online_optimizer": self.online.optimizer.state_dict() if self.online else None,
            "step": self.step,
            "losses": self.losses,
            "last_loss": self.last_loss,
            "seconds": self.seconds,
            "attempts": self.attempts,
        }

    def _take_up(self, state: dict[str, Any]) -> None:
        self.method.load_state_dict(state["method"])
        if self.optimizer:
            self.optimizer.load_state_dict(state["optimizer"])
        if self.online:
            self.online.layer.load_state_dict(state["online"])
            self.online.optimizer.load_state_dict(state["online_optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.losses, self.last_loss = state["losses"], state["last_loss"]

    def _resume(self) -> list[dict[str, Any]]:
        """Take up the newest checkpoint, and forget what was logged after it; returns what was before. UserError."""
        state = checkpoint.load_together(self.dir, self.team)
        if state is not None:
            try:
                self._take_up(state)
            except (LookupError, RuntimeError, ValueError, TypeError) as error:
                raise checkpoint.misfit("the checkpoint", error) from error
            log.info("resumed at step %d", self.step)
            own = {**self.attempts[-1], "from_step": self.step}
            self.attempts, changed = provenance.followed(state.get("attempts", [{"from_step": 0}]), own)
            if changed:
                text = "%s: resumed at step %d, but not as it began: %s (the result will say so)"
                log.warning(text, self.dir.run_id, self.step, ", ".join(changed))
        kept = [row for row in self.dir.history() if is_number(row.get("step")) and row["step"] <= self.step]
        content = "".join(dump_json(row, indent=None) for row in kept).encode()
        self.team.first(lambda: write_atomic(self.dir.metrics, content))
        return kept
