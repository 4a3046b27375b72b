#!/usr/bin/env bash
# demo.sh
# A look at the model that ships, in seconds, and then everything once, on pictures that the project draws itself: ten minutes on two cores,
# installation aside.
# A second run continues where the first was stopped. To start over: rm -rf data/demo data/few checkpoints/demo demo
source "$(dirname "$(readlink -f "$0" 2>/dev/null || echo "$0")")/common.sh" || exit
[ $# -eq 0 ] || misuse
records=data/tfrecords/demo

attend bash scripts/setup.sh
[ -d data/few ] || step "1. Draw a few apples and oranges" \
    python sample_data.py --output_dir data/few --size 256 --n_train 1 --n_test 8
step "   … and let the models that ship translate them, which have only seen photos" \
    python inference.py --model pretrained/apple2orange.pb --input data/few/testA --output demo/few_as_oranges --gallery demo/oranges.html --overwrite
step "   … and the other way" \
    python inference.py --model pretrained/orange2apple.pb --input data/few/testB --output demo/few_as_apples --gallery demo/apples.html --overwrite
printf '\nLook at \033[1m%s\033[0m while a model of its own is trained.\n' "$PWD/demo/oranges.html"
[ -d data/demo ] || step "2. Draw many, to train on" \
    python sample_data.py --output_dir data/demo
step "3. Two picture folders → two TFRecord files" \
    python build_data.py --X_input_dir data/demo/trainA --Y_input_dir data/demo/trainB \
    --X_output_file $records/apple.tfrecords --Y_output_file $records/orange.tfrecords --overwrite
if [ -e checkpoints/demo/config.json ]; then
    step "4. Train on" python train.py --load_model demo
else
    step "4. Train a small CycleGAN" \
        python train.py --X $records/apple.tfrecords --Y $records/orange.tfrecords --run_name demo \
        --image_size 64 --load_size 68 --ngf 32 --ndf 32 --n_res_blocks 4 --upsample transpose \
        --lambda_identity 1 --learning_rate 0.0006 --ema 0.99 --max_steps 1800
fi
step "5. Export both generators" \
    python export_graph.py --checkpoint_dir checkpoints/demo --XtoY_model demo/apple2orange.pb --YtoX_model demo/orange2apple.pb \
    --overwrite
step "6. Translate pictures that the model has not seen" \
    python inference.py --model demo/apple2orange.pb --input data/demo/testA --output demo/as_oranges --overwrite
step "   … and the other way" \
    python inference.py --model demo/orange2apple.pb --input data/demo/testB --output demo/as_apples --overwrite
step "7. Compare them with the truth" \
    python evaluate.py --input data/demo/testA data/demo/testB --fake demo/as_oranges demo/as_apples \
    --truth data/demo/testB data/demo/testA --sheet demo/contact_sheet.png --overwrite
printf '\nLook at \033[1m%s\033[0m, and at the losses with: bash scripts/tensorboard.sh demo\n' "$PWD/demo/contact_sheet.png"
