#!/usr/bin/env bash
# Generates the Python code of the API into ./generated, which is not kept in git.
set -euo pipefail
cd "$(dirname "$0")"
rm -rf generated
mkdir generated
find ../../proto -name '*.proto' -print0 | sort -z |
    xargs -0 "${PYTHON:-python3}" -m grpc_tools.protoc -I ../../proto --python_out=generated --grpc_python_out=generated
