# Shared by scripts/lmk, scripts/test and scripts/check: makes .venv and .sdks/ from the locks.
#
# An environment is ready when its stamp equals what the stamp would be now; comparing them is all
# that a later start costs. The stamp is written last, so a set-up that was cut off is seen as such
# and begins anew. Kept to what macOS's bash 3.2 knows.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
me=${0##*/}
unset PYTHONHOME

say() { printf '%s: %s\n' "$me" "$*" >&2; }
die() { say "$@"; exit 1; }

# --- a fitting interpreter -----------------------------------------------------------------------

# Debian splits venv and ensurepip off: a Python without them can't make an environment.
fits() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1 &&
        "$1" -c 'import ensurepip, venv' >/dev/null 2>&1
}

candidates() {
    [ -z "${LLAMAKEY_PYTHON:-}" ] || { printf '%s\n' "$LLAMAKEY_PYTHON"; return; }
    printf '%s\n' "$root/.venv/bin/python" python3.14 python3.13 python3.12 python3 python
    local version path
    for version in 3.14 3.13 3.12; do
        for path in "${PYENV_ROOT:-${HOME:-}/.pyenv}/versions/$version"*/bin/python; do
            [ ! -x "$path" ] || printf '%s\n' "$path"
        done
    done
    if command -v uv >/dev/null 2>&1; then uv python find '>=3.12' 2>/dev/null || true; fi
}

find_python() {
    local python version seen=""
    while IFS= read -r python; do
        python=$(command -v "$python" 2>/dev/null) || continue
        if fits "$python"; then
            # The base, since the environment it may come from is about to be replaced.
            "$python" -c 'import sys; print(getattr(sys, "_base_executable", "") or sys.executable)'
            return
        fi
        version=$("$python" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null) ||
            continue
        case $version in
            3.1[2-9].* | 3.[2-9][0-9].*) version="$version, but without venv: install python3-venv" ;;
        esac
        seen="$seen
    $python ($version)"
    done <<LIST
$(candidates)
LIST
    say "LlamaKey needs Python 3.12 or newer; none was found on PATH, under pyenv or by uv.${seen:+
  Found, and not fitting:$seen}
  Install one of them, then start again:
    uv python install 3.13                  (any system)
    PYTHON_CONFIGURE_OPTS='--enable-optimizations --with-lto' pyenv install 3.13
    apt-get install python3 python3-venv    (Debian 13, Ubuntu 24.04 or newer)
    dnf install python3.13                  (Fedora, RHEL)
    brew install python@3.13                (macOS)
  Or name one: LLAMAKEY_PYTHON=/path/to/python scripts/$me"
    return 1
}

# --- stamps and the lock -------------------------------------------------------------------------

# stamp ENV FILE...: what ENV was made from. The place counts (scripts in bin/ hold their path), and
# pyvenv.cfg names the Python.
stamp() {
    local env=$1
    shift
    printf '%s\n' "$env"
    cat "$env/pyvenv.cfg" 2>/dev/null || true
    cksum "$@"
}

# ready ENV KIND FILE...
ready() {
    local env=$1 kind=$2
    shift 2
    [ -f "$env/.stamp-$kind" ] && [ ! -e "$env/.unfinished" ] || return 1
    # A link to a Python that is gone is not executable.
    [ ! -f "$env/pyvenv.cfg" ] || [ -x "$env/bin/python" ] || return 1
    [ "$(cat "$env/.stamp-$kind")" = "$(stamp "$env" "$@")" ]
}

# One set-up at a time. The lock belongs to the open descriptor 9, which every child inherits: it
# falls when the last process of a set-up has ended, however it ended. (macOS has no flock command.)
take_lock() {
    exec 9>"$root/.setup.lock"
    "$1" -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)'
}
drop_lock() { exec 9>&-; }

# --- environments --------------------------------------------------------------------------------

# pip_install ENV LOCK...: nothing but wheels whose hash the lock holds, so that no code runs at
# installation and nothing is fetched that was not locked. SDK environments have no pip of their
# own, .venv's serves them; of each SDK the small part is compiled that tests use.
pip_install() {
    local env=$1 lock
    shift
    for lock in "$@"; do
        set -- "$@" --requirement "$lock"
        shift
    done
    set -- install --quiet --no-input --disable-pip-version-check \
        --require-hashes --only-binary :all: "$@"
    if [ "$env" = "$root/.venv" ]; then
        "$env/bin/python" -m pip "$@" >&2
    else
        "$root/.venv/bin/python" -m pip --python "$env/bin/python" "$@" --no-compile >&2
    fi
}

offline_hint="Set-up downloads from the package index that pip is configured for: is there a network, \
or a proxy or index to name (HTTPS_PROXY, PIP_INDEX_URL)?"

# prepare_venv KIND LOCK...: .venv with the locks' packages and the project itself, editable.
prepare_venv() {
    local env=$root/.venv kind=$1 python
    shift
    ready "$env" "$kind" "$@" "$root/pyproject.toml" && return
    python=$(find_python) || exit 1
    take_lock "$python"
    if ready "$env" "$kind" "$@" "$root/pyproject.toml"; then # by another set-up, meanwhile
        drop_lock
        return
    fi
    say "setting up .venv (once, $("$python" -c 'import sys; print("Python %d.%d.%d" % sys.version_info[:3])')) ..."
    # What was cut off is made anew: pip takes a half-written package for an installed one.
    if [ -e "$env/.unfinished" ] || ! fits "$env/bin/python" ||
        ! "$env/bin/python" -m pip --version >/dev/null 2>&1; then
        rm -rf "$env"
    fi
    mkdir -p "$env"
    : >"$env/.unfinished"
    [ -f "$env/pyvenv.cfg" ] || "$python" -m venv --prompt llamakey "$env" ||
        die "$python could not make .venv."
    pip_install "$env" "$@" ||
        die "pip could not install from the lock into .venv. $offline_hint"
    # The build backend stands in the lock, so this needs neither network nor isolation.
    "$env/bin/python" -m pip install --quiet --no-input --disable-pip-version-check --no-index \
        --no-deps --no-build-isolation --editable "$root" >&2 ||
        die "pip could not install the project itself into .venv."
    stamp "$env" "$@" "$root/pyproject.toml" >"$env/.stamp-$kind"
    rm "$env/.unfinished"
    drop_lock
}

# make_sdk_env NAME: .sdks/NAME from tests/sdks/NAME.lock, by .venv's Python and pip.
make_sdk_env() {
    local env=$root/.sdks/$1 lock=$root/tests/sdks/$1.lock
    rm -rf "$env"
    mkdir -p "$env"
    "$root/.venv/bin/python" -m venv --without-pip "$env"
    pip_install "$env" "$lock" || {
        say "pip could not install tests/sdks/$1.lock into .sdks/$1. $offline_hint"
        return 1
    }
    # Some SDKs say things when they are imported; and what can't be is told by its test.
    env -u PYTHONDONTWRITEBYTECODE "$env/bin/python" "$root/tests/sdks/compiled.py" \
        </dev/null >/dev/null 2>&1 || true
    stamp "$env" "$lock" >"$env/.stamp-sdk"
}

make_node_env() {
    local env=$root/.sdks/node from=$root/tests/sdks/node
    command -v npm >/dev/null 2>&1 || {
        say "no npm on PATH: tests with SDKs for Node will say that they need Node 18 or newer."
        return 0
    }
    rm -rf "$env"
    mkdir -p "$env"
    cp "$from/package.json" "$from/package-lock.json" "$env"
    (cd "$env" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2) || {
        say "npm could not install tests/sdks/node/package-lock.json into .sdks/node. Set-up downloads
  from the registry that npm is configured for: is there a network?"
        return 1
    }
    # Claude Code's own step after an installation: it puts the program that lies in a package beside
    # it into its place, and fetches nothing.
    (cd "$env" && node node_modules/@anthropic-ai/claude-code/install.cjs >&2) ||
        say "Claude Code could not be put into its place; its tests will say so."
    stamp "$env" "$from/package.json" "$from/package-lock.json" >"$env/.stamp-sdk"
}

chromium_here() {
    command -v chromium >/dev/null 2>&1 || command -v chromium-browser >/dev/null 2>&1 ||
        command -v google-chrome >/dev/null 2>&1
}

# System tools that some tests need. Missing ones don't end the set-up: those tests say so.
make_tools() {
    local missing="" log=$root/.cache/apt-get.log
    chromium_here || missing="chromium"
    command -v npm >/dev/null 2>&1 || missing="$missing nodejs npm"
    if [ -n "$missing" ]; then
        if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
            say "installing by apt-get: $missing ..."
            # shellcheck disable=SC2086 # two names, two words
            apt_install $missing >"$log" 2>&1 9>&- || {
                say "apt-get could not install$(printf ' %s' $missing) (is there a network?):"
                tail -n 3 "$log" >&2
            }
        else
            say "not here: $missing. Tests that need them will say so; install them to run those too."
        fi
    fi
    mkdir -p "$root/.sdks"
    : >"$root/.sdks/.stamp-tools"
}

apt_install() {
    export DEBIAN_FRONTEND=noninteractive
    apt-get install -qq --no-install-recommends "$@" </dev/null ||
        { apt-get update -qq && apt-get install -qq --no-install-recommends "$@" </dev/null; }
}

# prepare_sdks: everything under .sdks/, side by side.
sdks_ready() {
    local lock name
    for lock in "$root"/tests/sdks/*.lock; do
        name=${lock##*/}
        ready "$root/.sdks/${name%.lock}" sdk "$lock" || return 1
    done
    [ -e "$root/.sdks/.stamp-tools" ] || return 1
    ready "$root/.sdks/node" sdk "$root/tests/sdks/node/package.json" \
        "$root/tests/sdks/node/package-lock.json" || ! command -v npm >/dev/null 2>&1
}

prepare_sdks() {
    local lock name job jobs="" failed=""
    sdks_ready && return
    take_lock "$root/.venv/bin/python"
    say "setting up .sdks (once: SDKs to test against, a minute or two) ..."
    mkdir -p "$root/.cache"
    [ -e "$root/.sdks/.stamp-tools" ] || {
        make_tools &
        jobs="$jobs $!"
    }
    for lock in "$root"/tests/sdks/*.lock; do
        name=${lock##*/}
        name=${name%.lock}
        ready "$root/.sdks/$name" sdk "$lock" || {
            make_sdk_env "$name" &
            jobs="$jobs $!"
        }
    done
    for job in $jobs; do wait "$job" || failed=yes; done
    # Last, since npm may have come just now.
    ready "$root/.sdks/node" sdk "$root/tests/sdks/node/package.json" \
        "$root/tests/sdks/node/package-lock.json" || make_node_env || failed=yes
    drop_lock
    [ -z "$failed" ] || die "the SDK environments could not be set up; scripts/test again takes it up from there."
}
