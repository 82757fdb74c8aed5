"""The pre-trained AudioLDM: its parts, and the glue of the diffusers pipeline between them.

A model is a folder in the diffusers layout (unet, vae, text_encoder, tokenizer, vocoder, scheduler), optionally with the CLAP
audio tower beside it (audio_encoder, feature_extractor). Letters in shapes: B batch, T samples, F frames, M mel bins,
C latent channels, D embedding.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
import torchaudio
from diffusers.models import AutoencoderKL, UNet2DConditionModel
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor, nn
from transformers import (
    ClapAudioModelWithProjection,
    ClapFeatureExtractor,
    ClapTextModelWithProjection,
    RobertaTokenizer,
    SpeechT5HifiGan,
)

from audioldm_lit.assets.finding import find_model
from audioldm_lit.audio.log_mel import LogMel
from audioldm_lit.console.stages import Stage, say_once
from audioldm_lit.device import give_back
from audioldm_lit.errors import InputError
from audioldm_lit.networks.fingerprinting import fingerprint
from audioldm_lit.networks.model_folder import build_parts, load_parts, save_parts
from audioldm_lit.networks.published import Heads, heads_remark, trained_steps
from audioldm_lit.networks.resting import let_go, rests, take_up
from audioldm_lit.networks.text_window import TextWindow
from audioldm_lit.vocoders.griffin_lim import GriffinLim
from audioldm_lit.vocoders.inverse_stft import InverseSTFTVocoder

UNET_SIDE: tuple[str, ...] = ("unet", "text_encoder")  # what latents are denoised with
SOUND_SIDE: tuple[str, ...] = ("vae", "vocoder")  # what latents are made sound with
DECODER = ("vae.decoder", "vae.post_quant_conv", "vocoder")  # modules of it that a sound goes through
RESTING = ("vae", "text_encoder", "vocoder", "audio_encoder")  # parts that no training step needs
VocoderName = Literal["own", "griffin_lim"]  # the model's own network, or the formula


class Backbone(nn.Module):
    """All parts of an AudioLDM, frozen and in eval mode, with the pipeline's glue between them.

    Args:
        unet: Denoises latents; the CLAP vector enters as `class_labels`.
        vae: Log-mel <-> latents.
        text_encoder: CLAP text tower with projection.
        tokenizer: Tokenizer of the text tower.
        vocoder: Log-mel -> waveform.
        scheduler: Noise schedule the model was trained with.
        audio_encoder: CLAP audio tower with projection, where the model has one.
        feature_extractor: Front end of the audio tower; required with `audio_encoder`.
    """

    folder: Path | None = None  # that it was loaded from

    def __init__(
        self,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL,
        text_encoder: ClapTextModelWithProjection,
        tokenizer: RobertaTokenizer,
        vocoder: SpeechT5HifiGan | InverseSTFTVocoder,
        scheduler: DDIMScheduler,
        audio_encoder: ClapAudioModelWithProjection | None = None,
        feature_extractor: ClapFeatureExtractor | None = None,
    ) -> None:
        super().__init__()
        self.unet = unet
        self.vae = vae
        self.text_encoder = text_encoder
        self.tokenizer = tokenizer
        self.vocoder = vocoder
        self.scheduler = scheduler
        self.audio_encoder = audio_encoder
        self.feature_extractor = feature_extractor
        self.log_mel = LogMel(
            sample_rate=vocoder.config.sampling_rate,
            hop_length=math.prod(vocoder.config.upsample_rates),
            n_mels=vocoder.config.model_in_dim,
        )
        self.griffin_lim = GriffinLim(self.log_mel)
        self.num_mels: int = vocoder.config.model_in_dim
        self.mel_frames_per_latent: int = 2 ** (len(vae.config["block_out_channels"]) - 1)
        """Mel frames (and mel bins) per latent step: 4 in every published model."""
        self.requires_grad_(False).eval()

    # ------------------------------------------------------------------ making, loading, saving

    @classmethod
    def load(cls, name: str | Path, heads: Heads = "as_saved", read: Collection[str] = RESTING) -> "Backbone":
        """Load a model folder in float32.

        Args:
            name: A folder, one of this project's `checkpoints/...`, or a hub id that is already in the local hub cache;
                no connection is made.
            heads: Heads of the UNet's attention: `as_saved` in its folder, or `original`, 32 channels each (64 in AudioLDM-L), with
                which the published models were trained; their conversions say 8 a level. The weights are the same.
            read: Networks beside the UNet that are read at once; each of the others is when it is first asked for.

        Raises:
            InputError: If the folder or a part is missing, or weights and configuration disagree.
        """
        with Stage(f"loading {name}"):
            parts = load_parts(folder := find_model(name), heads, later={*RESTING} - {*read})
            if heads == "as_saved" and (remark := heads_remark(parts["unet"].config, folder, name)):
                say_once(remark)
            backbone = cls(**parts)
            backbone.folder = folder
            return backbone

    @classmethod
    def build(cls, configs: Mapping[str, Mapping[str, Any]], tokenizer: RobertaTokenizer, seed: int = 0) -> "Backbone":
        """Build a model with random weights.

        Args:
            configs: Configuration of each part by its folder name; `audio_encoder` and `feature_extractor` are optional.
            tokenizer: Tokenizer that fits the text tower's vocabulary.
            seed: Seed of the weights; the global random state is left as it was.
        """
        return cls(tokenizer=tokenizer, **build_parts(configs, seed))

    def save(self, folder: Path) -> None:
        """Write every part under `folder` in the diffusers layout, so that `load` and diffusers can read it."""
        for part in RESTING:
            getattr(self, part)  # back from its rest
        parts = {**dict(self.named_children()), "tokenizer": self.tokenizer, "scheduler": self.scheduler}
        if self.feature_extractor is not None:
            parts["feature_extractor"] = self.feature_extractor
        for formula in ("log_mel", "griffin_lim"):
            parts.pop(formula)
        save_parts(parts, folder)

    def fingerprint(self, part: str, rounded: bool = False) -> str:
        """First 16 hex digits of one part's `fingerprint`: of its settings and its weights, as they are or rounded to float16."""
        return fingerprint(self.get_submodule(part), rounded)[:16]

    def decoder_passport(self, vocoder: VocoderName) -> dict[str, str]:
        """What sound made of latents depends on: fingerprints of the VAE and of the vocoder, or the formula's name."""
        return {"vae": self.fingerprint("vae"), "vocoder": self.fingerprint("vocoder") if vocoder == "own" else vocoder}

    def rest(self, but: Collection[str] = ()) -> None:
        """Free the weights of all parts but the UNet, and but those with weights that train; each comes back when it is asked for.

        A model that was not loaded from a folder keeps them, and any keeps those of the parts that `but` names.
        """
        networks = [network for part, network in self.named_children() if part in {*RESTING} - {*but}]  # named, none is woken
        if self.folder is not None and any([let_go(network) for network in networks]):
            give_back()

    def __getattr__(self, name: str) -> Any:
        """A part, with its weights."""
        found: Any = super().__getattr__(name)
        if name in RESTING and self.folder is not None and found is not None and rests(found):
            found = take_up(found, self.folder / name, self.device)
            setattr(self, name, found)
        return found

    def train(self, mode: bool = True) -> "Backbone":
        """Set the UNet's mode; VAE, CLAP and vocoder always stay in eval, or their dropout would corrupt the targets."""
        super().train(False)
        self.unet.train(mode)
        return self

    # ------------------------------------------------------------------ geometry

    @property
    def device(self) -> torch.device:
        """Device of the UNet."""
        return next(self.unet.parameters()).device

    @property
    def sample_rate(self) -> int:
        """Hz of every waveform that goes in or comes out."""
        return self.log_mel.sample_rate

    @property
    def text_window(self) -> TextWindow:
        """How much of a text is read."""
        return TextWindow(self.tokenizer, self.text_encoder.config)

    @property
    def window(self) -> float:
        """Duration in seconds that the UNet was trained on."""
        return trained_steps(self.unet.config) * self.mel_frames_per_latent * self.log_mel.hop_length / self.sample_rate

    def latent_shape(self, num_samples: int) -> tuple[int, int, int]:
        """Shape (C, F/4, M/4) of latents that decode to at least `num_samples` samples.

        The UNet halves the time axis once a level, so the length is rounded up to a multiple that survives it.
        """
        frames = -(-num_samples // self.log_mel.hop_length)
        steps = -(-frames // self.mel_frames_per_latent)
        multiple = 2 ** (len(self.unet.config["block_out_channels"]) - 1)
        steps = -(-steps // multiple) * multiple
        return self.unet.config["in_channels"], steps, self.num_mels // self.mel_frames_per_latent

    # ------------------------------------------------------------------ text and audio -> embeddings and latents

    @torch.no_grad()
    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """Prompts -> CLAP text embeddings (B, D) of norm 1."""
        return self.embed_text(prompts)

    def embed_text(self, prompts: Sequence[str]) -> Tensor:
        """The same with gradients, for adapters that train a part of the text tower."""
        tokens = self.tokenizer(
            list(prompts), padding=True, truncation=True, max_length=self.text_window.max_tokens, return_tensors="pt"
        ).to(self.device)
        embeds = self.text_encoder(tokens.input_ids, attention_mask=tokens.attention_mask).text_embeds
        return F.normalize(embeds.float(), dim=-1)  # the tower itself returns them un-normalised

    @torch.no_grad()
    def encode_audio(self, waveform: Tensor) -> Tensor:
        """Waveform (B, T) at `sample_rate` -> CLAP audio embeddings (B, D) of norm 1.

        Only the first `max_length_s` seconds that the tower was trained on are heard: its own extractor would crop longer
        clips at random.

        Raises:
            InputError: If the model folder has no audio tower.
        """
        audio_encoder, front_end = self.require_audio_encoder()
        rate = front_end.sampling_rate
        heard = torchaudio.functional.resample(waveform.float().cpu(), self.sample_rate, rate)
        heard = heard[:, : front_end.nb_max_samples]
        features = front_end(list(heard.numpy()), sampling_rate=rate, return_tensors="pt")
        inputs = features.input_features.to(self.device)
        return F.normalize(audio_encoder(inputs).audio_embeds.float(), dim=-1)

    def require_audio_encoder(self) -> tuple[ClapAudioModelWithProjection, ClapFeatureExtractor]:
        """The CLAP audio tower and its front end; raises `InputError` if the model folder has none."""
        if self.audio_encoder is None or self.feature_extractor is None:
            raise InputError(
                "audio_encoder",
                "this model has no CLAP audio tower",
                "python -m audioldm_lit doctor --model MODEL --add_audio_tower CLAP",
            )
        return self.audio_encoder, self.feature_extractor

    @torch.no_grad()
    def encode_posterior(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """Waveform (B, T) -> mean and standard deviation of its latents, each (B, C, F/4, M/4), in the UNet's scale."""
        posterior = self.vae.encode(self.log_mel(waveform)).latent_dist
        scale = self.vae.config["scaling_factor"]
        return posterior.mean * scale, posterior.std * scale

    def encode_latents(self, waveform: Tensor, noise: Tensor | None = None) -> Tensor:
        """Waveform (B, T) -> latents (B, C, F/4, M/4): the posterior's mean, or a sample of it where `noise` ~ N(0, 1) is given."""
        mean, std = self.encode_posterior(waveform)
        return mean if noise is None else mean + std * noise

    # ------------------------------------------------------------------ latents -> noise prediction, mel, waveform

    def forward(self, noisy_latents: Tensor, timesteps: Tensor, cond: Tensor) -> Tensor:
        """Predict the noise (or velocity) in latents (B, C, F/4, M/4) at `timesteps` (B,) given embeddings (B, D)."""
        # There is no text cross-attention in AudioLDM: the embedding enters as class_labels, beside the time embedding.
        return self.unet(noisy_latents, timesteps, encoder_hidden_states=None, class_labels=cond, return_dict=False)[0]

    @torch.no_grad()
    def decode_mel(self, latents: Tensor) -> Tensor:
        """Latents (B, C, F/4, M/4) -> log-mel (B, 1, F, M)."""
        return self.vae.decode(latents / self.vae.config["scaling_factor"], return_dict=False)[0]

    @torch.no_grad()
    def decode(self, latents: Tensor, num_samples: int | None = None, vocoder: VocoderName = "own") -> Tensor:
        """Latents (B, C, F/4, M/4) -> waveform (B, T) float32, cut to `num_samples` where given."""
        log_mel = self.decode_mel(latents)[:, 0]  # (B, F, M)
        # The vocoder returns a few samples more than F * hop_length.
        end = num_samples or log_mel.shape[1] * self.log_mel.hop_length
        return {"own": self.vocoder, "griffin_lim": self.griffin_lim}[vocoder](log_mel)[:, :end].float()

    def sound(self, latents: Tensor) -> Tensor:
        """Latents (B, C, F/4, M/4) -> waveform (B, T) by the model's own decoder, with gradients, always in float32."""
        with torch.autocast(self.device.type, enabled=False):
            log_mel = self.vae.decode(latents.float() / self.vae.config["scaling_factor"], return_dict=False)[0][:, 0]  # (B, F, M)
            return self.vocoder(log_mel)[:, : log_mel.shape[1] * self.log_mel.hop_length]

    def reconstruct(self, waveform: Tensor, vocoder: VocoderName = "own") -> Tensor:
        """Waveform (B, T) -> itself through VAE and vocoder, (B, T): as near as anything generated can come to it."""
        return self.decode(self.encode_latents(waveform), waveform.shape[1], vocoder)
