"""What stands in a stored notebook where a widget was: a picture of it."""

from __future__ import annotations

import io
from base64 import b64encode
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def with_still(bundle: Any, figure: Figure) -> tuple[dict[str, Any], dict[str, Any]]:
    """A widget's display data and metadata, with a PNG of ``figure`` for pages without a kernel."""
    from matplotlib import pyplot as plt

    data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=80)
    plt.close(figure)
    return {**(data or {}), "image/png": b64encode(picture.getvalue()).decode()}, metadata
