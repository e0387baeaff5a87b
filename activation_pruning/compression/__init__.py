"""Deep Compression (Han, Mao & Dally, ICLR 2016): pruned, weights shared, Huffman-coded.

compressing: `compress`. compressed: `Compressed` and `load_compressed`. clusters: k-means.
huffman, gaps: codes of numbers and of positions. tensors: one weight as bytes. architecture: the
model as plain data. allowance: the memory that making it may take. container: the file of both,
sections with checksums.
"""

from activation_pruning.compression.compressed import Compressed, load_compressed
from activation_pruning.compression.compressing import compress
from activation_pruning.compression.container import CompressedFileError

__all__ = ["Compressed", "CompressedFileError", "compress", "load_compressed"]
