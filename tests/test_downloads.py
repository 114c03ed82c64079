"""The well-known texts: found in a folder, or downloaded once, from this machine."""

import hashlib
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pooch
import pytest

from rnn import _corpora
from rnn._corpora import CORPORA, Corpus, corpus_path

DATA = b"the dogs bark\n" * 1_000
NAME = "ptb.train"
REMEDY = "put the file into a folder and name it with --data-dir or RNN_DATA_DIR$"


class Handler(BaseHTTPRequestHandler):
    """Sends what the path of the request names, and notes the request."""

    def do_GET(self):
        self.server.requests.append(self.path)
        if self.path == "/404":
            self.send_error(404)
            return
        if self.path == "/silent":
            self.server.closing.wait(10)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(DATA)))
        self.end_headers()
        self.wfile.write(
            {"/right": DATA, "/wrong": DATA[::-1], "/broken": DATA[:5_000]}[self.path]
        )

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.requests, server.closing = [], threading.Event()
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.closing.set()
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache, no folder of the user's, and no proxy on the way."""
    folder = tmp_path / "cache"
    monkeypatch.setattr("pooch.os_cache", lambda project: folder / project)
    monkeypatch.delenv("RNN_DATA_DIR", raising=False)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "*")
    return folder / "rnn"


@pytest.fixture
def serve(server, monkeypatch):
    """Let the corpus come from a path of the server."""

    def serve(path):
        url = f"http://127.0.0.1:{server.server_port}{path}"
        corpus = CORPORA[NAME]._replace(url=url, sha256=sha256(DATA))
        monkeypatch.setitem(CORPORA, NAME, corpus)
        return url

    return serve


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_text_is_downloaded_once(server, serve, cache, monkeypatch, capfd, caplog):
    serve("/right")
    logger = pooch.get_logger()
    level = logger.level
    monkeypatch.setattr(logger, "handlers", [caplog.handler])
    path = corpus_path(NAME)
    assert path == cache / "ptb" / "ptb.train.txt"
    assert path.read_bytes() == DATA
    assert corpus_path(NAME) == path
    assert server.requests == ["/right"]
    assert files(cache) == [path]
    assert capfd.readouterr() == ("", "")
    assert caplog.messages == []
    assert logger.level == level


def test_a_text_is_downloaded_into_the_folder_given(server, serve, cache, tmp_path):
    serve("/right")
    folder = tmp_path / "mine"
    path = corpus_path(NAME, folder)
    assert path == folder / "ptb" / "ptb.train.txt"
    assert path.read_bytes() == DATA
    assert corpus_path(NAME, str(folder)) == path
    assert server.requests == ["/right"]
    assert not cache.exists()


def test_a_text_missing_in_the_users_folder_goes_to_the_cache(
    server, serve, cache, tmp_path, monkeypatch
):
    serve("/right")
    monkeypatch.setenv("RNN_DATA_DIR", str(tmp_path / "mine"))
    assert corpus_path(NAME) == cache / "ptb" / "ptb.train.txt"
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize("place", ["ptb/ptb.train.txt", "ptb.train.txt"])
@pytest.mark.parametrize("named_by", ["argument", "variable", "both"])
def test_a_text_is_found_in_the_users_folder(
    server, serve, cache, tmp_path, monkeypatch, place, named_by
):
    serve("/right")
    path = tmp_path / "mine" / place
    path.parent.mkdir(parents=True)
    path.write_bytes(DATA)
    folder = tmp_path / "mine"
    if named_by == "variable":
        monkeypatch.setenv("RNN_DATA_DIR", str(folder))
        folder = None
    if named_by == "both":
        monkeypatch.setenv("RNN_DATA_DIR", str(tmp_path / "other"))
    assert corpus_path(NAME, folder) == path
    assert server.requests == []
    assert not cache.exists()


def test_another_text_in_the_users_folder_is_refused(server, serve, tmp_path):
    url = serve("/right")
    path = tmp_path / "ptb.train.txt"
    path.write_bytes(DATA[1:])
    with pytest.raises(
        ValueError,
        match=rf"ptb\.train\.txt has the SHA-256 {sha256(DATA[1:])}: expected "
        rf"{sha256(DATA)}; move it away and try again, to download {url}$",
    ):
        corpus_path(NAME, tmp_path)
    assert path.read_bytes() == DATA[1:]
    assert server.requests == []


def test_a_spoilt_file_in_the_cache_is_replaced(server, serve, cache):
    serve("/right")
    path = corpus_path(NAME)
    path.write_bytes(DATA[1:])
    assert corpus_path(NAME) == path
    assert path.read_bytes() == DATA
    assert server.requests == ["/right", "/right"]


def test_another_text_than_expected_is_not_kept(serve, cache):
    url = serve("/wrong")
    with pytest.raises(
        ValueError,
        match=rf"^{url} sent a file without the SHA-256 {sha256(DATA)}: {REMEDY}",
    ):
        corpus_path(NAME)
    assert files(cache) == []


@pytest.mark.parametrize(
    ("path", "reason", "timeout"),
    [
        ("/404", "404 Not Found", 30),
        ("/broken", "ChunkedEncodingError", 30),
        ("/silent", "ReadTimeout", 0.5),
    ],
)
def test_a_failed_download_says_what_to_do(
    serve, cache, monkeypatch, path, reason, timeout
):
    url = serve(path)
    with monkeypatch.context() as patch:
        patch.setattr(_corpora, "_TIMEOUT", timeout)
        with pytest.raises(
            ConnectionError, match=rf"^cannot download {url} \({reason}\): {REMEDY}"
        ):
            corpus_path(NAME)
    assert files(cache) == []
    serve("/right")
    assert corpus_path(NAME).read_bytes() == DATA


def test_a_refused_connection_says_what_to_do(cache, monkeypatch):
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        port = server.server_port  # free again when the server is closed
    url = f"http://127.0.0.1:{port}/right"
    monkeypatch.setitem(CORPORA, NAME, CORPORA[NAME]._replace(url=url))
    with pytest.raises(
        ConnectionError,
        match=rf"^cannot download {url} \(ConnectionError\): {REMEDY}",
    ):
        corpus_path(NAME)
    assert files(cache) == []


def test_an_unknown_name_is_refused_with_those_known():
    with pytest.raises(
        ValueError,
        match=r"^name is 'ptb': expected one of ptb\.train, ptb\.valid, ptb\.test, "
        r"tinyshakespeare$",
    ):
        corpus_path("ptb")


def test_every_corpus_has_a_secure_address_and_a_checksum():
    for corpus in CORPORA.values():
        assert isinstance(corpus, Corpus)
        assert urlsplit(corpus.url).scheme == "https"
        assert bytes.fromhex(corpus.sha256).hex() == corpus.sha256
        assert len(corpus.sha256) == 64
        assert not Path(corpus.file).is_absolute()
    assert len({corpus.file for corpus in CORPORA.values()}) == len(CORPORA)


def test_reading_a_text_of_ones_own_needs_no_downloader():
    script = "import sys, rnn; rnn.read_text; sys.exit('pooch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
