#!/bin/sh
# Set igaki up in .venv of this checkout: `./setup.sh` to use it, `./setup.sh test` to work on it and run the tests.
# Needs git and python3 >= 3.11; on Debian and Ubuntu it installs the rest, asking sudo for what only root may do.
set -eu
cd "$(dirname "$0")"

fail() {
    echo "setup.sh: $*" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail "this needs root: $*"
    fi
}

install_packages() {
    command -v apt-get >/dev/null || fail "please install: $*"
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" >/dev/null
}

fits() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

# The system's interpreter first: the tests also run as a user who may be unable to reach another one.
python=
for candidate in /usr/bin/python3 python3; do
    if fits "$candidate"; then
        python=$candidate
        break
    fi
done
[ -n "$python" ] || fail "no python3 of version 3.11 or later"
"$python" -c 'import ensurepip' 2>/dev/null || install_packages python3-venv

[ -x .venv/bin/pip ] || "$python" -m venv .venv
case ${1:-use} in
use)
    .venv/bin/pip install --quiet .
    ;;
test)
    # As root the tests also run as an ordinary user.
    if [ "$(id -u)" = 0 ] && ! setpriv --reuid=65534 --regid=65534 --clear-groups test -x "$PWD"; then
        fail "an ordinary user can't reach $PWD, as the tests need: please clone it elsewhere, below /srv for example"
    fi
    missing=
    for need in unshare:util-linux useradd:passwd script:bsdutils ip:iproute2; do
        PATH=$PATH:/usr/sbin:/sbin command -v "${need%:*}" >/dev/null || missing="$missing ${need#*:}"
    done
    # shellcheck disable=SC2086  # a list of words
    [ -z "$missing" ] || install_packages $missing
    .venv/bin/pip install --quiet --editable '.[test]'
    # The checkout may belong to somebody else than the user of the tests, who then can't keep what is compiled.
    .venv/bin/python -m compileall -q ops init host src
    ;;
*)
    fail "usage: ./setup.sh [test]"
    ;;
esac
