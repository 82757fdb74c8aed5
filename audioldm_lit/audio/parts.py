"""Parts of one recording, one after the other: what lies before is not decoded again for each of them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from audioldm_lit.audio.decoding import open_audio
from audioldm_lit.audio.recording import Recording, Span

_last = threading.local()  # the recording that this thread read a part of


@contextmanager
def open_part(path: Path, span: Span | None) -> Iterator[Recording]:
    """Open a recording to read a span of it; where the thread's last part was before it in the same one, that goes on.

    Raises:
        InputError: See `open_audio`.
    """
    if span is None:
        with open_audio(path) as whole:
            yield whole
        return
    recording: Recording | None = getattr(_last, "recording", None)
    _last.recording = None
    if recording is None or recording.path != path or recording.position > round(span[0] * recording.sample_rate):
        if recording is not None:
            recording.close()
        recording = open_audio(path)
    yield recording
    _last.recording = recording  # not after an error
