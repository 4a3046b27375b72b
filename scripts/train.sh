#!/usr/bin/env bash
# train.sh NAME [flags of train.py]: trains the run checkpoints/NAME on what build.sh made, or continues it.
source "$(dirname "$0")/common.sh"
name_domains "${1:-}" "train.sh NAME [flags of train.py]"

if [ -e "checkpoints/$NAME/config.json" ]; then
    python train.py --load_model "$NAME" "${@:2}"
else
    python train.py --X "$X_RECORDS" --Y "$Y_RECORDS" --run_name "$NAME" "${@:2}"
fi
