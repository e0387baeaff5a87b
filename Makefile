# Everything happens in a virtual environment of its own, .venv (PYTHON picks the interpreter).
PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch
DEMO ?= results/demo
BIN = $(VENV)/bin
# Two processes at least repay their start; each holds a whole TensorFlow.
PYTEST = -m pytest -n auto --maxprocesses 4
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: demo test test-slow test-backends test-lowest lint bench experiments-quick clean

demo: $(VENV)/installed  ## prune on scikit-learn's digits: workbook, pictures, page
	$(BIN)/python experiments/activation_vs_magnitude.py --seeds 2 --sparsities 0.8 0.9 \
		--events 5 --jobs 2 --out $(DEMO)

test: $(VENV)/installed  ## the suite on the TensorFlow backend
	$(BIN)/python $(PYTEST) -m "not slow"

test-slow: $(VENV)/installed  ## the rest of it: experiments from end to end, large networks
	$(BIN)/python $(PYTEST) -m slow

test-backends: $(VENV)/backends  ## what depends on the backend, on JAX and on PyTorch
	KERAS_BACKEND=jax $(BIN)/python $(PYTEST) -m backend tests
	KERAS_BACKEND=torch $(BIN)/python $(PYTEST) -m backend tests

test-lowest:  ## what meets other packages, on the lowest versions that setup.cfg declares (.ci/lowest.txt)
	$(PYTHON) -m venv $(VENV)-lowest
	$(VENV)-lowest/bin/python -m pip install --quiet --upgrade pip
	$(VENV)-lowest/bin/python -m pip install --quiet -c .ci/lowest.txt -e ".[test,tfmot]"
	$(VENV)-lowest/bin/python $(PYTEST) -m lowest tests

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: $(VENV)/installed  ## ratios against peers; wants a quiet machine and half an hour
	$(BIN)/python benchmarks/fit_overhead.py
	$(BIN)/python benchmarks/mask_selection.py
	$(BIN)/python benchmarks/analysis.py
	$(BIN)/python benchmarks/surgeons.py
	$(BIN)/python benchmarks/compaction.py
	$(BIN)/python benchmarks/runner.py

experiments-quick: $(VENV)/installed  ## every experiment with small settings on digits: 20 minutes
	$(BIN)/python -m experiments.all --quick

$(VENV)/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e ".[test,tfmot]"
	touch $@

$(VENV)/backends: $(VENV)/installed
	$(BIN)/python -m pip install --quiet -e ".[jax]" "$(TORCH)"
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-lowest build *.egg-info results
