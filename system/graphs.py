"""TensorFlow graphs made by others: they can read and write files, as programs can, so their operations are looked at before they run."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from system import patterns, storage
from system.cli import InputError
from system.storage import AnyPath

# What networks for pictures are made of. It is no list of what is harmful: that would have to be complete.
_OPERATIONS = """
    Const GuaranteeConst Placeholder PlaceholderWithDefault Identity IdentityN NoOp StopGradient PreventGradient Snapshot Assert
    CheckNumerics VarHandleOp ReadVariableOp AssignVariableOp AssignAddVariableOp AssignSubVariableOp VarIsInitializedOp
    ResourceGather Variable VariableV2 Assign

    PartitionedCall StatefulPartitionedCall If StatelessIf Case StatelessCase While StatelessWhile
    Switch RefSwitch Merge Enter Exit NextIteration LoopCond ControlTrigger
    EmptyTensorList TensorListConcatV2 TensorListElementShape TensorListFromTensor TensorListGather TensorListGetItem TensorListLength
    TensorListPopBack TensorListPushBack TensorListReserve TensorListResize TensorListScatterV2 TensorListSetItem TensorListSplit
    TensorListStack TensorArrayV3 TensorArrayCloseV3 TensorArrayConcatV3 TensorArrayGatherV3 TensorArrayReadV3 TensorArrayScatterV3
    TensorArraySizeV3 TensorArraySplitV3 TensorArrayWriteV3

    Shape ShapeN Size Rank EnsureShape Reshape Squeeze ExpandDims Transpose ConjugateTranspose InvertPermutation Cast Bitcast
    Pack Unpack Concat ConcatV2 ConcatOffset Split SplitV Slice StridedSlice Gather GatherV2 GatherNd ScatterNd TensorScatterUpdate
    TensorScatterAdd DynamicPartition DynamicStitch Pad PadV2 MirrorPad Tile BroadcastTo BroadcastArgs Reverse ReverseV2 Roll
    Fill ZerosLike OnesLike OneHot Range LinSpace Where Select SelectV2 TopKV2 ArgMax ArgMin Unique UniqueV2
    BatchToSpace BatchToSpaceND SpaceToBatch SpaceToBatchND DepthToSpace SpaceToDepth MatrixBandPart MatrixDiagV3

    Abs Acos Acosh Add AddN AddV2 Asin Asinh Atan Atan2 Atanh Ceil ClipByValue Cos Cosh Cumprod Cumsum Div DivNoNan Erf Erfc Erfinv Exp
    Expm1 Floor FloorDiv FloorMod Inv Log Log1p Maximum Minimum Mod Mul MulNoNan Neg Pow RealDiv Reciprocal Rint Round Rsqrt Sign Sin Sinh
    Sqrt Square SquaredDifference Sub Tan Tanh TruncateDiv TruncateMod Xdivy Xlogy
    ApproximateEqual Equal Greater GreaterEqual IsFinite IsInf IsNan Less LessEqual LogicalAnd LogicalNot LogicalOr NotEqual
    BitwiseAnd BitwiseOr BitwiseXor LeftShift RightShift
    All Any EuclideanNorm L2Loss Max Mean Min Prod Sum SegmentMean SegmentSum UnsortedSegmentSum
    BatchMatMul BatchMatMulV2 BatchMatMulV3 Einsum MatMul

    BiasAdd BiasAddV1 Elu LeakyRelu LogSoftmax Relu Relu6 Selu Sigmoid Softmax Softplus Softsign
    AvgPool AvgPool3D Conv Conv2D Conv2DBackpropInput Conv3D DepthwiseConv2dNative DepthwiseConv2dNativeBackpropInput Dilation2D
    ExtractImagePatches FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 LRN MaxPool MaxPool3D MaxPoolV2
    Dequantize FakeQuantWithMinMaxArgs FakeQuantWithMinMaxVars FakeQuantWithMinMaxVarsPerChannel QuantizeAndDequantizeV2
    QuantizeAndDequantizeV3 QuantizeAndDequantizeV4 QuantizeV2
    Multinomial RandomStandardNormal RandomUniform RandomUniformInt StatelessRandomGetAlg StatelessRandomGetKeyCounter
    StatelessRandomNormal StatelessRandomNormalV2 StatelessRandomUniform StatelessRandomUniformV2 TruncatedNormal

    AdjustContrastv2 AdjustHue AdjustSaturation CropAndResize DecodeAndCropJpeg DecodeBmp DecodeGif DecodeImage DecodeJpeg DecodePng
    DecodeWebP EncodeJpeg EncodeJpegVariableQuality EncodePng ExtractGlimpse ExtractJpegShape HSVToRGB ImageProjectiveTransformV2
    ImageProjectiveTransformV3 RGBToHSV ResizeArea ResizeBicubic ResizeBilinear ResizeNearestNeighbor ScaleAndTranslate
    DecodeRaw StringJoin StringLength Substr
"""
OPERATIONS = frozenset(_OPERATIONS.split())
# What saves and restores variables. Each SavedModel has two functions of these, called SAVERS, which loading it does not call.
SAVER = {"DisableCopyOnRead", "MergeV2Checkpoints", "RestoreV2", "SaveV2", "ShardedFilename", "StaticRegexFullMatch"}
SAVERS = ("__inference__traced_save_", "__inference__traced_restore_")
_PLAIN = {"_construction_context", "_input_shapes"}  # attributes of theirs; by another TensorFlow may run one function in place of another
FOLDERS = ("variables", "assets")  # in a SavedModel


def load(folder: AnyPath, trust: bool = False) -> Any:
    """Loads a SavedModel. Raises what `files` and, unless `trust`, `check_saved_model` do, or whatever TensorFlow raises."""
    import tensorflow as tf

    files(folder)
    if not trust:
        check_saved_model(folder)
    with patterns.plain(folder) as place:
        return tf.saved_model.load(str(place))


def files(folder: AnyPath) -> dict[str, AnyPath]:
    """The files of a SavedModel by their names in it. Raises `InputError` if one is a pipe, say, for which TensorFlow would wait."""
    places = [folder, *(folder / name for name in FOLDERS if (folder / name).is_dir())]
    found = {file.relative_to(folder).as_posix(): file for place in places for file in place.iterdir() if not file.name.startswith(".")}
    if special := next((name for name, file in found.items() if storage.is_special(file)), None):
        raise InputError(f"damaged: {special} in it is a pipe or a device; fetch it again, or export it anew")
    return {name: file for name, file in found.items() if file.is_file()}


def check_saved_model(folder: AnyPath) -> None:
    """Raises `InputError` if a SavedModel holds other operations, in its graph, its initialisers or any of its functions."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    graphs = SavedModel.FromString((folder / "saved_model.pb").read_bytes()).meta_graphs
    for meta in graphs:
        objects, called = meta.object_graph_def, None
        if len(graphs) == 1 and meta.HasField("object_graph_def"):  # else TensorFlow 1 has made it, and all of its graph may run
            called = set(objects.concrete_functions)
            for node in objects.nodes:
                called |= {*node.function.concrete_functions, node.bare_concrete_function.concrete_function_name}
        check_graph(meta.graph_def, called)


def check_graph(graph: Any, called: set[str] | None = None) -> None:
    """Raises `InputError` if a GraphDef holds other operations. `called`: names of the functions that are, if its nodes are not run."""
    functions: dict[str, list] = {}
    for function in graph.library.function:  # more than one can have a name
        functions.setdefault(function.signature.name, []).extend(function.node_def)
    runs = set(functions) if called is None else _reached(called, functions)
    operations = [(node.op, called is not None) for node in graph.node]
    for function in graph.library.function:
        name = function.signature.name
        may_save = name not in runs and name.startswith(SAVERS) and set(function.attr) <= _PLAIN
        operations += [(node.op, may_save) for node in function.node_def]
    foreign = {op for op, may_save in operations if op not in OPERATIONS | (SAVER if may_save else set()) and not _is_call(op, functions)}
    if foreign:
        words = ", ".join(sorted(foreign)[:5]) + (f" and {len(foreign) - 5} more" if len(foreign) > 5 else "")
        raise unneeded(f"its graph holds {words}")


def unneeded(words: str) -> InputError:
    """The error that refuses a model, of any kind, for what it holds beside what pictures need."""
    return InputError(f"{words}, which pictures do not need; if you trust whoever made it, add --trust_model")


def _is_call(operation: str, functions: Mapping[str, Any]) -> bool:
    """Tells whether a function is called by its name: a name that no operation of TensorFlow has, which would come first."""
    return operation.startswith("__") and operation in functions


def _reached(called: set[str], functions: Mapping[str, Iterable[Any]]) -> set[str]:
    """Those of the functions that are called, and all that they call."""
    found, left = set(), set(called)
    while left:
        name = left.pop()
        if name in functions and name not in found:
            found.add(name)
            left |= {other for node in functions[name] for other in (node.op, *_named(node.attr))}
    return found


def _named(attributes: Mapping[str, Any]) -> Iterator[str]:
    """The functions that attributes of a node name: branches, the bodies of loops."""
    for value in attributes.values():
        for function in (value.func, *value.list.func):
            yield function.name
            yield from _named(function.attr)
