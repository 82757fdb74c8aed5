"""Wrong input is data: where, problem and mend. The sentence is made of them."""

import ast
import pickle
import re
import shlex

from hypothesis import given
from hypothesis import strategies as st

from audioldm_lit.console.command import command
from audioldm_lit.errors import InputError

from runs import REPOSITORY


@given(st.text(), st.text(), st.text())
def test_the_sentence_is_made_of_the_fields_also_in_another_process(where, problem, mend):
    error = InputError(where, problem, mend)
    for received in (error, pickle.loads(pickle.dumps(error))):
        assert vars(received) == {"where": where, "problem": problem, "mend": mend}
        assert str(received) == f"{where}: {problem}; {mend}."


def test_every_error_is_made_of_its_three_fields():
    made = []
    for path in sorted(file for folder in ("audioldm_lit", "scripts") for file in (REPOSITORY / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "InputError":
                made.append(f"{path.name}, line {node.lineno}")
                assert len(node.args) == 3, made[-1]
                assert not any(isinstance(field, ast.Starred) for field in node.args), made[-1]
                for field in node.args:  # none brings the marks of the sentence along
                    last = field.values[-1] if isinstance(field, ast.JoinedStr) else field
                    assert not (isinstance(last, ast.Constant) and last.value.endswith((".", ":", ";", " "))), made[-1]
    assert len(made) > 300


def test_a_command_to_copy_is_quoted_whatever_is_put_into_it():
    assert shlex.split(command("fit", "--folder", "雨 'n' [音] $1"))[3:] == ["fit", "--folder", "雨 'n' [音] $1"]
    unquoted = re.compile(r"(audioldm_lit [a-z]+|--(run|model|source|test|folder)) \{")
    for path in sorted((REPOSITORY / "audioldm_lit").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                text = ast.unparse(node).replace("{shlex.quote(", "")
                assert not unquoted.search(text), (path, text)
