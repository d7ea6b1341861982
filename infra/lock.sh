#!/bin/sh
# Write the lock files from pyproject.toml: exact versions and hashes, for every platform, from no registry in particular.
set -eu
cd "$(dirname "$0")/.."
tool=$(mktemp -d)
trap 'rm -rf "$tool"' EXIT
python3 -m venv "$tool" && "$tool/bin/pip" install --quiet uv==0.13.8
compile() { "$tool/bin/uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate "$@"; }
compile pyproject.toml -o requirements.lock
compile -c requirements.lock pyproject.toml --group dev -o requirements-dev.lock
compile -c requirements.lock pyproject.toml --extra gpu -o requirements-gpu.lock
