"""Conformance of every shipped objective: each YAML under configs/objective is a case, found by glob."""

from pathlib import Path

import pytest
import torch
import yaml
from diffusers import DDIMScheduler
from hypothesis import given
from hypothesis import strategies as st
from jsonargparse import ArgumentParser
from scipy import stats

from audioldm_lit import seeding
from audioldm_lit.adapters.full import FullFineTune
from audioldm_lit.backbone import Backbone
from audioldm_lit.data.pairs import write_pairs
from audioldm_lit.diffusion import (
    CleanPrediction,
    FlowPrediction,
    NoisePrediction,
    Prediction,
    VelocityPrediction,
    levels,
    prediction_named,
    timesteps_of,
)
from audioldm_lit.errors import InputError
from audioldm_lit.inference.sampling import Sampler
from audioldm_lit.module import LitAudioLDM
from audioldm_lit.objectives.base import Objective
from audioldm_lit.objectives.consistency import ConsistencyDistillation
from audioldm_lit.objectives.contract import check_draws
from audioldm_lit.objectives.denoising import Clean, Epsilon, FlowMatching, Velocity
from audioldm_lit.objectives.preference import DirectPreference
from audioldm_lit.objectives.reconstruction import Reconstruction
from audioldm_lit.objectives.timesteps import Importance, LogitNormal, LowDiscrepancy, Uniform
from audioldm_lit.objectives.weighting import P2, Debiased, MinSNR
from audioldm_lit.training.checks import check_objective
from audioldm_lit.training.held_out_loss import grid, held_out_losses
from audioldm_lit.training.optimization import ObjectiveTraining

import tiny
from layouts import tone
from runs import SHORT

CONFIGS = sorted((Path(__file__).parent.parent / "configs" / "objective").glob("*.yaml"))
SIZE = (8, 16, 16)  # latents of the tiny model's window
OBJECTIVES = {NoisePrediction: Epsilon, VelocityPrediction: Velocity, CleanPrediction: Clean, FlowPrediction: FlowMatching}
KINDS = list(OBJECTIVES)
WEIGHTINGS = [MinSNR(), MinSNR(0.5), P2(), P2(0.5, 2.0), Debiased()]
# What the papers weight the squared error of the clean latents by, as a function of the signal-to-noise ratio.
OF_LATENTS = [
    lambda snr: snr.clamp(max=5),
    lambda snr: snr.clamp(max=0.5),
    lambda snr: snr / (1 + snr),
    lambda snr: snr / (2 + snr) ** 0.5,
    lambda snr: snr**0.5,
]


class Watched(DDIMScheduler):
    """A scheduler that remembers what it diffused."""

    def add_noise(self, original_samples, noise, timesteps):
        self.added = original_samples, noise
        return super().add_noise(original_samples, noise, timesteps)


class Oracle:
    """A backbone that knows latents and noise, errs by what it is told, and remembers what it was asked."""

    def __init__(self, scheduler, error=0.0):
        self.scheduler, self.error = scheduler, error

    def __call__(self, noisy_latents, timesteps, cond):
        self.asked, self.timesteps = noisy_latents, timesteps
        latents, drawn = self.scheduler.added
        error = self.error(timesteps)[:, None, None, None] if callable(self.error) else self.error
        return self.scheduler.prediction.target(latents, drawn, levels(self.scheduler, timesteps)) + error


def make(config: Path, folder: Path) -> Objective:
    """An objective as the command line makes it; where it generates clips, few, and where it learns from pairs, one."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Objective, "objective")
    block = yaml.safe_load(config.read_text())
    if "clips" in block.get("init_args", {}):
        block["init_args"] |= {"clips": 3, "sampler": {"num_inference_steps": 2}}
    if "seconds" in block.get("init_args", {}):
        block["init_args"]["seconds"] = 0.32
    if "pairs" in block.get("init_args", {}):
        block["init_args"]["pairs"] = str(folder / "pairs.csv")
        write_pairs(folder / "pairs.csv", [("tone", tone(folder / "low.wav", 200), tone(folder / "high.wav", 2000))])
    return parser.instantiate_classes(parser.parse_object({"objective": block})).objective


def schedule(prediction: Prediction) -> Watched:
    made = Watched.from_config(prediction.scheduler(DDIMScheduler.from_config(tiny.CONFIGS["scheduler"])).config)
    made.prediction = prediction  # what the oracle predicts
    return made


def snr(scheduler) -> torch.Tensor:
    alpha_bar = scheduler.alphas_cumprod.double()
    return alpha_bar / (1 - alpha_bar)


def generators(count=3, name="objective"):
    return [seeding.placed(seeding.number(name), i) for i in range(count)]


def draw(count, *size):
    return torch.randn(count, *(size or SIZE), generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def scheduler(request) -> Watched:
    return schedule(request.param())


@pytest.fixture
def latents() -> torch.Tensor:
    return draw(3, 8, 4, 4)


# ---------------------------------------------------------------------- every shipped objective


@pytest.fixture(scope="module", params=CONFIGS, ids=lambda path: path.stem)
def prepared(request, tmp_path_factory) -> tuple[Objective, Backbone]:
    """An objective and a tiny model as after some training, which the tests leave as they are."""
    folder, backbone = tmp_path_factory.mktemp(request.param.stem), tiny.backbone()
    made = make(request.param, folder)
    made.prepare(backbone, round(SHORT * backbone.sample_rate), folder)
    for weight in backbone.unet.parameters():
        weight.data += 0.01 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(5))
    return made, backbone


@pytest.fixture
def objective(prepared) -> Objective:
    return prepared[0]


def losses_of(objective, backbone, latents, drawn_from):
    cond = backbone.encode_text(["rain", "dog", "door"])[: len(latents)]
    heard = {"waveform": 0.1 * draw(3, 10240)[: len(latents)]} if objective.needs_waveform else {}
    return objective(backbone, schedule(objective.prediction), latents, cond, drawn_from, **heard)


def test_losses_are_one_a_sample_and_reach_the_model(prepared):
    objective, backbone = prepared
    trained = [backbone.get_submodule(part) for part in objective.trains if part != "text_encoder"]
    for network in trained:
        network.requires_grad_(True)
    losses = losses_of(objective, backbone, draw(3), generators())
    assert losses.shape == (3,)
    assert losses.isfinite().all()
    assert (losses > 0).all()
    losses.mean().backward()
    weights = [weight for network in trained for weight in network.parameters()]
    assert all(weight.grad.isfinite().all() and weight.grad.any() for weight in weights)
    for network in trained:
        network.requires_grad_(False).zero_grad()


def test_losses_depend_on_the_generators_alone(prepared):
    objective, backbone = prepared
    torch.manual_seed(0)
    losses = losses_of(objective, backbone, draw(3), generators())
    assert torch.equal(torch.random.get_rng_state(), torch.manual_seed(0).get_state())
    torch.manual_seed(1)
    assert torch.equal(losses_of(objective, backbone, draw(3), generators()), losses)
    assert not torch.isclose(losses_of(objective, backbone, draw(3), generators(name="other")), losses).any()
    assert check_draws(objective, backbone, 10240), "untried"


class GlobalNoise(Epsilon):
    """Adds noise of torch's global state, and counts its calls."""

    calls = 0

    def forward(self, backbone, scheduler, latents, cond, generators):
        self.calls += 1
        return super().forward(backbone, scheduler, latents + torch.randn_like(latents), cond, generators)


def test_an_objective_that_draws_from_the_global_state_is_refused_and_left_as_it_was(backbone):
    objective, state = GlobalNoise(), torch.get_rng_state()
    with pytest.raises(InputError, match="draw all that is random from `generators`"):
        check_draws(objective, backbone, 10240)
    assert objective.calls == 0
    assert torch.equal(torch.get_rng_state(), state)


class RunningMean(Epsilon):
    """Keeps a number that no checkpoint has."""

    mean = 0.0

    def forward(self, backbone, scheduler, latents, cond, generators):
        losses = super().forward(backbone, scheduler, latents, cond, generators)
        self.mean = 0.9 * self.mean + 0.1 * float(losses.detach().mean())
        return losses


def test_a_number_that_a_resumed_run_would_not_have_is_refused_unless_state_returns_it(backbone):
    with pytest.raises(InputError, match="changes its mean in forward, which a resumed run would begin anew; make it a buffer"):
        check_draws(RunningMean(), backbone, 10240)
    kept = type("Kept", (RunningMean,), {"state": lambda self: {"mean": self.mean}})
    assert check_draws(kept(), backbone, 10240)


class WithoutGenerators(Objective):
    def forward(self, backbone, scheduler, latents, cond):
        return latents.square().mean(dim=(1, 2, 3))


def test_a_forward_that_cannot_be_called_is_refused_with_its_signature(backbone):
    wanted = r"cannot be called .*write it as def forward\(self, backbone, scheduler, latents, cond, generators\)"
    with pytest.raises(InputError, match=wanted):
        check_objective(WithoutGenerators(), backbone, Sampler(), None)


def test_loss_of_a_sample_does_not_depend_on_its_neighbours(prepared):
    objective, backbone = prepared
    together = losses_of(objective, backbone, draw(3), generators())
    alone = losses_of(objective, backbone, draw(3)[:1], generators(1))
    assert torch.allclose(together[:1], alone, rtol=1e-4)


def test_right_answer_costs_nothing(objective):
    if isinstance(objective, ConsistencyDistillation | DirectPreference | Reconstruction):
        pytest.skip("what is right depends on another model, or on another sound")
    scheduler = schedule(objective.prediction)
    losses = objective(Oracle(scheduler), scheduler, draw(3), torch.zeros(3, 32), generators())
    assert torch.equal(losses, torch.zeros(3))


def test_nothing_goes_into_checkpoints(objective):
    kept = ObjectiveTraining(objective).state()
    assert not kept["weights"]
    assert not kept["optimizer"]


# ---------------------------------------------------------------------- the error


def test_schedule_is_audioldms(scheduler):
    betas = torch.linspace(0.0015**0.5, 0.0195**0.5, 1000, dtype=torch.float64) ** 2
    assert torch.allclose(scheduler.alphas_cumprod.double(), (1 - betas).cumprod(0), atol=1e-6)
    assert scheduler.alphas_cumprod[-1].item() == pytest.approx(1.42e-4, rel=0.01)


def test_wrong_answer_costs_its_square(scheduler, latents):
    objective = OBJECTIVES[type(scheduler.prediction)]()
    assert objective.prediction == scheduler.prediction
    loss = objective(Oracle(scheduler, 0.5), scheduler, latents, None, generators())
    assert torch.allclose(loss, torch.full((3,), 0.25))


@given(error=st.floats(1e-4, 1e2), c=st.floats(1e-2, 1e2))
def test_pseudo_huber_is_that_of_the_paper(error, c):
    scheduler = schedule(NoisePrediction())
    loss = Epsilon(huber=c)(Oracle(scheduler, error), scheduler, draw(2, 8, 4, 4), None, generators(2))
    error = torch.tensor(error, dtype=torch.float64)
    exact = 2 * c * ((error**2 + c**2).sqrt() - c)
    assert torch.allclose(loss.double(), exact.expand(2), rtol=1e-2 if error < 1e-2 else 1e-3)


def test_pseudo_huber_is_the_square_of_small_errors_and_in_proportion_to_large_ones(latents):
    scheduler = schedule(NoisePrediction())

    def loss(error):
        return Epsilon(huber=0.2)(Oracle(scheduler, error), scheduler, latents, None, generators())

    assert torch.allclose(loss(0.01), torch.full((3,), 1e-4), rtol=1e-2)
    assert torch.allclose(loss(200.0) / loss(100.0), torch.full((3,), 2.0), rtol=1e-2)


def test_offset_is_one_number_a_channel_and_part_of_the_noise():
    scheduler, latents, strength = schedule(NoisePrediction()), draw(500, 8, 4, 4), 0.3
    added = []
    for offset in (0.0, strength):
        model = Oracle(scheduler)
        Epsilon(noise_offset=offset)(model, scheduler, latents, None, generators(500))
        added.append(scheduler.added[1])
        alpha_bar = scheduler.alphas_cumprod[model.timesteps][:, None, None, None]
        assert torch.allclose(model.asked, alpha_bar.sqrt() * latents + (1 - alpha_bar).sqrt() * added[-1], atol=1e-5)
    offset = added[1] - added[0]
    assert torch.allclose(offset, offset[:, :, :1, :1].expand_as(offset), atol=1e-5)
    offset = offset[:, :, 0, 0].flatten()  # 4000 independent numbers
    assert stats.kstest(offset.double().numpy() / strength, "norm").pvalue > 1e-6
    assert len(offset.unique()) > 3990  # no sample's, no channel's is another's
    assert added[1].var().item() == pytest.approx(1 + strength**2, abs=5 * (2 / 64_000 + 2 * strength**4 / 4000) ** 0.5)


# ---------------------------------------------------------------------- weights by timestep


@pytest.mark.parametrize(("weighting", "of_latents"), zip(WEIGHTINGS, OF_LATENTS, strict=True))
def test_weight_is_the_papers_whatever_is_predicted(scheduler, weighting, of_latents):
    # an error of the clean latents is 1/sqrt(SNR) of it in the noise, 1/sqrt(1 - alpha_bar) in the velocity, and in that of the
    # straight path, epsilon - x_0, the sum of both
    timesteps, ratio = torch.arange(1000), snr(scheduler)
    squared = {NoisePrediction: ratio, VelocityPrediction: 1 + ratio, CleanPrediction: 1, FlowPrediction: (1 + ratio**0.5) ** 2}
    squared = squared[type(scheduler.prediction)]
    weights = weighting(scheduler, timesteps, scheduler.prediction)
    assert torch.allclose(weights.double() * squared, of_latents(ratio), rtol=1e-5)


def test_weights_of_minsnr_are_those_of_section_4(scheduler):
    ratio = snr(scheduler)
    below = {NoisePrediction: ratio, VelocityPrediction: ratio + 1, CleanPrediction: 1, FlowPrediction: (1 + ratio**0.5) ** 2}
    weights = MinSNR()(scheduler, torch.arange(1000), scheduler.prediction)
    assert torch.allclose(weights.double(), ratio.clamp(max=5) / below[type(scheduler.prediction)], rtol=1e-5)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_loss_is_weighted(scheduler, weighting, latents):
    model = Oracle(scheduler, 0.5)
    objective = OBJECTIVES[type(scheduler.prediction)](weighting=weighting)
    loss = objective(model, scheduler, latents, None, generators())
    assert torch.allclose(loss, 0.25 * weighting(scheduler, model.timesteps, scheduler.prediction))


def test_p2_without_gamma_weights_nothing():
    weights = P2(gamma=0.0)(schedule(NoisePrediction()), torch.arange(1000), NoisePrediction())
    assert torch.allclose(weights, torch.ones(1000), rtol=1e-6)


# ---------------------------------------------------------------------- timesteps


def probabilities(weights: torch.Tensor, bins: int) -> torch.Tensor:
    return (weights / weights.sum()).view(bins, -1).sum(1)


def logit_normal(mean: float, std: float, bins: int) -> torch.Tensor:
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64)
    return torch.from_numpy(stats.norm.cdf(torch.logit(edges), mean, std)).diff()


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Uniform(), lambda scheduler: torch.full((20,), 0.05)),
        (LowDiscrepancy(), lambda scheduler: torch.full((20,), 0.05)),
        (LogitNormal(), lambda scheduler: logit_normal(0.0, 1.0, 20)),
        (LogitNormal(-1.0, 0.5), lambda scheduler: logit_normal(-1.0, 0.5, 20)),
        (
            Importance(MinSNR()),
            lambda scheduler: probabilities(MinSNR()(scheduler, torch.arange(1000), scheduler.prediction).double(), 20),
        ),
        (Importance(Debiased()), lambda scheduler: probabilities(snr(scheduler) ** -0.5, 20)),
    ],
)
def test_timesteps_are_distributed_as_asked(sampling, expected):
    scheduler, count = schedule(NoisePrediction()), 20_000
    drawn = sampling(generators(count), scheduler, scheduler.prediction)
    observed = torch.bincount(drawn // 50, minlength=20).double()
    expected = expected(scheduler).double() * count
    filled = expected > 5  # the test holds where a bin expects a few
    assert observed[~filled].sum() <= expected[~filled].sum() + 5 * expected[~filled].sum().sqrt() + 5
    scale = observed[filled].sum() / expected[filled].sum()
    assert stats.chisquare(observed[filled], expected[filled] * scale).pvalue > 1e-6


@given(seed=st.integers(0, 2**32), first=st.integers(0, 10**6), count=st.integers(2, 256))
def test_every_stretch_of_the_stream_has_evenly_spread_timesteps(seed, first, count):
    scheduler = DDIMScheduler(num_train_timesteps=10**6, beta_end=1e-6)
    drawn = (
        LowDiscrepancy()([seeding.placed(seed, first + i) for i in range(count)], scheduler, NoisePrediction())
        .sort()
        .values.double()
        / 1e6
    )
    gaps = torch.cat([drawn, drawn[:1] + 1]).diff()
    assert gaps.max() * count < 1.9  # of independent numbers, the largest gap grows like log(count)


def test_logit_normal_with_a_high_mean_draws_much_noise():
    scheduler = schedule(NoisePrediction())
    drawn = [LogitNormal(mean)(generators(200), scheduler, scheduler.prediction) for mean in (-1.0, 0.0, 1.0)]
    amounts = [(1 - scheduler.alphas_cumprod[one]).mean() for one in drawn]
    assert amounts == sorted(amounts)


def test_importance_follows_what_is_predicted():
    kinds = NoisePrediction(), VelocityPrediction()
    drawn = [Importance(Debiased())(generators(2000), schedule(one), one).double().mean() for one in kinds]
    # 1/sqrt(SNR) is steep, sqrt(SNR) / (SNR + 1) almost symmetric
    assert drawn[0] > 800 > 700 > drawn[1]


@given(
    sampling=st.one_of(
        st.just(Uniform()),
        st.just(LowDiscrepancy()),
        st.builds(LogitNormal, st.floats(-50, 50), st.floats(1e-3, 1e3)),
        st.builds(Importance, st.sampled_from(WEIGHTINGS)),
    ),
    steps=st.integers(1, 4000),
    name=st.integers(0, 2**32),
)
def test_timesteps_are_in_the_schedule(sampling, steps, name):
    drawn = sampling(generators(8, name), DDIMScheduler(num_train_timesteps=steps, beta_end=1e-3), NoisePrediction())
    assert drawn.dtype == torch.int64
    assert drawn.device.type == "cpu"
    assert drawn.shape == (8,)
    assert ((drawn >= 0) & (drawn < steps)).all()


@pytest.mark.parametrize(
    ("sampling", "number"), [(Uniform(), torch.rand), (LogitNormal(), torch.randn), (Importance(MinSNR()), torch.rand)]
)
def test_one_number_is_drawn(sampling, number):
    used, fresh = generators(1)[0], generators(1)[0]
    sampling([used], schedule(NoisePrediction()), NoisePrediction())
    number((), generator=fresh)
    assert torch.equal(used.get_state(), fresh.get_state())


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_importance_trains_like_its_weighting(scheduler, weighting):
    def error(timesteps):
        return 0.1 + timesteps / 1000

    every = torch.arange(1000)
    weights = weighting(scheduler, every, scheduler.prediction).double()
    exact = (weights * error(every).double() ** 2).mean() / weights.mean()  # the weighted loss over all timesteps, exactly
    objective = OBJECTIVES[type(scheduler.prediction)](timesteps=Importance(weighting))
    losses = objective(Oracle(scheduler, error), scheduler, draw(4000, 1, 2, 2), None, generators(4000)).double()
    assert abs(losses.mean() - exact) < 5 * losses.std() / 4000**0.5


@pytest.mark.parametrize(
    ("made", "named"),
    [
        (lambda: Epsilon(huber=0.0), "huber: is 0.0"),
        (lambda: Epsilon(noise_offset=-0.1), "noise_offset: is -0.1"),
        (lambda: MinSNR(gamma=0.0), "MinSNR.gamma: is 0.0"),
        (lambda: P2(gamma=-1.0), "P2.gamma and P2.k: are -1.0 and 1.0"),
        (lambda: P2(k=0.0), "P2.gamma and P2.k: are 1.0 and 0.0"),
        (lambda: LogitNormal(std=0.0), "LogitNormal.std: is 0.0"),
    ],
)
def test_wrong_settings_are_named(made, named):
    with pytest.raises(InputError, match=named):
        made()


# ---------------------------------------------------------------------- what is predicted


@given(kind=st.sampled_from(KINDS), alpha_bar=st.floats(1e-4, 0.999), size=st.integers(1, 3), seed=st.integers(0, 2**32))
def test_noise_and_clean_latents_come_back_from_every_prediction(kind, alpha_bar, size, seed):
    latents, noise = torch.randn(2, size, 2, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    alpha_bar = torch.full((size,), alpha_bar, dtype=torch.float64)
    noisy = alpha_bar.sqrt()[:, None, None, None] * latents + (1 - alpha_bar).sqrt()[:, None, None, None] * noise
    output = kind().target(latents, noise, alpha_bar)
    bound = {"atol": 2e-5 / min(alpha_bar[0].item(), 1 - alpha_bar[0].item()) ** 0.5}  # an output is taken in float32
    assert torch.allclose(kind().noise(output, noisy, alpha_bar).double(), noise, **bound)
    assert torch.allclose(kind().clean(output, noisy, alpha_bar).double(), latents, **bound)


@pytest.mark.parametrize("kind", [NoisePrediction, VelocityPrediction, CleanPrediction])
def test_predictions_are_those_that_diffusers_calls_so(kind):
    scheduler = schedule(kind())
    latents, noise, output = draw(2, 8, 4, 4), draw(3, 8, 4, 4)[1:], draw(4, 8, 4, 4)[2:]
    scheduler.set_timesteps(20)
    step = scheduler.timesteps[4]
    noisy = scheduler.add_noise(latents, noise, step.expand(2))
    clean = kind().clean(output, noisy, levels(scheduler, step.expand(2)))
    assert torch.allclose(scheduler.step(output, step, noisy).pred_original_sample, clean, rtol=1e-3, atol=1e-3)


def test_an_euler_step_along_a_straight_path_is_one_of_ddim():
    scheduler, kind = schedule(FlowPrediction()), FlowPrediction()
    latents, noise = draw(2, 8, 4, 4), draw(4, 8, 4, 4)[2:]
    alpha_bar = levels(scheduler, torch.tensor([900, 300]))
    signal, amount = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    place = amount / (signal + amount)  # on the path, 0 where there is no noise
    point = (1 - place[0]) * latents + place[0] * noise
    assert torch.allclose(point * (signal[0] + amount[0]), signal[0] * latents + amount[0] * noise, atol=1e-5)
    output = torch.randn(latents.shape, generator=torch.Generator().manual_seed(3))
    euler = point + (place[1] - place[0]) * output
    noisy = point * (signal[0] + amount[0])
    says = [convert(output, noisy, alpha_bar[:1].expand(2)) for convert in (kind.clean, kind.noise)]
    assert torch.allclose(euler * (signal[1] + amount[1]), signal[1] * says[0] + amount[1] * says[1], atol=1e-4)


def test_a_schedule_of_its_own_is_part_of_a_prediction():
    base = DDIMScheduler.from_config(tiny.CONFIGS["scheduler"])
    prediction = VelocityPrediction({"rescale_betas_zero_snr": True})
    assert prediction.scheduler(base).alphas_cumprod[-1] < 1e-6 < base.alphas_cumprod[-1]
    assert prediction != VelocityPrediction()
    assert torch.equal(timesteps_of(base, levels(base, torch.arange(1000))), torch.arange(1000))


# ---------------------------------------------------------------------- the held-out loss, whatever the objective


def test_held_out_loss_is_that_of_the_noise_whatever_is_predicted(scheduler, latents):
    model, prediction = Oracle(scheduler, 0.5), scheduler.prediction
    losses = held_out_losses(model, scheduler, prediction, latents, None, ["a", "b", "c"], 4)
    assert losses.shape == (3, 4)
    right = held_out_losses(Oracle(scheduler), scheduler, prediction, latents, None, ["a", "b", "c"], 4)
    assert torch.allclose(right, torch.zeros(3, 4), atol=1e-9)
    # an error of 1 of the noise costs 1, of others as much as it moves the noise
    last = 0.25 * prediction.noise_error(levels(scheduler, model.timesteps)) ** 2
    assert torch.allclose(losses[:, -1], last, rtol=1e-3)


def test_held_out_loss_is_taken_at_the_base_s_noise_levels_whatever_schedule_was_trained_on(latents):
    base = schedule(VelocityPrediction())
    prediction = VelocityPrediction({"beta_end": 0.01})
    model, own = Oracle(base), prediction.scheduler(base)
    losses = held_out_losses(
        lambda noisy, steps, cond: model(noisy, torch.full((3,), 875), cond), base, prediction, latents, None, "abc", 4
    )
    assert torch.allclose(losses[:, -1], torch.zeros(3), atol=1e-9)
    asked = timesteps_of(own, levels(base, torch.tensor([375])))
    assert (own.alphas_cumprod[asked] - base.alphas_cumprod[375]).abs() < 2e-3
    assert asked != 375


def test_held_out_noise_belongs_to_the_clip(latents):
    scheduler = schedule(NoisePrediction())
    model = Oracle(scheduler)
    asked = []
    for order in ([0, 1, 2], [2, 0, 1]):
        held_out_losses(model, scheduler, scheduler.prediction, latents[order], None, ["abc"[i] for i in order], 1)
        asked.append(model.asked[[order.index(i) for i in range(3)]])
    assert torch.equal(*asked)


def test_held_out_timesteps_stand_in_the_middle_of_every_part(backbone):
    assert grid(backbone.scheduler, 4) == [125, 375, 625, 875]


def test_a_prediction_that_nothing_knows_is_refused(tiny_folder):
    class Older(Epsilon):
        prediction_type = "v_prediction"

    class Named(Epsilon):
        prediction = "v_prediction"

    for objective, problem in ((Older(), "has a prediction_type, 'v_prediction', which nothing reads"), (Named(), "no noise")):
        with pytest.raises(InputError, match=f"^model.objective: .*{problem}"):
            LitAudioLDM(FullFineTune(), str(tiny_folder), objective)
    for word in ("", "Epsilon", "flow_prediction"):
        with pytest.raises(InputError, match=f"predicts '{word}', of which the noise is not known"):
            prediction_named(word, "x")
