"""Restart patterns mean what they mean to `re.search`, and no search takes longer than a second."""

from __future__ import annotations

import re
import warnings

import pytest
from hypothesis import given, settings, strategies as st

from alchemistore.operations import matching
from alchemistore.operations.matching import check_pattern, matches
from tests.support.restarts import NAN

# Parts of patterns; some that only `regex` takes for syntax.
ATOMS = st.sampled_from(
    ["a", "b", "]", "{", "}", "{e}", "{i<=1}", "{1}", "{,2}", "{,}", "{}", r"\{", r"\[", ".", "^",
     "$", "[ab]", "[^a]", "[]a]", "[^]a]", "[[:alpha:]]", "[[a]b]", "[a&&b]", "[a||b]", "[a~~b]",
     r"[\]a]", r"\d", r"\w", r"\s", r"\b", "|", "(", "(?:", "(?i:", ")", "*", "+", "?", "*?", "++",
     "(?=a)", "(?<!a)", r"\N{DIGIT ONE}", r"\1", "é", "\n", r"\.", "-", "--", "&&"]
)  # fmt: skip
TEXTS = st.text(alphabet="ab1 {}[]()e:lph&|~-.\n_é", max_size=12)


def compiled(pattern: str) -> re.Pattern[str] | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return re.compile(pattern)
        except re.error:
            return None


PATTERNS = st.lists(ATOMS, min_size=1, max_size=8).map("".join)


@settings(max_examples=200, deadline=None)
@given(PATTERNS, TEXTS)
def test_pattern_matches_as_the_standard_library_does(pattern: str, text: str) -> None:
    require_same_meaning(pattern, text)


@pytest.mark.soak
@settings(max_examples=20_000, deadline=None)
@given(PATTERNS, TEXTS)
def test_many_patterns_match_as_the_standard_library_does(pattern: str, text: str) -> None:
    require_same_meaning(pattern, text)


def require_same_meaning(pattern: str, text: str) -> None:
    if (expected := compiled(pattern)) is None:
        with pytest.raises(ValueError, match="not a regular expression"):
            check_pattern(pattern)
        return
    check_pattern(pattern)
    _, timed = matching.compiled_pattern(pattern)
    assert (timed.search(text) is not None) is (expected.search(text) is not None)
    assert matches(pattern, text) is (expected.search(text) is not None)


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("coordinate is NaN", NAN, True),
        ("^OpenMM", NAN, False),
        ("(?m)^OpenMM", NAN, True),
        ("^Traceback", NAN, True),
        ("call.*NaN", NAN, False),
        ("(?s)call.*NaN", NAN, True),
        ("NAN", NAN, False),
        ("(?i)NAN$", NAN, True),
        ("foo{e}", "fo", False),
        ("foo{e}", "foo{e}", True),
        ("[[:alpha:]]", "x", False),
        ("[[:alpha:]]", "h]", True),
        ("a{,2}b", "b", True),
        ("\ud800", "x\ud800", True),
        ("a\0", "a\0b", True),
    ],
)
def test_pattern_is_searched_for(pattern: str, text: str, found: bool) -> None:
    expected = compiled(pattern)
    assert expected is not None
    assert (expected.search(text) is not None) is found
    assert matches(pattern, text) is found


@pytest.mark.parametrize(
    "bad", ["[", "*", "(", r"\p{L}", "(?<n>x)", "a(?i)b", "(?V1)a", "(?P>n)", "(" * 9000,
            "x{9999999999999999999999}", "[b-a]", r"\N{NO SUCH LETTER}"],
)  # fmt: skip
def test_what_the_standard_library_refuses_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="not a regular expression") as raised:
        check_pattern(bad)
    assert len(str(raised.value)) < 500


def test_verbose_patterns_are_taken() -> None:
    pattern = "(?x) NaN  # not a number, [ and { in a comment\n \\b"
    assert matches(pattern, "is NaN.")
    assert not matches(pattern, "is Na N.")


@pytest.mark.parametrize("pattern", ["^(a|a)*$", "^(a|aa)+$"])
def test_search_without_end_is_a_miss_and_is_logged(
    pattern: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(matching, "SECONDS", 0.05)
    assert not matches(pattern, "a" * 60 + "c")
    assert "counts as a miss" in caplog.text
    assert repr(pattern) in caplog.text


def test_long_texts_are_searched_with_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "STEPS_MAX", 10)
    assert matches("NaN", "x" * 100 + "NaN")
    assert not matches("NaN", "x" * 100)
