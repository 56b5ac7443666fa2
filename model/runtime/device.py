"""The choice of a device."""

import torch


class DeviceUnavailable(Exception):
    """The device does not exist. The message is one line."""


def choose_device(name: str) -> torch.device:
    """Return the device `name`: "cpu", "cuda", "cuda:1" and so on; "auto" is a GPU if there is one.

    Raises DeviceUnavailable.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise DeviceUnavailable(f"device {name!r} is not available: {str(error).splitlines()[0]}") from error
    return device
