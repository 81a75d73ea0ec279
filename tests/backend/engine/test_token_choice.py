"""The choice of the next token: greedy, sampled, under a mask, and each row for itself."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.engine.token_choice import GREEDY, MAX_CANDIDATES, Draw, choose_tokens, unpack_mask
from tests.limits import examples


def pack(allowed: torch.Tensor) -> torch.Tensor:
    """[rows, vocabulary] bool -> [rows, words] int32, as llguidance writes masks."""
    rows, vocabulary = allowed.shape
    padded = np.zeros((rows, -(-vocabulary // 32) * 32), dtype=np.uint8)
    padded[:, :vocabulary] = allowed.numpy()
    return torch.from_numpy(np.packbits(padded, axis=1, bitorder="little").view(np.int32).copy())


def random_case(rows: int, vocabulary: int, seed: int, share: float = 0.5) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, vocabulary, generator=random) * 4
    allowed = torch.rand(rows, vocabulary, generator=random) < share
    allowed[torch.arange(rows), torch.randint(vocabulary, (rows,), generator=random)] = True
    return logits, allowed


def nucleus(logits: torch.Tensor, allowed: torch.Tensor, draw: Draw) -> list[tuple[int, float]]:
    """One row's tokens and their shares, best first, in plain Python."""
    scores = [(float(logits[i]) / draw.temperature, i) for i in range(len(logits)) if allowed[i]]
    scores = sorted(scores, reverse=True)[:MAX_CANDIDATES]
    weights = [math.exp(score - scores[0][0]) for score, _ in scores]
    kept, reached = [], 0.0
    for weight, (_, token) in zip(weights, scores, strict=True):
        if kept and reached >= draw.top_p:
            break
        kept.append((token, weight / sum(weights)))
        reached += weight / sum(weights)
    total = sum(share for _, share in kept)
    return [(token, share / total) for token, share in kept]


@pytest.mark.parametrize("vocabulary", [1, 31, 32, 33, 100, 1000])
def test_greedy_takes_the_most_probable_allowed_token(vocabulary: int) -> None:
    logits, allowed = random_case(7, vocabulary, vocabulary)
    tokens, probabilities = choose_tokens(logits, pack(allowed), [GREEDY] * 7)
    expected = logits.double().masked_fill(~allowed, -math.inf).softmax(-1)
    assert tokens == expected.argmax(-1).tolist()
    assert probabilities == pytest.approx(expected.max(-1).values.tolist(), rel=1e-5)


def test_half_precision_logits_are_normalised_in_float32() -> None:
    logits, allowed = random_case(3, 500, 1)
    _, probabilities = choose_tokens(logits.bfloat16(), pack(allowed), [GREEDY] * 3)
    expected = logits.bfloat16().double().masked_fill(~allowed, -math.inf).softmax(-1)
    assert probabilities == pytest.approx(expected.max(-1).values.tolist(), rel=1e-5)


@pytest.mark.parametrize("vocabulary", [1, 31, 32, 33, 95, 96])
def test_every_bit_of_a_mask_stands_for_its_token(vocabulary: int) -> None:
    _, allowed = random_case(5, vocabulary, 2)
    assert torch.equal(unpack_mask(pack(allowed), vocabulary), allowed)


@pytest.mark.parametrize(
    ("temperature", "top_p", "vocabulary"),
    [
        pytest.param(1.0, 1.0, 12, id="everything"),
        pytest.param(0.4, 0.9, 40, id="as by default"),
        pytest.param(1.5, 0.5, 33, id="half of the mass, warm"),
        pytest.param(1.0, 0.0, 12, id="the best alone"),
        pytest.param(0.02, 0.9, 12, id="nearly greedy"),
        pytest.param(8.0, 1.0, 700, id="more tokens than candidates"),
    ],
)
def test_sampling_is_the_inverse_of_the_cumulative_nucleus(temperature: float, top_p: float, vocabulary: int) -> None:
    [logits], [allowed] = random_case(1, vocabulary, vocabulary, share=0.8)
    shares = nucleus(logits, allowed, Draw(temperature, top_p, 0.0))
    bounds = np.cumsum([share for _, share in shares])
    uniforms = [u for u in np.linspace(0, 1, 2000, endpoint=False) if np.abs(bounds - u).min() > 1e-5]
    rows = len(uniforms)
    draws = [Draw(temperature, top_p, u) for u in uniforms]
    tokens, probabilities = choose_tokens(logits.repeat(rows, 1), pack(allowed[None]).repeat(rows, 1), draws)
    assert tokens == [shares[int(np.searchsorted(bounds, u, side="right"))][0] for u in uniforms]
    # reported without the temperature, and over all that was allowed
    plain = logits.double().masked_fill(~allowed, -math.inf).softmax(-1)
    assert probabilities == pytest.approx(plain[tokens].tolist(), rel=1e-4)


@pytest.mark.parametrize("uniform", [0.0, 0.5, 1 - 2**-53], ids=["lowest", "middle", "one in float32"])
@pytest.mark.parametrize("top_p", [0.0, 0.3, 1.0])
def test_the_extremes_of_a_uniform_stay_within_what_is_allowed(uniform: float, top_p: float) -> None:
    logits, allowed = random_case(20, 300, 3, share=0.02)
    tokens, probabilities = choose_tokens(logits, pack(allowed), [Draw(1.0, top_p, uniform)] * 20)
    assert all(allowed[row, token] for row, token in enumerate(tokens))
    assert all(0 < probability <= 1.0001 for probability in probabilities)


@settings(max_examples=examples(40, 500), deadline=None)
@given(data=st.data())
def test_no_forbidden_token_is_ever_chosen(data: st.DataObject) -> None:
    vocabulary = data.draw(st.integers(1, 70), label="vocabulary")
    size = st.floats(-1e4, 1e4, width=32)
    logits = torch.tensor(data.draw(st.lists(size, min_size=vocabulary, max_size=vocabulary), label="logits"))
    allowed = torch.zeros(1, vocabulary, dtype=torch.bool)
    allowed[0, sorted(data.draw(st.sets(st.integers(0, vocabulary - 1), min_size=1), label="allowed"))] = True
    draw = Draw(
        data.draw(st.floats(0, 5), label="temperature"),
        data.draw(st.floats(0, 1), label="top_p"),
        data.draw(st.floats(0, 1, exclude_max=True), label="uniform"),
    )
    [token], [probability] = choose_tokens(logits[None], pack(allowed), [draw])
    assert allowed[0, token]
    assert 0 <= probability <= 1.0001


def test_a_rows_choice_does_not_depend_on_its_neighbours() -> None:
    logits, allowed = random_case(6, 90, 4)
    draws = [GREEDY, Draw(1.0, 0.9, 0.3), Draw(0.0, 1.0, 0.9), Draw(2.0, 0.5, 0.99), GREEDY, Draw(0.7, 1.0, 0.6)]
    alone = [choose_tokens(logits[i : i + 1], pack(allowed[i : i + 1]), [draws[i]]) for i in range(6)]
    for order in itertools.islice(itertools.permutations(range(6)), 0, 720, 37):
        rows = list(order)
        tokens, probabilities = choose_tokens(logits[rows], pack(allowed[rows]), [draws[i] for i in rows])
        assert tokens == [alone[i][0][0] for i in rows]
        assert probabilities == pytest.approx([alone[i][1][0] for i in rows], rel=1e-6)


@pytest.mark.parametrize("draw", [GREEDY, Draw(1.0, 0.9, 0.5)], ids=["greedy", "sampled"])
@pytest.mark.parametrize("bad", [math.nan, math.inf], ids=str)
def test_logits_that_are_no_numbers_give_a_nan_probability_in_their_row_only(bad: float, draw: Draw) -> None:
    logits, allowed = random_case(3, 50, 5)
    logits[1], allowed[1] = bad, True
    _, probabilities = choose_tokens(logits, pack(allowed), [draw] * 3)
    assert [math.isnan(probability) for probability in probabilities] == [False, True, False]


def test_nan_at_a_forbidden_token_is_no_harm() -> None:
    logits, allowed = random_case(1, 50, 6)
    logits[~allowed] = math.nan
    [token], [probability] = choose_tokens(logits, pack(allowed), [Draw(1.0, 0.9, 0.5)])
    assert allowed[0, token]
    assert 0 < probability <= 1


def test_a_row_with_nothing_allowed_has_a_nan_probability() -> None:
    logits, allowed = random_case(2, 50, 7)
    allowed[0] = False
    _, probabilities = choose_tokens(logits, pack(allowed), [Draw(1.0, 0.9, 0.5)] * 2)
    assert [math.isnan(probability) for probability in probabilities] == [True, False]
