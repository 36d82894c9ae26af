"""The order of query and key rows in llama.cpp's Llama, and that of transformers."""

# O rows, heads times their size · I inputs

import numpy as np
from numpy.typing import NDArray


def interleaved(rows_OI: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Return rows of transformers in llama.cpp's order; a bias [O] likewise.

    Rotary embedding turns row i of a head with row i + size / 2 in transformers, with its neighbour in llama.cpp.
    """
    return rows_OI.reshape(heads, 2, -1, *rows_OI.shape[1:]).swapaxes(1, 2).reshape(rows_OI.shape)


def halves_apart(rows_OI: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Undo `interleaved`."""
    return rows_OI.reshape(heads, -1, 2, *rows_OI.shape[1:]).swapaxes(1, 2).reshape(rows_OI.shape)
