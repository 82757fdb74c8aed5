"""Takes of the same prompt with the same noise, side by side: recording, base, and what was adapted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audioldm_lit import seeding
from audioldm_lit.errors import InputError
from audioldm_lit.evaluation.evaluation import Evaluation
from audioldm_lit.evaluation.score import Score
from audioldm_lit.inference.manifest import file_stem
from audioldm_lit.report.run_files import RunFiles
from audioldm_lit.report.sound import Sound, read_sound
from audioldm_lit.storage.plain_files import read_json

LONGEST = 2000.0  # seconds of sound on a page, about 18 MB: 200 clips of 10 s


@dataclass(frozen=True)
class Take:
    """One system's clip.

    Attributes:
        system: What made it.
        sound: What is heard and seen.
        number: Of the sound on its page.
    """

    system: str
    sound: Sound
    number: int


@dataclass(frozen=True)
class Player:
    """The takes of one prompt.

    Attributes:
        name: Of the held-out clip, or of the audition.
        prompt: Text.
        label: Class; may be empty.
        takes: In the order of their keys.
        gain: By how much the second model's clip is better than the first's, in the verdict's metric; None where unknown.
    """

    name: str
    prompt: str
    label: str
    takes: Sequence[Take]
    gain: float | None = None


class Players:
    """The players of a page, whose sounds have numbers throughout; what cannot be heard is noted, each reason once.

    Attributes:
        sounds: In Opus, base64, by number.
        left_out: How many prompts there were no room for.
        gaps: Why others are not heard.
    """

    def __init__(self) -> None:
        self.sounds: list[str] = []
        self.left_out = 0
        self.gaps: list[InputError] = []
        self._seconds = 0.0

    def scored(self, runs: Mapping[str, RunFiles], recordings: str, base: str, gains: Mapping[int, float]) -> list[Player]:
        """What was scored: the recordings and the base of the first run, and every run's adapted model.

        Args:
            runs: By what their adapted models are called.
            recordings: What the recordings are called.
            base: What the base is called.
            gains: Of each clip, by the number of its name.
        """
        first = next(iter(runs.values()))
        folders = {recordings: (first, "recordings"), base: (first, "base")} | {
            name: (run, "adapted") for name, run in runs.items()
        }
        systems = {name: self._listed(run.scored, kind) for name, (run, kind) in folders.items() if run.scored is not None}
        asked = {clip: row for listed in reversed(systems.values()) for clip, row in listed.items()}  # of the first that lists it
        players = []
        for clip, row in asked.items():
            takes = self._takes({name: listed[clip]["path"] for name, listed in systems.items() if clip in listed})
            if takes:
                about = str(row.get("prompt") or ""), str(row.get("label") or "")
                players.append(Player(clip, *about, takes, gains.get(seeding.number(clip))))
        return players

    def auditions(self, run: RunFiles, base: str, adapted: str) -> list[Player]:
        """What was heard while it trained, for runs that were not scored: step 0 is the base, the best step the adapted model."""
        captions = {file_stem(clip["caption"]): clip["caption"] for split in run.clips.values() for clip in split["clips"].values()}
        best, players = run.result.get("best_step"), []
        for folder in sorted(path for path in (run.folder / "audition").glob("*") if path.is_dir()):
            after = folder / f"step-{best:06d}.wav" if best is not None else max(folder.glob("step-*.wav"), default=None)
            takes = self._takes({base: folder / "step-000000.wav", **({adapted: after} if after else {})})
            if takes:
                players.append(Player(folder.name, captions.get(folder.name, folder.name), "", takes))
        return players

    def copies(self, run: RunFiles, generated: str, training: str) -> list[Player]:
        """Suspected copies beside their nearest training clip, the likest first."""
        pairs = run.evaluations["adapted"].suspected_copies if "adapted" in run.evaluations else []
        if not pairs or run.scored is None:
            return []
        trained = self._listed(run.scored, "training")
        players = []
        for clip, other, similarity, *candidate in pairs:
            made = self._listed(run.scored, "adapted", *candidate)
            if clip in made and other in trained:
                takes = self._takes({generated: made[clip]["path"], training: trained[other]["path"]})
                players.append(Player(other, str(made[clip].get("prompt") or ""), "", takes, similarity))
        return [player for player in players if player.takes]

    def _takes(self, paths: Mapping[str, Path]) -> list[Take]:
        """Those of one prompt that can be read, while there is room."""
        if self._seconds > LONGEST:
            self.left_out += 1
            return []
        takes = []
        for name, path in paths.items():
            try:
                sound = read_sound(path)
            except InputError as error:
                self.gaps.append(error)
                continue
            takes.append(Take(name, sound, len(self.sounds)))
            self.sounds.append(sound.audio)
            self._seconds += sound.seconds
        return takes

    def _listed(self, scored: Path, kind: str, candidate: int = 0) -> dict[str, dict[str, Any]]:
        """Rows of a manifest by the clip's id, each with its `path`; of several candidates one."""
        path = scored / kind / "manifest.json"
        try:
            rows = read_json(path)["clips"]
            return {
                str(row["id"]): {**row, "path": path.parent / row["file"]} for row in rows if row.get("candidate", 0) == candidate
            }
        except FileNotFoundError:
            self._note(InputError(path, "is not there, so these sounds cannot be played", "score the run again: evaluate --run"))
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            self._note(InputError(path, f"is no list of clips ({error!r})", "score the run again: evaluate --run"))
        return {}

    def _note(self, gap: InputError) -> None:
        if str(gap) not in map(str, self.gaps):
            self.gaps.append(gap)


def gains(before: Evaluation, after: Evaluation, metric: str) -> dict[int, float]:
    """By how much each clip of the second system is better than that of the first, by the number of its name.

    A clip's part is the jackknife's pseudo-value, the centre plus its influence: for a mean, the clip's own value.
    """
    first, second = before.scores[metric], after.scores[metric]
    if first.higher_is_better is None:
        return {}
    here, there = _parts(first), _parts(second)
    sign = 1 if first.higher_is_better else -1
    return {clip: sign * (there[clip] - here[clip]) for clip in here.keys() & there.keys()}


def _parts(score: Score) -> dict[int, float]:
    influence = score.estimate.influence[0].tolist() if score.estimate.influence else []
    ids = score.sides[0].ids.tolist()
    return {clip: score.estimate.centre + part for clip, part in zip(ids, influence, strict=True)} if influence else {}
