#!/usr/bin/env bash
# export.sh NAME [flags of export_graph.py]
# Writes both models of the run checkpoints/NAME, of cat2dog pretrained/cat2dog.pb and pretrained/dog2cat.pb.
# These folders are the project's; paths that are typed are from where you stand. export.sh NAME --help lists the flags.
source "$(dirname "$(readlink -f "$0" 2>/dev/null || echo "$0")")/common.sh" || exit
name_domains "$@"

flags=(--checkpoint_dir "checkpoints/$NAME")
add_typed "${@:2}"
python export_graph.py "${flags[@]}"
