"""The words of a frame and of a run, with their meanings and remedies.

`inphase explain` prints them, and docs/reference/words.md is made from them. The order of each
table is that of the numbers in `record_layout`.
"""

from typing import NamedTuple


class Meaning(NamedTuple):
    """A word's meaning, for a person."""

    meaning: str
    remedy: str = ""
    """the first thing to do about it; "": nothing is wrong"""

    @property
    def remedy_of_command(self) -> str:
        """The remedy without what it says of samples."""
        return self.remedy.partition("; of a sample: ")[0]


_PROBE = "`inphase probe SCHEDULE SENSOR` measures the device"
_ARM = "remove the cause, then arm: key a, SIGUSR1 or Runner.arm()"

STATUSES = {
    "FRESH": Meaning("acquired for this frame, and no older than max_age_ms"),
    "HELD": Meaning(
        "not due in this frame: the newest earlier sample, with its true age",
        "ordinary for a sensor with `every` above 1; name HELD in [policy] accepts",
    ),
    "LATE": Meaning(
        "due, and not there at the read deadline",
        f"{_PROBE}: if it needs longer than from trigger_us to read_deadline_us, trigger it "
        f"earlier, set the deadline later, or let it be due in a later frame (latency_cycles); "
        f"`inphase check SCHEDULE` draws where it fits. A machine that is busy makes any sensor "
        f"late: look at wake_late_ns of the summary, and at the real-time rights that `inphase "
        f"check` lists",
    ),
    "MISSING": Meaning(
        "none yet, or older than max_age_ms",
        f"in the first frames it is ordinary; later {_PROBE}, and max_age_ms must be longer than "
        f"`every` cycles and the device's latency",
    ),
    "FROZEN": Meaning(
        "the device answers, but its sequence or values do not advance",
        "restart the device; raise frozen_after if it may stand still for so many samples",
    ),
    "INVALID": Meaning(
        "checksum, size, range, NaN, or a stamp that contradicts the core's clock; the reason says "
        "which",
        "`inphase explain REASON` has the reason's remedy",
    ),
    "OFFLINE": Meaning(
        "the device is gone",
        "plug it in and power it: the runtime opens it again by itself; then arm",
    ),
    "RECOVERING": Meaning(
        "the device is back, and not yet trusted",
        "wait: it ends by itself once the line was empty before a trigger",
    ),
}
"""of a sample in a frame"""

REASONS = {
    "none": Meaning("nothing is wrong"),
    "checksum": Meaning(
        "a packet's checksum failed; detail: its offset",
        "look at the cable, its length and shielding, and at the baud rate",
    ),
    "size": Meaning(
        "a packet or a sample has the wrong size; detail: bytes received",
        "look at the cable, and if the driver is for this model of the device",
    ),
    "mismatch": Meaning(
        "another device's reply, or another kind of reply; detail: the value received",
        "look for a second device with the same id on the bus, or another program that uses it",
    ),
    "device": Meaning(
        "the device reports an error; detail: its error word",
        "look the error word up in the device's manual",
    ),
    "nan": Meaning(
        "a number is NaN; detail: channel",
        "return finite numbers: look for 0 / 0, for the logarithm or root of a negative number, "
        "and for a network whose input was not there yet",
    ),
    "range": Meaning(
        "a measured value is outside of the range that the schedule or driver states; detail: "
        "channel",
        "look at the sensor, or correct the range, zero or sign in the schedule",
    ),
    "rate": Meaning(
        "a measured value changed faster than the schedule allows; detail: channel",
        "look at the sensor and its cable, or correct the rate in the schedule",
    ),
    "shape": Meaning(
        "the policy's command has the wrong shape or type",
        "return one number per channel, in the schedule's order of actuators",
    ),
    "raised": Meaning("the policy raised an exception", "correct the error that it printed"),
    "died": Meaning(
        "the policy's process is gone", "correct what it printed last, then start the run again"
    ),
    "silent": Meaning(
        "of a command: none for this cycle. Of a sample: the device did not reply",
        "it returned None, or took longer than the act offset allows; of a sample: look at the "
        "device's power, its cable and its id",
    ),
    "start": Meaning(
        "the first command, or the end of its range, is too far from the measured place; detail: "
        "channel",
        "let its first command be the robot's place, as the frame's sensor has it, or write "
        'first_command = "approach" in its [actuator.NAME]',
    ),
    "feedback": Meaning(
        "feedback is older than max_age_ms, or the place is unknown",
        f"look at the status of the sensor that the actuator's `feedback` names; {_PROBE}",
    ),
    "offline": Meaning(
        "a device that motion depends on is gone; detail: number of the device",
        f"plug it in and power it; {_ARM}",
    ),
    "resumed": Meaning(
        "the machine or the process stood still, or was suspended", f"look if it may move; {_ARM}"
    ),
    "overrun": Meaning(
        "too many cycles ended after the next one was due",
        "grant the real-time rights that `inphase check` lists, close other programs, or lower "
        "rate_hz",
    ),
    "signal": Meaning("a signal ended the run; detail: its number"),
    "done": Meaning("the cycles that were asked for are done"),
    "request": Meaning("the caller asked for the end"),
    "busy": Meaning(
        "the bus was not quiet, so that nothing was sent; of a command in parts, detail: how many "
        "were sent",
        "leave the bus more time: a lower rate_hz, fewer devices on it, or a higher baud rate",
    ),
    "expired": Meaning(
        "the command was valid until a time that has passed",
        "make the policy quicker, or raise the actuator's max_hold_ms",
    ),
    "parent": Meaning("the process that started the runtime is gone"),
    "gateway": Meaning(
        "the gateway is gone, and the emergency stops of its clients with it",
        "arm to go on without clients' stops, or start the run again",
    ),
    "input": Meaning(
        "a sensor of the frame has a status that the policy does not accept",
        "no frame had the statuses that [policy] accepts names: look at the sensors' statuses",
    ),
    "slip": Meaning(
        "a sample of another trigger than the one it came for; detail: by how many",
        f"the device missed a trigger, or answered late; {_PROBE}",
    ),
    "watchdog": Meaning("the device's watchdog is no longer fed, so that it stops by itself", _ARM),
    "bus_off": Meaning(
        "the CAN controller is off; detail: its transmit errors",
        "look at the bus's termination, its bit rate and its cable",
    ),
    "world": Meaning(
        "the simulated world failed", "correct the model at the place that the message names"
    ),
    "workspace": Meaning(
        "the command was changed so that the tool stays in its box; detail: axis",
        "ask for places inside of the actuator's workspace, or enlarge that box",
    ),
    "estop": Meaning(
        "emergency stop; detail: number of its input, 16 for a key or the program, 17 for a client",
        "release the input if it was one, then arm",
    ),
    "dropped": Meaning(
        "the command answers a frame of before a stop or an arming",
        "nothing: the policy's next answer counts",
    ),
    "unguarded": Meaning(
        "nothing stops the device when the runtime dies; detail: number of the actuator",
        f"give the device a watchdog, or let the guard run; {_ARM}",
    ),
    "moving": Meaning(
        "not armed, because a ramp has not come to rest", "wait for rest, then arm again"
    ),
    "state": Meaning(
        "the core was about to make a transition that does not exist; detail: from * 256 + to",
        "this is an error of inphase: please report it",
    ),
    "stamp": Meaning(
        "a stamp contradicts the core's clock, the trigger or the receipt; detail: which one",
        "let the driver stamp by time.monotonic_ns(), and not by time.time_ns()",
    ),
    "supervisor": Meaning(
        "the supervisor is silent for a second or more",
        f"look at the load of the machine, and at what froze the process; {_ARM}",
    ),
    "rest": Meaning(
        "an actuator may not be at rest: it gets its stop, or is not armed; detail: actuator",
        "keep away until its feedback shows rest; look at that sensor's status",
    ),
    "guard": Meaning(
        "the guard stopped the emulated robot of a runtime that stood still for too long",
        "close other programs, grant the rights that `inphase check` lists, or use --lockstep",
    ),
    "lease": Meaning(
        "nobody holds the lease of this robot, or the command is of another lease",
        "`inphase lease ROBOT` asks for it; a lease ends where its holder is silent",
    ),
    "pace": Meaning(
        "too many packets of the device that starts the cycles were missing; detail: number of the "
        "device",
        "look at its cable and its load, or remove [cycle] clock",
    ),
}
"""of a status, a command, a latch or the end of a run"""

FRAME_FLAGS = {
    "OVERRUN": Meaning(
        "the cycle before ended after this one was due",
        "one now and then is the machine's load; for many `inphase explain overrun`",
    ),
    "SKIPPED": Meaning(
        "points of the grid were left out before this cycle: it woke too late for them",
        "grant the real-time rights that `inphase check` lists, or close other programs",
    ),
    "RESUMED": Meaning("the machine or the process stood still before this cycle", _ARM),
    "NOT_REALTIME": Meaning(
        "a real-time right was refused, so that cycles may be late",
        "`inphase check SCHEDULE` prints the command that grants it",
    ),
    "PAGE_FAULTS": Meaning(
        "the cycle thread waited for memory",
        "grant locked memory: `inphase check SCHEDULE` prints the command",
    ),
    "OBSERVING": Meaning("the run only observes: nothing is written to an actuator"),
    "LATCHED": Meaning("motion is locked after a fault", _ARM),
    "STOPPING": Meaning("the run ends: the robot is brought to rest"),
    "CLOCK_STEP": Meaning("the wall clock was set; the core does not use it"),
    "LIMITED": Meaning("an act was changed by the limits"),
    "REPEATED": Meaning("an act repeated the command before it, since there was none"),
    "RAMPING": Meaning("an actuator is brought to rest within its limits"),
    "ESTOP": Meaning(
        "an emergency stop holds, or its input is pressed", "release the input, then arm"
    ),
    "STOPPED": Meaning("measured to be at rest, for the frame's reason"),
    "UNPACED": Meaning(
        "a device starts the cycles, and no packet of it belongs to this one: the grid is an "
        "estimate",
        "in the first frames it is ordinary; later look at that device's cable, and at its load",
    ),
}
"""of a frame: what happened since the frame before"""

ACT_FLAGS = {
    "WRITTEN": Meaning("a command was handed to the device, or to its worker"),
    "LIMITED": Meaning(
        "applied differs from requested",
        "ask for less: see the limits of the actuator, and the act's reason",
    ),
    "REPEATED": Meaning("the command before was repeated, since there was none"),
    "RAMPING": Meaning("it is brought to rest within its limits"),
    "HOLDING": Meaning(
        "no command was accepted since arming: it is held where it was found",
        "the act's reason says why the commands were refused; none: the policy gave none",
    ),
    "INVALID": Meaning("a command came and was refused", "see the act's reason"),
    "MISSED": Meaning("there was no command for this cycle", "see the act's reason"),
    "STARVED": Meaning(
        "nothing is written any more: the device's watchdog trips", f"restore feedback; {_ARM}"
    ),
    "COASTING": Meaning("without a command it carries on, slower, to rest"),
    "APPROACHING": Meaning("a first command from afar is approached within the limits"),
}
"""of an actuator's act"""

STATES = {
    "configured": Meaning("the schedule and the drivers fit; no cycle has begun"),
    "opened": Meaning(
        "devices are open, cycles run, frames are latched; nothing is written to an actuator"
    ),
    "armed": Meaning(
        "motion is allowed, and every actuator is held where it was found; no command was "
        "accepted yet"
    ),
    "running": Meaning("commands are followed"),
    "ramping": Meaning(
        "one actuator at least is brought to rest within its limits, or held there until its "
        "cause is gone"
    ),
    "faulted": Meaning(
        "measured to be at rest, and latched: only a local reset leaves this state", _ARM
    ),
    "stopped": Meaning(
        "the run is over and the robot is measured to be at rest, with the reason and the cycle "
        "in which it came"
    ),
    "uncontrolled": Meaning(
        "latched, and not known to be at rest: keep away",
        "take its power away, then look at its device and its feedback",
    ),
}
"""of a robot"""

OUTCOMES = {
    "none": Meaning("no episode was begun"),
    "running": Meaning("the frame belongs to the episode"),
    "ended": Meaning("it has ended, and nobody said how"),
    "success": Meaning("it has ended well"),
    "failure": Meaning("it has ended badly"),
    "discarded": Meaning("it is not to be used"),
}
"""of an episode: INPHASE_EPISODE_*"""

DROVE = {
    "nobody": Meaning("no actuator followed a command"),
    "policy": Meaning("a policy on the robot's side, or one of the program that runs the robot"),
    "client": Meaning("a client from afar, under its lease"),
    "person": Meaning("a person who took over"),
}
"""who gave the command of an act: INPHASE_DROVE_*"""

EXIT_CODES = {
    "0": Meaning("done"),
    "1": Meaning(
        "done, and its summary could not be written; or a latency gate found something slower"
    ),
    "2": Meaning("the schedule, or the usage", "correct the key at the line that is named"),
    "3": Meaning(
        "a device. Also a sensor that was never FRESH in a run of a second or more. Or a joint "
        "that was commanded far for a second or more and stood",
        "the last lines of the run name it",
    ),
    "4": Meaning(
        "a real-time right that the schedule requires",
        '`inphase check SCHEDULE` prints how to grant it; or realtime = "prefer"',
    ),
    "5": Meaning("the store", "the message names its owner or its size"),
    "6": Meaning("a fault of the runtime", "the message names it; of overruns see `overrun`"),
    "7": Meaning(
        "the policy ended, or no command of it was accepted: in the whole run, or in its last "
        "second",
        "the last lines of the run name the reason",
    ),
    "8": Meaning(
        "motion is latched at the end. Or an actuator is not known to be at rest, or not in its "
        "declared rest",
        "the last lines of the run name the reason",
    ),
    "9": Meaning("messages in another format", "use the same version on both sides"),
    "10": Meaning("the simulated world", "correct the model at the place that is named"),
    "11": Meaning("the machine held an emulated robot up for too long", "see the reason `guard`"),
    "12": Meaning(
        "something is missing in a recording, or it could not be made, read or converted",
        "the lines before name it: a file that is there, a full disk, a file that was cut, a busy "
        "machine",
    ),
    "13": Meaning(
        "commands differ from the recorded ones, a recording from another or from what its "
        "schedule promises, a camera moved, or nothing could be compared",
        "the first difference is named; --tolerance of `replay`, and --percent and --slack-us of "
        "`check` bound what counts as one",
    ),
    "14": Meaning(
        "a live view could not be served or sent: its port, its package or its viewer",
        "the message names it; --port 0 takes any port that is free",
    ),
    "15": Meaning(
        "a robot's service could not be started, is not there, or refused what was asked of it",
        "the message names the reason",
    ),
    "16": Meaning(
        "a key, or a file of a service's private folder, could not be used; or an audit log has a "
        "line that does not fit",
        "the message names the file and the remedy",
    ),
    "17": Meaning(
        "a latency gate cannot tell whether times are worse than its baseline's",
        "the table says where; more --runs, a quieter machine, or a baseline of this machine tell",
    ),
    "128 + n": Meaning("signal n, after the ramp"),
}
"""of `inphase run`"""

KINDS = {
    "status": STATUSES,
    "reason": REASONS,
    "flag of a frame": FRAME_FLAGS,
    "flag of an act": ACT_FLAGS,
    "state": STATES,
    "outcome": OUTCOMES,
    "driver of an act": DROVE,
    "exit code": EXIT_CODES,
}
"""all tables, by the kind of their words"""
