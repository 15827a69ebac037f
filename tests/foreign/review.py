"""Signs a state with Python's cryptography, which shares no code with ours, and checks that what is
altered is refused. Arguments: the daemon's address, and the state in hex."""

import struct
import sys
import time

import grpc
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from google.protobuf.timestamp_pb2 import Timestamp

from heddle.v1 import review_pb2, review_pb2_grpc

DEADLINE = 60
Encoding, Format = serialization.Encoding, serialization.PublicFormat


def payload(state, text, now):
    """What SignState has signed for a review of the whole change, of the kind `read`."""
    return (
        b"hd-rev-sig-v1\0"
        + state.hex().encode()
        + b"\0read\0whole_change\0"
        + struct.pack("<q", now)
        + (b"\1" + text.encode() + b"\0" if text else b"\0")
    )


def signers():
    """Each algorithm: its name, its public key, and what signs."""
    key = ed25519.Ed25519PrivateKey.generate()
    yield "ed25519", key.public_key().public_bytes(Encoding.Raw, Format.Raw), key.sign

    point = ec.generate_private_key(ec.SECP256R1())
    public = point.public_key().public_bytes(Encoding.X962, Format.UncompressedPoint)

    def in_der(message):
        return point.sign(message, ec.ECDSA(hashes.SHA256()))

    def fixed(message):
        r, s = decode_dss_signature(in_der(message))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    yield "p256", public, in_der
    yield "ecdsa-p256", public, fixed

    for bits in (2048, 3072):
        pair = rsa.generate_private_key(public_exponent=65537, key_size=bits)
        yield (
            "rsa",
            pair.public_key().public_bytes(Encoding.DER, Format.PKCS1),
            lambda message, pair=pair: pair.sign(message, padding.PKCS1v15(), hashes.SHA256()),
        )


def main(address, state):
    verified = refused = 0
    with grpc.insecure_channel(address) as channel:
        reviews = review_pb2_grpc.StateReviewServiceStub(channel)
        for algorithm, public, sign in signers():
            now = int(time.time())
            request = review_pb2.SignStateRequest(
                state_id=state,
                kind=review_pb2.REVIEW_KIND_READ,
                scope=review_pb2.ReviewScope(whole_change={}),
                justification="grüße",
                algorithm=algorithm,
                public_key=public,
                signature=sign(payload(state, "grüße", now)),
                signed_at=Timestamp(seconds=now),
            )
            answer = reviews.SignState(request, timeout=DEADLINE)
            assert answer.state_id == state and answer.signature_id, answer
            verified += 1
            request.justification = "grüsse"
            try:
                reviews.SignState(request, timeout=DEADLINE)
            except grpc.RpcError as error:
                assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error
                refused += 1
        listed = reviews.ListSignatures(
            review_pb2.ListSignaturesRequest(state_id=state), timeout=DEADLINE
        )
        assert len(listed.signatures) == verified, listed
        assert all(one.justification == "grüße" for one in listed.signatures)
    print(f"verified {verified}, refused {refused}")


if __name__ == "__main__":
    main(sys.argv[1], bytes.fromhex(sys.argv[2]))
