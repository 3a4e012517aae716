"""Further masks of rows that are learned from."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from masks import KEYS, LAWS, hidden_share

from robofuse.dropout import Constant, Dropout, Groups, Independent, Linear, Markov, RowMasker, Subsets

ALL = torch.ones(8000, 4, dtype=torch.bool)


@settings(max_examples=60, deadline=None)
@given(
    law=st.sampled_from(LAWS),
    shared=st.booleans(),
    rows=st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=30),
    seed=st.integers(0, 2**31),
)
def test_of_what_is_live_something_stays_and_nothing_comes_back(law, shared, rows, seed):
    torch.manual_seed(seed)
    live, masker = torch.tensor(rows), RowMasker(Dropout(law, shared=shared), KEYS)
    kept = masker.draw(live)
    assert not (kept & ~live).any() and torch.equal(kept.any(1), live.any(1))
    for unit in law.bind(KEYS).units:  # a group goes as one
        columns = [KEYS.index(key) for key in unit]
        both = live[:, columns].all(1)
        assert (kept[both][:, columns] == kept[both][:, columns[:1]]).all()


@pytest.mark.parametrize("law", LAWS, ids=lambda law: type(law).__name__)
def test_rows_are_masked_as_environments_are(law):
    torch.manual_seed(0)
    found = 1.0 - RowMasker(law, KEYS).draw(ALL).double().mean(0)
    assert torch.allclose(found, hidden_share(law), atol=0.025)


def test_every_row_has_a_draw_or_every_call():
    torch.manual_seed(0)
    assert len(RowMasker(Subsets(), KEYS).draw(ALL).unique(dim=0)) == 15
    shared = RowMasker(Dropout(Subsets(), shared=True), KEYS)
    calls = torch.stack([shared.draw(ALL[:5]) for _ in range(200)])
    assert (calls == calls[:, :1]).all() and len(calls[:, 0].unique(dim=0)) == 15


def test_strength_and_full_rows():
    torch.manual_seed(0)
    half = RowMasker(Dropout(Independent(0.4), schedule=Constant(0.5)), KEYS)
    assert abs(1.0 - float(half.draw(ALL).double().mean()) - 0.2) < 0.015
    masker = RowMasker(Dropout(Independent(0.4), full=0.5, schedule=Linear()), KEYS)
    assert masker.draw(ALL).all()
    masker.progress = 1.0
    full = masker.draw(ALL).all(1).double().mean()
    assert abs(float(full) - (0.5 + 0.5 * 0.6**4)) < 0.025


def test_no_number_is_looked_at():
    for law in LAWS:
        assert RowMasker(law, KEYS).draw(ALL[:3].to("meta")).is_meta


def test_refused_and_warned():
    with pytest.raises(ValueError, match="process in time"):
        RowMasker(Markov(), KEYS)
    with pytest.raises(ValueError, match="masked together"):
        RowMasker(Groups((KEYS,)), KEYS)
    masker = RowMasker(Dropout(schedule=Linear()), KEYS)
    for _ in range(1000):
        masker.draw(ALL[:1])
    with pytest.warns(UserWarning, match="DropoutProgress"):
        masker.draw(ALL[:1])
    masker.draw(ALL[:1])
