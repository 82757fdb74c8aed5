"""The report in a real browser: it plays, its keys and choices work, and nothing that it shows is executed."""

import pytest

from audioldm_lit.report.page import write_report

from browser import needs_chromium, opened
from finished import CLIPS, finished_run

pytestmark = [needs_chromium, pytest.mark.slow]

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"' onclick=alert(3) \u202egnp.exe 𠮷🦊 $\\frac{a}$ {{1}}"


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    write_report(folder / "report.html", [finished_run(folder / "run", copied=True, heard=8)])
    return folder / "report.html"


def until(page, true: str) -> None:
    """Wait for an expression; Playwright's own way needs `eval`, which the page forbids."""
    for _ in range(200):
        if page.evaluate(true):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"never {true}")


def heard(page) -> int:
    """Which take of the current player sounds, by the gains of what runs."""
    return page.evaluate("Player.playing ? Player.playing.gains.findIndex((gain) => gain.gain.value > 0.5) : -1")


def test_players_play_and_keys_switch_without_a_gap(browser, report):
    with opened(browser, report) as found:
        page = found.page
        card = page.locator("#players .player").first
        card.locator(".play").hover()
        until(page, "players.get(current)?.buffers")  # decoded before it is asked for
        card.locator(".play").click()
        until(page, "Player.playing !== null")
        assert heard(page) == 0
        began = page.evaluate("Player.playing.began")
        page.keyboard.press("3")
        until(page, "Player.playing === null || Player.playing.gains[2].gain.value > 0.9")
        assert page.evaluate("(Player.playing ?? players.get(current)).began") == began  # it went on where it was
        assert card.locator('.choose[aria-pressed="true"]').inner_text().startswith("3")
        until(page, "Player.playing === null")  # it ends by itself
        page.keyboard.press("ArrowLeft")
        assert page.evaluate("players.get(current).duration - players.get(current).at") == pytest.approx(0.25)
        page.keyboard.press(" ")
        until(page, "Player.playing !== null")
        page.keyboard.press("ArrowDown")
        page.keyboard.press(" ")
        until(page, "Player.playing === players.get(document.querySelectorAll('#players .player')[1])")
        assert found.complaints == []


def test_prompts_are_chosen_by_class_and_sorted_by_score(browser, report):
    with opened(browser, report) as found:
        page = found.page
        page.select_option("#class", "rain")
        names = page.locator("#players .player:visible header p bdi").all_text_contents()
        assert names == [name for name, _, label in CLIPS if label == "rain"]
        page.select_option("#class", "")
        page.select_option("#sort", "best")
        names = page.locator("#players .player:visible header p bdi").all_text_contents()
        assert names == [name for name, _, _ in reversed(CLIPS)]  # the last clips gained most
        page.select_option("#sort", "worst")
        assert page.locator("#players .player:visible header p bdi").all_text_contents() == [name for name, _, _ in CLIPS]
        assert found.complaints == []


@pytest.mark.parametrize("options", [{"color_scheme": "dark"}, {"viewport": {"width": 360, "height": 740}}])
def test_it_can_be_used_by_everybody(browser, report, options):
    with opened(browser, report, **options) as found:
        assert found.violations() == []
        content, window = found.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert content <= window  # nothing sticks out to the side
        assert found.complaints == []


def test_hostile_names_are_shown_and_not_executed(browser, tmp_path):
    clips = [(f"{number} {HOSTILE}", f"{HOSTILE} {number}", HOSTILE) for number in range(6)]
    write_report(tmp_path / "report.html", [finished_run(tmp_path / "<img src=x onerror=alert(4)>", clips, copied=True)])
    with opened(browser, tmp_path / "report.html") as found:
        page = found.page
        page.locator("#players .player .play").first.click()
        page.select_option("#class", HOSTILE)
        assert page.locator("#players .player:visible").count() == 2
        title = page.locator("#players .player h3").first
        title.scroll_into_view_if_needed()
        until(page, "document.querySelector('#players .player h3').innerText")  # what was out of sight is not drawn at once
        assert HOSTILE in title.inner_text()
        assert page.locator("main script, main img[src=x]").count() == 0
        assert found.complaints == []


@pytest.mark.parametrize("width", [1100, 360])
def test_a_link_leads_to_its_part_whatever_was_not_drawn_before(browser, report, width):
    with opened(browser, report, viewport={"width": width, "height": 700}) as found:
        found.page.locator('nav a[href="#metrics"]').click()
        found.page.wait_for_timeout(500)
        assert abs(found.page.evaluate("document.getElementById('metrics').getBoundingClientRect().top")) < 5


def test_a_command_is_copied(browser, report):
    with opened(browser, report, permissions=["clipboard-read", "clipboard-write"]) as found:
        found.page.locator("button[data-copy]").first.click()
        until(found.page, "document.getElementById('said').textContent")
        assert found.page.evaluate("navigator.clipboard.readText()").startswith("python -m audioldm_lit ")
