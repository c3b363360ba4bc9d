"""An ONNX file, read strictly and within bounds before any runtime sees it.

A model may come from anywhere, and the runtimes' readers were not made for hostile files. So the
whole file is walked here first: every field known, every size stated, nothing outside the file.
Nothing of it is evaluated, and numbers are never copied. No package is needed for that: the part of
protobuf that ONNX uses is a page (encoding: https://protobuf.dev/programming-guides/encoding).
"""

import math
from dataclasses import dataclass, field
from pathlib import Path

from inphase.models import external_data, model_file, protobuf
from inphase.models.external_data import Outside
from inphase.models.model_file import Refused
from inphase.models.protobuf import BYTES, FIXED32, FIXED64, VARINT, Handler, MessageField, Rule

SIZE_MAX = 1 << 30
"""Bytes of a file, and of the one beside it."""
OPSETS = range(7, 27)
_IR_VERSIONS = range(3, 14)
_NODES_MAX = 20_000
_INITIALIZERS_MAX = 20_000
_FIELDS_MAX = 1_000_000  # of all messages
_RANK_MAX = 8
_NUMBERS_MAX = 64 << 20  # of one tensor
_TEXT_MAX = 1 << 20

FLOAT, UINT8, DOUBLE = 1, 2, 11
_BITS = {
    1: 32,
    2: 8,
    3: 8,
    4: 16,
    5: 16,
    6: 32,
    7: 64,
    9: 8,
    10: 16,
    11: 64,
    12: 32,
    13: 64,
    16: 16,
}
"""Of the types of tensors that are numbers, by ONNX's number for them."""

# what networks are made of. Left out: control flow and anything else that holds a graph, sequences,
# texts, custom code, and random numbers, with which the same frame would not give the same command
_OPERATORS = """
Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh Attention AveragePool
BatchNormalization BitShift Cast CastLike Ceil Celu Clip Compress Concat Constant
ConstantOfShape Conv ConvInteger ConvTranspose Cos Cosh CumSum DepthToSpace DequantizeLinear Det
Div Dropout DynamicQuantizeLinear Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor GRU
Gather GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool Greater
GreaterOrEqual GridSample GroupNormalization HardSigmoid HardSwish Hardmax Identity
InstanceNormalization IsInf IsNaN LRN LSTM LayerNormalization LeakyRelu Less LessOrEqual Log
LogSoftmax LpNormalization LpPool MatMul MatMulInteger Max MaxPool Mean
MeanVarianceNormalization Min Mish Mod Mul Neg NonZero Not OneHot Or PRelu Pad Pow QLinearConv
QLinearMatMul QuantizeLinear RMSNormalization RNN Range Reciprocal ReduceL1 ReduceL2
ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare
Relu Reshape Resize ReverseSequence RotaryEmbedding Round ScatterElements ScatterND Selu Shape
Shrink Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt
Squeeze Sub Sum Swish Tan Tanh ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Upsample
Where Xor
"""
OPERATORS = frozenset(_OPERATORS.split())


@dataclass(frozen=True)
class ModelPort:
    """An input or an output of a model; a dimension that is not a number has its name."""

    name: str
    type: int
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Model:
    """The facts of a file, and the bytes that were checked."""

    path: Path
    data: bytes
    opset: int
    inputs: tuple[ModelPort, ...]
    outputs: tuple[ModelPort, ...]
    metadata: dict[str, str]


def read(path: Path) -> Model:
    """Read and check a file. Raises Refused."""
    return check(path, model_file.read_bytes(path, SIZE_MAX))


def check(path: Path, data: bytes) -> Model:
    """Check the bytes of a file. Raises Refused."""
    with model_file.named(path):
        reader = _Reader(path, data)
        model = reader.model()
        if not reader.outside:
            return model
        whole = external_data.inline(path, data, reader.graph, reader.outside, SIZE_MAX)
        return _Reader(path, whole).model()


@dataclass
class _Tensor:
    """The facts of a tensor's message, until it is whole."""

    dims: list[int] = field(default_factory=list)
    type: int = 0
    held: dict[str, int] = field(default_factory=dict)
    """numbers in each of the lists that may hold them; of `raw_data`: bytes"""


class _Reader:
    """Walks one file."""

    def __init__(self, path: Path, data: bytes) -> None:
        self._path = path
        self._data = data
        self._walk = protobuf.Walk(data, _FIELDS_MAX)
        self._nodes = 0
        self._initializers: set[str] = set()
        self._inputs: list[ModelPort] = []
        self._outputs: list[ModelPort] = []
        self._opset = 0
        self._metadata: dict[str, str] = {}
        self.graph = (0, 0, 0)
        """where its field begins, its message begins, and it ends"""
        self.outside: list[Outside] = []
        """initializers whose numbers lie in another file"""

    def model(self) -> Model:
        """Check all of it."""
        data = self._data
        if len(data) > SIZE_MAX:
            raise Refused(f"file: is larger than {SIZE_MAX} bytes; give a smaller network")
        for start, what in ((b"PK", "a zip archive"), (b"\x80", "a pickle"), (b"\x89HDF", "HDF5")):
            if data.startswith(start):
                raise Refused(f"file: is {what} and no ONNX model; export the network to ONNX")
        if not data:
            raise Refused("file: is empty; export the network again")
        self._walk.message(0, len(data), "", self._model_rules())
        if not self._opset:
            raise Refused("opset_import: names no operator set of ONNX; export the network again")
        inputs = tuple(port for port in self._inputs if port.name not in self._initializers)
        return Model(self._path, data, self._opset, inputs, tuple(self._outputs), self._metadata)

    def _refuse(self, what: str, remedy: str) -> Handler:
        def refuse(item: MessageField) -> None:
            raise Refused(f"{item.where}: {what}; {remedy}")

        return refuse

    # ---- the messages of ONNX, by the numbers of onnx.proto ------------------------------------

    def _model_rules(self) -> dict[int, Rule]:
        plain = "export the network as plain ONNX"
        return {
            1: Rule("ir_version", VARINT, self._take_ir_version),
            2: Rule("producer_name", BYTES, self._name),
            3: Rule("producer_version", BYTES, self._name),
            4: Rule("domain", BYTES, self._name),
            5: Rule("model_version", VARINT),
            6: Rule("doc_string", BYTES, self._doc),
            7: Rule("graph", BYTES, self._take_graph),
            8: Rule("opset_import", BYTES, self._take_opset, unique=False),
            14: Rule("metadata_props", BYTES, self._take_metadata, unique=False),
            20: Rule("training_info", BYTES, self._refuse("is for training", plain), False),
            25: Rule("functions", BYTES, self._refuse("defines operators", plain), False),
        }

    def _name(self, item: MessageField) -> None:
        self._walk.text(item)

    def _doc(self, item: MessageField) -> None:
        self._walk.text(item, _TEXT_MAX)

    def _take_ir_version(self, item: MessageField) -> None:
        if item.value not in _IR_VERSIONS:
            raise Refused(
                f"{item.where}: {item.value} is not {_IR_VERSIONS[0]} to {_IR_VERSIONS[-1]}; "
                f"export the network for another version of ONNX"
            )

    def _take_opset(self, item: MessageField) -> None:
        found: dict[str, int | str] = {"domain": "", "version": 0}

        def domain(part: MessageField) -> None:
            found["domain"] = self._walk.text(part)

        def version(part: MessageField) -> None:
            found["version"] = part.value

        rules = {1: Rule("domain", BYTES, domain), 2: Rule("version", VARINT, version)}
        self._walk.message(item.start, item.end, item.where, rules)
        if not _is_own(str(found["domain"])):
            return  # a node that uses it is refused
        if found["version"] not in OPSETS:
            raise Refused(
                f"{item.where}.version: {found['version']} is not {OPSETS[0]} to {OPSETS[-1]}; "
                f"export the network with another opset"
            )
        self._opset = int(found["version"])

    def _check_domain(self, where: str, domain: str) -> None:
        if not _is_own(domain):
            raise Refused(
                f"{where}: {domain[:80]!r} are not ONNX's own operators; export the network with "
                f"those alone"
            )

    def _take_metadata(self, item: MessageField) -> None:
        key, value = self._entry(item)
        if key in self._metadata:
            raise Refused(f"{item.where}: the key {key!r} stands there twice; remove one")
        self._metadata[key] = value

    def _entry(self, item: MessageField) -> tuple[str, str]:
        """A key and its value."""
        found = {"key": "", "value": ""}

        def key(part: MessageField) -> None:
            found["key"] = self._walk.text(part)

        def value(part: MessageField) -> None:
            found["value"] = self._walk.text(part, _TEXT_MAX)

        rules = {1: Rule("key", BYTES, key), 2: Rule("value", BYTES, value)}
        self._walk.message(item.start, item.end, item.where, rules)
        return found["key"], found["value"]

    def _take_graph(self, item: MessageField) -> None:
        plain = "export the network with plain tensors"
        rules = {
            1: Rule("node", BYTES, self._take_node, unique=False),
            2: Rule("name", BYTES, self._name),
            5: Rule("initializer", BYTES, self._take_initializer, unique=False),
            10: Rule("doc_string", BYTES, self._doc),
            11: Rule("input", BYTES, self._take_port(self._inputs), unique=False),
            12: Rule("output", BYTES, self._take_port(self._outputs), unique=False),
            13: Rule("value_info", BYTES, self._take_port(None), unique=False),
            14: Rule("quantization_annotation", BYTES, unique=False),
            15: Rule("sparse_initializer", BYTES, self._refuse("is sparse", plain), False),
            16: Rule("metadata_props", BYTES, unique=False),
        }
        self.graph = (item.begin, item.start, item.end)
        self._walk.message(item.start, item.end, item.where, rules)

    def _take_node(self, item: MessageField) -> None:
        self._nodes += 1
        if self._nodes > _NODES_MAX:
            raise Refused(f"{item.where}: is one of more than {_NODES_MAX}; simplify the network")
        operator = ""

        def op_type(part: MessageField) -> None:
            nonlocal operator
            operator = self._walk.text(part)

        def domain(part: MessageField) -> None:
            self._check_domain(part.where, self._walk.text(part))

        rules = {
            1: Rule("input", BYTES, self._name, unique=False),
            2: Rule("output", BYTES, self._name, unique=False),
            3: Rule("name", BYTES, self._name),
            4: Rule("op_type", BYTES, op_type),
            5: Rule("attribute", BYTES, self._take_attribute, unique=False),
            6: Rule("doc_string", BYTES, self._doc),
            7: Rule("domain", BYTES, domain),
            9: Rule("metadata_props", BYTES, unique=False),
        }
        self._walk.message(item.start, item.end, item.where, rules)
        if operator not in OPERATORS:
            raise Refused(
                f"{item.where}.op_type: the operator {operator[:80]!r} is not among those that "
                f"a policy may have (inphase.models.onnx_file.OPERATORS); export the network "
                f"without it"
            )

    def _take_attribute(self, item: MessageField) -> None:
        graphs = self._refuse("holds a graph", "export the network without control flow")
        others = self._refuse("is not of plain tensors", "export the network with plain tensors")
        rules = {
            1: Rule("name", BYTES, self._name),
            2: Rule("f", FIXED32),
            3: Rule("i", VARINT),
            4: Rule("s", BYTES, self._doc),
            5: Rule("t", BYTES, self._take_tensor),
            6: Rule("g", BYTES, graphs),
            7: Rule("floats", FIXED32, unique=False),
            8: Rule("ints", VARINT, unique=False),
            9: Rule("strings", BYTES, self._name, unique=False),
            10: Rule("tensors", BYTES, self._take_tensor, unique=False),
            11: Rule("graphs", BYTES, graphs, unique=False),
            13: Rule("doc_string", BYTES, self._doc),
            14: Rule("tp", BYTES, others),
            15: Rule("type_protos", BYTES, others, unique=False),
            20: Rule("type", VARINT),
            21: Rule("ref_attr_name", BYTES, others),
            22: Rule("sparse_tensor", BYTES, others),
            23: Rule("sparse_tensors", BYTES, others, unique=False),
        }
        self._walk.message(item.start, item.end, item.where, rules)

    def _take_initializer(self, item: MessageField) -> None:
        outside = Outside(item.where, item.begin, item.start, item.end)
        name = self._take_tensor(item, outside)
        if outside.named:
            self.outside.append(outside)
        if name in self._initializers:
            raise Refused(f"{item.where}.name: {name[:80]!r} stands there twice; export it again")
        self._initializers.add(name)
        if len(self._initializers) > _INITIALIZERS_MAX:
            raise Refused(
                f"{item.where}: is one of more than {_INITIALIZERS_MAX}; simplify the network"
            )

    def _take_tensor(self, item: MessageField, outside: Outside | None = None) -> str:
        """Check a tensor: all its numbers are there, and no more. Its name.

        outside: takes the place of numbers in another file, which are refused without it.
        """
        found, name = _Tensor(), ""

        def dims(part: MessageField) -> None:
            if part.wire != BYTES:
                found.dims.append(part.value)
                return
            at = part.start
            while at < part.end and len(found.dims) <= _RANK_MAX:
                value, at = self._walk.varint(at, part.end, part.where)
                found.dims.append(value)

        def data_type(part: MessageField) -> None:
            found.type = part.value

        def take_name(part: MessageField) -> None:
            nonlocal name
            name = self._walk.text(part)

        def raw(part: MessageField) -> None:
            found.held["raw_data"] = part.end - part.start

        def holds(what: str, wire: int) -> Rule:
            def take(part: MessageField) -> None:
                found.held[what] = found.held.get(what, 0) + self._walk.numbers(part, wire)

            return Rule(what, wire, take, unique=False)

        whole = self._refuse("is a piece of a tensor", "export the network again")
        rules = {
            1: Rule("dims", VARINT, dims, unique=False),
            2: Rule("data_type", VARINT, data_type),
            3: Rule("segment", BYTES, whole),
            4: holds("float_data", FIXED32),
            5: holds("int32_data", VARINT),
            6: Rule("string_data", BYTES, self._refuse("is text", "use numbers"), False),
            7: holds("int64_data", VARINT),
            8: Rule("name", BYTES, take_name),
            9: Rule("raw_data", BYTES, raw),
            10: holds("double_data", FIXED64),
            11: holds("uint64_data", VARINT),
            12: Rule("doc_string", BYTES, self._doc),
            **self._outside_rules(outside),
            16: Rule("metadata_props", BYTES, unique=False),
        }
        self._walk.message(item.start, item.end, item.where, rules)
        _check_tensor(item.where, found, outside)
        return name

    def _outside_rules(self, outside: Outside | None) -> dict[int, Rule]:
        """The fields that name another file."""

        def elsewhere(part: MessageField) -> None:
            if outside is None:
                raise Refused(f"{part.where}: lies in another file; {external_data.REMEDY}")
            outside.named.append((part.begin, part.end))
            outside.is_outside = outside.is_outside or part.wire == VARINT
            if part.wire == BYTES:
                key, value = self._entry(part)
                outside.entries[key] = value

        def location(part: MessageField) -> None:
            if part.value:
                elsewhere(part)

        return {
            13: Rule("external_data", BYTES, elsewhere, unique=False),
            14: Rule("data_location", VARINT, location),
        }

    def _take_port(self, to: list[ModelPort] | None) -> Handler:
        def take(item: MessageField) -> None:
            name = ""
            kind: tuple[int, tuple[int | str, ...]] | None = None

            def take_name(part: MessageField) -> None:
                nonlocal name
                name = self._walk.text(part)

            def take_type(part: MessageField) -> None:
                nonlocal kind
                kind = self._tensor_type(part)

            rules = {
                1: Rule("name", BYTES, take_name),
                2: Rule("type", BYTES, take_type),
                3: Rule("doc_string", BYTES, self._doc),
                4: Rule("metadata_props", BYTES, unique=False),
            }
            self._walk.message(item.start, item.end, item.where, rules)
            if to is not None:
                if kind is None:
                    raise Refused(f"{item.where}: has no type; export the network with its shapes")
                to.append(ModelPort(name, *kind))

        return take

    def _tensor_type(self, item: MessageField) -> tuple[int, tuple[int | str, ...]]:
        kind = 0
        shape: list[int | str] = []

        def element(part: MessageField) -> None:
            nonlocal kind
            kind = part.value

        def dimension(part: MessageField) -> None:
            found: list[int | str] = []
            rules = {
                1: Rule("dim_value", VARINT, lambda p: found.append(p.value)),
                2: Rule("dim_param", BYTES, lambda p: found.append(self._walk.text(p))),
                3: Rule("denotation", BYTES, self._name),
            }
            self._walk.message(part.start, part.end, part.where, rules)
            shape.append(found[-1] if found else "?")
            if len(shape) > _RANK_MAX:
                raise Refused(
                    f"{part.where}: is one of more than {_RANK_MAX}; use fewer dimensions"
                )

        def dimensions(part: MessageField) -> None:
            rules = {1: Rule("dim", BYTES, dimension, unique=False)}
            self._walk.message(part.start, part.end, part.where, rules)

        def tensor(part: MessageField) -> None:
            rules = {
                1: Rule("elem_type", VARINT, element),
                2: Rule("shape", BYTES, dimensions),
            }
            self._walk.message(part.start, part.end, part.where, rules)

        rules = {
            1: Rule("tensor_type", BYTES, tensor),
            6: Rule("denotation", BYTES, self._name),
        }
        self._walk.message(item.start, item.end, item.where, rules)
        return kind, tuple(shape)


def _is_own(domain: str) -> bool:
    """True for the operators of ONNX."""
    return domain in ("", "ai.onnx")


def _check_tensor(where: str, found: _Tensor, outside: Outside | None) -> None:
    bits = _BITS.get(found.type)
    if bits is None:
        raise Refused(f"{where}.data_type: {found.type} is no type of numbers; use float32")
    if len(found.dims) > _RANK_MAX:
        raise Refused(f"{where}.dims: are more than {_RANK_MAX}; use fewer dimensions")
    count = math.prod(found.dims)
    if count > _NUMBERS_MAX or max(found.dims, default=0) > _NUMBERS_MAX:
        raise Refused(
            f"{where}.dims: {found.dims} are more than {_NUMBERS_MAX} numbers; use a smaller one"
        )
    held = {what: n for what, n in found.held.items() if n}
    if outside is not None and outside.named:
        outside.size = count * bits // 8
        if held:
            raise Refused(f"{where}: has numbers here and in a file; {external_data.REMEDY}")
        return
    if len(held) > 1:
        raise Refused(f"{where}: has its numbers in {sorted(held)}; export the network again")
    what, n = next(iter(held.items()), ("raw_data", 0))
    wanted = count * bits // 8 if what == "raw_data" else count
    if n != wanted:
        raise Refused(
            f"{where}.{what}: {n} where dims {found.dims} say {wanted}; the file is damaged: "
            f"copy or export it again"
        )
