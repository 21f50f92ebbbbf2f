#!/bin/sh
# One run on several machines without a scheduler. On each of them, with the same folder of runs:
#
#     NODES=2 NODE=0 FIRST=first-machine:29500 docs/examples/clusters/torchrun.sh --modality qm9 --max-steps 100000 --out runs/big
#     NODES=2 NODE=1 FIRST=first-machine:29500 docs/examples/clusters/torchrun.sh --modality qm9 --max-steps 100000 --out runs/big
#
# PROCESSES are those of each machine, one for a GPU. A process that dies takes the others down; go on with --resume.
# RESTARTS=3 lets torchrun start all of them again from the newest checkpoint, which in trials has hung now and then.
set -eu
exec python -m torch.distributed.run \
    --nnodes "${NODES:-1}" --node-rank "${NODE:-0}" --nproc-per-node "${PROCESSES:-gpu}" \
    --rdzv-backend static --master-addr "${FIRST%:*}" --master-port "${FIRST##*:}" \
    --max-restarts "${RESTARTS:-0}" \
    -m unite_mm train "$@"
