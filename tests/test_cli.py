import subprocess
import sys

from audioldm_lit.cli import COMMANDS, LIGHTNING_VERBS


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


def test_package_import_is_light():
    code = "import sys, audioldm_lit.cli; print([name for name in ('torch', 'lightning', 'numpy') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip() == "[]"
