"""Basler cameras (GigE, USB3, CoaXPress, emulated) through pypylon, Basler's own library.

Images come from a camera that is armed all the time; `trigger` is the SFNC command
TriggerSoftware. The block number pairs pulses with images, also after images that were lost.
`PYLON_CAMEMU=2` in the environment gives two emulated cameras, with serials 0815-0000 and
0815-0001; their time stamp is always 0, which is no stamp.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, ClassVar

import msgspec
from numpy.typing import NDArray

from inphase.driver import DeviceError, Reading
from inphase.errors import install
from inphase_drivers.genicam import (
    CameraOptions,
    GenicamCamera,
    ImageCount,
    calls,
    format_names,
    middle_ns,
)

_EMULATED = "PYLON_CAMEMU"  # how many cameras
_READY_MS = 1000
_USB_TICKS_HZ = 1_000_000_000
_NO_BLOCK = 2**64 - 1


class BaslerOptions(CameraOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Keys of a `[device.NAME]` table with this driver."""

    emulated: bool = False
    """Basler's own emulated camera instead of a real one; as PYLON_CAMEMU in the environment"""


class Camera(GenicamCamera):
    """One Basler camera; its sample is `image`.

    A trigger that comes before the camera is ready for it is fired all the same, and the camera
    ignores it: asking first would cost a round trip in front of every trigger. No image comes then,
    and the block numbers have no gap.
    """

    Options: ClassVar[type[msgspec.Struct]] = BaslerOptions

    def __init__(self, name: str, options: BaslerOptions) -> None:
        super().__init__(name, options)
        self.options: BaslerOptions = options
        self.camera: Any = None
        """pypylon's InstantCamera while open, for features that the options do not name"""
        self._ticks_hz = _USB_TICKS_HZ

    # ---- set-up --------------------------------------------------------------------------------

    def open(self) -> int:
        """Find the camera and set its features, each read back or refused by the camera."""
        if self.options.emulated:  # read by the library when it is loaded, in this process
            os.environ.setdefault(_EMULATED, "1")
        pylon = _pylon(self.name)
        try:
            with self._refusals(
                "cannot be opened; check power, cable, and if another program uses it"
            ):
                self.camera = pylon.InstantCamera(self._find(pylon))
                self.camera.Open()
            with self._refusals("refuses its set-up"):
                self._set_image()
                self._set_exposure()
                self._set_trigger()
        except BaseException:
            self.close()
            raise
        return -1

    def _find(self, pylon: Any) -> Any:
        factory = pylon.TlFactory.GetInstance()
        o = self.options
        if not o.ip:  # an address may lie in a network that enumeration does not reach
            found = factory.EnumerateDevices()
            index = self._choose_camera([info.GetSerialNumber() for info in found])
            return factory.CreateDevice(found[index])
        wanted = pylon.DeviceInfo()
        wanted.SetIpAddress(o.ip)
        return factory.CreateDevice(wanted)

    def _set_image(self) -> None:
        o = self.options
        self._choose("PixelFormat", *format_names(o))
        # offsets first to zero: what they leave free bounds width and height
        for name in ("OffsetX", "OffsetY"):
            self._set_if_there(name, 0)
        for name, value in (("Width", o.width), ("Height", o.height)):
            self._set(value, name)
        for name, value in (("OffsetX", o.offset_x), ("OffsetY", o.offset_y)):
            if value:
                self._set(value, name)
        if o.packet_bytes is not None:
            self._set(o.packet_bytes, "GevSCPSPacketSize")
        self._set_if_there("ChunkModeActive", False)
        self._ticks_hz = self._get("GevTimestampTickFrequency", _USB_TICKS_HZ)

    def _set_exposure(self) -> None:
        o = self.options
        self._set_if_there("ExposureAuto", "Off")
        self._set_if_there("ExposureMode", "Timed")
        self._set(o.exposure_us, "ExposureTime", "ExposureTimeAbs")
        taken_us = self._get("ExposureTime", self._get("ExposureTimeAbs", o.exposure_us))
        self._exposure_ns = round(taken_us * 1000)
        if o.gain is not None:
            self._set_if_there("GainAuto", "Off")
            if not self._set_if_there("Gain", o.gain):
                self._set(round(o.gain), "GainRaw")

    def _set_trigger(self) -> None:
        o = self.options
        self._set_if_there("AcquisitionMode", "Continuous")
        for selector in self.camera.TriggerSelector.Symbolics:
            self._set(selector, "TriggerSelector")
            self._set_if_there("TriggerMode", "Off")
        self._set("FrameStart", "TriggerSelector")
        if o.trigger == "off":
            if o.rate_hz is not None:
                self._set_if_there("AcquisitionFrameRateEnable", True)
                self._set(o.rate_hz, "AcquisitionFrameRate", "AcquisitionFrameRateAbs")
            return
        self._choose("TriggerSource", "Software" if o.fired else o.trigger)
        self._set("On", "TriggerMode")
        self._set_if_there("AcquisitionFrameRateEnable", False)  # else it holds triggers back

    def _set(self, value: Any, *names: str) -> None:
        """Set every feature of these names that the camera has; it must have one."""
        if not sum([self._set_if_there(name, value) for name in names]):
            raise self._error(
                f"has no writable feature "
                f"{' or '.join(names)} to set to {value}; leave that option out, or see its manual"
            )

    def _set_if_there(self, name: str, value: Any) -> bool:
        from pypylon import genicam

        node = getattr(self.camera, name)
        if not genicam.IsWritable(node):
            return False
        with self._refusals(f"refuses {name} = {value}"):
            node.Value = value
        return True

    def _choose(self, name: str, *values: str) -> None:
        """Set an enumeration to the first of these values that the camera knows."""
        node = getattr(self.camera, name)
        for value in values:
            if node.CanSetValue(value):
                node.Value = value
                return
        raise self._error(f"has no {name} {values[0]}; it has {', '.join(node.Symbolics)}")

    def _get(self, name: str, otherwise: Any) -> Any:
        from pypylon import genicam

        node = getattr(self.camera, name)
        return node.Value if genicam.IsReadable(node) else otherwise

    @contextmanager
    def _refusals(self, what: str) -> Iterator[None]:
        """Turn pylon's exceptions into DeviceError."""
        from pypylon import genicam

        try:
            yield
        except genicam.GenericException as error:
            gone = self.camera is not None and self.camera.IsCameraDeviceRemoved()
            what = "is gone; check power and cable" if gone else what
            said, _, _ = str(error).partition(" : ")  # then file and line in pylon's sources
            raise self._error(f"{what}: {said}") from error

    def close(self) -> None:
        """Stop and close the camera."""
        camera, self.camera = self.camera, None
        if camera is None:
            return
        from pypylon import genicam

        for end in (camera.StopGrabbing, camera.Close, camera.DestroyDevice):
            with suppress(genicam.GenericException):
                end()

    # ---- images --------------------------------------------------------------------------------

    def start(self) -> None:
        """Arm the camera, take the first images and throw them away."""
        pylon = _pylon(self.name)
        with self._refusals("cannot be armed"):
            self.camera.StopGrabbing()
            self.camera.StartGrabbing(pylon.GrabStrategy_OneByOne)
            self._count = ImageCount()
            if self.options.fired and self.camera.CanWaitForFrameTriggerReady():
                self._wait_until_ready(pylon)
        if self.options.trigger not in ("software", "off"):
            return  # nothing comes before somebody drives the line
        for _ in range(self.options.warm_up):
            if self.options.fired:
                self.trigger()
            latency_max_ns = calls(self.options, self._exposure_ns).latency_max_ns
            result = self._pop(latency_max_ns + _READY_MS * 1_000_000)
            if result is None:
                raise self._error(
                    "is armed and gives no image; check the link's speed and packet_bytes"
                )
            self._give_back(result)
            if self.options.fired:
                self._wait_until_ready(pylon)

    def _wait_until_ready(self, pylon: Any) -> None:
        with self._refusals("does not become ready for a trigger"):
            self.camera.WaitForFrameTriggerReady(_READY_MS, pylon.TimeoutHandling_ThrowException)

    def flush(self) -> int:
        """Throw away the images that wait in pylon's buffers; how many."""
        thrown = 0
        while (result := self._pop(0)) is not None:
            self._give_back(result)
            thrown += 1
        return thrown

    def trigger(self) -> None:
        """Fire the software trigger; what comes over a line is fired by others."""
        if self.options.fired:
            with self._refusals("did not take the trigger"):
                self.camera.TriggerSoftware.Execute()

    def _pop(self, timeout_ns: int) -> Any:
        """The next grab result; None where there is none. pylon counts in milliseconds."""
        from pypylon import pylon

        with self._refusals("gives no images"):
            result = self.camera.RetrieveResult(
                -(-timeout_ns // 1_000_000), pylon.TimeoutHandling_Return
            )
        if result is not None and result.IsValid():
            return result
        if self.camera.IsCameraDeviceRemoved():
            raise self._error("is gone; check power and cable")
        return None

    def _give_back(self, image: Any) -> None:
        image.Release()

    def _take(self, image: Any, sample: NDArray[Any]) -> Reading:
        sequence = None if image.BlockID == _NO_BLOCK else self._count.of(image.BlockID)
        came = min(image.PayloadSize, image.ImageSize)
        if came != self._layout.size:
            return Reading(sequence, reason="size", detail=came)
        if not image.GrabSucceeded():
            return Reading(sequence, reason="device", detail=image.ErrorCode)
        self._copy(image.GetImageMemoryView(), sample)
        stamp_ns = image.TimeStamp * 1_000_000_000 // self._ticks_hz
        return Reading(sequence, middle_ns(self.options, stamp_ns, self._exposure_ns))


def _pylon(name: str) -> Any:
    """Basler's library, loaded when it is first needed."""
    try:
        from pypylon import pylon
    except ImportError as error:
        raise DeviceError(
            f"device {name}: pypylon is not there: {error}; {install('pypylon')}"
        ) from error
    return pylon
