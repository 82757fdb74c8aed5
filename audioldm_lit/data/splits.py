"""Folders and tables that are named after splits, as people call them: train, Validation, dev_set, 01_test, 学習用, 評価データ."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path, PurePosixPath

from audioldm_lit.data.clips import Split
from audioldm_lit.errors import InputError

ROLES: Mapping[str, tuple[Split, ...]] = {  # what each may be for, the first that no surer name has taken
    "train": ("train",), "val": ("val",), "test": ("test",), "dev": ("train", "val"), "eval": ("test", "val"),
}  # fmt: skip
WORDS = {
    "train": "train training trn tr 学習 訓練 トレーニング 训练 訓練 학습 훈련 treino entrenamiento entraînement обучение",
    "val": "val valid validation validating vld cv 検証 バリデーション 验证 驗證 검증 validierung validação validación",
    "test": "test tests testing tst tt heldout テスト 試験 测试 測試 테스트 teste prueba pruebas тест",
    "dev": "dev devel develop development 開発 开发",
    "eval": "eval evaluation evaluating 評価 评估 評估 평가",
}
ROLE = {unicodedata.normalize("NFKC", word): role for role, words in WORDS.items() for word in words.split()}
GENERIC = {"audio", "audios", "wav", "wavs", "flac", "mp3", "sound", "sounds", "clip", "clips", "sample", "samples", "recording",
           "recordings", "file", "files", "data", "dataset", "set", "split", "splits", "音声", "音源", "データ"}  # fmt: skip
SUFFIX = re.compile("(?:set|data|用|音声|音源|データ|セット|集|集合|数据|資料|데이터)+$")  # of words written together
Folders = Mapping[str, tuple[str, ...]]  # that each recording lies in, the outermost first
DEEPEST = 3  # levels of folders among which splits are looked for


@dataclass(frozen=True, slots=True)
class Place:
    """What the folders that a recording lies in say about it: its class, empty where they say none, and its split."""

    label: str
    split: Split | None = None


def role_of(name: str, others: Collection[str] = GENERIC) -> tuple[tuple[str, ...], str] | None:
    """What a name says about a split: the words that are neither a split nor one of `others`, and the split's name.

    None where it names no split or two. `01_train` and `train` both are `((), "train")`, `train-clean` is `(("clean",), "train")`.
    """
    words = words_of(name)
    roles = [ROLE[word] for word in words if word in ROLE]
    return (tuple(word for word in words if word not in ROLE and word not in others), roles[0]) if len(roles) == 1 else None


def resolve(roles: Collection[str]) -> dict[str, Split] | None:
    """The split of each role: `dev` trains where nothing else does and validates beside `train`; None where one is left without."""
    splits: dict[str, Split] = {}
    for role in sorted(roles, key=lambda role: len(ROLES[role])):
        free = [split for split in ROLES[role] if split not in splits.values()]
        if not free:
            return None
        splits[role] = free[0]
    return splits


def places(root: Path, names: Sequence[str]) -> dict[str, Place]:
    """What the folders of recordings, paths relative to `root`, say about each.

    One level of folders may be splits, with classes above or below; without one the first folder is the class. Folders that all
    recordings share and that only say `audio` or `data` count for nothing.

    Raises:
        InputError: If some folders of a level are splits and others not, or there is nothing to train on.
    """
    folders = {name: PurePosixPath(name).parts[:-1] for name in names}
    for depth in range(DEEPEST):
        if splits := _splits_at(root, folders, depth):
            labels = _labels(_without(folders, depth))
            return {name: Place(labels[name], splits[parts[depth]]) for name, parts in folders.items()}
    return {name: Place(label) for name, label in _labels(folders).items()}


def _splits_at(root: Path, folders: Folders, depth: int) -> dict[str, Split] | None:
    """Split of each folder's name at a depth where these are splits."""
    alike: dict[tuple[str, ...], dict[str, str]] = defaultdict(dict)  # `train-clean` and `test-clean` are, `test-tone` is not
    for name in sorted({parts[depth] for parts in folders.values() if len(parts) > depth}):
        if found := role_of(name):
            alike[found[0]][name] = found[1]
    roles = max(alike.values(), key=lambda roles: len(set(roles.values())), default={})
    others = [name for name, parts in folders.items() if not set(parts[depth : depth + 1]) & roles.keys()]
    several = len(set(roles.values())) > 1
    if not roles or (not several and (others or depth)):  # beside classes, one name of a split is a class too
        return None
    splits, shown = resolve(set(roles.values())), ", ".join(roles)
    if splits is None:
        raise InputError(root, f"the folders {shown} name a split twice", "merge or rename them")
    if "train" not in splits.values():
        if several:
            raise InputError(root, f"the folders {shown} are splits, but none is for training", "add a folder train")
        return None
    if others:
        raise InputError(root, f"{shown} are splits, but {others[0]} lies in none of them", "move it, or rename the folders")
    return {name: splits[role] for name, role in roles.items()}


def _without(folders: Folders, depth: int) -> Folders:
    """Folders without the level of splits, and without what all have above it where there is something else left of each."""
    levels = zip(*(parts[:depth] for parts in folders.values()), strict=False)
    shared = sum(1 for _ in takewhile(lambda level: len(set(level)) == 1, levels))
    rest = {name: parts[:depth] + parts[depth + 1 :] for name, parts in folders.items()}
    return {name: parts[shared:] for name, parts in rest.items()} if all(len(parts) > shared for parts in rest.values()) else rest


def _labels(folders: Folders) -> dict[str, str]:
    """Class of each recording: its first folder that is not generic to all."""
    first = {parts[:1] for parts in folders.values()}
    if len(first) == 1 and (shared := next(iter(first))) and set(words_of(shared[0])) <= GENERIC:
        return _labels({name: parts[1:] for name, parts in folders.items()})
    return {name: unicodedata.normalize("NFC", parts[0]) if parts else "" for name, parts in folders.items()}


def words_of(name: str) -> list[str]:
    """Words of a name in lower case, without numbers and without what says nothing at their ends: `TrainSet_01` is train."""
    plain = re.sub("(?<=[a-z])(?=[A-Z])", " ", unicodedata.normalize("NFKC", name)).casefold()
    return [SUFFIX.sub("", word) or word for word in re.findall(r"[^\W\d_]+", plain)]
