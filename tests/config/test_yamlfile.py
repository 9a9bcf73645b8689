from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamakey_addon.config import yamlfile
from llamakey_addon.errors import ConfigError

BILLION_LAUGHS = "x0: &x0 [z]\n" + "".join(
    f"x{n}: &x{n} [{f'*x{n - 1},' * 9}]\n" for n in range(1, 12)
)
REAL = "sk-proj-Zq3vXw9LmT7uRb2NcY5dHj8KpS4aGe6F"


def test_values_and_their_lines():
    document = yamlfile.parse("a: 1\nb:\n  c: [x,\n    {d: 2}]\n", "config.yaml")
    assert document.data == {"a": 1, "b": {"c": ["x", {"d": 2}]}}
    assert document.where(("a",)) == "config.yaml:1"
    assert document.where(("b", "c")) == "config.yaml:3"
    assert document.where(("b", "c", 1, "d")) == "config.yaml:4"
    assert document.where(("b", "c", 1, "unknown", "deeper")) == "config.yaml:4"
    assert document.where(("z",)) == "config.yaml"
    assert document.faults == ()


@pytest.mark.parametrize("text", ["", "# only this\n", "---\n", "null"])
def test_an_empty_file_is_no_settings(text):
    assert yamlfile.parse(text, "config.yaml").data == {}


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("a: 1\na: 2\n", 2, "stands here again (first on line 1)"),
        ("a:\n  b: 1\n  c: 2\n  b: 3\n", 4, "`b` stands here again"),
        ("users:\n  no: {}\n", 2, "quote it"),
        ("1: 2\n", 1, "quote it"),
        ("? [a]\n: 1\n", 1, "quote it"),
        ("x: &x {a: 1}\ny:\n  <<: *x\n", 3, "`<<`"),
    ],
)
def test_faults_of_names(text, line, word):
    document = yamlfile.parse(text, "config.yaml")
    assert [fault.where for fault in document.faults] == [f"config.yaml:{line}"]
    assert word in document.faults[0].message


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("a: 1\n b: 2\n", "config.yaml:2"),
        ("a: [1, 2\n", "config.yaml:2"),
        ("a: 'x\n", "config.yaml:2"),
        ("a: 1\n\tb: 2\n", "config.yaml:2"),
        ("a: *nobody\n", "config.yaml:1"),
        ("a: !!python/object:os.system x\n", "config.yaml:1"),
        ("a: 2024-99-99\n", "config.yaml:1"),
        ("a: 1\n---\nb: 2\n", "config.yaml:2"),
        ("- a\n- b\n", "config.yaml:1"),
        ("just text\n", "config.yaml:1"),
        ("a: \x01\n", "config.yaml"),
        ("a: &a [*a]\n", "config.yaml:1"),
        (
            "x0: &x0 [z]\n" + "".join(f"x{n}: &x{n} [{f'*x{n - 1},' * 9}]\n" for n in range(1, 12)),
            "",
        ),
        ("[" * 5000, ""),
    ],
)
def test_what_is_not_yaml_says_where(text, where):
    with pytest.raises(ConfigError) as caught:
        yamlfile.parse(text, "config.yaml")
    assert caught.value.faults[0].where.startswith(where)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "text", [f"a: [{REAL}\n", f"a: *{REAL}\n", f"{REAL}: 1\n{REAL}: 2\n", f"a: '{REAL}\n  x"]
)
def test_no_fault_shows_a_key(text):
    try:
        faults = yamlfile.parse(text, "config.yaml").faults
    except ConfigError as error:
        faults = error.faults
    assert faults
    assert REAL not in str(faults)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (f"key: {REAL}", True),
        (f"# key: {REAL}", True),
        ("key: sk-ant-api03-abcdefghijklmnopqrstuvwxyz", True),
        ("a: hf_abcdefghijklmnopqrstuvwxyz", True),
        ("a: AIzaSyA-abcdefghijklmnopqrstuvwxyz01234", True),
        ("a: AKIAABCDEFGHIJKLMNOP", True),
        ("key: sk-lmk-abcdefghij-abcdefghijklmnopq", True),
        ("key: env:OPENAI_API_KEY", False),
        ("upstream: https://desk-something-long-enough-to-matter.example.com", False),
        ("key: cmd:op read op://team/anthropic/key", False),
    ],
)
def test_lines_that_look_like_keys(line, found):
    assert yamlfile.parse(f"\n{line}\n", "config.yaml").secret_lines == ((2,) if found else ())


def test_files(tmp_path):
    path = tmp_path / "config.yaml"
    with pytest.raises(ConfigError, match="no such file"):
        yamlfile.read(path, "config.yaml")
    path.mkdir()
    with pytest.raises(ConfigError, match="can't be read"):
        yamlfile.read(path, "config.yaml")
    path.rmdir()
    path.write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(ConfigError, match=r"config\.yaml:2: the file is not UTF-8"):
        yamlfile.read(path, "config.yaml")
    path.write_bytes(b"#" * (5 << 20))
    with pytest.raises(ConfigError, match="4 MiB"):
        yamlfile.read(path, "config.yaml")
    path.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert yamlfile.read(path, "config.yaml").data == {"a": 1}


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text):
    try:
        data = yamlfile.parse(text, "config.yaml").data
    except ConfigError:
        return
    assert isinstance(data, dict)
