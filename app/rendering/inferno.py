"""The colour scale of the heatmaps that are files: inferno, perceptually uniform, readable with any colour vision.

Out: 256 colours, the same as those of app/static/js/view/colours.js. It must not know what they stand for.
"""

from typing import Final

_ENTRIES: Final = 256
# 33 evenly spaced stops of matplotlib's inferno (CC0), with straight lines between them.
_STOPS: Final = bytes.fromhex(
    "0000040403120b0724150b37210c4a2f0a5b3d09654a0c6b57106e64156e71196e7d1e6d8a226a972766a32c61b0315bbc3754c63d4dd0"
    "4545da4e3ce35933eb6429f1711ff67e14f98c0afb9b06fcaa0ffbba1ff9c932f5d949f2e865f3f586fcffa4"
)


def _colour(entry: int) -> tuple[int, int, int]:
    spans = len(_STOPS) // 3 - 1
    at = entry / (_ENTRIES - 1) * spans
    stop = min(int(at), spans - 1)
    red, green, blue = (
        round(low + (high - low) * (at - stop))
        for low, high in zip(_STOPS[stop * 3 : stop * 3 + 3], _STOPS[stop * 3 + 3 : stop * 3 + 6], strict=True)
    )
    return red, green, blue


INFERNO: Final = tuple(_colour(entry) for entry in range(_ENTRIES))
