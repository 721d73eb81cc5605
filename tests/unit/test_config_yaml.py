"""The YAML reader: positions, YAML 1.2 scalars, and everything that it refuses."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from onotrain.config import load_config
from onotrain.config.yaml_reader import MAX_BYTES, Position, YamlError, read_yaml
from onotrain.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3), ("5E4", 5e4), ("1.", 1.0), (".5", 0.5), ("-0.0", -0.0), ("+1.5e+2", 150.0),
        ("12", 12), ("-3", -3), ("+7", 7), ("007", 7), ("0x1F", 31), ("0o17", 15), ("1_000", "1_000"),
        ("yes", "yes"), ("no", "no"), ("on", "on"), ("Off", "Off"), ("y", "y"),
        ("true", True), ("False", False), ("TRUE", True), ("tRue", "tRue"),
        ("null", None), ("~", None), ("", None), ("Null", None), ("nuLL", "nuLL"),
        (".inf", math.inf), ("-.Inf", -math.inf), ("2020-01-01", "2020-01-01"),
        ("1:30", "1:30"), ("0b11", "0b11"),
        ("'1'", "1"), ('"true"', "true"), ("''", ""), ("=", "="), ("<<", "<<"), ("1e5x", "1e5x"),
        ("9" * 500, "9" * 500),
    ],
)  # fmt: skip
def test_scalars_are_those_of_yaml_1_2(text: str, value: Any) -> None:
    got = read_yaml(f"key: {text}\n").data["key"]
    assert got == value
    assert type(got) is type(value)


def test_not_a_number() -> None:
    assert math.isnan(read_yaml("a: .nan").data["a"])


def test_positions() -> None:
    document = read_yaml("data:\n  train: x\nmodel: {layers: [dense: 3,\n   dropout: 0.5]}\n")
    assert document.data == {"data": {"train": "x"}, "model": {"layers": [{"dense": 3}, {"dropout": 0.5}]}}
    assert document.keys[("data", "train")] == Position(2, 3)
    assert document.values[("data", "train")] == Position(2, 10)
    assert document.keys[("model", "layers", 1, "dropout")] == Position(4, 4)
    assert document.values[("model", "layers", 1, "dropout")] == Position(4, 13)


def test_byte_order_mark_and_line_ends() -> None:
    assert read_yaml(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n").data == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("a: &x 1\n", 1, 4, "anchors are not allowed (got &x)"),
        ("a: 1\nb: *x\n", 2, 4, "aliases are not allowed (got *x)"),
        ("a: !!int 1\n", 1, 4, "tags are not allowed (got tag:yaml.org,2002:int)"),
        ("a: !!python/name:os [x]\n", 1, 4, "tags are not allowed (got tag:yaml.org,2002:python/name:os)"),
        ("a: ! x\n", 1, 4, "tags are not allowed (got !)"),
        ("a: 1\nb: 2\na: 3\n", 3, 1, "duplicate key 'a'; the first one is in line 1"),
        ("a: 1\n---\nb: 2\n", 2, 1, "more than one document; only one is allowed"),
        ("a: 1\n1.5: 2\n", 2, 1, "a key must be a word (got 1.5)"),
        ("a: 1\ntrue: 2\n", 2, 1, "a key must be a word (got true)"),
        ("1: 1\n'1': 2\n", 2, 1, "duplicate key '1'; the first one is in line 1"),
        ("null: 2\n", 1, 1, "a key must be a word (got null)"),
        ("[a]: 2\n", 1, 1, "a key must be a word (got a mapping or a list)"),
        ("<<: {a: 1}\n&x b: 1\n", 2, 1, "anchors are not allowed (got &x)"),
        ("a: [1\nb: 2\n", 2, 2, "not YAML: expected ',' or ']', but got ':' while parsing a flow sequence"),
        ("a: 'x\n", 2, 1, "not YAML: found unexpected end of stream while scanning a quoted scalar"),
        (
            "a: 1\n\tb: 2\n",
            2,
            1,
            "not YAML: a tab (YAML is indented with spaces)",
        ),
        ("a: \x07\n", 1, 4, "character that YAML does not allow (got U+0007)"),
        ("a: " + "[" * 40, 1, 35, "nested more than 32 deep"),
    ],
)
def test_refused(text: str, line: int, column: int, message: str) -> None:
    with pytest.raises(YamlError) as caught:
        read_yaml(text)
    assert (caught.value.text, caught.value.position) == (message, Position(line, column))


def test_not_utf8() -> None:
    with pytest.raises(YamlError) as caught:
        read_yaml(b"a: 1\nb: \xff\xfe\n")
    assert (caught.value.text, caught.value.position) == ("not UTF-8 (got byte 0xff)", Position(2, 4))
    with pytest.raises(YamlError):
        read_yaml("a: 1\n".encode("utf-16"))


def test_size_limit() -> None:
    padding = b"# " + b"x" * (MAX_BYTES - 3) + b"\n"
    assert read_yaml(padding).data is None
    with pytest.raises(YamlError, match=r"too large \(got more than 1048576 bytes\)"):
        read_yaml(padding + b"\n")


def test_limit_of_values() -> None:
    with pytest.raises(YamlError, match="more than 100000 values"):
        read_yaml("a: [" + "1," * 100_001 + "]")


_FRAGMENTS = st.sampled_from(
    [
        "data:",
        "train",
        ": ",
        "\n",
        "\n  ",
        "\n  - ",
        "{",
        "}",
        "[",
        "]",
        ",",
        "'",
        '"',
        "&a",
        "*a",
        "!!int",
        "|",
        ">",
        "#",
        "---",
        "%YAML 1.1",
        "\t",
        "? ",
        "model:",
        "layers",
        "dense",
        "loss: mse",
        "1e-3",
        "null",
        "\\U99999999",
        "\ud800",
        "optimizer: {name: ",
        "...",
        "\u2028",
        "<adam>",
        "<<",
    ]
)
_YAML = st.lists(_FRAGMENTS | st.text(max_size=5), max_size=25).map("".join)


@given(_YAML)
@example('"\\UFFFFFFFF"')
@example("%YAML " + "9" * 5000 + ".1\n---\na: 1")
@example('data: {train: "\\ud800"}')
@example('"\\ud800": 1')
@example("optimizer: {name: adam, <sgd>: 1}")
def test_any_text_gives_a_configuration_or_a_config_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        load_config(path)
    except ConfigError as error:
        assert error.message.startswith(str(path))


@given(st.binary(max_size=60))
def test_any_bytes_give_a_document_or_a_yaml_error(data: bytes) -> None:
    try:
        read_yaml(data)
    except YamlError as error:
        assert error.text


_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        ["adam", "sgd", "relu", "<adam>", "auto", "test", "cross_entropy", "mse", "plateau", "top_5", "validation_loss"]
    )
)
_KEYS = st.text(max_size=6) | st.sampled_from(
    [
        "name",
        "layers",
        "dense",
        "units",
        "dropout",
        "metric",
        "metrics",
        "early_stopping",
        "betas",
        "<adam>",
        "normalize",
        "initializer",
    ]
)
_TREES = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4), max_leaves=12
)
_SECTIONS = ["data", "model", "loss", "optimizer", "schedule", "training", "strategy", "checkpoint"]


@given(st.dictionaries(st.sampled_from(_SECTIONS), _TREES, max_size=8))
def test_any_mapping_gives_a_configuration_or_a_config_error(tree: dict[str, Any]) -> None:
    from onotrain.config import Config

    try:
        Config.from_mapping(tree)
    except ConfigError as error:
        assert error.message


@given(st.lists(_KEYS | st.sampled_from([*_SECTIONS, "0", "1", "-1"]), min_size=1, max_size=4), _YAML)
def test_any_override_gives_a_configuration_or_a_config_error(keys: list[str], value: str) -> None:
    path = Path(__file__).parents[2] / "configs" / "digits.yaml"
    try:
        load_config(path, [f"{'.'.join(keys)}={value}"])
    except ConfigError as error:
        assert error.message
