"""Writes the tokenizer archive of a worker into a file, after a check of its checksum.

    python get_tokenizer.py HOST:PORT FILE.zip      (needs grpcio and smg-grpc-proto)
"""

import hashlib
import sys

import grpc
from smg_grpc_proto.generated import common_pb2, vllm_engine_pb2_grpc


def main():
    address, path = sys.argv[1:]
    with grpc.insecure_channel(address) as channel:
        chunks = list(vllm_engine_pb2_grpc.VllmEngineStub(channel).GetTokenizer(common_pb2.GetTokenizerRequest()))
    archive = b"".join(chunk.data for chunk in chunks)
    assert all(not chunk.sha256 for chunk in chunks[:-1])
    assert hashlib.sha256(archive).hexdigest() == chunks[-1].sha256
    with open(path, "wb") as file:
        file.write(archive)


main()
