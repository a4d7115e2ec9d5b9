"""Command lines of `python -m sweeps` as people and worse write them: Hydra's grammar, its signs in
wrong places, names with slips. Nothing is trained (sweep.dry_run) and nothing downloaded."""

from __future__ import annotations

from hypothesis import strategies as st

from sweeps.command_line.known_keys import known_keys

GROUPS = {
    "task": ["linear_regression", "finite_regression", "custom"],
    "optimizer": ["sgd", "adam", "momentum", "preconditioned", "custom", "soap"],
    "schedule": ["constant", "warmup", "cosine", "linear", "wsd"],
    "study": ["scratch", "linear_regression", "minimum_norm_example", "optimizers", "weight_decay"],
    "hydra/sweeper": ["grid", "frontier"],
    "hydra/launcher": ["stacked", "basic"],
}
AVOIDED = ("sweep", "model", "data", "hydra.callbacks", "cache_dir")  # these fetch or write data
KEYS = [key for key in known_keys() if not key.startswith(AVOIDED)]
NUMBERS = st.one_of(
    st.integers(-2, 300).map(str),
    st.floats(width=16).map(str),
    st.sampled_from(["1e9", "0.1", "1e-3", "inf", "nan", "-0", "1_000", "010", "1e999", "0x10"]),
)
NAMES = st.sampled_from([*GROUPS, *(one for group in GROUPS.values() for one in group)])
TEXTS = st.one_of(
    NAMES,
    st.sampled_from(["null", "true", "off", "???", "''", "a b", "ü", "a/b", "../x", "\\,"]),
    st.just("x" * 300),
    st.text("abAB01 ,:=()[]{}'\"\\$.~+-@/#%&|;\t*", max_size=8),
)  # fmt: skip
REFERENCES = st.sampled_from(
    ["${lr}", "${nope}", "${oc.env:NOPE}", "${oc.env:HOME}", "${hydra:job.num}", "${now:%Y}", "${",
     "${a:${lr}}", "${budget.max_steps}", "${hydra.nope}", "${oc.decode:'{'}", "$lr"]
)  # fmt: skip
PLAIN = st.one_of(NUMBERS, NUMBERS, TEXTS, REFERENCES)
LISTS = st.lists(PLAIN, max_size=4).map(lambda values: f"[{','.join(values)}]")
DICTS = st.lists(st.tuples(TEXTS, PLAIN), max_size=2).map(
    lambda pairs: "{" + ",".join(f"{key}:{value}" for key, value in pairs) + "}"
)
CALLS = st.tuples(
    st.sampled_from(
        [
            "range",
            "choice",
            "interval",
            "sort",
            "shuffle",
            "glob",
            "int",
            "float",
            "str",
            "tag",
            "f",
        ]
    ),
    st.lists(st.one_of(NUMBERS, NUMBERS, TEXTS), max_size=3).map(",".join),
).map(lambda call: f"{call[0]}({call[1]})")
NESTED = st.one_of(
    st.tuples(st.sampled_from(["sort", "shuffle", "float", "choice"]), CALLS).map(
        lambda call: f"{call[0]}({call[1]})"
    ),
    st.integers(1, 400).map(lambda depth: "[" * depth + "]" * depth),
)
SWEEPS = st.lists(PLAIN, min_size=2, max_size=4).map(",".join)
VALUES = st.one_of(PLAIN, PLAIN, SWEEPS, LISTS, DICTS, CALLS, CALLS, NESTED)


@st.composite
def _slips(draw: st.DrawFn) -> str:
    """A key with one letter left out, doubled or swapped, or a level too many."""
    key = draw(st.sampled_from(KEYS))
    at = draw(st.integers(0, len(key) - 1))
    return draw(
        st.sampled_from(
            [key[:at] + key[at + 1 :], key[:at] + key[at] + key[at:], f"{key}.x", key.upper(),
             key.rpartition(".")[2], f"{key}@x", f"{key}."]
        )
    )  # fmt: skip


GOOD = st.one_of(
    st.sampled_from(list(GROUPS)).flatmap(
        lambda group: st.sampled_from(GROUPS[group]).map(lambda choice: f"{group}={choice}")
    ),
    st.sampled_from(
        ["batch_size=8", "batch_size=8,16", "lr=0.1,0.2", "seed=range(0,3)", "targets=[0.5]",
         "task.dimension=8", "optimizer.momentum=0.9", "schedule.total_steps=50", "budget=null"]
    ),
)  # fmt: skip
WORDS = st.one_of(
    GOOD,
    st.tuples(
        st.sampled_from(["", "", "", "", "+", "++", "~"]),
        st.one_of(st.sampled_from(KEYS), st.sampled_from(list(GROUPS)), _slips()),
        st.one_of(VALUES.map("=".__add__), VALUES.map("=".__add__), st.just("")),
    ).map("".join),
    TEXTS,
)
OPTIONS = st.sampled_from(
    [["-m"], ["-m"], ["-m"], [], [], ["--info"], ["--cfg", "job"], ["--resolve"], ["--mltirun"],
     ["--config-dir", "nope"], ["--config-name", "x"], ["-m", "--run"], ["-r"]]
)  # fmt: skip
STAYS_ASKED = "sweep.dry_run=true"  # the last word on it counts


@st.composite
def lines(draw: st.DrawFn) -> list[str]:
    words = draw(st.lists(WORDS, min_size=1, max_size=4))
    words = [word for word in words if "\0" not in word and word not in ("-h", "--help")]
    return [*draw(OPTIONS), *words, STAYS_ASKED]
