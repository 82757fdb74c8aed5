import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from audioldm_lit.cli import COMMANDS, LIGHTNING_VERBS, _spelt_out
from audioldm_lit.commands.generate import generate
from audioldm_lit.console.pages import page
from audioldm_lit.console.strict_parser import StrictParser
from audioldm_lit.data.base import AudioDataModule
from audioldm_lit.first_look import first_look
from scripts.help_pages import render, render_classes

import layouts
from runs import REPOSITORY, arguments

VERBS = [*LIGHTNING_VERBS, *COMMANDS]
DEMO = REPOSITORY / "configs" / "demo.yaml"
FOLDER = ("--data", "audioldm_lit.data.folder.Folder")
KENNEY = "audioldm_lit.data.kenney.KenneyEffects"
INNER = "model.objective.init_args.objective.init_args."
NEAREST = "is no setting of fit; the nearest is model.warmup_steps"
HEAVY = ("torch", "lightning", "diffusers", "transformers", "numpy", "pandas", "scipy", "matplotlib", "jsonargparse")
APART = """
import sys
from audioldm_lit.cli import main
try:
    main()
finally:
    open("loaded.txt", "w").write(" ".join(name for name in {heavy} if name in sys.modules))
"""


def apart(*words: object) -> tuple[int, str, str, list[str]]:
    """Run the command line in a process of its own; returns exit status, both outputs, and which heavy libraries were loaded."""
    command = [sys.executable, "-c", APART.format(heavy=HEAVY), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr, Path("loaded.txt").read_text().split()


def test_help_lists_every_verb(cli):
    status, out, _ = cli("--help")
    assert status == 0
    assert all(f"  {verb} " in out for verb in LIGHTNING_VERBS | COMMANDS)


def test_unknown_verb_is_named(cli):
    status, _, err = cli("foo")
    assert status == 2
    assert err.startswith("error: 'foo': is no verb")


@pytest.mark.parametrize("words", [["--trust", "nowhere"], ["--trust=nowhere"], ["--trust", "[nowhere]"]])
@pytest.mark.parametrize("verb", [["generate", "--prompt", "rain"], ["convert", "--source", DEMO, "--to", "peft", "--out", "out"]])
def test_a_module_to_trust_is_a_plain_word_or_a_list(workdir, cli, verb, words):
    status, _, err = cli(*verb, *words)
    assert status == 2
    assert "error: --trust: nowhere cannot be imported (" in err


@pytest.mark.parametrize("verb", VERBS)
def test_a_help_page_is_what_the_parser_says(verb):
    assert page(verb) == render(verb), "run python scripts/help_pages.py"


def test_the_settings_of_classes_are_what_the_parser_takes():
    assert page("classes") == render_classes(), "run python scripts/help_pages.py"


def test_help_names_each_setting_that_a_verb_takes(cli):
    status, out, _ = cli("fit", "--config", "anything.yaml", "--help")
    assert status == 0
    assert {"  --model.warmup_steps", "  --data", "  --ckpt_path", "  --config"} <= set(out.splitlines())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ("fit", "--config", DEMO, "--model.warmup_step", 3),
            "--model.warmup_step: is no setting of fit; the nearest is model.warmup_steps.",
        ),
        (("fit", "--model.warmup_step=3"), "--model.warmup_step: is no setting of fit; the nearest is model.warmup_steps."),
        (("test", "--trainer.callback+=x"), "--trainer.callback: is no setting of test; the nearest is trainer.callbacks."),
        (("generate", "--promt", "rain"), "--promt: is no setting of generate; the nearest is prompt."),
        (("curve", "--seeds", 1), "--seeds: is no setting of curve; see curve --help."),
        (("fit", "--config", "wrong.yaml"), f"wrong.yaml, model.warm_up_steps: {NEAREST}."),
        (("fit", "--config", "nope.yaml"), "nope.yaml: no such file; give --config a YAML file with settings."),
        (("fit", "-c", "nope.yaml"), "nope.yaml: no such file; give --config a YAML file with settings."),
        (("fit", "--config", "broken.yaml"), "broken.yaml: cannot be read as YAML (.*); correct it."),
        (
            ("fit", "--config", DEMO, "--data.init_args.shot", 3),
            rf"--data.init_args.shot: is no setting of {KENNEY}; the nearest is data.init_args.shots\.",
        ),
        (
            ("prepare", *FOLDER, "--data.labels", "x"),
            "--data.labels: is no setting of audioldm_lit.data.folder.Folder; --data.help .*Folder lists what is.",
        ),
        (("fit", "--config", "inner.yaml"), f"inner.yaml, {INNER}huberr: is no setting of .*Epsilon; the nearest is {INNER}huber."),
        (
            ("fit", "--config", "list.yaml"),
            "list.yaml, trainer.callbacks.1.fil: .*Stopwatch; the nearest is trainer.callbacks.1.file.",
        ),
        (("ablate", "--config", "nope.yaml"), "nope.yaml: no such file or folder; give --config a grid .*"),
        (("fit", "--config", DEMO, "--data.init_args.root", "nope"), "nope: no such folder; correct data.init_args.root."),
        (("prepare", *FOLDER, "--data.root", "nope"), "nope: no such folder; correct data.root."),
        (("prepare", "nope"), "nope: no such folder; correct data.init_args.root."),
        (("fit", "--folder", "nope"), "nope: no such folder; correct data.init_args.root."),
        (("fit", "--config", DEMO, "--ckpt_path", "nope.ckpt"), "nope.ckpt: no such file or folder; give --ckpt_path .*"),
        (("generate", "--prompt", "x", "--backbone", "nope"), "nope: no AudioLDM here; .*"),
        (("generate", "--prompt", "x", "--adapter", "nope.safetensors"), "nope.safetensors: no such file or folder; .*"),
        (("evaluate", "--generated", "nope", "--reference", "nope"), "nope: no such file or folder; give --generated .*"),
    ],
)
def test_a_mistyped_key_or_a_wrong_path_is_one_sentence_before_anything_heavy_is_loaded(workdir, words, sentence):
    (workdir / "wrong.yaml").write_text("model: {warm_up_steps: 3}\n")
    (workdir / "broken.yaml").write_text("model: [\n")
    epsilon = {"class_path": "audioldm_lit.objectives.denoising.Epsilon", "init_args": {"huberr": 1}}
    prior = {"class_path": "audioldm_lit.objectives.prior.PriorPreservation", "init_args": {"objective": epsilon}}
    (workdir / "inner.yaml").write_text(yaml.safe_dump({"model": {"objective": prior}}))
    callbacks = ["mine.Callback", {"class_path": "audioldm_lit.callbacks.stopwatch.Stopwatch", "fil": "x"}]
    (workdir / "list.yaml").write_text(yaml.safe_dump({"trainer": {"callbacks": callbacks}}))
    status, out, err, loaded = apart(*words)
    assert (status, out, loaded) == (2, "", [])
    assert re.fullmatch(f"error: {sentence}\n", err)


def test_help_loads_nothing_heavy(workdir):
    status, out, err, loaded = apart("fit", "--help")
    assert (status, out, err, loaded) == (0, page("fit"), "", [])


@pytest.mark.parametrize(
    "words",
    [
        ("--data.root", "nope", *FOLDER),  # Python reads from the left: what stands before the class may be of another
        ("--config", DEMO, "--data", "mine.Sounds", "--data.root", "made when asked for"),
        ("--config", DEMO, "--data.root", "nope", "--config", REPOSITORY / "configs" / "data" / "kenney.yaml"),
        ("--config", "{model: {seed: 1}}"),
        ("--data", KENNEY, "--data.help", KENNEY, "--data", "mine.Sounds", "--data.shot", "3"),
        ("--trainer.callbacks+=mine.Callback", "--trainer.callbacks.patience=3", "--model.adapter.help", "mine.Adapter"),
        ("--ckpt_path", "last", "--model.adapter", "mine.Adapter", "--model.adapter.init_args.any.thing", "3"),
        ("--print_config=skip_unset", "--model", "model.yaml"),
    ],
)
def test_what_a_first_look_cannot_judge_is_left_to_the_parser(words):
    first_look("fit", [str(word) for word in words])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--model.warmup_steps", "abc"), "--model.warmup_steps: is abc, not a whole number; correct it."),
        (("--model.ema_decay", "abc"), "--model.ema_decay: is not a number, given abc; correct it."),
        (("--model.optimizer", "torch.nn.Linear"), r"--model.optimizer: is torch\.nn\.Linear, which is no Optimizer; correct it."),
        (("--model.adapter", "torch.nn.Linear"), r"--model.adapter: is no Adapter, given torch\.nn\.Linear; correct it."),
        (("--trainer.precision", "17"), "--trainer.precision: is none of .*bf16-mixed.*, given 17; correct it."),
        (("--trainer.accelerator", "foo"), "trainer: is refused .*'foo'.*; correct this setting."),
        (
            ("--trainer.accelerator", "cpu", "--trainer.strategy", "fsdp"),
            "trainer: is refused .*fsdp. requires a GPU .*; correct this setting.",
        ),
        (("--model.val_timesteps", "2000"), "model.val_timesteps: is 2000; give 1 to 1000, such as 4."),
        (("--model.optimizer.init_args.lr", "-1"), "model.optimizer: is refused .*-1.*; correct its settings."),
        (("--model.ema_decay", ".nan"), "model.ema_decay: is nan; give a number from 0 to below 1, or null for no average."),
        (("--trainer.accelerator", "cpu", "--trainer.devices", "9999"), "trainer.devices: is 9999, .*; give at most .*"),
        (("--trainer.val_check_interval", "500"), "trainer.val_check_interval: is 500 and .*; give at most 200."),
        (("--trainer.logger.init_args.save_dir", "/dev/null"), "/dev/null: is no folder; choose another .*"),
        (
            ("--trainer.logger.init_args.folder", "x"),
            "--trainer.logger: .*'folder' is not accepted.*; --trainer.logger.help lightning.*CSVLogger lists what is.",
        ),
        (("--model.adapter", "audioldm_lit.adapters.peft.Nope"), "--model.adapter: .*has no attribute 'Nope'.*; correct it."),
        (("--model.warmup_steps",), "the command line: argument --model.warmup_steps: expected one argument; correct it."),
    ],
)
def test_what_the_parser_refuses_is_one_sentence(cli, tiny_folder, words, sentence):
    status, out, err = cli("fit", "--config", DEMO, "--model.backbone", tiny_folder, "--model.protocol", "null", *words)
    assert (status, out) == (2, "")
    assert re.fullmatch(f"error: {sentence}", err.splitlines()[-1])


@pytest.mark.parametrize("name", ["#1", "[rain]", "- rain", "a: b", "&x", "{x}", "1.0", "~x"])
def test_a_name_is_a_name_whatever_it_would_be_in_yaml(workdir, name):
    Path(name).mkdir()
    parser = StrictParser()
    parser.add_argument("--data", type=AudioDataModule)
    parser.add_argument("--out", type=Path | None)
    read = parser.instantiate(parser.parse_args(["--data", FOLDER[1], "--data.init_args.root", name, "--out", name]))
    assert (read.data.root, read.out) == (Path(name), Path(name))


@pytest.mark.parametrize("text", ["a dog", "- a dog", "-20 dB hum", "[music]", "[a, b]", "#1", "null", "~", "&x", "{a: b}", '"a"'])
def test_a_prompt_is_a_text_whatever_it_would_be_in_yaml(text):
    parser = StrictParser()
    parser.add_function_arguments(generate, as_group=False)
    for words, texts in (
        (["--prompt", text], [text]),
        ([f"--prompt={text}"], [text]),
        (["--prompt", json.dumps([text, "b"])], [text, "b"]),
    ):
        assert parser.parse_args(_spelt_out(generate, words)).prompt == texts


def test_generate_without_prompt_says_what_to_give(cli, tiny_folder):
    status, _, err = cli("generate", "--backbone", tiny_folder)
    assert status == 2
    assert "--prompts FILE" in err


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"min_gain_db": 3.0, "max_gain_db": -3.0}, "min_gain_db cannot be greater than max_gain_db"),
        ({"p": 3}, "audiomentations.Gain"),
    ],
)
def test_a_setting_that_a_library_refuses_is_one_sentence(cli, workdir, tiny_folder, settings, reason):
    transform = {"class_path": "audiomentations.Gain", "init_args": settings}
    block = {"class_path": "audioldm_lit.data.augmentation.Augmentation", "init_args": {"transforms": [transform]}}
    (workdir / "wrong.yaml").write_text(yaml.safe_dump(block))
    options = arguments(tiny_folder, layouts.esc50(workdir / "data", takes=1))
    status, _, err = cli("fit", *options, "--data.init_args.augmentation", "wrong.yaml")
    assert status == 2
    assert err.splitlines()[-1].startswith("error: a setting is refused")
    assert reason in err.splitlines()[-1]


def test_package_import_is_light():
    code = "import sys, audioldm_lit.cli; print([name for name in ('torch', 'lightning', 'numpy') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip() == "[]"
