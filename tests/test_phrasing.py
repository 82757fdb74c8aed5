"""Phrasing: the texts of a caption, how they are drawn, cached and resumed, and what is refused."""

import json
import math
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from audiomentations import Gain
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from audioldm_lit.data.augmentation import Augmentation
from audioldm_lit.data.esc50 import ESC50
from audioldm_lit.data.mixing import Mix
from audioldm_lit.data.phrasing import Phrasing, read_paraphrases
from audioldm_lit.data.stream import TrainingStream
from audioldm_lit.errors import InputError
from audioldm_lit.training.cache import Cache

import layouts
from runs import REPOSITORY, SHORT, arguments, run_folder

CONFIGS = {path.stem: path for path in sorted((REPOSITORY / "configs" / "phrasing").glob("*.yaml"))}
TEMPLATES = ["{caption}", "the sound of {caption}", "{caption} again"]
WORDS = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs", "Cc"]), max_size=20).map(lambda text: f"a {text}")


@pytest.fixture
def paraphrases(tmp_path) -> Path:
    path = tmp_path / "paraphrases.yaml"
    path.write_text("dog: [a dog barks, barking]\nrain: [it rains]\n")
    return path


@pytest.fixture
def make(tmp_path):
    init_args = layouts.esc50(tmp_path / "esc50", takes=2)
    return lambda **changes: ESC50(**{"duration": SHORT, "batch_size": 4, **init_args, **changes})


def training(data: ESC50, max_steps: int = 12, step: int = 0, world_size: int = 1, rank: int = 0) -> list[tuple[str, str]]:
    """Id and text of everything that trains on a process, in order."""
    data.setup("fit")
    data.trainer = SimpleNamespace(
        max_steps=max_steps, accumulate_grad_batches=1, global_step=step, global_rank=rank, world_size=world_size
    )
    return [one for batch in data.train_dataloader() for one in zip(batch["id"], batch["caption"], strict=True)]


# ---------------------------------------------------------------- texts of a caption


def test_a_caption_has_its_words_and_paraphrases_in_every_template(paraphrases):
    phrasing = Phrasing("my {caption}", TEMPLATES[:2], paraphrases)
    assert phrasing.caption("dog") == "my dog"
    assert phrasing.texts("my dog") == [
        "my dog", "the sound of my dog", "my a dog barks", "the sound of my a dog barks", "my barking", "the sound of my barking",
    ]  # fmt: skip
    assert phrasing.texts("my wind") == ["my wind", "the sound of my wind"]


@pytest.mark.parametrize("path", CONFIGS.values(), ids=CONFIGS)
def test_a_file_gives_different_texts_that_hold_the_caption(path):
    phrasing = Phrasing(**yaml.safe_load(path.read_text())["init_args"])
    texts = phrasing.texts(phrasing.caption("dog bark"))
    assert len(set(texts)) == len(texts) > 2
    assert all("dog bark" in text for text in texts)


def test_a_constant_for_every_clip_is_no_mistake():
    assert Phrasing("<mine>", ["the sound of {caption}"]).texts("<mine>") == ["the sound of <mine>"]


@settings(max_examples=100)
@given(st.dictionaries(WORDS, st.lists(WORDS, min_size=1, max_size=3), min_size=1, max_size=4))
def test_json_and_yaml_say_the_same_and_words_stay_words(tmp_path_factory, captions):
    expected = {" ".join(one.split()): [" ".join(other.split()) for other in others] for one, others in captions.items()}
    if len(expected) < len(captions):
        return  # captions that differ in their spaces alone are one caption
    for name, text in (
        ("a.json", json.dumps(captions, ensure_ascii=False)),
        ("a.json", json.dumps(captions, ensure_ascii=False, indent=1)),
        ("a.yaml", yaml.safe_dump(captions, allow_unicode=True)),
    ):
        path = tmp_path_factory.getbasetemp() / name
        path.write_text(text, encoding="utf-8")
        assert read_paraphrases(path) == expected


def test_yes_and_numbers_are_words(tmp_path):
    (tmp_path / "a.yaml").write_text("808: [no, 1.50]\nyes:\n  - on\n")
    assert read_paraphrases(tmp_path / "a.yaml") == {"808": ["no", "1.50"], "yes": ["on"]}


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"training": []}, r"training: is empty; give at least one template"),
        ({"training": ["a sound"]}, r"training: 'a sound' leaves the caption out"),
        ({"training": ["{label}"]}, r"training: '\{label\}' has another field"),
        ({"training": ["{}"]}, r"training: '\{\}' has another field"),
        ({"training": ["{caption.x}"]}, r"training: '\{caption\.x\}' has another field"),
        ({"training": ["{caption!r}"]}, r"training: '\{caption!r\}' has another field"),
        ({"training": ["{caption"]}, r"training: '\{caption' is no template"),
        ({"every": "{captoin}"}, r"every: '\{captoin\}' has another field"),
        ({"every": " "}, r"every: ' ' has no word"),
    ],
)
def test_a_wrong_template_is_one_sentence(settings, message):
    with pytest.raises(InputError, match=rf"^data\.init_args\.phrasing\.init_args\.{message}") as error:
        Phrasing(**settings)
    assert str(error.value).endswith(".")


def test_paraphrases_of_nothing_are_refused(paraphrases):
    with pytest.raises(InputError, match="every: is '<mine>', which leaves no caption to paraphrase"):
        Phrasing("<mine>", paraphrases=paraphrases)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no captions"),
        ("[a, b]", "holds no captions"),
        ("dog: [barks\nrain", "is neither YAML nor JSON"),
        ("a: [b]\n---\nc: [d]\n", "is neither YAML nor JSON"),
        ("dog: barks", r"line 1: 'dog' has no list of paraphrases"),
        ("dog: [barks]\nrain: []", r"line 2: 'rain' has no list of paraphrases"),
        ("dog: [barks]\nrain:", r"line 2: 'rain' has no list of paraphrases"),
        ("dog: [barks]\n\ndog: [a dog]", r"line 3: 'dog' is listed twice"),
        ("dog: [barks]\nrain: [falls, '']", r"line 2: a caption or paraphrase is no text"),
        ("dog: [barks, [a, b]]", r"line 1: a caption or paraphrase is no text"),
        ("? [dog]\n: [barks]", r"line 1: a caption or paraphrase is no text"),
        ('dog: ["\\0 barks"]', r"line 1: a caption or paraphrase is no text"),
        (b"dog: [\xff]", "is not UTF-8"),
        ("[" * 5000, "is neither YAML nor JSON"),
    ],
)
def test_a_wrong_file_is_named_with_its_line(tmp_path, content, message):
    path = tmp_path / "a.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=rf"a\.yaml(, |: ){message}") as error:
        Phrasing(paraphrases=path)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"b\.yaml: no such file; correct data\.init_args\.phrasing\.init_args\.paraphrases"):
        Phrasing(paraphrases=tmp_path / "b.yaml")


def test_paraphrases_of_no_clip_s_caption_are_named(make, tmp_path):
    (tmp_path / "a.yaml").write_text("dog: [barks]\nraim: [it rains]\nzebra: [neighs]\n")
    data = make(phrasing=Phrasing(paraphrases=tmp_path / "a.yaml"))
    with pytest.raises(InputError, match=r"paraphrases: 'raim' is no clip's caption, as 2 of the 3 listed"):
        data.setup("fit")
    data.setup("test")  # where nothing is paraphrased


def test_paraphrases_of_clips_that_this_run_does_not_train_on_are_no_mistake(make, paraphrases):
    make(phrasing=Phrasing(paraphrases=paraphrases), classes=["dog", "rain"], num_train_clips=1).setup("fit")


# ---------------------------------------------------------------- draws


@settings(max_examples=60)
@given(st.integers(1, 12), st.sampled_from([1, 2, 3]), st.integers(1, 4), st.integers(1, 5), st.integers(1, 60), st.data())
def test_what_is_drawn_depends_on_the_place_in_the_stream_alone(num_clips, ranks, per_rank, variants, choices, data):
    batch_size, batches = ranks * per_rank, 9
    first, draws = data.draw(st.integers(0, batches)), (3, variants, choices)
    whole = list(TrainingStream(num_clips, batch_size, batches, 0, 0, 1, *draws))
    parts = [list(TrainingStream(num_clips, batch_size, batches, first, rank, ranks, *draws)) for rank in range(ranks)]
    assert [one for together in zip(*parts, strict=True) for one in together] == whole[first * batch_size :]
    assert all(0 <= one < num_clips * variants * choices for one in whole)
    plain = list(TrainingStream(num_clips, batch_size, batches, 0, 0, 1, 3, variants))
    assert [one % (num_clips * variants) for one in whole] == plain  # clips and variants come as they would without


def test_every_choice_comes_with_every_variant_equally_often():
    drawn = Counter(index // 5 for index in TrainingStream(5, 5, 2400, 0, 0, 1, seed=0, variants=2, choices=3))
    expected = 12_000 / 6
    assert set(drawn) == set(range(6))
    chi_squared = sum((count - expected) ** 2 / expected for count in drawn.values())
    assert chi_squared < 20.5  # exceeded by one in 1,000 streams (5 degrees of freedom)


def test_all_texts_of_a_clip_have_equally_many_choices(make, paraphrases):
    data = make(phrasing=Phrasing("{caption}", TEMPLATES[:2], paraphrases))
    data.setup("fit")
    clips = data.datasets["train"]
    assert clips.choices == math.lcm(6, 4, 2)
    for item in range(len(clips)):
        texts = Counter(clips.text(choice * len(clips) + item) for choice in range(clips.choices))
        assert set(texts.values()) == {clips.choices // len(clips.texts(item))}
        assert list(texts) == clips.texts(item)
    with pytest.raises(IndexError):
        clips[len(clips) * clips.choices]


def test_a_template_listed_twice_is_drawn_twice_as_often(make):
    drawn = training(make(phrasing=Phrasing(training=["{caption}", "{caption}", "a {caption}"])), max_steps=900)
    assert sum(text.startswith("a ") for _, text in drawn) / len(drawn) == pytest.approx(1 / 3, abs=0.032)  # four deviations


def test_texts_are_the_same_on_two_processes_and_after_a_resumption(make, paraphrases):
    settings = {"phrasing": Phrasing("my {caption}", TEMPLATES, paraphrases)}
    alone = training(make(**settings))
    assert len({text for _, text in alone}) > 10
    ranks = [training(make(**settings), world_size=2, rank=rank) for rank in (0, 1)]
    assert [one for pair in zip(*ranks, strict=True) for one in pair] == alone
    assert training(make(**settings), step=5) == alone[5 * 4 :]
    assert training(make(**settings, seed=1)) != alone
    assert [one for one, _ in training(make())] == [one for one, _ in alone]


def test_held_out_captions_keep_their_words_but_for_every(make, paraphrases):
    for every in ("{caption}", "<mine> {caption}"):
        data = make(phrasing=Phrasing(every, TEMPLATES, paraphrases))
        for stage, split in (("fit", "val"), ("test", "test")):
            data.setup(stage)
            clips = data.datasets[split]
            assert clips.choices == 1
            assert {item["caption"] for item in clips} == {every.format(caption=one) for one in ("dog", "rain", "sea waves")}
        assert {item["caption"] for item in data.waveforms("train")} == {item["caption"] for item in clips}


def test_variants_keep_their_sound_and_mixtures_come_in_templates(make, paraphrases):
    augmentation = Augmentation(variants=2, transforms=[Gain(p=1.0)], mix=Mix(probability=1.0))
    phrasing = Phrasing("{caption}", TEMPLATES, paraphrases)
    plain, phrased = (make(augmentation=augmentation, phrasing=one) for one in (None, phrasing))
    for data in (plain, phrased):
        data.setup("fit")
    before, after = plain.datasets["train"], phrased.datasets["train"]
    assert len(before) == len(after)
    for index in (0, len(before) // 3, len(before) - 1):
        chosen = index + (after.choices - 1) * len(after)
        assert before.content_key(index) == after.content_key(index)
        assert torch.equal(before[index]["waveform"], after[chosen]["waveform"])
        assert after[chosen]["caption"] == after.texts(index)[-1]
    mixture = next(item for item in range(len(after) // 3, len(after)) if " and " in after.caption(item))
    assert after.texts(mixture) == [template.format(caption=after.caption(mixture)) for template in TEMPLATES]


# ---------------------------------------------------------------- cache and runs


def test_each_text_is_embedded_once_and_items_carry_their_own(make, paraphrases, tmp_path, backbone):
    data = make(phrasing=Phrasing("{caption}", TEMPLATES, paraphrases))
    data.setup("fit")
    cache = Cache(tmp_path / "cache", backbone, audio_embeds=False)
    for clips in data.datasets.values():
        cache.fill(clips)
    encoded = cache.read(data.datasets["train"])
    texts = {text for item in range(len(encoded)) for text in encoded.clips.texts(item)}
    assert len(texts) == 3 * (3 + 2 + 1)
    assert sum(len(load_file(shard)["prompt_embeds"]) for shard in cache.texts.folder.iterdir()) == len(texts)
    assert len(encoded.contents()) == len(encoded)
    for index in (0, len(encoded) + 1, len(encoded) * encoded.choices - 1):
        item = encoded[index]
        assert item["caption"] == encoded.clips.text(index)
        assert torch.allclose(item["prompt_embeds"], backbone.encode_text([item["caption"]])[0], atol=1e-6)
        assert torch.equal(item["mean"], encoded[index % len(encoded)]["mean"])


def test_a_fingerprint_tells_every_setting_apart(paraphrases, tmp_path):
    (tmp_path / "b.yaml").write_text("dog: [a dog barks]\n")
    kinds = [{}, {"every": "a {caption}"}, {"training": TEMPLATES}, {"training": TEMPLATES[::-1]}, {"training": TEMPLATES[:2]},
             {"paraphrases": paraphrases}, {"paraphrases": tmp_path / "b.yaml"}]  # fmt: skip
    assert len({Phrasing(**kind).fingerprint for kind in kinds}) == len(kinds)
    assert Phrasing().fingerprint == Phrasing().fingerprint


def last(root: Path) -> Path:
    return run_folder(root) / "checkpoints" / "last.ckpt"


@pytest.mark.nightly
def test_a_phrased_run_validates_as_before_resumes_exactly_and_refuses_other_words(workdir, tiny_folder, cli):
    data = {**layouts.esc50(workdir / "data", takes=1), "shots": 2}
    phrased = ["--data.init_args.phrasing", CONFIGS["templates"], "--model.ema_decay", "null"]
    results = []
    for words in (["--model.ema_decay", "null"], phrased):
        status, _, err = cli("fit", *arguments(tiny_folder, data, steps=4), *words)
        assert status == 0, err
        results.append(json.loads((run_folder(workdir) / "result.json").read_text()))
    plain, other = results
    assert plain["held_out_loss_before"] == other["held_out_loss_before"]
    assert plain["held_out_loss_after"] != other["held_out_loss_after"]
    assert plain["training_clips_sha256"] == other["training_clips_sha256"]
    whole = torch.load(last(workdir), weights_only=True)["state_dict"]
    assert cli("fit", *arguments(tiny_folder, data, steps=2), *phrased)[0] == 0
    resumed = [*arguments(tiny_folder, data, steps=4), "--ckpt_path", last(workdir)]
    assert cli("fit", *resumed, *phrased)[0] == 0
    again = torch.load(last(workdir), weights_only=True)["state_dict"]
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    (workdir / "other.yaml").write_text(CONFIGS["templates"].read_text().replace("a recording of", "a take of"))
    for words in (["--data.init_args.phrasing", "other.yaml"], []):
        status, _, err = cli("fit", *resumed, *words, "--model.ema_decay", "null")
        assert status == 2
        assert "`phrasing` differs" in err.splitlines()[-1]
