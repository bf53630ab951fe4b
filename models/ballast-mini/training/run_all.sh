#!/bin/bash
# usage: run_all.sh MINUTES [train.py options]
# Data, tokenizer, training, export and checks; everything is written under build/training of the repository, or WORK.
# Needs Debian's python3-torch and python3-numpy (or PyPI's), gcc, and root for the source packages.
set -eu
cd "$(dirname "$0")"
PY=${PY:-python3} WORK=${WORK:-$(realpath ../../..)/build/training} MIN=${1:-150}
shift || true
mkdir -p "$WORK"
[ -f "$WORK/data/docs.jsonl" ] || $PY prepare_data.py --install --out "$WORK/data"
[ -f "$WORK/tok/tokens.npz" ] || $PY train_tokenizer.py --data "$WORK/data" --out "$WORK/tok"
$PY train.py --tok "$WORK/tok" --out "$WORK/run" --minutes "$MIN" --lr "${LR:-8e-3}" --gate-lr 0.1 --seq-late 512 "$@"
$PY export.py --ckpt "$WORK/run/ckpt.pt" --tok "$WORK/tok" --out "$WORK/export"
$PY sample.py --dir "$WORK/export" --ckpt "$WORK/run/ckpt.pt"
$PY report.py --ckpt "$WORK/run/ckpt.pt" --tok "$WORK/tok" --data "$WORK/data" --out "$WORK/export"
if $PY -c 'import transformers' 2>/dev/null; then
  $PY check_hf.py --dir "$WORK/export"
else
  echo "transformers absent: check_hf.py skipped"
fi
