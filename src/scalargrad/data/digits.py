"""Scikit-learn's handwritten digits: real images that come with the library, so no download."""

from __future__ import annotations

import numpy as np

from ..errors import MissingExtraError
from .examples import Examples

_BRIGHTEST = 16.0


def digits() -> Examples:
    """1,797 handwritten digits of 8 × 8 pixels, with what they show.

    Returns:
        `Examples(x, y)`: x float64 of shape (1797, 64), rows of pixels from the top left, 0.0
        (paper) to 1.0 (ink); y int64 of shape (1797,), each 0 to 9. `split` holds some out.

    Raises:
        MissingExtraError: scikit-learn, which carries the images, is not installed.

    Equals `sklearn.datasets.load_digits(return_X_y=True)` with the pixels divided by 16. The
    images are the test set of E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten
    Digits, UCI Machine Learning Repository, 1998.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingExtraError("scikit-learn", "sklearn", "data.digits()") from error
    x, y = load_digits(return_X_y=True)
    return Examples(np.asarray(x, dtype=np.float64) / _BRIGHTEST, np.asarray(y, dtype=np.int64))
