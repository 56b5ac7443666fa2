"""Which device to compute on. In: what the user asked for; out: a torch device."""

import torch


class DeviceUnavailable(Exception):
    """There is no such device here. The message is one line."""


def choose_device(name: str) -> torch.device:
    """The device `name` ("cpu", "cuda", "cuda:1", ...); "auto" is a GPU where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise DeviceUnavailable(f"no device {name!r} here: {str(error).splitlines()[0]}") from error
    return device
