"""Services are found by mDNS, with the real zeroconf library, on loopback alone."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import ifaddr
import pytest
from zeroconf import ServiceBrowser, ServiceInfo, ServiceListener, Zeroconf

from inphase.access.keys import KeyFolder
from inphase.client.finding import (
    ROBOTS_MAX,
    SERVICE_TYPE,
    FoundService,
    find_services,
    found_service,
    properties_of,
)
from inphase.errors import ServiceError
from inphase.service.doors import RemotePlaces
from inphase.service.published.announcing import Announcer, listening_at
from namespaces import OtherHost, can_be_made
from peers import until
from runtimes import Robot
from serving import Served

pytestmark = pytest.mark.real
LOOPBACK = "127.0.0.1"


@pytest.fixture
def zeroconf() -> Iterator[Zeroconf]:
    made = Zeroconf(interfaces=[LOOPBACK])
    yield made
    made.close()


class Names(ServiceListener):
    """The services that are there now, by name."""

    def __init__(self) -> None:
        self.here: set[str] = set()
        self.gone = threading.Event()

    def add_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        self.here.add(name)

    def remove_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        self.here.discard(name)
        self.gone.set()

    def update_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        self.here.add(name)


def heard_with(address: str) -> dict[str, FoundService]:
    """All services that are heard, by address, once that one is: a loaded machine answers late."""
    found: dict[str, FoundService] = {}

    def is_heard() -> bool:
        found.update({one.address: one for one in find_services(1.5, [LOOPBACK])})
        return address in found

    until(is_heard)
    return found


def test_a_served_robot_is_announced_where_it_listens_and_taken_back(zeroconf: Zeroconf) -> None:
    names = Names()
    with Robot() as robot, Served(robot, users={"ann": "drive"}) as served:
        port = int(served.remote.rpartition(":")[2])
        browser = ServiceBrowser(zeroconf, SERVICE_TYPE, names)
        until(lambda: any(f"-{port}." in name for name in names.here))
        (name,) = [name for name in names.here if f"-{port}." in name]
        info = zeroconf.get_service_info(SERVICE_TYPE, name, 10_000)
        assert info is not None
        assert (info.parsed_addresses(), info.port) == ([LOOPBACK], port)
        server = KeyFolder(served.folder / "keys").server()
        assert info.decoded_properties == {"key": server.public[:8], "robot0": robot.name}
        command = [sys.executable, "-m", "inphase", "robots", "--json", "--interface", LOOPBACK]
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, env=served.environment
        )
        told = json.loads(done.stdout)
        assert {"robot": robot.name, "service": "this host", "key": ""} in told
        there = {"robot": robot.name, "service": served.remote, "key": server.public[:8]}
        assert there in told
        assert served.end() == 0
        until(names.gone.is_set)
        assert name not in names.here
        browser.cancel()


def test_one_service_tells_all_its_robots() -> None:
    places = RemotePlaces(LOOPBACK, 47001)
    said: list[str] = []
    announcer = Announcer(places, ["arm", "demo"], "abcdefgh", said.append)
    announcer.start()
    try:
        address = f"tcp://{LOOPBACK}:47001"
        found = heard_with(address)[address]
        assert found == FoundService(address, ("arm", "demo"), "abcdefgh")
        assert said == []
    finally:
        announcer.close()


def test_what_others_announce_is_found_or_is_none_of_ours(zeroconf: Zeroconf) -> None:
    for number, properties in enumerate(({"robot0": "arm"}, {"robot0": "\x1b[2J"}, {})):
        info = ServiceInfo(
            SERVICE_TYPE,
            f"other{number}.{SERVICE_TYPE}",
            47010 + number,
            properties=properties,
            server=f"other{number}.local.",
            parsed_addresses=[LOOPBACK],
        )
        zeroconf.register_service(info)
    addresses = [f"tcp://{LOOPBACK}:{47010 + number}" for number in range(3)]
    found = heard_with(addresses[0])
    assert found[addresses[0]].robots == ("arm",)
    assert not set(addresses[1:]) & set(found)


@pytest.mark.parametrize(
    ("properties", "wanted"),
    [
        ({b"robot0": b"arm", b"key": b"abcdefgh"}, (("arm",), "abcdefgh")),
        ({b"robot0": b"arm", b"key": b"\x1b[31mred"}, (("arm",), "")),
        ({b"robot0": b"../x", b"robot1": b"arm"}, (("arm",), "")),
        ({b"robot0": b"[link=http://x]arm"}, None),
        ({b"robot0": None, b"\xff": b"\xff"}, None),
        ({}, None),
    ],
)
def test_what_is_told_is_letters_of_names_alone(
    properties: dict[bytes, bytes | None], wanted: Any
) -> None:
    found = found_service(["10.0.0.1"], 7447, properties)
    assert (None if found is None else (found.robots, found.fingerprint)) == wanted
    assert found_service([], 7447, properties) is None


def test_a_service_tells_a_bounded_number_of_robots() -> None:
    told = properties_of([f"arm{number}" for number in range(100)], "abcdefgh")
    assert len(told) == 1 + ROBOTS_MAX


def test_it_is_told_on_the_interfaces_alone_at_which_it_listens() -> None:
    assert listening_at(LOOPBACK) == listening_at("lo") == ([LOOPBACK], "lo")
    assert listening_at("127.0.1.1") == (["127.0.1.1"], "lo")
    assert listening_at("::1") == ([], "")
    everywhere, interface = listening_at("0.0.0.0")
    assert LOOPBACK not in everywhere and interface == ""
    mine = {str(ip.ip) for adapter in ifaddr.get_adapters() for ip in adapter.ips if ip.is_IPv4}
    assert set(everywhere) == {one for one in mine if not one.startswith("127.")}


ASK = """
import json, socket, sys
from zeroconf import DNSOutgoing, DNSQuestion
QUERY, PTR, IN = 0, 12, 1
asked = DNSOutgoing(QUERY)
asked.add_question(DNSQuestion(sys.argv[1], PTR, IN))
here, there = sys.argv[2:]
line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
line.bind((here, 0))
line.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(here))
line.settimeout(0.5)
answers = 0
for place in (there, "224.0.0.251") * 2:
    line.sendto(asked.packets()[0], (place, 5353))
    try:
        answers += b"robot" in line.recv(9000) or 1
    except TimeoutError:
        pass
print(answers)
"""
"""asks at that address, and on the network, from a port of its own: it is answered there"""


@pytest.mark.skipif(not can_be_made(), reason="network namespaces want root and /dev/net/tun")
@pytest.mark.long
def test_another_host_hears_of_a_service_only_where_it_listens() -> None:
    with OtherHost() as other:
        here, there = other.addresses

        def answers(place: str, port: int) -> int:
            announcer = Announcer(RemotePlaces(place, port), ["arm"], "abcdefgh", pytest.fail)
            announcer.start()
            announcer._thread.join()
            asked = other.command(sys.executable, "-c", ASK, SERVICE_TYPE, there, here)
            done = subprocess.run(asked, capture_output=True, text=True, check=True)
            announcer.close()
            return int(done.stdout)

        assert answers(here, 47040) > 0
        assert answers(LOOPBACK, 47041) == 0


def test_an_address_that_is_not_of_this_machine_is_refused_and_nobody_is_asked() -> None:
    with pytest.raises(ServiceError, match=r"203\.0\.113\.9 is no address of this machine.*127"):
        find_services(0.1, ["127.0.0.1", "203.0.113.9"])
    command = [sys.executable, "-m", "inphase", "robots", "--interface", "203.0.113.9"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 15 and "203.0.113.9" in done.stderr


def test_without_the_package_a_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zeroconf", None)
    said: list[str] = []
    announcer = Announcer(RemotePlaces(LOOPBACK, 47002), ["arm"], "abcdefgh", said.append)
    announcer.start()
    until(lambda: bool(said))
    announcer.close()
    (text,) = said
    assert text.endswith("needs the package zeroconf; install it: pip install 'inphase[serve]'")
