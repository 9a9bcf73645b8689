from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamakey_addon.errors import BadRequest
from llamakey_addon.forms import is_form, read

HEADERS = ((b"Content-Type", b"multipart/form-data; boundary=b0"),)


def form(*parts: bytes, end: bytes = b"--b0--\r\n") -> bytes:
    return b"".join(b"--b0\r\n" + part + b"\r\n" for part in parts) + end


def field(name: str, value: bytes, more: str = "") -> bytes:
    return f'Content-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + value


def test_a_form_as_sdks_send_it():
    found = read(
        form(
            field("model", b"whisper-1"),
            field("file", b"\r\n--not\r\n\x00", '; filename="a b.mp3"\r\nContent-Type: audio/mpeg'),
        ),
        HEADERS,
    )
    model, file = found.parts
    assert (model.name, model.text(), model.is_file) == ("model", "whisper-1", False)
    assert (file.is_file, file.content_type, file.content) == (
        True,
        "audio/mpeg",
        b"\r\n--not\r\n\x00",
    )
    assert found.one("model") is model and found.one("purpose") is None


@pytest.mark.parametrize(
    "content_type",
    [b'multipart/form-data; boundary="b0"', b"Multipart/Form-Data;boundary=b0"],
)
def test_ways_of_naming_the_boundary(content_type):
    headers = ((b"content-type", content_type),)
    assert is_form(headers)
    assert read(form(field("a", b"1")), headers).parts[0].text() == "1"


@pytest.mark.parametrize(
    "content_type",
    [
        b"multipart/form-data",
        b"multipart/form-data; boundary=b1; boundary=b0",
        b"multipart/form-data; charset=utf-16; boundary=b0",
        b"multipart/form-data; boundary=b0; x=y",
        b"multipart/mixed; boundary=b0",
        b"application/json",
        b"multipart/form-data; boundary*=utf-8''b0",
        b"multipart/form-data; boundary=",
    ],
)
def test_other_content_types_are_no_form(content_type):
    with pytest.raises(BadRequest):
        read(form(field("model", b"a")), ((b"Content-Type", content_type),))


def test_two_content_types_are_no_form():
    assert not is_form(HEADERS * 2)
    with pytest.raises(BadRequest):
        read(form(field("model", b"a")), HEADERS * 2)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"preamble\r\n" + form(field("model", b"a")),
        b"\r\n" + form(field("model", b"a")),
        form(field("model", b"a")) + b"epilogue",
        form(field("model", b"a"), end=b""),
        form(field("model", b"a"), end=b"--b0"),
        form(field("model", b"a"), end=b"--b0-- \r\n"),
        form(field("model", b"a")).replace(b"\r\n", b"\n"),
        b"--b0 \r\n" + form(field("model", b"a")),
        form(b"no header\r\n\r\na"),
        form(b"Content-Disposition: form-data; name=model\r\n\r\na"),
        form(b"Content-Disposition: form-data; name='model'\r\n\r\na"),
        form(b'Content-Disposition: form-data; name="model"; name="x"\r\n\r\na'),
        form(b"Content-Disposition: form-data; name*=utf-8''model\r\n\r\na"),
        form(b'Content-Disposition: form-data; name="mod\\el"\r\n\r\na'),
        form(b'Content-Disposition: form-data; name="%6dodel"\r\n\r\na'),
        form(b'Content-Disposition: attachment; name="model"\r\n\r\na'),
        form(
            b'Content-Disposition: form-data; name="a"\r\nContent-Disposition: form-data; '
            b'name="model"\r\n\r\na'
        ),
        form(b'Content-Disposition: form-data;\r\n name="model"\r\n\r\na'),
        form(
            b'Content-Disposition: form-data; name="model"\r\n'
            b"Content-Transfer-Encoding: base64\r\n\r\nYQ=="
        ),
        form(b'Content-Disposition: form-data; name="\xff"\r\n\r\na'),
        form(b'Content-Disposition: form-data; name="a"'),
        form(*[field("a", b"")] * 1001),
        b'{"model": "a"}',
    ],
)
def test_a_form_that_readers_may_read_differently_is_refused(content):
    with pytest.raises(BadRequest, match="can't be read with certainty"):
        read(content, HEADERS)


@pytest.mark.parametrize(
    "parts",
    [
        (field("model", b"a"), field("model", b"b")),
        (field("model", b"a"), field("Model", b"b")),
        (field("model", b"a"), field("model[]", b"b")),
        (field("model", b"a"), field(" model ", b"b")),
        (field("MODEL", b"a"),),
        (field("model[]", b"a"),),
    ],
)
def test_a_field_that_stands_twice_or_nearly_is_refused(parts):
    with pytest.raises(BadRequest, match="model"):
        read(form(*parts), HEADERS).one("model")


@pytest.mark.parametrize(
    "part",
    [
        field("model", b"\xff"),
        field("model", b"a", '; filename="x"'),
        field("model", b"a", "\r\nContent-Type: text/plain; charset=utf-16"),
        field("model", b"a", "\r\nContent-Type: application/json"),
    ],
)
def test_a_field_that_is_no_plain_text_is_refused(part):
    found = read(form(part), HEADERS).one("model")
    assert found is not None
    with pytest.raises(BadRequest):
        found.text()


@given(st.binary(max_size=300))
def test_any_bytes_are_judged(content):
    for body in (content, form(content), form(field("a", content))):
        try:
            read(body, HEADERS)
        except BadRequest:
            pass
