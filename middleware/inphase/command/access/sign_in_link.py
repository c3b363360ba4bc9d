"""A link that signs a browser in, as text and as a picture for a phone's camera."""

import io

from inphase.errors import AccessError, install

_PATH = "/sign-in"


def url_of(page: str, host: str | None, word: str) -> str:
    """The link at a page's `https://HOST:PORT`. host: in the place of that one."""
    if host is not None:
        port = page.rpartition(":")[2]
        page = f"https://{host}:{port}"
    return f"{page}{_PATH}#{word}"


def picture(url: str) -> str:
    """A QR code in letters of a terminal. Raises AccessError where its package is missing."""
    try:
        import segno
    except ImportError as error:
        raise AccessError(f"the picture needs the package segno; {install('segno')}") from error
    out = io.StringIO()
    segno.make(url, error="l").terminal(out, compact=True)
    return out.getvalue()
