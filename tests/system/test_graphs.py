"""A graph that does more than pictures need is refused before any of it runs."""

import contextlib
from pathlib import Path

import pytest
import tensorflow as tf
from conftest import draw, save_features
from tensorflow.core.protobuf import saved_model_pb2

import evaluate
import inference
import train
from pictures import images
from system import graphs
from system.cli import InputError

PICTURES = tf.TensorSpec((None, None, None, 3), tf.uint8, "input_image")
ABOUT = '{"image_size": 32, "source": "red", "target": "blue"}'


def save(file: Path, translate, holder: tf.Module | None = None) -> Path:
    """Writes a SavedModel that says it is one of export_graph.py, and translates with `translate`."""
    module = holder or tf.Module()
    module.translate = tf.function(
        lambda input_image: {"output_image": translate(input_image)}, input_signature=[PICTURES], autograph=False
    )
    module.about = tf.function(lambda: {"metadata": tf.constant(ABOUT)}, input_signature=[], autograph=False)
    tf.saved_model.save(module, str(file), {"serving_default": module.translate, "metadata": module.about})
    return file


def copying(source: Path, target: Path):
    """A translation that hands its input back, and copies a file by the way."""

    def translate(pictures):
        with tf.control_dependencies([tf.io.write_file(str(target), tf.io.read_file(str(source)))]):
            return tf.identity(pictures)

    return translate


@pytest.fixture
def stolen(tmp_path) -> Path:
    return tmp_path / "stolen.txt"


@pytest.fixture
def hostile(tmp_path, stolen) -> Path:
    (tmp_path / "secret.txt").write_text("secret")
    return save(tmp_path / "hostile.pb", copying(tmp_path / "secret.txt", stolen))


@pytest.fixture
def picture(tmp_path) -> Path:
    images.write(tmp_path / "in" / "a.png", draw(0, 32, 32))
    return tmp_path / "in" / "a.png"


@pytest.mark.parametrize("flag", ["--model", "--cycle"])
def test_inference_runs_no_model_that_reads_and_writes_files(call, hostile, stolen, picture, tmp_path, model_file, flag):
    models = {"--model": model_file, "--cycle": model_file} | {flag: hostile}
    argv = [*(word for pair in models.items() for word in pair), "--input", picture, "--output", tmp_path / "out.png"]
    call(inference.main, *argv).assert_refused(str(hostile), "ReadFile, WriteFile", "--trust_model")
    assert not stolen.exists() and not (tmp_path / "out.png").exists()
    assert call(inference.main, *argv, "--trust_model").status == 0
    assert stolen.read_text() == "secret"


@pytest.mark.parametrize("flag", ["--model", "--back"])
def test_evaluation_runs_none_either(call, hostile, stolen, picture, model_file, flag):
    models = {"--model": model_file, "--back": model_file} | {flag: hostile}
    argv = [*(word for pair in models.items() for word in pair), "--input", picture.parent]
    call(evaluate.main, *argv).assert_refused(str(hostile), "ReadFile, WriteFile", "--trust_model")
    assert not stolen.exists()
    assert call(evaluate.main, *argv, "--trust_model").status == 0 and stolen.exists()


def test_nor_does_a_network_of_features(call, stolen, picture, records, tmp_path):
    def outputs(vectors):
        with tf.control_dependencies([tf.io.write_file(str(stolen), "x")]):
            return {"features": tf.identity(vectors)}

    file = save_features(tmp_path / "features", outputs=outputs)
    for name in "bcd":
        images.write(picture.parent / f"{name}.png", draw(ord(name), 32, 32))
    argv = ["--fake", picture.parent, "--real", picture.parent, "--features", file]
    call(evaluate.main, *argv).assert_refused(f"--features {file}", "holds WriteFile", "--trust_model")
    tests = ["--eval_every", "1", "--X_test", picture.parent, "--Y_test", picture.parent, "--features", file]
    call(train.main, *records, "--checkpoints_dir", tmp_path / "runs", *tests).assert_refused(f"--features {file}", "WriteFile")
    assert not stolen.exists()
    assert call(evaluate.main, *argv, "--trust_model").status == 0 and stolen.exists()


def test_what_runs_when_a_model_is_loaded_is_looked_at_too(tmp_path):
    (tmp_path / "words.txt").write_text("a\nb\n")
    holder = tf.Module()
    words = (tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER)
    holder.table = tf.lookup.StaticHashTable(tf.lookup.TextFileInitializer(str(tmp_path / "words.txt"), *words), -1)
    with pytest.raises(InputError, match="InitializeTableFromTextFileV2"):
        graphs.check_saved_model(save(tmp_path / "table.pb", tf.identity, holder))


def test_a_message_can_go_to_a_file(tmp_path):
    def translate(pictures):
        tf.print("x", output_stream=f"file://{tmp_path / 'out.txt'}")
        return tf.identity(pictures)

    with pytest.raises(InputError, match="holds PrintV2, StringFormat, which"):
        graphs.check_saved_model(save(tmp_path / "print.pb", translate))


def test_python_code_is_refused(tmp_path):
    with pytest.raises(InputError, match="PyFunc"):
        graphs.check_saved_model(save(tmp_path / "python.pb", lambda pictures: tf.numpy_function(lambda x: x, [pictures], tf.uint8)))


def test_a_model_saves_its_variables_when_it_is_saved_and_not_when_it_runs(tmp_path):
    holder = tf.Module()
    holder.variable = tf.Variable(1)
    graphs.check_saved_model(save(tmp_path / "variable.pb", lambda pictures: pictures + tf.cast(holder.variable, tf.uint8), holder))

    def translate(pictures):
        tf.raw_ops.SaveV2(prefix=str(tmp_path / "file"), tensor_names=["x"], shape_and_slices=[""], tensors=[1])
        return tf.identity(pictures)

    with pytest.raises(InputError, match="holds SaveV2, which"):
        graphs.check_saved_model(save(tmp_path / "saves.pb", translate))


def test_a_model_of_tensorflow_1_runs_its_graph(tmp_path):
    v1 = tf.compat.v1
    with v1.Graph().as_default(), v1.Session() as session:
        builder = v1.saved_model.Builder(str(tmp_path / "old.pb"))
        main = v1.write_file(str(tmp_path / "file"), "x")
        builder.add_meta_graph_and_variables(session, ["serve"], main_op=main)
        builder.save()
    with pytest.raises(InputError, match="holds WriteFile, which"):
        graphs.check_saved_model(tmp_path / "old.pb")


SAVES = "__inference__traced_save_1"
# How a function can be called that saves: by its name, as an attribute, in a list of branches, or as an argument of another function's.
CALLS = {
    "by its name": lambda node: setattr(node, "op", SAVES),
    "as an attribute": lambda node: setattr(node.attr["f"].func, "name", SAVES),
    "as a branch": lambda node: node.attr["branches"].list.func.add(name=SAVES),
    "as an argument": lambda node: setattr(node.attr["f"].func.attr["g"].func, "name", SAVES),
    "by another": lambda node: setattr(node.attr["f"].func, "name", "__between"),
}


def of_functions(*functions: tuple[str, str]):
    """A GraphDef of functions, given their names and the operation in each."""
    graph = tf.compat.v1.GraphDef()
    for name, op in functions:
        function = graph.library.function.add()
        function.signature.name = name
        function.node_def.add(name="node", op=op)
    return graph


def test_only_what_tensorflow_itself_makes_for_it_may_save():
    """A function that says it implements what another does may be run in its place."""
    graph = of_functions(("__serves", "Identity"), (SAVES, "SaveV2"))
    graphs.check_graph(graph, {"__serves"})
    graph.library.function[1].attr["api_implements"].s = b"any"
    with pytest.raises(InputError, match="SaveV2"):
        graphs.check_graph(graph, {"__serves"})
    with pytest.raises(InputError, match="SaveV2"):
        graphs.check_graph(of_functions(("__serves", "Identity"), ("__inference_f_1", "SaveV2")), {"__serves"})


def test_of_two_functions_with_one_name_both_are_looked_at():
    for operations in (("WriteFile", "Identity"), ("Identity", "WriteFile")):
        with pytest.raises(InputError, match="WriteFile"):
            graphs.check_graph(of_functions(*(("__inference_f_1", op) for op in operations)), set())
    twice = of_functions(("__serves", "PartitionedCall"), ("__serves", "Identity"), (SAVES, "SaveV2"))
    twice.library.function[0].node_def[0].attr["f"].func.name = SAVES
    with pytest.raises(InputError, match="SaveV2"):
        graphs.check_graph(twice, {"__serves"})


@pytest.mark.parametrize("how", CALLS)
def test_however_it_is_called(how):
    graph = of_functions(("__serves", "PartitionedCall"), (SAVES, "SaveV2"), ("__between", "PartitionedCall"))
    graph.library.function[2].node_def[0].attr["f"].func.name = SAVES
    graphs.check_graph(graph, {"__serves"})
    CALLS[how](graph.library.function[0].node_def[0])
    with pytest.raises(InputError, match="SaveV2"):
        graphs.check_graph(graph, {"__serves"})


def test_a_function_may_be_called_by_its_name_and_has_to_be_there():
    graph = tf.compat.v1.GraphDef()
    graph.library.function.add().signature.name = "__inference_f_1"
    graph.node.add(name="node", op="__inference_f_1")
    graphs.check_graph(graph)
    graph.node[0].op = "__inference_f_2"
    with pytest.raises(InputError, match="holds __inference_f_2, which"):
        graphs.check_graph(graph)


@pytest.mark.parametrize(("copies", "objects", "runs"), [(1, True, False), (1, False, True), (2, True, True)])
def test_when_the_graph_itself_is_run(tmp_path, copies, objects, runs):
    """TensorFlow runs that of a model of TensorFlow 1, and takes for one whatever is not a single graph with objects."""
    model = saved_model_pb2.SavedModel()
    for _ in range(copies):
        meta = model.meta_graphs.add()
        meta.graph_def.node.add(name="node", op="SaveV2")
        if objects:
            meta.object_graph_def.nodes.add()
    (tmp_path / "saved_model.pb").write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match="SaveV2") if runs else contextlib.nullcontext():
        graphs.check_saved_model(tmp_path)


def test_a_function_that_is_called_like_an_operation_does_not_hide_it():
    graph = tf.compat.v1.GraphDef()
    graph.library.function.add().signature.name = "ReadFile"
    graph.node.add(name="node", op="ReadFile")
    with pytest.raises(InputError, match="ReadFile"):
        graphs.check_graph(graph)


def test_many_operations_are_counted():
    graph = tf.compat.v1.GraphDef()
    for number in range(6):
        graph.node.add(name=f"node{number}", op=f"Odd{number}")
    with pytest.raises(InputError, match="holds Odd0, Odd1, Odd2, Odd3, Odd4 and 1 more, which"):
        graphs.check_graph(graph)


def test_every_operation_of_the_list_is_one_of_tensorflow_that_touches_no_file():
    known = dir(tf.raw_ops)
    assert {"Conv2D", "Identity"} <= graphs.OPERATIONS and not graphs.OPERATIONS & graphs.SAVER
    assert not [op for op in graphs.OPERATIONS if op not in known]
    assert not [
        op for op in graphs.OPERATIONS if any(word in op for word in ("File", "Save", "Restore", "Print", "Py", "Dataset", "Reader"))
    ]
