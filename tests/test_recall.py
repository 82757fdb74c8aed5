"""Conditions that recall training clips: what is remembered, how texts find it, and that it travels with the adapter."""

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from audioldm_lit.adapters.base import inject, trainable
from audioldm_lit.adapters.composed import Composed
from audioldm_lit.adapters.files.adapter_file import load_adapter, save_adapter
from audioldm_lit.adapters.peft import PeftAdapter
from audioldm_lit.adapters.recall import Recall
from audioldm_lit.adapters.textual_inversion import TextualInversion
from audioldm_lit.backbone import Backbone
from audioldm_lit.conditioning import Centroid, Interpolated, Recalled, Retrieval
from audioldm_lit.data.esc50 import ESC50
from audioldm_lit.diffusion import NoisePrediction
from audioldm_lit.errors import InputError
from audioldm_lit.inference.blending import AdaptedCopy, AdapterSetting, Blend
from audioldm_lit.training.recalling import check_recall

import layouts
import tiny
from runs import REPOSITORY, SHORT, arguments, run_folder

CENTROID = REPOSITORY / "configs" / "conditioning" / "centroid.yaml"


def unit(rng: np.random.Generator, count: int, width: int = 16) -> np.ndarray:
    values = rng.standard_normal((count, width))
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values).float()


def recalled(conditioning: Recalled, embeds: np.ndarray, *clips: object) -> np.ndarray:
    """What texts are read as once the clips are remembered."""
    sounds, words = conditioning.remembered(*clips)
    backbone = tiny.backbone()
    backbone.text_encoder.config.projection_dim = embeds.shape[1]
    recall = Recall(len(sounds), conditioning.neighbours, conditioning.strength, conditioning.by_words)
    recall.inject(backbone)
    backbone.memory.sounds.copy_(sounds)
    if words is not None:
        backbone.memory.words.copy_(words)
    return recall.prompt_embeds(backbone, ["text"] * (len(embeds) - 1) + [""], tensor(embeds)).double().numpy()


def mixed(text: np.ndarray, mean: np.ndarray, strength: float) -> np.ndarray:
    point = (1 - strength) * text + strength * mean / np.linalg.norm(mean)
    return point / np.linalg.norm(point)


@pytest.mark.parametrize("strength", [1.0, 0.3])
def test_a_text_becomes_the_normalised_mean_of_its_class_and_the_empty_text_stays(strength):
    rng = np.random.default_rng(0)
    text, audio, classes = unit(rng, 9), unit(rng, 9), list("abcabcaab")
    rows = [[place for place, name in enumerate(classes) if name == one] for one in "abc"]
    asked = unit(rng, 6)
    words = np.stack([text[row].mean(0) / np.linalg.norm(text[row].mean(0)) for row in rows])
    expected = [mixed(one, audio[rows[np.argmax(words @ one)]].mean(0), strength) for one in asked]
    found = recalled(Centroid(strength), asked, tensor(text), tensor(audio), classes)
    assert found[:-1] == pytest.approx(np.stack(expected)[:-1], abs=1e-6)
    assert found[-1] == pytest.approx(asked[-1], abs=1e-6)


def test_a_text_becomes_the_normalised_mean_of_the_clips_that_sound_nearest_to_it():
    rng = np.random.default_rng(1)
    text, audio, asked = unit(rng, 9), unit(rng, 9), unit(rng, 6)
    audio = audio[:1] + 0.01 * audio  # nearer to each other than bfloat16 tells
    audio /= np.linalg.norm(audio, axis=1, keepdims=True)
    expected = [mixed(one, audio[np.argsort(-(audio @ one))[:3]].mean(0), 1.0) for one in asked]
    with torch.autocast("cpu", torch.bfloat16):  # as in training
        found = recalled(Retrieval(3), asked, tensor(text), tensor(audio), ["a"] * 9)
    assert found[:-1] == pytest.approx(np.stack(expected)[:-1], abs=1e-6)


def test_an_interpolated_condition_lies_on_the_circle_between_caption_and_sound_anywhere_alike():
    text, audio = torch.eye(2)
    points = Interpolated(0.0).draw(
        text.expand(4000, 2), audio.expand(4000, 2), torch.zeros(2), [torch.Generator().manual_seed(n) for n in range(4000)]
    )
    assert points.norm(dim=1).numpy() == pytest.approx(1, abs=1e-6)
    shares = np.sort((points[:, 1] / points.sum(dim=1)).numpy())
    assert shares == pytest.approx((np.arange(4000) + 0.5) / 4000, abs=0.03)  # Kolmogorov's bound, of one in a thousand


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: Centroid(0.0), "strength: is 0.0"),
        (lambda: Retrieval(0), "neighbours: is 0"),
        (lambda: Retrieval(4).check(["a"] * 3), "neighbours: is 4, and there are 3 training clips"),
        (lambda: Centroid().check(["a", "b"]), "takes the mean of a class, and none of the 2 has more than one training clip"),
    ],
)
def test_what_cannot_be_recalled_is_refused(made, message):
    with pytest.raises(InputError, match=message):
        made()


def test_generation_recalls_prompts_and_not_what_guidance_steers_away_from(tmp_path):
    adapted, sounds = tiny.backbone(), torch.eye(2, 32)
    adapter = Composed([PeftAdapter(options={"r": 2}, targets=["conv_in"]), Recall(2)])
    added = inject(adapter, adapted)
    adapted.memory.sounds.copy_(sounds)
    base, weights = tiny.backbone(), {**trainable(adapted), **added}
    save_adapter(tmp_path / "a.safetensors", adapter, weights, base.fingerprint("unet"), NoisePrediction())
    blend = Blend(base, [AdaptedCopy.load(AdapterSetting(tmp_path / "a.safetensors"), base)])
    plain, recalled = blend.encode_text(["a dog"])[0].chunk(2)
    assert torch.allclose(recalled, sounds[(sounds @ plain).argmax()], atol=1e-6)
    assert torch.equal(blend.encode_negative("a dog"), plain.repeat(2))


def test_a_word_that_is_trained_cannot_be_replaced_too(tmp_path):
    data = ESC50(**layouts.esc50(tmp_path, takes=1), duration=SHORT)
    data.setup("fit")
    backbone = tiny.backbone()
    TextualInversion().inject(backbone)
    with pytest.raises(InputError, match=r"replaces what texts are read as, and model.adapter trains text_encoder"):
        check_recall(Centroid(), backbone, data)


@pytest.mark.slow
def test_what_is_remembered_is_of_training_clips_alone_resumes_bit_for_bit_and_travels_with_the_adapter(workdir, tiny_folder, cli):
    data = {**layouts.esc50(workdir / "data", takes=1), "shots": 2}
    words = [*arguments(tiny_folder, data, steps=2), "--model.conditioning", CENTROID]
    checked = ["--trainer.val_check_interval", 1, "--checkpoint.save_top_k", -1]
    status, _, err = cli("fit", *words, *checked)
    assert status == 0, err
    run = run_folder(workdir)
    weights = load_file(run / "adapter.safetensors")
    clips = ESC50(**data, duration=SHORT)
    clips.setup("fit")
    train, backbone = clips.datasets["train"], tiny.backbone()
    embeds = {clip.id: backbone.encode_audio(train.waveform(place)[None])[0] for place, clip in enumerate(train.clips)}
    labels = sorted({clip.label for clip in train.clips})
    means = [torch.stack([embeds[clip.id] for clip in train.clips if clip.label == label]).mean(0) for label in labels]
    expected = torch.nn.functional.normalize(torch.stack(means), dim=-1)
    assert torch.allclose(weights["memory.sounds"], expected, atol=1e-5)

    adapted = Backbone.load(tiny_folder)
    adapter, _ = load_adapter(run / "adapter.safetensors", adapted)
    captions = [next(clip.caption for clip in train.clips if clip.label == label) for label in labels]
    read = adapter.prompt_embeds(adapted, captions, adapted.encode_text(captions))
    assert torch.allclose(read, weights["memory.sounds"], atol=1e-6)

    first, last = (run / "checkpoints" / name for name in ("best-step=000001.ckpt", "last.ckpt"))
    status, _, err = cli("fit", *words, *checked, "--ckpt_path", first)
    assert status == 0, err
    whole, resumed = (torch.load(path, weights_only=True) for path in (last, run_folder(workdir) / "checkpoints" / "last.ckpt"))
    assert whole["state_dict"].keys() == resumed["state_dict"].keys()
    assert all(torch.equal(value, resumed["state_dict"][name]) for name, value in whole["state_dict"].items())

    status, out, err = cli("test", *words, "--ckpt_path", last)
    assert status == 0, err
    assert "test/loss" in out
    plain = yaml.safe_load(CENTROID.read_text()) | {"init_args": {"strength": 0.5}}
    (workdir / "half.yaml").write_text(yaml.safe_dump(plain))
    status, _, err = cli("test", *words, "--model.conditioning", "half.yaml", "--ckpt_path", last)
    assert status == 2
    assert "was trained with" in err
    short = ["--sampler.num_inference_steps", 2, "--duration", SHORT, "--prompt", captions[0]]
    status, _, err = cli("generate", "--backbone", tiny_folder, "--adapter", run / "adapter.safetensors", *short)
    assert status == 0, err
