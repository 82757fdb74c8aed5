"""Licences of bases: found, shown, and refused where commerce asks for more than they give."""

import shutil
from pathlib import Path

import pytest

from audioldm_lit.assets.licence import Licence, licence_of
from audioldm_lit.errors import InputError

import layouts
from runs import arguments, run_folder

NC = "---\nlicense: cc-by-nc-sa-4.0\ntags: [audio]\n---\n# A model\n"
NO_COMMERCE = "cc-by-nc-sa-4.0, no commercial use"


@pytest.fixture
def model(tiny_folder, workdir) -> Path:
    """A model whose README forbids commercial use."""
    shutil.copytree(tiny_folder, "model")
    Path("model/README.md").write_text(NC)
    return Path("model")


@pytest.mark.parametrize(
    ("header", "text", "commercial"),
    [
        ("license: cc-by-nc-sa-4.0", "cc-by-nc-sa-4.0", False),
        ("license: apache-2.0", "apache-2.0", True),
        ("license: cc-by-4.0", "cc-by-4.0", True),
        ("license: other\nlicense_name: my-own", "my-own", None),
        ("license: openrail", "openrail", None),
        ("tags: [audio]", "unknown", None),
        ("license: [", "unknown", None),
    ],
)
def test_a_readmes_header_states_the_licence(model, header, text, commercial):
    Path("model/README.md").write_text(f"---\n{header}\n---\n# A model\n")
    assert licence_of("model") == Licence(text, commercial)


def test_without_a_readme_a_models_id_or_the_name_of_its_folder_tells(model):
    Path("model/README.md").unlink()
    assert licence_of("model") == Licence("unknown", None)
    for name in ("audioldm-l-full", "somewhere/audioldm-s-full-v2"):
        shutil.copytree(model, name)
        assert licence_of(name) == Licence("CC BY-NC-SA 4.0", False)
    snapshot = Path("cache/huggingface/hub/models--cvssp--audioldm-m-full/snapshots/0123")
    shutil.copytree(model, snapshot)
    assert licence_of("cvssp/audioldm-m-full") == licence_of(str(snapshot)) == Licence("CC BY-NC-SA 4.0", False)
    assert licence_of("checkpoints/audioldm-nano").commercial is True


def test_the_licence_is_shown_goes_with_the_adapter_and_refuses_commerce(cli, model, workdir):
    words = arguments(model, {**layouts.esc50(workdir / "data", takes=1), "shots": 1}, steps=1)
    status, _, err = cli("fit", *words, "--export.commercial", "true")
    assert status == 2
    assert err.splitlines()[-1].startswith("error: model: its licence (cc-by-nc-sa-4.0) forbids commercial use; take another base;")
    assert not list(Path("runs").glob("*"))
    status, _, err = cli("fit", *words)
    assert status == 0, err
    said = f"licence of model, and of what is derived from it: {NO_COMMERCE}"
    assert said in err.splitlines()
    run = run_folder(workdir)
    assert "| licence | cc-by-nc-sa-4.0 (of the base's weights" in (run / "adapter.md").read_text()
    generate = ["generate", "--backbone", model, "--prompt", "rain", "--sampler.num_inference_steps", "1", "--device", "cpu"]
    convert = ["convert", "--backbone", model, "--source", run / "adapter.safetensors", "--to", "merged", "--out", "merged"]
    for words in (convert, generate):
        status, out, err = cli(*words)
        assert status == 0, err
        assert said in [*out.splitlines(), *err.splitlines()]
        if Path("merged").exists():
            shutil.move("merged", "kept")
        status, _, err = cli(*words, "--commercial")
        assert (status, "forbids commercial use" in err) == (2, True)
    assert licence_of("kept") == Licence("cc-by-nc-sa-4.0", False)


def test_what_is_not_known_to_allow_commerce_is_refused_too(cli, tiny_folder):
    status, _, err = cli("generate", "--backbone", tiny_folder, "--prompt", "rain", "--commercial")
    assert status == 2
    assert "its licence (unknown) is not known; take another base; where you know better, state `license: ...`" in err


def test_without_a_model_there_is_no_licence(workdir):
    with pytest.raises(InputError, match="no AudioLDM here"):
        licence_of("nowhere")
