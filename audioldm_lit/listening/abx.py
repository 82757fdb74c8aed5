"""A/B/X: can two systems be told apart, and which of them is liked better?"""

from audioldm_lit.errors import InputError
from audioldm_lit.listening.blind_test import Kind, Question, Trial
from audioldm_lit.listening.material import Material
from audioldm_lit.listening.scheme import Scheme, item, sound, trial

TOLD_APART = Question("told_apart", "match", 0, 1, chance=0.5)
PREFERRED = Question("preferred", "choice", 0, 1, weight=1, chance=0.5)


class ABX(Scheme):
    """Two systems, A and B, and X, which is one of them (Munson and Gardner 1950, JASA 22:675); then which of the two is better.

    What cannot be told apart needs no second question; what can be is not better for it.
    """

    questions = (TOLD_APART, PREFERRED)

    def check(self, material: Material) -> None:
        """Two systems and no more."""
        super().check(material)
        if len(material.systems) != 2:
            raise InputError("ABX", f"compares two systems, and {len(material.systems)} are given", "give two, or use MUSHRA")

    def of_clip(self, material: Material, clip: str, kind: Kind) -> list[Trial]:
        """One trial; which of the two X is, is drawn for every rater."""
        items = [item(material, kind, system, clip, [sound(material, system, clip)]) for system in material.systems]
        return [trial(material, kind, clip, material.caption(clip), self.questions, items)]
