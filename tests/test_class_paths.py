"""A class path in a setting makes an object of the right kind, or nothing runs, wherever it stands: in YAML, in the command line,
in the saved config of a run."""

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from audioldm_lit.cli import main
from audioldm_lit.console.class_paths import check_class_path
from audioldm_lit.errors import InputError
from audioldm_lit.evaluation.protocol import load_protocol
from audioldm_lit.evaluation.run import Run
from audioldm_lit.first_look import first_look
from audioldm_lit.lightning_cli import AudioLDMCLI, run

LURKING = """
import os
import torch
os.system("touch imported")
def leave(*args, **kwargs):
    os.system("touch ran")
class Wrong(torch.nn.Module):
    def __init__(self, **kwargs):
        leave()
class Bare:
    pass
if True:
    class Kept(torch.nn.Module):
        pass
from os import system as elsewhere
"""
PRIOR = "audioldm_lit.objectives.prior.PriorPreservation"
FOLDER = "audioldm_lit.data.folder.Folder"
AUGMENTATION = "audioldm_lit.data.augmentation.Augmentation"
PLACES = {  # what stands around a class path, by setting
    "model.adapter": [lambda spec: spec],
    "model.objective": [lambda spec: spec, lambda spec: {"class_path": PRIOR, "init_args": {"objective": spec}}],
    "model.conditioning": [lambda spec: spec],
    "model.time_mask": [lambda spec: spec],
    "model.sampler": [lambda spec: spec],
    "model.protocol": [lambda spec: spec],
    "model.optimizer": [lambda spec: spec],
    "trainer.callbacks": [lambda spec: spec, lambda spec: [spec]],
    "trainer.logger": [lambda spec: spec, lambda spec: [spec]],
    "trainer.strategy": [lambda spec: spec],
    "trainer.plugins": [lambda spec: spec, lambda spec: [spec]],
    "trainer.profiler": [lambda spec: spec],
    "trainer.accelerator": [lambda spec: spec],
    "data": [
        lambda spec: spec,
        lambda spec: {"class_path": FOLDER, "init_args": {"root": ".", "augmentation": spec}},
        lambda spec: {"class_path": FOLDER, "init_args": {"root": ".", "phrasing": spec}},
        lambda spec: {
            "class_path": FOLDER,
            "init_args": {"root": ".", "augmentation": {"class_path": AUGMENTATION, "init_args": {"transforms": [spec]}}},
        },
    ],
}
SPECS = [
    {"class_path": "subprocess.getoutput", "init_args": {"cmd": "touch ran"}},
    {"class_path": "os.system", "dict_kwargs": {"command": "touch ran"}},
    {"class_path": "lurking.leave", "init_args": {"cmd": "x"}},
    {"class_path": "lurking.Wrong"},
    {"class_path": "pandas.read_pickle", "init_args": {"filepath_or_buffer": "code.pkl"}},
]
SETTINGS = [(key, around) for key, ways in PLACES.items() for around in ways]


@pytest.fixture
def lurking(workdir, monkeypatch) -> Path:
    """A working directory with a module that leaves a file when it is imported, and another when what it holds is called."""
    (workdir / "lurking.py").write_text(LURKING)
    monkeypatch.syspath_prepend(str(workdir))
    monkeypatch.delitem(sys.modules, "lurking", raising=False)
    return workdir


def nested(key: str, value: Any) -> dict[str, Any]:
    for name in reversed(key.split(".")):
        value = {name: value}
    return value


class AllReadError(Exception):
    """Every command line was tried."""


class Attacked(AudioLDMCLI):
    """One parser for many command lines, each refused before an object is made, or collected."""

    def __init__(self, verb, lines, **kwargs):
        self.lines = lines
        super().__init__(verb, **kwargs)

    def parse_arguments(self, parser, args):
        for words in self.lines:
            try:
                super().parse_arguments(parser, [self.verb, *words])
                parser.instantiate(self.config)
            except InputError:
                continue
            except Exception as error:
                raise AssertionError(f"{words}: {error!r}") from error
            raise AssertionError(f"{words}: was not refused")
        raise AllReadError


def test_nothing_runs_wherever_a_class_path_stands(lurking):
    """Neither on the command line nor in a file that `--config` or a setting names; a saved config is such a file."""
    lines = []
    for key, around in SETTINGS:
        for number, spec in enumerate(SPECS):
            value = around(spec)
            file, part = lurking / f"{key}{len(lines)}.yaml", lurking / f"{key}{len(lines)}-part.yaml"
            file.write_text(yaml.safe_dump(nested(key, value)))
            part.write_text(yaml.safe_dump(value))
            ways = [["--config", str(file)], [f"--{key}", json.dumps(value)], [f"--{key}", str(part)]]
            lines.append(ways[(len(lines) + number) % 3])
    lines += [["--data", "subprocess.getoutput", "--data.cmd", "touch ran"], ["--model.optimizer", "lurking.leave"]]
    with pytest.raises(AllReadError):
        run(["fit"], cli_class=partial(Attacked, lines=lines))
    assert not (lurking / "ran").exists()


@pytest.mark.parametrize("spec", SPECS[:3])
def test_nothing_runs_from_a_protocol_or_from_the_settings_of_a_run(lurking, spec):
    metric = {"class_path": "audioldm_lit.metrics.frechet.FrechetDistance", "init_args": {"extractor": spec}}
    protocol = "audioldm_lit.evaluation.protocol.Protocol"
    for content in (spec, *({"class_path": protocol, "init_args": {"name": "x", "metrics": {"m": one}}} for one in (spec, metric))):
        (lurking / "protocol.yaml").write_text(yaml.safe_dump(content))
        with pytest.raises(InputError):
            load_protocol("protocol.yaml")
    model = {"sampler": None, "backbone": "x", "adapter": None, "seed": 0}
    for data, sampler in ((spec, None), ({"class_path": FOLDER, "init_args": {"root": "."}}, spec)):
        settings = {"data": data, "model": {**model, "sampler": sampler}, "scores": {}}
        (lurking / "config.yaml").write_text(yaml.safe_dump(settings))
        (lurking / "adapter.safetensors").touch()
        with pytest.raises(InputError):
            Run.load(lurking)
    assert not (lurking / "ran").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("generate", "--prompt", "x", "--sampler"),
        ("prepare", "--data"),
        ("ablate", "--config", "grid.yaml", "--cluster"),
    ],
)
@pytest.mark.parametrize("spec", SPECS[:3], ids=lambda spec: spec["class_path"])
def test_nothing_runs_from_the_settings_of_other_verbs(lurking, capsys, words, spec):
    (lurking / "grid.yaml").write_text("{}")
    with pytest.raises(SystemExit) as exit_:
        main([*words, json.dumps(spec)])
    assert exit_.value.code == 2
    assert not (lurking / "ran").exists()


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("subprocess.getoutput", "of Python's own library"),
        ("lurking.leave", "a function"),
        ("lurking.Bare", "a class without a base"),
        ("lurking.Nothing", "does not define"),
    ],
)
def test_a_module_that_cannot_be_of_the_kind_is_not_imported(lurking, path, problem):
    (lurking / "attack.yaml").write_text(yaml.safe_dump({"trainer": {"callbacks": [{"class_path": path}]}}))
    for words in (["--config", "attack.yaml"], ["--model.adapter", path], [f"--trainer.callbacks+={path}"]):
        with pytest.raises(InputError, match=problem):
            first_look("fit", words)
    assert not (lurking / "imported").exists()


@pytest.mark.parametrize("path", ["lurking.Wrong", "lurking.Kept", "lurking.elsewhere", "nowhere.Trick", "torch.optim.AdamW"])
def test_what_its_text_does_not_tell_is_left_to_the_parser(lurking, path):
    check_class_path(path, "--model.adapter")
