"""The one rule for column names, which training, batch scoring and the model server share: it is in both of their images."""

import re
import unicodedata


def lower_snake(name: str) -> str:
    """Return `Fixed acidity` as `fixed_acidity`: lower case, each run of other characters than letters and digits one `_`."""
    return re.sub(r"[\W_]+", "_", unicodedata.normalize("NFC", name)).strip("_").lower()
