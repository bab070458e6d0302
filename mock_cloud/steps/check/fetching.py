# SPDX-License-Identifier: GPL-2.0-or-later
"""Source packages that a command line names by URL are fetched here, over the user's network.

mock takes URLs for --rebuild and --chain (its file_downloader.py). A node gets files only.
"""

from __future__ import annotations

import base64
import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit, urlunsplit

from mock_cloud import __version__
from mock_cloud.console import Console
from mock_cloud.errors import CommandLineError, InputError
from mock_cloud.invocation.model import CommandLine
from mock_cloud.invocation.names import find_name_problem
from mock_cloud.network import build_opener, find_proxy
from mock_cloud.wire.terminal_text import printable

if TYPE_CHECKING:
    import urllib.request

SRPM_MAX_BYTES: Final = 8 << 30
_SCHEMES: Final = ("http://", "https://", "ftp://")
_MODES: Final = ("rebuild", "chain")
_ATTEMPTS: Final = 3
_SILENCE_S: Final = 30.0
_BLOCK: Final = 1 << 18


class _Passing(Exception):
    """This attempt failed; another may not."""


@contextlib.contextmanager
def fetched(line: CommandLine, console: Console) -> Iterator[CommandLine]:
    """`line` with files in place of URLs; the files are removed when the block ends.

    CommandLineError for what cannot be fetched, as mock has it. `line` itself without URLs.
    """
    urls = [word for word in line.args if word.startswith(_SCHEMES)]
    if line.mode not in _MODES or not urls:
        yield line
        return
    with tempfile.TemporaryDirectory(prefix="mock-cloud-srpm-") as scratch:
        args = []
        for number, word in enumerate(line.args):
            if word not in urls:
                args.append(word)
                continue
            place = Path(scratch, str(number))
            place.mkdir()
            args.append(str(_fetch(word, place, console)))
        yield replace(line, args=tuple(args))


def _fetch(url: str, directory: Path, console: Console) -> Path:
    shown = _without_password(url)
    console.info(f"Fetching remote file {shown}")
    problem = ""
    for _ in range(_ATTEMPTS):
        try:
            return _fetch_once(url, directory, console)
        except _Passing as error:
            problem = str(error)
        except ValueError as error:  # of urllib, for what is not a URL
            problem = str(error)
            break
    raise CommandLineError(
        f"cannot fetch {shown}: {problem}", hint="fetch it yourself, then name the file"
    )


def _fetch_once(url: str, directory: Path, console: Console) -> Path:
    import http.client  # these take longer to load than most commands' other checks take
    import urllib.error
    import urllib.request

    request = _request(url)
    try:
        with build_opener().open(request, timeout=_SILENCE_S) as response:
            path = directory / _name(response, url)
            _store(response, path, console)
            return path
    except urllib.error.HTTPError as error:
        error.close()
        if error.code >= 500 or error.code == 429:
            raise _Passing(f"the server says {error.code} {printable(error.reason)}") from error
        raise CommandLineError(
            f"cannot fetch {_without_password(url)}: the server says"
            f" {error.code} {printable(error.reason)}"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or str(error) or type(error).__name__
        proxy = find_proxy(url)
        raise _Passing(
            f"{f'the proxy {proxy}: ' if proxy else ''}{printable(str(reason))}"
        ) from error


def _request(url: str) -> urllib.request.Request:
    """For `url`, whose user and password are for its own server only."""
    import urllib.request

    parts = urlsplit(url)
    who, _, host = parts.netloc.rpartition("@")
    if who and parts.scheme != "ftp":
        url = urlunsplit(parts._replace(netloc=host))
    request = urllib.request.Request(  # noqa: S310  the schemes were checked
        url, headers={"User-Agent": f"mock-cloud/{__version__}"}
    )
    if who and parts.scheme != "ftp":
        word = base64.b64encode(unquote(who).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {word}")
    return request


def _store(response: Any, path: Path, console: Console) -> None:
    """The body, complete: a server that promised more is asked again."""
    promised = response.headers.get("Content-Length", "")
    size = 0
    with _writing(path) as stream:
        while data := response.read(_BLOCK):
            size += len(data)
            if size > SRPM_MAX_BYTES:
                raise CommandLineError(f"{path.name} is larger than {SRPM_MAX_BYTES >> 30} GiB")
            try:
                stream.write(data)
            except OSError as error:
                raise InputError(f"cannot write {path}: {error.strerror}") from error
            console.progress(f"fetching {path.name}: {size >> 20} MiB")
    console.done()
    if promised.isdecimal() and int(promised) != size:
        raise _Passing(f"only {size} of {promised} bytes arrived")


def _writing(path: Path) -> Any:
    try:
        return path.open("wb")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error


def _name(response: Any, url: str) -> str:
    """The file name that the server gives, else the end of the address it came from."""
    from email.message import Message

    header = Message()
    header["Content-Disposition"] = response.headers.get("Content-Disposition", "")
    name = Path(header.get_filename() or "").name
    if not name:
        name = unquote(urlsplit(response.geturl()).path.rpartition("/")[2])
    problem = find_name_problem(name)
    if problem is not None or not name.endswith(".rpm"):
        raise CommandLineError(
            f"{_without_password(url)} is not a source package: its name would be"
            f" {printable(name)!r}",
            hint="fetch it yourself, then name the file",
        )
    return name


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return printable(urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])))
