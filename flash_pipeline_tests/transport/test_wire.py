import gzip
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from flash_pipeline.errors import (
    ExchangeError,
    ExchangeFault,
    ExchangeUnreachable,
    InvalidConfig,
    RequestRejected,
)
from flash_pipeline.transport import Answer, Timeouts
from flash_pipeline.transport.wire import PoliteSession, ask

QUICK = Timeouts(connect_s=2, read_s=0.5, total_s=1)
JSON = "Content-Type: application/json"


@pytest.fixture
def get():
    """Ask a URL for its answer, as the transport does."""
    with PoliteSession(QUICK, trust_env=False, user_agent="tests") as session:

        def get(url: str, *, timeouts: Timeouts = QUICK, most_bytes: int = 1 << 20) -> Answer:
            return ask(
                session,
                url,
                {"symbol": "BTCUSDT"},
                timeouts=timeouts,
                most_bytes=most_bytes,
                symbol="BTCUSDT",
            )

        yield get


def _drip(content: bytes, pause_s: float):
    def drip(connection: socket.socket) -> None:
        for byte in content:
            connection.sendall(bytes([byte]))
            time.sleep(pause_s)

    return drip


def _reset_after(content: bytes):
    def reset(connection: socket.socket) -> None:
        connection.sendall(content)
        time.sleep(0.05)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return reset


def test_an_answer_comes_with_its_status_headers_and_body(serve, http, get):
    server = serve(http(b'{"a": 1}', JSON, "X-Odd-CASE: Yes", status="418 Odd"))
    answer = get(f"{server.url}/v5/market/time")
    assert (answer.status, answer.body, answer.media_type) == (418, b'{"a": 1}', "application/json")
    assert answer.headers["x-odd-case"] == "Yes"
    assert answer.url == f"{server.url}/v5/market/time?symbol=BTCUSDT"
    assert server.requests[0].startswith(b"GET /v5/market/time?symbol=BTCUSDT HTTP/1.1\r\n")
    assert b"User-Agent: tests\r\n" in server.requests[0]


def test_a_body_in_chunks_is_put_together(serve, get):
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert get(serve(head + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n").url).body == b"abcde"


def test_a_compressed_body_is_decompressed(serve, http, get):
    packed = http(gzip.compress(b"candles"), "Content-Encoding: gzip")
    assert get(serve(packed).url).body == b"candles"


def test_a_connection_that_ends_before_the_answer_is_unreachable(serve, get):
    with pytest.raises(ExchangeUnreachable, match=r"127\.0\.0\.1:.* does not answer") as caught:
        get(serve(b"").url)
    assert caught.value.symbol == "BTCUSDT"


def test_a_connection_that_ends_within_the_headers_gives_no_body(serve, get):
    assert get(serve(b"HTTP/1.1 200 OK\r\nContent-Le").url).body == b""


def test_a_truncated_body_is_noticed_by_its_length(serve, http, get):
    with pytest.raises(ExchangeUnreachable, match="ChunkedEncodingError"):
        get(serve(http(b'{"retCode": 0', length=500)).url)


def test_a_truncated_body_in_chunks_is_noticed(serve, get):
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    with pytest.raises(ExchangeUnreachable):
        get(serve(head + b"ff\r\nabc").url)


def test_a_reset_in_the_middle_of_a_body_is_unreachable(serve, http, get):
    with pytest.raises(ExchangeUnreachable):
        get(serve(_reset_after(http(b"abc", length=500))).url)


def test_a_compressed_body_that_is_garbled_is_unreachable(serve, http, get):
    with pytest.raises(ExchangeUnreachable, match="ContentDecodingError"):
        get(serve(http(b"no gzip", "Content-Encoding: gzip")).url)


def test_a_silent_server_is_given_up_on(serve, get):
    with pytest.raises(ExchangeUnreachable, match="ReadTimeout"):
        get(serve(lambda _: time.sleep(1)).url)


def test_a_body_that_drips_ends_at_the_deadline(serve, http, get):
    started = time.monotonic()
    with pytest.raises(ExchangeUnreachable):
        get(serve(_drip(http(b"x" * 1000), 0.01)).url)
    assert 0.9 < time.monotonic() - started < 5


def test_headers_that_drip_end_at_the_deadline(serve, get):
    started = time.monotonic()
    with pytest.raises(ExchangeUnreachable):
        get(serve(_drip(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1000, 0.01)).url)
    assert 0.9 < time.monotonic() - started < 5


def test_a_slow_answer_within_the_deadline_is_read(serve, http, get):
    assert get(serve(_drip(http(b"x" * 20), 0.005)).url).body == b"x" * 20


def test_a_connection_is_used_again_after_a_slow_answer(http, get):
    ready = threading.Event()
    accepted = []

    def serve_twice(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        accepted.append(connection)
        for _ in range(2):
            connection.recv(65536)
            connection.sendall(http(b"same").replace(b"Connection: close\r\n", b""))
        ready.wait(5)
        connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve_twice, args=[listener])
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        bodies = [get(url).body]
        time.sleep(1.1)  # the first answer's deadline passes
        bodies.append(get(url).body)
        ready.set()
        thread.join()
    assert bodies == [b"same", b"same"]
    assert len(accepted) == 1


@pytest.mark.parametrize("length", [1_000_001, None])
def test_an_oversized_answer_is_not_read_to_its_end(serve, http, get, length):
    sent = []

    def flood(connection: socket.socket) -> None:
        connection.sendall(http(b"", length=10**12) if length is None else http(b"x" * length))
        while length is None:
            connection.sendall(b"x" * 65536)
            sent.append(65536)

    with pytest.raises(ExchangeFault, match="answered more than 1000000 bytes"):
        get(serve(flood).url, most_bytes=1_000_000)
    assert sum(sent) < 50_000_000


def test_an_answer_of_the_largest_size_is_read(serve, http, get):
    assert len(get(serve(http(b"x" * 1_000_000)).url, most_bytes=1_000_000).body) == 1_000_000


def test_a_compressed_answer_is_bounded_by_its_true_size(serve, http, get):
    bomb = http(gzip.compress(b"0" * 50_000_000), "Content-Encoding: gzip")
    with pytest.raises(ExchangeFault, match="more than 1000000 bytes"):
        get(serve(bomb).url, most_bytes=1_000_000)


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Again", "308 Moved"])
def test_a_redirect_to_another_host_is_refused(serve, http, get, status):
    elsewhere = serve(http(b"stolen"))
    server = serve(http(b"", f"Location: {elsewhere.url}/x", status=status))
    with pytest.raises(RequestRejected, match=f"HTTP {status[:3]}, a redirect to '{elsewhere.url}"):
        get(server.url)
    assert elsewhere.requests == []


@pytest.mark.parametrize("location", ["http://[::1", "//", "http://a b/", "\x00", "https://x:y/"])
def test_a_garbled_redirect_is_refused_as_well(serve, http, get, location):
    with pytest.raises(RequestRejected, match="a redirect to"):
        get(serve(http(b"", f"Location: {location}", status="302 Found")).url)


def test_the_body_of_a_redirect_is_not_read(serve, get):
    def flood(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n")
        while True:
            connection.sendall(b"x" * 65536)

    with pytest.raises(RequestRejected, match="a redirect to '/x'"):
        get(serve(flood).url)


@pytest.mark.parametrize("url", ["http://host:port/", "http:///x", "ftp://127.0.0.1/", "x", ""])
def test_a_url_that_cannot_be_asked_is_rejected_at_once(get, url):
    with pytest.raises(RequestRejected, match="cannot be asked"):
        get(url)


def test_secrets_of_a_url_stand_in_no_message(serve, http, get):
    location = "Location: https://me:secret@login.test/?token=secret"
    moved = serve(http(b"", location, status="302 Found"))
    with pytest.raises(RequestRejected) as redirect:
        get(f"{moved.url}/?token=secret")
    with pytest.raises(ExchangeUnreachable) as closed:
        get("http://me:secret@127.0.0.1:9/")
    with pytest.raises(RequestRejected) as unusable:
        get("http://me:secret@host:port/")
    for error in (redirect, closed, unusable):
        assert "secret" not in str(error.value)
    answer = get(f"{serve(http(b'ok')).url}/?token=secret")
    assert "?token=***" in answer.url


def test_an_absent_ca_bundle_is_said(get, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/ca.pem")
    with (
        PoliteSession(QUICK, trust_env=True, user_agent="tests") as session,
        pytest.raises(RequestRejected, match=r"cannot be asked: .*/nowhere/ca\.pem"),
    ):
        ask(session, "https://127.0.0.1:9/", {}, timeouts=QUICK, most_bytes=10)


def test_cookies_of_an_answer_do_not_hurt(serve, http, get):
    server = serve(http(b"a", "Set-Cookie: a=b; Path=/; Expires=never", "Set-Cookie: \xff"))
    assert get(server.url).body == b"a"


@settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50
)
@given(st.binary(max_size=120))
@example(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab")
@example(b"HTTP/1.1 200 OK\r\nContent-Length: -7\r\n\r\nab")
@example(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
@example(b"HTTP/1.1 999999 Odd\r\n\r\n")
@example(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500 + b"\r\n")
@example(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n")
@example(b"HTTP/1.1 100 Continue\r\n\r\n" * 50)
@example(b"HTTP/1.1 200 OK\r\nContent-Encoding: br, gzip, deflate\r\n\r\nx")
@example(b"\x16\x03\x01")
def test_any_bytes_over_the_wire_are_an_answer_or_an_error_of_the_tree(serve, get, content):
    server = serve(content)
    with suppress(ExchangeError):
        answer = get(server.url)
        assert isinstance(answer.body, bytes)


@pytest.mark.parametrize("times", [{"connect_s": 0}, {"read_s": -1}, {"total_s": float("nan")}])
def test_a_timeout_that_is_not_positive_is_refused(times):
    with pytest.raises(InvalidConfig, match=f"timeout {next(iter(times))}="):
        Timeouts(**times)


@pytest.fixture(scope="module")
def self_signed(tmp_path_factory):
    """The certificate and key of a server that nobody vouches for."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(
        certificate.public_bytes(pem)
        + key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


@contextmanager
def _tls_port(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """Accept one connection, leave it to `answer`, and give the address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}/"
        thread.join()


def test_a_certificate_that_nobody_vouches_for_is_terminal(get, self_signed):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed)

    def handshake(connection: socket.socket) -> None:
        context.wrap_socket(connection, server_side=True).close()

    with (
        _tls_port(handshake) as url,
        pytest.raises(RequestRejected, match="the TLS certificate is not valid"),
    ):
        get(url)


def test_a_failure_of_tls_that_is_not_the_certificates_may_pass(get):
    def talk_plainly(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with (
        _tls_port(talk_plainly) as url,
        pytest.raises(ExchangeUnreachable, match="SSLError"),
    ):
        get(url)
