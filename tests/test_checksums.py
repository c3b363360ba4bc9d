"""Checksums of packets, against the catalogue's own values and another implementation."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inphase import packets
from inphase.driver import (
    CHECKSUMS,
    Check,
    CheckKind,
    Checksum,
    Encoding,
    Exchange,
    Framing,
    Raw,
    Reply,
    Value,
)

# the catalogue's "check": of the nine characters 123456789
CATALOGUE = {
    "CRC-8/SMBUS": 0xF4,
    "CRC-8/I-432-1": 0xA1,
    "CRC-8/MAXIM-DOW": 0xA1,
    "CRC-8/NRSC-5": 0xF7,
    "CRC-8/SAE-J1850": 0x4B,
    "CRC-8/AUTOSAR": 0xDF,
    "CRC-8/DVB-S2": 0xBC,
    "CRC-16/ARC": 0xBB3D,
    "CRC-16/MODBUS": 0x4B37,
    "CRC-16/USB": 0xB4C8,
    "CRC-16/UMTS": 0xFEE8,
    "CRC-16/IBM-3740": 0x29B1,
    "CRC-16/XMODEM": 0x31C3,
    "CRC-16/KERMIT": 0x2189,
    "CRC-16/MCRF4XX": 0x6F91,
    "CRC-16/IBM-SDLC": 0x906E,
    "CRC-16/GENIBUS": 0xD64E,
    "CRC-16/DNP": 0xEA82,
    "CRC-24/OPENPGP": 0x21CF02,
    "CRC-32/ISO-HDLC": 0xCBF43926,
    "CRC-32/BZIP2": 0xFC891918,
    "CRC-32/MPEG-2": 0x0376E6E7,
    "CRC-32/ISCSI": 0xE3069283,
    "CRC-64/XZ": 0x995DC9BBDF1939FA,
}


def test_every_crc_of_the_table_has_the_catalogues_check_value() -> None:
    assert {name: packets.checksum(name, b"123456789") for name in CATALOGUE} == CATALOGUE
    aliases = {id(CHECKSUMS[name]) for name in CATALOGUE}
    crcs = [name for name, sum_ in CHECKSUMS.items() if sum_.kind == "crc"]
    assert {id(CHECKSUMS[name]) for name in crcs} == aliases


@st.composite
def crcs(draw: st.DrawFn) -> Checksum:
    """A CRC of any parameters."""
    width = draw(st.integers(1, 64))
    number, flag = st.integers(0, (1 << width) - 1), st.booleans()
    return Checksum("crc", width, *map(draw, (number, number, flag, flag, number)))


@given(st.binary(max_size=64), crcs())
def test_a_crc_of_any_parameters_is_what_another_implementation_says(
    data: bytes, spec: Checksum
) -> None:
    crccheck = pytest.importorskip("crccheck", reason="crccheck is not installed")
    if spec.width < 8:
        return  # it knows none that are narrower
    reflected = spec.reflected_in, spec.reflected_out
    other = crccheck.crc.Crc(spec.width, spec.polynomial, spec.initial, *reflected, spec.final)
    assert packets.checksum(spec, data) == other.calc(data)


def crc_of_bits(spec: Checksum, data: bytes) -> int:
    """Bit by bit, as the catalogue defines it."""
    top, mask = 1 << (spec.width - 1), (1 << spec.width) - 1
    register = spec.initial
    for byte in data:
        for bit in range(8) if spec.reflected_in else reversed(range(8)):
            over = bool(register & top) ^ bool(byte >> bit & 1)
            register = (register << 1 & mask) ^ (spec.polynomial if over else 0)
    if spec.reflected_out:
        register = int(f"{register:0{spec.width}b}"[::-1], 2)
    return register ^ spec.final


@given(st.binary(max_size=40), crcs())
def test_a_crc_of_any_width_is_that_of_its_bits(data: bytes, spec: Checksum) -> None:
    assert packets.checksum(spec, data) == crc_of_bits(spec, data)


@given(st.binary(max_size=40))
def test_sums_and_exclusive_or(data: bytes) -> None:
    total, xor = sum(data), 0
    for byte in data:
        xor ^= byte
    assert packets.checksum("SUM-8", data) == total & 0xFF
    assert packets.checksum("SUM-8/COMPLEMENT", data) == ~total & 0xFF
    assert (packets.checksum("SUM-8/NEGATED", data) + total) & 0xFF == 0
    assert packets.checksum("SUM-16", data) == total & 0xFFFF
    assert packets.checksum("XOR-8", data) == xor
    assert packets.checksum(Checksum("sum", 24, initial=5), data) == total + 5


def exchange(checksum: str | Checksum, size: int, *, big_endian: bool, start: int) -> Exchange:
    """Packets AA, a number of 16 bits, a checksum, and a line's end behind it."""
    check = Check(
        CheckKind.CHECKSUM, -size - 1, checksum=checksum, big_endian=big_endian, start=start
    )
    return Exchange(
        request=b"",
        framing=Framing(min_size=4 + size, max_size=4 + size, start=b"\xaa"),
        replies=(Reply((Value(1, Raw.U16, 0),), (check,)),),
        request_ns=0,
        reply_ns=0,
        reply_max_ns=0,
    )


@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("name", CHECKSUMS)
def test_a_reply_is_checked_by_the_checksum_that_it_declares(
    name: str, big_endian: bool, start: int
) -> None:
    size = (CHECKSUMS[name].width + 7) // 8
    body = b"\xaa\x34\x12"
    order = "big" if big_endian else "little"
    good = packets.checksum(name, body[start:]).to_bytes(size, order)
    parser = packets.Parser(exchange(name, size, big_endian=big_endian, start=start), 1)
    assert parser.feed(body + good + b"\n") == [0x1234]
    for bit in range(8 * size):
        bad = (int.from_bytes(good, "big") ^ 1 << bit).to_bytes(size, "big")
        parser.reset()
        with pytest.raises(packets.RefusedReply, match="checksum"):
            parser.feed(body + bad + b"\n")


def test_a_command_ends_with_the_checksum_that_it_declares() -> None:
    framing = Framing(min_size=1, max_size=64)
    value = Value(4, Raw.U16, 0, big_endian=True)
    encoding = Encoding(bytes.fromhex("010600010000"), (value,), framing, 0, "CRC-16/MODBUS")

    told = packets.encode(encoding, [3.0])
    assert told[:6] == bytes.fromhex("010600010003")
    assert packets.checksum("CRC-16/MODBUS", told) == 0, "over all, with its own CRC"


def test_a_checksum_that_is_none_is_answered_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"no checksum 'CRC-17'.*CRC-16/MODBUS"):
        packets.checksum("CRC-17", b"")
    with pytest.raises(ValueError, match="no such checksum"):
        packets.checksum(Checksum("crc", 65, 1), b"")


def test_a_driver_from_before_there_were_other_checksums_means_the_same() -> None:
    means = Check(CheckKind.CHECKSUM, -2, checksum="CRC-16/DYNAMIXEL")
    assert Check(CheckKind.CRC16_END) == means
    assert packets.crc16(b"123456789") == CATALOGUE["CRC-16/UMTS"]
