"""Training on few, incomplete or augmented clips: what a run proves of its data, and what variants change."""

import json
import pickle
from pathlib import Path

import pytest
import torch
import yaml
from audiomentations import Gain, PitchShift

from audioldm_lit.backbone import Backbone
from audioldm_lit.cli import main
from audioldm_lit.data.augmentation import Augmentation
from audioldm_lit.data.augmented import AugmentedDataset
from audioldm_lit.data.esc50 import ESC50
from audioldm_lit.data.mixing import Mix
from audioldm_lit.data.stream import TrainingStream
from audioldm_lit.training.cache import Cache

import layouts
from runs import EMBEDDED, REPOSITORY, SHORT, arguments, run_folder

STRONG = {
    "class_path": "audioldm_lit.data.augmentation.Augmentation",
    "init_args": {
        "variants": 2,
        "transforms": [{"class_path": "audiomentations.Gain", "init_args": {"p": 1.0}}],
        "mix": {"class_path": "audioldm_lit.data.mixing.Mix", "init_args": {"probability": 0.5}},
    },
}


# ---------------------------------------------------------------- proof of what was trained on


def proof(data: dict, backbone: Backbone, folder: Path) -> dict:
    """What a run on this data leaves in `clips.json`."""
    clips, cache = ESC50(**data, duration=SHORT), Cache(folder, backbone, audio_embeds=False)
    clips.setup("fit")
    encoded = {}
    for split in ("train", "val"):
        cache.fill(clips.datasets[split])
        encoded[split] = cache.read(clips.datasets[split])
    return {split: {"sha256": one.fingerprint(), "clips": one.contents()} for split, one in encoded.items()}


def test_runs_on_the_same_clips_prove_it_and_others_do_not(workdir, tiny_folder, backbone):
    data = {**layouts.esc50(workdir / "esc50", takes=1), "shots": 2}
    main(["fit", *arguments(tiny_folder, data, steps=1)])
    first = json.loads((run_folder(workdir) / "clips.json").read_text())
    assert first == proof(data, backbone, workdir)
    assert json.loads((run_folder(workdir) / "result.json").read_text())["training_clips_sha256"] == first["train"]["sha256"]
    assert len(first["train"]["clips"]) == 6
    others = [proof({**data, **changes}, backbone, workdir) for changes in ({"seed": 3}, {"shots": 3}, {"caption": "a {label}"})]
    assert len({one["train"]["sha256"] for one in (first, *others)}) == 4
    assert first["val"] == others[0]["val"] == others[1]["val"]
    layouts.tone(workdir / "esc50" / "audio" / next(iter(first["train"]["clips"])), 333)
    again = proof(data, backbone, workdir)["train"]
    assert list(again["clips"]) == list(first["train"]["clips"])
    assert again["sha256"] != first["train"]["sha256"]


def test_coverage_is_shown_and_stands_in_result_and_passport(workdir, tiny_folder, cli, caplog, aisfx_at_hand):
    data = layouts.audiocaps(workdir / "caps")
    (workdir / "caps" / "test" / "Yte-_0000000.wav").unlink()
    options = arguments(tiny_folder, {**data, "min_coverage": 0.7}, steps=1, config=REPOSITORY / "configs/data/audiocaps.yaml")
    status, out, err = cli("fit", *options)
    assert status == 0, err
    assert "train: the audio of 10 of 12 clips, 83.3 %" in caplog.text
    assert "val: the audio" not in caplog.text
    assert "train audio   │ 10 of 12 clips, 83.3 %" in out
    assert json.loads((run_folder(workdir) / "result.json").read_text())["coverage"]["train"] == "10 of 12 clips, 83.3 %"
    status, _, err = cli("test", *options, "--model.protocol", EMBEDDED)
    assert status == 0, err
    scores = json.loads((run_folder(workdir) / "scores.json").read_text())
    assert scores["generated"]["passport"]["coverage"] == {"test": "3 of 4 clips, 75.0 %"}


def test_a_run_resumed_on_other_clips_or_variants_is_refused(workdir, tiny_folder, cli):
    data = {**layouts.esc50(workdir / "esc50", takes=1), "shots": 2}
    assert cli("fit", *arguments(tiny_folder, data, steps=2))[0] == 0
    checkpoint = run_folder(workdir) / "checkpoints" / "last.ckpt"
    (workdir / "strong.yaml").write_text(yaml.safe_dump(STRONG))
    status, _, err = cli("fit", *arguments(tiny_folder, {**data, "fold": 2}, steps=4), "--ckpt_path", checkpoint)
    assert status == 2
    assert "error: --ckpt_path: was trained on other data, `train` differs" in err
    options = [*arguments(tiny_folder, data, steps=4), "--ckpt_path", checkpoint]
    assert "`augmentation` differs" in cli("fit", *options, "--data.init_args.augmentation", "strong.yaml")[2]
    assert cli("fit", *options)[0] == 0
    assert cli("test", *arguments(tiny_folder, {**data, "fold": 3}), "--ckpt_path", checkpoint)[0] == 0


# ---------------------------------------------------------------- variants


@pytest.fixture
def clips(tmp_path):
    return ESC50(**layouts.esc50(tmp_path), duration=0.64).waveforms("train")


def test_the_clips_come_first_as_they_are_and_variants_differ_from_them_and_each_other(clips):
    varied = AugmentedDataset(clips, Augmentation(variants=3, transforms=[PitchShift(p=1.0)]), seed=0)
    count = len(clips)
    assert len(varied) == 4 * count
    for index in (0, count - 1):
        same = [varied[variant * count + index] for variant in range(4)]
        assert torch.equal(same[0]["waveform"], clips[index]["waveform"])
        assert {one["id"] for one in same} == {clips.clips[index].id}
        assert len({one["waveform"].numpy().tobytes() for one in same}) == 4
        assert len({varied.content_key(variant * count + index) for variant in range(4)}) == 4
    assert varied.content_key(0) == clips.content_key(0)


def test_a_mixture_names_and_hangs_on_its_partner(clips):
    varied = AugmentedDataset(clips, Augmentation(variants=1, mix=Mix(probability=1.0)), seed=0)
    index = len(clips)
    item, key = varied[index], varied.content_key(index)
    others = [clip for clip in clips.clips if clip.label != clips.clips[0].label]
    partner = next(
        clip for clip in clips.clips[1:] if item["caption"] in (clip.caption, f"{clips.clips[0].caption} and {clip.caption}")
    )
    assert varied.caption(index) == item["caption"]
    for clip in {*others, partner} - {partner}:
        layouts.tone(clip.path, 77)
    assert AugmentedDataset(clips, varied.augmentation, seed=0)[index]["caption"] == item["caption"]
    for clip in clips.clips[1:]:
        layouts.tone(clip.path, 99)
    assert AugmentedDataset(clips, varied.augmentation, seed=0).content_key(index) != key


def test_variants_survive_the_way_to_a_worker_process(clips):
    varied = AugmentedDataset(clips, Augmentation(variants=1, transforms=[Gain(p=1.0)]), seed=0)
    varied.content_key(0)
    assert torch.equal(pickle.loads(pickle.dumps(varied))[len(clips)]["waveform"], varied[len(clips)]["waveform"])


def test_a_variant_hangs_on_seed_and_settings(clips):
    index = len(clips)
    keys = [
        AugmentedDataset(clips, Augmentation(variants=2, transforms=[Gain(min_gain_db=low, p=1.0)]), seed).content_key(index)
        for low, seed in ((-12.0, 0), (-12.0, 1), (-6.0, 0))
    ]
    assert len(set(keys)) == 3


def test_every_pass_takes_every_clip_once_and_all_variants_come_in_time():
    stream = list(TrainingStream(5, 5, 200, 0, 0, 1, seed=0, variants=3))
    for start in range(0, 1000, 5):
        assert sorted(index % 5 for index in stream[start : start + 5]) == list(range(5))
    counts = [sum(index // 5 == variant for index in stream) for variant in range(3)]
    assert min(counts) > 280  # of 333 expected, 15 standard deviations would be 224
    assert list(TrainingStream(5, 5, 200, 7, 1, 5, seed=0, variants=3)) == stream[36::5]


def test_an_augmented_run_trains_encodes_once_and_validates_on_clips_as_they_are(workdir, tiny_folder, cli):
    data = {**layouts.esc50(workdir / "esc50", takes=1), "shots": 2}
    status, _, err = cli("fit", *arguments(tiny_folder, data, steps=2))
    assert status == 0, err
    plain = json.loads((run_folder(workdir) / "result.json").read_text())
    (workdir / "strong.yaml").write_text(yaml.safe_dump(STRONG))
    options = [*arguments(tiny_folder, data, steps=2), "--data.init_args.augmentation", workdir / "strong.yaml"]
    options += ["--model.time_mask", "audioldm_lit.training.time_mask.TimeMask"]
    assert cli("fit", *options)[0] == 0
    result = json.loads((run_folder(workdir) / "result.json").read_text())
    assert result["training_clips"] == plain["training_clips"] == 6
    assert result["training_clips_sha256"] == plain["training_clips_sha256"]
    assert result["held_out_loss_before"] == plain["held_out_loss_before"]
    assert result["held_out_loss_after"] != plain["held_out_loss_after"]
    cached = sorted(workdir.rglob("cache/**/*.safetensors"))
    assert cli("fit", *options, "--trainer.fast_dev_run", "true")[0] == 0
    assert sorted(workdir.rglob("cache/**/*.safetensors")) == cached
