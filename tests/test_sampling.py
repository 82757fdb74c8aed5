import pytest
import torch

from audioldm_lit import seeding
from audioldm_lit.errors import InputError
from audioldm_lit.inference.generation import Generation, generate_clips
from audioldm_lit.inference.manifest import Entry
from audioldm_lit.inference.sampling import Sampler
from audioldm_lit.vocoders.griffin_lim import GriffinLim

KEYS = [(0, f"prompt {i}", 0) for i in range(3)]


def generate(backbone, keys, batch_size=8, **settings):
    entries = [Entry(prompt, prompt, seed, candidate) for seed, prompt, candidate in keys]
    sampler, cond = Sampler(num_inference_steps=3, **settings), backbone.encode_text([entry.prompt for entry in entries])
    generation = Generation(backbone, sampler, backbone.encode_text([""])[0], 10_240)
    clips = dict(generate_clips(generation, entries, cond, batch_size))
    assert list(clips) == entries
    return torch.stack(list(clips.values()))


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_clip_does_not_depend_on_its_batch(backbone, eta):
    together = generate(backbone, KEYS, eta=eta)
    alone = generate(backbone, KEYS, batch_size=1, eta=eta)
    assert torch.allclose(together, alone, atol=1e-5 * float(together.abs().max()))


def test_seed_prompt_and_candidate_each_change_the_noise():
    entries = [Entry("rain", "", 0, 0), Entry("rain", "", 1, 0), Entry("dog", "", 0, 0), Entry("rain", "", 0, 1)]
    drawn = seeding.normal([seeding.generator(*entry.key) for entry in entries], (64,))
    assert len({tuple(row.tolist()) for row in drawn}) == len(entries)


def test_generator_of_a_key_is_the_same_everywhere():
    assert seeding.number(0, "rain", 0) == 8776338542403586548


def test_keys_do_not_run_together():
    assert seeding.number("a", "bc") != seeding.number("ab", "c")


def test_eta_adds_noise_and_guidance_matters(backbone):
    plain = generate(backbone, KEYS)
    assert not torch.allclose(plain, generate(backbone, KEYS, eta=1.0))
    assert not torch.allclose(plain, generate(backbone, KEYS, guidance_scale=1.0))


def test_latents_become_sound_by_the_vocoder_that_is_named(backbone):
    with_formula = generate(backbone, KEYS, vocoder="griffin_lim")
    assert not torch.allclose(with_formula, generate(backbone, KEYS), atol=1e-3)
    latents = torch.randn(1, *backbone.latent_shape(10_240))
    expected = GriffinLim(backbone.log_mel)(backbone.decode_mel(latents)[:, 0])[:, :10_000]
    assert torch.equal(backbone.decode(latents, 10_000, "griffin_lim"), expected)


def test_sampling_leaves_the_global_stream_alone(backbone):
    torch.manual_seed(5)
    expected = torch.rand(())
    torch.manual_seed(5)
    generate(backbone, KEYS, eta=1.0)
    assert torch.equal(torch.rand(()), expected)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"scheduler": "Foo"}, "scheduler: is 'Foo'"),
        ({"num_inference_steps": 0}, "num_inference_steps: is 0"),
        ({"eta": 2.0}, "eta: is 2"),
        ({"vocoder": "hifigan"}, "vocoder: is 'hifigan'; give own or griffin_lim"),
    ],
)
def test_wrong_settings_are_named(settings, named):
    with pytest.raises(InputError, match=named):
        Sampler(**settings)
