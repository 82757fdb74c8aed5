"""The verb `evaluate`: what it promises to write, which clips pair, every kind of bad input, passports, caches, comparisons."""

import csv
import json
import re
import shutil
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import scipy.special
import soundfile
import torch
from rich.console import Console

from audioldm_lit.assets.registry import asset
from audioldm_lit.audio.waveform import resample
from audioldm_lit.errors import InputError
from audioldm_lit.evaluation.evaluation import Evaluation
from audioldm_lit.evaluation.listing import list_clips
from audioldm_lit.evaluation.passport import check_comparable
from audioldm_lit.evaluation.protocol import load_protocol
from audioldm_lit.evaluation.reading import Reader
from audioldm_lit.evaluation.score import Score
from audioldm_lit.evaluation.scoring import score_files
from audioldm_lit.evaluation.tables import show, terminal, to_csv, to_latex
from audioldm_lit.inference.manifest import Entry, write_manifest
from audioldm_lit.metrics.estimate import Estimate
from audioldm_lit.metrics.extractors.base import Extractor
from audioldm_lit.places import packaged

import layouts

RATE = 16_000
WINDOW = 4000  # samples that the light extractor needs
METRICS = "audioldm_lit.metrics."
FD = {"class_path": METRICS + "frechet.FrechetDistance"}
KL = {"class_path": METRICS + "divergence.KLDivergence"}
KAD = {"class_path": METRICS + "kernel.KAD"}
IS = {"class_path": METRICS + "inception.InceptionScore"}
LEVEL = {"class_path": METRICS + "text.CLAPScore", "init_args": {"features": "level"}}  # the mean of one number a clip
LSD = {"class_path": METRICS + "spectral.LogSpectralDistance"}
USUAL = {"fd": FD, "kl": KL, "kad": KAD}


class Levels(Extractor):
    """Level and roughness of every quarter of a second: little, but enough to tell tones apart."""

    features = ("embedding", "logits", "level")
    name = "levels"
    sample_rate = RATE
    min_samples = WINDOW

    def __init__(self, weights: str = "first") -> None:
        self.sha256 = weights

    def embed(self, waveform, captions):
        parts = waveform.unfold(1, WINDOW, WINDOW)  # (B, R, WINDOW)
        level, rough = parts.square().mean(2).sqrt(), parts.diff(dim=2).abs().mean(2)
        rows = torch.stack([level, rough], dim=2)
        return {"embedding": rows, "logits": 20 * rows, "level": level.mean(1)[:, None, None]}


def protocol(path: str = "light.yaml", weights: str = "first", **settings: Any) -> Path:
    """Write a protocol on the light extractor; metrics given as `class_path` and `init_args`."""
    extractor = {"class_path": "test_evaluate.Levels", "init_args": {"weights": weights}}
    metrics = settings.pop("metrics", USUAL)
    for name, metric in metrics.items():
        with_it = {} if metric is LSD else {"extractor": extractor}
        metrics = {**metrics, name: {**metric, "init_args": {**with_it, **metric.get("init_args", {})}}}
    init_args = {"name": "light", "metrics": metrics, **settings}
    content = {"class_path": "audioldm_lit.evaluation.protocol.Protocol", "init_args": init_args}
    Path(path).write_text(json.dumps(content))  # JSON is YAML
    return Path(path)


def tones(folder: Path | str, frequency: float, seed: int, count: int = 6, duration: float = 0.5, suffix: str = ".wav") -> Path:
    """Clips of one kind of sound, each a little higher than the last."""
    for i in range(count):
        layouts.tone(Path(folder) / f"{i}{suffix}", frequency * (1 + i / 8), seed + i, duration)
    return Path(folder)


@pytest.fixture
def sets(workdir) -> None:
    """Folders of generated clips and of recordings, and a light protocol."""
    tones("generated", 600, 0)
    tones("reference", 400, 50)
    protocol()


@pytest.fixture
def score(cli, sets) -> Callable[..., dict[str, Any]]:
    """Run `evaluate` with the light protocol, and expect it to do well; gives what it wrote, and the terminal's lines."""

    def run(*words: object, generated: str = "generated", reference: str = "reference") -> dict[str, Any]:
        paths = ("--generated", generated, "--reference", reference, "--protocol", "light.yaml", "--json", "o.json")
        status, out, err = cli("evaluate", *paths, *words)
        assert status == 0, err
        return {**strict_json("o.json"), "terminal": out}

    return run


def strict_json(path: str) -> dict[str, Any]:
    """A file's content; NaN and Infinity are no JSON."""
    return json.loads(Path(path).read_text(), parse_constant=pytest.fail)


def values(result: dict[str, Any]) -> dict[str, float]:
    return {name: one["value"] for name, one in result["metrics"].items()}


# ---------------------------------------------------------------- as a user calls it


OUTPUTS = ("--json", "out/o.json", "--csv", "out/o.csv", "--latex", "out/o.tex")


def test_the_default_protocol_writes_what_it_promises(cli, aisfx_at_hand):
    tones("generated", 600, 0, duration=3.6)
    tones("reference", 400, 50, count=7, duration=1.0)
    status, out, err = cli("evaluate", "--generated", "generated", "--reference", "reference", *OUTPUTS)
    assert status == 0, err
    result = strict_json("out/o.json")
    assert {"kad", "fad", "fd", "is", "kl"} <= set(result["metrics"])
    for name, one in result["metrics"].items():
        assert isinstance(one["value"], float)
        assert one["n_clips"] == 6
        assert one["n_rows"] == (12 if name == "fad" else 6)  # two blocks of AISFX fit into 3.6 s
        assert one["interval"] is None or [type(end) for end in one["interval"]] == [float, float]
        assert one["interval"] is None or one["interval"][0] <= one["interval"][1]
        assert name in out
    assert all(result["metrics"][name]["interval"] for name in ("kad", "is", "kl"))
    passport = result["passport"]
    assert len(passport["sha256"]) == 64
    assert passport["protocol"]["name"] == "embedded"
    assert passport["extractors"]["aisfx"]["weights_sha256"].startswith("499ea759")
    assert (passport["preds"]["n_clips"], passport["target"]["n_clips"]) == (6, 7)
    assert "protocol embedded v2: 6 clips against 7 recordings" in out
    assert max(map(len, out[: out.index("intervals are tested")].splitlines()[:-1])) <= 80
    with open("out/o.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["metric"]: float(row["value"]) for row in rows} == values(result)
    assert {row["passport"] for row in rows} == {passport["sha256"]}
    latex = Path("out/o.tex").read_text()
    assert passport["sha256"] in latex
    assert {line.count("&") for line in latex.splitlines() if line.endswith(r"\\")} == {len(rows)}


def test_two_halves_of_one_kind_of_sound_are_nearer_than_two_kinds(cli, aisfx_at_hand):
    for i in range(12):
        layouts.tone(Path(("odd", "even")[i % 2]) / f"{i}.wav", 400 * (1 + i / 16), i, 1.0)
    tones("other", 3000, 90, duration=1.0)
    words = ("--generated", "even", "--compare", "other", "--reference", "odd", "--json", "o.json")
    assert cli("evaluate", *words)[0] == 0
    result = strict_json("o.json")
    same, different = values(result), values(result["compare"])
    assert all(same[name] < different[name] / 3 for name in ("fd", "fad", "kad"))
    assert result["comparison"]["kad"]["verdict"] == "worse"


def test_a_set_is_at_no_distance_from_itself(cli, aisfx_at_hand):
    tones("reference", 400, 0, duration=1.0)
    shutil.copytree("reference", "generated")
    assert cli("evaluate", "--generated", "generated", "--reference", "reference", "--json", "o.json")[0] == 0
    found = values(strict_json("o.json"))
    assert [found["fd"], found["fad"], found["kl"]] == pytest.approx([0, 0, 0], abs=1e-9)
    assert found["coverage"] == 1


# ---------------------------------------------------------------- values, by the formulas in numpy


def rows(path: Path) -> np.ndarray:
    """What `Levels` makes of a file: channels averaged, peak 0.5, padded to one window; (R, 2) float64."""
    samples = soundfile.read(path, always_2d=True)[0].mean(axis=1)
    return rows_of(samples)


def rows_of(samples: np.ndarray) -> np.ndarray:
    samples = samples * (0.5 / max(np.abs(samples).max(), 1e-12))
    samples = np.pad(samples, (0, max(0, WINDOW - len(samples))))
    parts = samples[: len(samples) // WINDOW * WINDOW].reshape(-1, WINDOW)
    return np.stack([np.sqrt((parts**2).mean(1)), np.abs(np.diff(parts)).mean(1)], axis=1)


def frechet(x: np.ndarray, y: np.ndarray) -> float:
    one, two = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    return ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(one + two - 2 * scipy.linalg.sqrtm(one @ two).real)


def fd_of(generated: Sequence[np.ndarray], recorded: Sequence[np.ndarray]) -> float:
    return frechet(np.concatenate(generated), np.concatenate(recorded))


def kl_of(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
    """Of generated and recorded rows."""
    q, p = (scipy.special.softmax(20 * np.stack([pair[side].mean(0) for pair in pairs]), axis=1) for side in (0, 1))
    return scipy.special.rel_entr(p, q).sum(1).mean()


def folder_rows(folder: str) -> list[np.ndarray]:
    return [rows(path) for path in sorted(Path(folder).glob("[0-9]*"))]


def test_values_are_those_of_the_formulas(score):
    result = score()
    generated, recorded = folder_rows("generated"), folder_rows("reference")
    assert values(result)["fd"] == pytest.approx(fd_of(generated, recorded), rel=1e-4)
    assert values(result)["kl"] == pytest.approx(kl_of(list(zip(generated, recorded, strict=True))), rel=1e-4)
    assert result["metrics"]["fd"]["n_rows"] == 12


def test_every_class_is_scored_apart(score):
    for label, pitch in (("low", 300), ("high", 2000)):
        tones(f"made/{label}", 1.1 * pitch, 0)
        tones(f"real/{label}", pitch, 50)
    result = score("--csv", "o.csv", generated="made", reference="real")
    for label in ("low", "high"):
        apart = result["metrics"]["fd"]["classes"][label]
        assert apart["n_clips"] == 6
        assert apart["value"] == pytest.approx(fd_of(folder_rows(f"made/{label}"), folder_rows(f"real/{label}")), rel=1e-3)
    with open("o.csv", newline="") as file:
        assert [(row["metric"], row["class"]) for row in csv.DictReader(file)][:3] == [("fd", ""), ("fd", "high"), ("fd", "low")]


# ---------------------------------------------------------------- clips pair by their id

ORDER = (3, 0, 5, 1, 4, 2)  # clip ORDER[i] has the i-th file name


def other_suffix() -> str:
    for i in range(6):
        samples, rate = soundfile.read(f"generated/{i}.wav", dtype="int16")
        soundfile.write(f"generated/{i}.flac", samples, rate)
        Path(f"generated/{i}.wav").unlink()
    return "generated"


def manifest() -> str:
    entries = [Entry(f"{i}.wav", "a tone", 7, 0) for i in range(6)]
    write_manifest(Path("made"), {"base": "x"}, entries)
    for i, entry in enumerate(entries):
        shutil.copy(f"generated/{i}.wav", Path("made") / entry.file)
    return "made"


def manifest_itself() -> str:
    return f"{manifest()}/manifest.json"


def manifest_of_another_system() -> str:
    shutil.copytree("generated", "made")
    clips = [{"id": i, "file": f"{i}.wav", "prompt": None} for i in reversed(range(6))]
    Path("made/manifest.json").write_text(json.dumps({"clips": clips}))
    return "made"


def renamed(folder: str) -> list[list[str]]:
    """Copies clips under names of another order; gives file and id of each."""
    Path(folder).mkdir()
    for i, clip in enumerate(ORDER):
        shutil.copy(f"generated/{clip}.wav", f"{folder}/take {i}.wav")
    return [[f"take {i}.wav", str(clip)] for i, clip in enumerate(ORDER)]


def table() -> str:
    layouts.write_csv(Path("made/metadata.csv"), [["file", "id"], *renamed("made")])
    return "made"


def table_of_ones_own() -> str:
    layouts.write_csv(Path("made/best.csv"), [["id", "file"], *([f"{name}.flac", file] for file, name in renamed("made"))])
    return "made/best.csv"


@pytest.mark.parametrize("lay_out", [other_suffix, manifest, manifest_itself, manifest_of_another_system, table, table_of_ones_own])
def test_clips_pair_by_id_whatever_their_files_are_called(score, lay_out):
    generated, recorded = folder_rows("generated"), folder_rows("reference")
    right = kl_of(list(zip(generated, recorded, strict=True)))
    wrong = kl_of([(generated[clip], recorded[i]) for i, clip in enumerate(ORDER)])
    assert abs(right - wrong) > 0.1 * right
    assert values(score(generated=lay_out()))["kl"] == pytest.approx(right, rel=1e-4)


def test_ids_and_classes_are_the_same_on_whatever_system_the_files_were(tmp_path):
    for name in ("NFC", "NFD"):
        path = tmp_path / name / unicodedata.normalize(name, "がらす/ガラス.wav")
        path.parent.mkdir(parents=True)
        path.touch()
    (one,), (other,) = (list_clips(tmp_path / name) for name in ("NFC", "NFD"))
    assert (one.id, one.label) == (other.id, other.label) == ("がらす/ガラス", "がらす")


def test_other_names_make_other_pairs_and_no_other_distance(score):
    before = values(score())
    for i, clip in enumerate(ORDER):
        Path(f"generated/{clip}.wav").rename(f"generated/{i}.new")
    for path in Path("generated").iterdir():
        path.rename(path.with_suffix(".wav"))
    after = values(score())
    assert after["kl"] == pytest.approx(kl_of(list(zip(folder_rows("generated"), folder_rows("reference"), strict=True))), rel=1e-4)
    assert abs(after["kl"] - before["kl"]) > 0.1 * before["kl"]
    assert after["fd"] == pytest.approx(before["fd"], rel=1e-9)


def test_recordings_without_a_generated_clip_are_no_hindrance(score):
    before = values(score())["kl"]
    layouts.tone(Path("reference/more.wav"), 3000)
    assert values(score())["kl"] == before


def no_id_in_common() -> int:
    for i in range(6):
        Path(f"generated/{i}.wav").rename(f"generated/sample_{i}.wav")
    return 6


def one_id_missing() -> int:
    Path("reference/4.wav").rename("reference/04.wav")
    return 1


def two_candidates() -> int:
    entries = [Entry(str(i), "a tone", 7, candidate) for i in range(3) for candidate in range(2)]
    write_manifest(Path("generated"), {}, entries)
    for i, entry in enumerate(entries):
        Path(f"generated/{i}.wav").rename(Path("generated") / entry.file)
    return 6


@pytest.mark.parametrize("unpair", [no_id_in_common, one_id_missing, two_candidates])
def test_a_metric_of_pairs_is_never_computed_on_a_part(cli, score, unpair):
    where, problem, mend = "ids", f"{unpair()} of 6 generated clips have no recording of the same id", "name each as its recording"
    protocol(metrics={"fd": FD, "kl": KL, "lsd": LSD})
    result = score()
    assert set(result["metrics"]) == {"fd"}
    assert result["not_computed"] == {name: {"where": where, "problem": problem, "mend": mend} for name in ("kl", "lsd")}
    assert f"kl, lsd not computed for generated: {where}: {problem}; {mend}." in result["terminal"]
    said = refused(cli, "--strict", "true")
    assert said == f"error: generated: kl cannot be computed ({where}: {problem}); {mend}.\n"


def test_what_one_of_two_systems_lacks_is_stated_for_that_one(score, capfd):
    shutil.copytree("generated", "second")
    Path("second/4.wav").rename("second/04.wav")
    for words in ({"generated": "generated"}, {"generated": "second"}):
        other = {"generated": "second", "second": "generated"}[words["generated"]]
        result = score("--compare", other, "--latex", "o.tex", **words)
        assert "kl not computed for second: ids: 1 of 6 generated clips" in result["terminal"]
        assert "kl ↓" in result["terminal"]
        assert "KL" in Path("o.tex").read_text()
        assert "--" in Path("o.tex").read_text()
        assert set(result["comparison"]) == {"fd", "kad"}


# ---------------------------------------------------------------- bad input: a rule and its count, or one sentence


def refused(cli, *words: object, generated: str = "generated", reference: str = "reference", protocol: str = "light.yaml") -> str:
    """Status 2, one sentence that ends stderr, and nothing written; gives the sentence."""
    paths = ("--generated", generated, "--reference", reference, "--protocol", protocol)
    status, out, err = cli("evaluate", *paths, *OUTPUTS, *words)
    assert status == 2
    (sentence,) = (line for line in err.splitlines(keepends=True) if line.startswith("error: "))
    assert sentence.endswith(".\n")
    assert err.endswith(sentence)
    assert "Traceback" not in out + err
    assert not Path("out").exists()
    return sentence


def samples_of(path: str) -> np.ndarray:
    return soundfile.read(path, dtype="float32")[0]


def stereo(path: Path) -> np.ndarray:
    samples = samples_of(path)
    soundfile.write(path, np.stack([samples, samples], axis=1), RATE, subtype="FLOAT")
    return samples


def unlike_channels(path: Path) -> np.ndarray:
    samples, noise = samples_of(path), np.random.default_rng(0).uniform(-0.5, 0.5, 8000).astype("float32")
    soundfile.write(path, np.stack([samples, noise], axis=1), RATE, subtype="FLOAT")
    return (samples + noise) / 2


def silent(path: Path) -> np.ndarray:
    soundfile.write(path, np.zeros(8000), RATE)
    return np.zeros(8000)


def clipped(path: Path) -> np.ndarray:
    samples = (10 * samples_of(path)).clip(-1, 1)
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    return samples


def short(path: Path) -> np.ndarray:
    samples = samples_of(path)[:1000]
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    return samples


def one_sample(path: Path) -> np.ndarray:
    soundfile.write(path, np.array([0.5]), RATE, subtype="FLOAT")
    return np.array([0.5])


def another_rate(path: Path) -> np.ndarray:
    layouts.tone(path, 1000, 0, sample_rate=44_100)
    return resample(torch.from_numpy(samples_of(path)), 44_100, RATE).numpy()


def a_document(path: Path) -> np.ndarray:
    path.with_name("notes.pdf").write_bytes(b"%PDF")
    return samples_of(path)


RULES = {
    stereo: "stereo: channels are averaged",
    unlike_channels: "stereo: channels are averaged",
    silent: "silent: scored as silence",
    clipped: "clipped: scored as it is",
    short: "padded: shorter than an extractor's window, padded with zeros",
    one_sample: "padded: shorter than an extractor's window, padded with zeros",
    another_rate: "resampled: brought to the protocol's rate",
    a_document: "not audio: passed over",
}


@pytest.mark.parametrize("spoil", RULES)
def test_an_odd_file_is_scored_by_the_stated_rule(cli, score, spoil):
    scored = [rows_of(spoil(Path(f"generated/{i}.wav"))) if i < 2 else rows(Path(f"generated/{i}.wav")) for i in range(6)]
    result = score()
    count = 1 if spoil is a_document else 2
    assert result["passport"]["rules"] == {RULES[spoil]: count}
    assert f"generated and recordings: {count} files {RULES[spoil]}" in result["terminal"]
    recorded = folder_rows("reference")
    assert values(result)["fd"] == pytest.approx(fd_of(scored, recorded), rel=1e-4)
    assert values(result)["kl"] == pytest.approx(kl_of(list(zip(scored, recorded, strict=True))), rel=1e-4)
    rule = RULES[spoil].split(":")[0]
    said = refused(cli, "--strict", "true")
    assert f"generated/{'notes.pdf' if spoil is a_document else '0.wav'}: is {rule} (" in said


@pytest.mark.parametrize("spoil", RULES)
def test_the_rules_hold_for_recordings_too(cli, score, spoil):
    spoil(Path("reference/2.wav"))
    assert score()["passport"]["rules"] == {RULES[spoil]: 1}
    assert "reference/" in refused(cli, "--strict", "true")


def test_a_stereo_file_of_equal_channels_scores_exactly_like_its_mono_version(score):
    before = score()["metrics"]
    for i in range(6):
        stereo(Path(f"generated/{i}.wav"))
    assert score()["metrics"] == before


def test_a_set_of_silence_has_finite_scores(score):
    for i in range(6):
        silent(Path(f"generated/{i}.wav"))
    recorded = np.concatenate(folder_rows("reference"))
    assert values(score())["fd"] == pytest.approx((recorded.mean(0) ** 2).sum() + recorded.var(0, ddof=1).sum(), rel=1e-4)


def test_a_clean_set_needs_no_rule_and_passes_strict(score):
    assert score("--strict", "true")["passport"]["rules"] == {}


def test_litter_is_no_clip_and_no_rule(score):
    before = score()["metrics"]
    for litter in ("._0.wav", ".git/config", "__MACOSX/._1.wav", ".DS_Store", "prompts.txt"):
        path = Path("generated") / litter
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"litter")
    result = score("--strict", "true")
    assert (result["metrics"], result["passport"]["rules"]) == (before, {})


def put(content: bytes, name: str = "generated/2.wav") -> Callable[[], None]:
    """A file of these bytes in the place of another."""

    def write() -> None:
        Path(name).write_bytes(content)

    return write


def unfinite(value: float) -> Callable[[], None]:
    return lambda: soundfile.write("generated/2.wav", np.array([0.1, value, 0.1]), RATE, subtype="FLOAT")


def half_a_flac() -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, RATE)
    soundfile.write("generated/7.flac", noise, RATE)
    content = Path("generated/7.flac").read_bytes()
    Path("generated/7.flac").write_bytes(content[: len(content) // 2])


def leave(folder: str, count: int) -> Callable[[], None]:
    """Only so many clips."""

    def remove() -> None:
        for path in sorted(Path(folder).iterdir())[count:]:
            path.unlink()

    return remove


def clips_json(*clips: object) -> Callable[[], None]:
    return put(json.dumps({"clips": clips}).encode(), "generated/manifest.json")


def lines(*text: str) -> Callable[[], None]:
    return put("\n".join([*text, ""]).encode(), "generated/metadata.csv")


BROKEN = {
    "NaN": (unfinite(np.nan), r"generated/2\.wav: holds NaN"),
    "infinite": (unfinite(-np.inf), r"generated/2\.wav: holds NaN or infinite"),
    "text": (put(b"hello"), r"generated/2\.wav: cannot be read as audio"),
    "a web page": (put(b"<!DOCTYPE html><html>Not found</html>"), r"generated/2\.wav: is a web page"),
    "no bytes": (put(b""), r"generated/2\.wav: is empty \(0 bytes\)"),
    "no samples": (lambda: soundfile.write("generated/2.wav", np.zeros(0), RATE), r"generated/2\.wav: holds no samples"),
    "half a FLAC": (half_a_flac, r"generated/7\.flac: "),
    "a broken recording": (put(b"hello", "reference/5.wav"), r"reference/5\.wav: cannot be read as audio"),
    "a format that cannot be read": (put(b"x", "generated/x.m4a"), r"x\.m4a: cannot be read as audio"),
    "two files of one id": (lambda: layouts.tone(Path("generated/0.flac"), 440), "generated: 2 clips have the id '0'"),
    "an empty folder": (leave("generated", 0), "generated: holds no audio file"),
    "no recording": (leave("reference", 0), "reference: holds no audio file"),
    "one clip": (leave("generated", 1), "needs at least 2 clips"),
    "one recording": (leave("reference", 1), "needs at least 2 clips"),
    "no such folder": (lambda: shutil.rmtree("generated"), "generated: no such file or folder"),
    "no such reference": (lambda: shutil.rmtree("reference"), "reference: no such file or folder"),
    "CSV: no file column": (lines("path,id", "0.wav,a"), r"metadata\.csv, line 1: lacks the columns file"),
    "CSV: nothing": (lines(), r"metadata\.csv, line 1: lacks the columns file"),
    "CSV: first line alone": (lines("file,id"), r"metadata\.csv: lists no clip"),
    "CSV: missing file": (lines("file", "0.wav", "no.wav"), r"generated/no\.wav: no such audio file; correct generated"),
    "CSV: one id twice": (lines("file,id", "0.wav,a", "1.wav,a.flac"), "generated: 2 clips have the id 'a'"),
    "CSV: leaves the folder": (lines("file", "../reference/0.wav"), r"line 2: '\.\./reference/0\.wav' lies outside"),
    "CSV: Latin-1": (put("file,caption\n0.wav,Käuzchen\n".encode("latin-1"), "generated/metadata.csv"), "is not UTF-8"),
    "manifest: no JSON": (put(b"{", "generated/manifest.json"), r"manifest\.json: is no manifest of generated clips"),
    "manifest: no UTF-8": (put(b"\xff\xfe", "generated/manifest.json"), r"manifest\.json: is no manifest"),
    "manifest: no clips": (put(b"{}", "generated/manifest.json"), r"manifest\.json: is no manifest"),
    "manifest: a list": (put(b"[1]", "generated/manifest.json"), r"manifest\.json: is no manifest"),
    "manifest: a number": (put(b"7", "generated/manifest.json"), r"manifest\.json: is no manifest"),
    "manifest: names alone": (clips_json("0.wav"), r"manifest\.json: is no manifest"),
    "manifest: no id": (clips_json({"file": "0.wav"}), r"manifest\.json: is no manifest"),
    "manifest: empty": (clips_json(), "generated: holds no audio file"),
    "manifest: missing file": (clips_json({"id": "a", "file": "no.wav"}), r"generated/no\.wav: no such audio file"),
    "manifest: one id twice": (
        clips_json(*[{"id": "a", "file": f"{i}.wav", "seed": i} for i in range(2)]), "generated: 2 clips have the id 'a #0'"
    ),
}  # fmt: skip


def test_a_part_that_a_list_names_is_read(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.linspace(0, 0.5, RATE), RATE, subtype="FLOAT")
    (tmp_path / "list.csv").write_text("file,id,start,end\na.wav,a,0.25,0.5\na.wav,b,,\n")
    part, whole = (Reader(RATE, 0.1, strict=False).read(clip) for clip in list_clips(tmp_path / "list.csv"))
    assert part.equal(whole[RATE // 4 : RATE // 2])


def test_all_that_cannot_be_read_is_told_at_once(cli, sets):
    for name in ("generated/2.wav", "generated/5.wav", "reference/7.wav"):
        Path(name).write_bytes(b"hello" if "5" in name else b"")
    status, _, err = cli("evaluate", "--generated", "generated", "--reference", "reference", "--protocol", "light.yaml")
    assert status == 2
    for name in ("generated/2.wav: is empty", "generated/5.wav: cannot be read as audio", "reference/7.wav: is empty"):
        assert len(re.findall(f"^{name}", err, re.MULTILINE)) == 1
    assert re.search(r"error: generated/2\.wav: is empty \(0 bytes\), and 2 of the other \d+ files cannot be read either", err)


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_input_is_one_sentence_and_nothing_is_written(cli, sets, kind):
    spoil, message = BROKEN[kind]
    spoil()
    assert re.search(message, refused(cli))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "evaluate: has nothing to score; give --generated and --reference, or --run alone."),
        (("--run", "r"), "r: has no config.yaml, so no run of `fit` has ended there; give its runs/NAME/version_N, or let it end."),
        (("--run", "r", "--generated", "r"), "--run: stands beside --generated; leave one of them out."),
    ],
)
def test_what_cannot_be_scored_is_one_sentence(cli, workdir, words, sentence):
    (workdir / "r").mkdir()
    status, _, err = cli("evaluate", *words)
    assert (status, err.splitlines()[-1]) == (2, f"error: {sentence}")


def test_clips_listed_in_json_lines_are_those_of_the_csv(sets):
    folder, table = Path("generated"), [{"file": f"{number}.wav", "caption": "tone"} for number in range(6)]
    (folder / "clean.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in table))
    layouts.write_csv(folder / "clean.csv", [["file", "caption"], *([row["file"], row["caption"]] for row in table)])
    assert list_clips(folder / "clean.jsonl") == list_clips(folder / "clean.csv") != []


def test_the_folder_of_an_output_is_made(score):
    score(*(f"deep/er/{word}" if "/" in word else word for word in OUTPUTS), "--json", "o.json")
    assert all(Path(f"deep/er/out/o.{suffix}").stat().st_size > 100 for suffix in ("csv", "tex"))


@pytest.mark.parametrize("name", ["--json", "--csv", "--latex"])
@pytest.mark.parametrize("path", ["generated", "light.yaml/o"])
def test_an_output_that_cannot_be_written_is_one_sentence(cli, sets, name, path):
    paths = ("--generated", "generated", "--reference", "reference", "--protocol", "light.yaml")
    status, out, err = cli("evaluate", *paths, name, path)
    assert (status, out) == (2, "")
    assert err.splitlines()[-1].startswith(f"error: {path}: cannot be written")


# ---------------------------------------------------------------- protocols


def test_a_protocol_is_found_by_name_from_any_folder(aisfx_at_hand, workdir, monkeypatch):
    assert load_protocol("embedded").name == "embedded"
    (workdir / "deep").mkdir()
    monkeypatch.chdir(workdir / "deep")
    assert list(load_protocol("embedded").metrics)[:2] == ["kad", "kad_reconstructed"]


def test_a_protocol_of_ones_own_is_found_by_path(workdir):
    assert load_protocol(str(protocol("mine.yaml", name="mine"))).name == "mine"


def test_metrics_share_an_extractor_with_equal_settings(workdir):
    assert len(load_protocol(str(protocol())).extractors) == 1


def test_an_unknown_protocol_lists_the_known_ones(cli, sets):
    known = ", ".join(sorted(path.stem for path in packaged("evaluation/protocols").iterdir()))
    assert refused(cli, protocol="no") == f"error: no: is no protocol; give a YAML file or one of {known}.\n"


def test_a_protocol_without_its_published_weights_says_where_they_belong(cli, sets):
    sentence = refused(cli, protocol="audioldm-2023")
    name = re.search(r"no such file of weights; python -m audioldm_lit assets fetch (\S+), or evaluate --weights", sentence)[1]
    assert asset(name)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("vggish", "--weights vggish: names no file; write NAME=FILE."),
        ("vgish=light.yaml", "vgish: is no asset; the nearest is vggish."),
        ("vggish=nope=1.pth", "nope=1.pth: no such file or folder; correct --weights vggish=FILE."),
        ("vggish=light.yaml", "--weights vggish: nothing here asks for it; leave it out, or choose another --protocol."),
    ],
)
def test_weights_on_the_command_line_are_one_sentence_where_they_are_wrong(cli, sets, given, sentence):
    assert refused(cli, "--weights", given) == f"error: {sentence}\n"


@pytest.mark.parametrize("name", ["clap-htsat-unfused", "laion/clap-htsat-unfused"])
def test_weights_on_the_command_line_stand_for_those_of_a_protocol(cli, sets, tiny_folder, name):
    settings = {"extractor": {"class_path": METRICS + "extractors.clap.CLAP"}}
    path = protocol("clap.yaml", metrics={"kad": {**KAD, "init_args": settings}})
    assert "assets fetch clap-htsat-unfused" in refused(cli, protocol=str(path))
    words = ["--generated", "generated", "--reference", "reference", "--protocol", path, "--device", "cpu"]
    status, _, err = cli("evaluate", *words, "--weights", f"{name}={tiny_folder}")
    assert status == 0, err


def with_metric(name: str, **init_args: Any) -> dict[str, Any]:
    return {"metrics": {"it": {"class_path": METRICS + name, "init_args": init_args}}}


TEXTS = {
    "open bracket": "a: [\n",
    "tab": "class_path:\n\t- x\n",
    "a list": "- a\n",
    "a word": "hello\n",
    "a number": "7\n",
    "UTF-16": "class_path: x\n".encode("utf-16"),
    "no metrics": "class_path: audioldm_lit.evaluation.protocol.Protocol\n",
    "another class": f"class_path: {METRICS}kernel.KAD\n",
    "an unknown class": "class_path: nowhere.Protocol\n",
}
WITHOUT_WEIGHTS = {"class_path": METRICS + "extractors.aisfx.AISFX", "init_args": {"weights": "no.pth"}}
SETTINGS = {
    "no metric": ({"metrics": {}}, "protocol 'light': has no metric"),
    "a misspelt setting": ({"sampel_rate": 16_000}, "'sampel_rate' is not accepted"),
    "a wrong type": ({"sample_rate": "fast"}, "Got value: fast"),
    "a misspelt metric": (with_metric("frechet.Frechet"), "no attribute 'Frechet'"),
    "a misspelt setting of a metric": (with_metric("neighbours.Coverage", q=3), "'q' is not accepted"),
    "a wrong type in a metric": (with_metric("neighbours.Coverage", k="many"), "Got value: many"),
    "an unknown extractor": (with_metric("kernel.KAD", extractor="test_evaluate.Nothing"), "no attribute 'Nothing'"),
    "unknown features": (with_metric("kernel.KAD", features="embeding"), "has no features 'embeding'; use embedding"),
    "missing weights": (with_metric("kernel.KAD", extractor=WITHOUT_WEIGHTS), r"no\.pth: cannot be read"),
}
NOT_YET = {
    "no extractor": with_metric("frechet.FrechetDistance", extractor=None),
    "no neighbour": with_metric("neighbours.Coverage", k=0),
    "no split": with_metric("inception.InceptionScore", splits=0),
    "a rate of 0": {"sample_rate": 0},
    "a negative rate": {"sample_rate": -1},
    "a peak of 0": {"peak": 0},
    "a negative peak": {"peak": -1},
}


@pytest.mark.parametrize("kind", TEXTS)
def test_a_file_that_is_no_protocol_is_one_sentence(cli, sets, kind):
    text = TEXTS[kind]
    Path("light.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert refused(cli).startswith("error: light.yaml: is no protocol (")


@pytest.mark.parametrize("text", ["", "# nothing\n", "null\n"])
def test_an_empty_protocol_is_one_sentence(cli, sets, text):
    Path("light.yaml").write_text(text)
    assert refused(cli).startswith("error: light.yaml: is no protocol (")


@pytest.mark.parametrize("kind", SETTINGS)
def test_a_wrong_protocol_is_one_sentence(cli, sets, kind):
    settings, message = SETTINGS[kind]
    protocol(**settings)
    assert re.search(message, refused(cli))


@pytest.mark.parametrize("kind", NOT_YET)
def test_an_impossible_setting_is_one_sentence(cli, sets, kind):
    protocol(**NOT_YET[kind])
    refused(cli)


# ---------------------------------------------------------------- passports

CHANGES = {
    "peak": (lambda: protocol(peak=None), "protocol"),
    "sample rate": (lambda: protocol(sample_rate=8000), "protocol"),
    "version": (lambda: protocol(version=2), "protocol"),
    "a metric's setting": (lambda: protocol(metrics={**USUAL, "kl": {**KL, "init_args": {"epsilon": 1e-6}}}), "protocol"),
    "a metric's features": (lambda: protocol(metrics={**USUAL, "fd": {**FD, "init_args": {"features": "logits"}}}), "protocol"),
    "another metric": (lambda: protocol(metrics={**USUAL, "is": IS}), "protocol"),
    "weights": (lambda: protocol(weights="second"), "extractors"),
    "a recording's content": (lambda: layouts.tone(Path("reference/3.wav"), 444), "target"),
    "a recording's name": (lambda: Path("reference/3.wav").rename("reference/3b.wav"), "target"),
    "a recording more": (lambda: layouts.tone(Path("reference/more.wav"), 444), "target"),
    "a clip less": (lambda: Path("generated/5.wav").unlink(), ""),
    "the seed": (lambda: None, "seed"),
}  # fmt: skip


def evaluated(seed: int = 0) -> Evaluation:
    return score_files(load_protocol("light.yaml"), Path("generated"), Path("reference"), seed=seed)


@pytest.mark.parametrize("kind", CHANGES)
def test_systems_that_were_scored_differently_never_share_a_table(sets, kind):
    change, entry = CHANGES[kind]
    before = evaluated()
    change()
    stereo(Path("generated/0.wav"))  # which rules were needed is no difference
    systems = {"a": before, "b": evaluated(seed=int(kind == "the seed"))}
    assert len({one.passport["sha256"] for one in systems.values()}) == 2
    message = f"^a and b: were scored differently, {entry}[^ ]* is .*; score both alike\\.$"
    if kind == "a clip less":
        message = "^a and b: have 6 and 5 clips, .*; give both as many\\.$"
    with pytest.raises(InputError, match=message):
        check_comparable({name: one.passport for name, one in systems.items()})
    for table in (terminal, to_csv, to_latex, lambda both: show(both, Console())):
        with pytest.raises(InputError, match=message):
            table(systems)


@pytest.mark.parametrize(("setting", "said"), [("peak", r"peak is 0\.5 and null"), ("version", "version is 1 and 2")])
def test_the_setting_that_differs_is_named(sets, setting, said):
    before = evaluated()
    protocol(**{setting: {"peak": None, "version": 2}[setting]})
    with pytest.raises(InputError, match=said):
        to_csv({"a": before, "b": evaluated()})


def moved() -> None:
    for name in ("generated", "reference"):
        shutil.move(name, f"elsewhere/{name}")
        Path(name).symlink_to(f"elsewhere/{name}")


def test_nothing_is_read_that_lies_outside_of_the_folder_by_a_link_or_a_list(sets, tmp_path):
    layouts.tone(tmp_path / "private.wav", 440)
    Path("generated/leak.wav").symlink_to(tmp_path / "private.wav")
    with pytest.raises(InputError, match=rf"generated/leak\.wav: leads to {tmp_path}/private\.wav, outside generated; copy"):
        list_clips(Path("generated"))
    Path("generated/leak.wav").unlink()
    rows = [{"id": "leak", "file": "../private.wav"}]
    Path("generated/manifest.json").write_text(json.dumps({"clips": rows}))
    with pytest.raises(InputError, match=r"outside generated"):
        list_clips(Path("generated"))


def other_files_of_the_same_sound() -> None:
    for i in range(6):
        samples, rate = soundfile.read(f"reference/{i}.wav", dtype="int16")
        soundfile.write(f"reference/{i}.flac", samples, rate)
        Path(f"reference/{i}.wav").unlink()


def listed_backwards() -> None:
    layouts.write_csv(Path("reference/metadata.csv"), [["file"], *([f"{i}.wav"] for i in reversed(range(6)))])


def other_sounds() -> None:
    tones("generated", 1000, 7)


def described_otherwise() -> None:
    content = json.loads(Path("light.yaml").read_text())
    Path("light.yaml").write_text(json.dumps(content, indent=4, sort_keys=True))


@pytest.mark.parametrize("change", [moved, other_files_of_the_same_sound, listed_backwards, other_sounds, described_otherwise])
def test_order_and_place_of_files_do_not_change_the_passport(sets, change):
    before = evaluated().passport
    change()
    after = evaluated().passport
    assert after["sha256"] == before["sha256"]
    assert (after["preds"]["audio_sha256"] == before["preds"]["audio_sha256"]) == (change is not other_sounds)
    check_comparable({"a": before, "b": after})


def test_values_do_not_hang_on_the_order_of_files(sets):
    before = evaluated().as_dict()["metrics"]
    listed_backwards()
    assert evaluated().as_dict()["metrics"] == before


# ---------------------------------------------------------------- features that were kept


def kept() -> dict[Path, int]:
    """Files of features and when they were written."""
    return {path: path.stat().st_mtime_ns for path in Path("cache/audioldm_lit/features").rglob("*") if path.is_file()}


def test_a_second_run_extracts_nothing_and_gives_the_same_numbers(score):
    first = score()
    files = kept()
    assert len(files) == 12
    assert score() == first
    assert kept() == files


def test_the_cache_folder_can_be_chosen(score):
    score("--cache_dir", "here")
    assert not kept()
    assert len(list(Path("here").rglob("*.safetensors"))) == 12


def test_a_clip_that_was_generated_again_is_scored_again(score):
    before = score()
    tones("generated", 1000, 7)
    after = score()
    assert after["metrics"] != before["metrics"]
    assert after["metrics"] == score("--cache_dir", "empty")["metrics"]
    tones("generated", 600, 0)
    assert score()["metrics"] == before["metrics"]


def test_other_weights_and_another_level_are_extracted_anew(score):
    before = score()
    protocol(weights="second")
    assert score()["metrics"] == before["metrics"]
    assert len(kept()) == 24
    protocol(peak=0.25)
    assert values(score())["fd"] == pytest.approx(values(before)["fd"] / 4, rel=1e-3)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-8])


@pytest.mark.parametrize(
    "damage", [cut, lambda path: path.write_bytes(b""), lambda path: path.write_bytes(b"not features " * 9), Path.unlink]
)
def test_damaged_features_are_made_again(score, damage):
    before = score()
    sound = {path: path.read_bytes() for path in kept()}
    for path in list(sound)[::2]:
        damage(path)
    assert score() == before
    assert {path: path.read_bytes() for path in kept()} == sound


def test_a_cache_that_cannot_be_written_is_one_sentence(cli, sets):
    Path("taken").write_text("a file")
    assert "cannot be written" in refused(cli, "--cache_dir", "taken")


# ---------------------------------------------------------------- two systems


def levels(folder: str, amplitudes: Sequence[float]) -> str:
    """Square waves: the level of each clip is its amplitude."""
    shutil.rmtree(folder, ignore_errors=True)
    Path(folder).mkdir()
    for i, amplitude in enumerate(amplitudes):
        soundfile.write(f"{folder}/{i}.wav", amplitude * np.resize([1.0, -1.0], 8000), RATE, subtype="FLOAT")
    return folder


@pytest.fixture
def compare(score) -> Callable[..., dict[str, Any]]:
    """How the second of two sets of levels compares with the first; higher is better."""
    protocol(peak=None, metrics={"level": LEVEL})

    def run(first: Sequence[float], second: Sequence[float]) -> dict[str, Any]:
        result = score("--compare", levels("second", second), generated=levels("first", first))
        assert f"level: {result['comparison']['level']['verdict']}" in result["terminal"]
        return result["comparison"]["level"]

    return run


FIRST = np.random.default_rng(0).normal(0.4, 0.1, 12)
SPREAD = np.random.default_rng(1).normal(0.0, 0.05, 12)
SPREAD -= SPREAD.mean()


def test_of_identical_systems_nothing_can_be_told(compare):
    verdict = compare(FIRST, FIRST)
    assert verdict["verdict"] == "cannot tell"
    assert (verdict["difference"], verdict["interval"], verdict["clips_needed"]) == (0, [0, 0], None)


def test_a_clear_difference_is_told_and_turns_with_the_order(compare):
    worse, better = compare(FIRST, FIRST + SPREAD - 0.2), compare(FIRST + SPREAD - 0.2, FIRST)
    assert (worse["verdict"], better["verdict"]) == ("worse", "better")
    assert worse["difference"] == pytest.approx(-0.2, abs=1e-6)
    assert better["difference"] == -worse["difference"]
    assert better["interval"] == pytest.approx([-end for end in reversed(worse["interval"])], rel=1e-9)


def test_clips_needed_shrink_with_the_square_of_the_difference(compare):
    differences = (0.001, 0.002, 0.004, 0.008)
    verdicts = [compare(FIRST, FIRST + SPREAD + difference) for difference in differences]
    needed = [one["clips_needed"] for one in verdicts]
    assert all(one["verdict"] == f"cannot tell, would need about {one['clips_needed']:,} clips" for one in verdicts)
    assert all(count > 12 for count in needed)
    assert [count * difference**2 for count, difference in zip(needed, differences, strict=True)] == pytest.approx(
        [needed[0] * differences[0] ** 2] * 4, rel=0.05
    )


def test_clips_of_equal_ids_are_compared_in_pairs(compare, score):
    """Beside what all clips have in common, what two systems made of the same prompt differs little."""
    assert compare(FIRST, FIRST + SPREAD / 10 - 0.02)["verdict"] == "worse"
    for path in Path("second").iterdir():
        path.rename(path.with_stem(f"x{path.stem}"))
    result = score("--compare", "second", generated="first")
    assert result["comparison"]["level"]["verdict"].startswith("cannot tell, would need about")


def test_a_worse_system_is_told_by_distances_too(score):
    tones("near", 420, 90)
    result = score("--compare", tones("far", 3000, 90), generated=tones("near", 420, 90))
    assert {name: one["verdict"] for name, one in result["comparison"].items() if name != "fd"} == {"kl": "worse", "kad": "worse"}
    assert values(result["compare"])["fd"] > 10 * values(result)["fd"]


def test_a_system_with_another_number_of_clips_is_refused(cli, sets):
    shutil.copytree("generated", "second")
    Path("second/5.wav").unlink()
    said = refused(cli, "--compare", "second")
    assert said == "error: generated and second: have 6 and 5 clips, and values depend on the number of clips; give both as many.\n"


def test_two_systems_of_one_name_are_refused(cli, sets):
    shutil.copytree("generated", "other/generated")
    assert "--generated and --compare: are both called 'generated'; rename one folder" in refused(
        cli, "--compare", "other/generated"
    )


@pytest.mark.parametrize(("first", "second"), [("lr0.1", "lr0.5"), ("lr0.1/manifest.json", "lr0.5/manifest.json")])
def test_systems_are_called_by_their_folders(score, first, second):
    for folder in ("lr0.1", "lr0.5"):
        shutil.copytree("generated", folder)
        clips = [{"id": i, "file": f"{i}.wav"} for i in range(6)]
        Path(folder, "manifest.json").write_text(json.dumps({"clips": clips}))
    assert "lr0.5 against lr0.1" in score("--compare", second, generated=first)["terminal"]


def test_no_figure_is_cut_at_80_columns_whatever_systems_are_called(score, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    long = "a_system_with_a_name_as_people_give_them-rank16-lr1e-4-[b]seed0"
    shutil.copytree("generated", long)
    result = score("--compare", tones("other", 3000, 9), generated=long)
    for value in [*values(result).values(), *values(result["compare"]).values()]:
        assert f"{value:.3g}" in result["terminal"]
    assert "…" not in result["terminal"]
    assert f"other against {long}:" in result["terminal"]


# ---------------------------------------------------------------- training clips


def test_a_copy_of_a_training_clip_is_named(score):
    """At half its level, beneath clips of the same kind that are none."""
    for folder, seed in (("made", 0), ("real", 10), ("trained", 20)):
        for i in range(6):
            gate = np.random.default_rng(seed + i).uniform(size=16).repeat(1000) > 0.5
            noise = 0.2 * np.random.default_rng(seed + i).normal(size=16_000) * gate
            Path(folder).mkdir(exist_ok=True)
            soundfile.write(f"{folder}/{folder} {i}.wav", noise, RATE)
    soundfile.write("made/made 3.wav", soundfile.read("trained/trained 5.wav")[0] / 2, RATE)
    copies = {"class_path": METRICS + "copies.Memorisation"}
    protocol(metrics={"copies": {**copies, "init_args": {"extractor": METRICS + "extractors.fingerprint.Fingerprint"}}})
    result = score("--training", "trained", generated="made", reference="real")
    assert values(result)["copies"] == pytest.approx(1 / 6)
    assert "copies of made: 'made 3' is a near-copy of 'trained 5'" in result["terminal"]
    assert result["passport"]["train"]["n_clips"] == 6


def test_with_the_decoder_of_the_model_clips_are_scored_against_reconstructions_too(score, tiny_folder, backbone):
    protocol(peak=None, metrics={"kad": KAD, "kad_reconstructed": {**KAD, "class_path": METRICS + "kernel.ReconstructionKAD"}})
    result = score("--decoder", str(tiny_folder), "--vocoder", "griffin_lim")
    for path in Path("reference").iterdir():
        waveform = torch.from_numpy(soundfile.read(path, dtype="float32")[0])[None]
        soundfile.write(path, backbone.reconstruct(waveform, "griffin_lim")[0].numpy(), RATE, subtype="FLOAT")
    assert values(score())["kad"] == pytest.approx(values(result)["kad_reconstructed"], rel=1e-6)
    assert result["passport"]["decoder"]["vocoder"] == "griffin_lim"


def test_without_a_decoder_there_is_no_score_against_reconstructions(score):
    protocol(metrics={"kad": KAD, "kad_reconstructed": {**KAD, "class_path": METRICS + "kernel.ReconstructionKAD"}})
    result = score()
    assert result["not_computed"]["kad_reconstructed"]["where"] == "--decoder"
    assert result["metrics"]["kad"]["sides"] == ["preds", "target"]


# ---------------------------------------------------------------- a metric without an extractor


def test_log_spectral_distance_of_a_clip_at_half_its_level_is_log10_of_4(score):
    """The power of every bin is a quarter."""
    shutil.copytree("reference", "half")
    for path in Path("half").iterdir():
        soundfile.write(path, soundfile.read(path)[0] / 2, RATE, subtype="FLOAT")
    protocol(peak=None, metrics={"lsd": LSD})
    result = score(generated="half")
    one = result["metrics"]["lsd"]
    assert one["value"] == pytest.approx(np.log10(4), rel=1e-6)
    assert one["interval"] == pytest.approx([np.log10(4)] * 2, rel=1e-6)
    assert (one["n_clips"], one["n_rows"], one["extractor"]) == (6, 6, "")
    assert result["passport"]["extractors"] == {}
    assert values(score(generated="reference"))["lsd"] == pytest.approx(0, abs=1e-9)


def test_log_spectral_distance_needs_pairs(cli, sets):
    protocol(metrics={"lsd": LSD})
    one_id_missing()
    assert "lsd cannot be computed (ids: 1 of 6 generated clips have no recording of the same id)" in refused(cli)


def test_log_spectral_distance_of_a_clip_of_one_sample_is_finite(score):
    protocol(metrics={"lsd": LSD})
    one_sample(Path("generated/3.wav"))
    assert 0 < values(score())["lsd"] < 20


def test_an_extractor_called_as_its_metric_takes_no_second_row():
    estimate = Estimate.of_mean(torch.tensor([1.0, 2.0]))
    for extractor, rows in (("onsets", 1), ("", 1), ("aisfx", 2)):
        score = Score(estimate, [], ("preds",), None, extractor, None)
        assert terminal({"generated": Evaluation({"onsets": score}, {})}).row_count == rows
