#!/usr/bin/env bash
# build.sh NAME [flags of build_data.py]
# Makes TFRecord files in data/tfrecords/NAME of the pictures in data/NAME/trainA and trainB, in the place of those that are there.
# These folders are the project's; paths that are typed are from where you stand. build.sh NAME --help lists the flags.
source "$(dirname "$(readlink -f "$0" 2>/dev/null || echo "$0")")/common.sh" || exit
name_domains "$@"

flags=(--X_input_dir "data/$NAME/trainA" --Y_input_dir "data/$NAME/trainB" --X_output_file "$X_RECORDS" --Y_output_file "$Y_RECORDS")
add_typed --overwrite "${@:2}"
python build_data.py "${flags[@]}"
