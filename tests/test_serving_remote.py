"""Remote pictures: public hosts only, the address that was checked, nothing followed, nothing without end."""

import asyncio
import gzip
import http.server
import shutil
import socket
import ssl
import subprocess
import threading
from contextlib import contextmanager, suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving_requests import picture
from test_serving_pictures import file_of

from gmai_vl.serving.limits import Limits
from gmai_vl.serving.refusals import Refusal
from gmai_vl.serving.remote import fetch_picture, is_public

LIMITS = Limits(image_bytes=50_000)
HOST = "pictures.example"
SECRET = "Jane-Doe"
URL = f"https://{HOST}/{SECRET}.png"
PNG = file_of(picture(0), "PNG")


@pytest.mark.parametrize(
    "address",
    [
        *(
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
        ),
        *("224.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "240.0.0.1"),
        *(
            "::1",
            "::",
            "fe80::1",
            "fe80::1%eth0",
            "fc00::1",
            "ff02::1",
            "2001:db8::1",
            "3fff::1",
            "fec0::1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
        ),
        *("::7f00:1", "64:ff9b::7f00:1", "64:ff9b::808:808", "2002:7f00:1::", "2001:0:7f00:1::", "64:ff9b:1::1"),
        *("192.0.0.1", "192.88.99.1", "198.51.100.1", "203.0.113.1", "198.19.255.255", "239.255.255.255"),
        *("172.31.255.255", "100.127.255.255", "169.254.0.0", "127.255.255.255", "0.1.2.3"),
        *("::8.8.8.8", "::ffff:0:8.8.8.8", "2002:808:808::", "2001:0:808:808::", "100::1", "2001:2::1", "2001:10::1"),
        *("fdff::1", "fe80::1%1", "febf::1", "ff0e::1", "5f00::1"),
        *("", "localhost", "2130706433", "0x7f.1", "0x7f000001", "0177.0.0.1", "127.1", "017700000001", "8.8.8.8/0"),
    ],
)
def test_addresses_that_are_none_of_the_public_network(address):
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        *(
            "8.8.8.8",
            "93.184.215.14",
            "172.15.255.255",
            "172.32.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "169.253.255.255",
        ),
        *("2606:4700::1111", "2a00:1450::1", "2001:4860:4860::8888"),
    ],
)
def test_addresses_that_are(address):
    assert is_public(address)


def get(url, **more):
    return asyncio.run(fetch_picture(url, LIMITS, "p", **more))


def refused(url, **more):
    with pytest.raises(Refusal) as refusal:
        get(url, **more)
    assert refusal.value.line.startswith("p: ")
    assert refusal.value.param == "p"
    assert SECRET not in refusal.value.line
    assert HOST not in refusal.value.line
    return refusal.value.status


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/a.png",
        "ftp://example.org/a.png",
        "https://example.org:8443/a.png",
        "https://user@example.org/a.png",
        "https://user:word@example.org/a.png",
        "https:///a.png",
        "https://[::1",
        "https://example.org:99999/",
        "https://" + "a" * 70 + ".example/",
        "//example.org/a.png",
        "https://exa\x01mple.org/",
        "https://example.org/\x7f",
        "https://example.org/" + "a" * 70_000,
        "https://⒈.org/",
        "https://a..b/",
    ],
)
def test_addresses_that_are_not_asked_at_all(url):
    asked = []

    async def resolve(host):
        asked.append(host)
        return ["8.8.8.8"]

    assert refused(url, resolve=resolve) == 400
    assert not asked


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "127.0.0.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "169.254.169.254",
        "localhost.",
        "LOCALHOST",
        "127.1",
        "１２７.0.0.1",
        "127。0。0。1",
        "①②⑦.⓪.⓪.①",
        "%31%32%37.0.0.1",
        "[::]",
        "[fe80::1%25lo]",
    ],
)
def test_every_spelling_of_this_machine_is_refused(host):
    assert refused(f"https://{host}/a.png") in (400, 422)


def test_one_private_address_among_public_ones_is_enough():
    async def resolve(_host):
        return ["8.8.8.8", "10.0.0.1"]

    assert refused(URL, resolve=resolve) == 400


def test_a_name_that_is_never_resolved_is_not_waited_for():
    async def resolve(_host):
        await asyncio.Event().wait()

    assert refused(URL, resolve=resolve, seconds=0.3) == 422


def test_no_address_is_none_that_may_be_asked():
    async def resolve(_host):
        return []

    assert refused(URL, resolve=resolve) == 400


def test_a_host_without_an_address():
    async def resolve(_host):
        raise OSError("no such host")

    assert refused(URL, resolve=resolve) == 422


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl on the path, which makes the certificate of a server")
    folder = tmp_path_factory.mktemp("tls")
    words = f"req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN={HOST} -addext"
    command = [openssl, *words.split(), f"subjectAltName=DNS:{HOST}"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


class IPv6Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6


@contextmanager
def host(certificate, answer, address="127.0.0.1"):
    """Serve https on this machine; yield what `fetch_picture` needs to ask it."""
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append((self.path, dict(self.headers)))
            answer(self)

        def log_message(self, *_words):
            pass

    server = (IPv6Server if ":" in address else http.server.ThreadingHTTPServer)((address, 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    async def resolve(_host):
        return [address]

    trusted = ssl.create_default_context(cafile=str(certificate / "cert.pem"))
    allowed = {"resolve": resolve, "is_allowed": lambda _address: True, "trusted": trusted, "port": server.server_port}
    try:
        yield allowed, seen
    finally:
        server.shutdown()
        server.server_close()


def reply(content, status=200, **headers):
    def answer(handler):
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("content-length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def test_a_picture_is_fetched_under_the_name_of_its_host(certificate):
    with host(certificate, reply(PNG)) as (allowed, seen):
        assert get(f"https://{HOST}/a.png?b=1#c", **allowed) == PNG
    ((path, headers),) = seen
    assert path == "/a.png?b=1"
    assert headers["host"] == HOST
    assert headers["accept-encoding"] == "identity"


def test_an_address_of_ipv6_is_asked_as_well(certificate):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with host(certificate, reply(PNG), "::1") as (allowed, seen):
        assert get(URL, **allowed) == PNG
    assert seen[0][1]["host"] == HOST


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(certificate, status):
    with host(certificate, reply(b"", status, location="http://127.0.0.1/secret")) as (allowed, seen):
        assert refused(URL, **allowed) == 422
    assert len(seen) == 1


@pytest.mark.parametrize("status", [201, 204, 206, 304, 401, 404, 429, 500])
def test_nothing_but_a_file_is_taken(certificate, status):
    with host(certificate, reply(b"", status)) as (allowed, _):
        assert refused(URL, **allowed) == 422


def test_exactly_the_limit_is_taken(certificate):
    with host(certificate, reply(b"x" * LIMITS.image_bytes)) as (allowed, _):
        assert len(get(URL, **allowed)) == LIMITS.image_bytes
    with host(certificate, reply(b"x" * (LIMITS.image_bytes + 1))) as (allowed, _):
        assert refused(URL, **allowed) == 413


ODD = {
    "cut off": b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nx",
    "a chunk cut off": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nx",
    "no chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n",
    "no http": b"\0\1\2 Jane-Doe\r\n\r\n",
    "nothing": b"",
    "a head without end": b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 10**5,
    "two lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx",
    "a cookie": b"HTTP/1.1 404 Jane-Doe\r\nset-cookie: \xff=;;;=\0x01; expires=Jane-Doe\r\n\r\n",
    "announcements only": b"HTTP/1.1 103 Early\r\n\r\n" * 100,
}


@pytest.mark.parametrize("name", ODD)
def test_what_is_no_reply_is_refused(certificate, name):
    def answer(handler):
        with suppress(OSError):
            handler.wfile.write(ODD[name])

    with host(certificate, answer) as (allowed, _):
        assert refused(URL, **allowed) == 422


def test_a_host_that_does_not_listen_or_says_nothing():
    async def resolve(_host):
        return ["127.0.0.1"]

    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and no word comes
        asked = {"resolve": resolve, "is_allowed": lambda _address: True, "port": silent.getsockname()[1]}
        assert refused(URL, seconds=0.5, **asked) == 422
    assert refused(URL, **asked) == 422


def test_any_address_is_refused_or_asked_where_it_was_checked(certificate):
    """Whatever is taken for its host, the certificate of that name is asked for."""
    with host(certificate, reply(PNG)) as (allowed, seen):

        @settings(max_examples=60)
        @given(
            st.sampled_from(["", "https:", "https://", f"https://{HOST}", f"{URL}?", f"https://x@{HOST}"]),
            st.text(st.characters(codec=None) | st.sampled_from("/\\@:#?[]%.\r\n\t\0 "), max_size=30),
        )
        def check(start, text):
            try:
                assert get(start + text, **allowed) == PNG
            except Refusal as refusal:
                assert refusal.status in (400, 422)
            else:
                assert (start + text).startswith(f"https://{HOST}")

        check()
    assert seen
    for path, headers in seen:
        assert path.startswith("/") and path.isascii() and path.isprintable()
        assert headers["host"] == HOST


def test_another_hosts_certificate_is_not_taken(certificate):
    with host(certificate, reply(PNG)) as (allowed, _):
        assert refused("https://other.example/", **allowed) == 422


def test_a_certificate_that_nobody_vouches_for_is_not_taken(certificate):
    with host(certificate, reply(PNG)) as (allowed, _):
        assert refused(URL, **allowed | {"trusted": None}) == 422


def test_what_is_too_large_is_given_up(certificate):
    def endless(handler):
        handler.send_response(200)
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(b"x" * 10_000)
        except OSError:
            pass

    with host(certificate, endless) as (allowed, _):
        assert refused(URL, **allowed) == 413


def test_what_is_packed_is_not_unpacked(certificate):
    packed = gzip.compress(bytes(10**7))
    with host(certificate, reply(packed, content_encoding="gzip")) as (allowed, _):
        assert get(URL, **allowed) == packed


def test_a_slow_host_is_not_waited_for(certificate):
    """It gives a byte again and again, each of them in time."""
    gate = threading.Event()

    def slow(handler):
        handler.send_response(200)
        handler.end_headers()
        with suppress(OSError):
            while not gate.wait(0.05):
                handler.wfile.write(b"x")

    with host(certificate, slow) as (allowed, _):
        assert refused(URL, seconds=0.5, **allowed) == 422
        gate.set()


def test_a_name_is_looked_up_once_and_the_checked_address_is_asked(certificate):
    """A resolver that would say this machine the second time (DNS rebinding) is not asked a second time."""
    answers = iter([["127.0.0.1"], ["127.0.0.2"]])
    checked = []

    async def resolve(_host):
        return next(answers)

    def is_allowed(address):
        checked.append(address)
        return True

    with host(certificate, reply(PNG)) as (allowed, seen):
        assert get(URL, **allowed | {"resolve": resolve, "is_allowed": is_allowed}) == PNG
    assert checked == ["127.0.0.1"]
    assert len(seen) == 1
    assert next(answers) == ["127.0.0.2"]
