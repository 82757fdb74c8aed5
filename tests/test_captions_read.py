"""Captions wherever people keep them: beside the clips, in tables of many kinds; and what is left, guessed or decided is said."""

import codecs
import json
import unicodedata
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from openpyxl import Workbook

from audioldm_lit.data.folder import Folder
from audioldm_lit.data.tables.encoding import guessed
from audioldm_lit.errors import InputError
from audioldm_lit.health.checkup import examine
from audioldm_lit.health.report import write_manifest

import layouts

SPLITS = ("train", "val", "test")
ABC = ("a.wav", "b.wav", "c.wav")
WORDS = {"a.wav": "a dog", "b.wav": "rain", "c.wav": "c"}  # of c.wav nothing is said but its name


def write(root: Path, texts: dict[str, str | bytes], clips: tuple[str, ...] = ABC) -> Path:
    """Empty recordings, which is enough to list them, and texts."""
    for name, content in {**dict.fromkeys(clips, b""), **texts}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def read(root: Path, **options) -> tuple[dict[str, list[str]], list[str]]:
    """All captions of every clip, and what is said."""
    data = Folder(root, **options)
    found = {clip.id: [clip.caption, *clip.others] for split in SPLITS for clip in data.clips(split)}
    return found, [str(remark).replace(f"{root}/", "").replace(f"{root}", "root") for remark in data.remarks]


def captions(root: Path, **options) -> dict[str, str]:
    return {name: texts[0] for name, texts in read(root, **options)[0].items()}


# ---------------------------------------------------------------- beside the clips


@pytest.mark.parametrize(
    "texts",
    [
        {"a.txt": "a dog", "b.TXT": "rain\r\n"},
        {"a.caption": "a dog", "B.Caption": "rain"},
        {"a.lab": "a dog", "b.wav.txt": "rain"},
        {"a.json": '{"caption": "a dog"}', "b.json": '{"sr": 16000, "Prompt": "rain"}'},
        {"a.json": '"a dog"', "b.json": '{"text": ["rain"]}'},
        {"a.json": '{"id": 5, "description": "a dog"}', "b.json": '{"label": "rain"}'},
        {"a.txt": codecs.BOM_UTF8 + b"a dog", "b.txt": "rain".encode("utf-16")},
    ],
)
def test_side_cars_are_read(tmp_path, texts):
    assert captions(write(tmp_path, texts)) == WORDS


def test_lines_of_a_side_car_are_captions_of_their_own(tmp_path):
    found, said = read(write(tmp_path, {"a.txt": "ein Hund\r\n\nbellt  laut\n", "b.json": '["rain", "drops"]'}))
    assert found == {"a.wav": ["ein Hund", "bellt laut"], "b.wav": ["rain", "drops"], "c.wav": ["c"]}
    assert said == ["root: training draws one of the captions of a.wav and b.wav each time; nothing: all else takes the first."]


def test_of_two_side_cars_one_is_read_and_the_other_is_said(tmp_path):
    found, said = read(write(tmp_path, {"a.txt": "a dog", "a.lab": "0.0 1.5 bark", "b.json": '{"gain": 3}', "e.txt": "gone"}))
    assert found["a.wav"] == ["a dog"]
    assert "of a.lab, b.json and e.txt (lacks the columns file, caption) nothing is read" in said[0]


def test_times_of_a_label_track_are_no_caption(tmp_path):
    found, said = read(write(tmp_path, {"a.lab": "0 15000 sil\n15000 30000 bark\n", "b.txt": "0.1\t2.5\tdog\n"}))
    assert (found["a.wav"], found["b.wav"]) == (["a"], ["b"])
    assert "a.lab and b.txt" in said[0]


def test_each_of_two_recordings_that_differ_by_case_has_its_own_side_car(tmp_path):
    clips = ("Dog.wav", "dog.wav", "cat.wav")
    assert captions(write(tmp_path, {"Dog.txt": "big", "dog.txt": "small", "CAT.TXT": "a cat"}, clips)) == {
        "Dog.wav": "big", "dog.wav": "small", "cat.wav": "a cat"
    }  # fmt: skip


def test_a_side_car_in_another_normal_form_is_found(tmp_path):
    name = unicodedata.normalize("NFD", "été.wav")
    assert captions(write(tmp_path, {"été.txt": "summer"}, (name, "b.wav")))[name] == "summer"


def test_names_that_windows_keeps_for_itself_are_names(tmp_path):
    clips = ("con.wav", "AUX.wav", "com1.wav")
    assert captions(write(tmp_path, {"con.txt": "a cone"}, clips))["con.wav"] == "a cone"


# ---------------------------------------------------------------- tables

ROWS = [["file", "caption"], ["a.wav", "a dog"], ["b.wav", "rain"]]


def separated(mark: str, rows: list[list[str]] = ROWS) -> str:
    return "".join(f"{mark.join(row)}\n" for row in rows)


def workbook(path: Path, rows: list[list[object]]) -> None:
    book = Workbook()
    for row in rows:
        book.active.append(row)
    book.save(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *((name, separated(",")) for name in ("captions.csv", "Labels.CSV", "train.csv", "METADATA.csv", "音源一覧.csv", "x.txt")),
        *((name, separated(";")) for name in ("metadata.csv", "captions.CSV")),
        *((name, separated("\t")) for name in ("metadata.tsv", "Captions.TSV", "metadata.csv")),
        ("metadata.json", json.dumps([{"File_Name": "a.wav", "Text": "a dog"}, {"File_Name": "b.wav", "Text": "rain"}])),
        ("captions.json", json.dumps({"data": [{"wav": "a.wav", "caption": "a dog"}, {"wav": "b.wav", "caption": "rain"}]})),
        ("Captions.JSON", json.dumps({"a.wav": "a dog", "b.wav": {"prompt": "rain"}})),
        ("train.jsonl", '{"path": "./a.wav", "description": "a dog"}\n{"path": "b.wav", "description": "rain"}\n'),
        ("metadata.csv", separated(",").replace("file,caption", '"ファイル名","説明"')),
        ("metadata.csv", separated(",").replace("file,caption", " FileName , キャプション")),
        ("metadata.csv", codecs.BOM_UTF8 + separated(";").encode()),
        ("metadata.csv", separated(",").replace("a.wav", "A.WAV").replace("b.wav", ".\\b")),
    ],
)  # fmt: skip
def test_tables_are_read(tmp_path, name, content):
    found, said = read(write(tmp_path, {name: content}))
    assert found == {"a.wav": ["a dog"], "b.wav": ["rain"]}
    assert said == [f"{name}: leaves out 1 of 3 recordings: c.wav; add lines for them, or remove them."]


@pytest.mark.parametrize("name", ["metadata.xlsx", "一覧.XLSX"])
def test_workbooks_are_read(tmp_path, name):
    workbook(write(tmp_path, {}) / name, [["File", "Caption", None], ["a.wav", "a dog"], [], ["b.wav", 808]])
    assert captions(tmp_path) == {"a.wav": "a dog", "b.wav": "808"}
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:700])
    if name == "metadata.xlsx":
        with pytest.raises(InputError, match=r"metadata\.xlsx: is no readable workbook"):
            captions(tmp_path)


def test_a_table_may_name_files_without_their_folder(tmp_path):
    clips = ("wavs/a.wav", "wavs/b.wav", "more/b.wav")
    assert captions(write(tmp_path, {"metadata.csv": "id,file,caption\n1,a,x\n2,more/b.wav,y\n"}, clips)) == {
        "1": "x",
        "2": "y",
    }
    with pytest.raises(InputError, match=r"line 2: 'b\.wav' may be more/b\.wav or wavs/b\.wav; write"):
        read(write(tmp_path, {"metadata.csv": "file,caption\nb.wav,x\n"}, ()))
    names = {f"{split}.csv": f"file,caption\na.wav,{split}\n" for split in SPLITS}  # each beside a folder of its own name
    (tmp_path / "metadata.csv").unlink()
    write(tmp_path, names, tuple(f"{split}/a.wav" for split in SPLITS))
    assert captions(tmp_path) == {f"{split}/a.wav": split for split in SPLITS}


def test_numbered_columns_are_captions_of_one_clip(tmp_path):
    content = "file_name,caption_1,caption_2,caption_3,sound_id\na.wav,x,y,x,7\nb.wav,z,,,8\n"
    assert read(write(tmp_path, {"captions.csv": content}))[0] == {"a.wav": ["x", "y"], "b.wav": ["z"]}


def test_a_class_stands_in_for_a_caption(tmp_path):
    data = Folder(write(tmp_path, {"labels.csv": "file,label\na.wav,dog_bark\nb.wav,dog_bark\n"}), caption="the sound of {label}")
    assert {(clip.label, clip.caption) for clip in data.clips("train")} == {("dog_bark", "the sound of dog bark")}


def test_tables_in_split_folders_speak_of_their_own_folder(tmp_path):
    texts = {f"{split}/metadata.csv": separated(",") for split in SPLITS}
    data = Folder(write(tmp_path, texts, tuple(f"{split}/{name}" for split in SPLITS for name in ABC)))
    for split in SPLITS:
        assert {clip.id: clip.caption for clip in data.clips(split)} == {f"{split}/a.wav": "a dog", f"{split}/b.wav": "rain"}
    assert "leaves out 3 of 9 recordings: test/c.wav, train/c.wav and val/c.wav" in str(data.remarks[0])


def test_a_table_of_clips_in_split_folders_leaves_them_there(tmp_path):
    clips = [f"{split}/{take}.wav" for split in SPLITS for take in range(2)]
    data = Folder(write(tmp_path, {"metadata.csv": "file_name,text\n" + "".join(f"{clip},x\n" for clip in clips)}, tuple(clips)))
    assert [[clip.id for clip in data.clips(split)] for split in SPLITS] == [clips[:2], clips[2:4], clips[4:]]


def test_tables_that_are_called_as_splits_are_the_splits(tmp_path):
    texts = {
        "train.csv": "file,caption\na.wav,x\n",
        "Valid.csv": "file,caption\nb.wav,x\n",
        "test_metadata.csv": "file,caption\nc.wav,x\n",
    }
    data = Folder(write(tmp_path, texts))
    assert [[clip.id for clip in data.clips(split)] for split in SPLITS] == [["a.wav"], ["b.wav"], ["c.wav"]]


def test_a_table_of_a_usual_name_comes_first_and_equals_are_refused(tmp_path):
    write(tmp_path, {"captions.csv": separated(","), "another.csv": separated(","), "prices.csv": "item,price\nx,1\n"})
    found, said = read(tmp_path)
    assert found == {"a.wav": ["a dog"], "b.wav": ["rain"]}
    assert "of another.csv and prices.csv (lacks the columns file, caption) nothing is read" in said[1]
    write(tmp_path, {"labels.csv": separated(",")})
    with pytest.raises(InputError, match=r"labels\.csv: stands beside captions\.csv; keep one of the two tables, or name"):
        read(tmp_path)
    assert captions(tmp_path, table=tmp_path / "labels.csv")["a.wav"] == "a dog"


def test_objects_of_other_things_are_no_tables(tmp_path):
    found, said = read(write(tmp_path, {"labels.json": '{"0": "dog", "1": "rain"}', "config.json": '{"name": "x", "rate": 8}'}))
    assert set(found) == set(ABC)
    assert "of config.json (lacks file, caption) and labels.json (lacks file, caption) nothing is read" in said[0]


def test_a_table_of_a_usual_name_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"captions\.json: is no JSON"):
        read(write(tmp_path, {"captions.json": "{"}))
    (tmp_path / "captions.json").unlink()
    with pytest.raises(InputError, match=r"captions\.csv, line 1: lacks the columns file, caption; name them"):
        read(write(tmp_path, {"captions.csv": "a.wav,a dog\nb.wav,rain\n"}))


def test_rows_that_differ_in_the_caption_alone_are_captions_of_one_clip(tmp_path):
    found, said = read(write(tmp_path, {"metadata.csv": "file,caption\na.wav,a dog\nb.wav,rain\na.wav,a hound\n"}))
    assert found == {"a.wav": ["a dog", "a hound"], "b.wav": ["rain"]}
    assert any("one of the captions of a.wav each time" in one for one in said)
    write(tmp_path, {"metadata.csv": "file,caption\na.wav,a dog\na.wav,a dog\n"})
    with pytest.raises(InputError, match=r"line 3: 'a\.wav' is listed twice; keep one line for every clip"):
        read(tmp_path)


def test_a_name_that_two_files_may_have_is_refused(tmp_path):
    write(tmp_path, {"metadata.csv": "file,caption\nDOG.wav,x\n"}, ("Dog.wav", "dog.wav"))
    with pytest.raises(InputError, match=r"line 2: 'DOG\.wav' may be Dog\.wav or dog\.wav; write the name as it is"):
        read(tmp_path)
    write(tmp_path, {"metadata.csv": "file,caption\nDog.wav,x\ndog.wav,y\n"})
    assert captions(tmp_path) == {"Dog.wav": "x", "dog.wav": "y"}


# ---------------------------------------------------------------- encodings


@pytest.mark.parametrize("encoding", ["cp932", "euc_jp", "utf-16"])
def test_other_encodings_are_read_and_named(tmp_path, encoding):
    table = "ファイル名,キャプション\na.wav,犬が遠くで吠えている\nb.wav,雨が屋根に降る音\n".encode(encoding)
    found, said = read(write(tmp_path, {"metadata.csv": table}))
    assert found == {"a.wav": ["犬が遠くで吠えている"], "b.wav": ["雨が屋根に降る音"]}
    how = "read as UTF-16" if encoding == "utf-16" else f"taken for {encoding}, which is a guess"
    assert said[0] == f"metadata.csv: {how}: '犬が遠くで吠えている'; save it as UTF-8 if that is not what it says."


def test_short_side_cars_are_guessed_together(tmp_path):
    texts = {"a.txt": "犬".encode("cp932"), "b.txt": "雨が降る".encode("cp932"), "c.txt": "風".encode()}
    found, said = read(write(tmp_path, texts))
    assert found == {"a.wav": ["犬"], "b.wav": ["雨が降る"], "c.wav": ["風"]}
    assert said == ["a.txt and b.txt: taken for cp932, which is a guess: '犬'; save it as UTF-8 if that is not what it says."]


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        *(("cp932", text) for text in ("犬", "雷鳴", "犬が吠える\n犬の鳴き声", "ドアベル", "a.wav,雷鳴\nb.wav,拍手\n")),
        *(("cp932", text) for text in ("ドアが閉まる音\n風", "dog 犬")),
        *(("euc_jp", text) for text in ("犬が吠える\n犬の鳴き声", "ファイル名,説明\na.wav,雨の音\n")),
        ("gb18030", "狗在叫\n雨落在屋顶上"), ("big5", "狗在叫\n雨落在屋頂上"), ("cp949", "개가 짖는다\n비가 내린다"),
    ],
)  # fmt: skip
def test_east_asian_texts_are_guessed_right(encoding, text):
    assert guessed(text.encode(encoding)) == encoding


@pytest.mark.parametrize(("encoding", "text"), [("cp1251", "гром"), ("cp1251", "лай собаки\nдождь"), ("gb18030", "雷声")])
def test_what_may_be_several_things_is_not_guessed(encoding, text):
    assert guessed(text.encode(encoding)) is None


def test_european_words_are_never_guessed(tmp_path):
    words = """Käuzchen Türschlag Gebläse Frösche Glockengeläut Bärengebrüll Fußgänger fenêtre légère théâtre élan d'été niño cañón
        pájaro león pássaro trovão coração città perché gång åska häst människa fågel vår måke sjø bølge aÀa"""
    assert [word for word in words.split() if guessed(word.encode("cp1252"))] == []
    with pytest.raises(InputError, match=r"a\.txt: is not UTF-8 .*; save it as UTF-8"):
        read(write(tmp_path, {"a.txt": "Käuzchen".encode("cp1252")}))


# ---------------------------------------------------------------- captions are drawn


def test_training_draws_each_caption_and_held_out_clips_keep_the_first(tmp_path):
    for take in range(6):
        layouts.tone(tmp_path / f"{take}.wav", 200 + take, seed=take, duration=0.3).with_suffix(".txt").write_text(
            "one\ntwo\nthree\n"
        )
    data = Folder(tmp_path, duration=0.32, batch_size=4)
    data.setup("fit")
    data.trainer = SimpleNamespace(max_steps=60, accumulate_grad_batches=1, global_step=0, global_rank=0, world_size=1)
    drawn = Counter(caption for batch in data.train_dataloader() for caption in batch["caption"])
    assert set(drawn) == {"one", "two", "three"}
    assert min(drawn.values()) > 50  # of 240, a third of which is 80
    assert {caption for batch in data.val_dataloader() for caption in batch["caption"]} == {"one"}


def test_a_manifest_keeps_all_captions_and_says_what_the_folder_said(tmp_path):
    root = tmp_path / "sounds"
    for take in range(4):
        layouts.tone(root / f"{take}.wav", 200 + take, seed=take, duration=0.3)
    write(root, {"0.txt": "a dog\na hound\n", "notes.txt": "x"}, ())
    checkup = examine(data := Folder(root, duration=0.32), tmp_path, 1)
    assert [(one.kind, one.severity) for one in checkup.findings if one.kind in ("not read", "several captions")] == [
        ("not read", "note"), ("several captions", "note")
    ]  # fmt: skip
    write_manifest(tmp_path / "clean.jsonl", checkup.items, root)
    again = Folder(root, table=tmp_path / "clean.jsonl")
    for split in SPLITS:
        before = {clip.id: (clip.caption, clip.others, clip.source) for clip in data.clips(split)}
        assert {clip.id: (clip.caption, clip.others, clip.source) for clip in again.clips(split)} == before
