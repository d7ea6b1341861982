#!/bin/sh
# Make .venv from a lock file, and see that there is a Java for Spark.  Usage: infra/setup.sh LOCKFILE
set -eu
cd "$(dirname "$0")/.."
lock=$1
venv=${VENV:-.venv}
say() { echo "set-up: $*" >&2; }
fail() { say "$*"; exit 3; }

python=${PYTHON:-}
if [ -z "$python" ]; then
    for candidate in python3 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
            python=$candidate
            break
        fi
    done
fi
[ -n "$python" ] || fail "Python 3.11, 3.12 or 3.13 is needed; found $(python3 --version 2>&1 || echo none). Install one, or name it: make PYTHON=/path/to/python3.11"
"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null ||
    fail "Python 3.11, 3.12 or 3.13 is needed, $python is $("$python" --version 2>&1 || true)"
# (root can write anywhere: this one speaks to everybody else)
( : > .probe && rm .probe ) 2>/dev/null || fail "the folder $(pwd) cannot be written to: copy the project to one that can"

# a java that is missing or broken has no version: the case below says what to do
java_version() { "$1" -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1; }
java=java
[ -z "${JAVA_HOME:-}" ] || java=$JAVA_HOME/bin/java
case "$(java_version "$java" 2>/dev/null || true)" in
17 | 21) ;;
*)
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "no Java 17 or 21 found: installing openjdk-17-jre-headless"
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq openjdk-17-jre-headless; } >&2 ||
            fail "Java could not be installed; by hand: apt-get install openjdk-17-jre-headless"
        [ -z "${JAVA_HOME:-}" ] || fail "JAVA_HOME=$JAVA_HOME is not Java 17 or 21: unset it, Java 17 is installed now"
    else
        fail "Spark needs Java 17 or 21: sudo apt-get install openjdk-17-jre-headless (or set JAVA_HOME)"
    fi
    ;;
esac

want="$(cksum <"$lock") $("$python" --version)"
if [ -f "$venv/.installed" ] && [ "$(cat "$venv/.installed")" = "$want" ]; then
    exit 0
fi
# requirements-dev.lock holds all of requirements.lock: an environment made for the tests also serves the demo
if [ "$lock" = requirements.lock ] && [ -f "$venv/.installed" ] &&
    [ "$(cat "$venv/.installed")" = "$(cksum <requirements-dev.lock) $("$python" --version)" ]; then
    exit 0
fi
free_kb=$(df -Pk . | awk 'NR == 2 { print $4 }')
[ "$free_kb" -gt 2500000 ] || fail "2.5 GB of disk are needed for the environment, $(pwd) has $((free_kb / 1000)) MB free"
say "installing the packages of $lock into $venv (a minute or two)"
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv" || fail "no virtual environment could be made; on Debian: apt-get install python3-venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$lock" || fail "the packages of $lock could not be installed (see above)"
echo "$want" >"$venv/.installed"
