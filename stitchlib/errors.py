"""What can go wrong, by kind; every message names the culprit, the value and the way out."""


class StitchlibError(Exception):
    """Base of all errors raised on purpose."""


class InputError(StitchlibError, ValueError):
    """A tile, sheet, configuration or argument that cannot be used as it is."""


class NoOverlapError(InputError):
    """Two images that do not overlap at any of the allowed displacements."""


class DisconnectedError(InputError):
    """Tiles that no accepted link connects to the others."""
