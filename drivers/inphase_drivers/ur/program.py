"""The program that runs on the arm's controller while commands are followed."""

REGISTER = 24
"""of the input that says go on (the program's number) or stop (0), and of the output that says the
same back; the six goals are the float inputs from this number on"""
JOINTS = 6
NUMBERS = 1 << 30
"""programs have numbers from 1 to this: a controller keeps what an earlier one said"""


def program(number: int, follow: str, watchdog_ms: int) -> str:
    """A program in URScript: it follows the goals while the input says its number, and stops the
    arm then.

    The input is looked at behind the goals, too: a goal that came with the stop is not followed.
    follow: the command that goes to a goal. watchdog_ms: without goals for so long the controller
    ends the program by itself, and stops the arm; 0: it never does.
    """
    goals = ", ".join(f"read_input_float_register({REGISTER + n})" for n in range(JOINTS))
    go_on = f"read_input_integer_register({REGISTER}) == {number}"
    guard = f'  rtde_set_watchdog("input_double_register_{REGISTER}", {1e3 / (watchdog_ms or 1):g}'
    lines = (
        "def inphase():",
        *([f'{guard}, "stop")'] if watchdog_ms else []),
        f"  write_output_integer_register({REGISTER}, {number})",
        f"  while ({go_on}):",
        f"    goal = [{goals}]",
        f"    if ({go_on}):",
        f"      {follow}",
        "    end",
        "  end",
        "  stopj(4.0)",
        f"  write_output_integer_register({REGISTER}, 0)",
        "end",
    )
    return "\n".join((*lines, ""))


def servoj(rate_hz: float, lookahead_s: float, gain: float) -> str:
    """Go to the positions of a goal."""
    return f"servoj(goal, t={1 / rate_hz:.6f}, lookahead_time={lookahead_s:g}, gain={gain:g})"


def speedj(rate_hz: float, acceleration: float) -> str:
    """Go on at the velocities of a goal; acceleration [rad/s^2]: of the fastest joint."""
    return f"speedj(goal, {acceleration:g}, {1 / rate_hz:.6f})"
