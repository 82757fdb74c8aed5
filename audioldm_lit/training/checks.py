"""Whether model, data, objective and conditioning go together, checked before anything is computed."""

from lightning import Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from audioldm_lit.backbone import UNET_SIDE, Backbone
from audioldm_lit.conditioning import Conditioning
from audioldm_lit.data.base import AudioDataModule
from audioldm_lit.data.clips import ClipDataset
from audioldm_lit.diffusion import Prediction, prediction_of
from audioldm_lit.errors import InputError
from audioldm_lit.inference.sampling import Sampler
from audioldm_lit.objectives.base import Objective
from audioldm_lit.seams import check_call
from audioldm_lit.training.recalling import check_recall
from audioldm_lit.training.settings import check_batch
from audioldm_lit.training.time_mask import TimeMask


def data_of(trainer: Trainer) -> AudioDataModule:
    """The data module of a running trainer."""
    data = getattr(trainer, "datamodule", None)
    if not isinstance(data, AudioDataModule):
        raise InputError("datamodule", "LitAudioLDM needs an AudioDataModule", "pass it to the trainer as `datamodule`")
    return data


def check_objective(objective: Objective, backbone: Backbone, sampler: Sampler, time_mask: TimeMask | None) -> None:
    """Refuse an objective whose prediction does not fit, and beside one that hears recordings, what would make it hear others."""
    if "training" not in vars(objective):
        raise InputError("model.objective", f"{type(objective).__name__} is not set up", "call super().__init__() in its __init__")
    heard = {"waveform": "waveform"} if objective.needs_waveform else {}
    check_call(objective.forward, "model.objective", "backbone", "scheduler", "latents", "cond", "generators", **heard)
    _check_prediction(backbone, objective)
    _check_judge(objective)
    if objective.needs_waveform and time_mask is not None:
        problem = "masks latents, and model.objective compares their sound with recordings that have no gaps"
        raise InputError("model.time_mask", problem, "leave it out")
    if "vocoder" in objective.trains and sampler.vocoder != "own":
        problem = f"is {sampler.vocoder}, and model.objective trains the model's own"
        raise InputError("model.sampler.vocoder", problem, "leave it out")


def _check_judge(objective: Objective) -> None:
    """Refuse an objective that is not judged by what it trains."""
    denoises = bool({*objective.trains} & {*UNET_SIDE})
    if denoises and objective.judged_by:
        problem = (
            f"is judged by {' + '.join(objective.judged_by)} and trains what denoises, whose held-out loss is that of the noise"
        )
        raise InputError("model.objective", problem, "leave its judged_by out")
    if not denoises and not objective.judged_by:
        problem = "leaves the noise as it is, whose error would say nothing, and has no held-out loss of its own"
        raise InputError("model.objective", problem, "give it judged_by and held_out")


def _check_prediction(backbone: Backbone, objective: Objective) -> None:
    """Refuse what the held-out loss cannot judge, and an objective that changes what a partly frozen UNet predicts.

    One that the UNet has no part in predicts what the base does.
    """
    if "unet" not in objective.trains:
        objective.prediction = prediction_of(backbone.scheduler)
    ours, base = objective.prediction, prediction_of(backbone.scheduler)
    if hasattr(objective, "prediction_type"):
        problem = f"has a prediction_type, '{objective.prediction_type}', which nothing reads"
        raise InputError("model.objective", problem, "give it a `prediction`, such as VelocityPrediction()")
    if not isinstance(ours, Prediction):
        problem = f"has the prediction {ours!r}, of which the held-out loss knows no noise"
        raise InputError("model.objective", problem, "make it a Prediction of audioldm_lit.diffusion")
    if type(ours) is not type(base) and not all(weight.requires_grad for weight in backbone.unet.parameters()):
        raise InputError(
            "model.objective",
            f"trains {ours} but the base predicts {base}",
            "train all weights (FullFineTune, Scratch) or choose an objective of the base's kind",
        )


def checked_mean(losses: Tensor, count: int, step: int) -> Tensor:
    """The mean of an objective's losses; refused where these are not one a sample, have no gradient, or are not finite."""
    if not isinstance(losses, Tensor) or losses.shape != (count,):
        given = f"losses of shape {tuple(losses.shape)}" if isinstance(losses, Tensor) else f"a {type(losses).__name__}"
        problem = f"gives {given} for {count} samples"
        raise InputError("model.objective", problem, f"return one a sample, of shape ({count},)")
    if not losses.requires_grad:
        raise InputError("model.objective", "gives losses without a gradient", "compute them from what the backbone returns")
    check_finite(losses, "loss", step)
    return losses.mean()


def check_finite(losses: Tensor, called: str, step: int) -> None:
    """Refuse losses that are no numbers, which early stopping would take for a reason to end well."""
    if not losses.isfinite().all():
        problem = f"has brought the {called} to {losses.mean().item()} at step {step}"
        raise InputError("model.optimizer", problem, "lower its learning rate")


def check_geometry(backbone: Backbone, data: AudioDataModule) -> None:
    """Refuse a rate or a duration that the model cannot have, and a batch that this machine cannot."""
    rate = backbone.sample_rate
    if data.sample_rate != rate:
        raise InputError("data.init_args.sample_rate", f"is {data.sample_rate} Hz", f"give {rate} Hz, at which this model works")
    steps = backbone.latent_shape(data.num_samples)[1]
    whole = steps * backbone.mel_frames_per_latent * backbone.log_mel.hop_length
    if whole != data.num_samples:
        raise InputError("data.init_args.duration", f"is {data.duration} s, no whole number of latents", f"take {whole / rate:g} s")
    check_batch(data.batch_size, backbone.latent_shape(data.num_samples))


def check_captions(backbone: Backbone, data: AudioDataModule, conditioning: Conditioning, generates: bool) -> None:
    """Refuse what needs captions where the data set has none, and clips that cannot be recalled by them.

    Says what captions are still used for where training does without them, and warns of those that the model does not read to their
    end.

    Args:
        backbone: The model.
        data: The data set.
        conditioning: What training conditions on.
        generates: Whether clips are generated from the data set's captions.
    """
    if not data.captioned and conditioning.needs_captions:
        raise InputError(
            "data.init_args.caption",
            "is null, but model.conditioning trains on captions",
            "give captions, or condition on sound alone with configs/conditioning/audio.yaml",
        )
    if not data.captioned and generates:
        raise InputError(
            "data.init_args.caption",
            "is null, so there are no prompts to generate from, and the clips' own sound would give them away",
            "give captions, or leave model.protocol out and `test` takes the loss alone",
        )
    check_recall(conditioning, backbone, data)
    if data.captioned and not conditioning.needs_captions:
        rank_zero_info(
            "trained on sound alone, validated on captions; where these say nothing, as names of files may, "
            "set data.init_args.caption to null"
        )
    if data.captioned:
        recordings = (clips for clips in data.datasets.values() if isinstance(clips, ClipDataset))  # none is encoded by now
        texts = (text for clips in recordings for item in range(len(clips)) for text in clips.texts(item))
        for warning in backbone.text_window.warnings(texts):
            rank_zero_info(f"warning: {warning}")
