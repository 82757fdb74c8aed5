"""Whose answers count, by the rules that a test declared before anybody answered."""

from collections.abc import Sequence

from audioldm_lit.listening.answers import Answers, given
from audioldm_lit.listening.blind_test import BlindTest


def screened(test: BlindTest, answers: Sequence[Answers]) -> tuple[list[Answers], dict[str, str]]:
    """Answers of the raters who pass every rule, and why each of the others does not."""
    kept, left_out = [], {}
    for one in answers:
        reasons = _reasons(test, one)
        if reasons:
            left_out[one.rater] = "; ".join(reasons)
        else:
            kept.append(one)
    return kept, left_out


def _reasons(test: BlindTest, answers: Answers) -> list[str]:
    """What speaks against a rater, one reason a rule."""
    passed: dict[str, list[bool]] = {rule.name: [] for rule in test.rules}
    for _, question, item, value in given(test, answers):
        for expected in item.expected:
            if expected.question == question:
                passed[expected.rule].append(expected.low <= value <= expected.high)
    reasons = []
    for rule in test.rules:
        asked, failed = len(passed[rule.name]), passed[rule.name].count(False)
        if failed > rule.limit * asked:
            reasons.append(f"{rule.name}: {failed} of {asked} not as expected, {rule.limit:.0%} allowed")
    return reasons
