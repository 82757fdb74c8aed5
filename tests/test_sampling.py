import pytest
import torch

from audioldm_lit import seeding
from audioldm_lit.diffusion import CleanPrediction, FlowPrediction, NoisePrediction, VelocityPrediction, levels, prediction_of
from audioldm_lit.errors import InputError
from audioldm_lit.inference.deep_features import DeepFeatures
from audioldm_lit.inference.editing import Recording
from audioldm_lit.inference.generation import Generation, generate_clips
from audioldm_lit.inference.manifest import Entry
from audioldm_lit.inference.sampling import Sampler
from audioldm_lit.inference.windows import Windows
from audioldm_lit.vocoders.griffin_lim import GriffinLim

import tiny

KEYS = [(0, f"prompt {i}", 0) for i in range(3)]


def generate(backbone, keys, batch_size=8, window=None, **settings):
    entries = [Entry(prompt, prompt, seed, candidate) for seed, prompt, candidate in keys]
    sampler, cond = Sampler(num_inference_steps=3, **settings), backbone.encode_text([entry.prompt for entry in entries])
    generation = Generation(backbone, sampler, backbone.encode_text([""])[0], 10_240, window=window)
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
        ({"guidance_scale": float("nan")}, "guidance_scale: is nan"),
        ({"guidance_interval": (700, 100)}, r"guidance_interval: is \[700, 100\]"),
        ({"cache_interval": 0}, "cache_interval: is 0; give 1"),
        ({"vocoder": "hifigan"}, "vocoder: is 'hifigan'; give own or griffin_lim"),
    ],
)
def test_wrong_settings_are_named(settings, named):
    with pytest.raises(InputError, match=named):
        Sampler(**settings)


# ---------------------------------------------------------------- longer than the trained window


def test_what_fits_into_the_window_is_generated_as_without(backbone):
    steps = backbone.latent_shape(10_240)[1]
    assert torch.equal(generate(backbone, KEYS[:1], window=steps), generate(backbone, KEYS[:1]))
    assert not torch.equal(generate(backbone, KEYS[:1], window=steps // 2), generate(backbone, KEYS[:1]))


@pytest.mark.parametrize(("frames", "width"), [(16, 16), (17, 16), (24, 16), (40, 16), (30, 8)])
def test_windows_together_see_every_latent_once(frames, width):
    """Of a model that looks at each latent alone they must give its predictions."""
    seen = []

    def model(latents, timesteps, cond):
        seen.append(latents.shape[2])
        return 3 * latents + timesteps[:, None, None, None]

    latents, timesteps = torch.randn(2, 8, frames, 4), torch.tensor([7, 9])
    assert torch.allclose(Windows(model, width)(latents, timesteps, None), model(latents, timesteps, None), atol=1e-5)
    assert set(seen[:-1]) == {width}


# ---------------------------------------------------------------- from a recording


class Oracle(torch.nn.Module):
    """Knows the clean latents that it is to make: the noise it predicts is right at every timestep."""

    def __init__(self, backbone, clean):
        super().__init__()
        self.scheduler, self.clean, self.inputs, self.timesteps = backbone.scheduler, clean, [], []

    def forward(self, latents, timesteps, cond):
        self.inputs.append(latents)
        self.timesteps.append(int(timesteps[0]))
        alpha_bar = self.scheduler.alphas_cumprod[timesteps.long()][:, None, None, None]
        return (latents - alpha_bar.sqrt() * self.clean) / (1 - alpha_bar).sqrt()


def edited(backbone, scheduler, clean, edit):
    """Latents of two clips and the oracle that made them."""
    oracle, generators = Oracle(backbone, clean), [seeding.generator(place) for place in range(2)]
    noise = seeding.normal(generators, clean.shape[1:])
    sampler = Sampler(scheduler, num_inference_steps=10, guidance_scale=1.0)
    cond = torch.zeros(2, 4)
    return sampler.latents(oracle, cond, cond[0], noise, generators, NoisePrediction(), edit=edit), oracle, noise


@pytest.mark.parametrize("kind", [NoisePrediction, VelocityPrediction, CleanPrediction, FlowPrediction])
@pytest.mark.parametrize("scheduler", ["DDIMScheduler", "EulerAncestralDiscreteScheduler"])  # the second knows no clean latents
def test_what_a_model_predicts_is_sampled_as_such(backbone, scheduler, kind):
    wanted = torch.randn(2, 8, 16, 16, generator=torch.Generator().manual_seed(1))
    schedule = kind().scheduler(backbone.scheduler)

    class Says(Oracle):
        def forward(self, latents, timesteps, cond):
            return kind().target(wanted, super().forward(latents, timesteps, cond), levels(schedule, timesteps.long()))

    generators, cond = [seeding.generator(place) for place in range(2)], torch.zeros(2, 4)
    noise = seeding.normal(generators, wanted.shape[1:])
    made = Sampler(scheduler, 10, 1.0).latents(Says(backbone, wanted), cond, cond[0], noise, generators, kind())
    assert torch.allclose(made, wanted, atol=5 * 0.0015**0.5)


@pytest.mark.parametrize(
    "name", ["Nope", "FlowMatchEulerDiscreteScheduler", "EDMEulerScheduler", "CogVideoXDDIMScheduler", "DDIMInverseScheduler",
             "DPMSolverMultistepInverseScheduler", "RePaintScheduler", "UnCLIPScheduler", "VQDiffusionScheduler"]
)  # fmt: skip
def test_a_scheduler_for_other_noise_or_the_other_way_is_refused(name):
    with pytest.raises(InputError, match=f"^sampler.scheduler: is '{name}', which cannot sample an AudioLDM; name"):
        Sampler(name)


@pytest.mark.parametrize(("name", "steps"), [("DDIMScheduler", 1001), ("LCMScheduler", 60), ("PNDMScheduler", 1)])
def test_more_or_fewer_steps_than_a_scheduler_takes_are_one_sentence(backbone, name, steps):
    with pytest.raises(InputError, match=f"^sampler.num_inference_steps: is {steps}, which {name} refuses .*; give another"):
        Sampler(name, steps).steps(backbone, prediction_of(backbone.scheduler))


@pytest.mark.parametrize("scheduler", ["DDIMScheduler", "DPMSolverMultistepScheduler", "EulerDiscreteScheduler"])
def test_inside_is_made_and_outside_stays(backbone, scheduler):
    recorded, wanted = torch.randn(1, 8, 16, 16), torch.randn(2, 8, 16, 16)
    free = torch.zeros(1, 1, 16, 16)
    free[:, :, 4:9, 2:7] = 1
    made, oracle, noise = edited(backbone, scheduler, wanted, Recording(recorded, free, strength=1.0))
    inside = free.bool().expand_as(made)
    assert torch.equal(made[~inside], recorded.expand_as(made)[~inside])
    assert torch.allclose(made[inside], wanted[inside], atol=5 * 0.0015**0.5)  # the schedule ends with noise of variance 0.0015
    # Nothing of the recording is in what is free: it begins as pure noise.
    assert torch.allclose(oracle.inputs[0][inside], noise[inside], atol=1e-2)


def test_an_edit_begins_at_the_recording_with_the_noise_of_its_strength(backbone):
    recorded = torch.randn(1, 8, 16, 16)
    edit = Recording(recorded, torch.ones(1, 1, 16, 16), strength=0.6)
    made, oracle, noise = edited(backbone, "DDIMScheduler", recorded.expand(2, -1, -1, -1), edit)
    assert oracle.timesteps == [501, 401, 301, 201, 101, 1]
    alpha_bar = torch.cumprod(1 - torch.linspace(0.0015**0.5, 0.0195**0.5, 1000) ** 2, 0)[501]
    assert torch.allclose(oracle.inputs[0], alpha_bar.sqrt() * recorded + (1 - alpha_bar).sqrt() * noise, atol=1e-5)
    assert torch.allclose(made, (1 - 0.0015) ** 0.5 * recorded + 0.0015**0.5 * noise, atol=1e-4)  # as noisy as the schedule ends


@pytest.mark.parametrize(
    ("part", "named"),
    [
        ({"span": (0.4, 0.2)}, r"--span: is \[0.4, 0.2\]; give two times from 0 to 0.64 s"),
        ({"span": (0.7, 0.9)}, "--span: is"),
        ({"band": (4000, 1000)}, "--band: is"),
        ({"band": (9000, 10_000)}, "--band: is .* up to 8000 Hz"),
    ],
)
def test_a_part_that_is_not_in_the_recording_is_named(backbone, part, named):
    with pytest.raises(InputError, match=named):
        Recording.encode(backbone, torch.zeros(10_240), 1.0, **part)


def test_span_and_band_reach_outwards_to_latents(backbone):
    edit = Recording.encode(backbone, torch.randn(10_240), 1.0, span=(0.05, 0.13), band=(1000.0, 2000.0))
    times, rows = edit.free[0, 0].any(1).nonzero().flatten(), edit.free[0, 0].any(0).nonzero().flatten()
    assert times.tolist() == [1, 2, 3]  # of 40 ms each
    bins = torch.arange(64)
    centres = 200 / 3 * (bins + 1) * 45.245640471924965 / 65  # Slaney's scale to 8 kHz is linear up to 1 kHz, 15 mel
    first = int((centres < 1000).sum())  # bin
    assert rows[0] == first // 4
    assert edit.free.sum() == len(times) * len(rows)


# ---------------------------------------------------------------- fewer passes


def test_guidance_acts_within_its_interval_alone(backbone):
    assert torch.equal(generate(backbone, KEYS, guidance_interval=(0, 1000)), generate(backbone, KEYS))
    assert torch.equal(generate(backbone, KEYS, guidance_interval=(999, 1000)), generate(backbone, KEYS, guidance_scale=1.0))
    rows = []
    backbone.unet.register_forward_pre_hook(lambda module, args, kwargs: rows.append(len(args[0])), with_kwargs=True)
    generate(backbone, KEYS, guidance_interval=(200, 600))  # at timesteps 667, 334 and 1
    assert rows == [3, 6, 3]


def test_deep_features_are_kept_between_steps(backbone):
    """Against a UNet that computes everything and is then given the older features in their place."""
    unet, cond, steps = backbone.unet, backbone.encode_text(["rain"]), torch.tensor([601, 401, 201])
    inputs, kept = torch.randn(3, 1, 8, 16, 16), []

    def older(module, args, output):
        kept.append(output)
        return kept[len(kept) - 1 - (len(kept) - 1) % 2]

    with unet.up_blocks[0].register_forward_hook(older):
        expected = [backbone(each, step[None], cond) for each, step in zip(inputs, steps, strict=True)]
    computed = []
    with unet.mid_block.resnets[0].register_forward_hook(lambda *_: computed.append(1)), DeepFeatures(backbone, 2) as features:
        for each, step, wanted in zip(inputs, steps, expected, strict=True):
            features.next_step()
            assert torch.equal(backbone(each, step[None], cond), wanted)
    assert len(computed) == 2
    assert torch.equal(backbone(inputs[1], steps[1][None], cond), generate_once(backbone, inputs[1], steps[1], cond))


def generate_once(backbone, latents, step, cond):
    """What the UNet predicts when nothing is kept."""
    return type(backbone).build(tiny.CONFIGS, tiny.tokenizer())(latents, step[None], cond)


def test_features_of_another_number_of_rows_are_not_taken(backbone):
    both = generate(backbone, KEYS, guidance_interval=(200, 600), cache_interval=3)
    assert torch.allclose(both, generate(backbone, KEYS, batch_size=1, guidance_interval=(200, 600), cache_interval=3), atol=1e-6)
