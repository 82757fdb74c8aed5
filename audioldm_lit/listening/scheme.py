"""The seam of listening tests: a scheme says what is asked of which sounds; everything else is done here."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from audioldm_lit import seeding
from audioldm_lit.errors import InputError
from audioldm_lit.listening.blind_test import Expected, Item, Kind, Question, Rule, Trial
from audioldm_lit.listening.material import Material

BEEPS = Question("beeps", "steps", 1, 10)
ATTENTION = Rule("attention", 1 / 3)  # one slip of three is human
CHECKS = 3


class Scheme(ABC):
    """Base of every scheme.

    A subclass says which `questions` it asks, by which further `rules` raters are left out, and what the trials of a clip are. The
    texts of its questions stand in the catalogues of pages, below `listen.question`.
    """

    questions: Sequence[Question]
    rules: Sequence[Rule] = ()
    needs_recordings = False

    def check(self, material: Material) -> None:
        """Refuse systems and recordings that the scheme cannot compare."""
        if self.needs_recordings and not material.recordings:
            raise InputError(type(self).__name__, "compares with recordings", "give them with --reference, or a run")

    @abstractmethod
    def of_clip(self, material: Material, clip: str, kind: Kind) -> list[Trial]:
        """The trials of one clip."""

    def of_sets(self, material: Material) -> list[Trial]:
        """Trials of several clips at once; none unless a scheme has some."""
        return []

    def trials(self, material: Material) -> list[Trial]:
        """All trials: one for practice, those of every clip, those of sets, and checks of attention."""
        rated = [trial for clip in material.chosen for trial in self.of_clip(material, clip, "rated")]
        checks = [beeps(material, 2 + number) for number in range(CHECKS)]
        return [*self.of_clip(material, material.practice, "practice")[:1], *rated, *self.of_sets(material), *checks]


def sound(material: Material, system: str, clip: str, candidate: int = 0) -> str:
    """The id of a sound, which says nothing of it."""
    return "s" + _code(material, "sound", system, clip, candidate)


def item(material: Material, kind: Kind, system: str, clip: str, sounds: Sequence[str], expected: Sequence[Expected] = ()) -> Item:
    """What is judged, by an id that says nothing of it."""
    return Item("i" + _code(material, kind, system, clip, *sounds), system, tuple(sounds), tuple(expected))


def trial(
    material: Material,
    kind: Kind,
    clip: str,
    caption: str,
    questions: Sequence[Question],
    items: Sequence[Item],
    reference: str | None = None,
) -> Trial:
    """A page of the test; its items are put in an order that says nothing of them."""
    names = tuple(question.name for question in questions)
    ordered = tuple(sorted(items, key=lambda one: one.id))
    return Trial("t" + _code(material, kind, clip, *(one.id for one in ordered)), kind, clip, caption, names, ordered, reference)


def beeps(material: Material, count: int) -> Trial:
    """A check of attention that only who listens can pass: so many beeps, to be counted."""
    name = str(count)
    expected = Expected(ATTENTION.name, BEEPS.name, count, count)
    judged = item(material, "check", "check", name, [sound(material, "check", name)], [expected])
    return trial(material, "check", name, "", [BEEPS], [judged])


def _code(material: Material, *key: object) -> str:
    return f"{seeding.number(material.seed, 'listen', *key) % 16**10:010x}"
