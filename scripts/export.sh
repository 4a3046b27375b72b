#!/usr/bin/env bash
# export.sh NAME [flags of export_graph.py]: the run checkpoints/NAME → both models, pretrained/X2Y.pb and pretrained/Y2X.pb.
source "$(dirname "$0")/common.sh"
name_domains "${1:-}" "export.sh NAME [flags of export_graph.py]"

python export_graph.py --checkpoint_dir "checkpoints/$NAME" --XtoY_model "${X}2$Y.pb" --YtoX_model "${Y}2$X.pb" "${@:2}"
