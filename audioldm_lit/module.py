"""LitAudioLDM: the Lightning hooks around backbone, adapter and objective. No mathematics of its own."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import AdamW

from audioldm_lit.adapters.base import Adapter, inject, part_of, saved, trainable
from audioldm_lit.adapters.contract import check_contract
from audioldm_lit.adapters.files.adapter_file import decoder_origin, load_weights
from audioldm_lit.adapters.peft import PeftAdapter
from audioldm_lit.backbone import Backbone
from audioldm_lit.conditioning import Conditioning
from audioldm_lit.data.base import AudioDataModule
from audioldm_lit.diffusion import Prediction, prediction_of
from audioldm_lit.evaluation.protocol import Protocol, ProtocolName, load_protocol
from audioldm_lit.evaluation.recordings import give_pair, recordings
from audioldm_lit.inference.generation import Generation, generate_clips
from audioldm_lit.inference.manifest import Entry
from audioldm_lit.inference.sampling import Sampler
from audioldm_lit.metrics.denoising_loss import HeldOutLoss
from audioldm_lit.metrics.extractors.base import AudioBatch
from audioldm_lit.networks.published import Heads
from audioldm_lit.objectives.base import Objective
from audioldm_lit.objectives.denoising import Epsilon
from audioldm_lit.places import NANO
from audioldm_lit.storage.cache_folder import cache_folder
from audioldm_lit.training.cache import Cache
from audioldm_lit.training.checkpoint import KEY, ORIGIN, averaged_weights, checked_content, content, origin_of, trained_on
from audioldm_lit.training.checks import check_captions, check_finite, check_geometry, check_objective, checked_mean, data_of
from audioldm_lit.training.deciding import decide, taken_over
from audioldm_lit.training.ema import EMA
from audioldm_lit.training.encoding import encode
from audioldm_lit.training.held_out_loss import held_out_losses, loss_names
from audioldm_lit.training.latents import draw_latents, stream_places
from audioldm_lit.training.optimization import ObjectiveTraining, prepare, rates
from audioldm_lit.training.outcome import Outcome
from audioldm_lit.training.precision import set_up_unet
from audioldm_lit.training.recalling import with_training_clips
from audioldm_lit.training.restoring import Restorable, fitting, hyper_parameters
from audioldm_lit.training.settings import check_model, check_stream
from audioldm_lit.training.time_mask import TimeMask


class LitAudioLDM(Restorable):
    """Adapts a pre-trained AudioLDM.

    Args:
        adapter: What is added to the model and trains; by default LoRA on every layer.
        backbone: Pre-trained model: a folder in the diffusers layout, `checkpoints/audioldm-nano` (the toy model that comes with
            the repository), or a hub id that was fetched before.
        objective: What training minimises.
        conditioning: What the UNet is conditioned on.
        time_mask: Masks in time on training latents; none where not given.
        sampler: How sound is generated in `test`, `predict` and while training; by default as the objective asks for.
        protocol: Metrics of generated against recorded clips, computed in `test`, and in `fit` where `scores` asks for it: the name
            of one that comes with the package, or a YAML file.
        optimizer: Takes the trainable weights; its learning rate is reached after warm-up.
        lr_scheduler: Takes the optimizer and moves its rate after warm-up, step by step; constant where not given.
        warmup_steps: Optimizer steps of linear warm-up.
        ema_decay: Decay in [0, 1) of the moving average of the trainable weights that is validated and saved; null for none.
        val_timesteps: Timesteps, spread evenly over the schedule, at which every held-out clip's loss is taken.
        compile_unet: Whether the UNet is compiled for training, which takes minutes once and makes every step faster.
        gradient_checkpointing: Whether activations are computed again in the backward pass: less memory, a third more time.
        cache_dir: Folder of encoded clips; by default under `~/.cache`.
        seed: Seed of adapter initialisation, training noise and generated clips; held-out noise belongs to the clips alone.
        heads: Of the UNet's attention: `as_saved`, or `original`, those of the published models before they were converted.
    """

    def __init__(
        self,
        adapter: Adapter | None = None,
        backbone: str = NANO,
        objective: Objective | None = None,
        conditioning: Conditioning | None = None,
        time_mask: TimeMask | None = None,
        sampler: Sampler | None = None,
        protocol: Protocol | ProtocolName | None = None,
        optimizer: OptimizerCallable = lambda weights: AdamW(weights, lr=3e-4),
        lr_scheduler: LRSchedulerCallable | None = None,
        warmup_steps: int = 20,
        ema_decay: float | None = 0.999,
        val_timesteps: int = 4,
        compile_unet: bool = False,
        gradient_checkpointing: bool = False,
        cache_dir: Path | None = None,
        seed: int = 0,
        heads: Heads = "as_saved",
    ) -> None:
        super().__init__()
        check_model(optimizer, lr_scheduler, warmup_steps, val_timesteps)
        self.strict_loading = False  # checkpoints hold the trained weights alone; on_load_checkpoint is the strict one
        self.backbone, self.backbone_name, self.heads = Backbone.load(backbone, heads), backbone, heads
        self.base_fingerprint, self.base_rounded = (self.backbone.fingerprint("unet", rounded) for rounded in (False, True))
        self.vae_fingerprint, self.base_decoder = self.backbone.fingerprint("vae"), decoder_origin(self.backbone)
        self.adapter = adapter or PeftAdapter()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.anew: Mapping[str, Tensor] = inject(self.adapter, self.backbone)
        self.weights = trainable(self.backbone)
        self.origin = origin_of(self.base_fingerprint, self.base_decoder, self.weights)
        self.objective, self.conditioning, self.time_mask = objective or Epsilon(), conditioning or Conditioning(), time_mask
        self.sampler = sampler or self.objective.sampled_by or Sampler()
        self.protocol = load_protocol(protocol) if isinstance(protocol, str) else protocol
        self.objective_training = ObjectiveTraining(self.objective)
        self.optimizer, self.lr_scheduler, self.warmup_steps = optimizer, lr_scheduler, warmup_steps
        self.val_timesteps, self.seed, self.ema = val_timesteps, seed, None if ema_decay is None else EMA(ema_decay)
        self.compile_unet, self.gradient_checkpointing = compile_unet, gradient_checkpointing
        self.cache_dir = Path(cache_dir or cache_folder())
        check_objective(self.objective, self.backbone, self.sampler, self.time_mask)
        self.noise_scheduler = self.objective.prediction.scheduler(self.backbone.scheduler)
        self.held_out_loss, self.outcome, self.steps_seen = HeldOutLoss(), Outcome(), 0
        self.trained_on: dict[str, Any] = {}
        self.unconditional = torch.nn.Buffer(self.backbone.encode_text([""])[0], persistent=False)
        self.save_hyperparameters(hyper_parameters(self), logger=False)

    # ------------------------------------------------------------------ set-up

    def setup(self, stage: str) -> None:
        """Refuse what does not go together, encode the data (or find it encoded), and store the weights as they are used."""
        fits, scored = stage == "fit", stage == "test" and self.protocol is not None
        check_geometry(self.backbone, self.data)
        check_captions(self.backbone, self.data, self.conditioning, generates=stage == "predict" or scored)
        if fits:
            self.data.num_training_batches()  # refuses a run without steps before any clip is encoded
            check_stream(self.trainer)
            self.backbone.rest()  # two whole models would be the most memory that a run takes
            fresh = Backbone.load(self.backbone_name, self.heads, {part_of(name) for name in (*self.weights, *self.anew)})
            self.anew = check_contract(self.adapter, self.backbone, fresh, self.seed, self.objective.trains)
        self.backbone.to(self.trainer.strategy.root_device)
        cache = Cache(self.cache_dir, self.backbone, self.conditioning.needs_audio, self.vae_fingerprint)
        encode(self.data, cache, self.trainer.global_rank, self.trainer.world_size, scored or self.objective.needs_waveform)
        if fits:
            self.trained_on = trained_on(self.data)
            prepare(self.objective, self.backbone, self.trainer, self.data.num_samples, self.cache_dir)
            self.weights = decide(self.adapter, self.backbone, self.losses, self.trainer, self.data, self.seed)
        set_up_unet(self.backbone, str(self.trainer.precision), fits and self.gradient_checkpointing, fits and self.compile_unet)

    @property
    def data(self) -> AudioDataModule:
        """The data module of the running trainer."""
        return data_of(self.trainer)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Optimise what trains of adapter and objective; linear warm-up, then what `lr_scheduler` does."""
        optimizer = self.optimizer(self.objective_training.groups(self.weights))
        scheduler = rates(optimizer, self.warmup_steps, self.trainer.max_steps, self.lr_scheduler)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    # ------------------------------------------------------------------ training

    def on_fit_start(self) -> None:
        """Put the UNet in train mode (Lightning keeps the eval mode it was loaded in) and start the average."""
        self.backbone.train()
        if self.ema:
            self.ema.start(self.weights)

    def on_train_start(self) -> None:
        """Count steps from where a resumed run goes on, before this hook Lightning says 0; remember what is to be recalled."""
        self.steps_seen = self.global_step
        self.adapter, self.anew = with_training_clips(self.adapter, self.backbone, self.anew, self.conditioning, self.data)

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        """Loss of one step; every random number belongs to the sample's place in the stream of training clips."""
        places = stream_places(self.trainer, len(batch["id"]))
        loss = checked_mean(self.losses(batch, places), len(places), self.global_step)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(places), sync_dist=True)  # of all processes
        return loss + self.adapter.penalty(self.backbone)

    def losses(self, batch: Mapping[str, Any], places: Sequence[int]) -> Tensor:
        """The objective's losses (B,) of samples at their places in the stream."""
        latents, generators = draw_latents(batch["mean"], batch["std"], self.seed, places, self.time_mask)
        cond = self.conditioning.draw(self.prompt_embeds(batch), batch.get("audio_embeds"), self.unconditional, generators)
        return self.objective(self.backbone, self.noise_scheduler, latents, cond, generators, **self.objective.heard(batch))

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """After every optimizer step, let the adapter see its gradients and update the average."""
        if self.global_step == self.steps_seen:
            return  # the gradients of this step are still being accumulated
        self.steps_seen = self.global_step
        self.adapter.after_step(self.backbone, self.global_step)
        self.objective_training.step(self.backbone, self.global_step)
        if self.ema:
            self.ema.update(self.weights)

    # ------------------------------------------------------------------ held-out loss

    def on_validation_start(self) -> None:
        """Validate the average, not the last step."""
        if self.ema and self.ema.average:
            self.ema.swap(self.weights)

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Loss of each clip on its own fixed noise and timesteps."""
        if self.trainer.sanity_checking and self.outcome.base_losses:
            return  # known from an earlier run
        self.held_out_loss.update(batch["id"], self.held_out(batch))

    def on_validation_epoch_end(self) -> None:
        """Log the loss, also by timestep and against the base, whose value is that of the check before training."""
        known = self.trainer.sanity_checking and self.outcome.base_losses
        losses = torch.tensor(known, dtype=torch.float64) if known else self.held_out_loss.by_timestep()
        self.held_out_loss.reset()
        check_finite(losses, "held-out loss", self.global_step)
        if self.trainer.sanity_checking:
            self.outcome.base_losses = losses.tolist()
        self.log("val/loss", losses.mean(), prog_bar=True, rank_zero_only=False, sync_dist=False)
        if self.outcome.base_loss is not None:
            self.log("val/change", losses.mean() / self.outcome.base_loss - 1, prog_bar=True, sync_dist=False)
        names = loss_names(self.objective, self.backbone.scheduler, self.val_timesteps)
        self.log_dict({f"val/loss_{name}": loss for name, loss in zip(names, losses, strict=True)}, sync_dist=False)
        if self.ema and self.ema.average:
            self.ema.swap(self.weights)

    def held_out(self, batch: Mapping[str, Any]) -> Tensor:
        """Losses (B, K) of the batch's clips on their own fixed noise, or what the objective judges instead."""
        if self.objective.judged_by:
            return self.objective.held_out(self.backbone, batch["mean"], batch["waveform"])
        cond = self.prompt_embeds(batch) if self.data.captioned else batch["audio_embeds"]
        judged = batch["mean"], cond, batch["id"], self.val_timesteps
        return held_out_losses(self.backbone, self.backbone.scheduler, self.predicts, *judged)

    @property
    def predicts(self) -> Prediction:
        """What the UNet predicts: what it is trained to, and before the first step what the base does."""
        return prediction_of(self.backbone.scheduler) if self.trainer.sanity_checking else self.objective.prediction

    def prompt_embeds(self, batch: Mapping[str, Any]) -> Tensor:
        """Text embeddings (B, D) of the batch's captions, as the adapter reads them."""
        return self.adapter.prompt_embeds(self.backbone, batch["caption"], batch["prompt_embeds"])

    # ------------------------------------------------------------------ generated sound

    def on_test_start(self) -> None:
        """Give the training clips to metrics that look for copies, each process its share."""
        if self.protocol is not None and self.protocol.asks_for("train"):
            shared = self.trainer.global_rank, self.trainer.world_size, self.device
            for batch in recordings(self.data.waveforms("train"), *shared):
                self.protocol.update(train=batch)

    def test_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Held-out loss of the test clips, and scores of clips generated from their captions."""
        self.held_out_loss.update(batch["id"], self.held_out(batch))
        if self.protocol is not None:
            ids, rate, captions = batch["id"], self.backbone.sample_rate, batch["caption"]
            made = self.generate(self.entries(ids, captions), self.prompt_embeds(batch))
            preds, target = (AudioBatch(ids, waveform, rate, captions) for waveform in (made, batch["waveform"]))
            give_pair(self.protocol, preds, target, self.backbone, self.sampler.vocoder)

    def on_test_epoch_end(self) -> None:
        """Log every value; at the end the first process writes the intervals."""
        self.outcome.test_loss = self.held_out_loss.measure(*self.held_out_loss.gathered())
        self.log("test/loss", self.outcome.test_loss.value, sync_dist=False)
        self.held_out_loss.reset()
        if self.protocol is not None:
            evaluation = self.protocol.evaluation(self.seed, self.data.ids_by_class("test"))
            decoder = self.backbone.decoder_passport(self.sampler.vocoder)
            self.outcome.evaluation = evaluation.noting(coverage={"test": str(self.data.coverage["test"])}, decoder=decoder)
            scores = self.outcome.evaluation.scores
            self.log_dict({f"test/{name}": score.value for name, score in scores.items()}, sync_dist=False)
            self.protocol.reset()

    def predict_step(self, batch: Mapping[str, Any], batch_idx: int) -> list[dict[str, Any]]:
        """Generate a clip for every test caption; rows with `id`, `prompt` and `waveform` (T,)."""
        entries = self.entries(batch["id"], batch["caption"])
        waveforms = self.generate(entries, self.prompt_embeds(batch)).cpu()
        return [{"id": entry.id, "prompt": entry.prompt, "waveform": clip} for entry, clip in zip(entries, waveforms, strict=True)]

    def generate(self, entries: Sequence[Entry], cond: Tensor) -> Tensor:
        """Generate waveforms (B, T) of the data's duration from conditions (B, D), all at once; see `generate_clips`."""
        generation = Generation(self.backbone, self.sampler, self.unconditional, self.data.num_samples, self.predicts)
        return torch.stack([waveform for _, waveform in generate_clips(generation, entries, cond, batch_size=len(entries))])

    # ------------------------------------------------------------------ checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what was trained and which base it belongs to; neither the base itself nor the network of a metric."""
        checkpoint["state_dict"] = saved(self.weights, self.backbone, self.anew)
        belongs = self.origin, self.adapter, self.outcome.base_losses, self.trained_on
        checkpoint[KEY] = content(*belongs, self.ema, self.objective_training.state())

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse another base or adapter; outside `fit`, take the averaged weights."""
        resumed = fitting(self)
        self.adapter, self.anew, self.weights = taken_over(checkpoint, self.adapter, self.backbone, self.anew, self.conditioning)
        ours = checked_content(checkpoint, self.origin, self.adapter, self.trained_on if resumed else None)
        load_weights(self.backbone, checkpoint["state_dict"] if resumed else averaged_weights(checkpoint), ORIGIN, self.anew)
        checkpoint["state_dict"] = {}  # nothing is left for Lightning to load
        self.outcome.base_losses = ours["base_losses"]
        self.adapter.restore(ours["adapter_state"])
        if resumed:
            self.objective_training.restore(ours.get("objective"), ORIGIN)
        if self.ema and ours["ema"] and resumed:
            self.ema.restore(ours["ema"])
