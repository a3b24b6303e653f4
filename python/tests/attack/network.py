"""Attacks by sockets."""

from __future__ import annotations

import os
import socket
import struct
import time
from typing import Any

from attack.case import Absent, Facts, Refused, attack

_SECONDS = 2.0


def _send(family: int, kind: int, address: Any, token: str, protocol: int = 0) -> str:
    with socket.socket(family, kind, protocol) as one:
        one.settimeout(_SECONDS)
        one.connect(address)
        one.send(token.encode())
    return "sent"


@attack("network", "a TCP connection reached a listener on the machine")
def tcp(facts: Facts) -> str:
    return _send(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", facts["tcp_port"]), facts["tcp"])


@attack("network", "a TCP connection by IPv6 reached a listener")
def tcp6(facts: Facts) -> str:
    if not facts["tcp6_port"]:
        raise Absent("the machine has no IPv6")
    return _send(socket.AF_INET6, socket.SOCK_STREAM, ("::1", facts["tcp6_port"]), facts["tcp6"])


@attack("network", "a datagram reached a listener")
def udp(facts: Facts) -> str:
    return _send(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", facts["udp_port"]), facts["udp"])


@attack("network", "a datagram by IPv6 reached a listener")
def udp6(facts: Facts) -> str:
    if not facts["udp6_port"]:
        raise Absent("the machine has no IPv6")
    return _send(socket.AF_INET6, socket.SOCK_DGRAM, ("::1", facts["udp6_port"]), facts["udp6"])


@attack("network", "a connection by Multipath TCP reached a listener")
def mptcp(facts: Facts) -> str:
    address = ("127.0.0.1", facts["mptcp_port"])
    return _send(socket.AF_INET, socket.SOCK_STREAM, address, facts["mptcp"], 262)


@attack("network", "data left with TCP's opening packet, without a call to connect")
def tcp_fast_open(facts: Facts) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as one:
        one.settimeout(_SECONDS)
        one.sendto(facts["fast"].encode(), 0x20000000, ("127.0.0.1", facts["fast_port"]))
    return "sent"


@attack("network", "the worker was reached from outside at a port that it had opened")
def listen(facts: Facts) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as one:
        one.settimeout(_SECONDS)
        one.bind(("127.0.0.1", facts["listen_port"]))
        one.listen(1)
        peer, _ = one.accept()
        with peer:
            return peer.recv(64).decode()


@attack("network", "a raw socket was opened")
def raw_socket(facts: Facts) -> str:
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()
    return "opened"


@attack("network", "a packet socket, which sees all traffic, was opened")
def packet_socket(facts: Facts) -> str:
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()
    return "opened"


@attack("network", "the machine's interfaces were listed by netlink")
def netlink(facts: Facts) -> str:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as one:
        one.settimeout(_SECONDS)
        request = struct.pack("IHHIIBxxx", 20, 18, 0x301, 1, 0, 0)  # RTM_GETLINK, dump
        one.send(request)
        answer = one.recv(65_536)
    if len(answer) < 100:
        raise Refused(f"{len(answer)} bytes")
    return f"{len(answer)} bytes"


@attack("network", "events of the kernel's devices were subscribed to")
def netlink_uevents(facts: Facts) -> str:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 15) as one:
        one.bind((0, 1))
    return "bound"


@attack("network", "an abstract unix socket of another program was reached")
def abstract_socket(facts: Facts) -> str:
    return _send(socket.AF_UNIX, socket.SOCK_STREAM, facts["abstract_name"], facts["abstract"])


@attack("network", "a datagram reached an abstract unix socket")
def abstract_datagram(facts: Facts) -> str:
    return _send(socket.AF_UNIX, socket.SOCK_DGRAM, facts["abstract_dgram_name"], facts["dgram"])


@attack("network", "a unix socket of another program, like Docker's, was reached")
def path_socket(facts: Facts) -> str:
    return _send(socket.AF_UNIX, socket.SOCK_STREAM, facts["unix_path"], facts["unix"])


@attack("network", "another worker's own unix socket was reached")
def sibling_socket(facts: Facts) -> str:
    return _send(socket.AF_UNIX, socket.SOCK_STREAM, facts["sibling_socket"], facts["sibling"])


@attack("network", "the socket on which clients reach the engine was reached")
def engine_socket(facts: Facts) -> str:
    return _send(socket.AF_UNIX, socket.SOCK_STREAM, facts["engine_socket"], "x")


@attack("network", "the socket on which another worker reaches the engine was reached")
def sibling_engine_socket(facts: Facts) -> str:
    return _send(socket.AF_UNIX, socket.SOCK_STREAM, facts["sibling_engine_socket"], "x")


@attack("network", "the supervisor's socket was reached")
def supervisor_socket(facts: Facts) -> str:
    if not facts["supervisor_socket"]:
        raise Absent("the supervisor has no socket any more")
    return _send(socket.AF_UNIX, socket.SOCK_STREAM, facts["supervisor_socket"], "x")


@attack("network", "a vsock socket, which leads to the host of a virtual machine, was opened")
def vsock(facts: Facts) -> str:
    with socket.socket(40, socket.SOCK_STREAM) as one:
        one.settimeout(_SECONDS)
    return "opened"


@attack("network", "a socket of the kernel's cryptography was opened")
def kernel_crypto(facts: Facts) -> str:
    with socket.socket(38, socket.SOCK_SEQPACKET) as one:
        one.bind(("hash", "sha256"))
    return "bound"


@attack("network", "sockets of rarely used protocols were opened")
def rare_sockets(facts: Facts) -> str:
    opened = []
    # ax25, ipx, appletalk, x25, decnet, rds, llc, tipc, bluetooth, ieee802154, can, smc, xdp
    for family in (3, 4, 5, 9, 12, 21, 26, 30, 31, 36, 29, 43, 44):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW):
            try:
                socket.socket(family, kind).close()
            except OSError:
                continue
            opened.append(str(family))
    if not opened:
        raise Refused("none could be opened")
    return "families " + " ".join(opened)


@attack("network", "a descriptor that was sent over a unix socket left the worker's tree")
def pass_descriptor(facts: Facts) -> str:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
        one.settimeout(_SECONDS)
        one.connect(facts["unix_path"])
        socket.send_fds(one, [facts["unix"].encode()], [os.open(".", os.O_RDONLY)])
        time.sleep(0.05)
    return "sent"
