"""The tokenizer, which no checkpoint of the original holds: RoBERTa's, the same for every model."""

from pathlib import Path

from huggingface_hub import try_to_load_from_cache
from transformers import RobertaTokenizer

from audioldm_lit.assets.asset import fetching
from audioldm_lit.errors import InputError

# Hub models that come with it, in the order in which they are looked for among those fetched before.
HOLDERS = {
    "roberta-base": "",
    "FacebookAI/roberta-base": "",
    "laion/clap-htsat-unfused": "",
    "cvssp/audioldm-s-full-v2": "tokenizer/",
    "cvssp/audioldm-m-full": "tokenizer/",
    "cvssp/audioldm-l-full": "tokenizer/",
}
MAX_TOKENS = 512
FILES = ("vocab.json", "tokenizer.json")


def find_tokenizer(folder: Path | None, vocabulary: int) -> RobertaTokenizer:
    """RoBERTa's tokenizer from a folder, or from a hub model that was fetched before.

    Args:
        folder: Where it is; None to look in the hub's cache.
        vocabulary: How many tokens the text tower knows.

    Raises:
        InputError: If there is none, or one of another vocabulary.
    """
    found = folder or _fetched()
    if found is None:
        raise InputError(
            "--tokenizer",
            "the original's file holds no vocabulary, and none of RoBERTa's was fetched before",
            f"{fetching('roberta-tokenizer')}, or give a folder with vocab.json and merges.txt, or a model folder's tokenizer/",
        )
    if not any((found / name).is_file() for name in FILES):
        raise InputError(found, "holds no tokenizer", "give a folder with vocab.json and merges.txt of roberta-base")
    tokenizer = RobertaTokenizer.from_pretrained(found, local_files_only=True, model_max_length=MAX_TOKENS)
    if len(tokenizer) > vocabulary:
        problem = f"has {len(tokenizer):,} tokens, the checkpoint's text tower knows {vocabulary:,}"
        raise InputError(found, problem, "give the tokenizer of roberta-base")
    return tokenizer


def _fetched() -> Path | None:
    """Folder of the first tokenizer in the hub's cache."""
    for model, within in HOLDERS.items():
        for name in FILES:
            file = try_to_load_from_cache(model, f"{within}{name}")
            if isinstance(file, str):
                return Path(file).parent
    return None
