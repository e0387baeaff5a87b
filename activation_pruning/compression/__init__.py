"""Deep Compression (Han, Mao & Dally, ICLR 2016): pruned, weights shared, Huffman-coded."""

from activation_pruning.compression.compressed import Compressed, compress, load_compressed
from activation_pruning.compression.container import CompressedFileError

__all__ = ["Compressed", "CompressedFileError", "compress", "load_compressed"]
