"""The digest of a run in lock step: the same bytes for the same seed."""

import hashlib

from inphase.frames.store_follower import SLOT_HEADER, StoreFollower


class Digest:
    """SHA-256 over a store's rings, in whole batches of slots.

    It is taken of the SHA-256 of each ring, so that the time of a look does not matter. It covers
    each frame record and each sample payload in order, with their slots' sequence words. It covers
    nothing of the host: the epoch and rights are elsewhere in the segment.
    """

    def __init__(self, follower: StoreFollower) -> None:
        self._reader = follower.reader
        self._sequences = follower.layout.record.sequences
        self._rings = [self._reader.frame_ring, *self._reader.rings]
        self._hashes = [hashlib.sha256() for _ in self._rings]
        self._taken = [0] * len(self._rings)

    def follow(self, frames: int) -> None:
        """Take in what is new, once it is a quarter of a ring."""
        if frames - self._taken[0] >= self._reader.frame_ring[3] // 4:
            self._take(frames)

    def value(self, frames: int) -> str:
        """The digest of everything up to frame number `frames`."""
        self._take(frames)
        return hashlib.sha256(b"".join(one.digest() for one in self._hashes)).hexdigest()

    def _take(self, frames: int) -> None:
        if frames == self._taken[0]:
            return
        ends = [frames, *(newest + 1 for newest in self._newest_samples(frames - 1))]
        for ring, taken in enumerate(self._taken):
            self._update(ring, taken, ends[ring])
        self._taken = ends

    def _newest_samples(self, frame: int) -> tuple[int, ...]:
        """The sequence numbers in a frame's rows."""
        offset, stride, _, depth = self._reader.frame_ring
        at = offset + frame % depth * stride + SLOT_HEADER
        sequences: tuple[int, ...] = self._sequences.unpack_from(self._reader.memory, at)
        return sequences

    def _update(self, ring: int, first: int, last: int) -> None:
        """Take in slots first..last of a ring, in at most two pieces."""
        offset, stride, _, depth = self._rings[ring]
        memory = memoryview(self._reader.memory)
        while first < last:
            slot = first % depth
            count = min(last - first, depth - slot)
            start = offset + slot * stride
            self._hashes[ring].update(memory[start : start + count * stride])
            first += count
