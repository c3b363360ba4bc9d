"""The service's part of the page: leases, queue, calendar, jobs and recordings."""

from typing import Any


def service_data() -> dict[str, Any] | None:
    """The panels of the service, by name. None: the robot is run by no service.

    `lease` has texts and numbers by name. `queue`, `calendar`, `jobs` and `recordings` are lists of
    rows, each with texts and numbers by name. The key `href` of a row makes its first text a link.
    """
    return None
