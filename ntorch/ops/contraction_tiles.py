"""Register tiles of the contraction engine, by target."""
import os
import typing

from ..runtime import cpu


class Tile(typing.NamedTuple):
    """A register tile: ``rows`` x (``vectors`` x ``lanes``), and how small products are tiled."""
    rows: int
    vectors: int
    lanes: int
    small_rows: int
    masked: int         # whether the target has masked vector loads and stores
    spread: int = 0     # whether a number from anywhere in memory fills a vector at no cost

    @property
    def width(self):
        """Columns of the tile, which is the width of B's panels."""
        return self.vectors * self.lanes


TILES = {
    "avx512": {"f4": Tile(12, 2, 16, 8, 1, 1), "f8": Tile(12, 2, 8, 8, 1, 1)},
    "avx2": {"f4": Tile(6, 2, 8, 6, 1, 1), "f8": Tile(6, 2, 4, 6, 1, 1)},
    "neon": {"f4": Tile(8, 3, 4, 8, 0), "f8": Tile(8, 3, 2, 8, 0)},
    "portable": {"f4": Tile(4, 2, 4, 4, 0), "f8": Tile(4, 2, 2, 4, 0)},
}


def default_target():
    """The key in ``TILES`` for this processor; ``NTORCH_GEMM_TARGET`` chooses another."""
    asked = os.environ.get("NTORCH_GEMM_TARGET")
    if asked:
        if asked not in TILES:
            raise ValueError(f"NTORCH_GEMM_TARGET={asked}: expected one of {', '.join(TILES)}")
        return asked
    if cpu.arch() == "aarch64":
        return "neon"
    if cpu.arch() == "x86_64":
        return {512: "avx512", 256: "avx2"}.get(cpu.vector_bits(), "portable")
    return "portable"


class _Target:
    name = None


def target():
    """The target in use: a key of ``TILES``."""
    if _Target.name is None:
        _Target.name = default_target()
    return _Target.name


def set_tiles(name):
    """Use the tiles of ``name`` from now on (None: what fits this processor).

    ``contraction.set_target`` is the one to call: it forgets what was prepared for other tiles."""
    if name is not None and name not in TILES:
        raise ValueError(f"set_target: expected one of {', '.join(TILES)}, got {name!r}")
    _Target.name = name


def tile(T):
    """The register tile for compute type ``T`` (``"f4"`` or ``"f8"``)."""
    return TILES[target()][T]
