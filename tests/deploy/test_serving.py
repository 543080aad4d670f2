"""A policy behind a real socket, asked by the client that a robot's computer would have."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from mmbc_jax import serve
from mmbc_jax.core.errors import UserError
from mmbc_jax.deploy import serving
from tests.deploy._loaded import loaded, served

pytest.importorskip("msgpack")
pytest.importorskip("websockets")
from mmbc_jax.deploy import client as client_lib  # noqa: E402

OBS = np.random.default_rng(2).normal(size=(3, 2)).astype(np.float32)


@pytest.fixture(scope="module")
def server():
    """A server on a free port, its number."""
    with served() as port:
        yield port


def test_a_client_gets_the_policys_own_chunks(server):
    with client_lib.Client(port=server, timeout=60) as client:
        assert client.metadata["commands"] == [0, 1]
        assert client.metadata["low"] == [-0.15, -0.15]
        assert client.metadata["modes"][1]["z"] == 1
        answer = client.infer({"obs": OBS, "z": np.array([0, 1, 1]), "key": 5})
        np.testing.assert_array_equal(answer["chunk"], loaded("finetune")(OBS, [0, 1, 1], 5))
        assert answer["seconds"] > 0
        one = client.infer({"obs": OBS[0].tolist(), "z": 1, "deterministic": True})["chunk"]
        np.testing.assert_array_equal(one, loaded("finetune")(OBS[0], 1, deterministic=True))


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"obs": np.zeros(3)}, "observation state has shape [3]"),
        ({"z": 1}, "must be a map with obs"),
        ([1], "must be a map with obs"),
        ({"obs": [0, 0], "z": 7}, "z = 7: stage finetune has z 0, 1"),
        ({"obs": [0, 0], "mode": 1}, "the request has 'mode'; it may have obs, z, key, deterministic"),
        ({"obs": [0, 0], "deterministic": 3}, "deterministic = 3 must be true or false"),
        ({"obs": np.zeros((1025, 2))}, "1025 observations, must have 1024 at most"),
        ({"obs": {"__array__": "|O", "shape": [1], "data": b"12345678"}}, "no msgpack of a request"),
        ({"obs": {"__array__": "<f4", "shape": [3], "data": b"1234"}}, "no msgpack of a request"),
    ],
)
def test_a_bad_request_is_answered_and_the_connection_stays(server, request_, said):
    with client_lib.Client(port=server, timeout=60) as client:
        with pytest.raises(client_lib.ServerError) as found:
            client.infer(request_)
        assert said in str(found.value)
        assert client.infer({"obs": OBS[0], "key": 1})["chunk"].shape == (4, 2)


def test_garbage_does_not_end_the_service(server):
    from websockets.sync.client import connect

    with connect(f"ws://127.0.0.1:{server}", proxy=None) as socket:
        socket.recv(timeout=30)
        for message in (b"\xc1", "text", b"\x93\x01", b"\x91" * 5000):
            socket.send(message)
            assert "error" in client_lib.unpack(socket.recv(timeout=30))
    with client_lib.Client(port=server, timeout=60) as client:
        assert client.infer({"obs": OBS[0], "key": 1})["chunk"].shape == (4, 2)


def test_a_page_of_the_web_is_refused(server):
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    with pytest.raises(InvalidStatus, match="403"):
        connect(f"ws://127.0.0.1:{server}", origin="http://example.org", proxy=None)


def test_what_cannot_travel():
    with pytest.raises(TypeError, match="object cannot be sent"):
        client_lib.pack({"obs": object()})
    with pytest.raises(TypeError, match="ndarray cannot be sent"):
        client_lib.pack({"obs": np.array([object()])})
    value = {
        "a": [1, 2.5, None, "x", True],
        "b": np.arange(6, dtype=np.uint8).reshape(2, 3),
        "c": np.float32(1.5),
    }
    found = client_lib.unpack(client_lib.pack(value))
    np.testing.assert_array_equal(found.pop("b"), value.pop("b"))
    assert found == value


def test_the_client_stands_alone():
    code = (
        f"import runpy, sys; runpy.run_path({str(Path(client_lib.__file__))!r})\n"
        "assert not [m for m in sys.modules if m.startswith(('mmbc_jax', 'jax', 'flax'))]"
    )
    subprocess.run([sys.executable, "-I", "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("package", ["msgpack", "websockets"])
def test_a_missing_package_is_named(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"needs the package {package}.*pip install 'mmbc-jax\[serve\]'"):
        serving.codec()


@pytest.mark.parametrize(
    ("argv", "message"),
    [(("--port", "70000"), "--port 70000 must be from 0 to 65535"), (("--port", "x"), "invalid int value")],
)
def test_arguments_that_cannot_work(argv, message):
    with pytest.raises(UserError, match=message):
        serve.parse(["--checkpoint", "x", *argv])


def test_a_port_that_is_taken(server):
    with pytest.raises(UserError, match=f"cannot listen at 127.0.0.1:{server}"):
        serving.make_server(loaded("finetune"), "127.0.0.1", server)


def test_after_a_timeout_no_late_answer_is_taken_for_the_next():
    """The first answer takes longer than the client waits; what it would get then is of another observation."""
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.server import serve as listen

    late = threading.Event()

    def answering(socket):
        socket.send(client_lib.pack({}))
        for message in socket:
            late.wait(30)
            socket.send(client_lib.pack({"chunk": client_lib.unpack(message)["obs"], "seconds": 0.0}))

    with listen(answering, "127.0.0.1", 0) as slow:
        thread = threading.Thread(target=slow.serve_forever)
        thread.start()
        client = client_lib.Client(port=slow.socket.getsockname()[1], timeout=0.2)
        with pytest.raises(TimeoutError):
            client.infer({"obs": 1.0})
        late.set()
        with pytest.raises(ConnectionClosed):
            client.infer({"obs": 2.0})
        slow.shutdown()
        thread.join(30)
