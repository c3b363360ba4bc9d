"""Aravis's own fake GigE Vision camera on 127.0.0.1, for whoever speaks GVCP and GVSP.

Run by a Python that has GObject introspection and Aravis: usually the system's own. The camera of
`aravis-tools` looks for its software trigger 25 times a second; this one 900 times. It says
`running` when it answers, takes `lose RATIO` (of its packets) on its standard input, and ends with
it.
"""

import sys

import gi

gi.require_version("Aravis", "0.8")
from gi.repository import Aravis  # noqa: E402 - the version comes first

TRIGGER_HZ = 900


def main() -> None:
    camera = Aravis.GvFakeCamera.new("127.0.0.1", sys.argv[1])
    if not camera.is_running():
        sys.exit("cannot listen on 127.0.0.1, UDP port 3956: is another camera there?")
    camera.get_fake_camera().set_trigger_frequency(TRIGGER_HZ)
    print("running", flush=True)
    for line in sys.stdin:
        _, ratio = line.split()
        camera.set_property("gvsp-lost-ratio", float(ratio))
        print("losing", ratio, flush=True)


if __name__ == "__main__":
    main()
