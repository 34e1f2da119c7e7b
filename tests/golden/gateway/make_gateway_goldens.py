"""Makes descriptors.txt from the published stubs (package smg-grpc-proto), and tokenizer.sha256 with `tokenizers`.

    python make_gateway_goldens.py TOKENIZER.zip MODEL.gguf

descriptors.txt: every method of vllm.grpc.engine.VllmEngine, and every field and enum value that can be reached from
them, one a line. TOKENIZER.zip: what GetTokenizer of a server with the demo model gave (tests/e2e/gateway/
get_tokenizer.py). Its tokenizer.json must encode tests/golden/tokenizer/strings.jsonl as the goldens there say; then
its SHA-256 is written down, so that a test without `tokenizers` sees that it is the same file.
"""

import hashlib
import json
import pathlib
import sys
import zipfile

import tokenizers
from google.protobuf.descriptor import FieldDescriptor
from smg_grpc_proto.generated import vllm_engine_pb2

HERE = pathlib.Path(__file__).parent
TYPES = {value: name[5:].lower() for name, value in vars(FieldDescriptor).items() if name.startswith("TYPE_")}


def field_line(field):
    of = field.message_type or field.enum_type
    oneof = field.containing_oneof
    label = "repeated" if field.is_repeated else "single"
    return " ".join(["field", field.full_name, str(field.number), label, TYPES[field.type],
                     of.full_name if of is not None else "-", oneof.name if oneof is not None else "-"])


def descriptor_lines():
    lines, seen = set(), set()
    service = vllm_engine_pb2.DESCRIPTOR.services_by_name["VllmEngine"]
    todo = []
    for method in service.methods:
        kind = "stream" if method.server_streaming else "unary"
        assert not method.client_streaming
        lines.add(f"method {method.full_name} {method.input_type.full_name} {method.output_type.full_name} {kind}")
        todo += [method.input_type, method.output_type]
    while todo:
        message = todo.pop()
        if message.full_name in seen:
            continue
        seen.add(message.full_name)
        lines.add(f"message {message.full_name}")
        for field in message.fields:
            lines.add(field_line(field))
            if field.message_type is not None:
                todo.append(field.message_type)
            if field.enum_type is not None:
                lines |= {f"value {field.enum_type.full_name} {v.name} {v.number}" for v in field.enum_type.values}
    return sorted(lines)


def check_tokenizer(text):
    tokenizer = tokenizers.Tokenizer.from_str(text)
    golden = HERE.parent / "tokenizer"
    strings = (golden / "strings.jsonl").read_text().splitlines()
    expected = (golden / "smollm" / "ids.jsonl").read_text().splitlines()
    assert len(strings) == len(expected)
    for string, ids in zip(map(json.loads, strings), map(json.loads, expected)):
        tokenizer.encode_special_tokens = True
        assert tokenizer.encode(string, add_special_tokens=False).ids == ids["plain"], string
        tokenizer.encode_special_tokens = False
        special = tokenizer.encode(string).ids
        assert special == ids.get("special", ids["plain"]), string


def main():
    archive = zipfile.ZipFile(sys.argv[1])
    (HERE / "descriptors.txt").write_text("\n".join(descriptor_lines()) + "\n")
    tokenizer = archive.read("tokenizer.json")
    check_tokenizer(tokenizer.decode())
    (HERE / "tokenizer.sha256").write_text(hashlib.sha256(tokenizer).hexdigest() + "\n")


main()
