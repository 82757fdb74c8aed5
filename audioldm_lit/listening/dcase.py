"""The listening test of the DCASE 2023 challenge: quality and fit of single sounds, diversity of sets."""

from audioldm_lit.listening.blind_test import REFERENCE, Kind, Question, Trial
from audioldm_lit.listening.material import Material
from audioldm_lit.listening.scheme import Scheme, item, sound, trial

QUALITY = Question("quality", "steps", 1, 10, weight=2)
FIT = Question("fit", "steps", 1, 10, weight=2)
DIVERSITY = Question("diversity", "steps", 1, 10, weight=1)


class DCASE2023(Scheme):
    """Quality, fit to the caption and diversity in ten steps, weighed 2 : 2 : 1 (Choi et al. 2023, DCASE task 7).

    Every sound is judged by itself, and up to four sounds of one class as a set. Recordings are judged as one more system where
    they are known: what can be reached. Where no class has two sounds, diversity is not asked and the score is of the others.
    """

    questions = (QUALITY, FIT, DIVERSITY)

    def of_clip(self, material: Material, clip: str, kind: Kind) -> list[Trial]:
        """A trial for every system's sound."""
        systems = [*material.systems, *([REFERENCE] if material.recordings else [])]
        caption = material.caption(clip)
        return [
            trial(
                material, kind, clip, caption, [QUALITY, FIT],
                [item(material, kind, system, clip, [sound(material, system, clip)])],
            )
            for system in systems
        ]  # fmt: skip

    def of_sets(self, material: Material) -> list[Trial]:
        """A trial for every system and class of which there are at least two sounds."""
        found = []
        for label, sounds in material.sets.items():
            for system in material.systems:
                ids = [sound(material, system, *one) for one in sounds]
                judged = item(material, "rated", system, label, ids)
                found.append(trial(material, "rated", f"class {label}", label, [DIVERSITY], [judged]))
        return found
