"""SparseGPT of a transformer of the size of GPT-2 small: this package against llm-compressor.

    python benchmarks/sparsegpt_peer.py --peer-python other-environment/bin/python

Both prune half of the weights of every layer in twelve blocks of width 768 (hidden layers of 3072),
one after the other, with 64 sequences of 256 tokens, on the CPU. Weights and data are random: what
is measured does not depend on them. llm-compressor, transformers and PyTorch live in an environment
of their own (pip install llmcompressor); its model is transformers' OPT, whose layers have these
sizes. Each run is a process; its time is the processor time, over all threads, of pruning alone:
imports and building are left out.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time

BLOCKS, WIDTH, SEQUENCES, TOKENS = 12, 768, 64, 256
LIMIT = 1.0


def ours():
    """Processor seconds of our walk."""
    import sequential

    model = sequential.transformer(BLOCKS, WIDTH, TOKENS)
    x = sequential.states(SEQUENCES, TOKENS, WIDTH)
    begun = time.process_time()
    sequential.prune(model, x, "sparsegpt")
    return time.process_time() - begun


def theirs():
    """Processor seconds of llm-compressor's."""
    import numpy as np
    from datasets import Dataset
    from llmcompressor import oneshot
    from llmcompressor.modifiers.pruning import SparseGPTModifier
    from tokenizers import Tokenizer, models
    from transformers import OPTConfig, OPTForCausalLM, PreTrainedTokenizerFast

    config = OPTConfig(
        hidden_size=WIDTH, num_hidden_layers=BLOCKS, ffn_dim=4 * WIDTH, num_attention_heads=12,
        max_position_embeddings=TOKENS, word_embed_proj_dim=WIDTH, dtype="float32",
    )  # fmt: skip
    model = OPTForCausalLM(config).eval()
    folder = tempfile.mkdtemp()
    config.save_pretrained(folder)  # which it reads again
    model.config._name_or_path = folder
    ids = np.random.default_rng(0).integers(5, config.vocab_size, (SEQUENCES, TOKENS))
    data = Dataset.from_dict({"input_ids": ids, "attention_mask": np.ones_like(ids)})
    # It wants a tokenizer, though the data are numbers already.
    words = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="a")
    recipe = SparseGPTModifier(sparsity=0.5, block_size=128, ignore=["lm_head"])
    begun = time.process_time()
    oneshot(
        model=model, dataset=data, recipe=recipe, num_calibration_samples=SEQUENCES,
        max_seq_length=TOKENS, sequential_targets=["OPTDecoderLayer"],
        processor=tokenizer,
    )  # fmt: skip
    seconds = time.process_time() - begun
    zeros = float((model.model.decoder.layers[0].fc1.weight == 0).float().mean())
    assert abs(zeros - 0.5) < 0.01, f"llm-compressor left {zeros:.0%} zeros"
    return seconds


def main():
    """Run pairs of processes in turns and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--peer-python", required=True, help="interpreter that has llmcompressor")
    parser.add_argument("--rounds", type=int, default=3, help="pairs of runs")
    options = parser.parse_args()
    ratios = []
    for number in range(options.rounds):
        own, peer = (_timed(*one) for one in ((sys.executable, "ours"), _peer(options)))
        ratios.append(own / peer)
        print(f"pair {number + 1}: {own:.1f} s, llm-compressor {peer:.1f} s", flush=True)
    median, low, high = statistics.median(ratios), min(ratios), max(ratios)
    name = "SparseGPT, 12 blocks of width 768: this package / llm-compressor"
    print(f"| {name} | {median:.2f} | {low:.2f} | {high:.2f} | {LIMIT} |")


def _peer(options):
    return options.peer_python, "theirs"


def _timed(python, side):
    done = subprocess.run([python, __file__, "--side", side], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return float(done.stdout.strip().splitlines()[-1])


if __name__ == "__main__":
    if "--side" in sys.argv:
        print({"ours": ours, "theirs": theirs}[sys.argv[-1]]())
    else:
        main()
