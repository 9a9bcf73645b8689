"""`lmk keys find`: leaked keys are told by their checksum, in files of any size and coding."""

from __future__ import annotations

import gzip
import io
import json
import random
import subprocess
import time

import pytest

from llamakey_addon import keys
from llamakey_addon.cli.find import _PIECE_BYTES, search
from llamakey_addon.tokens import Tokens
from tests.cli.command import LMK


@pytest.fixture
def made(lmk):
    """Keys by name, each of a user of its name."""
    found = {}
    for name in ("living", "revoked", "expired"):
        found[name] = lmk.here("keys", "new", name).out.strip()
    lmk.here("keys", "revoke", "revoked")
    lmk.here("keys", "expire", "expired", "--in", "0")
    return found


def test_where_whose_and_whether_valid(lmk, made):
    stranger = keys.mint().text
    mistyped = made["living"][:-1] + ("a" if made["living"][-1] != "a" else "b")
    path = lmk.folder / "app.log"
    path.write_text(
        "start\n"
        f'{{"authorization": "Bearer {made["living"]}"}}\n'
        f"revoked {made['revoked']} and again {made['revoked']}\n"
        f"masked {keys.mask_local(made['expired'])}\n"
        f"{stranger}\n"
        f"?key={made['living']}&x=1\n"
        f"{mistyped}\nsk-lmk-<id>-<secret>\n"
    )
    done = lmk.here("keys", "find", "app.log", "--json")
    assert done.code == 1
    found = json.loads(done.out)
    assert [
        (each["name"], each["form"], each["state"], each["valid"], each["lines"], each["count"])
        for each in found
    ] == [
        ("living", "whole", "valid", True, [2, 6], 2),
        ("revoked", "whole", "revoked", False, [3], 2),
        ("expired", "masked", "expired", False, [4], 1),
        (None, "whole", "unknown", False, [5], 1),
        ("living", "masked", "valid", False, [7], 1),
    ]
    done = lmk.here("keys", "find", "app.log")
    assert done.code == 1
    first = done.out.splitlines()[0]
    assert first.startswith("app.log:2 and 1 more  sk-lmk-")
    assert first.endswith("whole   living   living   valid")
    assert "lmk keys rotate NAME --overlap 0" in done.err
    for text in (*made.values(), stranger):
        assert text not in done.out + done.err
        assert text.rpartition("-")[2] not in done.out + done.err


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        ("nothing", 0, "No local key stands there"),
        ("{revoked} {expired}", 0, "No valid key stands there"),
        ("sk-lmk-{living_id}-…", 0, "No valid key stands there"),
        ("{living}", 1, "A valid key stands there: living"),
    ],
)
def test_the_exit_code_is_for_scripts(lmk, made, content, code, said):
    (lmk.folder / "file").write_text(content.format(living_id=made["living"][7:17], **made))
    done = lmk.here("keys", "find", "file")
    assert (done.code, said in done.err) == (code, True)


def test_a_forged_key_of_a_known_id_is_not_the_known_one(lmk, made):
    key_id = made["living"][7:17]
    forged = f"sk-lmk-{key_id}-{'A' * 43}{keys._checksum(key_id, 'A' * 43)}"
    done = lmk.here("keys", "find", "-", "--json", stdin=forged.encode())
    assert done.code == 0
    [found] = json.loads(done.out)
    assert (found["state"], found["name"], found["form"]) == ("unknown", None, "whole")


def test_what_is_derived_from_a_key_is_found_too(lmk, made):
    tokens = Tokens(lmk.home)
    key_id, other = made["living"][7:17], made["revoked"][7:17]
    now_s = time.time()
    (lmk.folder / "file").write_text(
        f"{tokens.issue(key_id, 'vertex', now_s)}\n"
        f"{tokens.issue(key_id, 'vertex', now_s - 7200)}\n"
        f'{{"private_key_id": "{tokens.name_pair(key_id, 2**2047 + 1)}"}}\n'
        f"{tokens.name_pair(other, 2**2047 + 1)}\n"
    )
    done = lmk.here("keys", "find", "file", "--json")
    assert done.code == 1
    assert [
        (each["form"], each["name"], each["valid"], each["lines"]) for each in json.loads(done.out)
    ] == [
        ("token", "living", True, [1]),
        ("token", "living", False, [2]),
        ("key file", "living", True, [3]),
        ("key file", "revoked", False, [4]),
    ]


def test_standard_input_by_a_pipe(lmk, made):
    done = lmk("keys", "find", "-", stdin=f"a\nb {made['living']}\n")
    assert done.code == 1
    assert done.out.startswith("-:2  sk-lmk-")


def test_folders_packed_and_other_codings(lmk, made):
    folder = lmk.folder / "logs"
    (folder / "old").mkdir(parents=True)
    line = f"one\n\ntwo {made['living']}\n"
    (folder / "a.log.gz").write_bytes(gzip.compress(line.encode()))
    (folder / "b.txt").write_text(line, encoding="utf-16")
    (folder / "old" / "c.log").write_text(line)
    (folder / "link").symlink_to(folder / "old" / "c.log")
    found = json.loads(lmk.here("keys", "find", "logs", "--json").out)
    assert [(each["file"], each["lines"]) for each in found] == [
        ("logs/a.log.gz", [3]),
        ("logs/b.txt", [3]),
        ("logs/old/c.log", [3]),
    ]


def test_what_cannot_be_read_is_told_and_the_rest_is_searched(lmk, made):
    (lmk.folder / "bad.gz").write_bytes(gzip.compress(b"x" * 1000)[:-20])
    (lmk.folder / "good").write_text(made["revoked"])
    done = lmk.here("keys", "find", "nowhere", "bad.gz", "good")
    assert done.code == 2
    assert "nowhere: No such file" in done.err
    assert "bad.gz: " in done.err
    assert "good:1" in done.out
    (lmk.folder / "good").write_text(made["living"])
    assert lmk.here("keys", "find", "nowhere", "good").code == 1, "a living one goes before"


@pytest.mark.parametrize("seed", range(6))
def test_keys_are_found_wherever_a_piece_ends(seed):
    """Keys and lines laid around the borders of pieces, against a plain count."""
    chance = random.Random(seed)
    texts = [keys.mint().text.encode() for _ in range(4)]
    data = bytearray()
    while len(data) < 2 * _PIECE_BYTES + 300:
        border = -len(data) % _PIECE_BYTES
        if border > 800:
            data += (b"." * 99 + b"\n") * (chance.randrange(border - 700, border) // 100)
        data += chance.choice((b"\n", b" ", b"")) + chance.choice(texts)
        data += b"\n" * chance.randrange(3)
    found = {each.spot.id: each for each in search("x", io.BytesIO(data))}
    for text in texts:
        each = found.pop(text.decode()[7:17], None)
        assert (each.count if each else 0) == data.count(text)
        if each:
            assert each.spot.form == "whole"
            assert each.lines[0] == data[: data.index(text)].count(b"\n") + 1
    assert found == {}


def test_a_big_file_is_not_read_at_once(lmk, made):
    """200 MB of one line by a pipe, under a bound on memory that the file would break."""
    script = (
        "import os\n"
        "for _ in range(200): os.write(1, b'x' * 1000000)\n"
        f"os.write(1, b'{made['living']}')\n"
    )
    done = subprocess.run(
        [
            "bash",
            "-c",
            f'{LMK[0]} -c "{script}" | (ulimit -v 400000; exec {" ".join(LMK)} keys find -)',
        ],
        cwd=lmk.folder,
        env=lmk.environment({}),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stdout[:4]) == (1, "-:1 "), done.stderr
