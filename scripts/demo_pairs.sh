#!/usr/bin/env bash
# demo_pairs.sh
# pix2pix once, on pairs of pictures that the project draws itself: two minutes on two cores, installation aside.
# A second run continues where the first was stopped. To start over: rm -rf data/pairs checkpoints/pairs demo/pairs*
source "$(dirname "$(readlink -f "$0" 2>/dev/null || echo "$0")")/common.sh" || exit
[ $# -eq 0 ] || misuse
records=data/tfrecords/pairs

attend bash scripts/setup.sh
[ -d data/pairs ] || step "1. Draw apples, and the same scenes with oranges" \
    python sample_data.py --output_dir data/pairs --paired --n_train 300
step "2. Two picture folders → two TFRecord files, whose pictures are pairs" \
    python build_data.py --paired --X_input_dir data/pairs/trainA --Y_input_dir data/pairs/trainB \
    --X_output_file $records/apple.tfrecords --Y_output_file $records/orange.tfrecords --overwrite
if [ -e checkpoints/pairs/config.json ]; then
    step "3. Train on" python train.py --load_model pairs
else
    step "3. Train a small pix2pix" \
        python train.py --model pix2pix --X $records/apple.tfrecords --Y $records/orange.tfrecords --run_name pairs \
        --image_size 64 --load_size 68 --ngf 32 --ndf 32 --ema 0.99 --max_steps 2500
fi
step "4. Export the generator" \
    python export_graph.py --checkpoint_dir checkpoints/pairs --XtoY_model demo/pairs.pb --overwrite
step "5. Translate pictures that the model has not seen" \
    python inference.py --model demo/pairs.pb --input data/pairs/testA --output demo/pairs_as_oranges --overwrite
step "6. Compare them with the truth" \
    python evaluate.py --input data/pairs/testA --fake demo/pairs_as_oranges --truth data/pairs/testB \
    --sheet demo/pairs_contact_sheet.png --overwrite
printf '\nLook at \033[1m%s\033[0m, and at the losses with: bash scripts/tensorboard.sh pairs\n' "$PWD/demo/pairs_contact_sheet.png"
