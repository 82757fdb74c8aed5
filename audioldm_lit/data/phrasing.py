"""The wording of captions: one template for all of them, and templates and paraphrases that training draws from."""

import hashlib
import json
from collections.abc import Sequence
from os.path import isfile
from pathlib import Path
from string import Formatter

import yaml

from audioldm_lit.errors import InputError
from audioldm_lit.storage.names import expanded, is_mark, why_no_file

KEY = "data.init_args.phrasing.init_args"
LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # the base loader leaves words such as `no` and `808` words


class Phrasing:
    """Other words for the captions, so that what is learned does not depend on one wording.

    Every time a training clip comes, one of its caption's texts is drawn, all equally likely: the caption and each of its
    paraphrases, in each of the templates. A mixture of two clips has no paraphrases, its caption is put into the templates.
    Captions of held-out clips keep their words.

    Args:
        every: Template of the captions of all splits, for words that belong to the whole set, such as "<mine> {caption}"; it may
            leave {caption} out.
        training: Templates that training draws from; {caption} is the caption as `every` gives it. One that is listed twice is
            drawn twice as often.
        paraphrases: YAML or JSON file of captions, each with the list of its paraphrases; the captions are those of the data set,
            before `every`. Captions that are not listed have none.
    """

    def __init__(self, every: str = "{caption}", training: Sequence[str] = ("{caption}",), paraphrases: Path | None = None) -> None:
        if not training:
            raise InputError(f"{KEY}.training", "is empty", "give at least one template, such as '{caption}'")
        names = _check("every", every)
        for template in training:
            if not _check("training", template):
                raise InputError(f"{KEY}.training", f"'{template}' leaves the caption out", "give it the field {caption}")
        if paraphrases and not names:
            raise InputError(
                f"{KEY}.every", f"is '{every}', which leaves no caption to paraphrase", "add {caption} or drop the file"
            )
        self.every = every
        self.training = tuple(training)
        self.paraphrases = read_paraphrases(expanded(paraphrases)) if paraphrases else {}
        """By the data set's captions."""
        content = json.dumps([self.every, self.training, self.paraphrases], sort_keys=True)
        self.fingerprint = hashlib.sha256(content.encode()).hexdigest()
        """Of everything that training captions depend on beside the clips."""
        self._others = {
            self.caption(caption): [self.caption(other) for other in others] for caption, others in self.paraphrases.items()
        }

    def caption(self, caption: str) -> str:
        """A caption of the data set as all splits word it."""
        return self.every.format(caption=caption)

    def texts(self, caption: str) -> list[str]:
        """The texts that training draws from for a caption, which is given as `caption` returns it."""
        return [
            template.format(caption=phrase) for phrase in (caption, *self._others.get(caption, ())) for template in self.training
        ]


def _check(name: str, template: str) -> bool:
    """Whether a template names the caption; one with another field, or without any word, is refused."""
    try:
        fields = {(field, spec, conversion) for _, field, spec, conversion in Formatter().parse(template) if field is not None}
    except ValueError as error:
        raise InputError(
            f"{KEY}.{name}", f"'{template}' is no template ({error})", "write a brace that is a brace twice"
        ) from error
    if fields - {("caption", "", None)}:
        raise InputError(f"{KEY}.{name}", f"'{template}' has another field", "write no field but {caption}")
    if not fields and not any(map(str.isalnum, template)):
        raise InputError(f"{KEY}.{name}", f"'{template}' has no word", "write one, or {caption}")
    return bool(fields)


def read_paraphrases(path: Path) -> dict[str, list[str]]:
    """Read a YAML or JSON file of captions and lists of paraphrases; JSON is a part of YAML.

    Raises:
        InputError: If it is missing or unreadable, lists a caption twice or without a paraphrase, or holds anything but text.
    """
    if not isfile(path):
        raise InputError(path, why_no_file(path, "file"), f"correct {KEY}.paraphrases")
    try:
        root = yaml.compose(path.read_text(encoding="utf-8-sig"), Loader=LOADER)
    except UnicodeDecodeError as error:
        raise InputError(path, f"is not UTF-8 ({error.reason} at byte {error.start})", "save it as UTF-8") from error
    except OSError as error:
        raise InputError(path, f"cannot be opened ({error.strerror})", "see to its permissions") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(path, f"is neither YAML nor JSON ({' '.join(str(error).split())})", "correct it") from error
    if not isinstance(root, yaml.MappingNode) or not root.value:
        raise InputError(path, "holds no captions", "write each with the list of its paraphrases, 'dog: [a dog barks]'")
    found: dict[str, list[str]] = {}
    for key, value in root.value:
        caption = _text(path, key)
        if caption in found:
            raise InputError(_where(path, key), f"'{caption}' is listed twice", "put its paraphrases into one list")
        if not isinstance(value, yaml.SequenceNode) or not value.value:
            raise InputError(_where(path, key), f"'{caption}' has no list of paraphrases", "write one, such as [a dog barks]")
        found[caption] = [_text(path, paraphrase) for paraphrase in value.value]
    return found


def _text(path: Path, node: yaml.Node) -> str:
    text = " ".join(node.value.split()) if isinstance(node, yaml.ScalarNode) else ""
    if not any(map(str.isalnum, text)) or any(map(is_mark, text)):
        raise InputError(_where(path, node), "a caption or paraphrase is no text", "write words, in quotes where in doubt")
    return text


def _where(path: Path, node: yaml.Node) -> str:
    return f"{path}, line {node.start_mark.line + 1}"
