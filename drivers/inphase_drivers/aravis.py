"""GenICam cameras of any maker (GigE Vision, USB3 Vision) through Aravis.

The library comes with the operating system (`apt install libaravis-0.8-0`) and is called through
cffi. Python's GObject introspection is not needed. Aravis turns the camera's ticks into nanoseconds
by the camera's own tick frequency. If a GigE camera states none, Aravis puts the host's wall time
in place of the stamp. That is no stamp of the camera, and is left out here.
"""

from functools import cache
from typing import Any, ClassVar

import cffi
import msgspec
from numpy.typing import NDArray

from inphase.driver import DeviceError, Reading
from inphase_drivers.genicam import (
    CameraOptions,
    GenicamCamera,
    ImageCount,
    calls,
    format_names,
    middle_ns,
)

_LIBRARY = "libaravis-0.8.so.0"
_BUFFERS = 8
_SOCKET_IMAGES = 4
_FIRST_IMAGE_NS = 1_000_000_000
_FIRST_TRIES = 3

# of arvenums.h and arvbuffer.h
_CONTINUOUS = 0
_AUTO_OFF = 0
_CHECK_RANGES = 1
_KEEP_PACKET_SIZE = 0
_PLAIN_SOCKET = 1
_SUCCESS = 0
_INCOMPLETE = (2, 3, 4, 5)  # timeout, missing packets, wrong packet, size mismatch

_DECLARATIONS = """
typedef int gboolean;
typedef struct { uint32_t domain; int code; char *message; } GError;
typedef struct ArvCamera ArvCamera;
typedef struct ArvDevice ArvDevice;
typedef struct ArvStream ArvStream;
typedef struct ArvBuffer ArvBuffer;

void g_error_free(GError *error);
void g_object_set(void *object, const char *name, ...);
void g_object_unref(void *object);

void arv_update_device_list(void);
unsigned int arv_get_n_devices(void);
const char *arv_get_device_id(unsigned int index);
const char *arv_get_device_serial_nbr(unsigned int index);

ArvCamera *arv_camera_new(const char *name, GError **error);
ArvDevice *arv_camera_get_device(ArvCamera *camera);
gboolean arv_camera_is_gv_device(ArvCamera *camera);
void arv_camera_set_range_check_policy(ArvCamera *camera, int policy);

gboolean arv_camera_is_feature_available(ArvCamera *camera, const char *name, GError **error);
gboolean arv_camera_is_enumeration_entry_available(ArvCamera *camera, const char *name,
                                                   const char *entry, GError **error);
void arv_camera_set_boolean(ArvCamera *camera, const char *name, gboolean value, GError **error);

void arv_camera_set_pixel_format_from_string(ArvCamera *camera, const char *name, GError **error);
void arv_camera_set_region(ArvCamera *camera, int x, int y, int width, int height,
                           GError **error);
void arv_camera_set_exposure_time_auto(ArvCamera *camera, int automatic, GError **error);
void arv_camera_set_exposure_time(ArvCamera *camera, double us, GError **error);
double arv_camera_get_exposure_time(ArvCamera *camera, GError **error);
void arv_camera_set_gain_auto(ArvCamera *camera, int automatic, GError **error);
void arv_camera_set_gain(ArvCamera *camera, double gain, GError **error);
void arv_camera_set_acquisition_mode(ArvCamera *camera, int mode, GError **error);
void arv_camera_set_frame_rate(ArvCamera *camera, double hz, GError **error);
void arv_camera_clear_triggers(ArvCamera *camera, GError **error);
void arv_camera_set_trigger(ArvCamera *camera, const char *source, GError **error);
unsigned int arv_camera_get_payload(ArvCamera *camera, GError **error);

void arv_camera_gv_set_packet_size_adjustment(ArvCamera *camera, int adjustment);
void arv_camera_gv_set_packet_size(ArvCamera *camera, int size, GError **error);
void arv_camera_gv_set_stream_options(ArvCamera *camera, int options);
uint64_t arv_gv_device_get_timestamp_tick_frequency(ArvDevice *device, GError **error);
gboolean arv_gv_device_is_controller(ArvDevice *device);

ArvStream *arv_camera_create_stream(ArvCamera *camera, void *callback, void *data,
                                    GError **error);
void arv_camera_start_acquisition(ArvCamera *camera, GError **error);
void arv_camera_stop_acquisition(ArvCamera *camera, GError **error);
void arv_camera_software_trigger(ArvCamera *camera, GError **error);

void arv_stream_push_buffer(ArvStream *stream, ArvBuffer *buffer);
ArvBuffer *arv_stream_try_pop_buffer(ArvStream *stream);
ArvBuffer *arv_stream_timeout_pop_buffer(ArvStream *stream, uint64_t us);

ArvBuffer *arv_buffer_new_allocate(size_t size);
int arv_buffer_get_status(ArvBuffer *buffer);
uint64_t arv_buffer_get_frame_id(ArvBuffer *buffer);
uint64_t arv_buffer_get_timestamp(ArvBuffer *buffer);
const void *arv_buffer_get_data(ArvBuffer *buffer, size_t *size);
"""


class Camera(GenicamCamera):
    """One camera; its sample is `image`.

    A trigger that comes before the camera is ready for it is fired all the same, and the camera
    ignores it: no image comes then, and the block numbers have no gap.
    """

    Options: ClassVar[type[msgspec.Struct]] = CameraOptions

    def __init__(self, name: str, options: CameraOptions) -> None:
        super().__init__(name, options)
        self._ffi: Any = None
        self._arv: Any = None
        self._camera: Any = None
        self._stream: Any = None
        self._is_gige = False
        self._stamps = False
        self._gone = False

    # ---- set-up --------------------------------------------------------------------------------

    def open(self) -> int:
        """Find the camera and set its features; the camera or Aravis refuses what cannot be."""
        try:
            self._ffi, self._arv = _aravis()
        except OSError as error:
            raise DeviceError(
                f"device {self.name}: Aravis is not there: {error}; apt install libaravis-0.8-0"
            ) from error
        self._gone = False
        try:
            self._camera = self._ask(
                "cannot be opened; check power, cable, and if another program uses it",
                self._arv.arv_camera_new,
                self._find(),
            )
            self._arv.arv_camera_set_range_check_policy(self._camera, _CHECK_RANGES)
            self._set_image()
            self._set_exposure()
            self._set_trigger()
            self._set_link()
        except BaseException:
            self.close()
            raise
        return -1

    def _find(self) -> bytes:
        """The name that Aravis opens: an address, or the identity of a camera that it found."""
        o, arv = self.options, self._arv
        if o.ip:
            return o.ip.encode()
        arv.arv_update_device_list()
        serials = [
            self._ffi.string(arv.arv_get_device_serial_nbr(index)).decode(errors="replace")
            for index in range(arv.arv_get_n_devices())
        ]
        index = self._choose_camera(serials)
        return bytes(self._ffi.string(arv.arv_get_device_id(index)))

    def _set_image(self) -> None:
        o, arv = self.options, self._arv
        name = next(filter(self._has_format, format_names(o)), o.pixel_format)
        what = f"refuses pixel_format {o.pixel_format}"
        self._do(what, arv.arv_camera_set_pixel_format_from_string, name.encode())
        region = o.offset_x, o.offset_y, o.width, o.height
        self._do(f"refuses the region x, y, w, h {region}", arv.arv_camera_set_region, *region)
        if self._has("ChunkModeActive"):
            what = "does not leave chunks out"
            self._do(what, arv.arv_camera_set_boolean, b"ChunkModeActive", 0)

    def _set_exposure(self) -> None:
        o, arv = self.options, self._arv
        if self._has("ExposureAuto"):
            self._do("has no fixed exposure", arv.arv_camera_set_exposure_time_auto, _AUTO_OFF)
        what = f"refuses exposure_us {o.exposure_us}"
        self._do(what, arv.arv_camera_set_exposure_time, o.exposure_us)
        taken_us = self._do("does not say its exposure", arv.arv_camera_get_exposure_time)
        self._exposure_ns = round(taken_us * 1000)
        if o.gain is None:
            return
        if self._has("GainAuto"):
            self._do("has no fixed gain", arv.arv_camera_set_gain_auto, _AUTO_OFF)
        self._do(f"refuses gain {o.gain}", arv.arv_camera_set_gain, o.gain)

    def _set_trigger(self) -> None:
        o, arv = self.options, self._arv
        self._do("does not run freely", arv.arv_camera_set_acquisition_mode, _CONTINUOUS)
        if o.trigger == "off":
            self._do("does not run without trigger", arv.arv_camera_clear_triggers)
            if o.rate_hz is not None:
                self._do(f"refuses rate_hz {o.rate_hz}", arv.arv_camera_set_frame_rate, o.rate_hz)
            return
        source = "Software" if o.fired else o.trigger
        self._do(f"refuses trigger {o.trigger!r}", arv.arv_camera_set_trigger, source.encode())

    def _set_link(self) -> None:
        arv, camera = self._arv, self._camera
        self._is_gige = bool(arv.arv_camera_is_gv_device(camera))
        self._stamps = True
        if not self._is_gige:
            return
        # Aravis's packet ring gives images some milliseconds later, and wants CAP_NET_RAW
        arv.arv_camera_gv_set_stream_options(camera, _PLAIN_SOCKET)
        packet_bytes = self.options.packet_bytes
        if packet_bytes is not None:
            arv.arv_camera_gv_set_packet_size_adjustment(camera, _KEEP_PACKET_SIZE)
            what = f"refuses packet_bytes {packet_bytes}"
            self._do(what, arv.arv_camera_gv_set_packet_size, packet_bytes)
        device = arv.arv_camera_get_device(camera)
        what = "does not say its tick frequency"
        ticks_hz = self._ask(what, arv.arv_gv_device_get_timestamp_tick_frequency, device)
        self._stamps = ticks_hz != 0

    def _has(self, feature: str) -> bool:
        what = f"does not say whether it has {feature}"
        available = self._arv.arv_camera_is_feature_available
        return bool(self._do(what, available, feature.encode()))

    def _has_format(self, name: str) -> bool:
        available = self._arv.arv_camera_is_enumeration_entry_available
        return bool(self._do("has no PixelFormat", available, b"PixelFormat", name.encode()))

    def _do(self, what: str, function: Any, *arguments: Any) -> Any:
        """Call one of Aravis's functions on the camera."""
        return self._ask(what, function, self._camera, *arguments)

    def _ask(self, what: str, function: Any, *arguments: Any) -> Any:
        """Call a function that says by its last argument what went wrong: DeviceError then."""
        error = self._ffi.new("GError **")
        result = function(*arguments, error)
        if error[0] == self._ffi.NULL:
            return result
        said = self._ffi.string(error[0].message).decode(errors="replace")
        self._arv.g_error_free(error[0])
        raise self._error(f"{what}: {said}")

    def close(self) -> None:
        """Stop and give back the camera. One that is gone takes some 10 s: Aravis asks on."""
        self._end_stream()
        camera, self._camera = self._camera, None
        if camera is not None:
            self._arv.g_object_unref(camera)

    def _end_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is None:
            return
        if not self._gone:  # an error here would say no more than that it has gone meanwhile
            self._arv.arv_camera_stop_acquisition(self._camera, self._ffi.NULL)
        self._arv.g_object_unref(stream)

    # ---- images --------------------------------------------------------------------------------

    def start(self) -> None:
        """Arm the camera, take the first images and throw them away."""
        arv = self._arv
        self._end_stream()
        null = self._ffi.NULL
        self._stream = self._do("gives no stream", arv.arv_camera_create_stream, null, null)
        payload = self._do("does not say its payload", arv.arv_camera_get_payload)
        if self._is_gige:
            self._bound_stream(payload)
        for _ in range(_BUFFERS):
            arv.arv_stream_push_buffer(self._stream, arv.arv_buffer_new_allocate(payload))
        self._do("cannot be armed", arv.arv_camera_start_acquisition)
        self._count = ImageCount()
        if self.options.trigger in ("software", "off"):  # else a line that somebody has to drive
            for _ in range(self.options.warm_up):
                self._throw_first_away()

    def _bound_stream(self, payload: int) -> None:
        """Room in the socket for a burst of whole images, and an end to waiting for lost packets.

        An incomplete image holds up those behind it until it is given up.
        """
        late_us = calls(self.options, self._exposure_ns).latency_max_ns // 1000
        for name, kind, value in (
            (b"socket-buffer-size", "int", _SOCKET_IMAGES * payload),
            (b"frame-retention", "unsigned int", late_us),
        ):
            given = self._ffi.cast(kind, value)
            self._arv.g_object_set(self._stream, name, given, self._ffi.NULL)

    def _throw_first_away(self) -> None:
        """Take an image; again where the camera was not ready for the trigger yet."""
        patience_ns = calls(self.options, self._exposure_ns).latency_max_ns + _FIRST_IMAGE_NS
        for _ in range(_FIRST_TRIES):
            self.trigger()
            buffer = self._pop(patience_ns)
            if buffer is not None:
                self._give_back(buffer)
                return
        raise self._error(
            "is armed and gives no image; "
            "check firewall, the link's speed, net.core.rmem_max and packet_bytes"
        )

    def flush(self) -> int:
        """Throw away the images that wait in Aravis's buffers; how many."""
        thrown = 0
        while thrown < _BUFFERS and (buffer := self._pop(0)) is not None:
            self._give_back(buffer)
            thrown += 1
        return thrown

    def trigger(self) -> None:
        """Fire the software trigger; what comes over a line is fired by others.

        A camera that is gone has 2.5 s to answer: Aravis asks five times.
        """
        if not self.options.fired:
            return
        try:
            self._do("did not take the trigger", self._arv.arv_camera_software_trigger)
        except DeviceError:
            self._gone = True
            raise

    def _pop(self, timeout_ns: int) -> Any:
        """The next buffer; None where there is none. Raises DeviceError where control is lost."""
        arv = self._arv
        if timeout_ns > 0:
            buffer = arv.arv_stream_timeout_pop_buffer(self._stream, -(-timeout_ns // 1000))
        else:
            buffer = arv.arv_stream_try_pop_buffer(self._stream)
        if buffer != self._ffi.NULL:
            return buffer
        # Aravis's own thread asks the camera every second
        device = arv.arv_camera_get_device(self._camera)
        if self._is_gige and not arv.arv_gv_device_is_controller(device):
            self._gone = True
            raise self._error(
                "does not answer, or has "
                "another master; check power, cable, and if another program uses it"
            )
        return None

    def _give_back(self, image: Any) -> None:
        self._arv.arv_stream_push_buffer(self._stream, image)

    def _take(self, image: Any, sample: NDArray[Any]) -> Reading:
        arv, ffi = self._arv, self._ffi
        sequence = self._count.of(arv.arv_buffer_get_frame_id(image))
        data = arv.arv_buffer_get_data(image, size := ffi.new("size_t *"))
        status = arv.arv_buffer_get_status(image)
        if status in _INCOMPLETE:  # what Aravis has as its size and stamp may be an older image's
            return Reading(sequence, reason="size", detail=status)
        if status != _SUCCESS:
            return Reading(sequence, reason="device", detail=status & 0xFFFFFFFF)
        if size[0] != self._layout.size:
            return Reading(sequence, reason="size", detail=size[0])
        self._copy(ffi.buffer(data, size[0]), sample)
        stamp_ns = arv.arv_buffer_get_timestamp(image) if self._stamps else 0
        return Reading(sequence, middle_ns(self.options, stamp_ns, self._exposure_ns))


@cache
def _aravis() -> tuple[Any, Any]:
    """The library; loaded once and kept, since GLib goes on using the types that it registers."""
    ffi = cffi.FFI()
    ffi.cdef(_DECLARATIONS)
    return ffi, ffi.dlopen(_LIBRARY)
