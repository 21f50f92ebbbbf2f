#!/bin/sh
# One run on several machines without a scheduler. On each of them, with the same folder of runs:
#
#     NODES=2 FIRST=first-machine:29500 docs/examples/clusters/torchrun.sh --modality qm9 --max-steps 100000 --out runs/big
#     NODES=2 FIRST=first-machine:29500 docs/examples/clusters/torchrun.sh --modality qm9 --max-steps 100000 --out runs/big
#
# PROCESSES are those of each machine, one for a GPU. A process that dies takes the others down; torchrun then starts
# all of them again, RESTARTS times, and the run goes on from its newest intact checkpoint. So with RESTARTS above 0 a
# folder that holds a run already is gone on with, too.
set -eu
# Processes that are started again must not find the addresses of those before in a store that both share.
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
exec python -m torch.distributed.run \
    --nnodes "${NODES:-1}" --nproc-per-node "${PROCESSES:-gpu}" --max-restarts "${RESTARTS:-3}" \
    --rdzv-backend c10d --rdzv-endpoint "$FIRST" --rdzv-id "${RUN:-unite}" \
    -m unite_mm train "$@"
