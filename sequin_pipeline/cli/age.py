"""This module says how old the newest record is that was read."""

from datetime import datetime


def age_of(moment: datetime | None, now: datetime) -> str:
    """Returns how old the last record read is: nothing newer has been read, and there may be nothing newer.

    A source whose clock is wrong may be ahead of us.
    """
    if moment is None:
        return ""
    seconds = int((now - moment).total_seconds())
    side, seconds = ("ago", seconds) if seconds >= 0 else ("ahead", -seconds)
    days, hours, minutes = seconds // 86_400, seconds % 86_400 // 3_600, seconds % 3_600 // 60
    return (
        f"{days}d {hours}h {side}" if days else f"{hours}h {minutes}m {side}" if hours else f"{minutes}m {seconds % 60}s {side}"
    )
