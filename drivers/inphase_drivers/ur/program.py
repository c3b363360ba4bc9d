"""The program that runs on the arm's controller while commands are followed."""

REGISTER = 24
"""of the input that says go on (1) or stop (0), and of the output that says the same back; the six
goals are the float inputs from this number on"""
JOINTS = 6


def program(rate_hz: float, lookahead_s: float, gain: float) -> str:
    """A program in URScript: it follows the goals while the input says so, and stops the arm then.

    The input is looked at behind the goals, too: a goal that came with the stop is not followed.
    """
    goals = ", ".join(f"read_input_float_register({REGISTER + n})" for n in range(JOINTS))
    go_on = f"read_input_integer_register({REGISTER}) == 1"
    lines = (
        "def inphase():",
        f"  write_output_integer_register({REGISTER}, 1)",
        f"  while ({go_on}):",
        f"    goal = [{goals}]",
        f"    if ({go_on}):",
        f"      servoj(goal, t={1 / rate_hz:.6f}, lookahead_time={lookahead_s:g}, gain={gain:g})",
        "    end",
        "  end",
        "  stopj(4.0)",
        f"  write_output_integer_register({REGISTER}, 0)",
        "end",
    )
    return "\n".join((*lines, ""))
