#!/usr/bin/env bash
# Everything that needs a GPU, as one command of a few minutes for a machine that has torch with CUDA and little else:
# no rdkit, no network, nothing installed. Each part can be left out.
#
#   scripts/gpu_run.sh OUT [PART ...]
#
#   tests       tests/core/test_gpu.py
#   images      steps of imagenet256-base: images/s, share of the matmul rate, memory; 3 and 14 flow minibatches
#   molecules   `train` with the preset small on prepared molecules for a minute: molecules/s; then 1,000 samples, and
#               as many of the test split with their reconstructions, to be scored where rdkit is:
#                 unite-mm evaluate --modality qm9 --samples OUT/molecules.npz
#                 unite-mm evaluate --modality qm9 --samples OUT/reconstructed.npz --reconstructions-of OUT/inputs.npz
#
# The molecules come from a cache that was prepared where rdkit is:
#   unite-mm data fetch --modality qm9 --data embedded --preset small --cache runs/gpu-cache
#
# DEVICE, PRESET, BATCHES, DRAWS, CHUNKS, REPEATS, MOLECULES (the source), CACHE, MOLECULES_PRESET, TRAIN_FLAGS,
# SECONDS_OF_TRAINING, LOG_EVERY and SAMPLES change the sizes. SAMPLERS samples again, a line for each: a name and the
# flags of `unite-mm sample`. RECORD=--record replays the steps of images as CUDA graphs, EXPORT=yes leaves the trained
# model as OUT/model in bfloat16. A CPU tries the whole script in a minute with
#   DEVICE=cpu PRESET=shapes-tiny BATCHES=2 DRAWS=2 CHUNKS=1 REPEATS=1 MOLECULES_PRESET=tiny SECONDS_OF_TRAINING=5 \
#     LOG_EVERY=1 SAMPLES=20 scripts/gpu_run.sh OUT
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

out=${1:?"name a folder for what is left behind: scripts/gpu_run.sh OUT [PART ...]"}
shift
parts=${*:-tests images molecules}
python=${PYTHON:-python3}
device=${DEVICE:-cuda}
export PYTHONPATH="$PWD:$PWD/schemas:$PWD/plugins:$PWD/tests/toy${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
mkdir -p "$out"

# The plugins are found by the metadata of the distribution; a checkout that is not installed has none, so write some.
if ! "$python" -c 'import importlib.metadata as m; m.version("unite-mm")' 2>/dev/null; then
  site=$(mktemp -d)
  "$python" - "$site" <<'PYTHON'
import sys, tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
info = Path(sys.argv[1]) / f"unite_mm-{project['version']}.dist-info"
info.mkdir()
(info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: unite-mm\nVersion: {project['version']}\n")
points = project["entry-points"]["unite_mm.modalities"]
lines = [f"{name} = {value}" for name, value in points.items()]
(info / "entry_points.txt").write_text("\n".join(["[unite_mm.modalities]", *lines]) + "\n")
PYTHON
  export PYTHONPATH="$site:$PYTHONPATH"
fi
unite_mm() { "$python" -m unite_mm.cli.main "$@"; }

failed=0
part() { # NAME COMMAND...: run, keep the output, go on after a failure
  local name=$1 start=$SECONDS
  shift
  echo "== $name"
  "$@" 2>&1 | tee "$out/$name.log"
  local code=${PIPESTATUS[0]}
  [ "$code" -eq 0 ] || { failed=1 && echo "== $name failed with $code"; }
  echo "== $name took $((SECONDS - start)) s"
}

molecules() {
  local cache=${CACHE:-runs/gpu-cache} run="$out/small"
  rm -rf "$run"
  # shellcheck disable=SC2086
  unite_mm train --modality qm9 --data "${MOLECULES:-embedded}" --preset "${MOLECULES_PRESET:-small}" --cache "$cache" \
    --out "$run" --max-time "${SECONDS_OF_TRAINING:-60}s" --set train.accelerator="$device" \
    --set train.log_every="${LOG_EVERY:-20}" --set train.compile="${COMPILE_MOLECULES:-true}" ${TRAIN_FLAGS:-} || return
  "$python" - "$run" <<'PYTHON' || return
import json, sys
from pathlib import Path

run = Path(sys.argv[1])
size = json.loads((run / "config.json").read_text())["train"]["batch_size"]
rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
rows = [row for row in rows if row["kind"] == "train"]
last = rows[-1]
first = next((row for row in rows[1:] if row["seconds"] > last["seconds"] / 3), rows[0])  # past compiling
rate = size * (last["step"] - first["step"]) / max(1e-9, last["seconds"] - first["seconds"])
print(f"{rate:,.0f} molecules/s over steps {first['step']} to {last['step']}, batch {size}")
PYTHON
  cp "$run/metrics.jsonl" "$out/metrics.jsonl"
  [ -z "${EXPORT:-}" ] || unite_mm export "$run" -o "$out/model" --dtype bfloat16 || return
  unite_mm sample "$run" -n "${SAMPLES:-1000}" -o "$out/molecules.npz" --device "$device" || return
  local name flags
  while read -r name flags; do
    # shellcheck disable=SC2086
    [ -z "$name" ] || unite_mm sample "$run" -n "${SAMPLES:-1000}" -o "$out/molecules-$name.npz" --device "$device" $flags
  done <<<"${SAMPLERS:-}"
  "$python" - "$run" "$cache" "$device" "${SAMPLES:-1000}" "$out" <<'PYTHON'
import sys
from pathlib import Path

import torch

from unite_mm import UNITE
from unite_mm.contract import DataRequest
from unite_mm.progress import Silent

run, cache, device, count, out = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), Path(sys.argv[5])
model = UNITE.from_pretrained(run, device=device)
modality = model.modalities["qm9"]
data = modality.open_data(DataRequest(model.record.config.modalities["qm9"].source, cache, Silent(), 1))
inputs = data.samples("test", torch.arange(min(count, data.size("test"))))
modality.write(inputs, out / "inputs.npz")
modality.write(model.reconstruct(inputs, "qm9"), out / "reconstructed.npz")
print(f"{len(inputs)} of the test split reconstructed")
PYTHON
}

for name in $parts; do
  case $name in
    tests) part tests "$python" -m pytest -q -p no:cacheprovider -k "${TESTS:-gpu}" --durations 10 \
      tests/core/test_gpu.py ;;
    images)
      for batch in ${BATCHES:-64 128}; do
        for chunk in ${CHUNKS:-1 2}; do
          # shellcheck disable=SC2086
          part "images-batch$batch-chunk$chunk" "$python" benchmarks/train_step.py --preset "${PRESET:-imagenet256-base}" \
            --batch "$batch" --draws ${DRAWS:-3 14} --chunk "$chunk" --precision bf16 --step ours --optimizer \
            --repeats "${REPEATS:-5}" --device "$device" --no-memory ${RECORD:-}
        done
      done ;;
    molecules) part molecules molecules ;;
    *) echo "unknown part: $name (tests, images, molecules)" >&2 && exit 2 ;;
  esac
done
exit "$failed"
