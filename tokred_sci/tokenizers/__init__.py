"""One record -> `Tokens`, without weights: DNA sequences, point clouds, sensor series."""

from tokred_sci.tokenizers.dna import DNATokenizer, reverse_complement
from tokred_sci.tokenizers.heat import heat_signatures
from tokred_sci.tokenizers.heights import heights
from tokred_sci.tokenizers.points import PointTokenizer
from tokred_sci.tokenizers.series import SeriesTokenizer

__all__ = ["DNATokenizer", "PointTokenizer", "SeriesTokenizer", "heat_signatures", "heights", "reverse_complement"]
