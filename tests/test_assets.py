"""Assets: fetched from a server on this machine, verified, carried in a tar; and all that can go wrong on the way."""

import hashlib
import io
import json
import os
import re
import shutil
import tarfile
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

from audioldm_lit.assets import registry as registry_module
from audioldm_lit.assets.asset import hub_cache
from audioldm_lit.assets.registry import asset, registry
from audioldm_lit.assets.sources import Download, HubModel, chosen_files
from audioldm_lit.errors import InputError
from audioldm_lit.places import packaged
from audioldm_lit.storage.cache_folder import cache_folder

from publisher import COMMIT, Publisher, publisher

CONTENT = bytes(range(256)) * 20_000  # 5 MB: several blocks
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MODEL = "cvssp/audioldm-m-full"


@pytest.fixture
def published(workdir, monkeypatch) -> Publisher:
    """A server with the file `weights.pth`, which is the asset `thing`, and the tiny model's place on the hub."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    with publisher() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        server.files["/a/weights_x=1.pth"] = CONTENT
        one = thing(server)
        monkeypatch.setattr(registry_module, "registry", lambda: {**registry(), "thing": one})
        yield server


def thing(server: Publisher, **changes: str) -> Download:
    facts = {"about": "a thing", "licence": "CC0", "wanted": "nothing"}
    return Download(name="thing", **{**facts, "url": f"{server.url}/a/weights_x=1.pth", **changes})


def place() -> Path:
    return cache_folder() / "weights" / "weights_x=1.pth"


# ---------------------------------------------------------------- the registry


def test_every_asset_says_where_it_comes_from_and_under_which_licence():
    content = yaml.safe_load(packaged("assets/registry.yaml").read_text(encoding="utf-8"))
    assert len(content) >= 20
    for name, entry in content.items():
        assert len({"hub", "url", "wheel", "page"} & entry.keys()) == 1, name
        assert entry["licence"], name
        assert asset(name).about


def test_every_asset_that_a_network_asks_for_is_known():
    assert {"vggish", "panns-cnn14-16k", "panns-cnn14-32k", "aisfx", "clap-htsat-unfused", "kenney-effects"} <= registry().keys()


def test_assets_are_listed_with_what_is_here(cli):
    (cache_folder() / "weights").mkdir(parents=True)
    (cache_folder() / "weights" / "Cnn14_16k_mAP%3D0.438.pth").write_bytes(b"as wget names it")
    status, out, err = cli("assets", "list", "panns-cnn14-16k", "vggish", "cvssp/audioldm")
    assert (status, err.replace("loading libraries\n", "")) == (0, "")
    words = {line.split()[0]: line.split()[1:4] for line in out.splitlines() if line[:1].strip()}
    assert words["panns-cnn14-16k"] == ["yes", "359", "MB"]
    assert words["vggish"][0] == "no"
    assert "by hand" in cli("assets", "list", "esc50")[1]
    assert words["audioldm-s-full"][:2] == ["no", "unknown"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["assets"], "assets: does not say what to do; use assets list, fetch"),
        (["assets", "fetch"], "assets fetch: nothing is named; see python -m audioldm_lit assets list."),
        (["assets", "fetch", "vgish"], "vgish: is no asset; the nearest is vggish."),
        (["assets", "fetch", "esc50"], "esc50: is not fetched by this program; get it from github.com/karolpiczak/ESC-50"),
        (["assets", "bundle", "vggish"], "--out: is the tar of `assets bundle`; give it there"),
        (
            ["assets", "bundle", "vggish", "--out", "a.tar"],
            "vggish: is not here, or not all of it; python",
        ),
        (["assets", "verify", "vggish"], "vggish: is not here, or not all of it; python -m audioldm_lit assets fetch vggish."),
        (["assets", "import", "nope.tar"], "nope.tar: cannot be unpacked ([Errno 2] No such file"),
        (["assets", "melt", "vggish"], "--action: "),
    ],
)
def test_what_assets_is_told_wrongly_is_one_sentence(cli, words, sentence):
    status, out, err = cli(*words)
    assert (status, out) == (2, "")
    assert err.splitlines()[-1].startswith(f"error: {sentence}")


def test_connections_are_opened_by_one_module_alone():
    """Beside pip, which fetches wheels in a process of its own; `air_gap.py` is what refuses them."""
    opening = (
        r"^\s*(?:import|from) (?:urllib\.request|http\b|requests|httpx|aiohttp|socket)|snapshot_download|hf_hub_download|torch\.hub"
    )
    sources = {path: path.read_text(encoding="utf-8") for path in packaged("cli.py").parent.rglob("*.py")}
    assert [
        path.name for path, text in sources.items() if path.name != "air_gap.py" and re.search(opening, text, re.MULTILINE)
    ] == ["download.py"]
    reading = [
        line for text in sources.values() for line in re.findall(r".*(?:Tokenizer|Extractor|Processor|Config)\.from_pre.*", text)
    ]
    assert len(reading) > 5
    assert [line for line in reading if "local_files_only=True" not in line] == []


# ---------------------------------------------------------------- plain addresses


def test_what_broke_off_is_continued_by_the_same_command(cli, published):
    published.break_after = 2_000_000
    status, _, err = cli("assets", "fetch", "thing")
    assert status == 2
    assert err.splitlines()[-1].endswith("broke off after 2.0 of 5.1 MB; run the same command again, it goes on from there.")
    assert not place().exists()
    published.break_after = None
    status, out, err = cli("assets", "fetch", "thing")
    assert status == 0, err
    assert published.asked == [("/a/weights_x=1.pth", 0), ("/a/weights_x=1.pth", 2_000_000)]
    assert place().read_bytes() == CONTENT
    assert [path.name for path in place().parent.iterdir()] == [place().name]
    assert out.splitlines()[-1] == f"{place()}: a thing; CC0; for nothing"
    assert json.loads(next((cache_folder() / "assets").iterdir()).read_text())["digests"] == {
        "weights/weights_x=1.pth": f"sha256:{SHA256}"
    }
    assert cli("assets", "fetch", "thing")[0] == 0
    assert len(published.asked) == 2


def test_nothing_is_added_to_a_part_of_another_file(published):
    published.break_after = 2_000_000
    with pytest.raises(InputError, match="broke off"):
        thing(published).fetch()
    published.break_after, published.files["/a/weights_x=1.pth"] = None, CONTENT[::-1]
    thing(published).fetch()
    assert place().read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("more", [b"", b"more"], ids=["all of it", "more than it"])
def test_a_part_that_is_already_whole_or_too_long_ends_as_the_file(published, more):
    part = place().with_name(f"{place().name}.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT + more)
    thing(published, sha256=SHA256).fetch()
    assert place().read_bytes() == CONTENT


def test_another_hash_than_was_published_is_named_and_the_file_not_kept(published):
    with pytest.raises(InputError, match=f"its SHA-256 is {SHA256}, not {'0' * 64}; it was removed"):
        thing(published, sha256="0" * 64).fetch()
    assert [path.name for path in place().parent.iterdir() if path.suffix != ".lock"] == []
    thing(published, sha256=SHA256).fetch()
    assert place().read_bytes() == CONTENT


def test_a_proxys_page_is_no_file(published):
    published.proxied = True
    with pytest.raises(InputError, match="answers with a web page, perhaps a proxy's, not the file"):
        thing(published).fetch()
    with pytest.raises(InputError, match="answers with something else than was asked, perhaps a proxy's page"):
        asset(MODEL).fetch()
    published.proxied = False
    thing(published).fetch()
    assert place().read_bytes() == CONTENT


def test_a_disk_that_is_full_is_named_and_what_does_not_fit_refused_before(published):
    part = place().with_name(f"{place().name}.part")
    part.parent.mkdir(parents=True)
    part.symlink_to("/dev/full")
    with pytest.raises(InputError, match=r"weights_x=1\.pth: the disk is full after 0\.0 MB; make room and run the same"):
        thing(published).fetch()
    part.unlink()
    published.claimed = 10**18
    with pytest.raises(InputError, match=r"needs 1,000,000,000,000 MB more, and [\d,]+ MB are free; make room"):
        thing(published).fetch()
    published.claimed = None
    thing(published).fetch()
    assert place().read_bytes() == CONTENT


def test_without_a_network_the_way_out_is_named(published):
    with pytest.raises(InputError, match=r"the server answers 404 Not Found; .*`assets bundle`"):
        thing(published, url=f"{published.url}/gone.pth").fetch()
    with pytest.raises(InputError, match=r"127\.0\.0\.1:9/x\.pth: cannot be reached \(.*refused\); .*`assets import`"):
        thing(published, url="http://127.0.0.1:9/x.pth").fetch()


def test_a_file_that_changed_since_is_found_and_fetched_again(cli, published):
    cli("assets", "fetch", "thing")
    place().write_bytes(CONTENT[:-1])
    status, _, err = cli("assets", "verify", "thing")
    assert status == 2
    assert f"not {SHA256}; python -m audioldm_lit assets fetch thing" in err
    assert cli("assets", "fetch", "thing")[0] == 0
    assert place().read_bytes() == CONTENT


def test_two_processes_do_not_write_into_the_same_part(published):
    place().parent.mkdir(parents=True)
    with FileLock(f"{place()}.part.lock"), pytest.raises(InputError, match="is being fetched by another process; wait for it"):
        thing(published).fetch()
    assert published.asked == []


# ---------------------------------------------------------------- the hub


def test_a_model_of_the_hub_is_fetched_file_by_file_and_loads_by_its_id(published, tiny_folder):
    from audioldm_lit.assets.finding import find_model

    source = Path("model")
    shutil.copytree(tiny_folder, source)
    (source / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"not wanted beside safetensors")
    published.publish(MODEL, source)
    published.break_after = 30_000
    with pytest.raises(InputError, match="broke off"):
        asset(MODEL).fetch()
    with pytest.raises(
        InputError, match=f"{MODEL}: was fetched in part; python -m audioldm_lit assets fetch audioldm-m-full goes on"
    ):
        find_model(MODEL)
    published.break_after = None
    asset("audioldm-m-full").fetch()
    folder = find_model(MODEL)
    assert folder == hub_cache() / "models--cvssp--audioldm-m-full" / "snapshots" / COMMIT
    there = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert there == {
        path.relative_to(source).as_posix(): path.read_bytes()
        for path in source.rglob("*")
        if path.is_file() and path.suffix != ".bin"
    }
    answers = [path for path, first in published.asked if first]
    assert len(answers) == 1  # the file that broke off; those before it were not asked for again
    assert len({path for path, _ in published.asked}) == len(there) + 1

    damaged = folder / "unet" / "diffusion_pytorch_model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match=r"its SHA-256 is .*; python -m audioldm_lit assets fetch audioldm-m-full"):
        asset(MODEL).verify()
    asset(MODEL).fetch()
    asset(MODEL).verify()


def test_a_newer_snapshot_of_another_program_takes_the_place_of_ours(published, tiny_folder):
    from audioldm_lit.assets.finding import find_model

    published.publish(MODEL, tiny_folder)
    asset(MODEL).fetch()
    ours = find_model(MODEL)
    shutil.move(ours, ours.with_name("newer"))
    (ours.parent.parent / "refs" / "main").write_text("newer")
    assert find_model(MODEL) == ours.with_name("newer")


def test_of_two_copies_of_the_same_weights_the_safer_and_fuller_is_fetched():
    names = ["a/model.safetensors", "a/pytorch_model.bin", "a/model.fp16.safetensors", "b/pytorch_model.bin", "README.md"]
    names += [
        "c/model.fp16.safetensors",
        "c/pytorch_model.bin",
        "d/model.safetensors.index.json",
        "d/model-00001-of-00002.safetensors",
    ]
    names += ["d/pytorch_model.bin.index.json", "d/tf_model.h5"]
    left_out = {"a/pytorch_model.bin", "a/model.fp16.safetensors", "d/pytorch_model.bin.index.json", "d/tf_model.h5"}
    assert chosen_files(names) == [name for name in names if name not in left_out]


@pytest.mark.parametrize("name", ["../evil", "a//b"])
def test_names_that_lead_out_of_a_models_folder_are_refused(published, name):
    listing = {"sha": COMMIT, "siblings": [{"rfilename": name, "size": 1, "blobId": "0"}]}
    published.files[f"/api/models/{MODEL}/revision/main"] = json.dumps(listing).encode()
    with pytest.raises(InputError, match="does not list its files"):
        asset(MODEL).fetch()


def test_offline_nothing_is_fetched(published, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match="HF_HUB_OFFLINE: is set"):
        asset(MODEL).fetch()
    assert published.asked == []


# ---------------------------------------------------------------- bundles


def files_below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_bundle_carries_assets_to_a_machine_without_a_network(cli, published, tiny_folder, monkeypatch):
    published.publish(MODEL, tiny_folder)
    for name in ("thing", MODEL):
        asset(name).fetch()
    model = asset(MODEL)
    assert isinstance(model, HubModel)
    (model.repository / "snapshots" / COMMIT / "audio_encoder" / "twins.json").write_text("{}")  # as doctor adds a tower
    status, out, err = cli("assets", "bundle", "thing", MODEL, "--out", "all.tar")
    assert status == 0, err
    assert "audioldm-m-full: CC BY-NC-SA 4.0" in out
    here = files_below(Path("cache"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(Path("other").absolute()))
    asked = len(published.asked)
    status, out, err = cli("assets", "import", "all.tar")
    assert status == 0, err
    assert files_below(Path("other")) == here
    assert cli("assets", "verify", "thing", MODEL)[1].count("as they should be") == 2
    assert len(published.asked) == asked


def test_what_another_program_fetched_is_bundled_through_its_links(published, tiny_folder):
    from audioldm_lit.assets.bundle import read_bundle, write_bundle

    model = asset(MODEL)
    assert isinstance(model, HubModel)
    shutil.copytree(tiny_folder, model.repository / "blobs")
    for path in sorted((model.repository / "blobs").rglob("*")):
        link = model.repository / "snapshots" / COMMIT / path.relative_to(model.repository / "blobs")
        link.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            link.symlink_to(path)
    write_bundle([model], Path("all.tar"))
    shutil.rmtree(model.repository)
    assert read_bundle(Path("all.tar")) == ["audioldm-m-full"]
    assert files_below(model.repository / "snapshots" / COMMIT) == files_below(tiny_folder)


def bundle(path: Path, file: str, content: bytes = b"x", **changes: object) -> Path:
    """A tar like those of `assets bundle`, of one file; changes are of its entry, or of its member."""
    entry = [changes.pop("size", len(content)), f"sha256:{changes.pop('sha256', hashlib.sha256(content).hexdigest())}"]
    files = {file: entry, **changes.pop("more", {})}
    manifest = {"format": changes.pop("format", "audioldm_lit assets 1"), "assets": {"panns-cnn14-16k": {"files": files}}}
    with tarfile.open(path, "w") as tar:
        for name, body in (
            (changes.pop("first", "manifest.json"), json.dumps(manifest).encode()),
            (changes.pop("name", file), content),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(body)
            if name != "manifest.json":
                for key, value in changes.items():
                    setattr(member, key, value)
            tar.addfile(member, io.BytesIO(body) if member.isreg() else None)
    return path


GOOD = "cache/weights/Cnn14_16k_mAP=0.438.pth"
LISTED = "is no file that its manifest.json lists"
WRONG = {
    "outside": ({"file": "cache/weights/../../../evil"}, "where nothing of panns-cnn14-16k belongs"),
    "absolute": ({"file": "/tmp/evil"}, "where nothing of panns-cnn14-16k belongs"),
    "of another asset": ({"file": "cache/weights/other.pth"}, "where nothing of panns-cnn14-16k belongs"),
    "in another room": ({"file": "hub/weights/Cnn14_16k_mAP=0.438.pth"}, "where nothing of panns-cnn14-16k belongs"),
    "a link": ({"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, LISTED),
    "a hard link": ({"type": tarfile.LNKTYPE, "linkname": "/etc/passwd"}, LISTED),
    "a device": ({"type": tarfile.CHRTYPE}, LISTED),
    "not listed": ({"name": "cache/weights/more.pth"}, LISTED),
    "of another size": ({"size": 2}, LISTED),
    "another hash": ({"sha256": "0" * 64}, "its SHA-256 is .*copy it again"),
    "one missing": ({"more": {"cache/weights/Cnn14_16k_mAP%3D0.438.pth": [1, "sha256:0"]}}, "lacks cache/weights/Cnn14_16k_mAP%3D"),
    "no manifest": ({"first": "other.json"}, "does not begin with a manifest.json"),
    "another format": ({"format": "2"}, "its format is '2'"),
    "far too large": ({"size": 10**18}, "are free; make room"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_bundle_that_is_not_what_it_says_writes_nothing(workdir, kind):
    from audioldm_lit.assets.bundle import read_bundle

    changes, sentence = WRONG[kind]
    path = bundle(workdir / "all.tar", **{"file": GOOD, **changes})
    with pytest.raises(InputError, match=sentence):
        read_bundle(path)
    assert [path for path in workdir.rglob("*") if path.is_file()] == [path]


SPARSE = tarfile.TarInfo("manifest.json")
SPARSE.pax_headers = {"GNU.sparse.size": "x"}
LIE = SPARSE.tobuf(tarfile.PAX_FORMAT) + bytes(1024)


@pytest.mark.parametrize("content", [b"", b"no tar at all", LIE, None], ids=["empty", "text", "a size that is no number", "half"])
def test_a_bundle_that_is_cut_short_writes_nothing(workdir, content):
    from audioldm_lit.assets.bundle import read_bundle

    path = bundle(workdir / "all.tar", GOOD, os.urandom(100_000))
    path.write_bytes(path.read_bytes()[:60_000] if content is None else content)
    with pytest.raises(InputError, match=r"all\.tar: "):
        read_bundle(path)
    assert [path for path in workdir.rglob("*") if path.is_file()] == [path]
