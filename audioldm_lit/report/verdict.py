"""One answer with its evidence: better, worse, or cannot tell."""

from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup

from audioldm_lit.errors import InputError
from audioldm_lit.evaluation.evaluation import Evaluation, compare_systems
from audioldm_lit.evaluation.score import Comparison, Score
from audioldm_lit.evaluation.tables import number
from audioldm_lit.report.texts import Texts

CLASSES = {"better": "good", "worse": "bad"}  # anything else is unsure


@dataclass(frozen=True)
class Verdict:
    """An answer.

    Attributes:
        kind: `good`, `bad` or `unsure`.
        sentence: With its evidence.
        comparisons: By metric, where there are any.
    """

    kind: str
    sentence: Markup
    comparisons: Mapping[str, Comparison]


def verdict(texts: Texts, names: tuple[object, object], before: Evaluation | None, after: Evaluation | None) -> Verdict:
    """Whether the second of two systems is better than the first, by the protocol's first metric.

    Args:
        texts: In which language.
        names: What the systems are called.
        before: The first's scores; None where it was not scored.
        after: The second's.
    """
    shown = dict(zip(("first", "second"), names, strict=True))
    if before is None or after is None:
        return Verdict("unsure", texts("verdict.unscored", word=word(texts, "cannot tell"), **shown), {})
    try:
        comparisons = compare_systems(before, after)
        metric, found = next(iter(comparisons.items()))
    except InputError as reason:  # unequal passports
        return Verdict("unsure", texts("verdict.refused", word=word(texts, "cannot tell"), reason=reason, **shown), {})
    except StopIteration:
        return Verdict("unsure", texts("verdict.unscored", word=word(texts, "cannot tell"), **shown), {})
    values = {name: number(one.scores[metric].value) for name, one in (("before", before), ("after", after))}
    shown |= values | {"metric": metric_name(texts, metric), "word": word(texts, found.verdict)}
    shown["direction"] = direction(texts, after.scores[metric])
    shown["clips"] = after.scores[metric].sides[0].num_clips
    if found.interval is None:
        return Verdict("unsure", texts("verdict.no_interval", **shown), comparisons)
    low, high = map(number, found.interval)
    shown |= {"difference": number(found.difference), "low": low, "high": high}
    key = {"better": "better", "worse": "worse", "cannot tell": "cannot_tell"}.get(found.verdict, "other")
    sentence = texts(f"verdict.{key}", **shown)
    if found.clips_needed:
        sentence += " " + texts("verdict.needed", count=f"{found.clips_needed:,}")
    return Verdict(CLASSES.get(found.verdict, "unsure"), sentence, comparisons)


def word(texts: Texts, said: str) -> Markup:
    """A verdict's word, marked by more than its colour."""
    kind = CLASSES.get(said, "unsure")
    key = said.replace(" ", "_")
    shown = texts(f"words.{key}") if texts.knows(f"words.{key}") else said
    return Markup('<strong class="word {}">{}</strong>').format(kind, shown)


def direction(texts: Texts, score: Score) -> Markup:
    """Which way a score is better."""
    return texts({True: "metrics.higher", False: "metrics.lower", None: "metrics.neither"}[score.higher_is_better])


def metric_name(texts: Texts, metric: str) -> object:
    """A metric as the glossary explains it; one that it does not know, by its own name."""
    return texts.term(metric) if texts.knows(f"terms.{metric}.word") else metric
