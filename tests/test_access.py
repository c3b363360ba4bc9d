"""Keys of users: their files, and their check on real sockets of libzmq."""

import ctypes
import datetime
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from inphase.access.authenticator import Authenticator, RefusedKey
from inphase.access.client_key import ClientKey
from inphase.access.keys import AllowList, KeyFolder
from inphase.access.rates import USERS_MAX, Rate, Rates
from inphase.errors import AccessError
from peers import until

WAIT_MS = 20_000


@pytest.fixture
def keys(tmp_path: Path) -> KeyFolder:
    """The folder of a service."""
    return KeyFolder(tmp_path / "service")


class Served:
    """A ROUTER that asks for keys, its authenticator, and sockets of clients; for a test."""

    def __init__(self, keys: KeyFolder) -> None:
        self.keys = keys
        self.said: list[RefusedKey] = []
        self.context: zmq.Context[Any] = zmq.Context()
        self.authenticator = Authenticator(self.context, AllowList(keys.folder), self.said.append)
        self.router: zmq.Socket[Any] = self.context.socket(zmq.ROUTER)
        self.router.setsockopt(zmq.LINGER, 0)
        self.router.setsockopt(zmq.HANDSHAKE_IVL, 300)
        keys.server().secure(self.router)
        self.port = self.router.bind_to_random_port("tcp://127.0.0.1")
        self.clients: zmq.Context[Any] = zmq.Context()
        self._sockets: list[zmq.Socket[Any]] = []  # one that nobody holds is closed

    def client(self, key: ClientKey | None) -> "zmq.Socket[Any]":
        """A DEALER that has connected."""
        socket: zmq.Socket[Any] = self.clients.socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        if key is not None:
            key.secure(socket)
        socket.connect(f"tcp://127.0.0.1:{self.port}")
        self._sockets.append(socket)
        return socket

    def receive(self) -> tuple[bytes, str | None]:
        """A message's content, and the name of its user as the list is now."""
        assert self.router.poll(WAIT_MS)
        *_, frame = self.router.recv_multipart(copy=False)
        user = self.authenticator.user_of(frame.get("User-Id"))
        return frame.bytes, None if user is None else user.name

    def close(self) -> None:
        self.clients.destroy(linger=0)
        self.router.close()
        self.authenticator.close()
        self.context.term()


@pytest.fixture
def served(keys: KeyFolder) -> Iterator[Served]:
    made = Served(keys)
    yield made
    made.close()


# ---- who gets in ---------------------------------------------------------------------------------


@pytest.mark.real
def test_a_listed_key_gets_in_and_each_message_names_its_user(
    served: Served, tmp_path: Path
) -> None:
    served.keys.create("anna", "drive", tmp_path / "anna.toml")
    served.client(ClientKey.load(tmp_path / "anna.toml")).send(b"hello")
    assert served.receive() == (b"hello", "anna")
    assert (served.authenticator.admitted, served.authenticator.refused) == (1, 0)


@pytest.mark.real
def test_a_key_that_is_admitted_later_gets_in_with_the_socket_that_was_refused(
    served: Served, tmp_path: Path
) -> None:
    stranger = strange_key(served.keys)
    socket = served.client(stranger)
    socket.send(b"let me in")
    until(lambda: served.authenticator.refused >= 2)  # it tries again by itself
    assert served.router.poll(0) == 0
    admit(served.keys, "ben", stranger)
    assert served.receive() == (b"let me in", "ben")


@pytest.mark.real
def test_a_client_without_a_key_or_for_another_service_sends_nothing(
    served: Served, tmp_path: Path
) -> None:
    anna = served.keys.create("anna", "watch", tmp_path / "anna.toml")
    served.client(None).send(b"no key")
    served.client(anna._replace(server=strange_key(served.keys).public)).send(b"elsewhere")
    served.client(anna).send(b"mine")
    assert served.receive() == (b"mine", "anna")
    assert served.router.poll(0) == 0
    assert served.authenticator.refused == 0  # they did not come as far as the question


@pytest.mark.real
def test_the_next_message_of_a_revoked_key_is_refused_on_its_old_connection(
    served: Served, tmp_path: Path
) -> None:
    old = served.client(served.keys.create("anna", "drive", tmp_path / "anna.toml"))
    old.send(b"one")
    assert served.receive() == (b"one", "anna")
    served.keys.revoke("anna")
    old.send(b"two")
    assert served.receive() == (b"two", None)
    # a new key under the old name does not let the old one in again
    served.keys.create("anna", "drive", tmp_path / "anna2.toml")
    old.send(b"three")
    assert served.receive() == (b"three", None)
    assert served.authenticator.refused == 0
    served.client(ClientKey.load(tmp_path / "anna.toml")).send(b"four")
    until(lambda: bool(served.said))
    assert "the key of anna, revoked at " in served.said[0].reason


@pytest.mark.real
def test_a_handler_that_dies_is_started_again(served: Served, tmp_path: Path) -> None:
    anna = served.keys.create("anna", "watch", tmp_path / "anna.toml")
    (thread,) = [one for one in threading.enumerate() if one.name == "inphase keys"]
    for death in range(1, 4):
        # it is raised at the next question, which is lost
        raised = ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident or 0), ctypes.py_object(MemoryError)
        )
        assert raised == 1
        served.client(anna).send(b"hello")
        assert served.receive() == (b"hello", "anna")
        assert served.authenticator.restarts == death
    assert served.authenticator.is_alive


@pytest.mark.real
def test_refusals_are_told_at_a_bounded_rate_and_all_are_counted(served: Served) -> None:
    strangers = [strange_key(served.keys) for _ in range(40)]
    sockets = [served.client(key) for key in strangers]
    until(lambda: served.authenticator.refused > 200)
    told = len(served.said)
    for socket in sockets:
        socket.close()
    assert 20 <= told < 200
    counts: dict[str, int] = {}
    for one in served.said:
        counts[one.public] = counts.get(one.public, 0) + one.times
    assert set(counts) <= {key.public for key in strangers}
    assert sum(counts.values()) <= served.authenticator.refused
    assert {(one.address, one.reason) for one in served.said} == {("127.0.0.1", "not on the list")}


@pytest.mark.real
def test_a_context_has_one_authenticator(served: Served) -> None:
    with pytest.raises(zmq.ZMQError):
        Authenticator(served.context, AllowList(served.keys.folder))


def strange_key(keys: KeyFolder) -> ClientKey:
    """A key that nobody has admitted, of one who knows the service's public key."""
    public, secret = (key.decode() for key in zmq.curve_keypair())
    return ClientKey("stranger", public, secret, keys.server().public)


def admit(keys: KeyFolder, name: str, key: ClientKey) -> None:
    """By hand, as a person edits the file."""
    place = keys.folder / "allowed.toml"
    text = place.read_text() if place.exists() else ""
    text += f'[key.{name}]\npublic = "{key.public}"\nmay = "watch"\n'
    text += "created = 2026-11-30T22:00:00Z\n"
    new = keys.folder / "new"
    new.touch(mode=0o600)
    new.write_text(text)
    new.replace(place)


# ---- the folder ----------------------------------------------------------------------------------


def test_a_key_is_made_listed_and_revoked(keys: KeyFolder, tmp_path: Path) -> None:
    made = keys.create("anna", "drive", tmp_path / "anna.toml")
    assert ClientKey.load(tmp_path / "anna.toml") == made
    assert made.server == keys.server().public
    (listed,), gone = keys.listed()
    assert (listed.name, listed.public, listed.may_drive, gone) == ("anna", made.public, True, [])
    assert listed.created.tzinfo is not None and listed.created.tzinfo == datetime.UTC
    keys.revoke("anna")
    kept, (revoked,) = keys.listed()
    assert (kept, revoked.name, revoked.public) == ([], "anna", made.public)
    again = keys.create("anna", "watch", tmp_path / "anna2.toml")
    assert again.public != made.public
    assert AllowList(keys.folder).find(made.public) is None


def test_files_are_for_their_owner_alone(keys: KeyFolder, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        made = KeyFolder(tmp_path / "deep" / "other")
        made.create("anna", "watch", tmp_path / "anna.toml")
        made.revoke("anna")
    finally:
        os.umask(before)
    assert made.folder.stat().st_mode & 0o777 == 0o700
    files = [*made.folder.iterdir(), tmp_path / "anna.toml"]
    assert [file.name for file in files if file.stat().st_mode & 0o777 != 0o600] == []
    secret = ClientKey.load(tmp_path / "anna.toml").secret
    assert not [file for file in made.folder.iterdir() if secret in file.read_text()]


@pytest.mark.parametrize("name", ["", "Anna", "anna b", "../x", "1a", "a" * 33, "anna\n", "änna"])
def test_what_is_no_name_is_refused(keys: KeyFolder, tmp_path: Path, name: str) -> None:
    with pytest.raises(AccessError, match="is no name"):
        keys.create(name, "watch", tmp_path / "new.toml")
    assert keys.listed() == ([], []) and not (tmp_path / "new.toml").exists()


def test_nothing_is_overwritten(keys: KeyFolder, tmp_path: Path) -> None:
    file = tmp_path / "anna.toml"
    file.write_text("mine")
    with pytest.raises(AccessError, match="is there already; give another name"):
        keys.create("anna", "watch", file)
    assert file.read_text() == "mine" and keys.listed() == ([], [])
    keys.create("anna", "watch", tmp_path / "second.toml")
    with pytest.raises(AccessError, match=r"anna has a key already, .*inphase keys revoke anna"):
        keys.create("anna", "watch", tmp_path / "third.toml")
    assert not (tmp_path / "third.toml").exists()
    with pytest.raises(AccessError, match=r"no key has the name 'ben'; there are: anna"):
        keys.revoke("ben")


def test_a_loosened_mode_is_refused_and_its_remedy_works(keys: KeyFolder, tmp_path: Path) -> None:
    made = keys.create("anna", "watch", tmp_path / "anna.toml")
    allowed = AllowList(keys.folder)
    places = [keys.folder, keys.folder / "server.toml", keys.folder / "allowed.toml"]
    for place in [*places, tmp_path / "anna.toml"]:
        mode = place.stat().st_mode & 0o777
        for loose in (mode | 0o040, mode | 0o002):
            place.chmod(loose)
            with pytest.raises(AccessError, match=rf"\(mode {loose:04o}\); chmod") as refused:
                KeyFolder(keys.folder).server()
                keys.listed()
                ClientKey.load(tmp_path / "anna.toml")
            if place in (keys.folder, keys.folder / "allowed.toml"):
                assert allowed.find(made.public) is None and allowed.trouble is not None
            remedy = str(refused.value).rpartition("; ")[2]
            subprocess.run(remedy.split(), check=True)
            assert place.stat().st_mode & 0o777 == mode
            assert allowed.find(made.public) is not None
    assert ClientKey.load(tmp_path / "anna.toml") == made


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda text: text + "[key", "allowed.toml: "),
        (lambda text: text.replace('may = "watch"', 'may = "own"'), "Invalid enum value 'own'"),
        (lambda text: text + "speed = 3\n", "unknown field `speed`"),
        (lambda text: re.sub(r'public = ".', 'public = "', text), "key of 40 letters"),
        (lambda text: text.replace("key.anna", "key.Anna"), "is no name"),
        (lambda text: text + text.replace("key.anna", "key.ben"), "has the key of anna"),
        (lambda text: "\0", "allowed.toml: "),
        (lambda text: text + "#" * (1 << 20), "has more than 1048576 bytes"),
    ],
)
def test_a_list_that_cannot_be_read_lets_nobody_in(
    keys: KeyFolder, tmp_path: Path, edit: Any, words: str
) -> None:
    made = keys.create("anna", "watch", tmp_path / "anna.toml")
    allowed = AllowList(keys.folder)
    assert allowed.find(made.public) is not None
    place = keys.folder / "allowed.toml"
    text = place.read_text()
    place.write_text(edit(text))
    assert allowed.find(made.public) is None
    assert allowed.trouble is not None and words in allowed.trouble
    assert allowed.reason(made.public) == allowed.trouble
    place.write_text(text)
    assert allowed.find(made.public) is not None and allowed.trouble is None


def test_a_client_file_that_was_damaged_is_refused(keys: KeyFolder, tmp_path: Path) -> None:
    keys.create("anna", "watch", tmp_path / "anna.toml")
    other = keys.create("ben", "watch", tmp_path / "ben.toml")
    place = tmp_path / "anna.toml"
    text = place.read_text()
    public = ClientKey.load(place).public
    for damaged in (text.replace(public, other.public), text.replace("server", "served"), ""):
        place.write_text(damaged)
        with pytest.raises(AccessError, match=r"anna\.toml.*ask for a new"):
            ClientKey.load(place)
    place.unlink()
    with pytest.raises(AccessError, match="cannot be opened: No such file"):
        ClientKey.load(place)


def test_two_processes_that_make_keys_lose_none(keys: KeyFolder, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from inphase.access.keys import KeyFolder\n"
        "folder, kind = Path(sys.argv[1]), sys.argv[2]\n"
        "for n in range(10): KeyFolder(folder).create(f'{kind}{n}', 'watch', "
        "folder.parent / f'{kind}{n}.toml')"
    )
    done = [
        subprocess.Popen([sys.executable, "-c", code, str(keys.folder), kind]) for kind in "abc"
    ]
    assert [child.wait(60) for child in done] == [0, 0, 0]
    listed = {key.name: key.public for key in keys.listed()[0]}
    assert len(listed) == 30
    for name, public in listed.items():
        client = ClientKey.load(tmp_path / f"{name}.toml")
        assert (client.public, client.server) == (public, keys.server().public)


# ---- rates ---------------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(
        st.integers(0, 3_000_000_000),  # ns that pass
        st.sampled_from(["anna", "ben"]),
        st.integers(0, 1200),  # bytes
    ),
    max_size=120,
)
RATES = st.builds(
    Rate,
    messages=st.integers(1, 50),
    messages_burst=st.integers(1, 20),
    size=st.integers(1, 2000),
    size_burst=st.integers(1, 3000),
)


@given(STEPS, RATES)
def test_in_no_time_more_passes_than_the_rate_and_no_user_takes_from_another(
    steps: list[tuple[int, str, int]], rate: Rate
) -> None:
    now = 0
    both = Rates(rate, lambda: now)
    alone = {user: Rates(rate, lambda: now) for user in ("anna", "ben")}
    passed: dict[str, list[tuple[int, int]]] = {"anna": [], "ben": []}
    refused = dict.fromkeys(passed, 0)
    for gap, user, size in steps:
        now += gap
        passes = both.take(user, size)
        assert passes == alone[user].take(user, size)
        if passes:
            passed[user].append((now, size))
        else:
            refused[user] += 1
    assert both.refused == {user: count for user, count in refused.items() if count}
    for seen in passed.values():
        for first in range(len(seen)):
            for last in range(first, len(seen)):
                span = seen[last][0] - seen[first][0]
                taken = seen[first : last + 1]
                most = rate.messages_burst * 10**9 + rate.messages * span
                assert len(taken) * 10**9 <= most
                most = rate.size_burst * 10**9 + rate.size * span
                assert sum(size for _, size in taken) * 10**9 <= most


@given(RATES, st.integers(0, 3000))
def test_who_waits_long_enough_passes_unless_the_message_is_too_large(
    rate: Rate, size: int
) -> None:
    now = 0
    rates = Rates(rate, lambda: now)
    while rates.take("anna", 0):
        pass
    now += max(-(-rate.size_burst // rate.size), -(-rate.messages_burst // rate.messages)) * 10**9
    assert rates.take("anna", size) == (size <= rate.size_burst)


def test_the_memory_of_rates_is_bounded() -> None:
    now = 0
    rates = Rates(Rate(messages=1, messages_burst=2), lambda: now)
    for number in range(USERS_MAX):
        assert rates.take(f"user {number}", 1)
    assert not rates.take("one more", 1)
    now += 10**9
    assert rates.take("one more", 1)
    assert not rates.take("user 0", 10**9)
