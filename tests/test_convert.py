"""Adapters to and from PEFT and diffusers: loaded there by those libraries themselves, they give the same output."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import peft
import pytest
import torch
from diffusers import UNet2DConditionModel
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from audioldm_lit.adapters.adalora import AdaLoRA
from audioldm_lit.adapters.base import Adapter, trainable
from audioldm_lit.adapters.bottleneck import BottleneckAdapter
from audioldm_lit.adapters.files.adapter_file import load_adapter, read_about, save_adapter
from audioldm_lit.adapters.files.card import About, write_card
from audioldm_lit.adapters.files.layout import fingerprints
from audioldm_lit.adapters.full import FullFineTune
from audioldm_lit.adapters.peft import PeftAdapter
from audioldm_lit.adapters.targets import resolve
from audioldm_lit.adapters.text_head import TextHead
from audioldm_lit.adapters.textual_inversion import TextualInversion
from audioldm_lit.backbone import Backbone
from audioldm_lit.diffusion import NoisePrediction, Prediction, VelocityPrediction
from audioldm_lit.errors import InputError
from audioldm_lit.inference.generation import NOISE

import tiny

ABOUT = About.of_run(
    "/home/someone/models/audioldm-s", ["rain", "dog | bark", "rain"], 48, "ab12" * 16, steps=200, seed=3,
    licence="CC BY-NC-SA 4.0", share="captions", scores={"held-out loss": (0.41237, 0.37), "FAD": (None, 3.1)},
)  # fmt: skip
SOME = ["text_path", r"mid_block\..*"]  # linear and convolution layers
LORA = PeftAdapter(options={"r": 4, "lora_alpha": 6}, targets=SOME)
BOTH = {
    "lora": LORA,
    "rslora": PeftAdapter(options={"r": 4, "use_rslora": True}, targets=["all"]),
    "dora": PeftAdapter(options={"r": 4, "use_dora": True}, targets=SOME),
    "lokr": PeftAdapter("LoKrConfig", {"r": 4}, SOME),
    "ranks": PeftAdapter(
        options={"r": 4, "rank_pattern": {"conv_in": 2}, "alpha_pattern": {"conv_in": 5}}, targets=["conv_in", "conv_out"]
    ),
}
PEFT_ONLY = {
    "loha": PeftAdapter("LoHaConfig", {"r": 4}, SOME),
    "hra": PeftAdapter("HRAConfig", {"r": 4}, SOME),
    "ia3": PeftAdapter("IA3Config", {"feedforward_modules": r".*\.ff\.net\.2"}, [r"mid_block\..*(to_q|to_k)", "feed_forward"]),
    "norms": PeftAdapter("LNTuningConfig", {}, ["norm"]),
    "adalora": AdaLoRA({"init_r": 4, "target_r": 2, "total_step": 20}, SOME),
}
SUFFIXES = ["to_q", "to_v", "time_emb_proj", "conv1"]


def at_night(*names: str) -> list:
    """Methods that both libraries load, these at night alone."""
    return [pytest.param(name, marks=pytest.mark.nightly if name in names else ()) for name in BOTH]


@torch.no_grad()
def predict(unet: nn.Module) -> Tensor:
    """What a UNet says of a batch, called as any user of diffusers would."""
    generator = torch.Generator().manual_seed(1)
    latents, cond = torch.randn(2, 8, 8, 8, generator=generator), torch.randn(2, 32, generator=generator)
    return unet(latents, torch.tensor([10, 700]), encoder_hidden_states=None, class_labels=cond, return_dict=False)[0]


def disturb(weights: dict[str, Tensor]) -> None:
    generator = torch.Generator().manual_seed(2)
    for weight in weights.values():
        weight.data += 0.05 * torch.randn(weight.shape, generator=generator)


def make(path: Path, adapter: Adapter = LORA, prediction: Prediction = NOISE, about: About | None = ABOUT) -> Tensor:
    """Write an adapter file with weights that do something; returns the adapted output."""
    backbone = tiny.backbone()
    bases, before = fingerprints(backbone), predict(backbone.unet)
    adapter.inject(backbone)
    disturb(trainable(backbone))
    save_adapter(path, adapter, dict(trainable(backbone)), bases[0], prediction, about, bases[1])
    output = predict(backbone.unet)
    if not isinstance(adapter, TextualInversion):
        assert not close(output, before, 1e-3)
    return output


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-5) -> bool:
    return bool((actual - expected).abs().max() <= tolerance * expected.abs().max())


@pytest.fixture
def convert(cli, tiny_folder) -> Callable[..., tuple[int, str, str]]:
    def run(source: Path, to: str, out: Path, *more: object) -> tuple[int, str, str]:
        return cli("convert", "--source", source, "--to", to, "--out", out, "--backbone", tiny_folder, *more)

    return run


def in_peft(folder: Path) -> Tensor:
    return predict(peft.PeftModel.from_pretrained(tiny.backbone().unet, folder).eval())


def in_diffusers(folder: Path) -> Tensor:
    unet = tiny.backbone().unet
    unet.load_lora_adapter(folder, prefix=None, use_safetensors=True)
    return predict(unet.eval())


def here(path: Path) -> Tensor:
    backbone = tiny.backbone()
    load_adapter(path, backbone)
    return predict(backbone.unet)


# ---------------------------------------------------------------------- out


def comes_back(name: str, expected: Tensor, convert: Callable, workdir: Path) -> None:
    """Back from the folder `out`, an adapter is the one that `a.safetensors` is, to the last bit."""
    status, _, err = convert("out", "adapter", "b.safetensors")
    assert status == 0, err
    adapter, backbone = (BOTH | PEFT_ONLY)[name], tiny.backbone()
    loaded, prediction = load_adapter(workdir / "b.safetensors", backbone)
    assert torch.equal(predict(backbone.unet), expected)
    assert prediction == VelocityPrediction()
    assert read_about(workdir / "b.safetensors") == ABOUT
    assert type(loaded) is type(adapter)
    unet = tiny.backbone().unet
    assert set(resolve(loaded.targets, unet)) == set(resolve(adapter.targets, unet))
    if name in BOTH:
        first, second = load_file(workdir / "a.safetensors"), load_file(workdir / "b.safetensors")
        assert first.keys() == second.keys()
        assert all(torch.equal(weight, second[weight_name]) for weight_name, weight in first.items())


@pytest.mark.parametrize("name", BOTH | PEFT_ONLY)
def test_peft_loads_every_method_with_the_same_output_and_it_comes_back(name, convert, workdir):
    expected = make(workdir / "a.safetensors", (BOTH | PEFT_ONLY)[name], VelocityPrediction())
    status, _, err = convert("a.safetensors", "peft", "out", "--json", "found.json")
    assert status == 0, err
    assert close(in_peft(workdir / "out"), expected)
    found = json.loads((workdir / "found.json").read_text())
    assert found["layout"] == "adapter"
    assert 0 <= found["max_relative_difference"] < 1e-5
    comes_back(name, expected, convert, workdir)


@pytest.mark.parametrize("name", at_night("rslora"))
def test_diffusers_loads_it_with_the_same_output_and_it_comes_back(name, convert, workdir):
    expected = make(workdir / "a.safetensors", BOTH[name], VelocityPrediction())
    status, _, err = convert("a.safetensors", "diffusers", "out")
    assert status == 0, err
    assert close(in_diffusers(workdir / "out"), expected)
    comes_back(name, expected, convert, workdir)


@pytest.mark.parametrize("name", PEFT_ONLY)
def test_what_diffusers_cannot_load_is_refused_with_the_reason(name, convert, workdir):
    make(workdir / "a.safetensors", PEFT_ONLY[name])
    status, _, err = convert("a.safetensors", "diffusers", "out")
    assert status == 2
    assert f"this adapter is of peft's {PEFT_ONLY[name].config}" in err
    assert sorted(workdir.iterdir()) == [workdir / "a.safetensors"]


@pytest.mark.parametrize("name", [*at_night("rslora", "lokr", "ranks"), "full", "text_head"])  # each merges in test_adapters
def test_merged_model_loads_as_any_other(name, convert, workdir):
    adapter = {**BOTH, "full": FullFineTune(), "text_head": TextHead()}[name]
    expected = make(workdir / "a.safetensors", adapter, VelocityPrediction())
    status, _, err = convert("a.safetensors", "merged", "out")
    assert status == 0, err
    assert close(predict(UNet2DConditionModel.from_pretrained(workdir / "out" / "unet", use_safetensors=True)), expected)
    merged = Backbone.load(workdir / "out")
    assert close(predict(merged.unet), expected)
    assert merged.scheduler.config.prediction_type == "v_prediction"
    assert merged.state_dict().keys() == tiny.backbone().state_dict().keys()
    assert merged.fingerprint("vae") == tiny.backbone().fingerprint("vae")


@pytest.mark.parametrize(
    ("adapter", "to", "reason"),
    [
        (BottleneckAdapter(), "merged", "BottleneckAdapter cannot be folded"),
        (TextualInversion(), "merged", "TextualInversion changes how prompts are read"),
        (BottleneckAdapter(), "peft", "BottleneckAdapter is no method of peft"),
        (FullFineTune(), "diffusers", "FullFineTune is no method of peft"),
    ],
)
def test_what_a_layout_cannot_hold_is_refused_with_the_reason(adapter, to, reason, convert, workdir):
    make(workdir / "a.safetensors", adapter)
    status, _, err = convert("a.safetensors", to, "out")
    assert status == 2
    assert reason in err
    assert sorted(workdir.iterdir()) == [workdir / "a.safetensors"]


# ---------------------------------------------------------------------- made elsewhere


def trained_by_peft(folder: Path, **options: object) -> Tensor:
    """An adapter that never saw this project; returns its output."""
    torch.manual_seed(0)
    model = peft.get_peft_model(tiny.backbone().unet, peft.LoraConfig(**{"r": 4, "target_modules": SUFFIXES} | options))
    disturb({name: weight for name, weight in model.named_parameters() if weight.requires_grad})
    model.save_pretrained(folder)
    return predict(model.eval().get_base_model())  # a task's own model would want words


@pytest.fixture(scope="module")
def saved_by_peft(tmp_path_factory) -> Path:
    trained_by_peft(folder := tmp_path_factory.mktemp("peft"))
    return folder


@pytest.fixture
def theirs(saved_by_peft, workdir) -> Path:
    """A folder that PEFT saved."""
    return shutil.copytree(saved_by_peft, workdir / "theirs")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"target_modules": r"(down|up)_blocks\..*\.to_[qk]|conv_in"},
        {"target_modules": ["conv1", "conv2"], "exclude_modules": ["mid_block.resnets.0.conv1"], "use_rslora": True},
        {"init_lora_weights": False, "lora_dropout": 0.1},
        {"init_lora_weights": "gaussian", "use_dora": True, "rank_pattern": {"conv1": 2}, "alpha_pattern": {"to_q": 16}},
        {"task_type": "FEATURE_EXTRACTION"},
    ],
    ids=["suffixes", "expression", "excluded", "random_start", "patterns", "task"],
)
def test_an_adapter_trained_with_peft_gives_the_same_output(options, convert, workdir):
    expected = trained_by_peft(workdir / "theirs", **options)
    status, printed, err = convert("theirs", "adapter", "ours.safetensors")
    assert status == 0, err
    assert "does not say on what it was trained" in printed
    assert close(here(workdir / "ours.safetensors"), expected)


@pytest.mark.parametrize("to", ["diffusers", "merged"])
def test_an_adapter_trained_with_peft_goes_on_to_other_layouts(to, convert, workdir):
    expected = trained_by_peft(workdir / "theirs", use_dora=True, rank_pattern={"conv1": 2}, alpha_pattern={"to_q": 16})
    status, _, err = convert("theirs", to, "out")
    assert status == 0, err
    load = {"diffusers": in_diffusers, "merged": lambda path: predict(Backbone.load(path).unet)}[to]
    assert close(load(workdir / "out"), expected)


def test_targets_become_exactly_the_modules_that_peft_adapted(convert, theirs, workdir):
    assert convert("theirs", "adapter", "ours.safetensors")[0] == 0
    adapter, _ = load_adapter(workdir / "ours.safetensors", tiny.backbone())
    names = [name for name, _ in tiny.backbone().unet.named_modules()]
    assert resolve(adapter.targets, tiny.backbone().unet) == [name for name in names if name.split(".")[-1] in SUFFIXES]
    assert adapter.options == {"r": 4}


@pytest.mark.parametrize(
    "config",
    # Without settings diffusers cannot tell LoKr's shapes on convolutions.
    [peft.LoraConfig(r=4, target_modules=SUFFIXES), peft.LoKrConfig(r=4, target_modules=["to_q", "time_emb_proj"])],
    ids=["lora", "lokr"],
)
@pytest.mark.parametrize("kept", ["settings", "no_settings", "pipeline"])
def test_an_adapter_saved_by_diffusers_gives_the_same_output(config, kept, convert, workdir):
    unet = tiny.backbone().unet
    unet.add_adapter(config)
    disturb({name: weight for name, weight in unet.named_parameters() if weight.requires_grad})
    source = workdir / "theirs"
    unet.save_lora_adapter(source)
    file = source / "pytorch_lora_weights.safetensors"
    if kept == "no_settings":  # as old versions saved it: the loader goes by names and shapes, with alpha = r
        save_file(load_file(file), file, {"format": "pt"})
        unet = tiny.backbone().unet
        unet.load_lora_adapter(source, prefix=None, use_safetensors=True)
    elif kept == "pipeline":
        with safe_open(file, "pt") as opened:
            stated = json.loads(opened.metadata()["lora_adapter_metadata"])
        metadata = {"lora_adapter_metadata": json.dumps({f"unet.{name}": value for name, value in stated.items()})}
        source = workdir / "some.safetensors"
        save_file({f"unet.{name}": weight for name, weight in load_file(file).items()}, source, metadata)
    status, _, err = convert(source, "adapter", "ours.safetensors")
    assert status == 0, err
    assert close(here(workdir / "ours.safetensors"), predict(unet.eval()))


def edited_config(folder: Path, **changes: object) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize(
    "setting",
    [
        {"modules_to_save": ["conv_out"]},
        {"bias": "all"},
        {"bias": "lora_only"},
        {"target_parameters": ["conv_out.weight"]},
        {"layer_replication": [[0, 2]]},
        {"trainable_token_indices": [1]},
    ],
)
def test_a_setting_that_would_be_left_out_is_refused_by_name(setting, convert, theirs, workdir):
    edited_config(theirs, **setting)
    status, _, err = convert("theirs", "adapter", "ours.safetensors")
    assert status == 2
    assert f"theirs: sets {next(iter(setting))} to " in err
    assert not (workdir / "ours.safetensors").exists()


def test_settings_of_a_newer_peft_matter_only_where_they_are_set(convert, theirs, workdir):
    edited_config(theirs, use_magic=False, magic_layers=None)
    assert convert("theirs", "adapter", "ours.safetensors")[0] == 0
    edited_config(theirs, use_magic=True)
    status, _, err = convert("theirs", "adapter", "again.safetensors")
    assert status == 2
    assert "sets use_magic to True, which the installed peft's LoraConfig lacks" in err


def test_a_method_that_peft_does_not_know_is_named(convert, theirs, workdir):
    edited_config(theirs, peft_type="MAGIC")
    status, _, err = convert("theirs", "adapter", "ours.safetensors")
    assert status == 2
    assert "the method MAGIC" in err


def without_one(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return dict(list(weights.items())[1:])


def with_one_more(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return weights | {"base_model.model.nowhere.lora_A.weight": torch.zeros(4, 4)}


def with_another_shape(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: weight[:2].contiguous() if "lora_A" in name else weight for name, weight in weights.items()}


def with_nan(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    next(iter(weights.values())).view(-1)[3] = float("nan")
    return weights


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (without_one, "is of another UNet, its weights do not fit: 1 missing ("),
        (with_one_more, "is of another UNet, its weights do not fit: 1 unexpected (nowhere.lora_A.weight)"),
        (with_another_shape, "cannot be loaded on this UNet"),
        (with_nan, "NaN or infinity"),
    ],
)
def test_weights_that_do_not_fit_are_refused(damage, reason, convert, theirs, workdir):
    file = theirs / "adapter_model.safetensors"
    save_file(damage(load_file(file)), file)
    status, _, err = convert("theirs", "adapter", "ours.safetensors")
    assert status == 2
    assert reason in err
    assert not list(workdir.glob("ours*"))


# ---------------------------------------------------------------------- requests that are refused


def test_an_output_that_is_there_is_refused_and_kept(convert, workdir):
    make(workdir / "a.safetensors")
    (workdir / "out").mkdir()
    (workdir / "out" / "mine.txt").write_text("mine")
    status, _, err = convert("a.safetensors", "peft", "out")
    assert status == 2
    assert "out: is there already" in err
    assert [path.name for path in (workdir / "out").iterdir()] == ["mine.txt"]
    (workdir / "out" / "mine.txt").unlink()
    assert convert("a.safetensors", "peft", "out")[0] == 0  # empty now
    status, _, err = convert("out", "adapter", "a.safetensors")
    assert status == 2
    assert "a.safetensors: is there already" in err


@pytest.mark.parametrize(
    ("source", "to", "out", "reason"),
    [
        ("nothing", "peft", "out", "nothing: no such file or folder"),
        ("notes.txt", "peft", "out", "notes.txt: cannot be read as an adapter"),
        ("empty", "peft", "out", "empty: is no adapter"),
        ("a.safetensors", "adapter", "b.safetensors", "is in the layout 'adapter' already"),
        ("pickled", "adapter", "b.safetensors", "pickled weights are not read"),
        ("theirs", "adapter", "b", "a name that ends in .safetensors"),
        ("theirs/adapter_model.safetensors", "adapter", "b.safetensors", "give the folder of a PEFT adapter"),
        ("old.safetensors", "adapter", "b.safetensors", "is no name that diffusers gives"),
    ],
)
def test_a_wrong_request_is_one_sentence(source, to, out, reason, convert, theirs, workdir):
    make(workdir / "a.safetensors")
    shutil.copytree(theirs, workdir / "pickled")
    (workdir / "pickled" / "adapter_model.safetensors").rename(workdir / "pickled" / "adapter_model.bin")
    (workdir / "notes.txt").write_text("notes")
    (workdir / "empty").mkdir()
    save_file({"conv_in.lora.down.weight": torch.zeros(4, 72)}, workdir / "old.safetensors")
    before = sorted(workdir.iterdir())
    status, _, err = convert(source, to, out)
    assert status == 2
    assert err.splitlines()[-1].startswith("error: ")
    assert reason in err.splitlines()[-1]
    assert sorted(workdir.iterdir()) == before


def test_another_base_is_refused_in_every_layout_that_names_it(cli, convert, workdir):
    make(workdir / "a.safetensors")
    assert convert("a.safetensors", "peft", "peft")[0] == convert("a.safetensors", "diffusers", "diffusers")[0] == 0
    tiny.backbone().half().save(workdir / "half")
    tiny.backbone(seed=1).save(workdir / "other")
    for source, to, out in (
        ("a.safetensors", "peft", "of a"),
        ("peft", "adapter", "b.safetensors"),
        ("diffusers", "adapter", "c.safetensors"),
    ):
        words = ["convert", "--source", source, "--to", to, "--out", out, "--backbone"]
        status, _, err = cli(*words, "other")
        assert status == 2
        assert f"{source}: was trained on the base with UNet" in err
        status, _, err = cli(*words, "half")
        assert status == 0, err


class Forgetful(TextHead):
    """An adapter whose merge is wrong."""

    def merge(self, backbone: Backbone) -> None:
        backbone.unet.class_embedding = backbone.unet.class_embedding.projection


def test_a_difference_is_an_error_and_nothing_is_left(convert, workdir):
    make(workdir / "a.safetensors", Forgetful())
    status, _, err = convert("a.safetensors", "merged", "out")
    assert status == 2
    assert "more than 0.0001" in err
    assert sorted(workdir.iterdir()) == [workdir / "a.safetensors"]


# ---------------------------------------------------------------------- the file and its card


@settings(max_examples=50)
@given(
    st.lists(st.text(), max_size=80), st.integers(0, 10**9), st.text(),
    st.dictionaries(st.text(), st.tuples(st.none() | st.floats(allow_nan=False), st.floats(allow_nan=False)), max_size=3),
)  # fmt: skip
def test_what_the_run_was_survives_the_file(captions, count, licence, scores):
    about = About.of_run("nano", captions, count, "ab", count, 0, licence, scores, share="captions")
    assert About.from_json(about.to_json(), "here") == about
    distinct = {caption for caption in captions if caption.strip()}
    assert about.num_captions == len(distinct)
    assert set(about.captions) <= distinct
    assert len(about.captions) == min(50, len(distinct))


def test_old_files_and_silent_ones_load(workdir):
    expected = make(workdir / "a.safetensors", about=None)
    assert read_about(workdir / "a.safetensors") is None
    assert torch.equal(here(workdir / "a.safetensors"), expected)


def rewritten(path: Path, **changes: str) -> None:
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    save_file(load_file(path), path, metadata | changes)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"adapter": "{"}, "does not say how it was made"),
        ({"adapter": '{"class_path": "audioldm_lit.adapters.full.Scratch", "init_args": {"speed": 1}}'}, "'speed'"),
        ({"about": "{}"}, "record of how it was trained cannot be read"),
    ],
)
def test_a_damaged_header_is_named(changes, reason, convert, workdir):
    make(workdir / "a.safetensors")
    rewritten(workdir / "a.safetensors", **changes)
    status, _, err = convert("a.safetensors", "peft", "out")
    assert status == 2
    assert "a.safetensors" in err
    assert reason in err


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused_by_name(value, workdir):
    make(workdir / "a.safetensors")
    weights = load_file(workdir / "a.safetensors")
    name = sorted(weights)[5]
    weights[name].view(-1)[0] = value
    with safe_open(workdir / "a.safetensors", "pt") as file:
        save_file(weights, workdir / "b.safetensors", file.metadata())
    backbone = tiny.backbone()
    with pytest.raises(InputError, match=rf"b\.safetensors: weight {name} holds NaN or infinity"):
        load_adapter(workdir / "b.safetensors", backbone)


def test_the_card_says_what_is_known_and_no_path(workdir):
    write_card(workdir / "adapter.md", LORA, "0123456789abcdef", VelocityPrediction(), ABOUT)
    card = (workdir / "adapter.md").read_text()
    for fact in (
        "audioldm-s",
        "0123456789abcdef",
        "48 clips, 2 distinct captions",
        "- dog \\| bark",
        "ab12" * 16,
        "CC BY-NC-SA 4.0",
        "| held-out loss | 0.4124 | 0.37 |",
        "| FAD | not measured | 3.1 |",
        "200 steps, seed 3",
        "r=4",
        "v_prediction",
    ):
        assert fact in card  # fmt: skip
    assert "/home" not in card
    assert "someone" not in card
    assert str(workdir) not in card


@pytest.mark.parametrize(
    ("share", "said"), [("counts", "48 clips, 2 distinct captions; SHA-256"), ("none", "Nothing is said of it.")]
)
def test_captions_are_shared_where_asked_for_alone(workdir, share, said):
    about = About.of_run("nano", ["our\x1b[2J secret", "plan"], 48, "ab12", steps=200, seed=3, share=share)
    write_card(workdir / "adapter.md", LORA, "0123456789abcdef", NoisePrediction(), about)
    card = (workdir / "adapter.md").read_text()
    assert said in card
    assert "rain on a roof" in card
    assert "secret" not in card + about.to_json()
    assert "plan" not in card + about.to_json()
    assert ("48" in card + about.to_json()) == (share == "counts")
    assert About.from_json(about.to_json(), "here") == about


def test_what_a_terminal_would_obey_is_not_in_a_card(workdir):
    about = About.of_run("na\x1b[2Jno", ["rain\x1b]0;x\x07"], 1, "ab12", steps=1, seed=3, licence="MIT\x1b[31m", share="captions")
    write_card(workdir / "adapter.md", LORA, "0123456789abcdef", NoisePrediction(), about)
    assert (workdir / "adapter.md").read_text().replace("\n", "").isprintable()


def test_converted_folders_carry_the_card_and_no_path(convert, workdir):
    make(workdir / "a.safetensors")
    for to in ("peft", "diffusers", "merged"):
        assert convert("a.safetensors", to, to)[0] == 0
        assert "CC BY-NC-SA 4.0" in (workdir / to / "adapter.md").read_text()
        for path in (workdir / to).rglob("*"):
            assert path.is_dir() or str(workdir).encode() not in path.read_bytes()
