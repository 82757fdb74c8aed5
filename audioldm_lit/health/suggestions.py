"""Words for captions that are missing: which of a list a model's own CLAP hears in a recording. Never used unasked."""

from collections.abc import Sequence
from pathlib import Path

from audioldm_lit.backbone import Backbone
from audioldm_lit.console.stages import track
from audioldm_lit.data.base import AudioDataModule
from audioldm_lit.data.tables.table import read_rows
from audioldm_lit.errors import InputError
from audioldm_lit.health.findings import Examined
from audioldm_lit.inference.prompt_file import read_prompts

BEST = 3  # words of a recording


def read_words(path: Path) -> list[str]:
    """Words to choose from: AudioSet's `class_labels_indices.csv`, or a text file with one a line.

    Raises:
        InputError: If there is no such file, or it names nothing.
    """
    if path.suffix.lower() == ".csv":
        words = [row["display_name"] for _, row in read_rows(path, ("display_name",))]
    else:
        words = read_prompts(path, "--suggest")
    if not any(words):
        raise InputError(path, "names nothing", "give AudioSet's class_labels_indices.csv, or a text file with one word a line")
    return [word.lower() for word in dict.fromkeys(words) if word]


class Namer:
    """Names what it hears, in words of a list: those whose CLAP embeddings are nearest to a recording's, by cosine.

    Args:
        backbone: A model with CLAP's audio tower.
        words: To choose from.

    Raises:
        InputError: If the model has no audio tower.
    """

    def __init__(self, backbone: Backbone, words: Sequence[str]) -> None:
        backbone.require_audio_encoder()
        self.backbone = backbone
        self.words = words
        self.texts = backbone.encode_text(words)

    def suggest(self, data: AudioDataModule, items: Sequence[Examined]) -> dict[str, list[str]]:
        """The best words by clip id, the best first; clips that cannot be read, or are silent, have none.

        Args:
            data: The data set: recordings are heard as training cuts them.
            items: Its clips.

        Raises:
            InputError: If the model works at another rate.
        """
        if data.sample_rate != self.backbone.sample_rate:
            raise InputError("data.init_args.sample_rate", f"is {data.sample_rate} Hz", f"give {self.backbone.sample_rate} Hz")
        sounding = [item.clip for item in items if item.measurement is not None and item.measurement.silent_share < 1]
        clips = data.dataset(sounding, "val")  # of training clips few shots would be chosen
        best = {}
        for number in track(range(len(clips)), f"suggesting captions for {len(clips)} clips", len(clips)):
            heard = self.backbone.encode_audio(clips.waveform(number)[None])[0]
            nearest = (self.texts @ heard).topk(min(BEST, len(self.words))).indices.tolist()
            best[clips.id(number)] = [self.words[place] for place in nearest]
        return best
