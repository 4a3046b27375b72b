#!/usr/bin/env bash
# build.sh NAME [flags of build_data.py]: data/NAME/trainA and trainB → two TFRecord files in data/tfrecords/NAME.
source "$(dirname "$0")/common.sh"
name_domains "${1:-}" "build.sh NAME [flags of build_data.py]"

python build_data.py --X_input_dir "data/$NAME/trainA" --Y_input_dir "data/$NAME/trainB" \
    --X_output_file "$X_RECORDS" --Y_output_file "$Y_RECORDS" --overwrite "${@:2}"
