#!/usr/bin/env bash
# Puts a trained model into a plugin of this repository: evaluates the run, exports its averaged weights as bfloat16 with
# the table of results in the card, copies the folder to PLUGIN/models/NAME and lists it in the manifest.
#
#   scripts/ship_model.sh RUN NAME
#
# PLUGIN (plugins/unite_mm_molecule), MANIFEST (qm9.yaml), DESCRIPTION, LARGEST (bytes) and the flags EVALUATE
# (--samples 10000) and EXPORT (such as `--step 60000`) can be changed. METRICS takes the metrics.json of an evaluation
# that is there already; otherwise one is made, in RUN/evaluation. PYTHON is the interpreter that has unite-mm.
#
# A model of that name that is in already is replaced.
set -euo pipefail
run=$(realpath "${1:?"name the run and the model: scripts/ship_model.sh RUN NAME"}")
name=${2:?"name the model: scripts/ship_model.sh RUN NAME"}
cd "$(dirname "${BASH_SOURCE[0]}")/.."

plugin=${PLUGIN:-plugins/unite_mm_molecule}
manifest=$plugin/${MANIFEST:-qm9.yaml}
python=${PYTHON:-.venv/bin/python}
largest=${LARGEST:-6000000}
description=${DESCRIPTION:-"small molecules with 3D geometry, trained on QM9"}

if [ -z "${METRICS:-}" ]; then
  # shellcheck disable=SC2086 - several flags
  "$python" -m unite_mm evaluate "$run" ${EVALUATE:---samples 10000}
fi
# Written beside its place first: a model that is too large never gets in.
aside=$(mktemp -d)
trap 'rm -rf "$aside"' EXIT
# shellcheck disable=SC2086 - several flags
"$python" -m unite_mm export "$run" -o "$aside/$name" --dtype bfloat16 --name "$name" ${EXPORT:-} \
  --metrics "${METRICS:-$run/evaluation/metrics.json}"
size=$(cat "$aside/$name"/* | wc -c)
if [ "$size" -gt "$largest" ]; then
  echo "$name has $size bytes; at most $largest may go into the wheel" >&2
  exit 1
fi
mkdir -p "$plugin/models"
rm -rf "${plugin:?}/models/$name"
cp -r "$aside/$name" "$plugin/models/$name"

"$python" - "$manifest" "$name" "$description" <<'PYTHON'
import json
import sys
from pathlib import Path

import yaml

path, name, description = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
text = path.read_text(encoding="utf-8")
listed = yaml.safe_load(text).get("models") or []
if name not in [entry["name"] for entry in listed]:
    entry = f"  - name: {name}\n    folder: models/{name}\n    description: {json.dumps(description)}\n"
    lines = text.rstrip("\n") + "\n"
    # The list is the last key of the manifest, or is made so.
    path.write_text(lines + ("" if listed else "models:\n") + entry, encoding="utf-8")
PYTHON
"$python" -m unite_mm plugins check "$("$python" -c "import sys, yaml; print(yaml.safe_load(open(sys.argv[1]))['name'])" "$manifest")"
"$python" -m unite_mm models list
echo "now: git add $plugin/models/$name $manifest"
