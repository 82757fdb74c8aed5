"""Change one thing in a module and see whether its tests notice: `PYTHONPATH=.:tests python tests/attack/mutate.py --minutes 30`.

Libraries are loaded once; every mutant is a fork of this process in which the module is another and its own fast tests run. Only
lines that these tests run are changed. A mutant that no test notices is printed with its line: a sharper test kills it, or it says
the same in other words.
"""

import argparse
import ast
import copy
import importlib
import os
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import NoReturn

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: threads that a fork has not are waited for without end
PACKAGE = Path(__file__).parents[2] / "audioldm_lit"
LIBRARIES = (
    "torch torchmetrics lightning.pytorch.cli transformers diffusers peft hypothesis.strategies scipy.stats pandas mpmath"
    " statsmodels.api"
)
METRICS, EMA, CACHE = "tests/test_metrics.py", "tests/test_ema.py", "tests/test_cache.py"
TARGETS = {  # by module: the files of its tests, and which of them
    "metrics.frechet": (METRICS, "frechet or rows"),
    "metrics.kernel": (METRICS, "kad or kid or kernel"),
    "metrics.divergence": (METRICS, "kl_divergence"),
    "metrics.inception": (METRICS, "inception"),
    "metrics.neighbours": (METRICS, "neighbour or covers or ball or share"),
    "metrics.estimate": (METRICS, "interval or candidates or influence or logarithm"),
    "training.post_hoc_average": (
        EMA,
        "not finished and not snapshots and not averages_ and not resumed and not wrong and not run",
    ),
    "training.ema": (f"tests/test_parts.py {EMA}", "recursion or gamma or width or average_follows or sigma_rel_is or a_decay"),
    "callbacks.best_check": ("tests/test_dials.py", "not_the_best or settings_are_named"),
    "storage.shards": (CACHE, ""),
    "storage.digest": (CACHE, ""),
    "training.cache": (CACHE, ""),
    "metrics.extractors.cached": (CACHE, "features"),
}
SWAPS: dict[type, list[type]] = {
    ast.Lt: [ast.LtE, ast.Gt], ast.LtE: [ast.Lt, ast.GtE], ast.Gt: [ast.GtE, ast.Lt], ast.GtE: [ast.Gt, ast.LtE],
    ast.Eq: [ast.NotEq], ast.NotEq: [ast.Eq], ast.In: [ast.NotIn], ast.NotIn: [ast.In], ast.Is: [ast.IsNot], ast.IsNot: [ast.Is],
    ast.Add: [ast.Sub], ast.Sub: [ast.Add], ast.Mult: [ast.Div], ast.Div: [ast.Mult], ast.Pow: [ast.Mult], ast.FloorDiv: [ast.Div],
    ast.MatMult: [ast.Add], ast.And: [ast.Or], ast.Or: [ast.And], ast.BitOr: [ast.BitAnd], ast.BitAnd: [ast.BitOr],
}  # fmt: skip
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any", "mean": "sum", "sum": "mean", "log": "log1p", "sqrt": "abs"}


def changes(node: ast.AST) -> Iterator[ast.AST]:
    """A node as it might also be."""
    match node:
        case ast.Compare(ops=[first, *_]) | ast.BinOp(op=first) | ast.BoolOp(op=first) | ast.AugAssign(op=first):
            for other in SWAPS.get(type(first), ()):
                changed = copy.copy(node)
                if isinstance(changed, ast.Compare):
                    changed.ops = [other(), *changed.ops[1:]]
                else:
                    changed.op = other()
                yield changed
        case ast.UnaryOp(operand=operand):
            yield operand
        case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test):
            changed = copy.copy(node)
            changed.test = ast.UnaryOp(ast.Not(), test)
            yield changed
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int() | float() as value):
            yield ast.Constant(value + 1)
        case ast.Name(id=name) if name in NAMES:
            yield ast.Name(NAMES[name], node.ctx)
        case ast.Attribute(attr=name) if name in NAMES:
            yield ast.Attribute(node.value, NAMES[name], node.ctx)
        case ast.Expr(value=ast.Call()):
            yield ast.Pass()


def mutants(tree: ast.Module, lines: set[int]) -> Iterator[tuple[int, str, ast.Module]]:
    """Trees with one change each on some lines, and what it is."""
    hints = {id(part) for node in ast.walk(tree) for part in _hints(node)}
    for number, node in enumerate(ast.walk(tree)):
        if getattr(node, "lineno", None) not in lines or id(node) in hints:
            continue
        for changed in changes(node):
            other = copy.deepcopy(tree)
            place = list(ast.walk(other))[number]
            new = ast.copy_location(changed, place)
            _Replace(place, new).visit(other)
            yield node.lineno, f"{ast.unparse(node)[:60]} -> {ast.unparse(changed)[:60]}", ast.fix_missing_locations(other)


def _hints(node: ast.AST) -> Iterator[ast.AST]:
    """Types, which nothing is computed with."""
    for name in ("annotation", "returns"):
        if isinstance(hint := getattr(node, name, None), ast.AST):
            yield from ast.walk(hint)


class _Replace(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        return self.new if node is self.old else self.generic_visit(node)


class Mutant(SourceFileLoader):
    """Loads another tree instead of a module's own, and finds it."""

    def __init__(self, module: str, tree: ast.Module) -> None:
        super().__init__(f"audioldm_lit.{module}", str(source(module)))
        self.tree = tree

    def find_spec(self, name: str, *_: object) -> object:
        return spec_from_file_location(name, self.path, loader=self) if name == self.name else None

    def get_code(self, fullname: str) -> object:
        return compile(self.tree, self.path, "exec")


def source(module: str) -> Path:
    return PACKAGE.joinpath(*module.split(".")).with_suffix(".py")


def run_tests(module: str, tree: ast.Module, traced: Path | None = None, seconds: float = 600) -> tuple[int, float]:
    """Exit status of a module's tests with another tree in its place, negative for a signal, and the seconds that they computed."""
    began = resource.getrusage(resource.RUSAGE_CHILDREN)
    child = os.fork()
    if child == 0:
        _in_fork(module, tree, traced, seconds)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return code, ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime


def _in_fork(module: str, tree: ast.Module, traced: Path | None, seconds: float) -> NoReturn:
    import pytest

    status = 3
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time() + seconds) + 1,) * 2)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(nowhere, stream)
        sys.meta_path.insert(0, Mutant(module, tree))
        if traced:
            seen: set[int] = set()
            sys.settrace(lambda frame, *_: _trace(seen) if frame.f_code.co_filename == str(source(module)) else None)
        files, words = TARGETS[module]
        chosen = ["-m", "not slow and not nightly", "-k", words, *files.split()]
        status = pytest.main(["-n", "0", "-q", "-x", "-p", "no:cacheprovider", *chosen])
        if traced:
            traced.write_text(" ".join(map(str, seen)))
    finally:
        os._exit(status)


def _trace(seen: set[int]) -> object:
    def line(frame: object, *_: object) -> object:
        seen.add(frame.f_lineno)
        return line

    return line


def run() -> None:
    """Print the mutants that no test notices, and the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30, help="of computing")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--modules", nargs="+", default=list(TARGETS), choices=list(TARGETS))
    given = parser.parse_args()
    for name in LIBRARIES.split():
        importlib.import_module(name)
    os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = tempfile.mkdtemp()
    traced = Path(os.environ["HYPOTHESIS_STORAGE_DIRECTORY"]) / "lines"
    waiting, limits = [], {}
    for module in given.modules:
        tree = ast.parse(source(module).read_text())
        code, seconds = run_tests(module, tree, traced)
        assert code == 0, f"the tests of {module} fail as they are"
        lines = {int(line) for line in traced.read_text().split()}
        limits[module] = 3 * seconds + 10
        found = list(mutants(tree, lines))
        waiting += [(module, *mutant) for mutant in found]
        print(f"{module}: {len(found)} mutants on {len(lines)} lines, {seconds:.1f} s", flush=True)
    random.Random(given.seed).shuffle(waiting)
    counts: Counter[tuple[str, str]] = Counter()
    spent = 0.0
    for module, line, change, tree in waiting:
        if spent > 60 * given.minutes:
            break
        code, seconds = run_tests(module, tree, seconds=limits[module])
        spent += seconds
        counts[module, "alive" if code == 0 else "dead"] += 1
        if code == 0:
            print(f"alive: {source(module).relative_to(PACKAGE)}:{line}: {change}", flush=True)
    for module in given.modules:
        dead, alive = counts[module, "dead"], counts[module, "alive"]
        print(f"{module}: {dead} of {dead + alive} noticed")
    print(f"{spent / 60:.0f} minutes, {sum(counts.values())} of {len(waiting)} mutants")


if __name__ == "__main__":
    run()
