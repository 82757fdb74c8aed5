"""What there is to say about how a folder was read: what was left out, guessed or decided."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from audioldm_lit.data.clips import Clip
from audioldm_lit.data.files import is_recording
from audioldm_lit.data.remark import Remark, below, listed
from audioldm_lit.data.splits import role_of
from audioldm_lit.data.tables.encoding import UTF_8

TEXT = {".txt", ".caption", ".lab", ".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".xlsx", ".xls", ".ods", ".md", ".rtf", ".docx",
        ".odt", ".yaml", ".yml", ".xml", ".html", ".srt", ".vtt", ".tags", ".parquet", ".arrow", ".sqlite", ".db"}  # fmt: skip


def unread(root: Path, files: Collection[Path], used: Collection[Path], reasons: Mapping[Path, str]) -> Iterator[Remark]:
    """Text and tables that say nothing of what is trained on."""
    left = [path for path in files if path.suffix.lower() in TEXT and path not in used]
    if left:
        names = [below(root, path) + (f" ({reasons[path]})" if path in reasons else "") for path in left]
        problem = f"of {listed(names)} nothing is read"
        yield Remark("not read", str(root), problem, "see docs/data.md for the captions that are, or do nothing")


def without_sound(root: Path, files: Collection[Path]) -> Iterator[Remark]:
    """What is neither sound nor text."""
    left = [below(root, path) for path in files if path.suffix.lower() not in TEXT and not is_recording(path)]
    if left:
        yield Remark("no sound", str(root), f"leaves out {listed(left)}, which hold no sound", "nothing, or remove them")


def unlisted(root: Path, recordings: Collection[Path], clips: Sequence[Clip], tables: Sequence[Path]) -> Iterator[Remark]:
    """Recordings that the tables leave out."""
    there = {clip.path for clip in clips}
    left = [below(root, path) for path in recordings if path not in there]
    if left:
        problem = f"leaves out {len(left):,} of {len(recordings):,} recordings: {listed(left)}"
        yield Remark("not listed", listed([str(path) for path in tables]), problem, "add lines for them, or remove them")


def encoded(where: str, encoding: str, captions: Sequence[str]) -> Iterator[Remark]:
    """Files in another encoding than UTF-8, and a caption as it was read."""
    if encoding == UTF_8:
        return
    kind = "read as UTF-16" if encoding == "utf-16" else f"taken for {encoding}, which is a guess"
    sample = next((f": '{caption}'" for caption in captions if caption.isprintable() and not caption.isascii()), "")
    yield Remark("encoding", where, f"{kind}{sample}", "save it as UTF-8 if that is not what it says")


def several_captions(root: Path, clips: Sequence[Clip]) -> Iterator[Remark]:
    """Clips of more than one caption."""
    several = [clip.id for clip in clips if clip.others]
    if several:
        problem = f"training draws one of the captions of {listed(several)} each time"
        yield Remark("several captions", str(root), problem, "nothing: all else takes the first")


def named_like_splits(root: Path, labels: Collection[str]) -> Iterator[Remark]:
    """Classes that are called as a split is."""
    for label in sorted(set(labels)):
        if (found := role_of(label)) and not found[0]:
            problem = "is taken for a class, as the folders beside it are no splits"
            yield Remark("class or split", str(root / label), problem, "nothing, or name all folders after splits")
