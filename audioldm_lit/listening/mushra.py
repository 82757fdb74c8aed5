"""MUSHRA: all systems side by side with a reference, the reference itself hidden among them, and an anchor."""

from audioldm_lit.listening.blind_test import ANCHOR, REFERENCE, Expected, Kind, Question, Rule, Trial
from audioldm_lit.listening.material import Material
from audioldm_lit.listening.scheme import Scheme, item, sound, trial

OVERALL = Question("overall", "slider", 0, 100, weight=1)
GOOD = 90


class MUSHRA(Scheme):
    """Multiple stimuli with hidden reference and anchor (ITU-R BS.1534-3), 0 to 100, all systems on one page.

    The reference is the recording, the anchor the recording below 3.5 kHz. Raters are left out by the standard's own rules (4.1.2):
    who rates the hidden reference below 90 in more than 15 % of the trials, or the anchor above 90.

    A generated sound is no damaged copy of the recording, for which the standard was written: raters are asked how good it is
    beside a recording of the same thing, not how alike the two are.
    """

    questions = (OVERALL,)
    rules = (Rule("hidden_reference", 0.15), Rule("anchor", 0.15))
    needs_recordings = True

    def of_clip(self, material: Material, clip: str, kind: Kind) -> list[Trial]:
        """One trial: every system, the hidden reference and the anchor."""
        expected = {
            REFERENCE: [Expected("hidden_reference", OVERALL.name, GOOD, OVERALL.high)],
            ANCHOR: [Expected("anchor", OVERALL.name, OVERALL.low, GOOD)],
        }
        items = [
            item(material, kind, system, clip, [sound(material, system, clip)], expected.get(system, ()))
            for system in (*material.systems, REFERENCE, ANCHOR)
        ]
        return [trial(material, kind, clip, material.caption(clip), self.questions, items, sound(material, REFERENCE, clip))]
