"""The messages of the newest frames: those of a recording, for whoever looks at a robot live."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from inphase.frames.frame import Frame, FrameLost
from inphase.recording.channels import Forms

_OF_HEADER = ("latched_ns",)
_OF_ROW = ("sequence", "acquired_ns")


class LiveMessage(NamedTuple):
    """One message. channel: its place in `Forms.topics`."""

    channel: int
    log_ns: int
    """the frame's latch on the wall clock"""
    data: bytes


class FrameMessages:
    """Makes the messages of frames, of which some may be left out. Thread: one at a time.

    A sample is in the first frame that names it, and again where `again` asked for it.
    """

    def __init__(self, forms: Forms, wall_offset_ns: int) -> None:
        self._forms = forms
        self._offset_ns = wall_offset_ns
        self._looked_at = forms.layout.record.only(_OF_HEADER, _OF_ROW)
        self._sent = [-1] * len(forms.samples)

    def log_ns(self, frame: Frame) -> int:
        """A frame's latch on the wall clock, nanoseconds since 1970."""
        return frame.latched_ns + self._offset_ns

    def again(self, channel: int) -> None:
        """The newest sample of a sensor is in the next frame's messages, whether it is new or
        not."""
        if 0 < channel <= len(self._sent):
            self._sent[channel - 1] = -1

    def of(
        self, frame: Frame, number: int, is_wanted: Callable[[int], bool] = lambda _: True
    ) -> Iterator[LiveMessage]:
        """The messages of a frame on the channels that are wanted; number: the frame's.

        A sample that is not in the store any more has none.
        """
        record = bytes(frame.record)
        latched_ns, *rows = self._looked_at.unpack_from(record)
        log_ns = latched_ns + self._offset_ns
        if is_wanted(0):
            plain = number.to_bytes(8, "little", signed=True) + record
            yield LiveMessage(0, log_ns, self._forms.frame.encode(plain))
        for index, form in enumerate(self._forms.samples):
            sequence, acquired_ns = rows[2 * index : 2 * index + 2]
            if sequence < 0 or sequence == self._sent[index] or not is_wanted(index + 1):
                continue
            try:
                value = frame.payloads.view(index, sequence)
            except FrameLost:
                continue
            data = b"".join(form.encode(frame.cycle, sequence, acquired_ns, value))
            if frame.payloads.intact(index, sequence):  # asked after the copy
                self._sent[index] = sequence
                yield LiveMessage(index + 1, log_ns, data)

    def largest(self) -> list[int]:
        """Bytes of the largest message of each channel."""
        return [self._forms.frame.largest, *(form.largest for form in self._forms.samples)]
