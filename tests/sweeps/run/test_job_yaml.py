"""YAML made part by part says what was given."""

from __future__ import annotations

from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from sweeps.run.job_yaml import yaml_without_passwords

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
KEYS = st.text() | st.sampled_from(["true", "null", "on", "key", "a" * 200, "", "x: y", "? z"])
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner), max_leaves=12
)


@given(VALUES)
def test_read_again_it_is_the_same(content: Any) -> None:
    for _ in range(2):  # the second time from what was kept
        assert yaml.safe_load(yaml_without_passwords(content)) == content


def test_equal_values_of_other_types_stay_apart() -> None:
    for value in (1, True, 1.0, "1", "true"):
        read = yaml.safe_load(yaml_without_passwords({"key": value, "list": [value]}))
        assert repr(read) == repr({"key": value, "list": [value]})


def test_a_password_anywhere_is_hidden() -> None:
    address = "postgresql://me:SECRET@host/db"
    content = {"tracking": {"uri": address}, "list": [address, {"deep": address}]}
    text = yaml_without_passwords(content)
    assert "SECRET" not in text
    assert text.count("host/db") == 3
