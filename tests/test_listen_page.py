"""The page of a blind test in a real browser: done to its end, kept over a reload, and nothing that it should not do."""

import json

import pytest

from audioldm_lit.listening.abx import ABX
from audioldm_lit.listening.answers import read_all
from audioldm_lit.listening.dcase import DCASE2023
from audioldm_lit.listening.mushra import MUSHRA
from audioldm_lit.listening.page import page as made
from audioldm_lit.listening.scheme import CHECKS

from browser import needs_chromium, opened
from panels import built

pytestmark = [needs_chromium, pytest.mark.slow]
RATER = '<img src=x onerror="alert(3)"> 花子 \U0001f415'


def listen(page, place):
    """Hear a sound by its key; switching to one near its end hears too little of it, as people find too."""
    button = page.locator("button.play").nth(place)
    for _ in range(20):
        if button.get_attribute("aria-pressed") == "false" and "heard" not in button.get_attribute("class"):
            page.keyboard.press(str(place + 1))
        if button.and_(page.locator(".heard")).count():
            return
        page.wait_for_timeout(150)
    raise AssertionError(f"sound {place + 1} was never heard")


def rate(page):
    """Answer everything of a trial; answers are numbers and choices that differ."""
    for place in range(page.locator("button.play").count()):
        listen(page, place)
    for place, slider in enumerate(page.locator("input[type=range]").all()):
        slider.fill(str(95 - 13 * place))
    for place, asked in enumerate(page.locator("fieldset").all()):
        asked.locator("label").nth(place).click()


def on_page(page):
    """What is answered on a page, and how many sounds were heard."""
    answered = "(all) => all.map((one) => [one.name, one.value, one.checked])"
    return page.locator("#answers input").evaluate_all(answered), page.locator("button.heard").count()


@pytest.mark.parametrize(
    ("scheme", "language", "settings"),
    [
        (DCASE2023(), "ja", {"color_scheme": "dark", "viewport": {"width": 390, "height": 800}}),
        (MUSHRA(), "en", {"color_scheme": "light"}),
        (ABX(), "en", {"color_scheme": "dark"}),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str | dict) else "",
)
def test_a_rater_comes_to_the_end_and_the_file_holds_what_was_said(scheme, language, settings, tmp_path, browser):
    test = built(tmp_path, scheme, clips=1)
    (tmp_path / "test.html").write_text(made(test, language), encoding="utf-8")
    with opened(browser, tmp_path / "test.html", **settings) as found:
        page = found.page
        assert page.locator("h1").text_content() == "<b>Test</b> 試験"
        assert found.violations() == []
        page.fill("#rater", RATER)
        page.keyboard.press("Enter")
        page.keyboard.press("Enter")  # not before everything is heard and answered
        assert page.locator("#practice-note").is_visible()
        rate(page)
        assert found.violations() == []
        page.keyboard.press("Enter")
        captions, titles, halfway = set(), [], len(test.test.asked) // 2
        while not page.locator("#end").is_visible():
            titles.append(page.text_content("#trial-title"))
            captions.add(page.text_content("#caption"))
            rate(page)
            if len(titles) == halfway:  # a reload in the middle of a trial
                before = on_page(page)
                page.reload()
                page.locator("#trial-title", has_text=titles[-1]).wait_for()
                assert on_page(page) == before
            page.locator("#trial-title").focus()
            page.keyboard.press("Enter")
            assert len(titles) <= len(test.test.asked)
        assert found.violations() == []
        page.fill("#comment", RATER)
        with page.expect_download() as download:
            page.click("#download")
        file = tmp_path / "answers" / download.value.suggested_filename
        download.value.save_as(file)
        assert found.complaints == []
    assert len(titles) == len(test.test.asked)
    assert captions - {""} <= {trial.caption for trial in test.test.trials}
    ((one,), errors) = read_all([file], test.test)
    assert (errors, one.rater) == ([], RATER)
    content = json.loads(file.read_text(encoding="utf-8"))
    assert content["comment"] == RATER
    beeps = [trial.id for trial in test.test.asked if trial.kind == "check"]
    assert [content["ratings"][trial]["beeps"] for trial in beeps if content["ratings"][trial]["beeps"] != {}] != []
    assert len(beeps) == CHECKS


def test_the_page_tells_no_system_and_two_raters_have_two_orders(tmp_path, browser):
    test = built(tmp_path, DCASE2023(), clips=4)
    html = made(test, "en")
    assert not [word for word in ("adapted", "recorded", "base/", '"system"', str(tmp_path)) if word in html]
    (tmp_path / "test.html").write_text(html, encoding="utf-8")
    orders = []
    with opened(browser, tmp_path / "test.html") as found:
        for name in ("Anna", "Ben", " anna "):
            found.page.fill("#rater", name)
            found.page.keyboard.press("Enter")
            kept = found.page.evaluate("() => state.order().map((trial) => trial.id)")
            orders.append(kept)
            found.page.evaluate("() => { state.leave(); location.reload(); }")
            found.page.wait_for_load_state()
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])
    assert orders[0][0] == test.test.trials[0].id
