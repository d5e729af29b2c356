"""Requests and replies against published frames and against pymodbus as an independent encoder."""

from __future__ import annotations

import random

import pytest
from support.rtu_slave import crc, words

from drivers.meter.modbus import (
    BadFrame,
    Echo,
    ExceptionReply,
    Function,
    Receiver,
    Request,
    crc16,
    with_crc,
)


def test_published_frames() -> None:
    # MODBUS over Serial Line V1.02 appendix B: CRC of 02 07 is 41 12 on the wire.
    assert with_crc(bytes.fromhex("0207")).hex() == "02074112"
    # Modicon PI-MBUS-300: read holding registers 108 to 110 of unit 17.
    request = Request(17, Function.READ_HOLDING, 107, 3)
    assert request.frame.hex() == "1103006b00037687"
    reply = with_crc(bytes.fromhex("110306ae415652 4340".replace(" ", "")))
    assert Receiver(request).feed(reply) == (0xAE41, 0x5652, 0x4340)
    # PI-MBUS-300: force coil 173 of unit 17 on; the reply is the same.
    coil = Request(17, Function.WRITE_COIL, 172, values=(1,))
    assert coil.frame.hex() == "110500acff004e8b"
    assert Receiver(coil).feed(coil.frame) == (1,)


def test_crc_agrees_with_the_bitwise_definition() -> None:
    rng = random.Random(1)
    for _ in range(200):
        body = rng.randbytes(rng.randrange(1, 260))
        assert body + crc16(body).to_bytes(2, "little") == crc(body)


def test_every_function_agrees_with_pymodbus() -> None:
    pdu = pytest.importorskip("pymodbus.pdu", reason="needs pymodbus: pip install pymodbus")
    from pymodbus.framer import FramerRTU
    from pymodbus.pdu import bit_message, register_message

    server = FramerRTU(pdu.DecodePDU(is_server=True))
    answers = {
        Function.READ_COILS: bit_message.ReadCoilsResponse(bits=[True, False, True] + [False] * 5),
        Function.READ_DISCRETE: bit_message.ReadDiscreteInputsResponse(bits=[True] * 8),
        Function.READ_HOLDING: register_message.ReadHoldingRegistersResponse(registers=[7, 65535]),
        Function.READ_INPUT: register_message.ReadInputRegistersResponse(registers=[1, 2]),
        Function.WRITE_COIL: bit_message.WriteSingleCoilResponse(address=9, bits=[True]),
        Function.WRITE_REGISTER: register_message.WriteSingleRegisterResponse(
            address=9, registers=[4711]
        ),
        Function.WRITE_COILS: bit_message.WriteMultipleCoilsResponse(address=9, count=10),
        Function.WRITE_REGISTERS: register_message.WriteMultipleRegistersResponse(
            address=9, count=3
        ),
        Function.READ_WRITE: register_message.ReadWriteMultipleRegistersResponse(registers=[5, 6]),
    }
    ten = (1, 0, 1, 1, 0, 0, 0, 0, 1, 1)
    requests = {
        Function.READ_COILS: (Request(3, Function.READ_COILS, 9, 3), (1, 0, 1)),
        Function.READ_DISCRETE: (Request(3, Function.READ_DISCRETE, 9, 8), (1,) * 8),
        Function.READ_HOLDING: (Request(3, Function.READ_HOLDING, 9, 2), (7, 65535)),
        Function.READ_INPUT: (Request(3, Function.READ_INPUT, 9, 2), (1, 2)),
        Function.WRITE_COIL: (Request(3, Function.WRITE_COIL, 9, values=(1,)), (1,)),
        Function.WRITE_REGISTER: (Request(3, Function.WRITE_REGISTER, 9, values=(4711,)), (4711,)),
        Function.WRITE_COILS: (Request(3, Function.WRITE_COILS, 9, values=ten), ten),
        Function.WRITE_REGISTERS: (
            Request(3, Function.WRITE_REGISTERS, 9, values=(1, 2, 3)),
            (1, 2, 3),
        ),
        Function.READ_WRITE: (Request(3, Function.READ_WRITE, 9, 2, (8, 9), 40), (5, 6)),
    }
    assert set(requests) == set(answers) == set(Function)
    for function, (request, values) in requests.items():
        used, unit, _, data = server.decode(request.frame)
        assert (used, unit) == (len(request.frame), 3), function
        decoded = pdu.DecodePDU(is_server=True).decode(data)
        if function is Function.READ_WRITE:
            assert (decoded.read_address, decoded.read_count) == (9, 2)
            assert (decoded.write_address, decoded.write_registers) == (40, [8, 9])
        elif function is Function.WRITE_COILS:
            assert tuple(map(int, decoded.bits[:10])) == ten
        elif function in (Function.WRITE_REGISTERS, Function.WRITE_REGISTER):
            assert tuple(decoded.registers) == values
        else:
            assert decoded.address == request.address
            assert request.writes or decoded.count == request.count
        answer = answers[function]
        body = bytes([3, function]) + answer.encode()
        receiver = Receiver(request)
        frame = crc(body)
        assert len(frame) == request.reply_bytes, function
        assert receiver.feed(frame[:3]) is None
        assert receiver.feed(frame[3:]) == values, function


READ = Request(1, Function.READ_INPUT, 0x34, 2)
GOOD = crc(bytes([1, 4, 4]) + words(1, 2))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (crc(bytes([2, 4, 4]) + words(1, 2)), "unit 2"),
        (crc(bytes([1, 3, 4]) + words(1, 2)), "function 3"),
        (crc(bytes([1, 4, 2]) + words(1)), "2 data bytes instead of 4"),
        (crc(bytes([1, 4, 6]) + words(1, 2, 3)), "6 data bytes instead of 4"),
        (GOOD[:-1] + bytes([GOOD[-1] ^ 1]), "checksum"),
        (b"\x00" + GOOD, "unit 0"),
        (crc(bytes([1, 0x83, 2])), "function 131"),
        (crc(bytes([1, 0x84, 2]))[:-1] + b"\x00", "checksum"),
    ],
)
def test_what_is_not_the_reply_is_refused(data: bytes, why: str) -> None:
    for cut in range(len(data) + 1):
        receiver = Receiver(READ)
        with pytest.raises(BadFrame, match=why):
            assert receiver.feed(data[:cut]) is None
            receiver.feed(data[cut:])


def test_two_frames_at_once_are_refused_and_noise_is_not() -> None:
    with pytest.raises(BadFrame, match="9 bytes behind the reply"):
        Receiver(READ).feed(GOOD + GOOD)
    receiver = Receiver(READ)
    assert receiver.feed(GOOD + b"\xff") == (1, 2)
    assert receiver.surplus == 1


@pytest.mark.parametrize(
    "echo",
    [
        crc(bytes([1, 6]) + words(5, 8)),
        crc(bytes([1, 6]) + words(6, 7)),
        crc(bytes([1, 6]) + words(4, 7)),
    ],
)
def test_a_write_must_be_acknowledged_as_it_was(echo: bytes) -> None:
    request = Request(1, Function.WRITE_REGISTER, 5, values=(7,))
    assert Receiver(request).feed(request.frame) == (7,)
    with pytest.raises(BadFrame, match="another address or value"):
        Receiver(request).feed(echo)


def test_an_echo_is_told_from_a_bad_reply() -> None:
    with pytest.raises(Echo):
        Receiver(READ).feed(READ.frame + GOOD)


def test_exceptions_are_five_bytes() -> None:
    with pytest.raises(ExceptionReply, match="illegal register address") as caught:
        Receiver(READ).feed(crc(bytes([1, 0x84, 2])))
    assert caught.value.code == 2
    with pytest.raises(ExceptionReply, match="not a standard code"):
        Receiver(READ).feed(crc(bytes([1, 0x84, 99])))


def test_no_flipped_bit_gives_a_value() -> None:
    for at in range(len(GOOD) * 8):
        data = bytearray(GOOD)
        data[at // 8] ^= 1 << at % 8
        try:
            assert Receiver(READ).feed(bytes(data)) is None
        except (BadFrame, ExceptionReply) as error:
            assert isinstance(error, BadFrame)


@pytest.mark.parametrize(
    ("unit", "function", "address", "count", "values"),
    [
        (0, Function.READ_INPUT, 0, 1, ()),
        (248, Function.READ_INPUT, 0, 1, ()),
        (1, Function.READ_INPUT, 0, 0, ()),
        (1, Function.READ_INPUT, 0, 126, ()),
        (1, Function.READ_INPUT, 65535, 2, ()),
        (1, Function.READ_INPUT, -1, 1, ()),
        (1, Function.READ_INPUT, 0, 1, (1,)),
        (1, Function.WRITE_COIL, 0, 0, (2,)),
        (1, Function.WRITE_COIL, 0, 0, ()),
        (1, Function.WRITE_COIL, 0, 1, (1,)),
        (1, Function.WRITE_REGISTER, 0, 0, (65536,)),
        (1, Function.WRITE_REGISTER, 0, 0, (1, 2)),
        (1, Function.WRITE_REGISTERS, 0, 0, (1,) * 124),
    ],
)
def test_requests_that_cannot_go_on_the_wire(
    unit: int, function: Function, address: int, count: int, values: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError):
        Request(unit, function, address, count, values)
