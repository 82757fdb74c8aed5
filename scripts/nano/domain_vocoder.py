"""Train a vocoder for a domain of your own: `python scripts/nano/domain_vocoder.py --model DIR --recordings DIR --out DIR`.

What an adapter can reach ends at the decoder: `ceiling.py` says how far that is from your recordings. Any AudioLDM folder and any
folder of recordings go; the new model is the old one with a vocoder that was trained on the recordings, and on what the model's own
VAE makes of them. The same command goes on where it was interrupted.
"""

import argparse
from pathlib import Path

import torch
from ceiling import SUFFIXES

from audioldm_lit.audio.waveform import read
from audioldm_lit.backbone import Backbone
from audioldm_lit.device import device_named
from audioldm_lit.errors import InputError
from audioldm_lit.vocoders.inverse_stft import InverseSTFTVocoder, InverseSTFTVocoderConfig

from architecture import SAMPLE_RATE
from loop import ends_with_a_sentence
from recordings import Clip
from vocoder import spectral_distance, train_vocoder

HELD_OUT = 10  # every tenth recording is not trained on


def read_folder(folder: Path) -> list[Clip]:
    """Every recording under a folder, each a family of its own.

    Raises:
        InputError: If there are fewer than two, or one cannot be read.
    """
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES)
    if len(files) < 2:
        raise InputError(folder, f"{len(files)} recordings are there ({', '.join(sorted(SUFFIXES))})", "give a folder with more")
    return [Clip(read(file, SAMPLE_RATE), "", "", str(file), str(file)) for file in files]


def with_new_vocoder(backbone: Backbone) -> Backbone:
    """The model with an untrained vocoder of the kind that learns fast, unless its own is of that kind.

    Raises:
        InputError: If the model is of another rate.
    """
    if backbone.sample_rate != SAMPLE_RATE:
        raise InputError("--model", f"works at {backbone.sample_rate} Hz", f"take one of {SAMPLE_RATE} Hz")
    if not isinstance(backbone.vocoder, InverseSTFTVocoder):
        front_end, bins = backbone.log_mel, backbone.vocoder.config.model_in_dim
        config = InverseSTFTVocoderConfig(SAMPLE_RATE, bins, front_end.hop_length, architectures=[InverseSTFTVocoder.__name__])
        backbone.vocoder = InverseSTFTVocoder(config)
    return backbone


@ends_with_a_sentence
def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="model folder whose vocoder is replaced")
    parser.add_argument("--recordings", type=Path, required=True, help="folder of recordings")
    parser.add_argument("--out", type=Path, required=True, help="model folder to write")
    parser.add_argument("--state", type=Path, default=Path("runs/vocoder"), help="folder of the resumable training state")
    parser.add_argument("--minutes", type=float, default=60.0, help="training time; on a CPU of one core")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 or auto")
    options = parser.parse_args()
    torch.set_num_threads(1)
    clips = read_folder(options.recordings)
    backbone = with_new_vocoder(Backbone.load(options.model)).to(device_named(options.device))
    held_out, trained = clips[::HELD_OUT], [clip for number, clip in enumerate(clips) if number % HELD_OUT]
    steps = train_vocoder(backbone, trained, options.state / "vocoder.pt", options.minutes)
    print(f"{steps} steps, held-out spectral distance {spectral_distance(backbone, held_out):.3f}", flush=True)
    backbone.cpu().save(options.out)


if __name__ == "__main__":
    main()
