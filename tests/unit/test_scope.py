"""Scopes and scoped keys: form, containment, equality and order."""

from __future__ import annotations

import copy
import pickle
from uuid import UUID

import pytest
from hypothesis import given, strategies as st
from pydantic import ValidationError

from alchemistore import Scope, ScopedKey
from alchemistore.models import GufeKey

BROAD, ORG, CAMPAIGN, PROJECT = Scope(), Scope("o"), Scope("o", "c"), Scope("o", "c", "p")
TOKEN = "0123456789abcdef0123456789abcdef"
TEXT = f"Task-{TOKEN}-o-c-p"

BAD_COMPONENTS = [
    "*foo",
    "foo*",
    "**",
    "*_foo",
    "",
    " ",
    "a b",
    "a-b",
    "a.b",
    "a'b",
    'a"b',
    "a\\b",
    "a/b",
    "a;b",
    "a%b",
    "$",
    "1a",
    "_a",
    "a\n",
    "\ta",
    "a\0",
    "ä",
    "aé",
    "日本",
    "😀",
    "♫",
    "h̴e̴",
    "а",  # Cyrillic
    "a٣",  # an Arabic digit
]
GOOD_COMPONENTS = ["a", "A", "aB", "a1", "a_", "a_b", "a__b_", "Z9_", "a" * 10_000]

component = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,5}", fullmatch=True)
scopes = st.one_of(
    st.just(Scope()),
    st.builds(Scope, component),
    st.builds(Scope, component, component),
    st.builds(Scope, component, component, component),
)


@pytest.mark.parametrize("good", GOOD_COMPONENTS, ids=lambda text: text[:10])
def test_component_of_letters_digits_and_underscores_is_accepted(good: str) -> None:
    assert Scope(good, good, good).to_tuple() == (good, good, good)


@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize("bad", BAD_COMPONENTS, ids=ascii)
def test_malformed_component_is_refused_with_an_explanation(bad: str, position: int) -> None:
    parts = ["o", "c", "p"]
    parts[position] = bad
    with pytest.raises(ValueError, match="contain only alphanumeric or underscore"):
        Scope(*parts)


@pytest.mark.parametrize("wrong", [1, 1.5, ["o"], object()])
def test_component_is_text(wrong: object) -> None:
    with pytest.raises(ValueError):
        Scope(wrong)  # type: ignore[arg-type]  # that is the point


@pytest.mark.parametrize("parts", [(), ("*",), ("*", "*", "*"), (None, None, None), (None, "*")])
def test_asterisk_and_none_make_a_component_open(parts: tuple[str | None, ...]) -> None:
    assert Scope(*parts) == Scope()
    assert Scope(*parts).to_tuple() == (None, None, None)


@pytest.mark.parametrize(
    ("scope", "text"), [(BROAD, "*-*-*"), (ORG, "o-*-*"), (CAMPAIGN, "o-c-*"), (PROJECT, "o-c-p")]
)
def test_scope_survives_conversion_to_text(scope: Scope, text: str) -> None:
    assert str(scope) == text
    assert text in repr(scope)
    assert Scope.from_str(text) == scope


@pytest.mark.parametrize(
    "parts", [("*", "*", "p"), ("*", "c", "*"), ("*", "c", "p"), ("o", "*", "p")]
)
def test_components_after_an_open_one_must_be_open(parts: tuple[str, str, str]) -> None:
    with pytest.raises(ValueError, match="open"):
        Scope(*parts)
    with pytest.raises(ValueError, match="open"):
        Scope.from_str("-".join(parts))


@pytest.mark.parametrize(
    "text", ["", "a", "a-b", "a-b-c-d", "-", "--", "a--c", "a-b-c-", "-a-b-c", "a-b-c\n", "*"]
)
def test_malformed_scope_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Scope.from_str(text)


def test_components_are_given_in_order_or_by_name() -> None:
    assert Scope(project="p", org="o", campaign="c") == PROJECT
    with pytest.raises(TypeError):
        Scope("o", "c", "p", "more")  # type: ignore[call-arg]  # that is the point
    with pytest.raises(TypeError):
        Scope(organisation="o")  # type: ignore[call-arg]  # that is the point


def test_case_is_kept_and_significant() -> None:
    assert str(Scope("Org")) == "Org-*-*"
    assert Scope("Org") != Scope("org")


@pytest.mark.parametrize("name", ["org", "campaign", "project", "other"])
def test_scope_cannot_be_changed(name: str) -> None:
    scope = Scope("o", "c", "p")
    with pytest.raises((ValidationError, TypeError)):
        setattr(scope, name, "x")
    assert scope == PROJECT


def test_scope_equals_scopes_of_the_same_text_only() -> None:
    assert Scope("o", "c", "p") == PROJECT
    assert {Scope("o", "c", "p"), PROJECT} == {PROJECT}
    assert PROJECT != "o-c-p"
    assert PROJECT != CAMPAIGN


def test_broader_scope_sorts_before_scopes_it_contains() -> None:
    assert sorted([PROJECT, BROAD, CAMPAIGN, ORG]) == [BROAD, ORG, CAMPAIGN, PROJECT]
    assert BROAD < ORG
    assert not ORG < BROAD
    with pytest.raises(TypeError):
        sorted([BROAD, "o-c-p"])  # type: ignore[type-var]  # that is the point


def test_only_a_scope_with_three_components_is_specific() -> None:
    assert PROJECT.specific()
    assert not any(scope.specific() for scope in (BROAD, ORG, CAMPAIGN))


CONTAINED = [
    (outer, inner)
    for number, outer in enumerate([BROAD, ORG, CAMPAIGN, PROJECT])
    for inner in [BROAD, ORG, CAMPAIGN, PROJECT][number:]
]
NOT_CONTAINED = [
    *[(inner, outer) for outer, inner in CONTAINED if inner != outer],
    (Scope("x"), ORG),
    (Scope("x"), PROJECT),
    (Scope("o", "x"), CAMPAIGN),
    (Scope("o", "x"), PROJECT),
    (Scope("o", "c", "x"), PROJECT),
    (Scope("x", "c", "p"), PROJECT),
    (Scope("x", "c"), CAMPAIGN),
]


@pytest.mark.parametrize(("outer", "inner"), CONTAINED)
def test_scope_contains_scopes_and_keys_with_its_components(outer: Scope, inner: Scope) -> None:
    assert outer.is_superset(inner)


@pytest.mark.parametrize(("one", "other"), NOT_CONTAINED)
def test_scope_does_not_contain_scopes_that_differ(one: Scope, other: Scope) -> None:
    assert not one.is_superset(other)


@given(scopes, scopes)
def test_containment_agrees_with_equality_and_order(one: Scope, other: Scope) -> None:
    assert one.is_superset(one)
    assert (one.is_superset(other) and other.is_superset(one)) == (one == other)
    if one.is_superset(other) and one != other:
        assert one < other
    assert Scope.from_str(str(one)) == one
    assert hash(Scope.from_str(str(one))) == hash(one)


def test_scopes_survive_copies_and_pickles() -> None:
    for scope in (BROAD, CAMPAIGN, PROJECT):
        assert copy.deepcopy(scope) == scope
        assert pickle.loads(pickle.dumps(scope)) == scope


def key(
    gufe_key: str = f"Task-{TOKEN}", org: str = "o", campaign: str = "c", project: str = "p"
) -> ScopedKey:
    return ScopedKey(gufe_key=GufeKey(gufe_key), org=org, campaign=campaign, project=project)


def test_key_consists_of_its_parts() -> None:
    assert str(key()) == TEXT
    assert TEXT in repr(key())
    assert key().qualname == "Task"
    assert key().token == UUID(hex=TOKEN)
    assert key().scope == PROJECT
    assert key().gufe_key == f"Task-{TOKEN}"
    assert isinstance(key().gufe_key, GufeKey)


def test_key_requires_all_parts_by_name() -> None:
    with pytest.raises(TypeError):
        ScopedKey(f"Task-{TOKEN}", "o", "c", "p")  # type: ignore[call-arg, arg-type]  # that is the point
    for missing in ("gufe_key", "org", "campaign", "project"):
        parts = {name: value for name, value in key().to_dict().items() if name != missing}
        with pytest.raises(ValueError, match=missing):
            ScopedKey.from_dict(parts)


def test_key_survives_conversion_to_text_and_dict() -> None:
    assert ScopedKey.from_str(TEXT) == key()
    assert key().to_dict() == {
        "gufe_key": f"Task-{TOKEN}",
        "org": "o",
        "campaign": "c",
        "project": "p",
    }
    assert all(type(value) is str for value in key().to_dict().values())
    assert ScopedKey.from_dict(key().to_dict()) == key()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "Task",
        f"Task-{TOKEN}",
        f"Task-{TOKEN}-o-c",
        f"{TEXT}-x",
        "----",
        f"Task--{TOKEN}-o-c-p",
        f"-{TOKEN}-o-c-p",
    ],
)
def test_malformed_key_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        ScopedKey.from_str(text)


@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize("bad", [*BAD_COMPONENTS, "*", None], ids=ascii)
def test_key_is_always_specific_and_its_scope_well_formed(bad: str | None, position: int) -> None:
    parts = {"gufe_key": f"Task-{TOKEN}", "org": "o", "campaign": "c", "project": "p"}
    with pytest.raises(ValueError):
        ScopedKey.from_dict({**parts, list(parts)[1 + position]: bad})


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "Task",
        "Task-",
        "-abc",
        "1Task-abc",
        "Ta sk-abc",
        "Task-a-b",
        "Task-a'b",
        "Task-a b",
        "Task.-abc",
        ".Task-abc",
        "Task-a\n",
    ],
)
def test_gufe_key_of_a_key_is_a_class_and_a_token(bad: str) -> None:
    with pytest.raises(ValueError):
        key(bad)


@pytest.mark.parametrize("good", ["Outer.Inner", "A_b1", "Größe", "_Private"])
def test_class_of_a_key_may_be_nested_and_have_any_name_python_allows(good: str) -> None:
    assert key(f"{good}-{TOKEN}").qualname == good
    assert ScopedKey.from_str(str(key(f"{good}-{TOKEN}"))) == key(f"{good}-{TOKEN}")


@pytest.mark.parametrize("token", ["abc", TOKEN.upper(), TOKEN + "0", TOKEN[:-1] + "g"])
def test_token_of_an_impossible_form_is_none(token: str) -> None:
    assert key(f"Task-{token}").token is None


def test_key_equals_keys_of_the_same_text_only() -> None:
    assert key() == key()
    assert len({key(), key(), key(project="q")}) == 2
    assert key() != TEXT
    assert key() != PROJECT
    assert sorted([key(project="q"), key(), key(org="a")], key=str) == sorted(
        [key(project="q"), key(), key(org="a")]
    )
    with pytest.raises(TypeError):
        sorted([key(), TEXT])  # type: ignore[type-var]  # that is the point


@pytest.mark.parametrize("name", ["gufe_key", "org", "campaign", "project"])
def test_key_cannot_be_changed(name: str) -> None:
    with pytest.raises((ValidationError, TypeError)):
        setattr(key(), name, "x")


@given(component, component, component, component, st.uuids())
def test_key_from_database_values_equals_key_from_text(
    kind: str, org: str, campaign: str, project: str, token: UUID
) -> None:
    made = ScopedKey.from_parts(kind, token, org, campaign, project)
    assert ScopedKey.from_str(str(made)) == made
    assert made.token == token


def test_keys_survive_copies_and_pickles() -> None:
    assert copy.deepcopy(key()) == key()
    assert pickle.loads(pickle.dumps(key())) == key()


def test_keys_made_from_tokens_are_like_validated_ones() -> None:
    tokens = [f"{number:032x}" for number in (7, 1, 255)]
    made = ScopedKey.from_tokens("Task", "".join(tokens), "org", "campaign", "project")
    parsed = [ScopedKey.from_str(f"Task-{token}-org-campaign-project") for token in tokens]
    assert made == parsed
    assert [hash(key) for key in made] == [hash(key) for key in parsed]
    assert [repr(key) for key in made] == [repr(key) for key in parsed]
    assert sorted(made) == sorted(parsed)
    assert ScopedKey.from_tokens("Task", "", "org", "campaign", "project") == []
    for key, like in zip(made, parsed, strict=True):
        assert isinstance(key.gufe_key, GufeKey)
        assert key.model_dump() == like.model_dump()
        assert key.model_fields_set == like.model_fields_set
        assert key.model_extra == like.model_extra
        assert key.__pydantic_private__ == like.__pydantic_private__
        assert pickle.loads(pickle.dumps(key)) == like
        assert copy.deepcopy(key) == key.model_copy() == like
        changed = key.model_copy(update={"org": "other"})
        assert changed.org == "other"
        assert key == like
        with pytest.raises(ValidationError, match="frozen"):
            key.org = "other"
