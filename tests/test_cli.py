import subprocess
import sys

import pytest
import yaml

from audioldm_lit.cli import COMMANDS, LIGHTNING_VERBS

import layouts
from runs import arguments


def test_help_lists_every_verb(cli):
    status, out, _ = cli("--help")
    assert status == 0
    assert all(f"  {verb} " in out for verb in LIGHTNING_VERBS | COMMANDS)


def test_unknown_verb_is_named(cli):
    status, _, err = cli("foo")
    assert status == 2
    assert err.startswith("error: 'foo' is no verb")


def test_misspelt_option_is_refused(cli):
    assert cli("generate", "--promt", "rain")[0] == 2


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
    options = arguments(tiny_folder, layouts.esc50(workdir / "data"))
    status, _, err = cli("fit", *options, "--data.init_args.augmentation", "wrong.yaml")
    assert status == 2
    assert err.splitlines()[-1].startswith("error: a setting is refused")
    assert reason in err.splitlines()[-1]


def test_package_import_is_light():
    code = "import sys, audioldm_lit.cli; print([name for name in ('torch', 'lightning', 'numpy') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip() == "[]"
