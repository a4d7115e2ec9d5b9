"""No password of an address, whatever signs it has, is in what is printed, logged or stored."""

from __future__ import annotations

import shlex
from urllib.parse import quote

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from scaling.addresses import one_line, without_password
from scaling.store.check import store_message
from sweeps.run.job_yaml import yaml_without_passwords
from sweeps.run.provenance import swept

BEGIN, END = "S3CR", "T9ZQ"
SIGNS = st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_categories=("Cc", "Cs"))
SECRETS = st.text(SIGNS, max_size=12).map(lambda middle: BEGIN + middle + END)
SCHEMES = st.sampled_from(["postgresql+psycopg", "http", "https", "mysql+pymysql", "mssql"])
USERS = st.sampled_from(["me", "me@corp", "m.e", "corp\\me", ""])
KEYS = st.sampled_from(
    ["password", "passwd", "api_key", "apikey", "access_token", "token", "sig", "X-Amz-Signature"]
)


@st.composite
def addresses(draw: st.DrawFn) -> str:
    """Every way in which an address holds something secret."""
    scheme, secret = draw(SCHEMES), draw(SECRETS)
    shape = draw(st.sampled_from(["password", "quoted", "token", "token:", "query"]))
    if shape == "query":
        plain = quote(secret, safe="/:@ !*'()")
        return f"{scheme}://host.example/db?a=b&{draw(KEYS)}={plain}&sslmode=require"
    user = {
        "password": f"{draw(USERS)}:{secret}",
        "quoted": f"{draw(USERS)}:{quote(secret, safe='')}",
        "token": quote(secret, safe=""),
        "token:": f"{quote(secret, safe='')}:{draw(st.sampled_from(['', 'x-oauth-basic']))}",
    }[shape]
    return f"{scheme}://{user}@host.example:5432/db"


def hidden(text: str) -> bool:
    return BEGIN not in text and END not in text


@given(addresses())
@example(f"postgresql://me@corp:{BEGIN}{END}@h/db")
@example(f"postgresql://me:12 {BEGIN}@{END}@h/db")
@example(f"http://{BEGIN}{END}@h")
@example(f"http://h/db?a=b&password={BEGIN}@{END}&c=d")
def test_a_word_shows_its_host_and_no_password(address: str) -> None:
    for word in (address, f"tracking.uri={address}", f"++tracking.uri={address}"):
        shown = without_password(word, whole=True)
        assert hidden(shown)
        assert shown.startswith(word.partition("://")[0] + "://")
        assert word.endswith(shown.rpartition("@")[2]) or "?" in word
        assert without_password(shown, whole=True) == shown


@given(addresses())
def test_what_a_sweep_keeps(address: str) -> None:
    word = f"tracking.uri={address}"
    assert hidden(yaml_without_passwords({"uri": address, "overrides": [word]}))
    assert hidden("\n".join(swept([[word], ["lr=1"]])))


@given(addresses())
@example(f"http://{BEGIN}{END}:x-oauth-basic@host.example:5432/db")
def test_what_a_driver_says(address: str) -> None:
    """It quotes the address, whole or in the parts that it took it for."""
    _, _, password = address.partition("://")[2].rpartition("@")[0].partition(":")
    assume(address.startswith("http") or not hidden(password) or "?" in address)  # else a user
    rest = address.partition("://")[2].rpartition("@")[0]
    pieces = [address, f"'{address}'", repr(rest), *rest.split("@"), *rest.split(":")[1:]]
    secret = [piece for piece in pieces if not hidden(piece)]
    for piece in secret:
        assert hidden(store_message(address, RuntimeError(f"cannot connect to {piece} at all")))


@pytest.mark.parametrize(
    "text",
    [
        "see https://example.org/a?b=c and write to me@example.org",
        "tracking.uri=http://host:5000: nothing answers; ask me@example.org",
        "postgresql+psycopg://host/db is away",
        "lr=0.1 study.question='me@home: why?'",
    ],
)
def test_other_text_stays(text: str) -> None:
    assert without_password(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a postgresql://me:pass@h/db b", "a postgresql://me:***@h/db b"),
        ("'tracking.uri=http://me:a b@h' x@y", "'tracking.uri=http://me:***@h' x@y"),
        ("to http://me:my secret@h, c@d", "to http://me:***@h, c@d"),
        ("http://a:b@c and http://d:e@f", "http://a:***@c and http://d:***@f"),
        ("http://TOKEN@h/x", "http://***@h/x"),
        ("http://h/x?api_key=abc&y=1", "http://h/x?api_key=***&y=1"),
        ("http://h/x?api_key=ab@c&y=1", "http://***@***&y=1"),
    ],
)
def test_texts(text: str, shown: str) -> None:
    assert without_password(text) == shown
    assert one_line(text) == shown


def test_a_command_can_be_pasted_but_for_the_password() -> None:
    words = ["-m", "lr=1,2", "tracking.uri=postgresql://me:my secret@h/db", "study.question=a@b"]
    shown = [without_password(word, whole=True) for word in words]
    assert shlex.split(shlex.join(shown)) == [*words[:2], "tracking.uri=postgresql://me:***@h/db",
                                              "study.question=a@b"]  # fmt: skip
