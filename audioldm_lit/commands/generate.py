"""The verb `generate`."""

import json as jsonlib
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console

from audioldm_lit.adapters.files.adapter_file import trust as trust_modules
from audioldm_lit.assets.finding import find_model
from audioldm_lit.assets.licence import check_licence
from audioldm_lit.audio.level import Level, excess
from audioldm_lit.audio.waveform import write
from audioldm_lit.backbone import Backbone, VocoderName
from audioldm_lit.console.markup import escape
from audioldm_lit.console.stages import Stage, say
from audioldm_lit.device import device_named
from audioldm_lit.diffusion import prediction_of
from audioldm_lit.errors import InputError
from audioldm_lit.health.captions import caption_problems
from audioldm_lit.inference.blending import AdaptedCopy, AdapterSetting, Blend, copy_backbone
from audioldm_lit.inference.candidates import Group, Judge, Keep, groups, missing
from audioldm_lit.inference.carried import carried_sampler
from audioldm_lit.inference.editing import EditSetting
from audioldm_lit.inference.effect import measure_effect, show
from audioldm_lit.inference.generation import BATCH, Generation, generate_clips
from audioldm_lit.inference.journal import MANIFEST, Journal
from audioldm_lit.inference.prompt_file import read_prompts
from audioldm_lit.inference.sampling import Sampler
from audioldm_lit.networks.published import Heads
from audioldm_lit.places import NANO
from audioldm_lit.storage.atomic_write import atomic_write
from audioldm_lit.storage.gather import join
from audioldm_lit.storage.paths import accepts_strings

LONGEST = 3600  # seconds: what is decoded at once takes memory by its length
TOLD = 5  # warnings; of more their number
SOFTER = "softer_db"  # key of a clip's row
HEARD = 4  # prompts on which the effect of an adapter is measured


@accepts_strings
def generate(
    prompt: str | list[str] | None = None,
    prompts: Path | None = None,
    out: Path = Path("generated"),
    backbone: str = NANO,
    heads: Heads = "as_saved",
    adapter: Path | AdapterSetting | list[Path | AdapterSetting] | None = None,
    duration: float | None = None,
    audio: Path | None = None,
    strength: float | None = None,
    span: tuple[float, float] | None = None,
    band: tuple[float, float] | None = None,
    peak: float | None = None,
    lufs: float | None = None,
    seed: int = 0,
    num_candidates: int = 1,
    keep: Keep = "all",
    judge: str | None = None,
    negative_prompt: str = "",
    sampler: Sampler | None = None,
    batch_size: int = BATCH,
    device: str = "auto",
    precision: Literal["float32", "bfloat16"] = "float32",
    commercial: bool = False,
    trust: Sequence[str] = (),
    json: Path | None = None,
) -> dict[str, Any]:
    """Generate sound from text, with the base model or with any number of adapters.

    The manifest is written as it goes: the same command goes on where it was ended, and started by torchrun, processes share the
    clips.

    Args:
        prompt: A prompt, or a list of them: "rain on a roof", or '["rain on a roof", "a dog barking"]'.
        prompts: Text file with one prompt a line.
        out: Folder for the WAV files and manifest.json.
        backbone: Model folder in the diffusers layout, or a hub id that was fetched before.
        heads: Of the UNet's attention: `as_saved`, or `original`, those of the published models before they were converted.
        adapter: The adapter.safetensors of a run, or a list of such files, each alone or with its strength and the timesteps where
            it acts: '["a.safetensors", {"file": "b.safetensors", "strength": 0.5, "timesteps": [200, 1000]}]'. The base model
            alone where not given.
        duration: Seconds, up to an hour; by default the recording's that is given, or the length that the model was made for. What
            is longer than that is generated in overlapping windows.
        audio: A recording to begin from instead of pure noise.
        strength: How much of the recording is changed, above 0 and up to 1; by default 0.6, and 1 where span or band is given.
        span: Seconds of the recording, `[2, 3.5]`, between which sound is generated; the rest stays, as the decoder makes it.
        band: Hz, `[1000, 4000]`, between which sound is generated; the rest stays likewise.
        peak: Level of every clip's loudest sample in dB of full scale, such as -1; as generated where not given.
        lufs: Loudness of every clip in LUFS (ITU-R BS.1770-4), such as -23; as generated where not given. What would clip is made
            softer, and said.
        seed: Seed. A clip's noise belongs to (seed, prompt, candidate) alone.
        num_candidates: Clips per prompt.
        keep: `all` of them, or the `best` alone: the one in which CLAP hears the prompt most.
        judge: Folder of a CLAP, or a hub id of one that was fetched before, whose score of every clip goes into the manifest; by
            default, where the best is kept, the model's own, which conditioned the clips and so is the more biased judge.
        negative_prompt: What guidance steers away from.
        sampler: How to sample; by default as the adapter asks for, where it was made for a sampler of its own.
        batch_size: Clips generated at once; changes the speed, not the sound.
        device: `cpu`, `cuda`, `cuda:1`, `mps` or `auto`.
        precision: Arithmetic of the networks.
        commercial: Refuse a model whose licence is not known to allow commercial use.
        trust: Modules of adapter classes of your own, which are imported; an adapter file alone makes nothing run.
        json: File for the manifest's content, for programs.

    Returns:
        The manifest's content, with the folder of its clips as `folder`.
    """
    texts, edit, level = _texts(prompt, prompts), EditSetting(audio, strength, span, band), Level(peak, lufs)
    _check_numbers(duration, num_candidates, batch_size, keep)
    licence = check_licence(backbone, commercial)
    edit.check()
    trust_modules(trust)
    rank, ranks = join()
    target, adapters = device_named(device), _adapters(adapter)
    base = Backbone.load(backbone, heads).to(target)
    if rank == 0:
        say(f"licence of {backbone}, and of what is derived from it: {licence}")
        _warn([*texts, *([negative_prompt] if negative_prompt else [])], base)
    used = {"backbone": backbone, "heads": heads, "base": base.fingerprint("unet")}  # before adapters are blended into it
    scorer = _judge(base, backbone, keep, judge)
    if scorer and rank == 0:
        say(f"clips are judged by the CLAP of {scorer.model}")
    generation = _generation(base, adapters, texts, sampler, negative_prompt, edit, duration, quiet=rank > 0)
    level.check(generation.seconds)
    added = {"adapters": [{**asdict(each), "file": str(each.file)} for each in adapters]}
    kept = {"keep": f"best of {num_candidates}"} if keep == "best" else {}
    chosen = {**kept, **(scorer.spec() if scorer else {}), **edit.spec(), **level.spec()}
    journal = Journal(out, {**used, **added, **_how(generation, negative_prompt), "precision": precision, **chosen}, rank)
    batches = missing(groups(texts, seed, num_candidates, keep), journal, batch_size)[rank::ranks]
    before = len(journal)
    with torch.autocast(target.type, torch.bfloat16, enabled=precision == "bfloat16"):
        _write_clips(journal, generation, batches, batch_size, scorer, level)
    journal.finish()
    if rank == 0:
        _conclude(journal, generation, before, json)
    return {**jsonlib.loads((out / MANIFEST).read_text(encoding="utf-8")), "folder": str(out)}


def _warn(texts: Sequence[str], base: Backbone) -> None:
    """Say which texts the model hears in part only, or cannot understand, with the checks that `prepare` has for captions."""
    found = caption_problems(texts, texts, base.text_window.unheard)
    for problem in found[:TOLD]:
        say(f"warning: {problem.detail}; {problem.mend}")
    if len(found) > TOLD:
        say(f"warning: {len(found) - TOLD:,} more prompts like these")


def _check_numbers(duration: float | None, num_candidates: int, batch_size: int, keep: Keep) -> None:
    """Refuse what nothing can be generated with."""
    if duration is not None and not 0 < duration <= LONGEST:
        raise InputError("--duration", f"is {duration:g}", f"give a length in seconds above 0 and up to {LONGEST:,}")
    if num_candidates < 1 or batch_size < 1:
        raise InputError("--num_candidates and --batch_size", f"are {num_candidates} and {batch_size}", "give at least 1")
    if keep == "best" and num_candidates == 1:
        raise InputError("--keep best", "has one candidate to choose from", "give --num_candidates 3, for example")


def _judge(base: Backbone, name: str, keep: Keep, judge: str | None) -> Judge | None:
    """Who scores the clips, if anybody."""
    if judge is None and keep == "all":
        return None
    if judge is None and base.audio_encoder is None:
        mend = "give --judge the folder of a CLAP, or add audio_encoder/ and feature_extractor/ to the model's"
        raise InputError("--keep best", f"{name} has no CLAP audio tower to judge with", mend)
    return Judge(judge or str(find_model(name)))


def _generation(
    base: Backbone,
    adapters: Sequence[AdapterSetting],
    texts: Sequence[str],
    sampler: Sampler | None,
    negative: str,
    edit: EditSetting,
    duration: float | None,
    quiet: bool,
) -> Generation:
    """The base with the adapters, and how it generates."""
    made, num_samples, gain = edit.prepared(base, duration)
    sampler = sampler or carried_sampler([setting.file for setting in adapters if setting.strength]) or Sampler()
    _check_steps(sampler.steps(base, prediction_of(base.scheduler), made).tolist(), adapters, edit)
    window = base.latent_shape(round(base.window * base.sample_rate))[1]
    model = _blend(base, adapters, texts, sampler.vocoder, Console(emoji=False, quiet=quiet))
    return Generation(model, sampler, model.encode_negative(negative), num_samples, model.prediction, made, gain, window)


def _write_clips(
    journal: Journal,
    generation: Generation,
    batches: Sequence[Sequence[Group]],
    batch_size: int,
    judge: Judge | None,
    level: Level,
) -> None:
    """Generate batches, and write of each group that has none yet the one clip, or the best."""
    model, asked = generation.backbone, [[entry for group in batch for entry in group] for batch in batches]
    steps = sum(math.ceil(len(entries) / batch_size) for entries in asked) * len(generation.steps)
    with Stage(f"generating {sum(map(len, asked))} clips, steps", steps) as stage:
        for batch, entries in zip(batches, asked, strict=True):
            cond = model.encode_text([entry.prompt for entry in entries])
            made = dict(generate_clips(generation, entries, cond, batch_size, stage.advance))
            scores = judge.scores(entries, list(made.values()), model.sample_rate) if judge else [0.0] * len(made)
            of = dict(zip(entries, scores, strict=True))
            for group in batch:
                if not any(entry in journal for entry in group):
                    best = max(group, key=of.__getitem__)
                    waveform = made[best] * level.gain(made[best], model.sample_rate)
                    write(journal.folder / best.file, waveform, model.sample_rate)
                    told = {"clap_score": of[best]} if judge else {}
                    softer = {SOFTER: excess(waveform)} if excess(waveform) else {}
                    journal.add(best, **told, **softer)


def _how(generation: Generation, negative: str) -> dict[str, Any]:
    """Settings of a generation as they go into the manifest."""
    model = generation.backbone
    sizes = {"sample_rate": model.sample_rate, "num_samples": generation.num_samples}
    windows = {"window": model.window} if generation.seconds > model.window else {}  # seconds, see `Windows`
    return {"sampler": generation.sampler.spec(), "negative_prompt": negative, **sizes, **windows}


def _conclude(journal: Journal, generation: Generation, before: int, json: Path | None) -> None:
    """Say what is there, and write it where asked."""
    manifest = journal.folder / MANIFEST
    if json is not None:
        with atomic_write(json) as unfinished:
            unfinished.write_bytes(manifest.read_bytes())
    softer = [row[SOFTER] for row in journal.rows.values() if SOFTER in row]
    if softer:
        say(f"warning: {len(softer)} clips would have clipped and were made softer, by up to {max(softer):.1f} dB")
    there = f", {before} of them from before," if before else ""
    text = f"{len(journal)} clip{'s' * (len(journal) > 1)} of {generation.seconds:g} s{there} and {MANIFEST} in {journal.folder}"
    Console(emoji=False).print(escape(text), soft_wrap=True)


def _adapters(adapter: Path | AdapterSetting | Sequence[Path | AdapterSetting] | None) -> list[AdapterSetting]:
    """Every adapter with its strength and timesteps."""
    given = [] if adapter is None else [adapter] if isinstance(adapter, str | Path | AdapterSetting) else adapter
    adapters = [item if isinstance(item, AdapterSetting) else AdapterSetting(Path(item)) for item in given]
    for setting in adapters:
        setting.check()
    return adapters


def _check_steps(steps: Sequence[float], adapters: Sequence[AdapterSetting], edit: EditSetting) -> None:
    """Refuse an edit that nothing would be done for, and an adapter that would never act."""
    if not steps:
        mend = "give more of it, or more of --sampler.num_inference_steps"
        raise InputError("--strength", f"of {edit.amount:g} leaves none of the sampler's steps", mend)
    for setting in adapters:
        if not any(map(setting.acts_at, steps)):
            raise InputError(
                setting.file,
                f"none of the sampler's timesteps, {steps[0]} to {steps[-1]}, lies in {list(setting.timesteps)}",
                "widen timesteps, or take more of --sampler.num_inference_steps",
            )


def _blend(
    base: Backbone, adapters: Sequence[AdapterSetting], prompts: Sequence[str], vocoder: VocoderName, console: Console
) -> Blend:
    """The base with the adapters, after printing what each does at strength 1."""
    copies = []
    for setting in adapters:
        adapted = AdaptedCopy.load(setting, base)
        if vocoder != "own" and "vocoder" in adapted.parts:
            raise InputError("--sampler.vocoder", f"is {vocoder}, and {setting.file} adapts the model's own", "leave it out")
        effect = measure_effect(base, adapted.adapter, copy_backbone(adapted.backbone), adapted.prediction, prompts[:HEARD])
        show(effect, console, f"Effect of {setting.file}")
        copies.append(adapted)
    return Blend(base, copies)


def _texts(prompt: str | Sequence[str] | None, prompts: Path | None) -> list[str]:
    """Prompts from both sources, each once, in order."""
    if prompt is None and prompts is None:
        raise InputError("--prompt", "no prompt given", "use --prompt TEXT or --prompts FILE")
    texts = [] if prompt is None else read_prompts([prompt] if isinstance(prompt, str) else prompt, "--prompt")
    texts += [] if prompts is None else read_prompts(prompts, "--prompts")
    return list(dict.fromkeys(texts))
