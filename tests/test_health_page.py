"""The map of a data set, and which recordings its page lets hear."""

import base64
import io
from pathlib import Path

import numpy as np
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_health import GOOD

from audioldm_lit.data.clips import Clip
from audioldm_lit.health.excerpts import LINKED, excerpts, worth_hearing
from audioldm_lit.health.findings import Examined, Finding
from audioldm_lit.health.projection import project


@given(st.integers(0, 2**32 - 1), st.integers(3, 30), st.integers(2, 12))
def test_a_map_shows_the_share_that_the_singular_values_say(seed, count, size):
    vectors = torch.randn(count, size, generator=torch.Generator().manual_seed(seed))
    places, shown = project(vectors)
    power = np.linalg.svd((vectors - vectors.mean(0)).double().numpy(), compute_uv=False) ** 2
    assert abs(shown - power[:2].sum() / power.sum()) < 1e-6
    assert places.abs().max() == 1


@given(st.integers(0, 2**32 - 1))
def test_what_lies_in_a_plane_keeps_its_distances(seed):
    generator = torch.Generator().manual_seed(seed)
    flat = torch.randn(9, 2, generator=generator, dtype=torch.float64)
    turned = flat @ torch.linalg.qr(torch.randn(7, 7, generator=generator, dtype=torch.float64))[0][:2] + 3
    ratio = torch.pdist(project(turned)[0].double()) / torch.pdist(flat)
    assert ratio.max() / ratio.min() < 1.001


def test_alike_vectors_are_no_map():
    places, shown = project(torch.ones(5, 4))
    assert (places == 0).all()
    assert shown == 0


def test_what_is_found_is_heard_first_and_then_what_lies_far_out():
    paths = [Path(f"{number}.wav") for number in range(5)]
    items = [Examined(Clip(path.name, path, "rain"), "train", GOOD) for path in paths[:4]]
    items.append(Examined(Clip("4.wav", paths[4], "rain"), "train", None))
    findings = [
        Finding("silent", "error", "", "", "", ("4.wav", "2.wav")),
        Finding("cut", "note", "", "", "", ("0.wav", *["2.wav"] * LINKED, "1.wav")),  # of which the last is too far behind
    ]
    places = {(path, None): (float(number), 0.0) for number, path in enumerate(paths[:4])}
    heard = worth_hearing(items, findings, places, most=3)
    assert [path for path, _ in heard] == [paths[2], paths[0], paths[3]]


def test_an_excerpt_is_of_the_part_that_the_clip_is(tmp_path):
    silent, loud = np.zeros(16_000), 0.5 * np.sin(np.arange(16_000))
    soundfile.write(tmp_path / "long.wav", np.concatenate([silent, loud, silent]), 16_000)
    parts = [(tmp_path / "long.wav", span) for span in ((2.0, 3.0), (1.0, 2.0), (0.0, 1.0), None)]
    made = excerpts([*parts, (tmp_path / "gone.wav", None)], threads=2)
    assert list(made) == parts
    assert [excerpt.seconds for excerpt in made.values()] == [1, 1, 1, 3]
    levels = [np.abs(soundfile.read(io.BytesIO(base64.b64decode(one.sound.partition(",")[2])))[0]).max() for one in made.values()]
    assert [level > 0.3 for level in levels] == [False, True, False, True]
