#!/usr/bin/env bash
# build.sh NAME [flags of build_data.py]
# Makes TFRecord files in data/tfrecords/NAME of the pictures in data/NAME/trainA and trainB, in the place of those that are there.
# If NAME ends in _pairs, pictures of one name in both are pairs; without these folders, the halves of the pictures in data/NAME/train.
# With --X_from the pictures are those in data/NAME/trainB alone.
# These folders are the project's; paths that are typed are from where you stand. build.sh NAME --help lists the flags.
source "$(dirname "$(readlink -f "$0" 2>/dev/null || echo "$0")")/common.sh" || exit
name_domains "$@"

flags=(--X_output_file "$X_RECORDS" --Y_output_file "$Y_RECORDS")
if is_typed --X_from "${@:2}"; then
    flags+=(--Y_input_dir "data/$NAME/trainB")
elif [[ $NAME == *_pairs && ! -e data/$NAME/trainA ]] && ! is_typed --X_input_dir "${@:2}"; then
    flags+=(--AB_input_dir "data/$NAME/train")
elif ! is_typed --AB_input_dir "${@:2}"; then
    flags+=(--X_input_dir "data/$NAME/trainA" --Y_input_dir "data/$NAME/trainB")
    [[ $NAME != *_pairs ]] || flags+=(--paired)
fi
add_typed --overwrite "${@:2}"
python build_data.py "${flags[@]}"
