"""Usage that was asked for by the proxy alone: the request's bytes stay, and so do the answer's."""

from __future__ import annotations

import json
import random
import re

import pytest

from llamakey_addon import catalogue, course
from llamakey_addon.catalogue.models import Endpoint
from llamakey_addon.journey import Body
from llamakey_addon.meter import meter_for
from llamakey_addon.meter.include_usage import Strip, may_ask, strip_for

ASK = '"stream_options":{"include_usage":true}'


def endpoint(provider: str, name: str) -> Endpoint:
    entry = catalogue.load().entries[provider]
    return next(found for found in entry.endpoints if found.name == name)


CHAT = endpoint("openai", "chat")

# --- the request ----------------------------------------------------------------------------------


def with_usage(endpoint: Endpoint | None, query: str, content: bytes) -> bytes | None:
    """What is sent in place of a body; None for the body itself."""
    return course.with_usage(Body(content)) if may_ask(endpoint, query) else None


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ('{"stream":true}', '{"stream":true,' + ASK + "}"),
        (
            '{"model": "gpt-4o",\r\n\t"stream" : true , "n":1.0, "a":"\\u00e9é"}\n',
            '{"model": "gpt-4o",\r\n\t"stream" : true , "n":1.0, "a":"\\u00e9é",' + ASK + "}\n",
        ),
        (
            '{"stream_options": null, "stream": true}',
            '{"stream_options": {"include_usage":true}, "stream": true}',
        ),
        (
            '{"stream":true,"stream_options":{}}',
            '{"stream":true,"stream_options":{"include_usage":true}}',
        ),
        (
            '{"stream":true,"stream_options": { "include_obfuscation": false }}',
            '{"stream":true,"stream_options": {"include_usage":true, "include_obfuscation": false '
            "}}",
        ),
        (
            '{"stream":true,"stream_options":{"include_usage": false, "x":{"include_usage":0}}}',
            '{"stream":true,"stream_options":{"include_usage": true, "x":{"include_usage":0}}}',
        ),
        (
            '{"stream":true,"stream_options":{"include_usage":null}}',
            '{"stream":true,"stream_options":{"include_usage":true}}',
        ),
        # A name within a text or further down is none of the request's own.
        (
            '{"x":{"stream":false},"m":"\\"stream\\":false","stream":true}',
            '{"x":{"stream":false},"m":"\\"stream\\":false","stream":true,' + ASK + "}",
        ),
    ],
)
def test_the_option_is_put_in_and_nothing_else_changes(asked: str, sent: str) -> None:
    got = with_usage(CHAT, "", asked.encode())
    assert got is not None
    assert got.decode() == sent
    document = json.loads(got)
    assert document["stream_options"]["include_usage"] is True
    assert document["stream"] is True


@pytest.mark.parametrize(
    "asked",
    [
        "{}",
        '{"stream":false}',
        '{"stream":"true"}',
        '{"stream":1}',
        '{"stream":true,"stream_options":{"include_usage":true}}',  # the client's own wish
        '{"stream":true,"stream":true}',
        '{"stream":true,"str\\u0065am":false}',
        '{"stream":true,"stream_options":{},"stream_options":{}}',
        '{"stream":true,"stream_options":{"include_usage":false,"include_usage":false}}',
        '{"stream":true,"stream_options":{"include_usage":0}}',
        '{"stream":true,"stream_options":{"include_usage":"no"}}',
        '{"stream":true,"stream_options":[]}',
        '{"stream":true,"stream_options":true}',
        '{"stream":true} {}',
        '{"stream":true,}',
        '{"stream":true',
        '{"stream":true,"t":NaN}',
        '[{"stream":true}]',
        '"stream"',
        "",
        '\ufeff{"stream":true}',
        '{"stream":true,"x":' + "[" * 100_000 + "]" * 100_000 + "}",
    ],
)
def test_what_is_doubtful_stays_as_it_is(asked: str) -> None:
    assert with_usage(CHAT, "", asked.encode()) is None


def test_no_utf8_stays_as_it_is() -> None:
    assert with_usage(CHAT, "", b'{"stream":true,"x":"\xff"}') is None
    assert with_usage(CHAT, "", '{"stream":true}'.encode("utf-16")) is None


def test_random_bodies_mean_the_same_with_the_option() -> None:
    dice = random.Random(7)

    def value(depth: int) -> object:
        kind = dice.randrange(7 if depth else 5)
        if kind == 5:
            return [value(depth - 1) for _ in range(dice.randrange(4))]
        if kind == 6:
            return {dice.choice('ab\u00e9"') * 2 + str(n): value(depth - 1) for n in range(3)}
        return dice.choice([None, True, -1.5e3, 'te"xt\n\\ ,}', "", {}, [], "stream"])

    for _ in range(300):
        body: dict[str, object] = {f"k{n}": value(3) for n in range(dice.randrange(5))}
        body["stream"] = True
        if dice.random() < 0.5:
            body["stream_options"] = {"include_obfuscation": dice.random() < 0.5}
        items = list(body.items())
        dice.shuffle(items)
        text = json.dumps(
            dict(items), indent=dice.choice([None, 2]), ensure_ascii=dice.random() < 0.5
        )
        got = with_usage(CHAT, "", text.encode())
        assert got is not None
        want = dict(items)
        want["stream_options"] = {
            "include_usage": True,
            **(want.get("stream_options") or {}),  # type: ignore[dict-item]
        }
        assert json.loads(got) == want
        new = len(got) - len(text.encode())
        assert new <= len(ASK) + 1


def test_only_where_the_catalogue_says_so() -> None:
    asked = b'{"stream":true}'
    able = {
        (entry.id, found.name)
        for entry in catalogue.load().entries.values()
        for found in entry.endpoints
        if with_usage(found, "api-version=2025-01-01", asked)
    }
    assert {("openai", "chat"), ("openai", "completions"), ("azure", "chat")} <= able
    assert not {("groq", "chat"), ("openrouter", "chat"), ("openai", "responses")} & able
    assert with_usage(None, "", asked) is None


def test_only_since_the_version_that_knows_it() -> None:
    azure, asked = endpoint("azure", "chat"), b'{"stream":true}'
    assert with_usage(azure, "api-version=2024-09-01-preview", asked)
    assert with_usage(azure, "api-version=2024-10-21", asked)
    assert with_usage(azure, "api-version=2024-06-01", asked) is None
    assert with_usage(azure, "", asked) is None
    assert with_usage(endpoint("azure", "v1.chat"), "", asked)


# --- the answer -----------------------------------------------------------------------------------

# https://platform.openai.com/docs/api-reference/chat-streaming, with and without the option
_HEAD = '"id":"chatcmpl-123","object":"chat.completion.chunk","created":1694268190,"model":"m"'
_USAGE = '{"prompt_tokens":9,"completion_tokens":12,"total_tokens":21,"x":{"usage":null}}'


def _chunk(choices: str, rest: str = "") -> str:
    return "data: {" + _HEAD + ',"choices":' + choices + rest + "}\n\n"


_CHOICES = [
    '[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]',
    '[{"index":0,"delta":{"content":"say \\"usage\\":null, and \\u00e9é"},"finish_reason":null}]',
    '[{"index":0,"delta":{"tool_calls":[{"function":{"arguments":"{\\"usage\\":null}"}}]}}]',
    '[{"index":0,"delta":{},"finish_reason":"stop","usage":null}]',
]
DIRECT = "".join(map(_chunk, _CHOICES)) + "data: [DONE]\n\n"
ASKED = (
    "".join(_chunk(choices, ',"usage":null') for choices in _CHOICES)
    + _chunk("[]", ',"usage":' + _USAGE)
    + "data: [DONE]\n\n"
)
PADDED = ',"obfuscation":"a\\"b,c"'
PAIRS: dict[str, tuple[str, str]] = {
    "documented": (ASKED, DIRECT),
    "padded": (
        "".join(_chunk(choices, ',"usage":null' + PADDED) for choices in _CHOICES)
        + _chunk("[]", ',"usage":' + _USAGE + PADDED)
        + "data: [DONE]\n\n",
        "".join(_chunk(choices, PADDED) for choices in _CHOICES) + "data: [DONE]\n\n",
    ),
    "spaced": (
        "".join(_chunk(choices, ', "usage": null') for choices in _CHOICES)
        + _chunk(" []", ', "usage": ' + _USAGE)
        + ": ping\n\ndata: [DONE]\n\n",
        "".join(map(_chunk, _CHOICES)) + ": ping\n\ndata: [DONE]\n\n",
    ),
    "first": (
        'data: {"usage":null,"choices":[{"usage":null}]}\n\n'
        'data: {"usage":null}\n\n'
        'data: {"a":1,"usage":null,"o":{"usage":null}}\n\n'
        'event: x\nid: 1\ndata: {"choices":[],\ndata: "usage":{"prompt_tokens":1}}\n\n'
        'event: y\ndata: {"choices":[{}]\ndata: ,"usage":null}\n\n'
        'data: {"choices":[{}],"usage":{"prompt_tokens":1}}\n\n',
        'data: {"choices":[{"usage":null}]}\n\n'
        "data: {}\n\n"
        'data: {"a":1,"o":{"usage":null}}\n\n'
        'event: y\ndata: {"choices":[{}]\ndata: }\n\n'
        'data: {"choices":[{}],"usage":{"prompt_tokens":1}}\n\n',
    ),
    "as the client asked": (DIRECT, DIRECT),
    "an error midway": (
        _chunk(_CHOICES[1], ',"usage":null') + 'data: {"error":{"message":"usage"}}\n\n',
        _chunk(_CHOICES[1]) + 'data: {"error":{"message":"usage"}}\n\n',
    ),
}


def _through(pieces: list[bytes]) -> bytes:
    strip = Strip()
    return b"".join([strip.feed(piece) for piece in pieces]) + strip.end()


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_the_client_sees_what_it_would_have_seen(name: str, end: str) -> None:
    asked, direct = (text.replace("\n", end).encode() for text in PAIRS[name])
    assert _through([asked]) == direct
    assert _through([asked[at : at + 1] for at in range(len(asked))]) == direct
    blank = (end * 2).encode()
    events = [event + blank for event in asked.removesuffix(blank).split(blank)]
    assert _through(events) == direct
    for cut in range(len(asked)):
        assert _through([asked[:cut], asked[cut:]]) == direct, cut
    dice = random.Random(name)
    for _ in range(50):
        cuts = sorted(dice.sample(range(len(asked)), 5))
        ends = [*cuts[1:], len(asked)]
        pieces = [asked[: cuts[0]], *(asked[a:b] for a, b in zip(cuts, ends, strict=True))]
        assert _through(pieces) == direct


@pytest.mark.parametrize("name", ["documented", "padded", "spaced"])
def test_a_stream_that_breaks_off_is_the_beginning_of_what_it_would_have_been(name: str) -> None:
    asked, direct = (text.encode() for text in PAIRS[name])
    longest = 0
    for cut in range(len(asked)):
        seen = _through([asked[:cut]])
        assert direct.startswith(seen), (cut, seen[-80:])
        longest = max(longest, len(seen))
    assert longest == len(direct) or direct[longest:] in (b"\n", b"\n\n")


def test_events_pass_when_they_are_complete() -> None:
    strip = Strip()
    at = 0
    for event in re.findall(r".*?\n\n", ASKED, re.DOTALL):
        got = strip.feed(event.encode())
        assert DIRECT.encode()[at:].startswith(got)
        assert got or '"choices":[]' in event
        at += len(got)
    assert at == len(DIRECT.encode())


def test_an_endless_event_passes_without_being_kept() -> None:
    strip = Strip()
    piece = b"x" * 65536
    sent = b"data: " + piece * 40
    got = strip.feed(b"data: ")
    for _ in range(40):
        got += strip.feed(piece)
    assert len(got) > 39 * 65536
    got += strip.feed(b"\n") + strip.feed(b"\n" + ASKED.encode())
    assert got + strip.end() == sent + b"\n\n" + DIRECT.encode()


def test_the_meter_reads_what_is_taken_out() -> None:
    meter = meter_for(CHAT, 200, ((b"content-type", b"text/event-stream"),))
    meter.feed(ASKED.encode())
    assert meter.end(complete=True).counts == {"input_tokens": 9, "output_tokens": 12}


def test_only_streams_that_succeed_are_filtered() -> None:
    stream = ((b"Content-Type", b"text/event-stream; charset=utf-8"),)
    assert strip_for(200, stream) is not None
    assert strip_for(400, stream) is None
    assert strip_for(200, ((b"content-type", b"application/json"),)) is None
