"""How much of a text a model reads."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from transformers import ClapTextConfig, RobertaTokenizer

TOLD = 5  # texts; of more their number
SHORT = 60  # letters of a text that are shown


class TextWindow:
    """What a text tower reads of a text: its first tokens, as many as tokenizer and tower can take.

    Args:
        tokenizer: The tower's tokenizer.
        config: The tower's settings.
    """

    def __init__(self, tokenizer: RobertaTokenizer, config: ClapTextConfig) -> None:
        self.tokenizer = tokenizer
        # RoBERTa numbers places from the padding token's id on, which takes one of the table's rows itself.
        assert config.pad_token_id is not None
        self.max_tokens = min(tokenizer.model_max_length, config.max_position_embeddings - config.pad_token_id - 1)

    @classmethod
    def load(cls, model: Path) -> "TextWindow":
        """That of a model folder, without its weights."""
        tokenizer = RobertaTokenizer.from_pretrained(model / "tokenizer", local_files_only=True)
        return cls(tokenizer, ClapTextConfig.from_pretrained(model / "text_encoder", local_files_only=True))

    def unheard(self, text: str) -> str:
        """The end of a text that is not read; empty where all is."""
        if len(text.encode(errors="replace")) <= self.max_tokens - 2:  # a token is at least one byte, and two are marks
            return ""
        read = self.tokenizer(text, truncation=True, max_length=self.max_tokens, return_offsets_mapping=True)
        return text[max(end for _, end in read["offset_mapping"]) :].strip()

    def warnings(self, texts: Iterable[str]) -> Iterator[str]:
        """A sentence for each of the first texts that are not read to their end, and one for all others; each text once."""
        cut = [(text, rest) for text in dict.fromkeys(texts) if (rest := self.unheard(text))]
        for text, rest in islice(cut, TOLD):
            yield f"'{_short(text)}' is longer than the model reads ({self.max_tokens} tokens), '{_short(rest)}' is not heard"
        if len(cut) > TOLD:
            yield f"{len(cut) - TOLD:,} more texts are longer than the model reads; `prepare` lists them all"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHORT else f"{line[: SHORT - 3]}..."
