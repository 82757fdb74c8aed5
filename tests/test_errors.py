"""Wrong input is data: where, problem and mend, and the sentence is made of them."""

import pickle

from hypothesis import given
from hypothesis import strategies as st

from audioldm_lit.errors import InputError


@given(st.text(), st.text(min_size=1), st.text())
def test_the_sentence_is_made_of_the_fields_also_in_another_process(where, problem, mend):
    for error in (InputError(where, problem, mend), pickle.loads(pickle.dumps(InputError(where, problem, mend)))):
        assert vars(error) == {"where": where, "problem": problem, "mend": mend}
        assert str(error) == f"{where}: {problem}; {mend}."
