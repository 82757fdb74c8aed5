"""Captions: what is found wrong with them, and what is left alone."""

import json
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audioldm_lit.assets.finding import find_model
from audioldm_lit.backbone import Backbone
from audioldm_lit.conditioning import Conditioning
from audioldm_lit.data.folder import Folder
from audioldm_lit.health.captions import FEW, WORDS, caption_problems
from audioldm_lit.networks.text_window import TextWindow
from audioldm_lit.places import NANO
from audioldm_lit.training.checks import check_captions

import layouts

ENGLISH = """
dog bark; a cow mooing; rain; snare drum; a snare drum hit; a pig grunting; cicadas chirping; a hi-hat hit
a djembe hit; pigeon, dove; door creak; a car horn; church bells; Sonar; Didgeridoo; a camera shutter
No audio no video; several sirens blaring; Fart; a metal door clangs; a digital alarm ringing; Faint engine noise
a person sobbing; Mains hum; Bass drum; a café at noon; ALARM CLOCK; A man talks while a dog barks in the distance
Water runs from a tap into a sink; An adult male is speaking, and a crowd applauds; TR-808 kick; jack-in-the-box
A large vehicle engine idles nearby then accelerates; Toilet flush; Ocean waves; a naïve melody on piano; piano solo
bossa nova; staccato cello; laser zap; cello; tuba; oboe; viola
""".replace("\n", ";").split(";")
ENGLISH = [caption.strip() for caption in ENGLISH if caption.strip()]

SENTENCES = {
    "German": "Ein Mann spricht, während im Hintergrund ein Hund bellt; Wasser läuft aus dem Hahn in ein Becken",
    "French": "Un homme parle pendant qu'un chien aboie au loin; L'eau coule du robinet dans un évier",
    "Spanish": "Un hombre habla mientras un perro ladra a lo lejos; El agua corre del grifo hacia el fregadero",
    "Italian": "Un uomo parla mentre un cane abbaia in lontananza; L'acqua scorre dal rubinetto nel lavandino",
    "Portuguese": "Um homem fala enquanto um cachorro late ao longe; A água corre da torneira para a pia",
    "Dutch": "Een man praat terwijl een hond blaft in de verte; Water stroomt uit de kraan in de gootsteen",
    "Polish": "Mężczyzna mówi, podczas gdy w oddali szczeka pies; Woda płynie z kranu do zlewu",
    "Chinese characters": "一个男人在说话，远处有狗在叫; 犬が吠える",
    "Cyrillic": "Мужчина говорит, а вдалеке лает собака; собака лает",
    "Hangul": "멀리서 개가 짖는 동안 한 남자가 말하고 있다; 개 짖는 소리",
    "Arabic": "رجل يتحدث بينما ينبح كلب في البعيد; كلب ينبح",
}
SHORT = """
Hund bellt; Regen auf dem Dach; eine Kuh muht; Glas zerbricht; eine Tür knarrt; chien qui aboie; pluie sur le toit
verre brisé; une porte grince; goutte d'eau; perro ladrando; lluvia en el techo; una puerta cruje; niños riendo
cane che abbaia; passi nella neve; una porta cigola; gocce d'acqua; cachorro latindo; chuva no telhado
vidro quebrando; gotas de água; hond blaft; regen op het dak; een deur kraakt; kinderen lachen; pies szczeka
deszcz na dachu; tłuczone szkło; dzieci się śmieją
""".replace("\n", ";").split(";")
SHORT = [caption.strip() for caption in SHORT if caption.strip()]
CLASSES = {
    "German": ["Hund", "Katze", "Regen", "Donner", "Uhr", "Hubschrauber", "Kettensäge", "Hahn", "Feuer", "Wellen"],
    "French": ["chien", "chat", "pluie", "tonnerre", "horloge", "hélicoptère", "tronçonneuse", "coq", "feu", "vagues"],
}


def kinds(captions, sources=None):
    return [problem.kind for problem in caption_problems(captions, sources or [str(i) for i in range(len(captions))])]


@pytest.mark.parametrize("caption", ENGLISH)
def test_english_is_left_alone_one_by_one(caption):
    assert kinds([caption]) == []


def test_english_is_left_alone_together():
    assert kinds(ENGLISH) == []


@pytest.mark.parametrize(
    ("language", "caption"), [(language, text.strip()) for language, texts in SENTENCES.items() for text in texts.split(";")]
)
def test_a_sentence_in_another_language_is_found_and_named(language, caption):
    (problem,) = caption_problems(["rain", caption], ["a", "b"])
    assert (problem.indices, problem.kind) == ((1,), "language")
    assert problem.detail.endswith(language)


def test_most_captions_of_three_words_in_another_language_are_found():
    three = [caption for caption in SHORT if len(caption.replace("'", " ").split()) >= WORDS]
    assert sum(map(bool, (kinds([caption]) for caption in three))) >= 0.8 * len(three)


def test_two_words_alone_are_never_told():
    assert not any(kinds([caption]) for caption in SHORT if len(caption.replace("'", " ").split()) < WORDS)


@pytest.mark.parametrize("language", CLASSES)
def test_single_words_are_told_only_by_the_whole_data_set(language):
    words = CLASSES[language]
    assert not any(kinds([word]) for word in words)
    assert kinds(words[: FEW - 1]) == []
    (problem,) = caption_problems(words, words)
    assert problem.kind == "language"
    assert problem.detail.endswith(language)
    assert len(problem.indices) >= 7


def test_a_foreign_caption_is_told_once():
    captions = [text.strip() for text in SENTENCES["German"].split(";")] + CLASSES["German"]
    indices = [index for problem in caption_problems(captions, captions) for index in problem.indices]
    assert sorted(set(indices)) == sorted(indices)
    assert {0, 1} <= set(indices)


def test_a_quotation_in_another_script_is_no_finding():
    assert kinds(["a woman greets the crowd with привет"]) == []


@pytest.mark.parametrize("caption", ["", "  ", "?!", "\U0001f415", "--"])
def test_a_caption_without_a_word_is_empty(caption):
    assert kinds(["rain", caption]) == ["empty"]


@pytest.mark.parametrize("caption", ["42", "808", "3-2-1"])
def test_a_number_is_poor_but_not_empty(caption):
    assert kinds(["rain", caption]) == ["number"]


@pytest.mark.parametrize(
    "caption",
    [
        "a cafÃ© at noon",
        "it\u2019s a b\ufffdrd",
        "donâ€™t knock",
        "a bell\x00",
        "\ufeffrain",
        "Ð´Ð¾Ð¶Ð´ÑŒ",
        "a\x85bird",
        "ð\x9f\x90\x95 barks",
    ],
)
def test_a_broken_encoding_is_found(caption):
    assert kinds(["rain", caption]) == ["garbled"]


@pytest.mark.parametrize(
    "caption", ["a café in São Paulo", "CAFÉ… at noon", "“rain” – on a roof", "Ångström’s bell", "rain\non a roof"]
)
def test_accents_and_quotes_are_not_garbled(caption):
    assert "garbled" not in kinds([caption])


@pytest.mark.parametrize("caption", ["dog_bark_03.wav", "Dog Bark.WAV", "dog_bark", "rain03", "1-100032-A-0", "take 2.flac"])
def test_a_file_name_is_found(caption):
    assert kinds(["rain", caption]) == ["file name"]


@pytest.mark.parametrize("caption", ["TR-808", "hi-hat", "jack-in-the-box", "808s", "Dr. Who"])
def test_a_name_is_no_file_name(caption):
    assert kinds([caption]) == []


def test_what_is_not_heard_is_told():
    captions = ["rain", "rain and then thunder"]
    (problem,) = caption_problems(captions, captions, lambda text: text[10:])
    assert (problem.indices, problem.kind) == ((1,), "long")
    assert problem.detail == "'rain and then thunder' is longer than the model reads, 'hen thunder' is not heard"


@pytest.mark.parametrize("name", [NANO, "tiny"])
def test_the_part_of_a_text_that_is_not_heard_changes_nothing_and_the_rest_does(name, tiny_folder):
    backbone = Backbone.load(tiny_folder if name == "tiny" else NANO)
    text = " ".join(f"a dog barks {number} times at 犬," for number in range(60))
    rest = backbone.text_window.unheard(text)
    assert rest
    assert text.endswith(rest)
    heard = text.removesuffix(rest)
    whole, other = backbone.encode_text([text, heard + rest[: len(rest) // 2]])
    assert torch.equal(whole, other)
    assert not torch.allclose(whole, backbone.encode_text([heard[: len(heard) // 2]]))
    assert backbone.text_window.unheard(heard[: len(heard) // 2]) == ""
    *told, more = backbone.text_window.warnings([text, text, *(f"{text} {number}" for number in range(7))])
    assert len(told) == 5
    assert more.startswith("3 more texts")
    assert TextWindow.load(find_model(name if name == NANO else tiny_folder)).unheard(text) == rest


def test_generate_says_what_it_cannot_hear(cli, tiny_folder):
    prompts = json.dumps(["rain " * 25 + "and thunder", "犬が吠える", "a dog barks"])
    short = ("--backbone", tiny_folder, "--duration", 0.16, "--sampler.num_inference_steps", 1, "--device", "cpu")
    status, _, err = cli("generate", "--prompt", prompts, *short)
    assert status == 0, err
    told = [line for line in err.splitlines() if line.startswith("warning: ")]
    assert re.search(r"is longer than the model reads, '.*thunder' is not heard; say what sounds first", told[0])
    assert told[1:] == ["warning: '犬が吠える' is not English, its letters are Chinese characters; translate to English"]


def test_a_free_caption_on_clips_of_different_sources_is_repeated():
    captions = [*ENGLISH, "A dog barks", "a dog  barks "]
    (problem,) = caption_problems(captions, [str(i) for i in range(len(captions))])
    assert (problem.indices, problem.kind) == ((len(ENGLISH), len(ENGLISH) + 1), "repeated")


def test_a_caption_of_one_source_is_not_repeated():
    assert kinds([*ENGLISH, "a dog barks", "a dog barks"], [*ENGLISH, "same", "same"]) == []


@pytest.mark.parametrize("shots", [2, 3, 50])
def test_class_names_are_not_repeated(shots):
    assert kinds([*["dog", "rain", "clock tick"] * shots, "door knock"]) == []


def test_clips_of_one_bad_caption_are_one_problem():
    (problem,) = caption_problems(["", "rain", "", ""], ["a", "b", "c", "d"])
    assert problem.indices == (0, 2, 3)


def test_captions_and_sources_must_be_as_many():
    with pytest.raises(ValueError, match="zip"):
        caption_problems(["rain", "wind"], ["a"])


TEXT = st.text(st.characters(), max_size=80) | st.text("ÃÂâ€©ðŸa é_-.0wav \x00\ud800", max_size=20)


@settings(max_examples=300)
@given(st.lists(TEXT, max_size=12))
def test_any_text_gets_problems_in_order_that_print_on_one_line(captions):
    problems = caption_problems(captions, [str(i) for i in range(len(captions))])
    assert problems == sorted(problems, key=lambda problem: problem.indices)
    for problem in problems:
        assert list(problem.indices) == sorted(set(problem.indices))
        assert set(problem.indices) <= set(range(len(captions)))
        assert (problem.detail + problem.mend).isprintable()


@settings(max_examples=100)
@given(st.lists(TEXT, max_size=8), st.randoms())
def test_the_order_of_clips_does_not_change_what_is_found(captions, random):
    order = list(range(len(captions)))
    random.shuffle(order)
    names = [str(i) for i in order]
    before = caption_problems(captions, [str(i) for i in range(len(captions))])
    after = caption_problems([captions[i] for i in order], names)
    found = {(p.kind, tuple(sorted(order[i] for i in p.indices))) for p in after}
    assert found == {(p.kind, p.indices) for p in before}


def test_fit_says_once_which_caption_it_does_not_hear(tmp_path, backbone, caplog):
    root = layouts.folder(tmp_path, takes=3)["root"]
    for path in sorted(root.rglob("*.wav")):
        path.with_suffix(".txt").write_text("rain " * 25 + "and thunder")
    data = Folder(root)
    data.setup("fit")
    with caplog.at_level("INFO"):
        check_captions(backbone, data, Conditioning(), generates=False)
    assert "".join(caplog.messages).count("thunder' is not heard") == 1
